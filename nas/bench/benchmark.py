"""The speed of training on this machine by each contestant, compared by ratios paired in one run."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nas.bench.contestants import (
    CAPTURED,
    CHANNELS_LAST,
    CHARGED,
    COHORTS,
    COMPILED,
    EAGER,
    FUSED,
    GROUPED,
    ONE_PROCESS,
    Contestant,
    choose_contestants,
    find_obstacle,
)
from nas.bench.gates import Expected, find_fault, find_gradient_fault, find_tolerance
from nas.bench.shapes import QUICK, SHAPES, Shape, TextShape
from nas.bench.workers import Prepared, WorkerPool

FIRST = Contestant(ONE_PROCESS)  # what all others are compared with
QUICK_CONTESTANTS = (
    FIRST,
    *(Contestant(engine, "float32") for engine in (EAGER, CHANNELS_LAST, GROUPED, FUSED)),
    *(Contestant(engine, "bfloat16") for engine in (EAGER, GROUPED, FUSED)),
)
CONTESTANTS = (
    FIRST,
    *(Contestant(engine, "float32") for engine in (EAGER, CHANNELS_LAST, COMPILED, CHARGED, GROUPED, FUSED)),
    *(Contestant(engine, "bfloat16") for engine in (EAGER, CHANNELS_LAST, COMPILED, CHARGED, GROUPED, FUSED)),
)
N_ROUNDS = 8  # the first is dropped
ROUND_SECONDS = 0.3  # time of a contestant in a round, at least one step
CHARGED_STEPS = 200  # steps of a short training, which its network's compilation is charged to
NEVER = 1e-9  # steps a second of a contestant that computes something else
PASSES = 3  # a step's work in forward passes: the backward pass counts as two
N_WHOLE_ROUNDS = 4  # rounds of whole trainings; the first is dropped


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant at one shape.

    Args:
        gate: whether it computes what eager does (see gates.py); if not, it has no speed. None: it did not take part.
        problem: why it has no speed; empty if it has.
        tolerance: largest difference of its first losses from eager's in float32 that was allowed, in nats.
        rates: candidates' steps a second over all processes, round by round.
        computing: seconds that a process computes for one candidate's step, over its threads, round by round.
        to_one_process: ratios of its rates to those of eager in one process, round by round.
        to_strongest: the same to the fastest contestant that is not ours, in either precision.
        to_strongest_alike: the same to the fastest that is not ours in its own precision.
        flops: FLOPs of a step.
        trainings: whole trainings a second over all processes, round by round; see Whole.
    """

    shape: Shape | TextShape
    contestant: Contestant
    gate: bool | None
    problem: str = ""
    tolerance: float | None = None
    rates: tuple[float, ...] = ()
    computing: tuple[float, ...] = ()
    to_one_process: tuple[float, ...] = ()
    to_strongest: tuple[float, ...] = ()
    to_strongest_alike: tuple[float, ...] = ()
    flops: int = 0
    trainings: tuple[float, ...] = ()

    @property
    def steps_per_second(self) -> float | None:
        """The median of its rates, or None if there is no speed."""
        return _median(self.rates)

    def to_dict(self) -> dict[str, Any]:
        """Return the row of `bench --json`; ratios are medians."""
        return {
            "shape": str(self.shape),
            "engine": self.contestant.engine,
            "precision": self.contestant.precision,
            "steps_per_second": self.steps_per_second,
            "cpu_seconds_per_step": _median(self.computing),
            "ratio_to_eager_one_process": _median(self.to_one_process),
            "ratio_to_strongest": _median(self.to_strongest),
            "ratio_to_strongest_in_precision": _median(self.to_strongest_alike),
            "trainings_per_second": _median(self.trainings),
            "tolerance": self.tolerance,
            "gate": self.gate,
            "problem": self.problem,
        }


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def list_contests(device: str, is_quick: bool) -> tuple[Sequence[Shape | TextShape], Sequence[Contestant]]:
    """Return the shapes and the contestants that `bench` compares on a device."""
    contestants: tuple[Contestant, ...] = QUICK_CONTESTANTS if is_quick else CONTESTANTS
    if device == "cuda":
        # Fused layers run as cohorts on a GPU. torch.compile and bfloat16 are measured by scripts/gpu.py.
        contestants = tuple(
            contestant
            for contestant in contestants
            if contestant.engine not in (FUSED, COMPILED, CHARGED) and not contestant.is_bfloat16
        )
        contestants = (*contestants, *(Contestant(engine) for engine in (CAPTURED, *COHORTS)))
    return (QUICK if is_quick else SHAPES), contestants


def compare_contestants(
    workers: WorkerPool, shape: Shape | TextShape, contestants: Sequence[Contestant], device: str
) -> list[Row]:
    """Compare contestants at one shape: first whether they compute the same, then how fast, taking turns in rounds.

    PyTorch's contestants that cannot train the shape are left out; ours that cannot have a row that says why.
    """
    contestants = choose_contestants(shape, contestants, device)
    obstacles = {contestant: find_obstacle(shape, contestant, device) for contestant in contestants}
    tried = [contestant for contestant in contestants if obstacles[contestant] is None]
    prepared = {
        contestant: workers.ask(contestant, "prepare", shape) for contestant in tried if contestant.engine != CHARGED
    }
    expected = workers.ask(Contestant(EAGER), "losses", shape)[0]
    tolerances = {contestant: find_tolerance(contestant, device, expected.rounding) for contestant in tried}
    faults = _find_faults(workers, shape, prepared, expected, tolerances)
    sound = {contestant: answers for contestant, answers in prepared.items() if faults[contestant] is None}
    rounds = [_run_round(workers, sound) for _ in range(N_ROUNDS)][1:]
    for contestant in tried:
        if contestant.engine == CHARGED:
            compiled = Contestant(COMPILED, contestant.precision)
            faults[contestant] = faults.get(compiled, f"{COMPILED} did not take part")
    rates = {
        contestant: tuple(_find_rate(contestant, each, sound) for each in rounds)
        for contestant in tried
        if faults[contestant] is None
    }
    computing = {contestant: tuple(each[contestant].computing for each in rounds) for contestant in sound}
    trainings = _train_whole(workers, shape, sound)
    rows = []
    for contestant in contestants:
        if contestant not in rates:
            gate = False if contestant in tried else None
            problem = obstacles[contestant] or faults[contestant] or ""
            rows.append(Row(shape, contestant, gate, problem, tolerance=tolerances.get(contestant)))
            continue
        own, others = rates[contestant], {other: rates[other] for other in rates if not other.is_ours}
        alike = {other: theirs for other, theirs in others.items() if other.precision == contestant.precision}
        row = Row(
            shape,
            contestant,
            gate=True,
            tolerance=tolerances[contestant],
            rates=own,
            computing=computing.get(contestant, ()),
            to_one_process=_pair(own, {FIRST: rates[FIRST]}),
            to_strongest=_pair(own, others),
            to_strongest_alike=_pair(own, alike),
            flops=PASSES * shape.batch * shape.flops,
            trainings=trainings.get(contestant, ()),
        )
        rows.append(row)
    return rows


def _pair(own: Sequence[float], others: Mapping[Contestant, Sequence[float]]) -> tuple[float, ...]:
    """Return the ratios of rates to those of the fastest of others, round by round; none if there are no others."""
    if not others:
        return ()
    strongest = max(others.values(), key=statistics.median)
    return tuple(rate / other for rate, other in zip(own, strongest, strict=True))


class _Sprint(NamedTuple):
    """Steps of a contestant in one round.

    Args:
        step_seconds: time of a step, process by process.
        computing: seconds that a process computes for one candidate's step, their mean.
    """

    step_seconds: tuple[float, ...]
    computing: float


def _find_faults(
    workers: WorkerPool,
    shape: Shape | TextShape,
    prepared: Mapping[Contestant, Sequence[Prepared]],
    expected: Expected,
    tolerances: Mapping[Contestant, float],
) -> dict[Contestant, str | None]:
    """Return what is wrong with the first steps of each contestant; None: they are as the gate demands."""
    faults = {}
    for contestant, answers in prepared.items():
        found = [find_fault(each.losses, expected.losses, tolerances[contestant]) for each in answers]
        faults[contestant] = next(filter(None, found), None)
        if contestant.is_ours and contestant.is_bfloat16 and faults[contestant] is None:
            autocast = Contestant(EAGER, contestant.precision)
            error, allowed = (workers.ask(each, "gradient error", shape)[0] for each in (contestant, autocast))
            faults[contestant] = find_gradient_fault(error, allowed)
    return faults


def _run_round(workers: WorkerPool, prepared: Mapping[Contestant, Sequence[Prepared]]) -> dict[Contestant, _Sprint]:
    """Let all contestants take steps in turn, each for about as long."""
    round_ = {}
    for contestant, answers in prepared.items():
        n_steps = max(1, round(ROUND_SECONDS / max(answer.step_seconds for answer in answers)))
        timed = workers.ask(contestant, "run", n_steps)
        computing = statistics.fmean(each.computing for each in timed) / n_steps / contestant.n_members
        round_[contestant] = _Sprint(tuple(each.clock / n_steps for each in timed), computing)
    return round_


def _find_rate(
    contestant: Contestant, round_: Mapping[Contestant, _Sprint], prepared: Mapping[Contestant, Sequence[Prepared]]
) -> float:
    """Return candidates' steps a second of a contestant in a round, over all processes."""
    if contestant.engine == CHARGED:
        compiled = Contestant(COMPILED, contestant.precision)
        pairs = zip(prepared[compiled], round_[compiled].step_seconds, strict=True)
        return sum(CHARGED_STEPS / (answer.first_seconds + CHARGED_STEPS * seconds) for answer, seconds in pairs)
    return sum(contestant.n_members / seconds for seconds in round_[contestant].step_seconds)


def _train_whole(
    workers: WorkerPool, shape: Shape | TextShape, sound: Iterable[Contestant]
) -> dict[Contestant, tuple[float, ...]]:
    """Return whole trainings a second of eager's and our contestants, round by round, if the shape has any."""
    if isinstance(shape, TextShape) or shape.whole is None:
        return {}
    chosen = [contestant for contestant in sound if contestant.engine in (EAGER, FUSED)]
    rounds = [
        {contestant: sum(1 / seconds for seconds in workers.ask(contestant, "train", shape)) for contestant in chosen}
        for _ in range(N_WHOLE_ROUNDS)
    ][1:]
    return {contestant: tuple(each[contestant] for each in rounds) for contestant in chosen}


def advise(rows: Sequence[Row]) -> tuple[str, int]:
    """Return the engine and cohort of `search` that trained fastest, by geometric mean over shapes, in float32.

    Shapes do not count that have no fused layers: there is nothing to choose.
    """
    settings = {Contestant(EAGER): ("eager", 1), Contestant(FUSED): ("fused", 1)}
    settings |= {Contestant(engine): ("fused", n) for engine, n in COHORTS.items()}
    rows = [row for row in rows if row.contestant in settings]
    no_choice = {row.shape for row in rows if row.gate is None}
    means = {
        contestant: statistics.geometric_mean(
            row.steps_per_second or NEVER for row in rows if row.contestant == contestant and row.shape not in no_choice
        )
        for contestant in dict.fromkeys(row.contestant for row in rows)
    }
    return settings[max(means, key=lambda contestant: means[contestant])]
