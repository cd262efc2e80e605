"""Connection strengths of trained networks: against slices of the weights, block by block, for every policy."""

from typing import Any

import pytest
import torch
from torch import nn

from nas.data.readers import load_data
from nas.data.splits import split_data
from nas.layouts.condensed import CondenseNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig, TrainingConfig
from nas.model.layout_network import LayoutNetwork, build_layout_network
from nas.model.network import build_skip_network
from nas.model.strengths import MAX_CONNECTIONS, measure_kept, measure_strengths
from nas.records.trial import Outcome
from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from tests.support.training import train_candidate

IMAGE = (1, 8, 8)


def weights_of(network: nn.Module, block: int, layer: int) -> torch.Tensor:
    """Mean absolute weight by input channel of a layer's first convolution."""
    weight = network.get_parameter(f"blocks.{block}.layers.{layer}.3.weight")
    return weight.detach().double().abs().mean(dim=(0, 2, 3))


@pytest.mark.parametrize("bottleneck", [False, True])
def test_within_blocks_strengths_are_means_of_slices(bottleneck: bool) -> None:
    pattern = sample_uniform(Budget(6, total=13), derive_generator("strengths"))
    network = NetworkConfig(
        layers=6,
        blocks=2,
        growth=3,
        stem_channels=5,
        compression=0.5,
        layer="bottleneck" if bottleneck else "bn-relu-conv",
        image=IMAGE,
    )
    candidate = Candidate(pattern, network, 0)
    built = build_skip_network(candidate)
    found = measure_strengths(built, candidate)
    assert [len(one) for one in found] == [13, 13]
    firsts = [5, candidate.wiring.blocks[1].inputs[0]]
    for block in range(2):
        expected = []
        for layer, inputs in enumerate(pattern.sources):
            by_channel, start = weights_of(built, block, layer), 0
            for source in inputs:
                width = firsts[block] if source == 0 else 3
                expected.append(float(by_channel[start : start + width].mean()))
                start += width
            assert start == len(by_channel)
        assert found[block] == pytest.approx(expected, rel=1e-4)


def test_v1_has_one_strength_a_connection_of_all_blocks() -> None:
    pattern = find_template("log").build(6)
    network = NetworkConfig(layers=3, blocks=2, growth=3, stem_channels=5, transition="v1", image=IMAGE)
    candidate = Candidate(pattern, network, 0)
    built = build_skip_network(candidate)
    (found,) = measure_strengths(built, candidate)
    by_connection = dict(zip(pattern.connections, found, strict=True))
    # Layer 4, the first of block 2, reads 0, 2 and 3, the first of 5 channels.
    by_channel = weights_of(built, 1, 0)
    assert pattern.sources[3] == (0, 2, 3)
    for source, part in ((0, slice(0, 5)), (2, slice(5, 8)), (3, slice(8, 11))):
        assert by_connection[source, 4] == pytest.approx(float(by_channel[part].mean()), rel=1e-4)
    assert len(found) == pattern.n_connections


def test_v2_takes_the_whole_summary_for_node_0() -> None:
    pattern = find_template("log").build(3)
    network = NetworkConfig(layers=3, blocks=2, growth=2, stem_channels=4, transition="v2", image=IMAGE)
    candidate = Candidate(pattern, network, 0)
    built = build_skip_network(candidate)
    found = measure_strengths(built, candidate)
    assert [len(one) for one in found] == [pattern.n_connections] * 2
    # Layer 2 of block 2 reads the summary, 4 and 6 channels, and layer 1; its pattern is {0, 1}.
    by_channel = weights_of(built, 1, 1)
    by_connection = dict(zip(pattern.connections, found[1], strict=True))
    assert candidate.wiring.blocks[1].inputs == (4, 6)
    assert by_connection[0, 2] == pytest.approx(float(by_channel[:10].mean()), rel=1e-4)
    assert by_connection[1, 2] == pytest.approx(float(by_channel[10:].mean()), rel=1e-4)


def test_blocks_of_fewer_layers_are_left_out() -> None:
    network = NetworkConfig(layers=4, blocks=3, block_layers=(2, 4, 4), growth=3, image=IMAGE)
    candidate = Candidate(find_template("dense").build(4), network, 0, "dense")
    assert [len(one) for one in measure_strengths(build_skip_network(candidate), candidate)] == [10, 10]


def test_of_a_huge_network_none_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = Candidate(find_template("dense").build(4), NetworkConfig(layers=4, image=IMAGE), 0)
    built = build_skip_network(candidate)
    monkeypatch.setattr("nas.model.strengths.MAX_CONNECTIONS", 10)
    assert len(measure_strengths(built, candidate)[0]) == 10
    monkeypatch.setattr("nas.model.strengths.MAX_CONNECTIONS", 9)
    assert measure_strengths(built, candidate) == ()
    assert MAX_CONNECTIONS >= 3 * 52 * 53 // 2  # dense, three blocks of 52 layers: the largest of the presets


def make_condensed(n_stages: int) -> tuple[Candidate, LayoutNetwork]:
    network = NetworkConfig(
        layers=2, blocks=2, growth=4, transition="all", image=IMAGE, surroundings=CondenseNet(groups=2)
    )
    candidate = Candidate(ConnectionPattern(4, ((0,), (0, 1), (1, 2), (0, 2, 3))), network, 0)
    built = build_layout_network(candidate)
    for module in built.condensing:
        module.condense(n_stages)
    return candidate, built


@pytest.mark.parametrize("n_stages", [0, 2, 3])
def test_of_a_condensed_network_strengths_are_of_what_was_kept_and_so_are_the_shares(n_stages: int) -> None:
    candidate, built = make_condensed(n_stages)
    (strengths,), (kept,) = measure_strengths(built, candidate), measure_kept(built, candidate)
    names = ["block0_layer0", "block0_layer1", "block1_layer0", "block1_layer1"]
    widths = [8, 4, 4, 8, 8]  # of the stem and the layers, whose growth doubles
    expected: dict[tuple[int, int], tuple[float, float]] = {}
    for layer, (name, sources) in enumerate(zip(names, candidate.pattern.sources, strict=True), start=1):
        weight = built.state_dict()[f"nodes.{name}.operations.2.weight"].double()[:, :, 0, 0]
        mask = built.state_dict()[f"nodes.{name}.operations.2.mask"]
        start = 0
        for source in sources:
            channels = range(start, start + widths[source])
            start += widths[source]
            is_read = [[bool(mask[output % 2, channel]) for channel in channels] for output in range(len(weight))]
            weights = [
                abs(float(weight[output, channel])) * is_read[output][place]
                for output in range(len(weight))
                for place, channel in enumerate(channels)
            ]
            share = sum(sum(row) for row in is_read[:2]) / (2 * widths[source])
            expected[source, layer] = (sum(weights) / len(weights), share)
        assert start == weight.shape[1]
    ordered = [expected[connection] for connection in candidate.pattern.connections]
    assert strengths == pytest.approx([strength for strength, _ in ordered], rel=1e-4)
    assert kept == pytest.approx([share for _, share in ordered], rel=1e-4)
    if n_stages == 0:
        assert set(kept) == {1.0}


def test_a_condensed_training_records_both_and_a_plain_one_no_shares() -> None:
    split = split_data(load_data("digits", None), 0, 64, "cpu")
    candidate, _ = make_condensed(0)
    whole, paused = (
        train_candidate(candidate, split, TrainingConfig(epochs=2), pause_after=pause) for pause in (None, 1)
    )
    assert [len(whole.strengths[0]), len(whole.kept[0])] == [8, 8]
    # Each layer's groups keep a quarter of what it reads.
    widths = {0: 8, 1: 4, 2: 4, 3: 8}
    by_connection = dict(zip(candidate.pattern.connections, whole.kept[0], strict=True))
    for layer, sources in enumerate(candidate.pattern.sources, start=1):
        n_kept = sum(by_connection[source, layer] * widths[source] for source in sources)
        assert n_kept == pytest.approx(sum(widths[source] for source in sources) / 4, rel=1e-4)
    assert (paused.kept, paused.strengths) == ((), ())
    plain = Candidate(find_template("log").build(3), NetworkConfig(layers=3, image=IMAGE), 0)
    assert measure_kept(build_skip_network(plain), plain) == ()


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    split = split_data(load_data("digits", None), 0, 64, "cpu")
    candidate = Candidate(find_template("log").build(5), NetworkConfig(layers=5), 0)
    return [train_candidate(candidate, split, TrainingConfig(epochs=4), pause_after=pause) for pause in (None, 2)]


def test_a_finished_training_has_strengths_and_a_paused_one_none(outcomes: list[Outcome]) -> None:
    whole, paused = outcomes
    assert [len(one) for one in whole.strengths] == [find_template("log").build(5).n_connections]
    assert paused.strengths == ()


def test_an_outcome_comes_back_from_json_with_its_strengths(outcomes: list[Outcome]) -> None:
    import json

    for outcome in outcomes:
        assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome
    older: dict[str, Any] = outcomes[0].to_dict()
    del older["strengths"]  # as ledgers before them have it
    assert Outcome.from_dict(older).strengths == ()
