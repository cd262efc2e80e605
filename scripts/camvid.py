"""Compare wirings for segmentation on test images: log, the nearest layers, and FC-DenseNet's own.

python scripts/camvid.py FOLDER|FILE.npz [--layers N] [--growth K] [--epochs E] [--batch-size B] [--lr LR] [--seeds S]
    [--device cpu|cuda] [--to FILE.json]

log and nearest span all five blocks of Log-DenseNet's network for segmentation, and have equally many parameters.
FC-DenseNet's blocks are dense, and its growth is chosen so that it has as many parameters as log, as nearly as a whole
number allows. Every training is measured once on the test images, after its last epoch; nothing is chosen by them.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import format_row
from torch import nn

from analysis.page.wording import format_difference, format_estimate, share_digits
from analysis.stats.intervals import SHARE, SHARES_APART, student_interval
from nas.model.config import TrainingConfig
from nas.records.safe_files import format_json, write_atomic
from nas.tasks.candidate import TaskCandidate, TaskPattern, Transition
from nas.tasks.loaded import LoadedTask, make_task
from nas.tasks.reference import read_source
from nas.tasks.segmentation.task import PixelBatch, SegmentationTask
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template

BLOCKS, MAX_GROWTH = 5, 200
REFERENCE = "log"


class TestedSegmentation(SegmentationTask):
    """A segmentation that is measured on the test images too, once its training has ended."""

    def describe_training(self, network: nn.Module, batches: Iterable[PixelBatch]) -> dict[str, Any]:
        """Return what a report shows, and the metrics on the test images."""
        device = next(network.parameters()).device
        parts = (torch.split(part, 16) for part in self.scale(self.pixels.test))
        test = ((images.to(device), masks.to(device)) for images, masks in zip(*parts, strict=True))
        return {**super().describe_training(network, batches), "test": self.evaluate(network, test)}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A wiring and the network around it.

    Args:
        name: what the table calls it.
        task: the network's settings and the data.
        pattern: its connections.
        transition: what is read of them at the end: of FC-DenseNet, what leaves each block.
    """

    name: str
    task: LoadedTask
    pattern: ConnectionPattern
    transition: Transition

    @property
    def params(self) -> int:
        """Number of its parameters."""
        params: int = self.task.target.cost(TaskPattern.of(self.pattern, self.transition)).params
        return params


def list_contestants(file: Path, layers: int, growth: int) -> list[Contestant]:
    """Return log and the nearest layers, and FC-DenseNet of the growth that comes nearest to log's parameters."""
    own = [f"file={file}", f"blocks={BLOCKS}"]
    spanning = load(*own, f"growth={growth}")
    templates = {REFERENCE: "log", "nearest": "nearest_log_i"}
    contestants = [
        Contestant(name, spanning, find_template(template).build(layers), "log") for name, template in templates.items()
    ]
    dense = find_template("dense").build(layers // BLOCKS)

    def make(own_growth: int) -> Contestant:
        settings = (*own, "surroundings=fc-densenet", f"growth={own_growth}")
        return Contestant(f"FC-DenseNet, growth {own_growth}", load(*settings), dense, "all")

    wanted = contestants[0].params
    return [*contestants, min(map(make, range(1, MAX_GROWTH)), key=lambda each: abs(each.params - wanted))]


def load(*settings: str) -> LoadedTask:
    """Return the task with these settings, NAME=VALUE."""
    return make_task(read_source(f"{Path(__file__).resolve()}:{TestedSegmentation.__name__}"), settings)


def measure(contestant: Contestant, training: TrainingConfig, seed: int, device: str) -> dict[str, Any]:
    """Train a contestant and return what it gave, or its `error`; its metrics on the test images begin with test_."""
    candidate = TaskCandidate.of(contestant.pattern, contestant.transition, seed)
    outcome = contestant.task.train(candidate, training, device)
    about = {"name": contestant.name, "params": contestant.params, "connections": contestant.pattern.n_connections}
    if outcome.error is not None:
        return {**about, "seed": seed, "error": outcome.error}
    test = {f"test_{name}": value for name, value in outcome.details["test"].items()}
    return {**about, "seed": seed, **outcome.metrics, **test, "seconds": outcome.seconds}


def tabulate(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a table in Markdown: means over seeds with 95 % intervals, and differences to log paired by seed.

    Trainings that failed are left out, and a seed that failed with log has no difference.
    """
    header = ("wiring", "parameters", "seeds", "test mIoU", "less log", "test global accuracy", "validation mIoU")
    lines = [format_row(*header), format_row(*["---"] * len(header))]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "error" not in row:
            by_name.setdefault(row["name"], []).append(row)
    log = {row["seed"]: row["test_miou"] for row in by_name.get(REFERENCE, ())}
    for name, own in by_name.items():
        gains = [row["test_miou"] - log[row["seed"]] for row in own if row["seed"] in log]
        miou, accuracy, validation = (
            _estimate([row[metric] for row in own]) for metric in ("test_miou", "test_global_accuracy", "miou")
        )
        gain = "" if name == REFERENCE or not gains else _compare(gains)
        lines.append(format_row(name, f"{own[0]['params']:,}", len(own), miou, gain, accuracy, validation))
    return lines


def _compare(gains: Sequence[float]) -> str:
    low, high = student_interval(np.array(gains), SHARES_APART)
    return format_difference(float(np.mean(gains)), low, high, share_digits([(low, high)]))


def _estimate(values: Sequence[float]) -> str:
    array = np.array(values)
    return format_estimate(float(array.mean()), *student_interval(array, SHARE))


def main() -> None:
    """Read the flags, train, and write the table and, where asked for, all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="folder of CamVid as SegNet's authors laid it out, or an .npz file")
    parser.add_argument("--layers", type=int, default=20, help="layers of all five blocks together")
    parser.add_argument("--growth", type=int, default=6, help="channels that a layer of log and nearest writes")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=SegmentationTask.defaults["lr"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--to", type=Path, help="file for all numbers, as JSON")
    flags = parser.parse_args()
    given = {"epochs": flags.epochs, "batch_size": flags.batch_size, "lr": flags.lr}
    training = TrainingConfig(**{**SegmentationTask.defaults, **given})
    contestants = list_contestants(flags.file.resolve(), flags.layers, flags.growth)
    print(contestants[0].task.target.tell_data(), flush=True)  # noqa: T201
    rows = []
    for seed in range(flags.seeds):
        for contestant in contestants:
            rows.append(measure(contestant, training, seed, flags.device))
            print(json.dumps(rows[-1]), flush=True)  # noqa: T201
    print("\n".join(tabulate(rows)))  # noqa: T201
    if flags.to is not None:
        data = contestants[0].task.describe()["data"]
        write_atomic(flags.to, format_json({"data": data, "training": training.model_dump(mode="json"), "rows": rows}))


if __name__ == "__main__":
    main()
