"""Training steps of ours and of what PyTorch offers, in paired rounds: what gpu.py makes its table of."""

import gc
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas.bench.benchmark import GATE, GATE_TF32, PASSES, is_ours
from nas.bench.contestants import (
    CAPTURED,
    COMPILED,
    EAGER,
    FUSED,
    GROUPED,
    Shape,
    Step,
    count_members,
    prepare,
    prepare_cohort,
)
from nas.bench.workers import N_GATE_STEPS, Workers, start_workers
from nas.model.cost import predict_cost
from nas.training.stepping import N_WARM_UP, Engine
from search_spaces.budget import parse_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

N_ROUNDS = 7  # the first is dropped
N_UNWATCHED = 3  # steps between two looks at the clock
N_PROCESSES = 4
PROCESSES = "eager, one process a candidate"
GATE_BFLOAT16 = 0.05  # nats
WATCHED_SECONDS = 0.8

Sprint = Callable[[], float]  # takes steps for a while and gives their rate, of one candidate


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one contestant.

    Args:
        candidates: trained together, in one process.
        losses: of its first steps, in nats.
        gate: whether these are eager's; if not, it has no speed.
        rates: steps of one candidate a second, over all of them, round by round.
        eager: those of eager in the same rounds.
        peak_mib: of memory on the card, most at a time; None where none is counted.
        utilisation: per cent of the time in which a kernel ran, as the driver tells; None where it does not.
    """

    contestant: str
    precision: str
    candidates: int
    losses: tuple[float, ...] = ()
    gate: bool = False
    rates: tuple[float, ...] = ()
    eager: tuple[float, ...] = ()
    peak_mib: float | None = None
    utilisation: float | None = None

    @property
    def to_eager(self) -> float:
        """Ratio of rates in the same rounds, their median."""
        return statistics.median(own / eager for own, eager in zip(self.rates, self.eager, strict=True))


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant as the table has it.

    Args:
        outcome: "measured", or why there is no speed.
        steps_per_second: of one candidate, over all of them: median, least and largest of the rounds.
        to_eager: ratio to eager in the same precision, paired by round: median.
        to_strongest: the same over the largest such ratio that is not ours.
        tflops: a second, of convolutions and the classifier, a backward pass being two forward.
    """

    contestant: str
    precision: str
    candidates: int
    outcome: str
    steps_per_second: float | None = None
    least: float | None = None
    largest: float | None = None
    to_eager: float | None = None
    to_strongest: float | None = None
    peak_mib: float | None = None
    utilisation: float | None = None
    tflops: float | None = None


@dataclass(frozen=True)
class Race:
    """What is raced, where and how long.

    Args:
        sizes: cohorts of ours.
        round_seconds: of a contestant in a round, at least three steps.
    """

    shape: Shape
    device: str
    sizes: Sequence[int]
    round_seconds: float

    def run(self, precision: str, path: Path) -> None:
        """Measure all contestants in one precision, each written to a file of JSON lines as soon as it is done.

        One at a time beside eager: each keeps its memory as long as it is there, and `torch.compile` frees what CUDA
        graphs that it knows nothing of may still use.
        """
        torch.set_num_threads(1)
        first: tuple[Seen, Sprint] | None = None
        for name, n_members, make in self._list(precision):
            seen, sprint = Seen(name, precision, n_members), None
            try:
                if make is None:
                    with start_workers(N_PROCESSES if self.device == "cuda" else 2, self.device) as workers:
                        seen, sprint = self._prepare_processes(seen, workers)
                        seen = self._compare(seen, sprint, first)
                else:
                    seen, sprint = self._prepare(seen, make)
                    first = first or (seen, sprint)
                    seen = self._compare(seen, sprint, first)
            except torch.OutOfMemoryError:
                seen = Seen(name, precision, n_members)
            sprint = make = None  # and with them its memory
            gc.collect()
            if self.device == "cuda":
                torch.cuda.empty_cache()
            with path.open("a") as stream:
                stream.write(json.dumps(asdict(seen)) + "\n")
            print(seen, file=sys.stderr)  # noqa: T201

    def _list(self, precision: str) -> Iterator[tuple[str, int, Callable[[], Step] | None]]:
        """Name, candidates, what prepares its step, or None for several processes; eager first."""
        is_rough, on_gpu = precision == "bfloat16", self.device == "cuda"
        for engine in (EAGER, *([CAPTURED] if on_gpu else []), COMPILED, GROUPED):
            yield engine, count_members(engine), partial(prepare, self.shape, engine, self.device, 0, is_rough)
        if not is_rough:
            yield PROCESSES, 1, None
        # On a CPU our own operation computes in float32 alone.
        engine_of_ours = Engine(is_fused=on_gpu or not is_rough, is_captured=on_gpu, is_bfloat16=is_rough)
        for size in self.sizes:
            yield f"{FUSED}-cohort-{size}", size, partial(self._prepare_ours, size, engine_of_ours)

    def _prepare_ours(self, size: int, engine: Engine) -> Step:
        """The training loop's own step on one batch: of the pattern that all have, and of random ones beside it."""
        candidate = self.shape.candidate(0)
        budget = parse_budget("log", self.shape.layers)
        generator = derive_generator(0, "gpu")
        others = [replace(candidate, pattern=sample_uniform(budget, generator), template=None) for _ in range(size - 1)]
        draws = torch.Generator().manual_seed(0)
        images = torch.randn(self.shape.batch, *self.shape.image, generator=draws).to(self.device)
        labels = torch.randint(0, 10, (self.shape.batch,), generator=draws).to(self.device)
        return prepare_cohort([candidate, *others], images, labels, engine)

    def _prepare(self, seen: Seen, make: Callable[[], Step]) -> tuple[Seen, Sprint]:
        """A contestant's step, its first losses, memory and utilisation. The last of the losses are a graph's."""
        on_gpu = self.device == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        others = torch.cuda.memory_allocated() if on_gpu else 0
        step = make()
        losses = tuple(float(step().flatten()[0]) for _ in range(N_WARM_UP + N_GATE_STEPS))
        sprint = partial(self._time_steps, step, seen.candidates)
        if on_gpu:
            with watch_card() as watched:
                self._time_steps(step, seen.candidates, WATCHED_SECONDS)
            peak = (torch.cuda.max_memory_allocated() - others) / 2**20
            seen = replace(seen, peak_mib=peak, utilisation=watched.utilisation)
        return replace(seen, losses=losses), sprint

    def _prepare_processes(self, seen: Seen, workers: Workers) -> tuple[Seen, Sprint]:
        answers = workers.ask(EAGER, "prepare", self.shape)
        n_steps = max(5, round(self.round_seconds / max(seconds for _, _, seconds in answers)))

        def sprint() -> float:
            return float(sum(n_steps / seconds for seconds in workers.ask(EAGER, "run", n_steps)))

        ((losses, _, _), *_) = answers
        return replace(seen, losses=tuple(losses[0])), sprint

    def _time_steps(self, step: Step, n_members: int, seconds: float | None = None) -> float:
        """Steps of one candidate a second, over at least so many seconds."""
        self._synchronize()
        began, n_steps = time.perf_counter(), 0
        while True:
            for _ in range(N_UNWATCHED):
                step()
            n_steps += N_UNWATCHED
            self._synchronize()
            if (passed := time.perf_counter() - began) >= (seconds or self.round_seconds):
                return n_members * n_steps / passed

    def _synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _compare(self, seen: Seen, sprint: Sprint, first: tuple[Seen, Sprint] | None) -> Seen:
        """Hold a contestant's losses to eager's, then take turns with it."""
        assert first is not None, "eager is measured before the processes"
        eager, against = first
        most = GATE_BFLOAT16 if seen.precision == "bfloat16" else GATE_TF32 if self.device == "cuda" else GATE
        pairs = zip(seen.losses, eager.losses, strict=False)  # a process takes fewer steps first
        if not all(abs(own - other) <= most for own, other in pairs):
            return seen
        rounds = [(sprint(), against()) for _ in range(N_ROUNDS)][1:]
        return replace(seen, gate=True, rates=tuple(own for own, _ in rounds), eager=tuple(one for _, one in rounds))


@dataclass
class Watched:
    """What nvidia-smi said of the first card, again and again.

    Args:
        samples: per cent of the time in which a kernel ran, and MiB in use.
    """

    samples: list[tuple[float, float]] = field(default_factory=list)

    @property
    def utilisation(self) -> float | None:
        """Per cent, the mean; None where there is no nvidia-smi."""
        return statistics.fmean(busy for busy, _ in self.samples) if self.samples else None

    @property
    def peak_mib(self) -> float | None:
        """In use at most, by whomever."""
        return max((used for _, used in self.samples), default=None)


@contextmanager
def watch_card() -> Iterator[Watched]:
    """Ask nvidia-smi within the block."""
    watched = Watched()
    done = threading.Event()

    def sample() -> None:
        command = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
        while not done.wait(0.2):
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                busy, used = map(float, answer.stdout.split(","))
                watched.samples.append((busy, used))

    thread = threading.Thread(target=sample, daemon=True)
    if shutil.which("nvidia-smi"):
        thread.start()
    try:
        yield watched
    finally:
        done.set()
        if thread.is_alive():
            thread.join()


def read_seen(path: Path) -> list[Seen]:
    """What a race wrote, whether or not it came to its end."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [restore_seen(json.loads(line)) for line in lines]


def restore_seen(values: Mapping[str, Any]) -> Seen:
    """What JSON made of it, in which tuples are lists."""
    found: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Seen(**found)


def tabulate(shape: Shape, seen: Sequence[Seen]) -> list[Row]:
    """Ratios paired by round, to what has the same precision."""
    flops = PASSES * shape.batch * predict_cost(shape.candidate(0)).flops
    rows = []
    for one in seen:
        if not one.gate:
            outcome = "other losses" if one.losses else "out of memory"
            rows.append(Row(one.contestant, one.precision, one.candidates, outcome))
            continue
        theirs = [other for other in seen if other.gate and not is_ours(other.contestant)]
        strongest = max(other.to_eager for other in theirs if other.precision == one.precision)
        rate = statistics.median(one.rates)
        speeds = (rate, min(one.rates), max(one.rates), one.to_eager, one.to_eager / strongest)
        rest = (one.peak_mib, one.utilisation, rate * flops / 1e12)
        rows.append(Row(one.contestant, one.precision, one.candidates, "measured", *speeds, *rest))
    return rows
