"""Zero-cost proxies: scores of an untrained network, from one batch and no training.

Sources: A is Abdelfattah et al. (arXiv:2101.08134), M is Mellor et al. (arXiv:2006.04647), L is Lin et al.
(arXiv:2102.01063). Their definitions hold, with these choices:

- A higher score is meant to say a better network, as in the papers.
- `parameters` of A are the weights of convolutions and of the classifier. Neither A nor we count BN's parameters,
  biases, or the factors of merges. The loss is the mean cross-entropy of the batch. BN takes the batch's own
  statistics. With merge dwa every untrained network is the chain.
- synflow is computed without BN and returned as its natural logarithm: the sum itself grows several times with each
  layer and overflows float64 in deep networks. A rank correlation does not see the logarithm.
- fisher counts each channel once, as A's equation does; A's code counts it once for each weight that writes it.
- zen keeps all connections, which are what is compared; L removes residual links. It takes L's Frobenius norm and batch
  statistics, where L's code takes absolute differences and running statistics, and one draw where L averages 32.

The network is the plain one: the fused layers of nas/engines have no second derivatives, no module whose output could
be read, and no form without BN. It is in float64 on the CPU, so that rounding, which machines do differently, is in no
digit that is shown.
"""

import copy
import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.model.candidate import Candidate
from nas.model.network import Reader, SkipNetwork, build_skip_network
from search_spaces.errors import InputError
from search_spaces.seeds import derive_seed

EIGENVALUE_OFFSET = 1e-5  # k of jacob_cov
STEP = 0.01  # alpha of zen


class Batch(NamedTuple):
    """Images that a training would begin with.

    Args:
        images: (batch, channels, height, width).
        labels: (batch,) int64.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Untrained:
    """A network before its first step, and the batch that it is scored by.

    Args:
        network: network in float64, whose BN takes the batch's statistics; no proxy changes its parameters.
        batch: images in float64, and labels.
        seed: seed of further draws.
    """

    network: SkipNetwork
    batch: Batch
    seed: int

    @property
    def layers(self) -> list[nn.Conv2d | nn.Linear]:
        """The convolutions and the classifier: the layers with weights, in the network's order."""
        return [module for module in self.network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]

    @property
    def weights(self) -> list[Tensor]:
        """The weights of the layers."""
        return [layer.weight for layer in self.layers]

    def loss(self) -> Tensor:
        """Return the mean cross-entropy of the batch, in nats."""
        return F.cross_entropy(self.network(self.batch.images), self.batch.labels)

    @cached_property
    def gradients(self) -> tuple[Tensor, ...]:
        """The gradient of the loss with respect to each weight."""
        return torch.autograd.grad(self.loss(), self.weights, materialize_grads=True)


def measure_proxies(
    candidate: Candidate, batch: Batch, seed: int, names: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Return zero-cost proxies of a candidate's untrained network by name; None where one is not finite.

    Neither torch's generators nor its threads are changed.

    Args:
        candidate: candidate, whose own seed plays no part.
        batch: batch on the CPU, in any floating type.
        seed: seed of the initial weights, as a candidate's, and of zen's draws.
        names: proxies to compute; None: all of PROXIES.

    Raises:
        InputError: there is no such proxy, or the network is no blocks in a row with one classifier.
    """
    if candidate.network.has_layout:
        raise InputError(f"proxies cannot be had with {candidate.network.layout_cause}; drop proxies")
    names = tuple(PROXIES) if names is None else names
    for name in names:
        if name not in PROXIES:
            near = difflib.get_close_matches(name, PROXIES, n=1)
            advice = f"did you mean {near[0]}?" if near else f"they are {', '.join(PROXIES)}"
            raise InputError(f"there is no proxy {name!r}; {advice}")
    network = build_skip_network(replace(candidate, seed=seed)).double().train()
    untrained = Untrained(network, Batch(batch.images.double(), batch.labels), seed)
    with torch.enable_grad():
        values = {name: PROXIES[name](untrained) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def measure_grad_norm(untrained: Untrained) -> float:
    """Return the sum over layers of the Euclidean norm of the loss's gradient (A)."""
    return float(sum(gradient.norm() for gradient in untrained.gradients))  # sum over layers l of |dL/dw_l|_2


def measure_snip(untrained: Untrained) -> float:
    """Return how much the loss depends on single weights: connection sensitivity (arXiv:1810.02340, A)."""
    pairs = zip(untrained.gradients, untrained.weights, strict=True)
    return _sum((gradient * weight).abs() for gradient, weight in pairs)  # sum over weights of |dL/dw w|


def measure_grasp(untrained: Untrained) -> float:
    """Return how far the weights preserve the gradient's flow (arXiv:2002.07376, A).

    H is the Hessian of the loss by the weights. The sign is A's: minus.
    """
    weights = untrained.weights
    gradients = torch.autograd.grad(untrained.loss(), weights, create_graph=True, materialize_grads=True)
    product = sum((gradient.detach() * gradient).sum() for gradient in gradients)  # its gradient is H dL/dw
    curved = torch.autograd.grad(cast(Tensor, product), weights, materialize_grads=True)
    return _sum(-each * weight for each, weight in zip(curved, weights, strict=True))  # sum of -(H dL/dw) w


def measure_fisher(untrained: Untrained) -> float:
    """Return the Fisher information of the layers' output channels (arXiv:1801.05787, A)."""
    with _outputs_of(untrained.layers) as outputs:
        loss = untrained.loss()
    gradients = torch.autograd.grad(loss, outputs)
    # (batch, channels) of each layer: sum over pixels of z dL/dz.
    flows = [(z * gradient).flatten(2).sum(2) for z, gradient in zip(_pixels(outputs), _pixels(gradients), strict=True)]
    return _sum(flow.square().mean(0) / 2 for flow in flows)  # sum over channels of 1/(2n) sum_n flow_n^2


def measure_synflow(untrained: Untrained) -> float:
    """Return the logarithm of the synaptic flow, without data (arXiv:2006.05467, A).

    The weights are replaced by their absolute values, the image by ones, BN by nothing; R is the sum of the logits.
    """
    network = copy.deepcopy(untrained.network)
    weights = Untrained(network, untrained.batch, untrained.seed).weights
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
    parts = list(network.stem.children()) or [network.stem]
    inputs = [_run_positive(parts, torch.ones_like(untrained.batch.images[:1]), 0.0)]
    for block, transitions in network.stages:
        features = dict(enumerate(inputs))
        for reader in block.readers:
            features[len(features)] = _read_positive(reader, features)
        inputs = [_read_positive(transition, features) for transition in transitions]
    flow = _read_positive(network.head, features)
    # Biases are 0. R is exp(flow.log_scale) times this sum.
    total = F.linear(flow.values.mean(dim=(2, 3)), network.classifier.weight).sum()
    gradients = torch.autograd.grad(total, weights, materialize_grads=True)
    # log of the sum over weights of |dR/dw w|
    flows = _sum((gradient * weight).abs() for gradient, weight in zip(gradients, weights, strict=True))
    return math.log(flows) + flow.log_scale if flows > 0 else -math.inf


def measure_jacob_cov(untrained: Untrained) -> float:
    """Return how little the images' Jacobians correlate (M in its first version, A)."""
    images = untrained.batch.images.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(untrained.network(images).sum(), images)  # of the sum of all logits
    correlations = torch.corrcoef(jacobian.flatten(1))  # (batch, batch)
    if not correlations.isfinite().all():
        return math.nan  # an image that no logit depends on
    shifted = torch.linalg.eigvalsh(correlations) + EIGENVALUE_OFFSET
    return -float((shifted.log() + 1 / shifted).sum())  # -sum of log(l + k) + 1/(l + k)


@torch.no_grad()
def measure_naswot(untrained: Untrained) -> float:
    """Return log |det K| of the ReLUs' codes of the images (M); minus infinity where two images have one code."""
    rectifiers = [module for module in untrained.network.modules() if isinstance(module, nn.ReLU)]
    with _outputs_of(rectifiers) as outputs:
        untrained.network(untrained.batch.images)
    codes = torch.cat([(output > 0).flatten(1) for output in outputs], dim=1).to(torch.float64)  # (batch, units)
    agreements = codes @ codes.T + (1 - codes) @ (1 - codes.T)  # K: units less the codes' Hamming distance
    return float(torch.linalg.slogdet(agreements).logabsdet)


@torch.no_grad()
def measure_zen(untrained: Untrained) -> float:
    """Return the Zen-score, how far small changes of random images carry, with BN's scales put back (L, algorithm 1).

    Weights and images are drawn from N(0, 1). f is the network before its global average.
    """
    network = copy.deepcopy(untrained.network)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(generator=_generator(untrained.seed, name))
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # running_var is then that of the last batch
    shape, generator = untrained.batch.images.shape, _generator(untrained.seed, "images")
    images, noise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    with _outputs_of([network.head]) as outputs:
        network(images)
        scales = [module.running_var for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        log_scale = sum(float(cast(Tensor, scale).mean().log()) / 2 for scale in scales)  # sum over BNs of log sigma
        network(images + STEP * noise)
    before, after = outputs
    distance = (before - after).flatten(1).norm(dim=1).mean()  # mean over images of |f(x) - f(x + alpha e)|_F
    return float(distance.log()) + log_scale


PROXIES: Mapping[str, Callable[[Untrained], float]] = {
    "synflow": measure_synflow,
    "grad_norm": measure_grad_norm,
    "snip": measure_snip,
    "grasp": measure_grasp,
    "fisher": measure_fisher,
    "jacob_cov": measure_jacob_cov,
    "naswot": measure_naswot,
    "zen": measure_zen,
}


class _Flow(NamedTuple):
    """Values of a node without BN, which may be too large for any float.

    Args:
        values: values over exp(log_scale), so that the largest is 1.
    """

    values: Tensor
    log_scale: float


def _run_positive(parts: Iterable[nn.Module], x: Tensor, log_scale: float) -> _Flow:
    """Run modules without BN; nothing is negative, so ReLU changes nothing."""
    for part in parts:
        if not isinstance(part, nn.BatchNorm2d | nn.ReLU):
            x = part(x)
    largest = float(x.detach().max())
    return _Flow(x / largest, log_scale + math.log(largest))


def _read_positive(reader: Reader, features: Mapping[int, _Flow]) -> _Flow:
    flows = [features[node] for node in reader.nodes]
    log_scale = max(flow.log_scale for flow in flows)
    x = reader.merge([flow.values * math.exp(flow.log_scale - log_scale) for flow in flows])
    return _run_positive(reader.operations, x * reader.survival, log_scale)


@contextmanager
def _outputs_of(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list to which each module adds what it gives, until the block ends."""
    outputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)) for module in modules
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _pixels(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield maps as they are, and the classifier's logits (batch, classes) as maps of one pixel."""
    for tensor in tensors:
        yield tensor if tensor.ndim > 2 else tensor[..., None, None]


def _sum(parts: Iterable[Tensor]) -> float:
    return float(sum(float(part.detach().sum()) for part in parts))


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "zen", name))
