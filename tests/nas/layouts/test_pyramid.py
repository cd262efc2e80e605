"""Networks for segmentation around any pattern: sizes, costs, distances, and a second network that fetches maps."""

from typing import Any

import pytest
import torch

from nas.export.sources.layout import format_layout
from nas.layouts.layout import measure_layout
from nas.layouts.pyramid import FcDenseNet, LogDenseNetFcn
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import Cost, predict_cost
from nas.model.network import build_network
from nas.records.checked import validate
from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from tests.support.fetching import Fetching, randomize

ALL = [FcDenseNet(), LogDenseNetFcn(), LogDenseNetFcn(moves="needed")]


def make_candidate(template: str | ConnectionPattern = "log", **values: Any) -> Candidate:
    settings: dict[str, Any] = {"layers": 4, "blocks": 5, "growth": 6, "stem_channels": 12, "image": (1, 16, 16)}
    network = NetworkConfig(**(settings | {"classes": 5} | values))
    if isinstance(template, ConnectionPattern):
        return Candidate(template, network, 0)
    return Candidate(find_template(template).build(network.pattern_depth), network, 0, template)


# --- sizes of images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surroundings", ALL, ids=lambda each: f"{each.kind}-{getattr(each, 'moves', '')}")
@pytest.mark.parametrize(("blocks", "image"), [(5, (1, 16, 16)), (3, (3, 45, 61)), (5, (1, 4, 7)), (1, (2, 3, 1))])
@pytest.mark.parametrize("layer", ["bn-relu-conv", "bottleneck", "depthwise"])
def test_every_pixel_of_an_image_of_any_size_gets_logits(
    surroundings: Any, blocks: int, image: tuple[int, int, int], layer: str
) -> None:
    candidate = make_candidate(blocks=blocks, image=image, layer=layer, surroundings=surroundings)
    network = build_network(candidate)  # which asserts that it has as many parameters as are predicted
    assert network(torch.zeros(2, *image)).shape == (2, 5, *image[1:])
    larger = torch.zeros(1, image[0], image[1] + 9, image[2] + 4)
    assert network(larger).shape == (1, 5, *larger.shape[2:])


def test_images_that_are_halved_away_are_refused() -> None:
    with pytest.raises(InputError, match=r"3x16 pixels are too small.*down2"):
        predict_cost(make_candidate(surroundings=FcDenseNet(), image=(1, 3, 16)))


@pytest.mark.parametrize("surroundings", ALL[:2], ids=lambda each: each.kind)
def test_blocks_without_a_middle_one_are_refused(surroundings: Any) -> None:
    with pytest.raises(InputError, match="4 blocks"):
        predict_cost(make_candidate(surroundings=surroundings, blocks=4))


@pytest.mark.parametrize("surroundings", ALL[:2], ids=lambda each: each.kind)
def test_sums_of_maps_of_two_widths_are_refused(surroundings: Any) -> None:
    with pytest.raises(InputError, match="merge sum"):
        predict_cost(make_candidate(surroundings=surroundings, merge="sum"))


def test_maps_of_one_width_may_be_added() -> None:
    network = build_network(make_candidate(surroundings=LogDenseNetFcn(), merge="dwa", stem_channels=6))
    assert network(torch.zeros(1, 1, 16, 16)).shape == (1, 5, 16, 16)


# --- a second Log-DenseNet -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transition", ["v1", "log", "all"])
@pytest.mark.parametrize("template", ["log", "nearest_4", "midpoint"])
@pytest.mark.parametrize("moves", ["needed", "all"])
def test_a_log_densenet_is_one_that_fetches_maps_when_they_are_asked_for(
    moves: str, template: str, transition: str
) -> None:
    candidate = make_candidate(
        template,
        surroundings={"kind": "log-densenet-fcn", "moves": moves},
        block_layers=(3, 4, 2, 1, 3),
        image=(1, 19, 14),
        transition=transition,
    )
    network = build_network(candidate)
    state = randomize(network)
    images = torch.randn(2, 1, 19, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fetching = Fetching(candidate, state)
    with torch.no_grad():
        expected, found = fetching(images), network(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    moved = {name for name in fetching.made if "map" in name}
    ours = {node.name for node in candidate.layout.nodes if node.kind == "passage"}
    assert moved == ours if moves == "needed" else moved < ours


@pytest.mark.parametrize("surroundings", ALL, ids=lambda each: f"{each.kind}-{getattr(each, 'moves', '')}")
def test_the_exported_program_is_the_same_network(surroundings: Any) -> None:
    candidate = make_candidate(blocks=3, image=(1, 13, 10), surroundings=surroundings)
    network = build_network(candidate)
    state = randomize(network)
    program: dict[str, Any] = {"__file__": "model.py", "__name__": "model"}
    exec(format_layout(candidate), program)  # noqa: S102  the text is ours
    again = program["Network"]().double().eval()
    again.load_state_dict(state)
    images = torch.randn(2, 1, 13, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(again(images), network(images), rtol=0, atol=1e-12)


# --- costs ---------------------------------------------------------------------------------------------------------


def find_costs(surroundings: Any, budget: Budget, **values: Any) -> set[Cost]:
    generator = derive_generator(0, "patterns")
    patterns = [sample_uniform(budget, generator) for _ in range(12)]
    assert len({pattern.key for pattern in patterns}) == 12
    return {predict_cost(make_candidate(pattern, surroundings=surroundings, **values)) for pattern in patterns}


def test_where_all_maps_move_patterns_of_equal_in_degrees_cost_the_same() -> None:
    assert len(find_costs(LogDenseNetFcn(), log_budget(20), stem_channels=6)) == 1
    assert len(find_costs(LogDenseNetFcn(moves="needed"), log_budget(20), stem_channels=6)) > 1


def test_where_all_maps_move_parameters_depend_on_the_number_of_connections_only() -> None:
    """Multiply-adds do not: a connection at full resolution takes four times those of one at half of it."""
    costs = find_costs(LogDenseNetFcn(), Budget(20, total=60), stem_channels=6)
    assert len({cost.params for cost in costs}) == 1
    assert len({cost.flops for cost in costs}) > 1
    assert not LogDenseNetFcn().has_equal_cost


def test_parameters_where_all_maps_move() -> None:
    """Counted from numbers of maps: 20 layers in five blocks of four, all 6 channels wide."""
    (params,) = {cost.params for cost in find_costs(LogDenseNetFcn(), Budget(20, total=60), stem_channels=6)}
    n_down = 5 + 9  # maps before each border
    n_up = 4 + (4 + 4 + 4)  # at half resolution the bottleneck's; at full, those of the three blocks between
    layers = 60 * 6 * (2 + 9 * 6)
    head = 5 * 6  # the log rule has five maps of 20
    assert params == 9 * 6 + layers + n_down * (12 + 36) + n_up * (12 + 9 * 36) + 2 * head + head * 5 + 5


def test_an_fc_densenet_costs_more_where_more_layers_read_what_enters_a_block() -> None:
    near = ConnectionPattern(4, ((0,), (1,), (1, 2), (2, 3)))
    far = ConnectionPattern(4, ((0,), (0, 1), (0, 2), (3,)))
    assert near.n_connections == far.n_connections
    costs = [predict_cost(make_candidate(each, surroundings=FcDenseNet())) for each in (near, far)]
    assert costs[0].params < costs[1].params and costs[0].flops < costs[1].flops
    assert not FcDenseNet().has_equal_cost


def test_an_fc_densenet_counted_by_hand() -> None:
    """Three blocks of two layers, the second of which reads only the first; the last layer leaves a block."""
    chain = ConnectionPattern(2, ((0,), (1,)))
    candidate = make_candidate(
        chain, layers=2, blocks=3, growth=3, stem_channels=4, image=(1, 5, 6), transition="last",
        surroundings=FcDenseNet(),
    )  # fmt: skip

    def layer(n_read: int) -> int:
        return 2 * n_read + 9 * n_read * 3 + 3

    parts = {
        "stem": 9 * 1 * 4 + 4,
        "down block": layer(4) + layer(3),
        "down": 2 * 3 + 3 * 3 + 3,  # only the last layer leaves a block
        "bottleneck": layer(3) + layer(3),
        "up": 9 * 3 * 3 + 3,
        "up block": layer(3 + 3) + layer(3),  # from below and from the way down
        "head": 3 * 5 + 5,
    }
    macs = 30 * 9 * (4 + 4 * 3 + 3 * 3) + 30 * 9 + 6 * 9 * (9 + 9) + 6 * 81 + 30 * 9 * (6 * 3 + 3 * 3) + 30 * 15
    assert predict_cost(candidate) == Cost(sum(parts.values()), 2 * macs)


# --- distances and settings ----------------------------------------------------------------------------------------


def test_distances_where_changes_of_resolution_are_free_or_one_hop() -> None:
    """One layer in each of three blocks, a chain: the stem is 0, layers are 1 to 3."""
    chain = ConnectionPattern(3, ((0,), (1,), (2,)))
    across = make_candidate(
        chain, layers=1, blocks=3, image=(1, 4, 4), transition="last", surroundings=LogDenseNetFcn()
    ).layout
    free, hop = measure_layout(across, 0), measure_layout(across, 1)
    assert (free.mean, free.max, free.from_loss_mean) == ((1 + 1 + 1 + 2 + 2 + 3) / 6, 3, (1 + 2 + 3 + 4) / 4)
    # Layer 2 reads layer 1 brought down, layer 3 layer 2 brought up.
    assert (hop.mean, hop.from_loss_mean) == ((1 + 2 + 2 + 3 + 4 + 5) / 6, (1 + 3 + 5 + 6) / 4)
    one = ConnectionPattern(1, ((0,),))
    joined = make_candidate(
        one, layers=1, blocks=3, image=(1, 4, 4), transition="all", surroundings=FcDenseNet()
    ).layout
    free, hop = measure_layout(joined, 0), measure_layout(joined, 1)
    # Layer 3 reads layer 2 brought up, the stem and layer 1; the head all but layer 2, which it has brought up.
    assert (free.mean, free.from_loss_mean) == (1.0, 1.0)
    assert (hop.mean, hop.from_loss_mean) == ((1 + 2 + 2 + 1 + 1 + 2) / 6, (1 + 1 + 2 + 1) / 4)


def test_a_network_keeps_its_surroundings_as_plain_values() -> None:
    network = make_candidate(surroundings=FcDenseNet(dropout=0.1)).network
    assert network.identify()["surroundings"] == {"kind": "fc-densenet", "dropout": 0.1}
    again = validate(NetworkConfig, network.model_dump(mode="json"))
    assert again == network
    with pytest.raises(InputError, match="surroundings"):
        validate(NetworkConfig, {"surroundings": {"kind": "fc-dense"}})
