"""What networks of a task class cost, against counts by hand."""

from pathlib import Path

import numpy as np
import pytest

from nas.model.cost import Cost
from nas.tasks.candidate import TaskPattern
from nas.tasks.costs import Costs
from nas.tasks.loaded import load_task
from search_spaces.budget import Budget, log_budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template
from tests.support.own_tasks import SPIRALS, load_from

WIDTH = 5


def count_by_hand(n_connections: int, depth: int, n_reads: int) -> Cost:
    n_weights = 2 * WIDTH + n_connections * WIDTH**2 + 2 * n_reads * WIDTH
    return Cost(n_weights + WIDTH + depth * WIDTH + 2, 2 * n_weights)


@pytest.fixture
def costs() -> Costs:
    return Costs(load_task(f"{SPIRALS}:Spirals", [f"width={WIDTH}"]), "log")


def test_a_class_of_equal_cost_is_measured_and_said(costs: Costs) -> None:
    budget = log_budget(6)
    costs.measure([budget])
    log = find_template("log").build(6)
    expected = count_by_hand(log.n_connections, 6, len(TaskPattern.of(log).reads))
    assert set(costs.measured[budget]) == {expected}
    assert costs.find(log, budget) == expected
    assert costs.find(log, log_budget(7)) is None
    (sentence,) = costs.list_sentences()
    assert f"{expected.params:,}" in sentence
    assert costs.describe()["6 layers, budget log"]["params"] == [expected.params] * 2


def test_a_class_of_unequal_cost_is_measured_pattern_by_pattern(tmp_path: Path) -> None:
    text = SPIRALS.read_text().replace(
        "width * len(sources), width)", "width * len(sources), width, bias=len(sources) > 1)"
    )
    costs = Costs(load_from(tmp_path, "Spirals", text, f"width={WIDTH}"), "log")
    budget = Budget(6, total=9)
    costs.measure([budget])
    pattern = ConnectionPattern(6, ((0,), (0, 1), (0, 1, 2), (3,), (0, 4), (5,)))
    assert budget.is_met_by(pattern) is (pattern.n_connections == 9)
    plain = count_by_hand(pattern.n_connections, 6, len(TaskPattern.of(pattern).reads))
    cost = costs.find(pattern, budget)
    if len({each.params for each in costs.measured[budget]}) > 1:
        assert cost is not None
        assert cost.params == plain.params - 3 * WIDTH
        assert "NOT of equal cost" in costs.list_sentences()[0]
    else:
        pytest.fail("three random patterns have equally many layers of one input: draw others")


def test_an_objective_has_no_known_cost(tmp_path: Path) -> None:
    costs = Costs(load_from(tmp_path, "objective"), "log")
    costs.measure([log_budget(6)])
    assert costs.find(find_template("log").build(6), log_budget(6)) is None
    assert costs.describe() == {}


def test_a_class_that_cannot_be_built_has_no_known_cost(tmp_path: Path) -> None:
    text = SPIRALS.read_text().replace("return Net(pattern, self.width)", "raise ValueError('no net')")
    costs = Costs(load_from(tmp_path, "Spirals", text), "log")
    costs.measure([log_budget(6)])
    assert costs.find(find_template("log").build(6), log_budget(6)) is None
    assert "no net" in costs.list_sentences()[0]


def test_a_task_may_say_its_cost_itself(tmp_path: Path) -> None:
    text = SPIRALS.read_text() + (
        "\n    def cost(self, pattern):\n        from nas.model.cost import Cost\n\n"
        "        return Cost(pattern.n_connections, 2 * pattern.n_connections)\n"
    )
    costs = Costs(load_from(tmp_path, "Spirals", text), "log")
    costs.measure([log_budget(6)])
    log = find_template("log").build(6)
    assert costs.find(log, log_budget(6)) == Cost(log.n_connections, 2 * log.n_connections)


def test_a_pattern_as_a_task_gets_it() -> None:
    pattern = TaskPattern.of(ConnectionPattern(4, ((0,), (0, 1), (2,), (1, 3))), "all")
    assert pattern.reads == (0, 1, 2, 3, 4)
    edges = {(row, column) for row, column in np.argwhere(pattern.adjacency()).tolist()}
    assert edges == {(target, source) for source, target in pattern.graph().edges}
    assert TaskPattern.of(pattern, "last").reads == (4,)
