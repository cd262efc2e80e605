"""Networks with the pattern `log`: counts by hand, published counts, distances through transitions."""

import math
from typing import Any

import pytest

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import Cost, predict_cost
from nas.model.network import build_skip_network
from nas.presets.log_densenet import list_log_densenets, list_sparsenets
from nas.presets.registry import find_preset
from search_spaces.rules import loglog_across
from search_spaces.templates import find_template
from search_spaces.wiring.blocks import global_distance


def test_log_densenets_are_those_of_the_papers_grids() -> None:
    placed = {(n, g) for n in (12, 32, 52) for g in (16, 24, 32)}
    names = [preset.name for preset in list_log_densenets()]
    assert len(names) == len(set(names))
    assert {f"log-densenet-{v}-{n}-{g}" for v in ("v1", "v2") for n, g in placed} | {
        f"loglog-densenet-{n}-{g}" for n, g in placed
    } == set(names)


# --- small cases by hand -----------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"layers": 2, "blocks": 2, "growth": 3, "bottleneck": True, "stem_channels": 6, "classes": 5}


def layer(n_read: int) -> int:
    """Parameters of a bottleneck layer of growth 3: BN, 1x1 to 12, BN, 3x3 to 3."""
    return 2 * n_read + n_read * 12 + 2 * 12 + 12 * 3 * 9


def transition(n_read: int, n_written: int) -> int:
    return 2 * n_read + n_read * n_written


def test_v1_counted_by_hand() -> None:
    """Four layers over two blocks; N(1) = {0}, N(2) = {0, 1}, N(3) = {1, 2}, N(4) = {0, 2, 3}."""
    network = NetworkConfig(**SMALL, transition="v1", image=(1, 4, 4))
    candidate = Candidate(find_template("log").build(4), network, 0, "log")
    assert candidate.pattern.sources == ((0,), (0, 1), (1, 2), (0, 2, 3))
    params = (
        1 * 6 * 9  # stem
        + layer(6)  # layer 1 reads the stem
        + layer(6 + 3)  # layer 2
        + transition(6, 6)  # the stem's output is read by layer 4
        + transition(3, 3)  # layer 1 by layer 3
        + transition(3, 3)  # layer 2 by layers 3 and 4
        + layer(3 + 3)  # layer 3 reads 1 and 2, brought over
        + layer(6 + 3 + 3)  # layer 4 reads 0, 2 and 3
        + 2 * (6 + 3 + 3 + 3)  # classifier: layer 4 and what it reads
        + (6 + 3 + 3 + 3) * 5
        + 5
    )
    flops = (
        2 * 16 * (1 * 6 * 9 + (6 * 12 + 12 * 3 * 9) + (9 * 12 + 12 * 3 * 9) + 6 * 6 + 3 * 3 + 3 * 3)
        + 2 * 4 * ((6 * 12 + 12 * 3 * 9) + (12 * 12 + 12 * 3 * 9))
        + 2 * 15 * 5
    )
    assert (params, flops) == (2096, 37014)
    assert predict_cost(candidate) == Cost(params, flops)
    assert sum(weights.numel() for weights in build_skip_network(candidate).parameters()) == params


def test_v2_counted_by_hand() -> None:
    """Two layers a block; three summarised layers at most, floor(log2(4 + 1)) + 1, and a block has two."""
    network = NetworkConfig(**SMALL, transition="v2", image=(1, 4, 4))
    candidate = Candidate(find_template("log").build(2), network, 0, "log")
    params = (
        1 * 6 * 9  # stem, the first summary
        + layer(6)  # layer 1 reads the summary
        + layer(6 + 3)  # layer 2 the summary and layer 1
        + transition(6, 6)  # the old summary
        + transition(3 + 3, 6)  # the block's layers, compressed to min(3 x 3, 2 x 3) channels
        + layer(6 + 6)
        + layer(6 + 6 + 3)
        + 2 * (6 + 6 + 3 + 3)  # classifier: the last layer and what it reads
        + (6 + 6 + 3 + 3) * 5
        + 5
    )
    assert params == 2261
    assert predict_cost(candidate).params == params
    assert sum(weights.numel() for weights in build_skip_network(candidate).parameters()) == params


def test_v2_compresses_a_block_to_log_many_layers() -> None:
    network = find_preset("log-densenet-v2-52-24").network
    wiring = find_preset("log-densenet-v2-52-24").candidate.wiring
    n_summarised = math.floor(math.log2(3 * 52 + 1)) + 1
    assert [block.inputs for block in wiring.blocks] == [
        (48,), (48, 24 * n_summarised), (48 + 24 * n_summarised, 24 * n_summarised)
    ]  # fmt: skip
    assert network.stem_channels == 48


def test_v1_s_distances_go_through_its_transitions() -> None:
    """Layer 4 to layer 1 in the hand-made case: 4 -> 2 brought over -> 2 -> 1, or over 3 and 1 brought over: 3 hops."""
    candidate = Candidate(find_template("log").build(4), NetworkConfig(**SMALL, transition="v1", image=(1, 4, 4)), 0)
    # By hand, from layers 1..4 back to all before: 1; 1 1; to 2, 1, 0: 2 2 3; to 3, 2, 1, 0: 1 2 3 2.
    assert global_distance(candidate.wiring).mean == (1 + 1 + 1 + 2 + 2 + 3 + 1 + 2 + 3 + 2) / 10
    # The classifier reads 4, 3 and, brought over, 2 and 0: layer 1 is 3 hops away behind 3 or 2.
    assert global_distance(candidate.wiring).from_loss_mean == (1 + 1 + 2 + 2 + 3) / 5


# --- LogLog-DenseNet ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [12, 32, 52])
def test_loglog_forces_block_ends_and_four_inputs(layers: int) -> None:
    pattern = loglog_across((layers,) * 3)
    ends = [0, layers, 2 * layers, 3 * layers]
    for n_before, end in enumerate(ends[1:], start=1):
        assert set(ends[:n_before]) <= set(pattern.sources[end - 1])
    assert all(degree >= min(4, layer) for layer, degree in enumerate(pattern.in_degrees, start=1))
    candidate = find_preset(f"loglog-densenet-{layers}-16").candidate
    assert candidate.pattern == pattern
    assert candidate.network == find_preset(f"log-densenet-v1-{layers}-16").network


# --- SparseNet ---------------------------------------------------------------------------------------------------


def count_sparsenet(block_layers: tuple[int, ...], growth: int, kernel: int, bottleneck: bool, classes: int) -> int:
    """Parameters of a SparseNet with three input channels, by a list of the widths in a block.

    Args:
        kernel: side of the stem's convolution; the large one has a normalisation.
    """

    def fetch(widths: list[int]) -> int:
        return sum(widths[-offset] for offset in (1, 2, 4, 8, 16, 32, 64) if offset <= len(widths))

    channels = 2 * growth
    n = 3 * channels * kernel**2 + (2 * channels if kernel == 7 else 0)
    for block, layers in enumerate(block_layers):
        widths = [channels]
        for _ in range(layers):
            read = fetch(widths)
            inner = 4 * growth if bottleneck else read
            n += (2 * read + read * inner if bottleneck else 0) + 2 * inner + 9 * inner * growth
            widths.append(growth)
        read = fetch(widths)
        if block < len(block_layers) - 1:
            channels = read // 2 if bottleneck else read
            n += 2 * read + read * channels
    return n + 2 * read + (read + 1) * classes


SPARSENETS: dict[str, tuple[tuple[int, ...], int, int, bool, int]] = {
    "sparsenet-40-24": ((12,) * 3, 24, 3, False, 10),
    "sparsenet-100-36": ((32,) * 3, 36, 3, False, 10),
    "sparsenet-bc-100-24": ((16,) * 3, 24, 3, True, 10),
    "sparsenet-121": ((6, 12, 24, 16), 32, 7, True, 1000),
    "sparsenet-161": ((6, 12, 36, 24), 48, 7, True, 1000),
    "sparsenet-169": ((6, 12, 32, 32), 32, 7, True, 1000),
    "sparsenet-201": ((6, 12, 48, 32), 32, 7, True, 1000),
    "sparsenet-264": ((6, 12, 64, 48), 32, 7, True, 1000),
}
# The authors' own numbers, in millions, for the 100 classes of CIFAR-100.
AUTHORS = {"sparsenet-40-24": "0.76", "sparsenet-100-36": "5.65", "sparsenet-bc-100-24": "1.46"}
# Another implementation's, for ImageNet: pytorchcv.
ELSEWHERE = {
    "sparsenet-121": 3_250_824,
    "sparsenet-161": 9_853_288,
    "sparsenet-169": 4_709_864,
    "sparsenet-201": 5_703_144,
    "sparsenet-264": 7_717_224,
}


def test_every_sparsenet_is_counted_here() -> None:
    assert {preset.name for preset in list_sparsenets()} == set(SPARSENETS) == set(AUTHORS) | set(ELSEWHERE)


@pytest.mark.parametrize("name", SPARSENETS)
def test_sparsenets_have_the_published_number_of_parameters(name: str) -> None:
    preset = find_preset(name)
    params = predict_cost(preset.candidate).params
    assert params == count_sparsenet(*SPARSENETS[name]) == ELSEWHERE.get(name, params)
    if name in AUTHORS:
        network = preset.network.model_copy(update={"classes": 100})
        params = predict_cost(Candidate(preset.pattern, network, 0, preset.template)).params
        assert f"{params / 1e6:.2f}" == AUTHORS[name]
