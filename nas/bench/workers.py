"""Processes that train standard networks by the engines that `bench` compares, all at once."""

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from nas.bench.contestants import EAGER, FUSED, LR, N_GROUPED, ONE_PROCESS, Shape, Step, prepare
from nas.data.splits import Split
from nas.engines.native import load_library
from nas.model.candidate import TrainingConfig
from nas.training.stepping import N_WARM_UP
from nas.training.train import train_candidate

N_GATE_STEPS = 3
N_TRAINED, N_VALIDATED, N_EPOCHS = 320, 256, 2  # images and epochs of a whole training
N_MATRIX, COPY_BYTES, CEILING_SECONDS = 1024, 1 << 26, 0.3


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the machine could do at most, all processes at once.

    Args:
        matrix_flops: a second, of a product of large float32 matrices.
        copy_bytes: a second, read and written, of a copy that no cache holds.
    """

    matrix_flops: float
    copy_bytes: float


class Workers:
    """Processes that hold prepared engines: one a core with one thread each, and one with torch's own threads.

    Args:
        n: how many have one thread.
        device: of all.
    """

    def __init__(self, n: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="skipsearch-bench-")  # nothing compiled before counts
        self._pipes: list[Connection] = []
        self._processes = []
        for n_threads in (None, *[1] * n):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, device, n_threads, self._folder.name), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def ask(self, engine: str, command: str, *arguments: Any) -> list[Any]:
        """What the engine's processes answer, all at work at once."""
        pipes = self._pipes[:1] if engine == ONE_PROCESS else self._pipes[1:]
        for pipe in pipes:
            pipe.send((command, engine, *arguments))
        answers = []
        for pipe in pipes:
            try:
                answers.append(pipe.recv())
            except EOFError:
                raise RuntimeError(f"a process that was to {command} {engine} died") from None
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
    """A process of Workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's, which ends this one
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/{os.getpid()}"
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    held: dict[str, Step] = {}
    while True:
        try:
            command, engine, *arguments = pipe.recv()
        except EOFError:  # the driver is done
            return
        try:
            if command == "prepare":
                answer: Any = _prepare(held, engine, arguments[0], device)
            elif command == "losses":
                steps = (prepare(arguments[0], engine, device, seed) for seed in range(N_GROUPED))
                answer = [_list_losses(step, device)[0] for step in steps]
            elif command == "train":
                answer = _train(arguments[0], engine, device)
            elif command == "run":
                answer = _run(held[engine], arguments[0], device)
            else:
                answer = _measure_ceilings(device)
        except Exception as error:  # the driver raises it
            answer = RuntimeError(f"{command} {engine}: {type(error).__name__}: {error}")
        pipe.send(answer)


def _prepare(held: dict[str, Step], engine: str, shape: Shape, device: str) -> tuple[list[list[float]], float, float]:
    """Losses of the first steps by candidate, seconds of the first step beyond a later one, seconds of a step.

    No losses where the memory does not hold the engine.
    """
    held.pop(engine, None)
    seconds: list[float] = []
    try:
        step = prepare(shape, engine, device)
        losses = _list_losses(step, device, seconds)
    except torch.OutOfMemoryError:
        return [], 0.0, 0.0
    held[engine] = step
    return losses, max(0.0, seconds[0] - seconds[-1]), min(seconds[1:])


def _list_losses(step: Step, device: str, seconds: list[float] | None = None) -> list[list[float]]:
    """Of the first steps, by candidate, on a GPU those of a graph among them; how long each took goes to `seconds`."""
    losses = []
    for _ in range(N_GATE_STEPS + (N_WARM_UP if device == "cuda" else 0)):
        started = time.perf_counter()
        losses.append(step().tolist())
        if seconds is not None:
            seconds.append(time.perf_counter() - started)
    return [list(one) for one in zip(*losses, strict=True)]


def _run(step: Step, n_steps: int, device: str) -> float:
    """Seconds of so many steps."""
    _synchronize(device)
    started = time.perf_counter()
    for _ in range(n_steps):
        step()
    _synchronize(device)
    return time.perf_counter() - started


def _train(shape: Shape, engine: str, device: str) -> float:
    """Seconds of a whole training."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(N_TRAINED + N_VALIDATED, *shape.image, generator=generator).to(device)
    labels = torch.randint(0, 10, (len(images),), generator=generator).to(device)
    split = Split(images[:N_TRAINED], labels[:N_TRAINED], images[N_TRAINED:], labels[N_TRAINED:], augment=False)
    config = TrainingConfig(epochs=N_EPOCHS, batch_size=shape.batch, lr=LR)
    started = time.perf_counter()
    train_candidate(shape.candidate(0), split, config, is_fused=engine == FUSED)
    return time.perf_counter() - started


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _measure_ceilings(device: str) -> tuple[float, float]:
    """FLOPs a second of a matrix product, bytes a second of a copy."""
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
def start_workers(n: int, device: str) -> Iterator[Workers]:
    """Workers, ended with the block. What is compiled once for this machine is compiled before they start."""
    if device == "cpu":
        load_library()
    workers = Workers(n, device)
    try:
        yield workers
    finally:
        workers.end()


def measure_ceilings(workers: Workers) -> Ceilings:
    """The machine's, by all single-thread processes at once."""
    answers = workers.ask(EAGER, "ceilings")
    return Ceilings(sum(flops for flops, _ in answers), sum(copied for _, copied in answers))
