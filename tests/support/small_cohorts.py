"""What tests of cohorts share: random candidates, their data, and trainings of single steps."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nas.data.splits import Split
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig, TrainingConfig
from nas.records.trial import Outcome
from nas.training.checkpoints import Slot
from search_spaces.budget import log_budget, parse_budget
from search_spaces.errors import Interrupted
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

N_IMAGES, N_STEPS = 24, 3
NETWORKS: dict[str, dict[str, Any]] = {
    "log": {"layers": 8},
    "tiny": {"layers": 4, "image": (1, 2, 3)},  # for Triton's interpreter
    "wide stem": {"layers": 6, "stem_channels": 7},
    "bottleneck": {"layers": 6, "bottleneck": True},
    "two blocks": {"layers": 5, "blocks": 2, "transition": "all", "compression": 0.5},
    "last": {"layers": 5, "blocks": 2, "transition": "last"},
    "v2": {"layers": 4, "blocks": 2, "transition": "v2"},
    "large stem": {"layers": 4, "large_stem": True, "image": (3, 21, 20)},
    "sum": {"layers": 6, "blocks": 2, "merge": "sum"},
    "gated": {"layers": 6, "merge": "gated"},
    "dwa": {"layers": 5, "blocks": 2, "merge": "dwa", "layer": "bottleneck"},
    "depthwise": {"layers": 6, "layer": "depthwise"},
}


def draw_split(candidate: Candidate, n: int = N_IMAGES, factor: float = 1.0, device: str = "cpu") -> Split:
    """Random images of a candidate's seed, the classes told apart by brightness."""
    generator = torch.Generator().manual_seed(candidate.seed)
    images = torch.randn(2 * n, *candidate.network.image, generator=generator)
    labels = torch.randint(0, 10, (2 * n,), generator=generator)
    images = factor * (images + labels[:, None, None, None] / 5)
    images, labels = images.to(device), labels.to(device)
    return Split(images[:n], labels[:n], images[n:], labels[n:], augment=True)


def draw_candidates(name: str = "log", budget: str = "log", n: int = 8) -> list[Candidate]:
    """Random patterns, of three seeds; of budget total with two connections a layer, however they fall."""
    network = NetworkConfig(**{"growth": 3, "image": (2, 6, 5), **NETWORKS[name]})
    generator = derive_generator(0, "test", name, budget)
    depth = network.pattern_depth
    parsed = log_budget(depth) if budget == "log" else parse_budget(f"total:{2 * depth}", depth)
    return [Candidate(sample_uniform(parsed, generator), network, number % 3) for number in range(n)]


def step_by_step(n_steps: int = N_STEPS, **more: Any) -> TrainingConfig:
    """As many epochs of one step, so that an outcome's curve has the loss of each."""
    return TrainingConfig(**{"epochs": n_steps, "batch_size": N_IMAGES, "lr": 0.1, **more})


def list_losses(outcome: Outcome) -> list[float]:
    return [point["train_loss"] for point in outcome.curve]


def without_time(outcome: Outcome) -> Outcome:
    return replace(outcome, seconds=0.0)


def stop_at(step: int) -> Callable[[], None]:
    left = [step]

    def check_stop() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted(2)

    return check_stop


def slots(folder: Path, candidates: list[Candidate], every_seconds: float = 0.0) -> list[Slot]:
    return [Slot(folder / str(number), str(number), every_seconds) for number in range(len(candidates))]
