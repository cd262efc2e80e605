"""The speed of training on this machine by each engine, compared by ratios paired in one run."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    Shape,
    TextShape,
    choose_engines,
    count_members,
)
from nas.bench.workers import WorkerPool
from nas.layouts.merges import CONCAT, SUM

DIGITS, LARGE = ("digits", (1, 8, 8)), ("32x32", (3, 32, 32))
SUMS = Shape(*DIGITS, layers=24, growth=8, merge=SUM)
TEXT = TextShape(layers=12)
QUICK: tuple[Shape | TextShape, ...] = (Shape(*DIGITS, layers=24, growth=8), SUMS, TEXT)
SHAPES: tuple[Shape | TextShape, ...] = (
    *(
        Shape(*images, layers=layers, growth=growth)
        for images in (DIGITS, LARGE)
        for layers in (12, 24)
        for growth in (8, 16)
    ),
    SUMS,
    TEXT,
)
QUICK_ENGINES = (ONE_PROCESS, EAGER, CHANNELS_LAST, GROUPED, FUSED)
ENGINES = (ONE_PROCESS, EAGER, CHANNELS_LAST, COMPILED, CHARGED, GROUPED, FUSED)
N_ROUNDS = 8  # the first is dropped
ROUND_SECONDS = 0.5  # time of an engine in a round, at least one step
GATE = 1e-5  # largest difference of a loss from eager's, in nats
GATE_TF32 = 2e-3  # on a GPU, which multiplies numbers of 10 bits in its own orders
CHARGED_STEPS = 200  # steps of a short training, which its network's compilation is charged to
NEVER = 1e-9  # steps a second of an engine that computes something else
PASSES = 3  # a step's work in forward passes: the backward pass counts as two
N_WHOLE_ROUNDS = 3  # rounds of whole trainings


@dataclass(frozen=True, slots=True)
class Row:
    """One engine at one shape.

    Args:
        gate: whether the losses of its first steps are eager's; if not, it has no speed.
        rates: candidates' steps a second over all processes, round by round.
        to_one_process, to_strongest: ratios of its rates to those of eager in one process, and to those of the fastest
            engine that is not ours, round by round.
        flops: FLOPs of a step.
        candidates: whole trainings an hour over all processes, round by round, from building the network to its
            validation accuracy (see workers.py); only for engines of `search`.
    """

    shape: Shape | TextShape
    engine: str
    gate: bool
    rates: tuple[float, ...] = ()
    to_one_process: tuple[float, ...] = ()
    to_strongest: tuple[float, ...] = ()
    flops: int = 0
    candidates: tuple[float, ...] = ()

    @property
    def steps_per_second(self) -> float | None:
        """The median of its rates, or None if there is no speed."""
        return statistics.median(self.rates) if self.rates else None

    def to_dict(self) -> dict[str, Any]:
        """Return the row of `bench --json`; ratios are medians."""
        return {
            "shape": str(self.shape),
            "engine": self.engine,
            "steps_per_second": self.steps_per_second,
            "ratio_to_eager_one_process": statistics.median(self.to_one_process) if self.rates else None,
            "ratio_to_strongest": statistics.median(self.to_strongest) if self.rates else None,
            "gate": self.gate,
        }


def is_ours(engine: str) -> bool:
    """Return whether an engine is this project's."""
    return engine.startswith("skipsearch")


def list_contests(device: str, is_quick: bool) -> tuple[Sequence[Shape | TextShape], Sequence[str]]:
    """Return the shapes and the engines that `bench` compares on a device."""
    engines: tuple[str, ...] = QUICK_ENGINES if is_quick else ENGINES
    if device == "cuda":
        # Fused layers run as cohorts on a GPU; torch.compile is measured by scripts/gpu.py, one contestant at a time.
        left_out = (FUSED, COMPILED, CHARGED)
        engines = (*(engine for engine in engines if engine not in left_out), CAPTURED, *COHORTS)
    return (QUICK if is_quick else SHAPES), engines


def compare_engines(workers: WorkerPool, shape: Shape | TextShape, engines: Sequence[str], device: str) -> list[Row]:
    """Compare engines at one shape: first whether they compute the same, then how fast, taking turns in rounds.

    Engines that cannot train the shape are left out.
    """
    engines = choose_engines(shape, engines)
    gate = GATE_TF32 if device == "cuda" else GATE
    expected = workers.ask(EAGER, "losses", shape)[0]
    prepared = {engine: workers.ask(engine, "prepare", shape) for engine in engines if engine != CHARGED}
    sound = {engine: all(_agrees(answer.losses, expected, gate) for answer in prepared[engine]) for engine in prepared}
    rates: dict[str, list[float]] = {engine: [] for engine in engines if sound.get(engine)}
    if sound.get(COMPILED) and CHARGED in engines:
        rates[CHARGED] = []
    for _ in range(N_ROUNDS):
        for engine in prepared:
            if not sound[engine]:
                continue
            slowest = max(answer.step_seconds for answer in prepared[engine])
            n_steps = max(1, round(ROUND_SECONDS / slowest))
            times = workers.ask(engine, "run", n_steps)
            rates[engine].append(sum(count_members(engine) * n_steps / seconds for seconds in times))
            if engine == COMPILED and CHARGED in rates:
                compiled = prepared[engine]
                rates[CHARGED].append(
                    sum(
                        CHARGED_STEPS / (answer.first_seconds + CHARGED_STEPS * seconds / n_steps)
                        for answer, seconds in zip(compiled, times, strict=True)
                    )
                )
    sound[CHARGED] = sound.get(COMPILED, False)
    trained = (EAGER, FUSED) if isinstance(shape, Shape) else ()
    whole: dict[str, list[float]] = {engine: [] for engine in trained if sound.get(engine)}
    for _ in range(N_WHOLE_ROUNDS):
        for engine, candidates in whole.items():
            candidates.append(sum(3600 / seconds for seconds in workers.ask(engine, "train", shape)))
    return _pair(shape, {engine: sound[engine] for engine in engines}, rates, whole)


def _agrees(losses: list[list[float]], expected: list[list[float]], gate: float) -> bool:
    """Return whether each candidate's losses are near the expected ones, and there are any."""
    if not losses:
        return False
    pairs = zip(losses, expected, strict=False)  # an engine may train fewer candidates
    return all(abs(a - b) <= gate for own, others in pairs for a, b in zip(own, others, strict=True))


def _pair(
    shape: Shape | TextShape,
    sound: Mapping[str, bool],
    rates: Mapping[str, Sequence[float]],
    whole: Mapping[str, Sequence[float]],
) -> list[Row]:
    """Return the rows, with ratios round by round; the first round is dropped."""
    kept = {engine: tuple(all_rounds[1:]) for engine, all_rounds in rates.items()}
    others = [engine for engine in kept if not is_ours(engine)]
    strongest = max(others, key=lambda engine: statistics.median(kept[engine]))
    flops = PASSES * shape.batch * shape.flops

    def ratios(engine: str, to: str) -> tuple[float, ...]:
        return tuple(rate / other for rate, other in zip(kept[engine], kept[to], strict=True))

    return [
        Row(
            shape,
            engine,
            gate,
            kept[engine],
            ratios(engine, ONE_PROCESS),
            ratios(engine, strongest),
            flops,
            tuple(whole.get(engine, ())),
        )
        if gate
        else Row(shape, engine, gate)
        for engine, gate in sound.items()
    ]


def advise(rows: Sequence[Row]) -> tuple[str, int]:
    """Return the engine and cohort of `search` that trained fastest, by geometric mean over all shapes.

    Networks of sums and decoders do not count: they have no fused layers, so there is nothing to choose.
    """
    rows = [row for row in rows if row.shape.merge == CONCAT]
    settings = {EAGER: ("eager", 1), FUSED: ("fused", 1)}
    settings |= {engine: ("fused", n) for engine, n in COHORTS.items()}
    means = {
        settings[engine]: statistics.geometric_mean(
            [row.steps_per_second or NEVER for row in rows if row.engine == engine]
        )
        for engine in {row.engine for row in rows} & settings.keys()
    }
    return max(means, key=lambda setting: means[setting])
