"""Patterns learned from a run's strengths: averages by hand, and which trainings may teach."""

from pathlib import Path

import pytest

from analysis.data.results import read_run
from analysis.strengths.learning import learn_from_run
from search_spaces.budget import log_budget, parse_budget
from search_spaces.errors import InputError, NothingUsableError
from search_spaces.templates import find_template
from tests.support.synthetic_run import make_run, propose, weigh_by

PROPOSALS = propose(3, ["dense", "log"])


def score(place: int, seed: int) -> float:
    return 0.5 + 0.01 * place + 0.02 * seed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("learning") / "run"
    return make_run(path, PROPOSALS, score, seeds=(0, 1, 2), weigh=weigh_by(-0.2, n_blocks=2, noise=0.3))


def test_the_strongest_by_mean_share_of_their_layer_are_kept(run: Path) -> None:
    depth = PROPOSALS[0][2].depth
    dense = find_template("dense").build(depth)
    learned = learn_from_run(read_run(run), "dense", "log")
    assert (learned.taught_by, learned.n_trainings) == (dense.key, 3)
    weigh = weigh_by(-0.2, n_blocks=2, noise=0.3)
    shares = dict.fromkeys(dense.connections, 0.0)
    for seed in range(3):
        for block in weigh(dense, seed):
            by_connection = dict(zip(dense.connections, block, strict=True))
            for source, target in dense.connections:
                layer = [by_connection[j, target] for j in range(target)]
                shares[source, target] += by_connection[source, target] * target / sum(layer)
    for target, inputs in enumerate(learned.pattern.sources, start=1):
        others = sorted(range(target - 1), key=[-shares[source, target] for source in range(target - 1)].__getitem__)
        assert inputs == tuple(sorted([target - 1, *others[: len(inputs) - 1]]))
    assert learned.pattern.in_degrees == log_budget(depth).per_layer


def test_a_teacher_goes_by_the_first_digits_of_its_key_too(run: Path) -> None:
    key = find_template("dense").build(PROPOSALS[0][2].depth).key
    by_name, by_key = (learn_from_run(read_run(run), teacher, "total:30") for teacher in ("dense", key[:12]))
    assert by_name == by_key
    assert parse_budget("total:30", by_key.pattern.depth).is_met_by(by_key.pattern)


@pytest.mark.parametrize("teacher", ["midpoint", "", "ab", "zzzzzzzz"])
def test_who_was_not_trained_cannot_teach(run: Path, teacher: str) -> None:
    with pytest.raises(NothingUsableError, match=r"no finished training of .*its named patterns are dense, log"):
        learn_from_run(read_run(run), teacher, "log")


def test_older_runs_have_no_strengths_to_learn_from(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", PROPOSALS, score)
    with pytest.raises(NothingUsableError, match="no finished training of dense with connection strengths"):
        learn_from_run(read_run(path), "dense", "log")


def test_two_strata_do_not_teach_together(tmp_path: Path) -> None:
    budgets = ["log", "log", "total:20", "total:20", "total:20"]
    twice = [PROPOSALS[0], PROPOSALS[1], PROPOSALS[0], *PROPOSALS[2:4]]
    path = make_run(tmp_path / "run", twice, score, budgets=budgets, weigh=weigh_by(0.0))
    with pytest.raises(InputError, match="dense is 2 trained patterns"):
        learn_from_run(read_run(path), "dense", "log")


def test_what_has_no_connections_to_spare_is_told(run: Path) -> None:
    with pytest.raises(InputError, match="do not add up to budget"):
        learn_from_run(read_run(run), "log", "total:30")


def test_kept_shares_teach_where_they_are_asked_for_and_weights_otherwise(tmp_path: Path) -> None:
    weigh, keep = weigh_by(-0.3), weigh_by(0.3)
    path = make_run(tmp_path / "run", PROPOSALS[:1], score, (0,), weigh=weigh, keep=keep)
    as_weights = make_run(tmp_path / "other", PROPOSALS[:1], score, (0,), weigh=keep)
    by_weights, by_kept = (learn_from_run(read_run(path), "dense", "log", by) for by in ("weights", "condensation"))
    assert by_kept == learn_from_run(read_run(as_weights), "dense", "log")
    assert by_weights == learn_from_run(read_run(path), "dense", "log")
    assert by_weights.pattern != by_kept.pattern


def test_a_run_without_condensed_networks_has_no_kept_shares(run: Path) -> None:
    with pytest.raises(NothingUsableError, match="no finished training of dense with kept shares"):
        learn_from_run(read_run(run), "dense", "log", "condensation")
