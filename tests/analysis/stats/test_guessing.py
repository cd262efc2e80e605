"""Networks that learned nothing: said first, next to what always answering the largest class reaches."""

from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from scipy import stats

from analysis.comparisons.networks import build_lineup
from analysis.comparisons.standing import rank_networks
from analysis.data.results import read_run
from analysis.page.document import Heading, format_markdown
from analysis.report.findings import Findings, find, summarise
from analysis.report.sections import build_blocks
from analysis.stats.guessing import Guessing, explain_unlearned, list_unlearned, measure_learning
from analysis.tradeoff.points import measure_tradeoffs
from analysis.tradeoff.section import answer
from commands.runs import print_end, print_status
from commands.terminal import make_console
from nas.data.readers import load_data
from nas.data.splits import find_largest_class, split_data
from nas.search.loop import run_search as search
from nas.settings.search import SearchConfig
from tests.support.synthetic_run import make_candidates, make_run, propose

DATA = {"name": "digits", "classes": 10, "n_train": 300, "n_validation": 500}


def guess(place: int, seed: int) -> float:
    """Chance level of ten classes, as 500 images show it."""
    return float(np.random.default_rng((place, seed)).binomial(500, 0.1)) / 500


def _head(findings: Findings) -> str:
    """The report down to its first section, which would draw figures."""
    is_head = lambda block: not isinstance(block, Heading) or block.level == 1  # noqa: E731
    return format_markdown([*takewhile(is_head, build_blocks(findings))])


def _look_up(accuracies: tuple[float, ...], place: int, _seed: int) -> float:
    return accuracies[place]


def _learning(accuracies: list[float], guessing: Guessing) -> Any:
    table = make_candidates(propose(len(accuracies)), lambda place, _seed: accuracies[place], ["log"] * len(accuracies))
    return measure_learning(table, guessing)


def test_the_interval_is_that_of_a_share_of_the_images_of_all_seeds() -> None:
    found = _learning([0.12, 0.16, 0.14], Guessing(10, 0.104, 500))
    assert found.accuracy == pytest.approx(0.14)
    assert found.low == pytest.approx(0.14 - stats.norm.ppf(0.975) * np.sqrt(0.14 * 0.86 / 1000))
    assert found.n_patterns == 3


@pytest.mark.parametrize(
    ("accuracies", "guessing", "is_better"),
    [
        ([0.09, 0.11, 0.10], Guessing(10, 0.104, 500), False),
        ([0.09, 0.11, 0.10], Guessing(10, None, 500), False),  # of an older run only chance is known
        ([0.13, 0.14, 0.15], Guessing(10, 0.104, 500), True),
        ([0.13, 0.14, 0.15], Guessing(10, 0.104, 50), False),  # so few images do not show it
        ([0.10, 0.98, 0.99], Guessing(10, 0.104, 500), True),  # one that failed is not the whole
        ([0.996, 0.996], Guessing(2, 0.996, 500), False),
        ([0.990, 0.996], Guessing(2, 0.996, 500), False),
        ([1.0, 1.0], Guessing(2, 0.996, 500), True),
        ([0.62, 0.63], Guessing(2, 0.6, 100_000), True),
        ([0.1, 0.1], Guessing(None, None, None), True),  # nothing is known, so nothing is claimed
    ],
)
def test_what_counts_as_learned(accuracies: list[float], guessing: Guessing, is_better: bool) -> None:
    assert _learning(accuracies, guessing).is_better == is_better


@pytest.mark.parametrize(
    ("accuracy", "n_images", "said"),
    [
        (0.0, 400, "below chance level"),
        (0.20, 400, "below chance level"),
        (0.24, 400, "at chance level"),
        (0.0, 4, "at chance level"),  # so few images do not show it
        (0.0, None, "at chance level"),
        (0.40, 400, "no better than always answering the largest class"),
    ],
)
def test_networks_that_do_worse_than_guessing_are_not_said_to_guess(
    accuracy: float, n_images: int | None, said: str
) -> None:
    unlearned = _learning([accuracy], Guessing(4, 0.4, n_images))
    assert explain_unlearned(unlearned).startswith(f"the networks are {said}: ")


def test_guessing_networks_are_hardly_ever_taken_for_learned() -> None:
    generator = np.random.default_rng(0)
    hits = generator.binomial(500, 0.1, (400, 2)) / 500  # each draw: the mean of two seeds whose networks all agree
    wrong = [_learning(list(one), Guessing(10, 0.1, 250)).is_better for one in hits[:100]]
    assert np.mean(wrong) < 0.1


def test_a_run_at_chance_says_so_first_and_settles_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", propose(20), guess, (0, 1), data=DATA, largest_class=0.104, asked=40)
    findings = find(read_run(run))
    text = _head(findings)
    first = text.split("\n\n")[1]
    assert first.startswith("> **Not learned: the networks are at chance level: their mean accuracy is ")
    assert "always answering the largest class gets 10.4 % of the validation images right" in first
    assert "would settle" not in text
    assert "not detected" not in text
    summary = summarise(findings)
    assert summary["verdict"]["status"] == "not_learned"
    assert summary["guessing"] == {"classes": 10, "largest_class": 0.104, "n_images": 500}
    assert [one["is_learned"] for one in summary["strata"]] == [False]
    print_status(read_run(run), as_json=False)
    told = capsys.readouterr().out
    assert told.index("not learned, 8 layers, log: the networks are at chance level") < told.index("best ")


def test_networks_that_learned_have_what_guessing_reaches_beside_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(12), lambda p, s: 0.9 + guess(p, s) / 10, data=DATA, largest_class=0.104)
    findings = find(read_run(run))
    assert "Always answering the largest class gets 10.4 % of" in _head(findings)
    assert findings.verdict.status == "inconclusive"
    assert list_unlearned(read_run(run)) == []


def test_a_tradeoff_of_networks_that_learned_nothing_has_no_answer() -> None:
    proposals = [one for budget in ("total:12", "log") for one in propose(3, budget=budget)]
    table = make_candidates(proposals, guess, ["total:12"] * 3 + ["log"] * 3)
    (tradeoff,) = measure_tradeoffs(table, Guessing(10, 0.104, 500))
    assert answer(tradeoff).startswith("Not learned: at the largest budget the networks are at chance level")
    (older,) = measure_tradeoffs(table, Guessing(None, None, None))
    assert not answer(older).startswith("Not learned")


def test_a_comparison_of_networks_names_those_that_learned_nothing(tmp_path: Path) -> None:
    """All of them in the answer; some of them in a notice."""
    names = ["log", "optimum", "learned"]
    for folder, good in (("none", 0.1), ("some", 0.9)):
        run = tmp_path / folder
        proposals = propose(2, ["log"])
        accuracies = (good, 0.1, 0.1)
        make_run(run, proposals, partial(_look_up, accuracies), data=DATA, largest_class=0.1)
        study = optuna.load_study(study_name="skipsearch", storage=f"sqlite:///{run}/study.db")
        study.set_user_attr("config", {"networks": names})
        held = read_run(run)
        regimes = [names[number // 2] for number in held.candidates["number"]]
        table = held.candidates.assign(regime=regimes, growth=4, global_mean_bd=2.0).astype({"regime": "string"})
        object.__setattr__(held, "candidates", table)
        text = format_markdown(
            [*build_lineup(held, tuple(one for one in rank_networks(held) if one.name != "learned"))]
        )
        if folder == "none":
            assert "> **Not learned: the networks are at chance level" in text
            assert "is the most accurate" not in text
        else:
            assert "> optimum has not learned: the networks are at chance level" in text
            assert "> log has not learned" not in text
        assert "Always answering the largest class gets 10.0 % of the validation images right" in text


def test_the_largest_class_is_that_of_every_seeds_validation_images() -> None:
    digits = load_data("digits", None)
    for given in (None, 100):
        share = find_largest_class(digits, 300, given)
        for seed in range(4):
            labels = split_data(digits, seed, 300, "cpu", given).validation_labels.numpy()
            assert share == max(np.bincount(labels)) / len(labels)
    assert find_largest_class(digits, 300, None) == 49 / 479


def test_mostly_one_class_is_named_and_no_better_was_learned(
    tmp_path: Path, small_config: SearchConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """2,988 and 12 images that say nothing of their class: 99.6 % are right by answering the larger one."""
    generator = np.random.default_rng(0)
    labels = np.zeros(3000, np.int64)
    labels[:12] = 1
    images = generator.integers(0, 255, (3000, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "most.npz", x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    changes = {"dataset": "npz", "data": str(tmp_path / "most.npz"), "train_examples": 256, "seeds": 1, "growth": 4}
    search(tmp_path / "run", small_config.model_copy(update=changes), lambda *_: None)
    held = read_run(tmp_path / "run")
    findings = find(held)
    assert findings.run.largest_class == pytest.approx(0.996)
    assert findings.verdict.status == "not_learned"
    assert "the networks are no better than always answering the largest class" in findings.verdict.sentence
    assert "gets 99.6 % of the validation images right (chance, 1 of 2 classes: 50.0 %)" in findings.verdict.sentence
    print_end(make_console(), held, [], tmp_path / "run")
    assert "no better than always answering the largest class" in capsys.readouterr().out


def test_a_run_of_an_older_version_is_gone_on_with(tmp_path: Path, small_config: SearchConfig) -> None:
    config = small_config.model_copy(update={"trials": 1, "seeds": 1, "growth": 4})
    search(tmp_path / "run", config, lambda *_: None)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'run'}/study.db")
    with storage.engine.begin() as connection:  # Optuna itself takes no attribute away
        n = connection.exec_driver_sql(
            "DELETE FROM study_user_attributes WHERE key IN ('largest_class', 'sha256')"
        ).rowcount
    storage.remove_session()
    storage.engine.dispose()
    assert n == 2  # an older run has no hashes of its attributes either
    assert read_run(tmp_path / "run").largest_class is None
    search(tmp_path / "run", config.model_copy(update={"trials": 2}), lambda *_: None)
    assert read_run(tmp_path / "run").largest_class == pytest.approx(49 / 479)
