"""Predicted params and FLOPs: against built networks, FlopCounterMode and paper; equal inside a budget."""

import itertools
import random
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import Cost, predict_cost
from nas.model.network import build_skip_network
from search_spaces.budget import Budget, log_budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from search_spaces.wiring.blocks import WITHIN, transition_inputs

TEMPLATE_NAMES = ("chain", "log", "dense", "midpoint", "loglog")
DEPTHS = (1, 5, 12)
CHOICES: dict[str, tuple[Any, ...]] = {
    "blocks": (1, 2, 3),
    "transition": WITHIN,
    "growth": (4, 12),
    "bottleneck": (False, True),
    "stem_channels": (None, 1, 24),
    "compression": (None, 0.5, 0.01),
    "image": ((1, 8, 8), (3, 32, 32), (3, 9, 7)),
    "classes": (2, 10),
}


def _draw_networks() -> list[dict[str, Any]]:
    """Settings in which every pair of values of two settings occurs together."""
    generator = random.Random(0)  # noqa: S311
    wanted = {
        pair
        for (a, values_a), (b, values_b) in itertools.combinations(CHOICES.items(), 2)
        for pair in itertools.product([(a, value) for value in values_a], [(b, value) for value in values_b])
    }
    chosen: list[dict[str, Any]] = []
    while wanted:
        drawn = [{name: generator.choice(values) for name, values in CHOICES.items()} for _ in range(20)]
        best = max(drawn, key=lambda values: len(wanted & set(itertools.combinations(values.items(), 2))))
        wanted -= set(itertools.combinations(best.items(), 2))
        chosen.append(best)
    return chosen


NETWORKS = _draw_networks()
CELLS = [
    (name, depth, number, (place + start // 2 * 2 + start % 3) % 4 == 0)
    # Each network occurs with several templates and depths, each template and depth with half of the networks, by
    # default with an eighth of them, a different one each time.
    for start, (name, depth) in enumerate(itertools.product(TEMPLATE_NAMES, DEPTHS))
    for place, number in enumerate(range(start % 2, len(NETWORKS), 2))
]
GRID = [
    pytest.param(
        name, depth, NETWORKS[number], marks=() if by_default else pytest.mark.slow, id=f"{name}-{depth}-{number}"
    )
    for name, depth, number, by_default in CELLS
]


pytestmark = pytest.mark.usefixtures("one_thread")


def make_candidate(pattern: ConnectionPattern, template: str | None = None, **values: Any) -> Candidate:
    return Candidate(pattern, NetworkConfig(layers=pattern.depth, **values), seed=0, template=template)


def measure_cost(candidate: Candidate) -> Cost:
    """Params counted on the built network, FLOPs by torch on one image."""
    network = build_skip_network(candidate).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *candidate.network.image))
    return Cost(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops())


def test_the_grid_holds_every_pair_of_values() -> None:
    for (a, values_a), (b, values_b) in itertools.combinations(CHOICES.items(), 2):
        assert {(values[a], values[b]) for values in NETWORKS} == set(itertools.product(values_a, values_b))
    by_default = [cell for cell in CELLS if cell[3]]
    assert {number for _, _, number, _ in by_default} == set(range(len(NETWORKS)))
    assert {(name, depth) for name, depth, _, _ in by_default} == set(itertools.product(TEMPLATE_NAMES, DEPTHS))


@pytest.mark.parametrize(("name", "depth", "values"), GRID)
def test_prediction_equals_what_torch_counts(name: str, depth: int, values: dict[str, Any]) -> None:
    candidate = make_candidate(find_template(name).build(depth), name, **values)
    assert predict_cost(candidate) == measure_cost(candidate)


def test_a_tiny_network_counted_on_paper() -> None:
    # Two layers, both read node 0; growth 2, stem 3, 1x4x4 images, 3 classes, two blocks; transitions read 1 and 2.
    pattern = ConnectionPattern(2, ((0,), (0, 1)))
    candidate = make_candidate(pattern, blocks=2, growth=2, stem_channels=3, image=(1, 4, 4), classes=3)
    assert candidate.wiring.read == (1, 2)
    params = (
        1 * 3 * 9  # stem, 1 -> 3 channels, 3x3
        + (2 * 3 + 3 * 2 * 9)  # block 1, layer 1: reads 3 channels, writes 2; scale and shift a channel
        + (2 * 5 + 5 * 2 * 9)  # layer 2: reads 3 + 2
        + (2 * 4 + 4 * 2 * 1)  # transition: reads 2 + 2, writes 2, 1x1
        + (2 * 2 + 2 * 2 * 9)  # block 2, layer 1: reads 2
        + (2 * 4 + 4 * 2 * 9)  # layer 2: reads 2 + 2
        + (2 * 4 + 4 * 3 + 3)  # classifier: reads 2 + 2; its scale and shift, weights, biases
    )
    flops = (
        2 * 16 * (1 * 3 * 9 + 3 * 2 * 9 + 5 * 2 * 9 + 4 * 2)  # 4x4 pixels; the transition convolves before it pools
        + 2 * 4 * (2 * 2 * 9 + 4 * 2 * 9)  # 2x2 pixels
        + 2 * 4 * 3
    )
    assert (params, flops) == (346, 6616)
    assert predict_cost(candidate) == Cost(params, flops) == measure_cost(candidate)


def test_a_tiny_bottleneck_counted_on_paper() -> None:
    candidate = make_candidate(ConnectionPattern(1, ((0,),)), growth=2, bottleneck=True, image=(1, 3, 5), classes=2)
    # stem 1 -> 2; 2 -> 8 by 1x1, 8 -> 2 by 3x3; the classifier reads nodes 0 and 1
    params = 1 * 2 * 9 + (2 * 2 + 2 * 8 + 2 * 8 + 8 * 2 * 9) + (2 * 4 + 4 * 2 + 2)
    flops = 2 * 15 * (1 * 2 * 9 + 2 * 8 + 8 * 2 * 9) + 2 * 4 * 2
    assert (params, flops) == (216, 5356)
    assert predict_cost(candidate) == Cost(params, flops) == measure_cost(candidate)


def test_costs_add_part_by_part() -> None:
    assert Cost(1, 20) + Cost(300, 4000) == Cost(301, 4020)


BUDGETS = [log_budget(12), Budget(12, total=37), Budget(7, total=12), Budget(9, per_layer=(1, 1, 3, 2, 4, 2, 5, 1, 3))]
SURROUNDINGS: list[dict[str, Any]] = [
    {},
    {"blocks": 3, "growth": 5, "bottleneck": True, "image": (3, 9, 7)},
    {"blocks": 2, "transition": "all"},
    {"blocks": 2, "transition": "last", "stem_channels": 4},
]


def draw_patterns(budget: Budget, n_patterns: int = 60) -> list[ConnectionPattern]:
    generator = derive_generator("equal cost", str(budget))
    patterns = [sample_uniform(budget, generator) for _ in range(n_patterns)]
    assert len(set(patterns)) > n_patterns // 2
    return patterns


@pytest.mark.parametrize("values", SURROUNDINGS)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_patterns_of_one_budget_cost_the_same(budget: Budget, values: dict[str, Any]) -> None:
    candidates = [make_candidate(pattern, **values) for pattern in draw_patterns(budget)]
    assert candidates[0].network.has_equal_cost
    costs = {predict_cost(candidate) for candidate in candidates}
    assert len(costs) == 1
    assert costs == {measure_cost(candidates[-1])}


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_under_a_wider_stem_they_do_not(budget: Budget) -> None:
    candidates = [make_candidate(pattern, stem_channels=7) for pattern in draw_patterns(budget)]
    assert not candidates[0].network.has_equal_cost
    costs = {predict_cost(candidate) for candidate in candidates}
    # A layer that reads node 0 reads 3 channels more: as many costs as node 0 has different out-degrees.
    assert len(costs) == len({candidate.pattern.out_degrees[0] for candidate in candidates}) > 1


def test_equal_cost_is_the_closed_form_of_the_number_of_connections() -> None:
    # All nodes have g channels, so a connection costs 2 g + 9 g^2 parameters and 18 g^2 FLOPs a pixel.
    for total in (12, 37, 78):
        pattern = sample_uniform(Budget(12, total=total), derive_generator(total))
        growth, n_read = 4, len(transition_inputs("log", 12))
        params = 9 * growth + total * (2 * growth + 9 * growth**2) + n_read * growth * 12 + 10
        flops = 64 * (18 * growth + total * 18 * growth**2) + 20 * n_read * growth
        assert predict_cost(make_candidate(pattern)) == Cost(params, flops)
