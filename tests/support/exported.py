"""What tests of exported folders share: a small network with weights that are not the initial ones."""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.export.export import Exported, export_folder
from nas.export.manifest import MANIFEST, describe_files, format_manifest, read_manifest
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import build_network
from search_spaces.templates import find_template

NETWORK = NetworkConfig(
    layers=2, blocks=2, growth=3, layer="bottleneck", compression=0.5, transition="all", image=(2, 6, 4), classes=3
)
CANDIDATE = Candidate(find_template("log").build(2), NETWORK, 0, "log")
MEASURED = {"test_accuracy": 0.875, "seeds": [0, 1], "data": {"name": "nothing"}}


def make_weights(candidate: Candidate) -> dict[str, Tensor]:
    """Weights as after a training: batch statistics too are others than at the start."""
    generator = torch.Generator().manual_seed(3)
    weights: dict[str, Tensor] = build_network(candidate).state_dict()
    for name, value in weights.items():
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.is_floating_point():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return weights


def export(folder: Path, candidate: Candidate = CANDIDATE, **changes: Any) -> Exported:
    """Export a candidate with made-up weights and figures."""
    arguments = {"weights": make_weights(candidate), "measured": MEASURED, **changes}
    provenance = {"name": candidate.template}
    budget = f"total:{candidate.pattern.n_connections}"
    return export_folder(candidate.pattern, candidate.network, budget, provenance, folder, **arguments)


def seal(folder: Path, **changes: Any) -> None:
    """Make the manifest fit what the folder holds now, as a forger would."""
    manifest = read_manifest(folder)
    names = [name for name in manifest.files if (folder / name).exists()]
    held = manifest.model_copy(update={"files": describe_files(folder, names), **changes})
    (folder / MANIFEST).write_text(format_manifest(held), encoding="utf-8")


def make_images_again(seed: int, shape: list[int]) -> list[float]:
    """The probe's values, as its description words them."""
    numbers = random.Random(seed)  # noqa: S311
    n_values = 1
    for length in shape:
        n_values *= length
    return [2 * numbers.random() - 1 for _ in range(n_values)]
