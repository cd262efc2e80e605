"""Whether other forms of a network give its logits: the images they are asked with, and how far they may be off."""

import copy
import importlib.abc
import math
import random
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas.export.manifest import TOLERANCE
from nas.model.candidate import Candidate
from nas.model.network import SkipNetwork, build_network
from search_spaces.errors import InputError

Form = Callable[[Tensor], Tensor]  # images (batch, channels, height, width) -> logits (batch, classes)
BATCHES = {1: 1, 2: 3}  # seed -> batch size: of the images beside the probe's that forms are compared on


def make_images(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Random images between -1 and 1 that Python's own generator makes: the same anywhere, with torch and without.

    >>> make_images(0, (1, 1, 1, 2)).flatten().tolist()
    [0.6888437271118164, 0.5159087777137756]
    """
    generator = random.Random(seed)  # noqa: S311  nothing secret
    values = [2 * generator.random() - 1 for _ in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def take_weights(candidate: Candidate, weights: Mapping[str, Tensor] | None) -> SkipNetwork:
    """The candidate's network with these weights, or with its initial ones, on the CPU and in evaluation mode.

    Raises:
        InputError: the weights have other names, shapes or types than the network's, or are not all finite.
    """
    network = build_network(candidate).eval()
    if weights is None:
        return network
    wanted = network.state_dict()
    if set(weights) != set(wanted):
        strange = sorted(map(str, set(weights) ^ set(wanted)))
        raise InputError(f"the weights are another network's: {', '.join(strange[:3])} are not in both")
    for name, value in weights.items():
        if not isinstance(value, Tensor) or (value.shape, value.dtype) != (wanted[name].shape, wanted[name].dtype):
            raise InputError(f"the weights are another network's: {name} is not {_describe(wanted[name])}")
        if not value.isfinite().all():
            raise InputError(f"the weights are of no use: {name} holds what is not finite")
    network.load_state_dict(weights)
    return network


def _describe(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


@torch.inference_mode()
def infer(form: Form, images: Tensor) -> Tensor:
    """The logits (batch, classes) that a form gives for images (batch, channels, height, width), by one thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for so little work several wait for one another, long where cores are busy
    try:
        return form(images)
    finally:
        torch.set_num_threads(n_threads)


def find_disagreement(form: Form, network: nn.Module, image: tuple[int, int, int]) -> str | None:
    """What is wrong with a form's logits for random images, several batch sizes; None where they are the network's.

    Args:
        image: channels, height, width.
    """
    for seed, n_images in BATCHES.items():
        images = make_images(seed, (n_images, *image))
        said = compare_logits(infer(form, images), infer(network, images))
        if said is not None:
            return f"{said} (batch of {n_images})"
    return None


def compare_logits(found: Tensor, expected: Tensor) -> str | None:
    """How far logits are off, in words; None where all are within TOLERANCE x max(1, largest expected).

    >>> compare_logits(torch.tensor([[1.0, 20.0]]), torch.tensor([[1.0001, 20.0]])) is None
    True
    >>> compare_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0001, 2.0]]))
    'its logits are off by 0.0001, at most 2e-05 is allowed'
    """
    if found.shape != expected.shape:
        return f"its logits have shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    off = float((found.double() - expected.double()).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    return None if off <= allowed else f"its logits are off by {off:.2g}, at most {allowed:.2g} is allowed"


def measure_rounding(network: nn.Module, image: tuple[int, int, int]) -> float:
    """How far float32 moves a network's logits for random images from what float64 gives, relative as TOLERANCE is."""
    images = make_images(0, (2, *image))
    exact = infer(copy.deepcopy(network).double(), images.double())
    off = float((infer(network, images).double() - exact).abs().max())
    return off / max(1.0, float(exact.abs().max()))


class _SourceText(importlib.abc.InspectLoader):
    """Loads a module from a text instead of a file."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:  # noqa: ARG002  the loader's form
        return self.text


def load_model(text: str, folder: Path, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network that a model.py in the folder builds, with its weights.pt, or with these weights where it has none.

    Args:
        text: what `format_model` wrote: it is run, so it must be no stranger's.
    """
    module = types.ModuleType("exported_model")
    module.__file__ = str(folder / "model.py")
    _SourceText(text).exec_module(module)
    with torch.random.fork_rng(devices=[]):  # torch's default initial weights come from the global generator
        network = cast(nn.Module, cast(Any, module).build_network())
    if not (folder / "weights.pt").exists():
        network.load_state_dict(dict(weights))
    return network.eval()
