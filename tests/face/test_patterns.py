"""Patterns from Python: the same values as the command line's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import skipsearch
from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.measures.registry import measure
from search_spaces.templates import find_template


def test_a_template_is_found_by_name() -> None:
    assert skipsearch.template("log", 6) == find_template("log").build(6)
    assert skipsearch.template("random:7", 6, budget="total:10").n_connections == 10
    with pytest.raises(InputError, match="lgo"):
        skipsearch.template("lgo")


def test_a_score_is_the_commands(command_line: Any) -> None:
    (told,) = json.loads(command_line("score", "--layers", 6, "--template", "log", "--growth", 3, "--json").stdout)
    assert skipsearch.score("log", layers=6, growth=3) == told
    pattern = skipsearch.template("log", 6)
    assert skipsearch.score(pattern, growth=3) == {**told, "template": None}
    own = skipsearch.score(pattern, measures=["walk_length"])["measures"]
    assert own["walk_length"] == pytest.approx(told["walk_length"])
    assert len(skipsearch.score(pattern, measures="all")["measures"]) > 20
    with pytest.raises(InputError, match="add proxies"):
        skipsearch.score(pattern, seed=1)
    with pytest.raises(InputError, match="did you mean growth"):
        skipsearch.score(pattern, grwoth=3)  # type: ignore[call-arg]


def test_a_file_stands_for_its_pattern(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text('{"layers": 2, "sources": [[0], [0, 1]]}')
    assert skipsearch.score(path)["connections"] == 3
    assert "<svg" in skipsearch.draw(path)._repr_svg_()


def test_what_is_optimized_carries_its_proof() -> None:
    best = skipsearch.optimize("total:28", 12)
    assert best.is_proven and best.certificate.status == "optimal"
    longest = skipsearch.optimize("log", 6, measure="walk_length", maximize=True)
    assert longest.is_proven and longest.value == measure(longest.pattern, ["walk_length"])["walk_length"]


def test_samples_spend_the_budget() -> None:
    wide = skipsearch.sample("total:12", 8, wide_draws=4, seed=1)
    assert len(wide) == len(set(wide)) == 4 and all(Budget(8, total=12).is_met_by(each) for each in wide)
    assert wide == skipsearch.sample("total:12", 8, wide_draws=4, seed=1)
    with pytest.raises(InputError, match="wide_draws=4"):
        skipsearch.sample("total:12", 8, wide_draws=4, per_cell=2)


def test_a_network_is_built_around_a_pattern() -> None:
    pattern = skipsearch.template("log", 5)
    images = torch.zeros(2, 3, 16, 16)
    shape: Any = {"blocks": 2, "growth": 3, "image": [3, 16, 16], "classes": 7}
    network, same = (skipsearch.build_network(each, layers=5, **shape).eval() for each in (pattern, "log"))
    assert network(images).shape == (2, 7)
    assert torch.equal(network(images), same(images))
    with pytest.raises(InputError, match="5 layers"):
        skipsearch.build_network(pattern, layers=6)


@pytest.mark.parametrize("given", [3, [[0], [0, 1]], None])
def test_what_is_no_pattern_is_refused(given: Any) -> None:
    for function in (skipsearch.score, skipsearch.draw, skipsearch.build_network):
        with pytest.raises(InputError, match="from_sources") as refusal:
            function(given)
        assert repr(given) in str(refusal.value)


def test_a_budget_is_a_text() -> None:
    calls = (
        lambda given: skipsearch.optimize(given, 12),
        lambda given: skipsearch.sample(given, 12),
        lambda given: skipsearch.template("evenly", 12, budget=given),
        lambda given: skipsearch.score("log", layers=12, budget=given),
    )
    for call in calls:
        with pytest.raises(InputError, match="budget 28"):
            call(28)
