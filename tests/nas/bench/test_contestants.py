"""Every contestant trains the same network, in its process, and what cannot says why."""

import multiprocessing
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.bench.contestants import (
    CAPTURED,
    CHANNELS_LAST,
    COMPILED,
    EAGER,
    FUSED,
    GROUPED,
    N_GROUPED,
    ONE_PROCESS,
    Contestant,
    choose_contestants,
    find_obstacle,
    prepare,
    prepare_text,
)
from nas.bench.gates import GATE, GATE_BFLOAT16, measure_gradient_error
from nas.bench.shapes import SHAPES, Shape, TextShape, Whole
from nas.bench.workers import N_GATE_STEPS, _serve, _start, measure_ceilings, start_workers
from nas.model.config import TrainingConfig
from nas.model.network import build_skip_network
from nas.tasks.text.task import TextTask
from search_spaces.errors import InputError, MachineError

SMALL = Shape("small", (1, 6, 5), layers=4, growth=3, batch=8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ours_takes_part_wherever_its_layers_have_a_fused_form(shape: Shape | TextShape) -> None:
    problem = find_obstacle(shape, Contestant(FUSED), "cpu")
    assert (problem is None) == (isinstance(shape, Shape) and shape.network.can_fuse)
    assert find_obstacle(shape, Contestant(EAGER, "bfloat16"), "cpu") is None


def test_a_precision_that_the_machine_refuses_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (InputError("float32 only"), MachineError("this processor lacks it")):

        def refuse(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("nas.bench.contestants.resolve_engine", refuse)
        assert find_obstacle(SMALL, Contestant(FUSED, "bfloat16"), "cpu") == str(error)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if isinstance(shape, Shape)], ids=str)
def test_grouped_convolutions_are_for_plain_layers_and_on_a_cpu_for_small_images(shape: Shape) -> None:
    is_plain = shape.merge == "concat" and shape.layer == "bn-relu-conv"
    for device, sides in (("cpu", (8,)), ("cuda", (8, 32))):
        chosen = choose_contestants(shape, [Contestant(GROUPED)], device)
        assert bool(chosen) == (is_plain and shape.image[1] in sides)


def test_the_network_of_the_text_task_is_trained_as_the_task_trains_it() -> None:
    shape = TextShape(layers=3, batch=2)
    assert str(shape) == "text L=3 batch=2 merge=sum"
    contestants = [Contestant(engine) for engine in (ONE_PROCESS, EAGER, CHANNELS_LAST, GROUPED, CAPTURED, FUSED)]
    chosen = choose_contestants(shape, contestants, "cpu")
    assert [contestant.engine for contestant in chosen] == [ONE_PROCESS, EAGER, FUSED]

    task = TextTask(windows=2)
    network = task.build(shape.pattern, 0)
    batch = task.data(0)[0]
    loss = task.loss(network, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer, _ = task.optimizer(network, TrainingConfig(lr=3e-3, weight_decay=0.1), 1)
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    optimizer.step()
    step, half = (prepare_text(shape, Contestant(EAGER, precision), "cpu") for precision in ("float32", "bfloat16"))
    expected = [loss.item(), task.loss(network, batch).item()]
    assert [step().item(), step().item()] == pytest.approx(expected, abs=1e-6)
    rough = [half().item(), half().item()]
    assert rough == pytest.approx(expected, abs=GATE_BFLOAT16) and rough != pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("engine", [EAGER, FUSED])
def test_gradient_errors_are_those_of_the_first_step(engine: str, one_thread: None) -> None:  # noqa: ARG001
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 1, 6, 5, generator=draws), torch.randint(0, 10, (8,), generator=draws)
    half, errors = Contestant(EAGER, "bfloat16"), []
    for seed in (0, 1):
        gradients = []
        for is_half in (False, True):
            network = build_skip_network(SMALL.candidate(seed)).train()
            with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
                loss = torch.nn.functional.cross_entropy(network(images).float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients.append([parameter.grad for parameter in network.parameters()])
        pairs = [(exact, rough) for exact, rough in zip(*gradients, strict=True) if exact is not None]
        differences = sum(float(((rough - exact) ** 2).sum()) for exact, rough in pairs)
        errors.append((differences / sum(float((exact**2).sum()) for exact, _ in pairs)) ** 0.5)
    assert measure_gradient_error(SMALL, half, "cpu") == pytest.approx(sum(errors) / 2, rel=1e-4)
    assert sum(errors) / 2 > 1e-3 > measure_gradient_error(SMALL, Contestant(engine), "cpu")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    "engine",
    [EAGER, CHANNELS_LAST, FUSED, pytest.param(COMPILED, marks=pytest.mark.slow)],
)
def test_every_engine_trains_the_same_network(engine: str, one_thread: None) -> None:  # noqa: ARG001
    expected, own = (prepare(SMALL, Contestant(each), "cpu", seed=3) for each in (EAGER, engine))
    losses = [(float(expected()), float(own())) for _ in range(N_GATE_STEPS)]
    assert all(abs(one - two) <= GATE for one, two in losses)
    assert len({one for one, _ in losses}) == N_GATE_STEPS  # it does train


@pytest.mark.parametrize("shape", [SMALL, TextShape(layers=3, batch=2)], ids=str)
def test_the_opposite_order_changes_only_rounding(shape: Shape | TextShape, one_thread: None) -> None:  # noqa: ARG001
    step, opposite = (_start(shape, Contestant(EAGER), "cpu", 0, is_reversed) for is_reversed in (False, True))
    losses = [(float(step()), float(opposite())) for _ in range(N_GATE_STEPS)]
    assert all(one == pytest.approx(two, abs=GATE) for one, two in losses)
    assert any(one != two for one, two in losses)


def test_grouped_networks_are_each_candidate_alone(one_thread: None) -> None:  # noqa: ARG001
    grouped = prepare(SMALL, Contestant(GROUPED), "cpu")
    alone = [prepare(SMALL, Contestant(EAGER), "cpu", seed) for seed in range(N_GROUPED)]
    for _ in range(N_GATE_STEPS):
        torch.testing.assert_close(grouped(), torch.cat([step() for step in alone]), rtol=0, atol=1e-5)


def test_a_process_answers_what_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nas.bench.workers.CEILING_SECONDS", 0.0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    ours, theirs = multiprocessing.Pipe()
    eager, fused = Contestant(EAGER), Contestant(FUSED)
    shape = replace(SMALL, whole=Whole(16, 8, epochs=1))
    requests = [
        ("ceilings", eager), ("losses", eager, shape), ("prepare", fused, shape), ("run", fused, 2),
        ("train", fused, shape), ("gradient error", fused, shape), ("run", eager, 1),
    ]  # fmt: skip
    for request in requests:
        ours.send(request)
    thread = threading.Thread(target=_serve, args=(theirs, "cpu", None, str(tmp_path)))
    thread.start()
    ceilings, losses, prepared, timed, training, error, failure = [ours.recv() for _ in requests]
    ours.close()
    thread.join()
    assert 1e9 < ceilings[0] < 1e15 and 1e8 < ceilings[1] < 1e13
    assert len(losses.losses) == N_GROUPED and prepared.losses[0] == pytest.approx(losses.losses[0], abs=1e-5)
    assert 0 < losses.rounding < GATE
    assert timed.clock > 0 and timed.computing > 0 and training > 0 and 0 < error < 1e-4
    assert "run eager: KeyError" in str(failure)  # never prepared


@pytest.mark.slow
def test_real_processes_are_asked_and_ended() -> None:
    with start_workers(1, "cpu") as workers:
        ceilings = measure_ceilings(workers)
        assert 1e9 < ceilings.matrix_flops < 1e15 and 1e8 < ceilings.copy_bytes < 1e13
        eager, fused, first = (Contestant(engine) for engine in (EAGER, FUSED, ONE_PROCESS))
        losses = workers.ask(eager, "losses", SMALL)
        assert len(losses) == 1 and len(losses[0].losses) == N_GROUPED
        (prepared,) = workers.ask(fused, "prepare", SMALL)
        assert prepared.losses[0] == pytest.approx(losses[0].losses[0], abs=1e-5)
        assert len(workers.ask(first, "prepare", SMALL)) == 1
        shape = replace(SMALL, whole=Whole(16, 8, epochs=1))
        assert workers.ask(fused, "run", 2)[0].clock > 0 and workers.ask(fused, "train", shape)[0] > 0
        with pytest.raises(RuntimeError, match="run eager: KeyError"):
            workers.ask(eager, "run", 1)  # never prepared
        processes = workers._processes
    assert not any(process.is_alive() for process in processes)
    assert {process.pid for process in processes}.isdisjoint({os.getpid()})
