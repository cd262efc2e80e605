"""Engines are compared by paired ratios, after they have shown that they compute the same."""

import math
from typing import Any

import pytest
import torch

from nas.bench import benchmark
from nas.bench.benchmark import N_ROUNDS, Row, advise, compare_contestants, list_contests
from nas.bench.contestants import (
    CAPTURED,
    CHANNELS_LAST,
    CHARGED,
    COHORTS,
    COMPILED,
    EAGER,
    FUSED,
    GROUPED,
    N_GROUPED,
    ONE_PROCESS,
    Contestant,
)
from nas.bench.gates import GATE, GATE_BFLOAT16, N_ROUNDINGS, Expected
from nas.bench.shapes import QUICK, SHAPES, Shape, TextShape, Whole
from nas.bench.workers import Prepared, Timed, _prepare
from nas.settings.search import SearchConfig

SMALL = Shape("small", (1, 6, 5), layers=4, growth=3, batch=8)
LOSSES = [[2.0, 1.9, 1.8], [2.1, 2.0, 1.9], [2.2, 2.1, 2.0], [2.3, 2.2, 2.1]]  # of seeds 0 to 3


ALL = (ONE_PROCESS, EAGER, CHANNELS_LAST, COMPILED, CHARGED, GROUPED, FUSED)


def name(*engines: str) -> tuple[Contestant, ...]:
    return tuple(Contestant(engine) for engine in engines)


class FakeWorkers:
    """Answers as processes would, at speeds that are given by contestant's name, and notes what it was asked."""

    def __init__(
        self,
        step_seconds: dict[str, float],
        off: dict[str, float] | None = None,
        gradient_errors: dict[str, float] | None = None,
        rounding: float = 1e-7,
    ) -> None:
        self._rounding = rounding
        self._step_seconds = step_seconds
        self._off = off or {}
        self._gradient_errors = gradient_errors or {}
        self.asked: list[tuple[str, str]] = []

    def ask(self, contestant: Contestant, command: str, *arguments: Any) -> list[Any]:
        self.asked.append((command, str(contestant)))
        n_processes = 1 if contestant.engine == ONE_PROCESS else 2
        if command == "losses":
            return [Expected(LOSSES, self._rounding)] * n_processes
        if command == "gradient error":
            return [self._gradient_errors.get(str(contestant), 1e-7)] * n_processes
        seconds = self._step_seconds[str(contestant)]
        if command == "prepare":
            own = LOSSES if contestant.engine == GROUPED else LOSSES[:1]
            losses = [[loss + self._off.get(str(contestant), 0.0) for loss in one] for one in own]
            return [Prepared(losses, 10.0 if contestant.engine == COMPILED else 0.0, seconds)] * n_processes
        # A machine that slows down from round to round: ratios stay what they are.
        n_runs = sum(asked == (command, str(contestant)) for asked in self.asked)
        if command == "train":
            return [36 * seconds * n_runs] * n_processes
        return [Timed(arguments[0] * seconds * n_runs, arguments[0] * seconds)] * n_processes


def test_what_the_memory_does_not_hold_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    eager, fused = name(EAGER, FUSED)
    held: dict[Contestant, Any] = {eager: None}
    monkeypatch.setattr("nas.bench.workers.prepare", fail)
    answer = _prepare(held, eager, SMALL, "cpu")
    assert (answer, held) == (([], 0.0, 0.0), {})

    class Narrow(FakeWorkers):
        def ask(self, contestant: Contestant, command: str, *arguments: Any) -> list[Any]:
            is_narrow = (command, contestant) == ("prepare", fused)
            return [answer] * 2 if is_narrow else super().ask(contestant, command, *arguments)

    rows = compare(Narrow(SPEEDS))
    assert [engine for engine, row in rows.items() if row.gate is False] == [FUSED]
    assert "memory" in rows[FUSED].problem
    assert advise(list(rows.values())) == ("eager", 1)


SPEEDS = {ONE_PROCESS: 0.1, EAGER: 0.1, CHANNELS_LAST: 0.08, COMPILED: 0.05, GROUPED: 0.24, FUSED: 0.02}


def compare(
    workers: FakeWorkers,
    contestants: tuple[Contestant, ...] = name(*ALL),
    device: str = "cpu",
    shape: Shape | TextShape = SMALL,
) -> dict[str, Row]:
    rows = compare_contestants(workers, shape, contestants, device)  # type: ignore[arg-type]
    return {str(row.contestant): row for row in rows}


def test_ratios_are_paired_in_each_round_and_to_the_strongest_that_is_not_ours() -> None:
    rows = compare(FakeWorkers(SPEEDS))
    assert list(rows) == list(ALL)
    assert all(row.gate and len(row.rates) == N_ROUNDS - 1 for row in rows.values())
    # Two processes of 50 steps a second each against one of 10; absolute rates fall from round to round.
    assert rows[FUSED].to_one_process == pytest.approx([10.0] * (N_ROUNDS - 1))
    assert rows[FUSED].rates[0] == pytest.approx(100 / 2) and rows[FUSED].rates[-1] == pytest.approx(100 / N_ROUNDS)
    assert rows[FUSED].to_strongest == pytest.approx([2.5] * (N_ROUNDS - 1))  # torch.compile is it, charged for nothing
    assert rows[COMPILED].to_strongest == (1.0,) * (N_ROUNDS - 1)
    assert rows[GROUPED].to_one_process == pytest.approx(
        [N_GROUPED * 0.2 / 0.24] * (N_ROUNDS - 1)
    )  # each step trains four
    assert rows[FUSED].computing == pytest.approx([0.02] * (N_ROUNDS - 1))  # a busy machine does not count here
    assert rows[GROUPED].computing == pytest.approx([0.24 / N_GROUPED] * (N_ROUNDS - 1))
    assert not any(row.trainings for row in rows.values())


def test_whole_trainings_of_a_shape_are_timed_by_eager_and_ours() -> None:
    shape = Shape("small", (1, 6, 5), layers=4, growth=3, batch=8, whole=Whole(16, 8, epochs=1))
    rows = compare(FakeWorkers(SPEEDS), shape=shape)
    assert rows[FUSED].trainings == pytest.approx([2 / (0.72 * n) for n in (2, 3, 4)])  # the first round is dropped
    assert [engine for engine, row in rows.items() if row.trainings] == [EAGER, FUSED]
    assert rows[FUSED].to_dict()["trainings_per_second"] == pytest.approx(2 / (0.72 * 3))


HALF = {f"{engine}, bfloat16": SPEEDS[engine] / 1.6 for engine in (EAGER, COMPILED, FUSED)}
IN_BOTH = (*name(ONE_PROCESS, EAGER, COMPILED, FUSED), *(Contestant(one, "bfloat16") for one in (EAGER, FUSED)))


@pytest.fixture
def half_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.bench.benchmark.find_obstacle", lambda *_: None)


@pytest.mark.usefixtures("half_is_fused")
def test_the_strongest_is_the_fastest_in_either_precision_and_that_of_its_own_precision_is_given_too() -> None:
    errors = {f"{EAGER}, bfloat16": 0.12, f"{FUSED}, bfloat16": 0.12}
    rows = compare(FakeWorkers({**SPEEDS, **HALF}, gradient_errors=errors), IN_BOTH)
    ours, half = rows[FUSED], rows[f"{FUSED}, bfloat16"]
    assert ours.to_strongest[0] == ours.to_strongest_alike[0] == pytest.approx(2.5)  # to torch.compile
    # Eager in bfloat16 is its precision's only one, and torch.compile in float32 is faster.
    assert half.to_strongest[0] == pytest.approx(2.5 * 1.6)
    assert half.to_strongest_alike[0] == pytest.approx(0.1 / 0.02)
    with_half = compare(
        FakeWorkers({**SPEEDS, **HALF}, gradient_errors=errors), (*IN_BOTH, Contestant(COMPILED, "bfloat16"))
    )
    assert with_half[FUSED].to_strongest[0] == pytest.approx(2.5 / 1.6)
    assert with_half[FUSED].to_strongest_alike[0] == pytest.approx(2.5)
    written = with_half[FUSED].to_dict()
    assert written["ratio_to_strongest"] == pytest.approx(2.5 / 1.6)
    assert written["ratio_to_strongest_in_precision"] == pytest.approx(2.5)
    assert with_half[f"{EAGER}, bfloat16"].to_dict()["precision"] == "bfloat16"


@pytest.mark.usefixtures("half_is_fused")
@pytest.mark.parametrize(
    ("off", "error", "is_sound"),
    [
        (0.9 * GATE_BFLOAT16, 0.12, True),
        (1.1 * GATE_BFLOAT16, 0.12, False),
        (0.0, 0.121, False),
        (0.0, math.nan, False),
    ],
)
def test_bfloat16_is_held_to_losses_near_those_of_float32_and_ours_to_the_gradients_of_autocast(
    off: float, error: float, is_sound: bool
) -> None:
    half = f"{FUSED}, bfloat16"
    errors = {f"{EAGER}, bfloat16": 0.12, half: error}
    rows = compare(FakeWorkers({**SPEEDS, **HALF}, {half: off}, errors), IN_BOTH)
    assert rows[half].gate is is_sound and bool(rows[half].rates) is is_sound
    assert is_sound or ("nats" if off else "0.12") in rows[half].problem
    autocast = compare(FakeWorkers({**SPEEDS, **HALF}, {f"{EAGER}, bfloat16": off}, errors), IN_BOTH)
    assert autocast[f"{EAGER}, bfloat16"].gate is (off <= GATE_BFLOAT16)


def test_compilation_is_charged_to_a_short_training() -> None:
    rows = compare(FakeWorkers(SPEEDS))
    n, first = benchmark.CHARGED_STEPS, 2 * 0.05  # the second round is the first that is kept
    assert rows[CHARGED].rates[0] == pytest.approx(2 * n / (10 + n * first))
    assert rows[COMPILED].rates[0] == pytest.approx(2 / first)


def test_contestants_take_turns() -> None:
    workers = FakeWorkers(SPEEDS)
    compare(workers, name(ONE_PROCESS, EAGER, FUSED))
    runs = [engine for command, engine in workers.asked if command == "run"]
    assert runs == [ONE_PROCESS, EAGER, FUSED] * N_ROUNDS
    commands = [command for command, _ in workers.asked]
    assert commands.index("run") > max(i for i, command in enumerate(commands) if command in ("losses", "prepare"))


def test_where_rounding_alone_moves_eager_more_is_allowed() -> None:
    own = {FUSED: 1e-3 * (N_ROUNDINGS - 0.1), COMPILED: -1e-3 * (N_ROUNDINGS + 0.1)}
    rows = compare(FakeWorkers(SPEEDS, own, rounding=1e-3))
    assert rows[FUSED].gate and rows[COMPILED].gate is False
    assert rows[FUSED].tolerance == pytest.approx(N_ROUNDINGS * 1e-3)


@pytest.mark.parametrize("off", [1.1 * GATE, -1e-3, math.nan, math.inf])
def test_what_computes_something_else_has_no_speed(off: float) -> None:
    rows = compare(FakeWorkers(SPEEDS, {FUSED: off, COMPILED: off}))
    assert rows[FUSED].gate is False and rows[FUSED].steps_per_second is None
    assert rows[CHARGED].gate is False and not rows[CHARGED].rates
    written = rows[FUSED].to_dict()
    assert f"{2 + off:.6f}" in written.pop("problem")
    assert written == {
        "shape": "small L=4 growth=3 batch=8",
        "engine": "skipsearch-fused",
        "precision": "float32",
        "steps_per_second": None,
        "cpu_seconds_per_step": None,
        "ratio_to_eager_one_process": None,
        "ratio_to_strongest": None,
        "ratio_to_strongest_in_precision": None,
        "trainings_per_second": None,
        "tolerance": GATE,
        "gate": False,
    }
    assert rows[GROUPED].to_strongest == (1.0,) * (N_ROUNDS - 1)  # the compiled one is out of the contest
    assert compare(FakeWorkers(SPEEDS, {FUSED: 0.9 * GATE}))[FUSED].gate


def test_the_advice_is_the_faster_over_all_shapes() -> None:
    other = Shape("large", (3, 32, 32), 4, 3)

    def rows(shape: Shape, eager: float, fused: float) -> list[Row]:
        speeds = {EAGER: eager, COMPILED: 999.0, FUSED: fused}
        found = [Row(shape, Contestant(engine), True, rates=(speed,)) for engine, speed in speeds.items()]
        return [*found, Row(shape, Contestant(EAGER, "bfloat16"), True, rates=(999.0,))]

    assert advise(rows(SMALL, 10, 20)) == ("fused", 1)
    assert advise(rows(SMALL, 10, 20) + rows(other, 9, 3)) == ("eager", 1)
    assert advise(rows(SMALL, 10, 20) + rows(other, 9, 8)) == ("fused", 1)
    eager, fused = name(EAGER, FUSED)
    assert advise([Row(SMALL, eager, True, rates=(10.0,)), Row(SMALL, fused, False)]) == ("eager", 1)
    assert advise([Row(SMALL, eager, True, rates=(10.0,))]) == ("eager", 1)  # on CUDA
    apart = [Row(other, eager, True, rates=(99.0,)), Row(other, fused, None, "no fused form")]
    assert advise(rows(SMALL, 10, 20) + apart) == ("fused", 1)  # it did not take part, so it lost nothing


def test_what_ours_cannot_train_is_said_and_gives_no_advice() -> None:
    shape = Shape("sums", (1, 6, 5), layers=4, growth=3, batch=8, merge="sum")
    assert str(shape) == "sums L=4 growth=3 batch=8 merge=sum"
    assert shape.candidate(0).network.merge == "sum"
    rows = compare(FakeWorkers(SPEEDS), name(ONE_PROCESS, EAGER, GROUPED, FUSED), shape=shape)
    assert list(rows) == [ONE_PROCESS, EAGER, FUSED]
    assert rows[FUSED].gate is None and "no fused form" in rows[FUSED].problem
    eager, fused = name(EAGER, FUSED)
    measured = [Row(SMALL, eager, True, rates=(10.0,)), Row(SMALL, fused, True, rates=(20.0,))]
    assert advise([*measured, *rows.values()]) == ("fused", 1)


def test_contests() -> None:
    assert list_contests("cpu", True)[0] == QUICK and str(QUICK[0]) == "digits L=24 growth=8 batch=64"
    shapes, contestants = list_contests("cpu", False)
    assert shapes == SHAPES and len(set(shapes)) == 12
    for kind in (QUICK, SHAPES):
        assert any(shape.merge == "sum" for shape in kind) and any(isinstance(shape, TextShape) for shape in kind)
    assert {(shape.image, shape.layers, shape.growth) for shape in SHAPES[:8] if isinstance(shape, Shape)} == {
        (image, layers, growth) for image in ((1, 8, 8), (3, 32, 32)) for layers in (12, 24) for growth in (8, 16)
    }
    bottlenecks, default = SHAPES[9], SHAPES[8]
    assert str(bottlenecks) == "32x32 L=12 blocks=3 growth=12 batch=64 bottleneck"
    assert isinstance(bottlenecks, Shape) and bottlenecks.network.layer == "bottleneck"
    assert isinstance(default, Shape) and default.whole is not None
    settings = SearchConfig()
    assert (default.layers, default.growth, default.batch, default.whole.epochs, default.whole.train_examples) == (
        *(settings.layers, settings.growth, settings.batch_size, settings.epochs),
        *(settings.train_examples,),
    )
    for precision in ("float32", "bfloat16"):
        assert {Contestant(engine, precision) for engine in (EAGER, COMPILED, FUSED)} < set(contestants)
    on_gpu = list_contests("cuda", False)[1]
    assert not {FUSED, COMPILED} & {contestant.engine for contestant in on_gpu}
    assert set(name(*COHORTS)) < set(on_gpu)


def test_on_a_gpu_a_cohort_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.bench.benchmark.find_obstacle", lambda *_: None)  # Triton may be missing here
    speeds = {**SPEEDS, CAPTURED: 0.05, **dict(zip(COHORTS, (0.02, 0.04, 0.1, 0.8), strict=True))}
    contestants = tuple(one for one in list_contests("cuda", True)[1] if str(one) in speeds)
    rows = compare(FakeWorkers(speeds, dict.fromkeys(COHORTS, 1e-3)), contestants, "cuda")  # as TF32 rounds
    assert all(row.gate for row in rows.values())
    assert [rows[one].to_strongest[0] / rows[CAPTURED].to_strongest[0] for one in COHORTS] == pytest.approx(
        [2.5, 5.0, 8.0, 4.0]
    )
    assert advise(list(rows.values())) == ("fused", 16)
