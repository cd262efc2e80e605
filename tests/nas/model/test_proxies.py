"""Zero-cost proxies: each by a second way, on networks small enough to follow every path and change every weight."""

import itertools
import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import SkipNetwork, build_skip_network
from nas.model.proxies import PROXIES, Batch, Untrained, measure_naswot, measure_proxies, measure_synflow
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_seed
from search_spaces.templates import find_template

SEED = 5
PATTERN = ConnectionPattern(3, ((0,), (1,), (0, 2)))
PLAIN: dict[str, Any] = {"layers": 3, "growth": 2, "image": (1, 4, 4), "classes": 3}
SHAPES = {"one block": PLAIN, "two blocks": PLAIN | {"blocks": 2, "bottleneck": True, "growth": 1}}
Weights = dict[str, Tensor]


def make_batch(n: int = 5, image: tuple[int, int, int] = (1, 4, 4), classes: int = 3) -> Batch:
    images = torch.randn(n, *image, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(images, torch.arange(n) % classes)


def make_candidate(shape: dict[str, Any], seed: int = SEED) -> Candidate:
    return Candidate(PATTERN, NetworkConfig.model_validate(shape), seed)


def measure(name: str, shape: dict[str, Any], batch: Batch) -> float:
    value = measure_proxies(make_candidate(shape), batch, SEED, [name])[name]
    assert value is not None
    return value


def weights_of(candidate: Candidate) -> Weights:
    """The weights of convolutions and classifier by name: BN's have one dimension, as biases have."""
    parameters = build_skip_network(candidate).named_parameters()
    return {name: weight.detach().double() for name, weight in parameters if weight.ndim > 1}


class Plain:
    """The network written out once more, from its weights by name; a gain multiplies what a layer gives."""

    def __init__(self, candidate: Candidate) -> None:
        self.wiring = candidate.wiring
        self.weights = weights_of(candidate)
        self.gains: Weights = {}
        self.codes: list[Tensor] = []  # of the last run, of each ReLU
        self.log_deviations: list[float] = []  # of each BN's input
        self.mean_free: Tensor | None = None  # what the global average reads

    def rectify(self, x: Tensor) -> Tensor:
        flat = x.transpose(0, 1).flatten(1)  # (channels, batch * pixels)
        self.log_deviations.append(0.5 * math.log(float(flat.detach().var(dim=1, correction=1).mean())))
        mean, variance = flat.mean(dim=1), flat.var(dim=1, correction=0)
        x = (x - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
        self.codes.append(x.detach().flatten(1) > 0)
        return torch.where(x > 0, x, 0.0)

    def convolve(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights[name]
        return self.gain(F.conv2d(x, weight, padding=weight.shape[-1] // 2), name)

    def gain(self, x: Tensor, name: str) -> Tensor:
        return x * self.gains[name] if name in self.gains else x

    def __call__(self, images: Tensor) -> Tensor:
        self.codes, self.log_deviations, transition = [], [], 0
        inputs = [self.convolve(images, "stem.weight")]
        for number, block in enumerate(self.wiring.blocks):
            nodes = list(inputs)
            for layer, sources in enumerate(block.sources):
                x = torch.cat([nodes[node] for node in sources], dim=1)
                for place in (3, 6):
                    name = f"blocks.{number}.layers.{layer}.{place}.weight"
                    x = self.convolve(self.rectify(x), name) if name in self.weights else x
                nodes.append(x)
            inputs = []
            for follows in block.transitions:
                x = self.rectify(torch.cat([nodes[node] for node in follows.reads], dim=1))
                x = self.convolve(x, f"transitions.{transition}.3.weight")
                n, channels, height, width = x.shape
                inputs.append(x.reshape(n, channels, height // 2, 2, width // 2, 2).mean(dim=(3, 5)))
                transition += 1
        self.mean_free = self.rectify(torch.cat([nodes[node] for node in self.wiring.read], dim=1))
        return self.gain(self.mean_free.mean(dim=(2, 3)) @ self.weights["classifier.weight"].T, "classifier.weight")


def loss_of(plain: Plain, batch: Batch) -> Tensor:
    logits = plain(batch.images)
    return -(logits - logits.exp().sum(dim=1, keepdim=True).log())[range(len(logits)), batch.labels].mean()


def difference_gradients(plain: Plain, batch: Batch, step: float = 1e-6) -> Weights:
    """The loss's gradient, weight by weight, by central differences."""
    gradients = {name: torch.zeros_like(weight) for name, weight in plain.weights.items()}
    for name, weight in plain.weights.items():
        for place in itertools.product(*map(range, weight.shape)):
            own = float(weight[place])
            ends = []
            for shifted in (own + step, own - step):
                weight[place] = shifted
                ends.append(float(loss_of(plain, batch)))
            weight[place] = own
            gradients[name][place] = (ends[0] - ends[1]) / (2 * step)
    return gradients


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_written_out_network_is_the_one_that_is_scored(shape: dict[str, Any]) -> None:
    candidate, batch = make_candidate(shape), make_batch()
    network = build_skip_network(candidate).double().train()
    assert torch.allclose(network(batch.images), Plain(candidate)(batch.images), rtol=1e-9)


@pytest.mark.parametrize("shape", [PLAIN, PLAIN | {"blocks": 2, "growth": 1}], ids=["one block", "two blocks"])
def test_grad_norm_and_snip_by_differences_of_each_weight(shape: dict[str, Any]) -> None:
    plain, batch = Plain(make_candidate(shape)), make_batch()
    gradients = difference_gradients(plain, batch)
    norms = sum(math.sqrt(sum(float(each) ** 2 for each in gradient.flatten())) for gradient in gradients.values())
    assert measure("grad_norm", shape, batch) == pytest.approx(norms, rel=1e-5)
    pairs = [(gradients[name].flatten(), weight.flatten()) for name, weight in plain.weights.items()]
    total = sum(abs(float(g) * float(w)) for pair in pairs for g, w in zip(*pair, strict=True))
    assert measure("snip", shape, batch) == pytest.approx(total, rel=1e-5)


def test_grasp_by_the_whole_hessian() -> None:
    plain, batch = Plain(make_candidate(PLAIN)), make_batch()
    weights = dict(plain.weights)
    shapes = {name: weight.shape for name, weight in weights.items()}
    flat = torch.cat([weight.flatten() for weight in weights.values()])

    def loss(vector: Tensor) -> Tensor:
        parts = torch.split(vector, [shape.numel() for shape in shapes.values()])
        plain.weights = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        return loss_of(plain, batch)

    hessian = torch.autograd.functional.hessian(loss, flat)  # type: ignore[no-untyped-call]
    gradient = torch.autograd.functional.jacobian(loss, flat)  # type: ignore[no-untyped-call]
    assert measure("grasp", PLAIN, batch) == pytest.approx(-float(flat @ hessian @ gradient), rel=1e-8)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_fisher_image_by_image_from_gains_of_channels(shape: dict[str, Any]) -> None:
    """The loss's derivative by a factor on an image's channel is the sum over pixels of z dL/dz."""
    candidate, batch = make_candidate(shape), make_batch()
    plain, n = Plain(candidate), len(batch.labels)
    for name, weight in plain.weights.items():
        dims = (1, 1) if name != "classifier.weight" else ()
        plain.gains[name] = torch.ones(n, weight.shape[0], *dims, dtype=torch.float64, requires_grad=True)
    loss_of(plain, batch).backward()  # type: ignore[no-untyped-call]
    total = 0.0
    for gain in plain.gains.values():
        assert gain.grad is not None
        for channel in range(gain.shape[1]):
            total += sum(float(gain.grad[image, channel]) ** 2 for image in range(n)) / (2 * n)
    assert measure("fisher", shape, batch) == pytest.approx(total, rel=1e-9)


def test_synflow_by_counting_paths() -> None:
    """Of one pixel only the middle of a 3x3 kernel is read; each path counts once for each of its weights."""
    shape = PLAIN | {"image": (1, 1, 1)}
    candidate = make_candidate(shape)
    weights = weights_of(candidate)
    layers = [weights[f"blocks.0.layers.{layer}.3.weight"][:, :, 1, 1].abs() for layer in range(3)]
    read = candidate.wiring.read
    products = []

    def follow(node: int, channel: int, product: float, n_weights: int) -> None:
        if node == 0:
            products.append((product * float(weights["stem.weight"][channel, 0, 1, 1].abs()), n_weights + 1))
            return
        for place, source in enumerate(PATTERN.sources[node - 1]):
            for k in range(2):
                follow(source, k, product * float(layers[node - 1][channel, 2 * place + k]), n_weights + 1)

    for place, node in enumerate(read):
        for k, klass in itertools.product(range(2), range(3)):
            follow(node, k, float(weights["classifier.weight"][klass, 2 * place + k].abs()), 1)
    total = sum(product * n_weights for product, n_weights in products)
    assert measure("synflow", shape, make_batch(2, (1, 1, 1))) == pytest.approx(math.log(total), rel=1e-12)


def flow_by_differences(network: SkipNetwork, image: tuple[int, int, int]) -> float:
    """Log of dR(t w)/dt at t = 1, which the sum over weights of w dR/dw is; BN is taken out of the modules."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    weights = [weight for weight in network.parameters() if weight.ndim > 1]
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
        ends = []
        for factor in (1 + 1e-6, (1 - 1e-6) / (1 + 1e-6)):
            for weight in weights:
                weight.mul_(factor)
            ends.append(float(network(torch.ones(1, *image, dtype=torch.float64)).sum()))
    return math.log((ends[0] - ends[1]) / 2e-6)


WIRINGS: dict[str, dict[str, Any]] = {
    "log": {"blocks": 3},
    "bottleneck": {"blocks": 2, "bottleneck": True},
    "compression": {"blocks": 2, "stem_channels": 5, "compression": 0.5, "transition": "all"},
    "v1": {"blocks": 2, "transition": "v1"},
    "v2": {"blocks": 2, "transition": "v2"},
    "large stem": {"blocks": 2, "large_stem": True},
}


@pytest.mark.parametrize("wiring", WIRINGS.values(), ids=WIRINGS)
def test_synflow_of_every_wiring_is_the_growth_of_the_logits_with_all_weights(wiring: dict[str, Any]) -> None:
    image = (3, 16, 16)
    network = NetworkConfig.model_validate({"layers": 4, "growth": 3, "image": image, "classes": 4, **wiring})
    candidate = Candidate(find_template("log").build(network.pattern_depth), network, SEED, "log")
    expected = flow_by_differences(build_skip_network(candidate).double(), image)
    found = measure_proxies(candidate, make_batch(2, image), SEED, ["synflow"])["synflow"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_synflow_of_a_deep_network_is_finite_and_scales_with_its_weights() -> None:
    """In a chain every path has all layers: weights times c multiply the flow by c to their number."""
    depth = 40
    network = NetworkConfig.model_validate(PLAIN | {"layers": depth, "transition": "last"})
    candidate = Candidate(find_template("chain").build(depth), network, SEED)
    built = build_skip_network(candidate).double()
    own = measure_synflow(Untrained(built, make_batch(), SEED))
    with torch.no_grad():
        for weight in (weight for weight in built.parameters() if weight.ndim > 1):
            weight.mul_(1e20)
    assert measure_synflow(Untrained(built, make_batch(), SEED)) == pytest.approx(own + (depth + 2) * math.log(1e20))
    assert own + (depth + 2) * math.log(1e20) > math.log(1e308)


def test_jacob_cov_by_determinant_and_inverse() -> None:
    """The sum over eigenvalues of log(l + k) is a log determinant, that of 1/(l + k) the trace of an inverse."""
    batch, plain = make_batch(), Plain(make_candidate(PLAIN))
    images = batch.images.clone().requires_grad_()
    logits = plain(images)
    rows = np.zeros((len(images), 16))
    for image, klass in itertools.product(range(len(images)), range(3)):
        (gradient,) = torch.autograd.grad(logits[image, klass], images, retain_graph=True)
        rows += gradient.flatten(1).numpy()
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.sqrt((rows**2).sum(axis=1, keepdims=True))
    shifted = rows @ rows.T + 1e-5 * np.eye(len(images))
    expected = -(math.log(np.linalg.det(shifted)) + np.trace(np.linalg.inv(shifted)))
    assert measure("jacob_cov", PLAIN, batch) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_naswot_unit_by_unit_and_from_eigenvalues(shape: dict[str, Any]) -> None:
    batch, plain = make_batch(), Plain(make_candidate(shape))
    plain(batch.images)
    codes = [[bool(unit) for code in plain.codes for unit in code[image]] for image in range(len(batch.images))]
    agreements = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    expected = np.log(np.abs(np.linalg.eigvals(np.array(agreements, float)))).sum()
    assert measure("naswot", shape, batch) == pytest.approx(expected, rel=1e-10)


def test_naswot_of_three_codes_by_hand() -> None:
    """Codes 1010, 1100, 0001 agree in 2, 1 and 1 places: K = [4 2 1; 2 4 1; 1 1 4], its determinant 44."""
    signs = torch.tensor([[1.0, -1, 2, -3], [1, 1, -1, -1], [-2, -1, -1, 0.5]])
    only_relu = cast(SkipNetwork, nn.Sequential(nn.ReLU(inplace=True)))
    batch = Batch(signs.view(3, 1, 2, 2).double(), torch.zeros(3).long())
    assert measure_naswot(Untrained(only_relu, batch, 0)) == pytest.approx(math.log(44), rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_zen_from_its_draws(shape: dict[str, Any]) -> None:
    plain, batch = Plain(make_candidate(shape)), make_batch()

    def draw(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(SEED, "zen", name))

    for name, weight in plain.weights.items():
        weight.normal_(generator=draw(name.removesuffix(".weight")))
    generator = draw("images")
    images = torch.randn(batch.images.shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(batch.images.shape, generator=generator, dtype=torch.float64)
    plain(images)
    before, log_scale = cast(Tensor, plain.mean_free), sum(plain.log_deviations)
    plain(images + 0.01 * noise)
    after = cast(Tensor, plain.mean_free)
    distances = [math.sqrt(float(((a - b) ** 2).sum())) for a, b in zip(before, after, strict=True)]
    expected = math.log(sum(distances) / len(distances)) + log_scale
    assert measure("zen", shape, batch) == pytest.approx(expected, rel=1e-9)


def test_what_does_not_read_the_data_does_not_change_with_it() -> None:
    candidate = make_candidate(PLAIN)
    first = measure_proxies(candidate, make_batch(), SEED)
    images, labels = make_batch()
    relabelled = measure_proxies(candidate, Batch(images, (labels + 1) % 3), SEED)
    other = measure_proxies(candidate, Batch(images.flip(3) * 2 + 1, labels), SEED)
    assert {name for name in PROXIES if first[name] == relabelled[name]} == {"synflow", "jacob_cov", "naswot", "zen"}
    assert {name for name in PROXIES if first[name] == other[name]} == {"synflow", "zen"}


def test_bn_hides_the_scale_of_weights_from_snip_and_naswot() -> None:
    """Layers twice as large give what BN makes the same of, but for its epsilon; gradients are then half as large."""
    values = []
    for factor in (1.0, 2.0):
        network = build_skip_network(make_candidate(PLAIN)).double().train()
        with torch.no_grad():
            for weight in (weight for weight in network.parameters() if weight.ndim == 4):
                weight.mul_(factor)
        values.append({name: PROXIES[name](Untrained(network, make_batch(), SEED)) for name in ("snip", "naswot")})
    assert values[1]["naswot"] == values[0]["naswot"]
    assert values[1]["snip"] == pytest.approx(values[0]["snip"], rel=1e-3)


def test_measuring_changes_nothing_else() -> None:
    generator, n_threads = torch.get_rng_state(), torch.get_num_threads()
    candidate, batch = make_candidate(PLAIN, seed=1), make_batch()
    network = build_skip_network(candidate).double().train()
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    untrained = Untrained(network, batch, 1)
    values = {name: function(untrained) for name, function in PROXIES.items()}
    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
    with torch.no_grad():  # as a caller may be in
        single = Batch(batch.images.float(), batch.labels)
        assert measure_proxies(candidate, single, 1) == pytest.approx(values, rel=1e-4)
    assert measure_proxies(replace(candidate, seed=9), batch, 1) == pytest.approx(values, rel=1e-12)
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == n_threads


def test_a_score_that_is_not_finite_is_none_and_an_unknown_name_is_refused() -> None:
    images, labels = make_batch()
    twice = Batch(images[[0, 0, 1]], labels[:3])
    assert measure_proxies(make_candidate(PLAIN), twice, SEED, ["naswot", "snip"])["naswot"] is None
    with pytest.raises(InputError, match="synflow"):
        measure_proxies(make_candidate(PLAIN), twice, SEED, ["synflo"])
    with pytest.raises(InputError, match="naswot"):
        measure_proxies(make_candidate(PLAIN), twice, SEED, ["accuracy"])


def test_each_proxy_ranks_patterns_and_none_is_constant() -> None:
    network = NetworkConfig.model_validate(PLAIN | {"layers": 6})
    patterns = [find_template(name).build(6) for name in ("log", "chain", "midpoint")]
    rows = [measure_proxies(Candidate(pattern, network, 0), make_batch(), 0) for pattern in patterns]
    assert all(len({row[name] for row in rows}) == len(patterns) for name in PROXIES)


def test_a_network_of_several_exits_is_refused() -> None:
    candidate = make_candidate({})
    network = candidate.network.model_copy(update={"exits": "every:1"})
    with pytest.raises(InputError, match="proxies cannot be had with exits every:1; drop proxies"):
        measure_proxies(replace(candidate, network=network), make_batch(), 0)
