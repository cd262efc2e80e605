"""Networks that learned nothing: said first, next to what always answering the largest class reaches."""

from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from typer.testing import CliRunner

import run_search
from analysis.comparisons.networks import build_lineup, describe_lineup, list_faults
from analysis.comparisons.standing import rank_networks
from analysis.data.results import CURVE_COLUMNS, Run, read_run
from analysis.page.document import Heading, Paragraph, format_markdown
from analysis.report.conclusion import conclude_findings, conclude_networks
from analysis.report.findings import Findings, find, summarise
from analysis.report.head import build_head
from analysis.report.sections import build_blocks
from analysis.stats.guessing import Guessing, Learning, explain_unlearned, list_unlearned, measure_learning
from analysis.tradeoff.points import measure_tradeoffs
from analysis.tradeoff.section import answer_tradeoff
from nas.data.readers import load_data
from nas.data.splits import find_largest_class, split_data
from nas.search.loop import run_search as search
from nas.settings.search import SearchConfig
from tests.support.resamples import use_resamples
from tests.support.synthetic_run import make_candidates, make_run, propose

DATA = {"name": "digits", "classes": 10, "n_train": 300, "n_validation": 500}
NO_CURVES = pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS)


def guess(place: int, seed: int) -> float:
    """Chance level of ten classes, as 500 images show it."""
    return float(np.random.default_rng((place, seed)).binomial(500, 0.1)) / 500


def _run(n: int, score: Callable[[int, int], float], data: dict[str, object], largest_class: float) -> Run:
    """What read_run would give of a search with n random patterns and two seeds."""
    table = make_candidates(propose(n), score, ["log"] * n)
    return Run(Path("run"), table, NO_CURVES, 2 * n, {}, {}, dict(data), largest_class=largest_class)


def _head(findings: Findings) -> str:
    """The report down to its first section, which would draw figures."""
    is_head = lambda block: not isinstance(block, Heading) or block.level == 1  # noqa: E731
    return format_markdown([*takewhile(is_head, build_blocks(findings, conclude_findings(findings)))])


def _learning(accuracies: list[float], guessing: Guessing) -> Learning:
    """Of as many patterns as there are accuracies, each trained with two seeds that gave the same."""
    keys = [f"{place:064x}" for place in range(len(accuracies))]
    columns = {"seed": [0, 1] * len(keys), "key": np.repeat(keys, 2), "validation_accuracy": np.repeat(accuracies, 2)}
    learning = measure_learning(pd.DataFrame(columns), guessing)
    assert learning is not None
    return learning


def test_the_interval_is_that_of_a_share_of_the_images_of_all_seeds() -> None:
    learning = _learning([0.12, 0.16, 0.14], Guessing(10, 0.104, 500))
    assert learning.accuracy == pytest.approx(0.14)
    assert learning.low == pytest.approx(0.14 - 2 * np.sqrt(0.14 * 0.86 / 1000))
    assert learning.n_patterns == 3


@pytest.mark.parametrize(
    ("accuracies", "guessing", "is_better"),
    [
        ([0.09, 0.11, 0.10], Guessing(10, 0.104, 500), False),
        ([0.09, 0.11, 0.10], Guessing(10, None, 500), False),  # of an older run only chance is known
        ([0.13, 0.14, 0.15], Guessing(10, 0.104, 500), True),
        ([0.13, 0.14, 0.15], Guessing(10, 0.104, 50), False),  # so few images do not show it
        ([0.10, 0.98, 0.99], Guessing(10, 0.104, 500), True),  # one that failed is not the whole
        ([0.10, 0.10, 0.99], Guessing(10, 0.104, 500), False),  # neither is one that learned
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
    hits = generator.binomial(500, 0.1, (150, 2)) / 500  # each draw: the mean of two seeds whose networks all agree
    wrong = [_learning([*pair], Guessing(10, 0.1, 250)).is_better for pair in hits]
    assert np.mean(wrong) < 0.1


def test_a_run_at_chance_says_so_first_and_settles_nothing() -> None:
    run = _run(20, guess, DATA, largest_class=0.104)
    findings = find(run)
    text = _head(findings)
    answer, *rest = text.split("\n\n")[1:]
    assert "learned nothing" in answer
    numbers = next(part for part in rest if "median accuracy" in part)
    assert numbers.startswith("The networks are at chance level: their median accuracy is ")
    assert "always answering the largest class gets 10.4 % of the validation images right" in numbers
    assert "would settle" not in text
    assert "not detected" not in text
    summary = summarise(findings)
    assert summary["verdict"]["status"] == "not_trained"
    assert summary["guessing"] == {"classes": 10, "largest_class": 0.104, "n_images": 500}
    assert [stratum["is_learned"] for stratum in summary["strata"]] == [False]


def test_the_status_of_a_run_at_chance_says_so_before_its_best_pattern(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(2), guess, (0, 1), data=DATA, largest_class=0.104, asked=4)
    shown = CliRunner().invoke(run_search.app, ["status", "--run", str(run)])
    assert shown.exit_code == 0
    text = " ".join(shown.output.split())
    assert text.index("not learned, 8 layers, log: the networks are at chance level") < text.index("best ")


def test_networks_that_learned_have_what_guessing_reaches_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 99)
    run = _run(12, lambda place, seed: 0.9 + guess(place, seed) / 10, DATA, largest_class=0.104)
    findings = find(run)
    trained = [
        block.text for block in build_blocks(findings, conclude_findings(findings)) if isinstance(block, Paragraph)
    ]
    assert any("Always answering the largest class gets 10.4 % of" in text for text in trained)
    assert findings.verdict.status == "unresolved"
    assert list_unlearned(run) == []


def test_a_tradeoff_of_networks_that_learned_nothing_has_no_answer() -> None:
    proposals = [proposal for budget in ("total:12", "log") for proposal in propose(3, budget=budget)]
    table = make_candidates(proposals, guess, ["total:12"] * 3 + ["log"] * 3)
    (tradeoff,) = measure_tradeoffs(table, Guessing(10, 0.104, 500))
    assert answer_tradeoff(tradeoff).startswith("Not learned: at the largest budget the networks are at chance level")
    (older,) = measure_tradeoffs(table, Guessing(None, None, None))
    assert not answer_tradeoff(older).startswith("Not learned")


@pytest.mark.parametrize("is_any_better", [False, True])
def test_a_comparison_of_networks_names_those_that_learned_nothing(is_any_better: bool) -> None:
    """All of them in the answer; some of them in a notice."""
    names = ["log", "optimum", "learned"]
    accuracies = (0.9 if is_any_better else 0.1, 0.1, 0.1)
    table = make_candidates(propose(2, ["log"]), lambda place, _seed: accuracies[place], ["log"] * 3)
    regimes = [names[number // 2] for number in table["number"]]
    table = table.assign(regime=regimes, growth=4, global_mean_bd=2.0).astype({"regime": "string"})
    run = Run(Path("run"), table, NO_CURVES, 6, {"networks": names}, {}, dict(DATA), largest_class=0.1)
    standings = tuple(standing for standing in rank_networks(run) if standing.name != "learned")
    head = build_head(conclude_networks(run, standings), [])
    text = format_markdown([*list_faults(run, standings), *head, *build_lineup(run, standings)])
    assert ("Not learned: the networks are at chance level" in text) != is_any_better
    assert ("is the most accurate" in text) == is_any_better
    assert ("> optimum has not learned: the networks are at chance level" in text) == is_any_better
    assert "> log has not learned" not in text
    assert "Always answering the largest class gets 10.0 % of the validation images right" in text
    # A run may record none of its settings, or all.
    assert describe_lineup(run) == "digits, 300 training and 500 validation images"
    told = replace(run, config={"epochs": 1, "lr": 0.1, "batch_size": 64, "seeds": 2})
    said = "digits, 300 training and 500 validation images; 1 epoch, learning rate 0.1, batches of 64, 2 seeds"
    assert describe_lineup(told) == said


def test_the_largest_class_is_that_of_every_seeds_validation_images() -> None:
    digits = load_data("digits", None)
    for given in (None, 100):
        share = find_largest_class(digits, 300, given)
        for seed in range(4):
            labels = split_data(digits, seed, 300, "cpu", given).validation_labels.numpy()
            assert share == max(np.bincount(labels)) / len(labels)
    assert find_largest_class(digits, 300, None) == 49 / 479


def test_mostly_one_class_is_named_and_no_better_was_learned(tmp_path: Path) -> None:
    """2,988 and 12 images that say nothing of their class: 99.6 % are right by answering the larger one."""
    labels = np.zeros(3000, np.int64)
    labels[:12] = 1
    images = np.random.default_rng(0).integers(0, 255, (3000, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "most.npz", x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    largest_class = find_largest_class(load_data("npz", str(tmp_path / "most.npz")), 256, None)
    assert largest_class == pytest.approx(0.996)
    data = {"name": "npz", "classes": 2, "n_train": 256, "n_validation": 600}
    verdict = find(_run(3, lambda _place, _seed: 0.996, data, largest_class)).verdict
    assert verdict.status == "not_trained"
    assert "The networks are no better than always answering the largest class" in verdict.numbers
    assert "gets 99.6 % of the validation images right (chance, 1 of 2 classes: 50.0 %)" in verdict.numbers


@pytest.mark.usefixtures("one_thread")
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
