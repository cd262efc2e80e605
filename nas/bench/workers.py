"""Processes that train standard networks by the contestants of `bench`, all at once."""

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from nas.bench.contestants import EAGER, LR, N_GROUPED, ONE_PROCESS, Contestant, Step, prepare, prepare_text
from nas.bench.gates import N_SEEDS, Expected, measure_gradient_error
from nas.bench.shapes import Shape, TextShape
from nas.data.splits import Split
from nas.engines.native import load_library
from nas.model.config import TrainingConfig
from nas.training.stepping import N_WARM_UP, Engine
from nas.training.train import Member, train_cohort

N_GATE_STEPS = 3
N_MATRIX, COPY_BYTES, CEILING_SECONDS = 1024, 1 << 26, 0.3


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most that the machine can do, all processes at once.

    Args:
        matrix_flops: FLOPs a second of a product of large float32 matrices.
        copy_bytes: bytes a second, read and written, of a copy that is larger than any cache.
    """

    matrix_flops: float
    copy_bytes: float


class Prepared(NamedTuple):
    """A prepared contestant.

    Args:
        losses: losses of its first steps by candidate; empty if the memory does not suffice.
        first_seconds: time of the first step beyond that of a later one.
        step_seconds: time of a step.
    """

    losses: list[list[float]]
    first_seconds: float
    step_seconds: float


class Timed(NamedTuple):
    """Seconds of some steps: by the clock, and of the process's own computing."""

    clock: float
    computing: float


class WorkerPool:
    """Processes with prepared contestants: one with torch's default threads, the others with one thread each.

    Args:
        n: number of processes with one thread.
        device: device of all processes.
    """

    def __init__(self, n: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="skipsearch-bench-")  # so that nothing is compiled already
        self._pipes: list[Connection] = []
        self._processes = []
        for n_threads in (None, *[1] * n):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, device, n_threads, self._folder.name), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def ask(self, contestant: Contestant, command: str, *arguments: Any) -> list[Any]:
        """Return the answers of the contestant's processes, which work at the same time."""
        pipes = self._pipes[:1] if contestant.engine == ONE_PROCESS else self._pipes[1:]
        for pipe in pipes:
            pipe.send((command, contestant, *arguments))
        answers = []
        for pipe in pipes:
            try:
                answers.append(pipe.recv())
            except EOFError:
                raise RuntimeError(f"the process for {command} {contestant} died") from None
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        if failures:
            raise failures[0]
        return answers

    def end(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
        self._folder.cleanup()


def _serve(pipe: Connection, device: str, n_threads: int | None, folder: str) -> None:
    """Answer requests; runs in each process of a WorkerPool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles it and ends this process
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/{os.getpid()}"
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    steps: dict[Contestant, Step] = {}
    while True:
        try:
            command, contestant, *arguments = pipe.recv()
        except EOFError:  # the driver is done
            return
        try:
            if command == "prepare":
                answer: Any = _prepare(steps, contestant, arguments[0], device)
            elif command == "losses":
                answer = _expect(arguments[0], contestant, device)
            elif command == "gradient error":
                answer = measure_gradient_error(arguments[0], contestant, device)
            elif command == "train":
                answer = _train(arguments[0], contestant, device)
            elif command == "run":
                answer = _run(steps[contestant], arguments[0], device)
            else:
                answer = _measure_ceilings(device)
        except Exception as error:  # the driver raises it
            answer = RuntimeError(f"{command} {contestant}: {type(error).__name__}: {error}")
        pipe.send(answer)


def _expect(shape: Shape | TextShape, contestant: Contestant, device: str) -> Expected:
    """Return the losses of as many seeds as are grouped, and what rounding makes of them."""
    losses = [_list_losses(_start(shape, contestant, device, seed), device)[0] for seed in range(N_GROUPED)]
    opposite = [_list_losses(_start(shape, contestant, device, seed, True), device)[0] for seed in range(N_SEEDS)]
    pairs = [pair for own, others in zip(losses, opposite, strict=False) for pair in zip(own, others, strict=True)]
    return Expected(losses, max(abs(a - b) for a, b in pairs))


def _start(
    shape: Shape | TextShape, contestant: Contestant, device: str, seed: int = 0, is_reversed: bool = False
) -> Step:
    if isinstance(shape, TextShape):
        return prepare_text(shape, contestant, device, seed, is_reversed)
    return prepare(shape, contestant, device, seed, is_reversed)


def _prepare(steps: dict[Contestant, Step], contestant: Contestant, shape: Shape | TextShape, device: str) -> Prepared:
    """Prepare a contestant's step, and take the first steps; no losses if the memory does not suffice."""
    steps.pop(contestant, None)
    seconds: list[float] = []
    try:
        step = _start(shape, contestant, device)
        losses = _list_losses(step, device, seconds)
    except torch.OutOfMemoryError:
        return Prepared([], 0.0, 0.0)
    steps[contestant] = step
    return Prepared(losses, max(0.0, seconds[0] - seconds[-1]), min(seconds[1:]))


def _list_losses(step: Step, device: str, seconds: list[float] | None = None) -> list[list[float]]:
    """Return losses of the first steps by candidate, including a graph's on a GPU; append their times to `seconds`."""
    losses = []
    for _ in range(N_GATE_STEPS + (N_WARM_UP if device == "cuda" else 0)):
        started = time.perf_counter()
        losses.append(step().tolist())
        if seconds is not None:
            seconds.append(time.perf_counter() - started)
    return [list(own) for own in zip(*losses, strict=True)]


def _run(step: Step, n_steps: int, device: str) -> Timed:
    """Return the seconds of some steps."""
    _synchronize(device)
    started, computed = time.perf_counter(), time.process_time()
    for _ in range(n_steps):
        step()
    _synchronize(device)
    return Timed(time.perf_counter() - started, time.process_time() - computed)


def _train(shape: Shape, contestant: Contestant, device: str) -> float:
    """Return the seconds of a shape's whole training, from building the network to its validation accuracy."""
    whole = shape.whole
    assert whole is not None, "a shape with whole trainings"
    generator = torch.Generator().manual_seed(0)
    n, n_trained = whole.train_examples + whole.validation_examples, whole.train_examples
    images = torch.randn(n, *shape.image, generator=generator).to(device)
    labels = torch.randint(0, 10, (n,), generator=generator).to(device)
    split = Split(images[:n_trained], labels[:n_trained], images[n_trained:], labels[n_trained:], augment=False)
    config = TrainingConfig(epochs=whole.epochs, batch_size=shape.batch, lr=LR)
    engine = Engine(is_fused=contestant.is_ours, is_bfloat16=contestant.is_bfloat16)
    started = time.perf_counter()
    train_cohort([Member(shape.candidate(0), split)], config, engine=engine)
    return time.perf_counter() - started


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _measure_ceilings(device: str) -> tuple[float, float]:
    """Return FLOPs a second of a matrix product and bytes a second of a copy."""
    matrix = torch.randn(N_MATRIX, N_MATRIX, device=device)
    memory = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(memory)
    flops = 2 * N_MATRIX**3 / _time_best(lambda: matrix @ matrix, device)
    return flops, 2 * COPY_BYTES / _time_best(lambda: target.copy_(memory), device)


def _time_best(work: Callable[[], Any], device: str) -> float:
    seconds: list[float] = []
    ends = time.perf_counter() + CEILING_SECONDS
    while time.perf_counter() < ends or len(seconds) < 3:
        _synchronize(device)
        started = time.perf_counter()
        work()
        _synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@contextmanager
def start_workers(n: int, device: str) -> Iterator[WorkerPool]:
    """Start a pool, and end it with the block; the compiled layers are built before it starts."""
    if device == "cpu":
        load_library()
    workers = WorkerPool(n, device)
    try:
        yield workers
    finally:
        workers.end()


def measure_ceilings(workers: WorkerPool) -> Ceilings:
    """Return the machine's ceilings, by all single-thread processes at once."""
    answers = workers.ask(Contestant(EAGER), "ceilings")
    return Ceilings(sum(flops for flops, _ in answers), sum(copied for _, copied in answers))
