"""What a contestant of `bench` must compute before it is given a speed.

In float32 the losses of its first steps must be those of eager PyTorch up to rounding. How much that is depends on the
network, so eager also takes the steps with the same images in the opposite order. In bfloat16 the losses must be near
those of eager float32, and if the contestant is ours, its first gradients must also be no further from those of float64
than the gradients of PyTorch's own bfloat16, which is autocast. Errors of gradients in float32 say little: a few ReLUs
at their edge, which rounding tips, make up most of them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.bench.contestants import EAGER, Contestant, draw_batch
from nas.bench.shapes import Shape
from nas.model.network import build_skip_network

GATE = 3e-5  # largest difference of a loss from eager's, in nats; orders of sums within oneDNN differ by 1e-5
GATE_TF32 = 2e-3  # on a GPU, which multiplies numbers of 10 bits in its own orders
GATE_BFLOAT16 = 0.05  # of a loss in bfloat16 from eager's in float32
N_ROUNDINGS = 10  # differences of eager's own losses by rounding that are allowed, if they are more than that
N_SEEDS = 2  # of roundings and of gradients


class Expected(NamedTuple):
    """What eager computes in float32.

    Args:
        losses: losses of the first steps, by seed.
        rounding: largest difference of one of them where the same images are in the opposite order, in nats.
    """

    losses: list[list[float]]
    rounding: float


def find_tolerance(contestant: Contestant, device: str, rounding: float) -> float:
    """Return the largest difference of a contestant's losses from eager's in float32, in nats; see Expected."""
    least = GATE_TF32 if device == "cuda" else GATE
    if contestant.is_bfloat16:
        least = GATE_BFLOAT16
    return max(least, N_ROUNDINGS * rounding)


def find_fault(losses: Sequence[Sequence[float]], expected: Sequence[Sequence[float]], tolerance: float) -> str | None:
    """Return what is wrong with the losses of the first steps, by candidate; None: they are near the expected ones.

    Args:
        losses: losses of as many candidates as are trained together; none if the memory did not suffice.
    """
    if not losses:
        return "the memory does not suffice"
    # A contestant may train fewer candidates.
    pairs = [pair for own, others in zip(losses, expected, strict=False) for pair in zip(own, others, strict=True)]
    if all(abs(a - b) <= tolerance for a, b in pairs):  # not so where one is NaN
        return None
    worst = max(pairs, key=lambda pair: abs(pair[0] - pair[1]) if math.isfinite(pair[0]) else math.inf)
    seen = f"{worst[0]:.6f} and not {worst[1]:.6f}"
    return f"its first losses are not those of eager in float32, to {tolerance:.2g} nats: {seen}"


def find_gradient_fault(error: float, allowed: float) -> str | None:
    """Return what is wrong with first gradients of that relative error; None: it is not above the allowed one."""
    if error <= allowed:  # not so if it is NaN
        return None
    return f"its first gradients have a relative error of {error:.3g}, those of autocast {allowed:.3g}"


def measure_gradient_error(shape: Shape, contestant: Contestant, device: str) -> float:
    """Return the relative error of the first gradients of eager or of ours, with eager in float64 as the truth.

    It is |g - g64| / |g64| over all parameters together, the mean of N_SEEDS seeds.
    """
    errors = []
    for seed in range(N_SEEDS):
        exact = _first_gradients(shape, Contestant(EAGER), device, seed, torch.float64)
        own = _first_gradients(shape, contestant, device, seed, torch.float32)
        errors.append(float((own - exact).norm() / exact.norm()))
    return sum(errors) / len(errors)


def _first_gradients(shape: Shape, contestant: Contestant, device: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return all gradients of the first step of eager or of ours in numbers of a type, (parameters,), as float64."""
    images, labels = draw_batch(shape, device)
    images = images.to(dtype)
    network = build_skip_network(shape.candidate(seed)).to(device, dtype).train()
    if contestant.is_ours:
        network.fuse_layers()
    with torch.autocast(device, torch.bfloat16, enabled=contestant.is_bfloat16):
        logits = network(images)
    loss = F.cross_entropy(logits.to(images.dtype), labels)
    return torch.cat(
        [gradient.double().flatten() for gradient in torch.autograd.grad(loss, list(network.parameters()))]
    )
