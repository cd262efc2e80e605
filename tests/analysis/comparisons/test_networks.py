"""Reports of networks side by side: numbers by an independent computation, and what the page says of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.comparisons.networks import summarise_lineup
from analysis.comparisons.standing import rank_networks
from analysis.data.results import read_run
from analysis.page.document import format_markdown
from analysis.report.report import compose_report, write_report
from commands.runs import status
from nas.records.checked import validate
from nas.settings.comparison import NETWORKS, LineupConfig
from tests.support.synthetic_lineup import DIGITS, SETTINGS, make_lineup

MEANS = {"dense": 0.8, "log-densenet-v1": 0.7, "log-densenet-v2": 0.95, "log": 0.75, "optimum": 0.75, "learned": 0.78}
NOISE = np.random.default_rng(0).normal(scale=0.01, size=(6, 4))


def score_by_name(name: str, seed: int) -> float:
    return float(MEANS[name] + 0.03 * seed + NOISE[NETWORKS.index(name), seed])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lineup(tmp_path_factory.mktemp("lineup") / "run", score_by_name)


def test_standings_are_those_of_scipy(run: Path) -> None:
    standings = {one.name: one for one in rank_networks(read_run(run))}
    assert list(standings) == sorted(NETWORKS, key=lambda name: -np.mean([score_by_name(name, s) for s in range(4)]))
    by_name = {name: np.array([score_by_name(name, seed) for seed in range(4)]) for name in NETWORKS}
    p_values = {}
    for name, accuracies in by_name.items():
        one = standings[name]
        assert (one.n_seeds, one.n_failed, one.loss) == (4, 0, 1.0)
        assert one.accuracy == pytest.approx(accuracies.mean(), rel=1e-12)
        interval = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
        assert (one.low, one.high) == pytest.approx((max(interval.low, 0), min(interval.high, 1)), rel=1e-9)
        if name == "log":
            assert (one.difference, one.p_holm, one.flops_ratio) == (None, None, 1.0)
            continue
        test = stats.ttest_rel(accuracies, by_name["log"])
        paired = test.confidence_interval(0.95)
        assert one.difference == pytest.approx((accuracies - by_name["log"]).mean(), rel=1e-9)
        assert (one.difference_low, one.difference_high) == pytest.approx((paired.low, paired.high), rel=1e-9)
        p_values[name] = test.pvalue
    # Holm: the k-th smallest of m times m - k + 1, never below those before it.
    largest = 0.0
    for place, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (5 - place) * p_values[name]))
        assert standings[name].p_holm == pytest.approx(largest, rel=1e-6)
        assert standings[name].is_told_apart == (largest < 0.05)


def test_what_is_told_apart_is_said(run: Path) -> None:
    standings = rank_networks(read_run(run))
    apart = {one.name for one in standings if one.is_told_apart}
    assert {"log-densenet-v2", "log-densenet-v1"} <= apart
    said = summarise_lineup(standings)
    assert said.startswith("log-densenet-v2 is the most accurate, 98.9 % over 4 seeds")
    told, _, rest = said.partition("not told apart:")
    for name in NETWORKS:
        if name != "log":
            assert (f"{name} (" in told) == (name in apart)
            assert (f"{name}" in rest) == (name not in apart)


def test_nothing_is_claimed_where_seeds_do_not_tell(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).normal(scale=0.05, size=(6, 4))
    path = make_lineup(tmp_path / "run", lambda name, seed: float(0.7 + noise[NETWORKS.index(name), seed]))
    assert "No network is told apart from log" in summarise_lineup(rank_networks(read_run(path)))


def test_costs_and_distances_are_the_candidates_own(run: Path) -> None:
    from nas.model.cost import predict_cost
    from nas.studies.comparison import make_contender
    from search_spaces.wiring.blocks import global_distance

    standings = {one.name: one for one in rank_networks(read_run(run))}
    config = validate(LineupConfig, SETTINGS)
    for name in NETWORKS[:-1]:
        candidate = make_contender(name, config, DIGITS).candidate(0)
        one, cost = standings[name], predict_cost(candidate)
        assert (one.params, one.flops, one.growth) == (cost.params, cost.flops, candidate.network.growth)
        assert one.pattern == candidate.pattern
        assert one.global_mean_bd == pytest.approx(global_distance(candidate.wiring).mean, rel=1e-12)


def test_the_page_has_every_network_and_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    text = format_markdown(compose_report(read_run(run)).blocks)
    assert all(f"| {name} |" in text for name in NETWORKS)
    assert "Incomplete" not in text
    assert "| optimum | the shortest pattern known" in text
    assert "certificate: optimal, 0.0 % over the bound |" in text
    cut = make_lineup(tmp_path / "run", lambda name, seed: None if name == "dense" and seed else 0.5 + seed / 10, 9)
    text = format_markdown(compose_report(read_run(cut)).blocks)
    assert "Incomplete: 6 of 24 trainings are complete, 3 failed" in text


def test_write_report_knows_the_kind_of_run(run: Path) -> None:
    paths = {path.name for path in write_report(run)}
    assert {"index.html", "report.md", "candidates.csv", "summary.json", "networks.svg", "arcs_learned.svg"} <= paths
    header = (run / "report" / "candidates.csv").read_text().partition("\n")[0].split(",")
    assert {"growth", "global_mean_bd", "regime"} <= set(header)
    assert "strengths" not in header


def test_without_the_reference_nothing_is_compared(tmp_path: Path) -> None:
    path = make_lineup(tmp_path / "run", score_by_name, networks=("dense", "optimum"))
    standings = rank_networks(read_run(path))
    assert [(one.name, one.difference, one.flops_ratio) for one in standings] == [
        ("dense", None, None), ("optimum", None, None)
    ]  # fmt: skip
    assert summarise_lineup(standings).endswith("over 4 seeds.")


def test_status_names_the_network_that_the_report_has_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`log` and `optimum` are one pattern here, so patterns are fewer than networks."""
    path = make_lineup(tmp_path / "run", score_by_name, layers=3, seeds=2, networks=("dense", "log", "optimum"))
    first = rank_networks(read_run(path))[0]
    status(path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["networks"] == 3
    assert told["best"] == {
        "network": first.name, "key": first.pattern.key, "mean_bd": first.mean_bd, "value": first.accuracy
    }  # fmt: skip
    status(path)
    assert f"best dense: accuracy {first.accuracy:.4f}" in capsys.readouterr().out
