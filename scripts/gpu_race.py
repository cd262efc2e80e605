"""Training steps of our engines and PyTorch's in paired rounds, for the table of gpu.py."""

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

from nas.bench.benchmark import PASSES
from nas.bench.contestants import (
    CAPTURED,
    COMPILED,
    EAGER,
    FUSED,
    GROUPED,
    Contestant,
    Precision,
    Step,
    prepare,
    prepare_cohort,
)
from nas.bench.gates import GATE, GATE_BFLOAT16, GATE_TF32
from nas.bench.shapes import Shape
from nas.bench.workers import N_GATE_STEPS, WorkerPool, start_workers
from nas.model.cost import predict_cost
from nas.training.stepping import N_WARM_UP, Engine
from search_spaces.budget import parse_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

N_ROUNDS = 7  # the first is dropped
N_UNWATCHED = 3  # steps between two readings of the clock
N_PROCESSES = 4
PROCESSES = "eager, one process a candidate"
WATCHED_SECONDS = 0.8

Sprint = Callable[[], float]  # takes steps for a while and returns their rate, of one candidate


@dataclass(frozen=True, slots=True)
class Seen:
    """Measurements of one contestant.

    Args:
        candidates: number of candidates trained together, in one process.
        losses: losses of its first steps, in nats.
        gate: whether these are eager's; if not, it has no speed.
        rates: candidates' steps a second over all of them, round by round.
        eager: eager's rates in the same rounds.
        peak_mib: largest memory on the card, in MiB; None if it is not counted.
        utilisation: per cent of the time in which a kernel ran, by the driver; None if it does not say.
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
        """The median of the ratios of rates in the same rounds."""
        return statistics.median(own / eager for own, eager in zip(self.rates, self.eager, strict=True))


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant's row of the table.

    Args:
        outcome: "measured", or why there is no speed.
        steps_per_second, least, largest: candidates' steps a second over all of them: median and range of the rounds.
        to_eager: median ratio to eager in the same precision, paired by round.
        to_strongest: to_eager over the largest to_eager of a contestant that is not ours.
        tflops: TFLOPs a second of convolutions and the classifier, a backward pass counted as two forward.
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
    """The contest: network, device and times.

    Args:
        shape: the network.
        device: device of all contestants.
        sizes: sizes of our cohorts.
        round_seconds: time of a contestant in a round, at least three steps.
    """

    shape: Shape
    device: str
    sizes: Sequence[int]
    round_seconds: float

    def run(self, precision: Precision, path: Path) -> None:
        """Measure all contestants in one precision; write each to a file of JSON lines as soon as it is done.

        Only one exists at a time, besides eager: each keeps its memory while it exists, and `torch.compile` frees
        memory that CUDA graphs unknown to it may still use.
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

    def _list(self, precision: Precision) -> Iterator[tuple[str, int, Callable[[], Step] | None]]:
        """Yield name, number of candidates, and the function that prepares the step (None: processes); eager first."""
        is_rough, on_gpu = precision == "bfloat16", self.device == "cuda"
        for engine in (EAGER, *([CAPTURED] if on_gpu else []), COMPILED, GROUPED):
            contestant = Contestant(engine, precision)
            yield engine, contestant.n_members, partial(prepare, self.shape, contestant, self.device)
        if not is_rough:
            yield PROCESSES, 1, None
        # On a CPU our own operation computes only in float32.
        engine_of_ours = Engine(is_fused=on_gpu or not is_rough, is_captured=on_gpu, is_bfloat16=is_rough)
        for size in self.sizes:
            yield f"{FUSED}-cohort-{size}", size, partial(self._prepare_ours, size, engine_of_ours)

    def _prepare_ours(self, size: int, engine: Engine) -> Step:
        """Prepare the training loop's own step on one batch, for the pattern that all have and further random ones."""
        candidate = self.shape.candidate(0)
        budget = parse_budget("log", self.shape.layers)
        generator = derive_generator(0, "gpu")
        others = [replace(candidate, pattern=sample_uniform(budget, generator), template=None) for _ in range(size - 1)]
        draws = torch.Generator().manual_seed(0)
        images = torch.randn(self.shape.batch, *self.shape.image, generator=draws).to(self.device)
        labels = torch.randint(0, 10, (self.shape.batch,), generator=draws).to(self.device)
        return prepare_cohort([candidate, *others], images, labels, engine)

    def _prepare(self, seen: Seen, make: Callable[[], Step]) -> tuple[Seen, Sprint]:
        """Prepare a contestant's step; measure first losses (the last of them a graph's), memory and utilisation."""
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

    def _prepare_processes(self, seen: Seen, workers: WorkerPool) -> tuple[Seen, Sprint]:
        answers = workers.ask(Contestant(EAGER), "prepare", self.shape)
        n_steps = max(5, round(self.round_seconds / max(answer.step_seconds for answer in answers)))

        def sprint() -> float:
            return float(sum(n_steps / timed.clock for timed in workers.ask(Contestant(EAGER), "run", n_steps)))

        return replace(seen, losses=tuple(answers[0].losses[0])), sprint

    def _time_steps(self, step: Step, n_members: int, seconds: float | None = None) -> float:
        """Return candidates' steps a second, over at least so many seconds."""
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
        """Check a contestant's losses against eager's, then let both take turns."""
        assert first is not None, "eager is measured before the processes"
        eager, against = first
        most = GATE_BFLOAT16 if seen.precision == "bfloat16" else GATE_TF32 if self.device == "cuda" else GATE
        pairs = zip(seen.losses, eager.losses, strict=False)  # a process takes fewer steps first
        if not all(abs(own - other) <= most for own, other in pairs):
            return seen
        rounds = [(sprint(), against()) for _ in range(N_ROUNDS)][1:]
        return replace(seen, gate=True, rates=tuple(own for own, _ in rounds), eager=tuple(rate for _, rate in rounds))


@dataclass
class Watched:
    """Samples of the first card by nvidia-smi.

    Args:
        samples: per cent of the time in which a kernel ran, and MiB in use, of each sample.
    """

    samples: list[tuple[float, float]] = field(default_factory=list)

    @property
    def utilisation(self) -> float | None:
        """The mean per cent; None without nvidia-smi."""
        return statistics.fmean(busy for busy, _ in self.samples) if self.samples else None

    @property
    def peak_mib(self) -> float | None:
        """The largest memory in use, by any process."""
        return max((used for _, used in self.samples), default=None)


@contextmanager
def watch_card() -> Iterator[Watched]:
    """Sample the card within the block."""
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
    """Read what a race wrote, whether or not it finished."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [restore_seen(json.loads(line)) for line in lines]


def restore_seen(values: Mapping[str, Any]) -> Seen:
    """Restore measurements from JSON, in which tuples are lists."""
    restored: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Seen(**restored)


def tabulate(shape: Shape, seen: Sequence[Seen]) -> list[Row]:
    """Return the table, with ratios paired by round and to contestants of the same precision."""
    flops = PASSES * shape.batch * predict_cost(shape.candidate(0)).flops
    rows = []
    for own in seen:
        contestant = (own.contestant, own.precision, own.candidates)
        if not own.gate:
            rows.append(Row(*contestant, "other losses" if own.losses else "out of memory"))
            continue
        theirs = [other for other in seen if other.gate and not Contestant(other.contestant).is_ours]
        strongest = max(other.to_eager for other in theirs if other.precision == own.precision)
        rate = statistics.median(own.rates)
        speeds = (rate, min(own.rates), max(own.rates), own.to_eager, own.to_eager / strongest)
        rows.append(Row(*contestant, "measured", *speeds, own.peak_mib, own.utilisation, rate * flops / 1e12))
    return rows
