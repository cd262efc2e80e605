"""Stochastic depth and dropped paths: what is drawn, what it does, and that it comes from the candidate's seed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from nas.data.splits import Split
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import build_skip_network
from nas.modules.drops import Drop
from nas.records.trial import Outcome
from nas.training.checkpoints import Slot
from search_spaces.errors import Interrupted
from search_spaces.templates import find_template
from tests.support.small_cohorts import draw_split, step_by_step, stop_at
from tests.support.training import train_candidate

pytestmark = pytest.mark.usefixtures("one_thread")


def make_candidate(template: str = "dense", seed: int = 0, **values: Any) -> Candidate:
    network = NetworkConfig.model_validate({"layers": 6, "growth": 3, "image": (2, 6, 5), **values})
    return Candidate(find_template(template).build(network.pattern_depth), network, seed, template)


def drops_of(candidate: Candidate, step: int) -> list[Drop]:
    network = build_skip_network(candidate)
    network.draw_drops(candidate.seed, step)
    return [layer.drop for layer in network.layers if layer.drop is not None]


def test_stochastic_depth_keeps_as_many_layers_as_its_rule_says() -> None:
    candidate = make_candidate("chain", layers=18, blocks=3, growth=1, image=(1, 4, 4), drop_layers=0.5)
    network = build_skip_network(candidate)
    n, n_draws = 54, 600
    counts = []
    for step in range(n_draws):
        network.draw_drops(3, step)
        counts.append(sum(layer.drop is not None and layer.drop.keeps_output for layer in network.layers))
    kept = [1 - layer / n * 0.5 for layer in range(1, n + 1)]
    error = math.sqrt(sum(p * (1 - p) for p in kept) / n_draws)  # independent draws
    assert (3 * n - 1) / 4 == pytest.approx(sum(kept), rel=1e-12) == 40.25
    assert abs(sum(counts) / n_draws - 40.25) < 4 * error


def test_a_path_is_dropped_at_its_rate_and_never_the_last_input_of_a_layer() -> None:
    candidate = make_candidate(drop_path=0.4, layers=4)
    network = build_skip_network(candidate)
    n_draws = 2000
    lost = torch.zeros(4, 4)
    for step in range(n_draws):
        network.draw_drops(1, step)
        for place, layer in enumerate(network.layers):
            assert layer.drop is not None
            assert layer.drop.keeps_output
            assert any(layer.drop.keeps_inputs)
            lost[place, : place + 1] += ~torch.tensor(layer.drop.keeps_inputs)
    for place in range(4):
        n = place + 1
        rate = 0.4 - 0.4**n / n  # where all would go, one of n stays
        error = math.sqrt(rate * (1 - rate) / n_draws)
        assert (abs(lost[place, :n] / n_draws - rate) <= 4 * error).all()


def test_at_the_highest_rates_every_layer_still_has_an_input() -> None:
    for step in range(50):
        assert all(sum(drop.keeps_inputs) >= 1 for drop in drops_of(make_candidate(drop_path=0.99), step))


def test_draws_follow_from_seed_and_step() -> None:
    candidate = make_candidate(drop_layers=0.5, drop_path=0.3)
    assert drops_of(candidate, 4) == drops_of(candidate, 4)
    assert len({tuple(drops_of(candidate, step)) for step in range(8)}) > 4
    assert drops_of(candidate, 4) != drops_of(replace(candidate, seed=1), 4)
    kept = [
        [drop.keeps_output for drop in drops_of(make_candidate(name, drop_layers=0.5), 4)] for name in ("log", "chain")
    ]
    assert kept[0] == kept[1]  # patterns of a seed are paired


@pytest.mark.parametrize("merge", ["concat", "sum", "gated", "dwa"])
def test_what_a_drop_does_to_a_layer(merge: str) -> None:
    candidate = make_candidate(merge=merge, drop_layers=0.5, drop_path=0.3)
    network = build_skip_network(candidate).double().train()
    layer = network.layers[2]
    generator = torch.Generator().manual_seed(0)
    nodes = {node: torch.randn(4, 3, 6, 5, generator=generator, dtype=torch.float64) for node in range(3)}

    def run(nodes: dict[int, Tensor], drop: Drop | None) -> Tensor:
        layer.drop = drop
        return cast(Tensor, layer(nodes))

    whole = run(nodes, Drop(True, (True, True, True)))
    without = run(nodes, Drop(True, (True, False, True)))
    assert not run(nodes, Drop(False, (True, True, True))).any()
    torch.testing.assert_close(run(nodes, None), whole * (1 - 3 / 6 * 0.5), rtol=0, atol=1e-12)
    # Dropped, a node is read as zeros; the rest of a sum stands for it.
    scale = 1.0 if merge == "concat" else 1.5
    instead = {node: x * (0.0 if node == 1 else scale) for node, x in nodes.items()}
    torch.testing.assert_close(without, run(instead, Drop(True, (True, True, True))), rtol=0, atol=1e-12)
    assert float((whole - without).detach().abs().max()) > 1e-3 or merge == "dwa"


def test_without_drops_nothing_is_scaled_and_with_them_evaluation_draws_nothing() -> None:
    plain, dropping = (build_skip_network(make_candidate(drop_path=rate)).eval() for rate in (0.0, 0.5))
    images = torch.randn(3, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain(images), dropping(images))
    dropping.draw_drops(0, 0)
    assert not torch.equal(plain(images), dropping(images))
    dropping.end_drops()
    assert torch.equal(plain(images), dropping(images))


def without_time(outcome: Outcome) -> Outcome:
    return replace(outcome, seconds=0.0, resumed_epoch=0)


@pytest.mark.parametrize(
    "values",
    [
        {"drop_layers": 0.5, "drop_path": 0.3},
        {"drop_layers": 0.9, "merge": "sum", "blocks": 2},
        {"drop_path": 0.4, "merge": "dwa"},
        {"drop_path": 0.4, "drop_layers": 0.2, "merge": "gated", "layer": "bottleneck"},
    ],
    ids=str,
)
def test_a_resumed_training_is_the_uninterrupted_one(values: dict[str, Any], tmp_path: Path) -> None:
    candidate = make_candidate("log", **values)
    split, config = draw_split(candidate), step_by_step(6)
    whole = train_candidate(candidate, split, config)
    assert whole.error is None
    assert (
        whole.curve != train_candidate(make_candidate("log", merge=values.get("merge", "concat")), split, config).curve
    )
    slot = Slot(tmp_path / "checkpoint.pt", "identity", 0)
    with pytest.raises(Interrupted):
        train_candidate(candidate, split, config, stop_at(4), slot)
    resumed = train_candidate(candidate, split, config, slot=slot)
    assert resumed.resumed_epoch == 4
    assert without_time(resumed) == without_time(whole)


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_memory_efficiently_the_numbers_are_the_same(merge: str) -> None:
    candidate = make_candidate("log", merge=merge, drop_layers=0.5, drop_path=0.3)
    split, config = draw_split(candidate), step_by_step(4)
    outcomes = [train_candidate(candidate, split, config, memory_efficient=efficient) for efficient in (False, True)]
    assert without_time(outcomes[0]) == without_time(outcomes[1])


def test_the_fused_engine_drops_too() -> None:
    candidate = make_candidate("log", drop_layers=0.5, drop_path=0.3)
    split, config = draw_split(candidate), step_by_step(4)
    eager, fused = (train_candidate(candidate, split, config, is_fused=is_fused) for is_fused in (False, True))
    assert [point["train_loss"] for point in fused.curve] == pytest.approx(
        [point["train_loss"] for point in eager.curve], abs=1e-5
    )


def test_statistics_and_measurements_are_of_the_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = make_candidate("log", drop_layers=0.9, drop_path=0.5)
    seen: list[bool] = []
    original: Callable[..., None] = __import__("nas.training.train", fromlist=["take_statistics"]).take_statistics

    def spy(network: Any, *rest: Any) -> None:
        seen.append(all(layer.drop is None for layer in network.layers))
        original(network, *rest)

    monkeypatch.setattr("nas.training.train.take_statistics", spy)
    split: Split = draw_split(candidate)
    assert train_candidate(candidate, split, step_by_step(2)).error is None
    assert seen == [True]
