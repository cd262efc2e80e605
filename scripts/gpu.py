"""Measure what cohorts are worth on a GPU; write docs/gpu.md, gpu.csv and gpu.json, which name the card.

python scripts/gpu.py --data FOLDER, with nothing else on the card. It ends within ten minutes: each part has the rest
of that time, writes its results when it is done, and can be measured separately (--part), which keeps the others.
--device cpu --quick --to FOLDER runs all of it without a GPU, in two minutes.
"""

import argparse
import csv
import json
import multiprocessing
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from gpu_race import N_ROUNDS, Race, Row, read_seen, restore_seen, tabulate, watch_card
from shared import DOCS, ROOT, format_csv, format_row

from nas.bench.gates import GATE_TF32
from nas.bench.shapes import Shape
from nas.data.readers import load_data
from nas.data.splits import split_data
from nas.engines.native import has_bfloat16
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.records.safe_files import write_atomic
from nas.settings.environment import describe_versions
from nas.training.stepping import Engine
from nas.training.train import Member, train_cohort
from search_spaces.budget import parse_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

PARTS = ("bfloat16", "study", "precision", "search", "float32")  # in the order of measurement
ABOUT = {
    "bfloat16": "speed in bfloat16",
    "float32": "speed in float32",
    "precision": "accuracies in bfloat16 against float32",
    "search": "a search by several workers on one card",
    "study": "a study on all of Fashion-MNIST",
}
SECONDS_TO_END = 20  # for a process that has been told to stop


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Args:
        race: the comparison of speeds.
        precision: candidates, training images and epochs of the comparison of precisions.
        search, study: flags of the two commands.
    """

    race: Race
    precision: tuple[int, int, int]
    search: str
    study: str


def plan_all(device: str) -> Plan:
    """Return the plan at full size, for a GPU."""
    shape = Shape("32x32", (3, 32, 32), layers=24, growth=16, batch=128)
    return Plan(
        Race(shape, device, sizes=(1, 4, 16, 64), round_seconds=0.15),
        precision=(20, 600, 30),
        search="--strategy random --layers 24 --growth 16 --trials 32 --seeds 2 --epochs 9 --cohort 8 --engine fused "
        "--precision bfloat16 --workers 4 --gpus-per-worker 0.25",
        # 60 patterns of one in-degree profile: three cohorts share one graph.
        study="--dataset fashion-mnist --layers 24 --growth 4 --batch-size 128 --seeds 3 --cross mean_bd,span "
        "--bins 9,3 --per-cell 1 --optima 4 --trials 20 --regime lr0.15=lr:0.15,epochs:2 --engine fused "
        "--precision bfloat16 --cohort 60 --workers 1 --checkpoint-seconds 600",
    )


def plan_quick(device: str) -> Plan:
    """Return the smallest plan, to see that all of it runs."""
    small = "--layers 12 --growth 2 --train-examples 64 --batch-size 32"
    return Plan(
        Race(Shape("digits", (1, 8, 8), layers=4, growth=4, batch=16), device, sizes=(1, 3), round_seconds=0.02),
        precision=(2, 64, 1),
        search=f"{small} --strategy random --trials 2 --seeds 1 --epochs 1 --cohort 2 --workers 2",
        study=f"{small} --seeds 2 --cross mean_bd,span --bins 2,2 --per-cell 1 --optima 1 --trials 3 --epochs 1 "
        "--cohort 8 --workers 1",
    )


def compare_precisions(device: str, n: int, n_train: int, n_epochs: int, path: Path) -> None:
    """Compare accuracies of candidates in float32, in float32 with other batches, and in bfloat16; write a sentence."""
    data = load_data("digits", None)
    network = Shape("digits", data.image, layers=24, growth=8).candidate(0).network
    generator = derive_generator(0, "precision")
    budget = parse_budget("log", 24)
    candidates = [Candidate(sample_uniform(budget, generator), network, 0) for _ in range(n)]
    split = split_data(data, 0, n_train, device)
    order = torch.randperm(n_train, generator=torch.Generator().manual_seed(1)).to(device)
    other = replace(split, train_images=split.train_images[order], train_labels=split.train_labels[order])
    exact = Engine(is_fused=True, is_captured=device == "cuda")
    rough = replace(exact, is_bfloat16=True, is_fused=device == "cuda" or has_bfloat16())
    config = TrainingConfig(epochs=n_epochs, batch_size=64)
    accuracies = []
    for data_split, engine in ((split, exact), (split, rough), (other, exact)):
        members = [Member(candidate, data_split) for candidate in candidates]
        outcomes = train_cohort(members, config, engine=engine)
        accuracies.append([outcome.metrics.get("validation_accuracy", 0.0) for outcome in outcomes])
    in_float32, in_bfloat16, in_other_order = accuracies

    def differ(others: Sequence[float]) -> str:
        differences = [a - b for a, b in zip(others, in_float32, strict=True)]
        deviation = statistics.fmean(d * d for d in differences) ** 0.5
        return f"mean difference {statistics.fmean(differences):+z.4f}, root mean square {deviation:.4f}"

    path.write_text(
        f"{n} random patterns of digits (log, 24 layers, growth 8, {n_train} images, {n_epochs} epochs; mean accuracy "
        f"{statistics.fmean(in_float32):.3f}), trained in bfloat16 and in float32: {differ(in_bfloat16)}; float32 with "
        f"the training images in another order: {differ(in_other_order)}."
    )


def run_command(command: str, flags: Sequence[str], data: Sequence[str], run: Path, seconds: float) -> str:
    """Run a command of run_search.py, told to stop when its time is up; return a sentence."""
    arguments = [sys.executable, str(ROOT / "run_search.py"), command, "--run", str(run), *flags, *data]
    began = time.perf_counter()
    with watch_card() as watched:
        process = subprocess.Popen(arguments, stdout=sys.stderr)
        try:
            code = process.wait(max(1.0, seconds - SECONDS_TO_END))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = process.wait(SECONDS_TO_END)
    passed = time.perf_counter() - began
    shown = " ".join(flags)
    table = run / "report" / "candidates.csv"
    if code or not table.exists():
        return f"`{command} {shown}` ended after {passed:.0f} s with exit code {code}, unfinished."
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    accuracies = [float(row["validation_accuracy"]) for row in rows if row["validation_accuracy"]]
    return (
        f"`{command} {shown}`: {len(accuracies)} of {len(rows)} trainings complete in {passed:.0f} s, accuracies "
        f"{min(accuracies, default=0):.3f} to {max(accuracies, default=0):.3f}; the card was busy "
        f"{_format(watched.utilisation, 0)} % of the time, with {_format(watched.peak_mib, 0)} MiB in use at most."
    )


def run_within(seconds: float, target: Callable[..., None], *arguments: Any) -> str | None:
    """Call in a separate process, so an error ends only its CUDA context; return why it did not finish, if so."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join(max(1.0, seconds))
    if process.is_alive():
        process.terminate()
        process.join()
        return "out of time"
    return f"exit code {process.exitcode}" if process.exitcode else None


def measure(part: str, plan: Plan, data: Sequence[str], seconds: float) -> dict[str, Any]:
    """Measure one part; return what was seen of each contestant, or a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path, run = Path(folder) / "results", Path(folder) / "run"
        device = plan.race.device
        if part in ("bfloat16", "float32"):
            problem = run_within(seconds, plan.race.run, part, path)
            text = f"Of {ABOUT[part]} not all was measured: {problem}." if problem else ""
            return {"seen": [asdict(seen) for seen in read_seen(path)], "text": text}
        if part == "precision":
            problem = run_within(seconds, compare_precisions, device, *plan.precision, path)
            return {"text": f"No {ABOUT[part]}: {problem}." if problem else path.read_text()}
        flags = ["--device", device, *getattr(plan, part).split()]
        return {"text": run_command(part, flags, data if part == "study" else [], run, seconds)}


def describe_place(device: str) -> str:
    """Return the card and the versions."""
    versions = describe_versions(("torch",))
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return f"{card}, Python {versions['python']}, torch {versions['torch']}, commit {versions['commit']}"


def format_page(plan: Plan, results: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return the page."""
    places: dict[str, list[str]] = {}
    for part, result in results.items():
        places.setdefault(result["place"], []).append(ABOUT[part])
    missing = [ABOUT[part] for part in PARTS if part not in results]
    lines = ["# Cohorts on a GPU", ""]
    lines += [f"{place}: {', '.join(parts)}." for place, parts in places.items()]
    lines += [f"Not measured: {', '.join(missing)}."] if missing else []
    lines += [
        "",
        f"{plan.race.shape}: training steps of one candidate a second, over all candidates trained together in one "
        f"process, cohorts of different random patterns; medians (least to largest) of {N_ROUNDS - 1} rounds that take "
        "it and eager in turn. Ratios are to eager, paired by round, and to the strongest of PyTorch's in the same "
        "precision, from those ratios; compilation is not counted. First losses were held to eager's. On a GPU float32 "
        f"is multiplied as TF32, as torch has it by default, so within {GATE_TF32:g} nats.",
        "",
        "| contestant | precision | candidates | steps/s | to eager | to the strongest | peak MiB | busy % | TFLOP/s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row.contestant, row.precision, str(row.candidates)]
        if row.steps_per_second is None:
            cells += [row.outcome, *[""] * 5]
        else:
            cells += [
                f"{row.steps_per_second:.1f} ({row.least:.1f} to {row.largest:.1f})",
                *(_format(value, digits) for value, digits in (
                    (row.to_eager, 2), (row.to_strongest, 2), (row.peak_mib, 0), (row.utilisation, 0), (row.tflops, 2),
                )),
            ]  # fmt: skip
        lines.append(format_row(*cells))
    for part in PARTS:
        if text := results.get(part, {}).get("text"):
            lines += ["", text]
    return "\n".join(lines) + "\n"


def _format(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def save(plan: Plan, results: Mapping[str, Any], to: Path) -> str:
    """Write all three files; return the page."""
    seen = [
        restore_seen(values) for part in ("bfloat16", "float32") for values in results.get(part, {}).get("seen", [])
    ]
    rows = tabulate(plan.race.shape, seen)
    table = format_csv([asdict(row) for row in rows], [field.name for field in fields(Row)])
    page = format_page(plan, results, rows)
    for name, text in (("gpu.json", json.dumps(results, indent=1)), ("gpu.csv", table), ("gpu.md", page)):
        write_atomic(to / name, text)
    return page


def main() -> None:
    """Measure part after part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="a part to measure; may be repeated; all by default"
    )
    parser.add_argument("--minutes", type=float, default=9.5, help="when to end")
    parser.add_argument("--data", type=Path, help="the folder of Fashion-MNIST, for the study")
    parser.add_argument("--quick", action="store_true", help="small shapes and few rounds, to see that all of it runs")
    parser.add_argument("--to", type=Path, default=DOCS, help="where to write")
    arguments = parser.parse_args()
    device, to, began = arguments.device, arguments.to, time.monotonic()
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here: --device cpu --quick --to FOLDER goes through all of it without one")
    if (device == "cpu" or arguments.quick) and to == DOCS:
        sys.exit("docs is for what a GPU has measured at full size: give --to FOLDER")
    plan = plan_quick(device) if arguments.quick else plan_all(device)
    to.mkdir(parents=True, exist_ok=True)
    results = json.loads((to / "gpu.json").read_text()) if (to / "gpu.json").exists() else {}
    place, page = describe_place(device), ""
    for part in arguments.part or PARTS:
        left = 60 * arguments.minutes - (time.monotonic() - began)
        if left < SECONDS_TO_END:
            print(f"no time left for {ABOUT[part]}", file=sys.stderr)  # noqa: T201
            continue
        data = ["--data", str(arguments.data)] if arguments.data else []
        results[part] = {"place": place, **measure(part, plan, data, left)}
        page = save(plan, results, to)
    print(page or "nothing was measured: give more --minutes")  # noqa: T201


if __name__ == "__main__":
    main()
