"""What cohorts are worth on a GPU, as a page that names the card: docs/gpu.csv and docs/gpu.md.

python scripts/gpu.py, with nothing else on the card; made to end within ten minutes. --device cpu --quick goes through
all of it on a CPU, in a minute, and writes nothing but what it prints.
"""

import argparse
import csv
import io
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from nas.bench_workers import N_GATE_STEPS, Workers, start_workers
from nas.benchmark import GATE
from nas.candidate import Candidate, TrainingConfig
from nas.contestants import (
    CAPTURED,
    COMPILED,
    EAGER,
    GROUPED,
    Shape,
    count_members,
    prepare,
    prepare_cohort,
)
from nas.cost import predict_cost
from nas.data import Split, split_data
from nas.environment import describe_versions
from nas.readers import load_data
from nas.stepping import N_WARM_UP, Engine
from nas.train import Member, train_cohort
from search_spaces.budget import parse_budget
from search_spaces.files import write_atomic
from search_spaces.sampling import derive_generator, sample_uniform

ROOT = Path(__file__).parents[1]
SHAPE = Shape("32x32", (3, 32, 32), layers=24, growth=16, batch=128)
SIZES = (1, 4, 16, 64)
MOST_PLAIN = 16  # candidates by grouped convolutions: more take minutes
N_ROUNDS = 4  # the first is dropped
N_UNWATCHED = 3  # steps between two looks at the clock
N_PROCESSES = 4
PROCESSES = "eager, one process a candidate"
N_CANDIDATES = 20  # trained in both precisions
PASSES = 3  # a step's work in forward passes
GATE_BFLOAT16 = 0.05  # nats


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant.

    Args:
        candidates: trained together, in one process.
        steps_per_second: of one candidate, over all of them: median, least and largest of the rounds.
        to_eager: ratio to eager in the same precision, paired by round: median.
        to_strongest: the same over the largest such ratio that is not ours.
        peak_mib: of memory on the card, most at a time.
        utilisation: per cent of the time in which a kernel ran, as the driver tells; nan where none does.
        tflops: a second, of convolutions and the classifier, a backward pass being two forward.
        gate: whether the losses of the first steps are eager's.
    """

    contestant: str
    precision: str
    candidates: int
    gate: bool
    steps_per_second: float = float("nan")
    least: float = float("nan")
    largest: float = float("nan")
    to_eager: float = float("nan")
    to_strongest: float = float("nan")
    peak_mib: float = float("nan")
    utilisation: float = float("nan")
    tflops: float = float("nan")


@dataclass(slots=True)
class Contestant:
    """A step that can be taken over and over, and what was seen of it."""

    name: str
    precision: str
    n_members: int
    make: Callable[[], Callable[[], Tensor]]
    gate: bool = False
    rounds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    peak_bytes: int = 0
    utilisation: float = float("nan")

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("skipsearch")

    def to_eager(self) -> float:
        """Ratio of rates in the same rounds, their median."""
        pairs = zip(self.rates(self.name), self.rates(EAGER), strict=True)
        return statistics.median(own / eager for own, eager in pairs)

    def rates(self, name: str) -> tuple[float, ...]:
        """Steps of one candidate a second of what is called so, in the rounds of this contestant."""
        n_members = self.n_members if name == self.name else count_members(name)
        return tuple(n_members * rate for rate in self.rounds[name])


def list_contestants(shape: Shape, device: str, sizes: Sequence[int]) -> list[Contestant]:
    """All of them; on a CPU those that it has."""
    on_gpu = device == "cuda"
    found = []
    for precision in ("float32", "bfloat16"):
        is_rough = precision == "bfloat16"
        plain = Engine(is_captured=on_gpu, is_bfloat16=is_rough)
        fused = replace(plain, is_fused=True)
        theirs = [EAGER, *([CAPTURED] if on_gpu else []), COMPILED, GROUPED]
        makers = [(one, count_members(one), partial(prepare, shape, one, device, 0, is_rough)) for one in theirs]
        if not is_rough:
            makers.insert(1, (PROCESSES, 1, makers[0][2]))
        makers += [
            (f"skipsearch-cohort-{n}", n, partial(prepare_ours, shape, n, plain, device))
            for n in sizes
            if n <= MOST_PLAIN
        ]
        if on_gpu or not is_rough:
            makers += [
                (f"skipsearch-fused-cohort-{n}", n, partial(prepare_ours, shape, n, fused, device)) for n in sizes
            ]
        found += [Contestant(name, precision, n_members, make) for name, n_members, make in makers]
    return found


def prepare_ours(shape: Shape, size: int, engine: Engine, device: str) -> Callable[[], Tensor]:
    """The training loop's own step on one batch: of the named pattern alone, or of random ones beside it."""
    first = shape.candidate(0)
    budget = parse_budget("log", shape.layers)
    generator = derive_generator(0, "gpu")
    others = [replace(first, pattern=sample_uniform(budget, generator), template=None) for _ in range(size - 1)]
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(shape.batch, *shape.image, generator=draws).to(device)
    labels = torch.randint(0, 10, (shape.batch,), generator=draws).to(device)
    return prepare_cohort([first, *others], images, labels, engine)


def synchronize(device: str) -> None:
    """Wait for the card."""
    if device == "cuda":
        torch.cuda.synchronize()


def race(shape: Shape, device: str, sizes: Sequence[int], round_seconds: float) -> list[Contestant]:
    """First whether each computes what eager does, then rates, in rounds that take eager and one other in turn.

    One at a time: each keeps its memory as long as it is there, and compiled ones have CUDA graphs of their own.
    """
    contestants = list_contestants(shape, device, sizes)
    with start_workers(N_PROCESSES if device == "cuda" else 2, device) as workers:
        for precision in ("float32", "bfloat16"):
            expected: list[float] = []
            sprints: dict[str, Callable[[], float]] = {}
            for one in (one for one in contestants if one.precision == precision):
                if not pass_gate(one, expected):
                    continue
                try:
                    sprint = prepare_sprint(one, shape, device, workers, round_seconds)
                    sprints.setdefault(EAGER, sprint)  # which is the first
                    run_rounds(one, {**sprints, one.name: sprint})
                    del sprint
                except torch.OutOfMemoryError:  # twice over, or beside eager
                    one.gate = False
    return contestants


def prepare_sprint(
    one: Contestant, shape: Shape, device: str, workers: Workers, round_seconds: float
) -> Callable[[], float]:
    """What takes a contestant's steps for a while and gives their rate; notes its memory and utilisation."""
    if one.name == PROCESSES:
        slowest = max(seconds for _, _, seconds in workers.ask(EAGER, "prepare", shape))
        return partial(time_processes, workers, max(5, round(round_seconds / slowest)))
    one.peak_bytes, one.utilisation = watch(one.make, device)
    return partial(time_steps, one.make(), device, round_seconds)


def run_rounds(one: Contestant, sprints: Mapping[str, Callable[[], float]]) -> None:
    """Keep what all came to in the same rounds, the first dropped."""
    rounds = [{name: sprint() for name, sprint in sprints.items()} for _ in range(N_ROUNDS)][1:]
    one.rounds = {name: tuple(each[name] for each in rounds) for name in sprints}


def pass_gate(one: Contestant, expected: list[float]) -> bool:
    """Whether a contestant's first losses are those of the first of all, eager; the last of them are a graph's.

    Without TF32, which rounds a convolution in other ways wherever another algorithm is chosen.
    """
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        step = one.make()
        losses = [float(step().flatten()[0]) for _ in range(N_WARM_UP + N_GATE_STEPS)]
    except torch.OutOfMemoryError:
        print(f"{one.name} {one.precision}: out of memory", file=sys.stderr)  # noqa: T201
        return False
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    expected += losses if not expected else []
    most = GATE if one.precision == "float32" else GATE_BFLOAT16
    one.gate = all(abs(own - other) <= most for own, other in zip(losses, expected, strict=True))
    print(f"{one.name} {one.precision}: losses {losses}", file=sys.stderr)  # noqa: T201
    return one.gate


def time_steps(step: Callable[[], Tensor], device: str, seconds: float) -> float:
    """Steps a second, over at least so many seconds."""
    synchronize(device)
    began, n_steps = time.perf_counter(), 0
    while True:
        for _ in range(N_UNWATCHED):
            step()
        n_steps += N_UNWATCHED
        synchronize(device)
        if (passed := time.perf_counter() - began) >= seconds:
            return n_steps / passed


def time_processes(workers: Workers, n_steps: int) -> float:
    """Steps a second of all processes together."""
    return float(sum(n_steps / seconds for seconds in workers.ask(EAGER, "run", n_steps)))


def watch(make: Callable[[], Callable[[], Tensor]], device: str) -> tuple[int, float]:
    """Peak memory in bytes and utilisation in per cent of a contestant that has the card to itself."""
    if device != "cuda":
        return 0, float("nan")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    others = torch.cuda.memory_allocated()
    step = make()
    for _ in range(N_WARM_UP + 2):
        step()
    with sample_utilisation() as samples:
        time_steps(step, device, 0.8)
    return torch.cuda.max_memory_allocated() - others, statistics.fmean(samples) if samples else float("nan")


@contextmanager
def sample_utilisation() -> Iterator[list[float]]:
    """What nvidia-smi says of the first card, again and again within the block."""
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        command = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not done.wait(0.2):
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                samples.append(float(answer.stdout.strip()))

    thread = threading.Thread(target=sample, daemon=True)
    if shutil.which("nvidia-smi"):
        thread.start()
    try:
        yield samples
    finally:
        done.set()
        if thread.is_alive():
            thread.join()


def tabulate(shape: Shape, contestants: Sequence[Contestant]) -> list[Row]:
    """Ratios paired by round, to what has the same precision."""
    rows = []
    flops = PASSES * shape.batch * predict_cost(shape.candidate(0)).flops
    for one in contestants:
        if not one.rounds:
            rows.append(Row(one.name, one.precision, one.n_members, one.gate))
            continue
        own = one.rates(one.name)
        rate, to_eager = statistics.median(own), one.to_eager()
        strongest = max(
            other.to_eager()
            for other in contestants
            if other.rounds and not other.is_ours and other.precision == one.precision
        )
        speeds = (rate, min(own), max(own), to_eager, to_eager / strongest)
        seen = (one.peak_bytes / 2**20, one.utilisation, rate * flops / 1e12)
        rows.append(Row(one.name, one.precision, one.n_members, one.gate, *speeds, *seen))
    return rows


def compare_precisions(device: str, n: int, config: TrainingConfig, n_train: int) -> str:
    """Accuracies of the same candidates in float32, in float32 with other batches, and in bfloat16, in a sentence."""
    data = load_data("digits", None)
    network = Shape("digits", data.image, layers=24, growth=8).candidate(0).network
    generator = derive_generator(0, "precision")
    budget = parse_budget("log", 24)
    candidates = [Candidate(sample_uniform(budget, generator), network, 0) for _ in range(n)]
    split = split_data(data, 0, n_train, device)
    permuted = torch.randperm(n_train, generator=torch.Generator().manual_seed(1)).to(device)
    reordered: Split = replace(
        split, train_images=split.train_images[permuted], train_labels=split.train_labels[permuted]
    )
    found = {}
    for name, own, engine in (
        ("float32", split, Engine()),
        ("permuted", reordered, Engine()),
        ("bfloat16", split, Engine(is_bfloat16=True)),
    ):
        outcomes = train_cohort([Member(one, own) for one in candidates], config, engine=engine)
        found[name] = [one.validation_accuracy or 0.0 for one in outcomes]

    def differ(name: str) -> str:
        differences = [a - b for a, b in zip(found[name], found["float32"], strict=True)]
        return (
            f"mean difference {statistics.fmean(differences):+.4f}, root mean square "
            f"{statistics.fmean(d * d for d in differences) ** 0.5:.4f}"
        )

    return (
        f"{n} random patterns of digits (log, 24 layers, growth 8, {n_train} images, {config.epochs} epochs), trained "
        f"in bfloat16 and in float32: {differ('bfloat16')}; float32 with the training images in another order: "
        f"{differ('permuted')}."
    )


def search_through_ray(device: str, flags: Sequence[str]) -> str:
    """A search by four workers on the one card, or two on a CPU, in a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        workers = ["--workers", "4", "--gpus-per-worker", "0.25"] if device == "cuda" else ["--workers", "2"]
        command = ["search", "--run", f"{folder}/run", "--device", device, *workers, *flags]
        began = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "run_search.py"), *command], check=True, stdout=sys.stderr)
        seconds = time.perf_counter() - began
        with (Path(folder) / "run" / "report" / "candidates.csv").open() as stream:
            states = [row["state"] for row in csv.DictReader(stream)]
    shown = " ".join(command[3:])
    return f"`search {shown}`: {states.count('complete')} of {len(states)} trainings complete in {seconds:.0f} s."


def format_page(shape: Shape, rows: Sequence[Row], card: str, sentences: Sequence[str]) -> str:
    """Markdown."""
    versions = describe_versions(("torch",))
    lines = [
        "# Cohorts on a GPU",
        "",
        f"{card}, Python {versions['python']}, torch {versions['torch']}, commit {versions['commit']}; by "
        f"`scripts/gpu.py`. {shape}: training steps of one candidate a second, over all candidates trained together in "
        f"one process; medians of {N_ROUNDS - 1} rounds that take it and eager in turn. Ratios are to eager, paired by "
        "round, and to the strongest of PyTorch's in the same precision, from those ratios (compilation not counted). "
        "First the losses of "
        f"{N_WARM_UP + N_GATE_STEPS} steps were held to eager's, within {GATE:g} nats in float32 and {GATE_BFLOAT16:g} "
        "in bfloat16; without TF32, which is on for the speeds, as torch has it. Memory is its own.",
        "",
        "| contestant | precision | candidates | steps/s | to eager | to the strongest | peak MiB | busy % | TFLOP/s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row.contestant, row.precision, str(row.candidates)]
        if not row.gate:
            lines.append(f"| {' | '.join(cells)} | other losses, or out of memory | | | | | |")
            continue
        cells += [
            f"{row.steps_per_second:.1f} ({row.least:.1f} to {row.largest:.1f})", f"{row.to_eager:.2f}",
            f"{row.to_strongest:.2f}", f"{row.peak_mib:.0f}", f"{row.utilisation:.0f}", f"{row.tflops:.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for sentence in sentences:
        lines += ["", sentence]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write both files on a GPU; on a CPU print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a small shape and few rounds, to see that all of it runs")
    arguments = parser.parse_args()
    device: str = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here: --device cpu --quick goes through all of it without one")
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    if arguments.quick:
        shape, seconds = Shape("digits", (1, 8, 8), layers=4, growth=4, batch=16), 0.05
        sizes: tuple[int, ...] = (1, 3)
        compared = (2, TrainingConfig(epochs=1, batch_size=32), 64)
        flags = "--layers 4 --growth 4 --trials 2 --seeds 1 --epochs 1 --train-examples 64 --cohort 2"
    else:
        shape, sizes, seconds = SHAPE, SIZES, 0.15
        compared = (N_CANDIDATES, TrainingConfig(epochs=9, batch_size=64), 600)
        flags = (
            "--layers 24 --growth 16 --trials 32 --seeds 2 --epochs 9 --cohort 8 --engine fused --precision bfloat16"
        )
    rows = tabulate(shape, race(shape, device, sizes, seconds))
    save(rows, format_page(shape, rows, card, []), device == "cuda" and not arguments.quick)
    precision = compare_precisions(device, *compared)
    is_kept = device == "cuda" and not arguments.quick
    save(rows, format_page(shape, rows, card, [precision]), is_kept)  # whatever becomes of the search
    text = format_page(shape, rows, card, [precision, search_through_ray(device, flags.split())])
    save(rows, text, is_kept)
    print(text)  # noqa: T201


def save(rows: Sequence[Row], text: str, is_kept: bool) -> None:
    """Write both files, if they are to be kept."""
    if is_kept:
        table = io.StringIO()
        writer = csv.DictWriter(table, asdict(rows[0]))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
        write_atomic(ROOT / "docs" / "gpu.csv", table.getvalue())
        write_atomic(ROOT / "docs" / "gpu.md", text)


if __name__ == "__main__":
    main()
