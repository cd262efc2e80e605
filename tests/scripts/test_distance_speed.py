"""scripts/distance_speed.py: ratios are paired by round, and nothing is timed that gives other distances."""

from types import ModuleType

import pytest

from search_spaces.budget import log_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from tests.support.small import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("rustworkx")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import distance_speed

    for name, number in {"N_ROUNDS": 3, "N_BATCH": 60, "N_MOVES": 1600}.items():
        monkeypatch.setattr(distance_speed, name, number)
    return distance_speed


def test_ratios_are_paired_by_round(script: ModuleType) -> None:
    seconds = {script.NETWORKX: [8.0, 12.0, 40.0], script.BUILT: [4.0, 4.0, 4.0], script.SINGLE: [2.0, 1.0, 10.0]}
    measured = script.Measured(24, seconds)
    assert measured.ratios(script.SINGLE, script.NETWORKX) == [4.0, 12.0, 4.0]
    rows = {row["work"]: row for row in script.tabulate(measured)}
    assert (rows[script.SINGLE]["to_networkx"], rows[script.SINGLE]["to_rustworkx"]) == (4.0, 2.0)
    assert rows[script.BUILT]["to_rustworkx"] is None and rows[script.BUILT]["to_networkx"] == 3.0
    page = script.format_page([measured])
    assert "| 2000000.00 (1000000.00 to 10000000.00) | 4.0 (4.0 to 12.0) | 2.0 (0.4 to 4.0) |" in page


def test_every_work_is_timed_in_every_round_that_counts(script: ModuleType) -> None:
    measured = script.measure(6)
    assert all(len(seconds) == 2 for seconds in measured.seconds.values())
    assert set(script.RIVALS) | set(script.RIVALS.values()) | {script.NETWORKX} == set(measured.seconds)


def test_no_speed_for_wrong_numbers(script: ModuleType) -> None:
    budget = log_budget(6)
    patterns = [sample_uniform(budget, derive_generator("test", number)) for number in range(3)]
    edges = [[(target, source) for source, target in pattern.connections] for pattern in patterns]
    script.check_lengths(patterns, [script.build_graph(each) for each in edges])
    skip = next(edge for edge in edges[0] if edge[0] - edge[1] > 1)
    wrong = [script.build_graph([edge for edge in edges[0] if edge != skip]), *map(script.build_graph, edges[1:])]
    with pytest.raises(AssertionError):
        script.check_lengths(patterns, wrong)
