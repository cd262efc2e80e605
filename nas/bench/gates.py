"""What a contestant of `bench` must compute before it is given a speed.

In float32 the losses of its first steps must be those of eager PyTorch up to rounding. In bfloat16 they must be near
those of eager float32, and if the contestant is ours, its first gradients must also be no further from those of float32
than the gradients of PyTorch's own bfloat16, which is autocast.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nas.bench.contestants import EAGER, Contestant, Step, prepare
from nas.bench.shapes import Shape

GATE = 1e-5  # largest difference of a loss from eager's, in nats
GATE_TF32 = 2e-3  # on a GPU, which multiplies numbers of 10 bits in its own orders
GATE_BFLOAT16 = 5e-3  # of a loss in bfloat16 from eager's in float32
N_GRADIENT_SEEDS = 2


def find_tolerance(contestant: Contestant, device: str) -> float:
    """Return the largest difference of a contestant's losses from eager's in float32, in nats."""
    if contestant.is_bfloat16:
        return GATE_BFLOAT16
    return GATE_TF32 if device == "cuda" else GATE


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
    return (
        f"its first losses are not those of eager in float32, to {tolerance:g} nats: {worst[0]:.6f}, not {worst[1]:.6f}"
    )


def find_gradient_fault(error: float, allowed: float) -> str | None:
    """Return what is wrong with first gradients of that relative error; None: it is not above the allowed one."""
    if error <= allowed:  # not so if it is NaN
        return None
    return f"its first gradients have a relative error of {error:.3f}, those of autocast {allowed:.3f}"


def measure_gradient_error(shape: Shape, contestant: Contestant, device: str) -> float:
    """Return the relative error of a contestant's first gradients, with eager float32 as the truth.

    It is |g - g32| / |g32| over all parameters together, the mean of N_GRADIENT_SEEDS seeds.
    """
    errors = []
    for seed in range(N_GRADIENT_SEEDS):
        exact = _first_gradients(prepare(shape, Contestant(EAGER), device, seed))
        own = _first_gradients(prepare(shape, contestant, device, seed))
        errors.append(float((own - exact).norm() / exact.norm()))
    return sum(errors) / len(errors)


def _first_gradients(step: Step) -> Tensor:
    """Return all gradients of the first step, (parameters,), in float64."""
    step()
    gradients = [parameter.grad for parameter in step.network.parameters()]
    return torch.cat([gradient.double().flatten() for gradient in gradients if gradient is not None])
