"""Score's rows: every number recomputed another way, certificates only against a budget that is spent."""

import json
from pathlib import Path
from typing import Any

import pytest

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.model.score import score_candidate
from search_spaces.budget import Budget, log_budget
from search_spaces.distance import describe
from search_spaces.measures.registry import ALWAYS_SHOWN
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import bound_sum, certify
from search_spaces.templates import TEMPLATES, find_template
from search_spaces.wiring.blocks import transition_inputs
from tests.support.measured import SECOND
from tests.support.patterns import by_closed_formula, by_layer_order, by_whole_graph, random_pattern
from tests.support.small import CommandLine

IMAGE = (1, 32, 32)
PROVEN = ("bound_mean_bd", "certificate", "gap")


def score(
    pattern: ConnectionPattern, budget: Budget, name: str | None = None, transition: str = "log", blocks: int = 1
) -> dict[str, Any]:
    network = NetworkConfig.model_validate(
        {"layers": pattern.depth, "blocks": blocks, "transition": transition, "image": IMAGE}
    )
    return score_candidate(Candidate(pattern, network, 0, name), budget, name)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
@pytest.mark.parametrize("transition", ["log", "all", "last", "rule"])
@pytest.mark.parametrize("depth", [1, 6, 12])
def test_distances_through_the_network_are_those_on_its_whole_graph(depth: int, transition: str, blocks: int) -> None:
    named = [(name, find_template(name).build(depth)) for name in ("chain", "log", "midpoint", "dense")]
    drawn = [(None, random_pattern(depth, seed)) for seed in range(2)] if transition != "rule" else []
    for name, pattern in [*named, *drawn]:
        row = score(pattern, log_budget(depth), name, transition, blocks)
        read = transition_inputs(transition, depth, name)
        for expected in (by_whole_graph(pattern, blocks, read), by_closed_formula(pattern, blocks, read)):
            assert row["global_mean_bd"] == pytest.approx(expected.mean, rel=1e-12)
            assert row["global_max_bd"] == expected.max
            assert row["from_loss_mean"] == pytest.approx(expected.from_loss_mean, rel=1e-12)
        for measure in ALWAYS_SHOWN:
            assert row[measure] == pytest.approx(SECOND[measure](pattern, read), rel=1e-9, abs=1e-9)


def test_a_row_holds_distances_costs_and_what_is_proven() -> None:
    pattern = find_template("nearest_log_i").build(12)
    row = score(pattern, log_budget(12), "nearest_log_i", blocks=2)
    network = NetworkConfig(layers=12, blocks=2, image=IMAGE)
    cost = predict_cost(Candidate(pattern, network, 7))
    certificate = certify(pattern, log_budget(12))
    pairs = by_layer_order(pattern)
    assert row["mean_bd"] == pytest.approx(sum(pairs.values()) / len(pairs), rel=1e-12)
    assert row["max_bd"] == max(pairs.values())
    assert {name: row[name] for name in describe(pattern)} == describe(pattern)
    assert (row["template"], row["params"], row["flops"]) == ("nearest_log_i", cost.params, cost.flops)
    assert row["bound_mean_bd"] == pytest.approx(bound_sum(log_budget(12)) / 78, rel=1e-12)
    assert row["certificate"] == certificate.status == "bounded"
    assert row["gap"] == pytest.approx(row["mean_bd"] / row["bound_mean_bd"] - 1, rel=1e-9)
    assert set(row) == {
        *(
            "template",
            *describe(pattern),
            "walk_length",
            "visit_evenness",
            "ntk_trace",
            "params",
            "flops",
            "activation_bytes",
        ),
        *("activation_bytes_efficient", "global_mean_bd", "global_max_bd", "from_loss_mean", *PROVEN),
    }
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("depth", [1, 7, 24])
def test_only_a_spent_budget_gives_a_certificate(depth: int) -> None:
    n_spent = 0
    for budget in (log_budget(depth), Budget(depth, total=log_budget(depth).n_connections)):
        for name in TEMPLATES:
            pattern = find_template(name).build(depth)
            row = score(pattern, budget, name)
            spends = pattern.in_degrees == budget.per_layer if budget.per_layer else row["connections"] == budget.total
            n_spent += spends
            assert [row[key] is None for key in PROVEN] == [not spends] * 3
            if spends:
                found = certify(pattern, budget)
                assert [row[key] for key in PROVEN] == [found.bound, found.status, found.gap]
    assert n_spent >= 4


def test_a_cap_that_is_broken_gives_no_certificate() -> None:
    pattern = find_template("midpoint").build(12)
    assert (max(pattern.in_degrees), max(pattern.out_degrees)) == (6, 6)
    for cap, status in ((6, "optimal"), (5, None)):
        assert score(pattern, Budget(12, total=28, max_in=cap))["certificate"] == status
        assert score(pattern, Budget(12, total=28, max_out=cap))["certificate"] == status


def test_the_command_prints_null_for_templates_of_other_budgets(command_line: CommandLine) -> None:
    arguments = ["--layers", 9, "--blocks", 3, "--transition", "rule", "--image", "1x32x32", "--budget", "total:25"]
    names = [part for name in ("log", "midpoint", "dense", "nearest_log_i") for part in ("--template", name)]
    done = command_line("score", *arguments, *names, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert [row["connections"] for row in rows] == [25, 19, 45, 25]
    for row in rows:
        pattern = find_template(row["template"]).build(9)
        assert row == score(pattern, Budget(9, total=25), row["template"], "rule", 3)
        assert [row[key] is None for key in PROVEN] == [row["connections"] != 25] * 3
        expected = by_whole_graph(pattern, 3, transition_inputs("rule", 9, row["template"]))
        found = (row["global_mean_bd"], row["global_max_bd"], row["from_loss_mean"])
        assert found == pytest.approx((expected.mean, expected.max, expected.from_loss_mean), rel=1e-12)


def test_what_optimize_prints_is_the_score_of_its_sources(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    done = command_line("optimize", "--layers", 12, "--budget", "total:34;max-in:6", "--to", file, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    row = json.loads(done.stdout)
    pattern = ConnectionPattern.from_sources(row.pop("sources"))
    budget = Budget(12, total=34, max_in=6)
    assert budget.is_met_by(pattern)
    assert row == score_candidate(Candidate(pattern, NetworkConfig(layers=12), 0), budget, None)
    written = json.loads(file.read_text())
    assert (written["key"], written["budget"]) == (pattern.key, "total:34;max-in:6")
    assert written["certificate"] == {
        "status": row["certificate"],
        "bound_mean_bd": row["bound_mean_bd"],
        "gap": row["gap"],
    }
    assert command_line("verify", file).returncode == 0
