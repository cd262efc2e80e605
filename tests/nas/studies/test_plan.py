"""A study's plan: every training once, in an order that leaves any prefix balanced."""

import itertools
import json
from collections import Counter
from typing import Any

import pytest

from nas.model.cost import predict_cost
from nas.records.checked import validate
from nas.records.plan import PARTS, hash_plan
from nas.settings.study import StudyConfig
from nas.studies.plan import list_assignments, make_plan, name_stratum
from search_spaces.budget import parse_budget
from search_spaces.pattern import ConnectionPattern
from tests.support.patterns import measure_means
from tests.support.small_study import DIGITS, PROTOCOL, TINY, tiny, wide


def is_check(plan: dict[str, Any], place: int) -> bool:
    return plan["strata"][place]["checks"] is not None


def pattern_of(described: dict[str, Any]) -> ConnectionPattern:
    return ConnectionPattern.from_sources(described["sources"], described["layers"])


def main_order(plan: dict[str, Any]) -> list[tuple[int, int, int]]:
    return [(place, number, seed) for place, number, seed in plan["order"] if not is_check(plan, place)]


def test_a_plan_is_plain_json_with_all_its_parts() -> None:
    config, plan = wide()
    assert json.loads(json.dumps(plan, allow_nan=False)) == plan
    assert {name: type(plan[name]) for name in PARTS} == PARTS
    assert plan["protocol"] == PROTOCOL
    given = config.identify()
    elsewhere = {"workers", "attempts", "trial_timeout", "checkpoint_seconds", "gpus_per_worker", "ray_address"}
    elsewhere |= {"memory_efficient", "cohort", "hours", "log"}
    assert plan["settings"] == {name: given[name] for name in given.keys() - elsewhere - {"device", "data"}}


def test_strata_are_every_depth_in_every_regime_and_its_check() -> None:
    _, plan = wide()
    regimes = [
        ("gentle", None, 1, 0.05),
        ("steep", None, 2, 0.3),
        ("gentle 3 epochs", "gentle", 3, 0.05),
        ("steep 3 epochs", "steep", 3, 0.3),
    ]
    expected = [
        {
            "layers": layers,
            "budget": "total:28",
            "regime": name,
            "checks": checks,
            "training": {"epochs": epochs, "lr": lr, "batch_size": 16, "weight_decay": 1e-4},
        }
        for layers in (10, 12)
        for name, checks, epochs, lr in regimes
    ]
    assert sorted(plan["strata"], key=name_stratum) == sorted(expected, key=name_stratum)
    assert len(set(map(name_stratum, plan["strata"]))) == 8


def test_patterns_are_described_as_the_design_has_them() -> None:
    _, plan = wide()
    assert len({one["key"] for one in plan["patterns"]}) == len(plan["patterns"])
    for one in plan["patterns"]:
        pattern = pattern_of(one)
        assert pattern.key == one["key"]
        assert parse_budget("total:28", one["layers"]).is_met_by(pattern)
        assert (one["template"] is not None) == (one["strategy"] == "templates")
        assert (one["cell"] is not None) == (one["strategy"] == "design")
        assert (one["matched"] is not None) == (one["strategy"] in ("control", "reversal"))
    for cells in plan["cells"]:
        designed = [o for o in plan["patterns"] if o["strategy"] == "design" and o["layers"] == cells["layers"]]
        assert cells["measures"] == ["mean_bd", "span"]
        for one in designed:
            for name, bins, place in zip(cells["measures"], cells["bins"], one["cell"], strict=True):
                low, high = bins[place]
                assert low - 1e-9 <= measure_means(pattern_of(one))[name] <= high + 1e-9
        assert len(designed) + sum(lack["n"] for lack in cells["lacking"]) == 4


def test_every_stratum_pattern_and_seed_is_there_exactly_once() -> None:
    _, plan = wide()
    expected = {
        (place, number, seed)
        for place, number, seed in itertools.product(range(8), range(len(plan["patterns"])), range(3))
        if plan["strata"][place]["layers"] == plan["patterns"][number]["layers"] and not is_check(plan, place)
    }
    order = main_order(plan)
    assert len(order) == len(expected)
    assert set(order) == expected


def test_all_of_a_seed_come_before_the_next() -> None:
    _, plan = wide()
    seeds = [seed for _, _, seed in main_order(plan)]
    assert seeds == sorted(seeds)
    assert set(Counter(seeds).values()) == {len(seeds) // 3}


def test_any_whole_seed_holds_every_pattern_of_every_stratum_once() -> None:
    _, plan = wide()
    order = main_order(plan)
    n_block = len(order) // 3
    for n_seeds in (1, 2, 3):
        counts = Counter((place, number) for place, number, _ in plan["order"][: n_seeds * n_block])
        assert set(counts.values()) == {n_seeds}
        assert len(counts) == n_block


def test_half_a_seed_is_balanced_between_strata() -> None:
    """Drawn without replacement: within four standard deviations of an equal share."""
    _, plan = wide()
    order = main_order(plan)
    n_block = len(order) // 3
    for start in range(0, len(order), n_block):
        block = order[start : start + n_block]
        half = Counter(place for place, _, _ in block[: n_block // 2])
        for place, n_all in Counter(place for place, _, _ in block).items():
            share = n_all / n_block
            variance = (n_block // 2) * share * (1 - share) / 2
            assert abs(half[place] - n_all / 2) <= 4 * variance**0.5 < n_all / 2 + 1


def test_each_seed_is_shuffled_in_its_own_way() -> None:
    _, plan = wide()
    order = main_order(plan)
    n_block = len(order) // 3
    blocks = [[one[:2] for one in order[start : start + n_block]] for start in range(0, len(order), n_block)]
    assert sorted(blocks[0]) == sorted(blocks[1]) == sorted(blocks[2])
    assert blocks[0] != blocks[1] != blocks[2] != blocks[0]
    assert sorted(blocks[0]) not in blocks


def test_checks_come_last_and_are_spread_evenly_over_mean_bd() -> None:
    _, plan = wide()
    flags = [is_check(plan, place) for place, _, _ in plan["order"]]
    assert flags == sorted(flags)
    seeds = [seed for place, _, seed in plan["order"] if is_check(plan, place)]
    assert seeds == sorted(seeds)
    assert len(seeds) == len(set(map(tuple, plan["order"][-len(seeds) :]))) == 4 * 5 * 3
    for place in (place for place in range(8) if is_check(plan, place)):
        layers = plan["strata"][place]["layers"]
        of_depth = [pattern_of(one) for one in plan["patterns"] if one["layers"] == layers]
        distances = sorted(measure_means(pattern)["mean_bd"] for pattern in of_depth)
        chosen = {number for one, number, _ in plan["order"] if one == place}
        assert len(chosen) == 5
        held = sorted(measure_means(pattern_of(plan["patterns"][number]))["mean_bd"] for number in chosen)
        assert held == pytest.approx([distances[round(k * (len(distances) - 1) / 4)] for k in range(5)])


def test_checks_of_few_patterns_are_of_all() -> None:
    config = validate(StudyConfig, {**TINY, "check_epochs": 2, "seeds": 1})
    plan = make_plan(config, PROTOCOL)
    assert len(plan["patterns"]) == 5
    assert Counter(place for place, _, _ in plan["order"]) == dict.fromkeys(range(4), 5)


def test_a_tuned_plan_crosses_rates_with_patterns_and_seeds() -> None:
    changes: dict[str, Any] = {"regime": (), "tune_lr": ".1:.4:3", "seeds": 3, "check_epochs": 10}
    config = validate(StudyConfig, TINY | changes)
    plan = make_plan(config, PROTOCOL)
    n_patterns = len(plan["patterns"])
    assert [(one["regime"], one["training"]["lr"], one.get("tuned", False)) for one in plan["strata"]] == [
        ("lr 0.1", 0.1, True),
        ("lr 0.2", 0.2, True),
        ("lr 0.4", 0.4, True),
        *((f"lr {lr} 10 epochs", lr, False) for lr in (0.1, 0.2, 0.4)),
    ]
    order = main_order(plan)
    assert sorted(order) == sorted(itertools.product(range(3), range(n_patterns), range(3)))
    n_block = 3 * n_patterns
    assert [seed for _, _, seed in order] == [seed for seed in range(3) for _ in range(n_block)]
    assert order[:n_block] != sorted(order[:n_block])  # rates and patterns mixed, so that a prefix is balanced
    assert len({tuple(one[:2] for one in order[seed * n_block :][:n_block]) for seed in range(3)}) == 3


def test_other_plans_do_not_mention_tuning_in_their_strata() -> None:
    assert not any("tuned" in stratum for stratum in wide()[1]["strata"])


def test_the_same_settings_give_the_same_plan_and_others_another() -> None:
    config, plan = tiny()
    for change in ({"workers": 7}, {"attempts": 1}, {"device": "cuda"}):
        assert hash_plan(make_plan(config.model_copy(update=change), PROTOCOL)) == hash_plan(plan)
    other = make_plan(config.model_copy(update={"seed": 1}), PROTOCOL)
    assert {one["key"] for one in other["patterns"] if one["strategy"] == "design"}.isdisjoint(
        one["key"] for one in plan["patterns"]
    )
    assert hash_plan(make_plan(config, {**PROTOCOL, "alpha": 0.1})) != hash_plan(plan)


def test_tasks_are_the_order_with_the_right_network_and_training() -> None:
    config, plan = wide()
    tasks = list_assignments(plan, config, DIGITS)
    assert len(tasks) == len(plan["order"])
    identities = {(task.candidate.pattern, task.candidate.seed, task.details["regime"]) for task in tasks}
    assert len(identities) == len(tasks)
    names = {name_stratum(stratum) for stratum in plan["strata"]}
    for task, (place, number, seed) in zip(tasks, plan["order"], strict=True):
        stratum, described = plan["strata"][place], plan["patterns"][number]
        candidate = task.candidate
        assert (candidate.pattern.key, candidate.seed) == (described["key"], seed)
        assert candidate.network.layers == candidate.pattern.depth == described["layers"] == stratum["layers"]
        assert (candidate.network.classes, candidate.network.image) == (10, (1, 8, 8))
        assert candidate.training is not None
        assert candidate.training.model_dump(exclude_none=True) == stratum["training"]
        assert candidate.template == described["template"]
        assert task.strategy == described["strategy"]
        assert task.budget == parse_budget("total:28", described["layers"])
        assert task.strata[0] == f"{stratum['layers']} layers, {stratum['regime']}"
        assert len(task.strata) == len(names)
        assert set(task.strata) == names
        assert task.details == {
            "cell": described["cell"],
            "matched": described["matched"],
            "regime": stratum["regime"],
        }
    assert "midpoint" in {task.candidate.template for task in tasks}


def test_all_candidates_of_a_depth_cost_the_same() -> None:
    config, plan = wide()
    costs = {
        (task.candidate.pattern.depth, predict_cost(task.candidate)) for task in list_assignments(plan, config, DIGITS)
    }
    assert len(costs) == 2


def test_without_templates_there_are_none() -> None:
    config = validate(StudyConfig, {**TINY, "layers": 12, "budget": "total:28", "templates": False})
    assert "templates" not in {one["strategy"] for one in make_plan(config, PROTOCOL)["patterns"]}
