import numpy as np
import pytest

from analysis.tradeoff.contenders import Contender, list_contenders, name_family, score_left_out
from search_spaces.budget import parse_budget
from search_spaces.families import FAMILIES, fit_family
from search_spaces.templates import TEMPLATES, find_template
from tests.support.synthetic_run import DEPTH, Proposal, make_candidates, propose

OWN_FAMILY = (
    "chain",
    "dense",
    "log",
    "odd_even",
    "half_and_log",
    "mini_dense",
    "loglog",
    "harmonic",
    "midpoint",
    "greedy",
    "annealed",
    "shortest_walk",
)


def test_every_template_belongs_to_the_family_of_its_rule() -> None:
    families = {name: name_family(name) for name in TEMPLATES}
    assert families.pop("nearest_4") == families.pop("nearest_half") == "nearest"
    assert families.pop("nearest_log_i") == families.pop("nearest_log_L") == "nearest"
    assert families.pop("evenly_log_i") == families.pop("evenly_log_L") == "evenly"
    assert families == {name: name for name in OWN_FAMILY}
    assert name_family("log:b=2,c=1") == "log"
    assert name_family("denseformer:k=4,p=5") == "denseformer"
    assert [name_family(name) for name in ("nearest", "evenly", "geometric")] == ["nearest", "evenly", "geometric"]
    assert name_family("my_rule") == "my_rule"  # of a foreign study, whose names say nothing to us


def _contend(proposals: list[Proposal], budget: str) -> dict[str, Contender]:
    candidates = make_candidates(proposals, lambda p, _s: 0.5 + 0.01 * p, [budget] * len(proposals))
    return {one.family: one for one in list_contenders(candidates, candidates)}


def _family(name: str, budget: str, template: str | None = None) -> Proposal:
    return (template or name, "templates", fit_family(name, parse_budget(budget, DEPTH)))


def test_the_fitted_pattern_stands_for_its_family_by_whatever_name_it_was_trained() -> None:
    proposals = [*propose(2, ["nearest_log_i", "evenly_log_i", "log"]), _family("geometric", "log")]
    found = _contend(proposals, "log")
    assert {name: one.pattern for name, one in found.items() if name in TEMPLATES or name in FAMILIES} == {
        "nearest": "nearest_log_i",
        "evenly": "evenly_log_i",
        "log": "log",
        "geometric": "geometric",
    }


@pytest.mark.parametrize("is_fitted_first", [True, False])
def test_of_two_that_spend_the_same_the_fitted_one_is_taken(is_fitted_first: bool) -> None:
    named = propose(0, ["nearest_log_i"])
    fitted = [_family("nearest", "total:21")]
    assert named[0][2].n_connections == 21
    assert named[0][2] != fitted[0][2]
    found = _contend(fitted + named if is_fitted_first else named + fitted, "total:21")
    assert found["nearest"].pattern == "nearest"
    (only,) = _contend(named, "total:21").values()
    assert (only.family, only.pattern) == ("nearest", "nearest_log_i")


def test_caps_that_a_family_breaks_and_foreign_budgets_leave_the_names() -> None:
    named = [("nearest_x", "templates", find_template("nearest_log_L").build(DEPTH)), *propose(0, ["nearest_log_i"])]
    for budget in ("total:21;max-out:3", "a few"):
        found = _contend(named, budget)
        assert [one.pattern for one in found.values()] == ["nearest_log_i"]


def test_where_one_pattern_is_all_there_is_a_search_would_have_found_it() -> None:
    chain = find_template("chain").build(DEPTH)
    proposals: list[Proposal] = [("nearest", "templates", chain), (None, "tpe", propose(1)[0][2])]
    budgets = [f"total:{DEPTH}", "log"]
    complete = make_candidates(proposals, lambda p, s: 0.5 + 0.1 * p + 0.01 * s, budgets)
    found = [*list_contenders(complete[complete["budget"] == budgets[0]], complete)]
    # No random pattern was drawn in this run, so there is no random mean either.
    assert {one.family for one in found} == {"nearest", "evenly", "geometric", "found"}
    assert {(one.pattern, one.picked, one.n_patterns, tuple(one.by_seed)) for one in found} == {
        ("chain", None, 1, (0.5, 0.51))
    }


def test_costs_and_numbers_of_patterns_are_told() -> None:
    found = _contend(propose(5, ["log"]), "log")
    assert [(one.family, one.n_patterns, one.params, one.flops) for one in found.values()] == [
        ("log", 1, 920, 21_000),
        ("found", 5, 920, 21_000),
        ("random (mean)", 5, 920, 21_000),
    ]
    assert found["random (mean)"].pattern == "5 patterns"
    assert found["found"].picked == pytest.approx(0.55)
    assert found["random (mean)"].by_seed.tolist() == pytest.approx([0.53, 0.53])


def test_only_patterns_with_every_seed_are_picked_or_averaged() -> None:
    proposals = propose(4)
    candidates = make_candidates(proposals, lambda p, s: ("no", 0.9)[s] if p == 3 else 0.5 + 0.01 * p, ["log"] * 4)
    complete = candidates[candidates["state"] == "complete"]
    found = {one.family: one for one in list_contenders(complete, complete)}
    assert found["found"].n_patterns == found["random (mean)"].n_patterns == 3
    assert found["found"].picked == pytest.approx(0.52)


def _score_plainly(values: list[list[float]]) -> list[float]:
    """The same by loops over plain numbers."""
    scores = []
    for left_out in range(len(values[0])):
        best, at_left_out = -1.0, []  # type: tuple[float, list[float]]
        for row in values:
            total = 0.0
            for seed, value in enumerate(row):
                if seed != left_out:
                    total += value
            if total > best + 1e-9:
                best, at_left_out = total, [row[left_out]]
            elif abs(total - best) <= 1e-9:
                at_left_out.append(row[left_out])
        scores.append(sum(at_left_out) / len(at_left_out))
    return scores


def test_leaving_one_seed_out_is_what_a_plain_loop_gives() -> None:
    generator = np.random.default_rng(1)
    for n_patterns, n_seeds in ((1, 2), (3, 2), (40, 3), (7, 5)):
        values = generator.integers(80, 90, (n_patterns, n_seeds)) / 100  # so few values that patterns tie
        assert score_left_out(values).tolist() == pytest.approx(_score_plainly(values.tolist()))


def test_leaving_one_seed_out_takes_the_noise_of_picking_away() -> None:
    generator = np.random.default_rng(2)
    noise = generator.normal(0, 1, (400, 30, 3))  # all patterns are worth 0
    naive = np.array([run.mean(axis=1).max() for run in noise])
    honest = np.array([score_left_out(run).mean() for run in noise])
    error = honest.std() / len(honest) ** 0.5
    assert naive.mean() > 1
    assert abs(honest.mean()) < 3 * error
    assert error < 0.05


def test_one_seed_leaves_the_number_it_was_picked_by() -> None:
    candidates = make_candidates(propose(3), lambda p, _s: 0.5 + 0.1 * p, ["log"] * 3, (0,))
    found = next(one for one in list_contenders(candidates, candidates) if one.family == "found")
    assert found.by_seed.tolist() == [found.picked] == [pytest.approx(0.7)]
