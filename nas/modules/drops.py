"""What a training step leaves out: whole layers, single inputs of them, or single values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from search_spaces.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Drop:
    """What a training step leaves out of a layer.

    Args:
        keeps_output: whether the layer is there; if not, its output is 0.
        keeps_inputs: for each of its inputs whether it is read; at least one is.
    """

    keeps_output: bool
    keeps_inputs: tuple[bool, ...]


class Dropping(Protocol):
    """A layer that may be dropped, or some of its inputs."""

    nodes: tuple[int, ...]  # what it reads
    survival: float  # chance that its output is kept in a training step
    drop: Drop | None  # what the present training step leaves out; None: nothing


def draw_drops(layers: Sequence[Dropping], drop_paths: Iterable[float], seed: int, step: int) -> None:
    """Draw what a training step leaves out: layers (arXiv:1603.09382) and inputs (arXiv:1605.07648).

    A layer is dropped with one minus its survival; each of its inputs with its drop path, but one of them, drawn
    uniformly, stays where all would go. The draws depend on seed and step only, so a training that is resumed has the
    same ones; those of layers do not depend on the pattern.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "dropped layers", step))
    is_alive = torch.rand(len(layers), generator=generator).tolist()
    generator = torch.Generator().manual_seed(derive_seed(seed, "dropped inputs", step))
    for layer, drop_path, chance in zip(layers, drop_paths, is_alive, strict=True):
        keeps = torch.rand(len(layer.nodes), generator=generator) >= drop_path
        if not keeps.any():
            keeps[int(torch.randint(len(keeps), (), generator=generator))] = True
        layer.drop = Drop(chance < layer.survival, tuple(keeps.tolist()))


def end_drops(layers: Iterable[Dropping]) -> None:
    """Drop nothing from now on."""
    for layer in layers:
        layer.drop = None


def leave_out(sources: Sequence[Tensor], kept: Sequence[bool], is_concat: bool) -> list[Tensor]:
    """Return zeros for the inputs that are not kept; what is added is scaled up to as many as there are."""
    if all(kept):
        return list(sources)
    # The number of inputs times the mean over those that are left (FractalNet, arXiv:1605.07648, has the mean).
    # BN would undo a scale of concatenated channels.
    scale = 1.0 if is_concat else len(kept) / sum(kept)
    return [x * scale if keep else torch.zeros_like(x) for x, keep in zip(sources, kept, strict=True)]


class SeededDropout(nn.Dropout):
    """Dropout whose values follow from a seed where it has one; without, torch's own.

    A training that is resumed so drops the same values.
    """

    seed: int | None = None  # of the present training step

    def forward(self, x: Tensor) -> Tensor:
        """Return x; in training with some values 0, and the others scaled up to the same mean."""
        if self.seed is None or not self.training:
            return super().forward(x)
        generator = torch.Generator(x.device).manual_seed(self.seed)
        return x * torch.empty_like(x).bernoulli_(1 - self.p, generator=generator).div_(1 - self.p)
