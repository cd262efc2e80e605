"""Networks of layouts: sums that nodes share, dropout by seed and step, and trainings that are resumed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nas.layouts.fractal import FractalNet
from nas.layouts.multiscale import MsdNet
from nas.layouts.pyramid import FcDenseNet
from nas.layouts.residual import HighwayNet, ResNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.layout_network import LayoutNetwork, build_layout_network
from nas.modules.drops import SeededDropout
from nas.modules.start import start_weights
from nas.records.checked import Settings, validate
from nas.training.checkpoints import Slot
from nas.training.evaluation import take_statistics
from search_spaces.errors import InputError, Interrupted
from search_spaces.templates import find_template
from tests.support.small_cohorts import draw_split, step_by_step, stop_at
from tests.support.training import train_candidate

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORKS = {
    "resnet": {"surroundings": ResNet(), "transition": "all"},
    "stochastic depth": {"surroundings": ResNet(), "drop_layers": 0.5},
    "highway": {"surroundings": HighwayNet(), "drop_path": 0.3},
    "fractal": {"surroundings": FractalNet(leaves_chain_out=True), "drop_path": 0.15},
}


def make_candidate(name: str, template: str = "dense", **values: Any) -> Candidate:
    given = {"layers": 5, "blocks": 2, "growth": 2, "merge": "sum", "image": (2, 6, 5)}
    network = validate(NetworkConfig, {**given, **NETWORKS[name], **values})
    return Candidate(find_template(template).build(network.pattern_depth), network, 3, template)


def run_node_by_node(network: LayoutNetwork, images: Tensor) -> Tensor:
    """Compute a layout's nodes one by one, each from all that it reads."""
    values = [images]
    for node in network.layout.nodes[1:]:
        module = network.nodes[node.name]
        sources = [values[source] for source in node.reads]
        values.append(module(sources, None, network.layout.shapes(images.shape[1:])[len(values)]))  # type: ignore[arg-type]
    return values[-1]


@pytest.mark.parametrize("surroundings", [MsdNet(widths=(1,) * 15), FcDenseNet()], ids=lambda each: each.kind)
def test_a_network_that_would_take_minutes_to_lay_out_is_refused(
    surroundings: MsdNet | FcDenseNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.model.candidate.MAX_READS", 4000)
    network = NetworkConfig(layers=30, blocks=9, transition="all", surroundings=surroundings, image=(1, 512, 512))
    candidate = Candidate(find_template("dense").build(30), network, 0)
    with pytest.raises(InputError, match=f"^{30 * 31 // 2 * 9:,} connections are too many"):
        _ = candidate.layout


@pytest.mark.parametrize("width", [1, 2, 8])
def test_the_reads_of_a_network_are_no_more_than_its_connections_allow(width: int) -> None:
    surroundings = MsdNet(widths=(1,) * width, first_exit=100)
    network = NetworkConfig(layers=12, blocks=width // 2 or 1, transition="all", surroundings=surroundings)
    pattern = find_template("dense").build(12)
    n_reads = sum(len(node.reads) for node in Candidate(pattern, network, 0).layout.nodes if node.kind == "layer")
    most = pattern.n_connections * network.blocks * surroundings.reads_per_connection
    assert most / 5 < n_reads <= most


@pytest.mark.parametrize(("kind", "field"), [(MsdNet, "widths"), (FractalNet, "factors")])
def test_surroundings_have_no_more_widths_than_an_image_has_halvings(kind: type[Settings], field: str) -> None:
    with pytest.raises(InputError, match=rf"{field}: expected a list"):
        validate(kind, {field: [1] * 16})


@pytest.mark.parametrize("template", ["dense", "log", "chain", "midpoint"])
@pytest.mark.parametrize("name", NETWORKS)
def test_sums_that_nodes_share_are_those_of_each_node_bit_for_bit(name: str, template: str) -> None:
    candidate = make_candidate(name, template)
    network = build_layout_network(candidate).train()
    images = torch.randn(3, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    for step in range(3):
        network.draw_drops(0, step)
        assert torch.equal(network(images), run_node_by_node(network, images))


class CountAdditions(TorchFunctionMode):
    """Counts additions of tensors."""

    n = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func in (Tensor.add, Tensor.__add__, torch.add)
        return func(*args, **(kwargs or {}))


def test_where_each_layer_adds_all_before_it_the_additions_grow_with_the_layers() -> None:
    network = build_layout_network(make_candidate("resnet", layers=9, blocks=1)).eval()
    images = torch.zeros(1, 2, 6, 5)
    with CountAdditions() as shared:
        network(images)
    with CountAdditions() as separate:
        run_node_by_node(network, images)
    assert shared.n == 9  # each layer but the first adds one node to the sum of the layer before, and so does the head
    assert separate.n == sum(range(1, 10))


def test_dropout_follows_from_seed_place_and_step() -> None:
    network = build_layout_network(make_candidate("fractal")).train()
    images = torch.randn(3, 2, 6, 5, generator=torch.Generator().manual_seed(0))

    def run(seed: int, step: int) -> Tensor:
        network.draw_drops(seed, step)
        return network(images)  # type: ignore[no-any-return]

    first = run(0, 0)
    torch.manual_seed(1)
    assert torch.equal(run(0, 0), first)  # whatever the global generator's state is
    assert not torch.equal(run(0, 1), first)
    assert not torch.equal(run(1, 0), first)
    seeds = [module.seed for module in network.modules() if isinstance(module, SeededDropout)]
    assert len(set(seeds)) == len(seeds) == 10
    network.end_drops()
    assert torch.equal(network.eval()(images), network(images))


def test_dropout_keeps_its_share_and_the_mean() -> None:
    dropout = SeededDropout(0.3).train()
    dropout.seed = 5
    x = torch.ones(200, 200, dtype=torch.float64)
    dropped = dropout(x)
    share = float((dropped == 0).double().mean())
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / x.numel()) ** 0.5
    assert torch.equal(dropped[dropped != 0], torch.full_like(dropped[dropped != 0], 1 / 0.7))
    assert torch.equal(dropout.eval()(x), x)


def test_statistics_are_taken_without_dropout() -> None:
    network = build_layout_network(make_candidate("fractal"))
    images = torch.randn(8, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    statistics = []
    for _ in range(2):
        take_statistics(network, lambda batch: network(batch[0])[None], [images])
        statistics.append({name: value.clone() for name, value in network.named_buffers()})
    assert all(torch.equal(statistics[0][name], value) for name, value in statistics[1].items())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_resumed_training_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    candidate = make_candidate(name, "log")
    split, config = draw_split(candidate), step_by_step(5, lr=0.01)
    whole = train_candidate(candidate, split, config)
    assert whole.error is None
    slot = Slot(tmp_path / "checkpoint.pt", "identity", 0)
    with pytest.raises(Interrupted):
        train_candidate(candidate, split, config, stop_at(3), slot)
    torch.manual_seed(7)  # of another process
    resumed = train_candidate(candidate, split, config, slot=slot)
    assert resumed.resumed_epoch == 3
    assert replace(resumed, seconds=0.0, resumed_epoch=0) == replace(whole, seconds=0.0)


@pytest.mark.parametrize("name", ["resnet", "highway", "fractal"])
def test_patterns_of_a_seed_start_from_the_same_weights(name: str) -> None:
    states = [
        build_layout_network(make_candidate(name, template)).state_dict() for template in ("chain", "log", "dense")
    ]
    for other in states[1:]:
        assert states[0].keys() == other.keys()
        assert all(torch.equal(value, other[place]) for place, value in states[0].items())


def test_a_gate_s_bias_survives_new_weights_and_other_biases_start_at_0() -> None:
    network = build_layout_network(make_candidate("highway", surroundings=HighwayNet(gate_bias=-3.0)))
    start_weights(network, 9)
    biases = {
        name: set(module.bias.tolist())
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.bias is not None
    }
    assert {name: values for name, values in biases.items() if name.endswith("gate")} != {}
    assert all(values == ({-3.0} if name.endswith("gate") else {0.0}) for name, values in biases.items())
