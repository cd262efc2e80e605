"""Engines are compared by paired ratios, after they have shown that they compute the same."""

import math
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.bench import benchmark
from nas.bench.benchmark import N_ROUNDS, QUICK, SHAPES, Row, advise, compare_engines, list_contests
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
    Shape,
    TextShape,
    prepare,
    prepare_text,
)
from nas.bench.workers import N_GATE_STEPS, Prepared, _prepare, _serve, measure_ceilings, start_workers
from nas.model.config import TrainingConfig
from nas.tasks.text.task import TextTask

SMALL = Shape("small", (1, 6, 5), layers=4, growth=3, batch=8)
LOSSES = [[2.0, 1.9, 1.8], [2.1, 2.0, 1.9], [2.2, 2.1, 2.0], [2.3, 2.2, 2.1]]  # of seeds 0 to 3


class FakeWorkers:
    """Answers as processes would, at speeds that are given, and notes what it was asked."""

    def __init__(self, step_seconds: dict[str, float], off: dict[str, float] | None = None) -> None:
        self._step_seconds = step_seconds
        self._off = off or {}
        self.asked: list[tuple[str, str]] = []

    def ask(self, engine: str, command: str, *arguments: Any) -> list[Any]:
        self.asked.append((command, engine))
        n_processes = 1 if engine == ONE_PROCESS else 2
        if command == "losses":
            return [LOSSES] * n_processes
        if command == "prepare":
            own = LOSSES if engine == GROUPED else LOSSES[:1]
            losses = [[loss + self._off.get(engine, 0.0) for loss in one] for one in own]
            return [Prepared(losses, 10.0 if engine == COMPILED else 0.0, self._step_seconds[engine])] * n_processes
        if command == "train":
            return [36 * self._step_seconds[engine]] * n_processes
        # A machine that slows down from round to round: ratios stay what they are.
        n_runs = sum(asked == ("run", engine) for asked in self.asked)
        return [arguments[0] * self._step_seconds[engine] * n_runs] * n_processes


def test_what_the_memory_does_not_hold_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    held: dict[str, Any] = {EAGER: None}
    monkeypatch.setattr("nas.bench.workers.prepare", fail)
    answer = _prepare(held, EAGER, SMALL, "cpu")
    assert (answer, held) == (([], 0.0, 0.0), {})

    class Narrow(FakeWorkers):
        def ask(self, engine: str, command: str, *arguments: Any) -> list[Any]:
            return [answer] * 2 if (command, engine) == ("prepare", FUSED) else super().ask(engine, command, *arguments)

    rows = compare(Narrow(SPEEDS))
    assert [engine for engine, row in rows.items() if not row.gate] == [FUSED]
    assert advise(list(rows.values())) == ("eager", 1)


SPEEDS = {ONE_PROCESS: 0.1, EAGER: 0.1, CHANNELS_LAST: 0.08, COMPILED: 0.05, GROUPED: 0.2, FUSED: 0.02}


def compare(workers: FakeWorkers, engines: tuple[str, ...] = benchmark.ENGINES, device: str = "cpu") -> dict[str, Row]:
    return {row.engine: row for row in compare_engines(workers, SMALL, engines, device)}  # type: ignore[arg-type]


def test_ratios_are_paired_in_each_round_and_to_the_strongest_that_is_not_ours() -> None:
    rows = compare(FakeWorkers(SPEEDS))
    assert list(rows) == list(benchmark.ENGINES)
    assert all(row.gate and len(row.rates) == N_ROUNDS - 1 for row in rows.values())
    # Two processes of 50 steps a second each against one of 10; absolute rates fall from round to round.
    assert rows[FUSED].to_one_process == pytest.approx([10.0] * (N_ROUNDS - 1))
    assert rows[FUSED].rates[0] == pytest.approx(100 / 2) and rows[FUSED].rates[-1] == pytest.approx(100 / N_ROUNDS)
    assert rows[FUSED].to_strongest == pytest.approx([2.5] * (N_ROUNDS - 1))  # torch.compile is it, charged for nothing
    assert rows[COMPILED].to_strongest == (1.0,) * (N_ROUNDS - 1)
    assert rows[GROUPED].to_one_process == pytest.approx([N_GROUPED] * (N_ROUNDS - 1))  # each step trains four
    assert rows[FUSED].candidates == pytest.approx([2 * 3600 / 0.72] * 3)
    assert rows[EAGER].candidates and not rows[COMPILED].candidates


def test_compilation_is_charged_to_a_short_training() -> None:
    rows = compare(FakeWorkers(SPEEDS))
    n, first = benchmark.CHARGED_STEPS, 2 * 0.05  # the second round is the first that is kept
    assert rows[CHARGED].rates[0] == pytest.approx(2 * n / (10 + n * first))
    assert rows[COMPILED].rates[0] == pytest.approx(2 / first)


def test_engines_take_turns() -> None:
    workers = FakeWorkers(SPEEDS)
    compare(workers, (ONE_PROCESS, EAGER, FUSED))
    runs = [engine for command, engine in workers.asked if command == "run"]
    assert runs == [ONE_PROCESS, EAGER, FUSED] * N_ROUNDS
    commands = [command for command, _ in workers.asked]
    assert commands.index("run") > max(i for i, command in enumerate(commands) if command in ("losses", "prepare"))


@pytest.mark.parametrize("off", [2e-5, -1e-3, math.nan, math.inf])
def test_what_computes_something_else_has_no_speed(off: float) -> None:
    rows = compare(FakeWorkers(SPEEDS, {FUSED: off, COMPILED: off}))
    assert not rows[FUSED].gate and rows[FUSED].steps_per_second is None
    assert not rows[CHARGED].gate and not rows[CHARGED].rates
    assert rows[FUSED].to_dict() == {
        "shape": "small L=4 growth=3 batch=8",
        "engine": "skipsearch-fused",
        "steps_per_second": None,
        "ratio_to_eager_one_process": None,
        "ratio_to_strongest": None,
        "gate": False,
    }
    assert rows[GROUPED].to_strongest == (1.0,) * (N_ROUNDS - 1)  # the compiled one is out of the contest
    assert compare(FakeWorkers(SPEEDS, {FUSED: 9e-6}))[FUSED].gate


def test_the_advice_is_the_faster_over_all_shapes() -> None:
    other = Shape("large", (3, 32, 32), 4, 3)

    def rows(shape: Shape, eager: float, fused: float) -> list[Row]:
        return [
            Row(shape, EAGER, True, (eager,)),
            Row(shape, COMPILED, True, (999.0,)),
            Row(shape, FUSED, True, (fused,)),
        ]

    assert advise(rows(SMALL, 10, 20)) == ("fused", 1)
    assert advise(rows(SMALL, 10, 20) + rows(other, 9, 3)) == ("eager", 1)
    assert advise(rows(SMALL, 10, 20) + rows(other, 9, 8)) == ("fused", 1)
    assert advise([Row(SMALL, EAGER, True, (10.0,)), Row(SMALL, FUSED, False)]) == ("eager", 1)
    assert advise([Row(SMALL, EAGER, True, (10.0,))]) == ("eager", 1)  # on CUDA


def test_a_network_of_sums_is_trained_by_what_can_and_gives_no_advice() -> None:
    shape = Shape("sums", (1, 6, 5), layers=4, growth=3, batch=8, merge="sum")
    assert str(shape) == "sums L=4 growth=3 batch=8 merge=sum"
    assert shape.candidate(0).network.merge == "sum"
    rows = compare_engines(FakeWorkers(SPEEDS), shape, (ONE_PROCESS, EAGER, GROUPED, FUSED), "cpu")  # type: ignore[arg-type]
    assert [row.engine for row in rows] == [ONE_PROCESS, EAGER]
    faster = [Row(shape, EAGER, True, (99.0,))]
    assert advise([Row(SMALL, EAGER, True, (10.0,)), Row(SMALL, FUSED, True, (20.0,)), *faster]) == ("fused", 1)
    assert any(shape.merge == "sum" for shape in QUICK) and any(shape.merge == "sum" for shape in SHAPES)


def test_the_network_of_the_text_task_is_trained_as_the_task_trains_it() -> None:
    shape = TextShape(layers=3, batch=2)
    assert str(shape) == "text L=3 batch=2 merge=sum"
    rows = compare_engines(FakeWorkers(SPEEDS), shape, (ONE_PROCESS, EAGER, GROUPED, FUSED), "cpu")  # type: ignore[arg-type]
    assert [row.engine for row in rows] == [ONE_PROCESS, EAGER]
    assert any(isinstance(shape, TextShape) for shape in QUICK) and any(
        isinstance(shape, TextShape) for shape in SHAPES
    )

    task = TextTask(windows=2)
    network = task.build(shape.pattern, 0)
    batch = task.data(0)[0]
    loss = task.loss(network, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer, _ = task.optimizer(network, TrainingConfig(lr=3e-3, weight_decay=0.1), 1)
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    optimizer.step()
    step = prepare_text(shape, EAGER, "cpu")
    assert [step().item(), step().item()] == pytest.approx([loss.item(), task.loss(network, batch).item()], abs=1e-6)


def test_contests() -> None:
    assert list_contests("cpu", True)[0] == QUICK and str(QUICK[0]) == "digits L=24 growth=8 batch=64"
    shapes, engines = list_contests("cpu", False)
    assert shapes == SHAPES and len(set(shapes)) == 10 and engines[-1] == FUSED
    assert {(shape.image, shape.layers, shape.growth) for shape in shapes if isinstance(shape, Shape)} == {
        (image, layers, growth) for image in ((1, 8, 8), (3, 32, 32)) for layers in (12, 24) for growth in (8, 16)
    }
    assert not {FUSED, COMPILED} & set(list_contests("cuda", False)[1])
    assert set(COHORTS) < set(list_contests("cuda", True)[1])


def test_on_a_gpu_a_cohort_is_advised() -> None:
    speeds = {**SPEEDS, CAPTURED: 0.05, **dict(zip(COHORTS, (0.02, 0.04, 0.1, 0.8), strict=True))}
    engines = tuple(engine for engine in list_contests("cuda", True)[1] if engine in speeds)
    rows = compare(FakeWorkers(speeds, dict.fromkeys(COHORTS, 1e-3)), engines, "cuda")  # as TF32 rounds
    assert all(row.gate for row in rows.values())
    assert [rows[one].to_strongest[0] / rows[CAPTURED].to_strongest[0] for one in COHORTS] == pytest.approx(
        [2.5, 5.0, 8.0, 4.0]
    )
    assert advise(list(rows.values())) == ("fused", 16)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    "engine",
    [EAGER, CHANNELS_LAST, FUSED, pytest.param(COMPILED, marks=pytest.mark.slow)],
)
def test_every_engine_trains_the_same_network(engine: str, one_thread: None) -> None:  # noqa: ARG001
    expected, own = prepare(SMALL, EAGER, "cpu", seed=3), prepare(SMALL, engine, "cpu", seed=3)
    losses = [(float(expected()), float(own())) for _ in range(N_GATE_STEPS)]
    assert all(abs(one - two) <= 1e-5 for one, two in losses)
    assert len({one for one, _ in losses}) == N_GATE_STEPS  # it does train


def test_grouped_networks_are_each_candidate_alone(one_thread: None) -> None:  # noqa: ARG001
    grouped = prepare(SMALL, GROUPED, "cpu")
    alone = [prepare(SMALL, EAGER, "cpu", seed) for seed in range(N_GROUPED)]
    for _ in range(N_GATE_STEPS):
        torch.testing.assert_close(grouped(), torch.cat([step() for step in alone]), rtol=0, atol=1e-5)


def test_a_process_answers_what_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nas.bench.workers.CEILING_SECONDS", 0.0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    ours, theirs = multiprocessing.Pipe()
    requests = [
        ("ceilings", EAGER), ("losses", EAGER, SMALL), ("prepare", FUSED, SMALL), ("run", FUSED, 2),
        ("train", FUSED, SMALL), ("run", EAGER, 1),
    ]  # fmt: skip
    for request in requests:
        ours.send(request)
    thread = threading.Thread(target=_serve, args=(theirs, "cpu", None, str(tmp_path)))
    thread.start()
    ceilings, losses, prepared, seconds, training, failure = [ours.recv() for _ in requests]
    ours.close()
    thread.join()
    assert 1e9 < ceilings[0] < 1e15 and 1e8 < ceilings[1] < 1e13
    assert len(losses) == N_GROUPED and prepared.losses[0] == pytest.approx(losses[0], abs=1e-5)
    assert seconds > 0 and training > 0
    assert "run eager: KeyError" in str(failure)  # never prepared


@pytest.mark.slow
def test_real_processes_are_asked_and_ended() -> None:
    with start_workers(1, "cpu") as workers:
        ceilings = measure_ceilings(workers)
        assert 1e9 < ceilings.matrix_flops < 1e15 and 1e8 < ceilings.copy_bytes < 1e13
        losses = workers.ask(EAGER, "losses", SMALL)
        assert len(losses) == 1 and len(losses[0]) == N_GROUPED
        (prepared,) = workers.ask(FUSED, "prepare", SMALL)
        assert prepared.losses[0] == pytest.approx(losses[0][0], abs=1e-5)
        assert len(workers.ask(ONE_PROCESS, "prepare", SMALL)) == 1
        assert all(seconds > 0 for seconds in workers.ask(FUSED, "run", 2) + workers.ask(FUSED, "train", SMALL))
        with pytest.raises(RuntimeError, match="run eager: KeyError"):
            workers.ask(EAGER, "run", 1)  # never prepared
        processes = workers._processes
    assert not any(process.is_alive() for process in processes)
    assert {process.pid for process in processes}.isdisjoint({os.getpid()})
