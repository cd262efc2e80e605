"""The network of the segmentation task: what each setting makes of it, its cost, and a whole training of it."""

from typing import Any

import pytest
import torch

from nas.layouts.pyramid import FcDenseNet, LogDenseNetFcn
from nas.model.config import TrainingConfig
from nas.tasks.candidate import TaskCandidate, TaskPattern
from nas.tasks.costs import Costs
from nas.tasks.loaded import load_task
from nas.tasks.segmentation.task import SegmentationTask
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template

SMALL: dict[str, Any] = {"blocks": 3, "growth": 2, "stem": 4, "scenes": 30}


@pytest.mark.parametrize(
    ("settings", "layers"), [({}, 7), ({"surroundings": "fc-densenet"}, 2), ({"blocks": 5, "growth": 3}, 10)]
)
@pytest.mark.parametrize("transition", ["log", "all", "last"])
def test_a_network_gives_logits_of_every_pixel_at_the_cost_that_is_said(
    settings: dict[str, Any], layers: int, transition: str
) -> None:
    task = SegmentationTask(**{**SMALL, **settings})
    pattern = TaskPattern.of(find_template("log").build(layers), transition)
    network = task.build(pattern, 0).eval()
    images, masks = (part[:2] for part in task.data(0)[1])
    with torch.no_grad():
        logits = network(images)
        assert logits.shape == (2, 11, *masks.shape[1:])
        torch.testing.assert_close(task.build(pattern, 0).eval()(images), logits)
    assert task.cost(pattern).params == sum(weight.numel() for weight in network.parameters())


def test_the_settings_become_those_of_the_network() -> None:
    pattern = TaskPattern.of(find_template("log").build(8), "all")
    spanning = SegmentationTask(**SMALL).network(pattern)
    assert (spanning.block_depths, spanning.pattern_depth) == ((3, 3, 2), 8)
    assert isinstance(spanning.surroundings, LogDenseNetFcn)
    each = SegmentationTask(**SMALL, surroundings="fc-densenet", dropout=0.3).network(pattern)
    assert (each.block_depths, each.pattern_depth) == ((8, 8, 8), 8)
    assert each.surroundings == FcDenseNet(dropout=0.3)
    for network in (spanning, each):
        assert (network.growth, network.stem, network.classes, network.image) == (2, 4, 11, (1, 16, 16))
        assert network.transition == "all"


def test_nodes_that_no_policy_reads_are_refused() -> None:
    pattern = find_template("log").build(8)
    with pytest.raises(InputError, match=r"\[3\]"):
        SegmentationTask(**SMALL).network(TaskPattern(8, pattern.sources, (3,)))


def test_images_that_are_too_small_for_the_blocks_are_refused() -> None:
    pattern = TaskPattern.of(find_template("log").build(11))
    with pytest.raises(InputError, match=r"11 blocks halve images of 16 x 16 .* blocks=9"):
        SegmentationTask(**{**SMALL, "blocks": 11}).network(pattern)
    for surroundings in ("log-densenet", "fc-densenet"):
        task = SegmentationTask(**{**SMALL, "blocks": 9, "surroundings": surroundings})
        with torch.no_grad():
            assert task.build(pattern, 0).eval()(task.data(0)[1][0][:1]).shape == (1, 11, 16, 16)


@pytest.mark.parametrize(("surroundings", "layers"), [("log-densenet", 6), ("fc-densenet", 2)])
def test_it_is_trained_as_every_task_and_the_same_seed_gives_the_same_numbers(surroundings: str, layers: int) -> None:
    texts = [f"{name}={value}" for name, value in SMALL.items()]
    loaded = load_task("segmentation", [*texts, f"surroundings={surroundings}"])
    candidate = TaskCandidate.of(find_template("log").build(layers), "log", 0)
    training = TrainingConfig(**{**loaded.defaults, "epochs": 1})
    first, again = (loaded.train(candidate, training, "cpu") for _ in range(2))
    assert first.error is None
    assert set(first.metrics) == {"miou", "global_accuracy", "loss"}
    assert (first.metrics, first.details) == (again.metrics, again.details)


def test_with_a_stem_as_wide_as_a_layer_patterns_of_equal_in_degrees_cost_the_same() -> None:
    generator = derive_generator("costs")
    patterns = [sample_uniform(parse_budget("log", 10), generator) for _ in range(6)]
    for stem, is_equal in ((None, True), (7, False)):
        task = SegmentationTask(blocks=5, growth=3, scenes=1, stem=stem)
        costs = {task.cost(TaskPattern.of(pattern)) for pattern in patterns}
        assert (len(costs) == 1) == is_equal


def test_a_run_says_where_only_the_computation_differs() -> None:
    costs = Costs(load_task("segmentation", ["blocks=5", "growth=2", "scenes=1"]), "log")
    costs.measure([parse_budget("log", 10), parse_budget("total:20", 10)])
    equal, unequal = costs.list_sentences()
    assert equal.endswith("equal cost")
    (params,) = {cost.params for cost in costs.measured[parse_budget("total:20", 10)]}
    assert f" {params:,} parameters and " in unequal
    assert unequal.endswith("NOT of equal cost, so a difference between patterns may be one of computation")
