"""Comparison of a network's forms by their logits for random images."""

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

from nas.export.manifest import TOLERANCE, WEIGHTS_FILES
from nas.layouts.condensed import has_learned
from nas.model.candidate import Candidate
from nas.model.layout_network import LayoutNetwork, convert
from nas.model.network import SkipNetwork, build_network
from nas.modules.learned_convolution import IndexChannels
from search_spaces.errors import InputError

Form = Callable[[Tensor], Tensor]  # images (batch, channels, height, width) -> logits (batch, classes)
BATCHES = {1: 1, 2: 3}  # seed -> batch size of the random images that forms are compared on


def make_images(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Return random values between -1 and 1 by Python's own generator, the same everywhere and without torch.

    >>> make_images(0, (1, 1, 1, 2)).flatten().tolist()
    [0.6888437271118164, 0.5159087777137756]
    """
    generator = random.Random(seed)  # noqa: S311  not a secret
    values = [2 * generator.random() - 1 for _ in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def take_weights(candidate: Candidate, weights: Mapping[str, Tensor] | None) -> SkipNetwork | LayoutNetwork:
    """Build the candidate's network with these or its initial weights, on the CPU, in evaluation mode.

    A network that condenses is built as it is in the end, of plain convolutions. Its weights may be those of its
    training, or those in the end.

    Raises:
        InputError: names, shapes or types of the weights are not the network's, or a weight is not finite.
    """
    network = build_network(candidate).eval()
    if isinstance(network, LayoutNetwork) and has_learned(network.layout):
        plain = convert(network)
        if weights is None or set(weights) != set(network.state_dict()):
            return _load(plain, weights)
        return convert(cast(LayoutNetwork, _load(network, weights)))
    return _load(network, weights)


def _load(network: SkipNetwork | LayoutNetwork, weights: Mapping[str, Tensor] | None) -> SkipNetwork | LayoutNetwork:
    """Return the network with these weights; None: with its own."""
    if weights is None:
        return network
    expected = network.state_dict()
    if set(weights) != set(expected):
        different = sorted(map(str, set(weights) ^ set(expected)))
        raise InputError(f"the weights belong to another network: {', '.join(different[:3])} are not in both")
    for name, value in weights.items():
        if not isinstance(value, Tensor) or (value.shape, value.dtype) != (
            expected[name].shape,
            expected[name].dtype,
        ):
            raise InputError(f"the weights belong to another network: {name} is not {_describe(expected[name])}")
        if not value.isfinite().all():
            raise InputError(f"the weights cannot be used: {name} has values that are not finite")
    for name, module in network.named_modules():
        if isinstance(module, IndexChannels) and not module.can_be(weights[f"{name}.index"]):
            raise InputError(f"the weights cannot be used: {name}.index has numbers of channels that there are not")
    network.load_state_dict(weights)
    return network


def _describe(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


@torch.inference_mode()
def infer(form: Form, images: Tensor) -> Tensor:
    """Return a form's logits (batch, classes) for images (batch, channels, height, width), with one thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for so little work several threads mostly wait for each other
    try:
        return form(images)
    finally:
        torch.set_num_threads(n_threads)


def summarize_logits(logits: Tensor) -> Tensor:
    """Return logits as a manifest has them, (batch, numbers): those of pixels as their mean, exits in a row.

    >>> summarize_logits(torch.ones(2, 3, 8, 8)).shape, summarize_logits(torch.ones(2, 4, 3)).shape
    (torch.Size([2, 3]), torch.Size([2, 12]))
    """
    return logits.mean(dim=(2, 3)) if logits.ndim == 4 else logits.flatten(1)


def find_disagreement(form: Form, network: nn.Module, image: tuple[int, int, int]) -> str | None:
    """Compare a form's logits for random images with the network's; return what is wrong, or None.

    Args:
        image: channels, height, width.
    """
    for seed, n_images in BATCHES.items():
        images = make_images(seed, (n_images, *image))
        problem = compare_logits(infer(form, images), infer(network, images))
        if problem is not None:
            return f"{problem} (batch of {n_images})"
    return None


def compare_logits(logits: Tensor, expected: Tensor) -> str | None:
    """Say how far logits are off, or return None if all are within TOLERANCE x max(1, largest expected).

    >>> compare_logits(torch.tensor([[1.0, 20.0]]), torch.tensor([[1.0001, 20.0]])) is None
    True
    >>> compare_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0001, 2.0]]))
    'its logits are off by 0.0001, at most 2e-05 is allowed'
    """
    if logits.shape != expected.shape:
        return f"its logits have shape {tuple(logits.shape)}, expected {tuple(expected.shape)}"
    off = float((logits.double() - expected.double()).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    return None if off <= allowed else f"its logits are off by {off:.2g}, at most {allowed:.2g} is allowed"


def measure_rounding(network: nn.Module, image: tuple[int, int, int]) -> float:
    """Return how far float32 logits for random images are from float64 ones, relative as TOLERANCE is."""
    images = make_images(0, (2, *image))
    exact = infer(copy.deepcopy(network).double(), images.double())
    off = float((infer(network, images).double() - exact).abs().max())
    return off / max(1.0, float(exact.abs().max()))


class _SourceText(importlib.abc.InspectLoader):
    """Loads a module from a text instead of a file."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:  # noqa: ARG002  InspectLoader's form
        return self.text


def load_model(text: str, folder: Path, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build the network of a model.py in the folder, with the weights there, or these if there are none.

    Args:
        text: source from `format_model`; it is executed, so it must not come from a stranger.
    """
    module = types.ModuleType("exported_model")
    module.__file__ = str(folder / "model.py")
    _SourceText(text).exec_module(module)
    with torch.random.fork_rng(devices=[]):  # torch's default initial weights come from the global generator
        network = cast(nn.Module, cast(Any, module).build_network())
    if not any((folder / name).exists() for name in WEIGHTS_FILES.values()):
        network.load_state_dict(dict(weights))
    return network.eval()
