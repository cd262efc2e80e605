"""MSDNet's networks have the paper's structure: every count is made a second way, as its authors' code goes."""

import math

import pytest
import torch

from nas.layouts.layout import trace
from nas.layouts.multiscale import MsdNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.model.network import build_network
from nas.presets.registry import find_preset
from nas.records.checked import validate
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template

SCALES, WIDTHS, GROWTH, STEM = 3, (1, 2, 4), 6, 16


def count_basic(n_read: int, n_written: int, kernel: int, side: int) -> tuple[int, int]:
    """Return params and multiply-adds of convolution, BN and ReLU that write maps of this side."""
    weights = n_read * n_written * kernel**2
    return weights + 2 * n_written, weights * side**2


def count_layer(n_read: int, n_written: int, bottleneck: int, side: int, stride: int) -> tuple[int, int]:
    inner = min(n_read, bottleneck * n_written)
    first = count_basic(n_read, inner, 1, side)
    second = count_basic(inner, n_written, 3, side // stride)
    return first[0] + second[0], first[1] + second[1]


def count_msdnet(steps: list[int], classes: int) -> tuple[int, list[int]]:
    """Return parameters, and multiply-adds of all that comes before each exit, with maps as one growing stack a scale.

    Args:
        steps: layers before each exit, counted from the one before it.
    """
    interval = math.ceil(sum(steps) / SCALES)
    sides = [32 >> scale for scale in range(SCALES)]
    parts = [count_basic(3, STEM, 3, 32)]
    parts += [count_basic(STEM * WIDTHS[s - 1], STEM * WIDTHS[s], 3, sides[s]) for s in range(1, SCALES)]
    width, layer, by_exit = STEM, 0, []  # width: of the finest scale's stack, others have WIDTHS times as much
    for step in steps:
        for _ in range(step):
            layer += 1
            n_in, n_out = SCALES - max(0, layer - 2) // interval, SCALES - (layer - 1) // interval
            for scale in range(SCALES - n_out, SCALES):
                written = GROWTH * WIDTHS[scale]
                if scale == SCALES - n_in:
                    parts.append(count_layer(width * WIDTHS[scale], written, WIDTHS[scale], sides[scale], 1))
                    continue
                finer, half = WIDTHS[scale - 1], written // 2
                parts.append(count_layer(width * finer, half, finer, sides[scale - 1], 2))
                parts.append(count_layer(width * WIDTHS[scale], half, WIDTHS[scale], sides[scale], 1))
            width += GROWTH
            if n_in > n_out:
                reduced = width // 2
                parts += [
                    count_basic(width * WIDTHS[s], reduced * WIDTHS[s], 1, sides[s])
                    for s in range(SCALES - n_out, SCALES)
                ]
                width = reduced
        parts += [count_basic(width * WIDTHS[-1], 128, 3, 4), count_basic(128, 128, 3, 2)]
        parts.append((129 * classes, 128 * classes))
        by_exit.append(sum(macs for _, macs in parts))
    return sum(params for params, _ in parts), by_exit


@pytest.mark.parametrize(
    ("name", "steps", "classes", "params"),
    [("msdnet-22", [4] + 9 * [2], 10, 4_839_544), ("msdnet-16", [4] + 6 * [2], 100, 3_067_960)],
)
def test_counts_are_those_of_the_authors_code(name: str, steps: list[int], classes: int, params: int) -> None:
    preset = find_preset(name)
    candidate, image = preset.candidate, preset.network.image
    counted, by_exit = count_msdnet(steps, classes)
    assert predict_cost(candidate).params == counted == params
    layout, nodes = candidate.layout, trace(candidate.layout, image)
    assert len(layout.outputs) == len(steps)
    assert [sum(node.macs for node in nodes[: output + 1]) for output in layout.outputs] == by_exit
    # An exit needs none of the finest maps of the last layer before it; later layers read all of them.
    needed = layout.count_macs_by_exit(image)
    assert needed[0] < by_exit[0] and needed[-1] == by_exit[-1]
    assert all(few <= all_before for few, all_before in zip(needed, by_exit, strict=True))
    assert list(needed) == sorted(set(needed))


def test_multiply_adds_of_seven_exits_are_the_known_ones() -> None:
    _, by_exit = count_msdnet([4] + 6 * [2], 100)
    assert [round(macs / 1e6, 2) for macs in by_exit] == [14.97, 25.26, 36.78, 45.97, 56.93, 66.53, 75.49]


SMALL = NetworkConfig(
    layers=4,
    blocks=2,
    block_layers=(4, 3),
    growth=2,
    stem_channels=3,
    surroundings=MsdNet(first_exit=2, exit_step=3, exit_channels=5),
)


def test_a_layer_reads_what_the_pattern_says_at_each_scale() -> None:
    pattern = ConnectionPattern(4, ((0,), (0, 1), (2,), (1, 3)))
    layout = Candidate(pattern, SMALL.model_copy(update={"transition": "last"}), 0).layout
    by_name = {node.name: node for node in layout.nodes}

    def reads(name: str) -> list[str]:
        return [layout.nodes[source].name for source in by_name[name].reads]

    assert reads("layer2_scale0") == ["stem_scale0", "layer1_scale0"]
    assert reads("layer2_scale1_down") == reads("layer2_scale0")
    assert reads("layer2_scale2") == ["stem_scale2", "layer1_scale2_down", "layer1_scale2"]
    assert "layer4_scale0" not in by_name, "the last layer of the first block drops the finest scale"
    assert reads("layer4_scale1_down") == ["layer1_scale0", "layer3_scale0"]
    assert reads("passage0_scale2") == ["layer4_scale2_down", "layer4_scale2"], "the last layer leaves the block"
    assert reads("layer5_scale1") == ["passage0_scale1"]
    assert "layer5_scale1_down" not in by_name, "there is nothing finer in the second block"
    assert [layout.nodes[output].name for output in layout.outputs] == ["exit2", "exit5", "exit7"]
    assert reads("exit2") == ["stem_scale2", *reads("layer2_scale2")[1:], "layer2_scale2_down", "layer2_scale2"]
    assert reads("exit7") == ["layer7_scale2_down", "layer7_scale2"]
    logs = Candidate(pattern, SMALL, 0).layout  # transition log: layers 4, 3 and 1 of four leave the first block
    (passage,) = (node for node in logs.nodes if node.name == "passage0_scale2")
    assert [logs.nodes[source].name for source in passage.reads if not logs.nodes[source].name.endswith("down")] == [
        "layer1_scale2", "layer3_scale2", "layer4_scale2",
    ]  # fmt: skip


def test_distances_are_those_of_the_columns() -> None:
    """In one block the mean over pairs of columns is the pattern's own."""
    network = SMALL.model_copy(update={"blocks": 1, "block_layers": None})
    pattern = ConnectionPattern(4, ((0,), (1,), (0, 2), (3,)))
    distance = Candidate(pattern, network, 0).global_distance
    assert distance.mean == pytest.approx((1 + 2 + 1 + 1 + 2 + 1 + 2 + 3 + 2 + 1) / 10)


def test_an_untrained_network_computes_logits_of_all_exits_on_small_images() -> None:
    candidate = Candidate(find_template("log").build(4), replace_image(SMALL, (1, 8, 8)), 1, "log")
    network = build_network(candidate).eval()
    logits = network(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 3, 10)
    assert not torch.equal(logits[:, 0], logits[:, 1])


def replace_image(network: NetworkConfig, image: tuple[int, int, int]) -> NetworkConfig:
    return network.model_copy(update={"image": image})


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"blocks": 4, "block_layers": None}, "4 blocks"),
        ({"merge": "dwa", "stem_channels": None}, "drop merge"),
        ({"layer": "depthwise"}, "drop layer"),
        ({"transition": "v1"}, "transition v1"),
        ({"drop_layers": 0.5, "drop_path": 0.1}, "drop drop-layers and drop-path"),
        ({"compression": 0.5, "large_stem": True}, "drop compression and large-stem"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(values: dict[str, object], named: str) -> None:
    given = {name: getattr(SMALL, name) for name in NetworkConfig.model_fields}
    with pytest.raises(InputError, match=named):
        validate(NetworkConfig, given | values)


def test_its_exits_are_its_own() -> None:
    with pytest.raises(ValueError, match="exits every:2 are of blocks in a row, not of msdnet"):
        NetworkConfig(**{**SMALL.model_dump(), "exits": "every:2"})
