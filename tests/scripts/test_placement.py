"""docs/placement: its trainings are whole, its answers the program's, and their numbers other formulas' too."""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from nas.records.plan import read_plan
from search_spaces.distance import backprop_distance
from search_spaces.pattern import ConnectionPattern
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from placement import FOLDER, KEY_DIGITS, answer, format_answers, select_complete

ANSWERS = json.loads((FOLDER / "answers.json").read_text())
PAGE = (FOLDER / "plan.md").read_text()
NAMES = [folder.name for folder in sorted(FOLDER.iterdir()) if (folder / "trainings.csv").is_file()]
STRATA = [("digits", 24), ("digits", 52), ("fashion", 24)]


@pytest.mark.parametrize("name", NAMES)
def test_every_planned_training_is_there_once(name: str) -> None:
    read = read_plan(FOLDER / name)
    assert read is not None
    plan, sha256 = read
    assert f"`{sha256[:KEY_DIGITS]}`" in PAGE
    wanted = Counter(
        (plan["patterns"][number]["key"][:KEY_DIGITS], plan["strata"][place]["regime"], seed)
        for place, number, seed in plan["order"]
    )
    trainings = pd.read_csv(FOLDER / name / "trainings.csv")
    assert Counter(trainings[["key", "regime", "seed"]].itertuples(index=False, name=None)) == wanted
    assert set(trainings["state"]) == {"complete"}


@pytest.mark.slow
@pytest.mark.ci
def test_the_answers_are_what_the_program_says_today() -> None:
    today = json.loads(json.dumps(answer()))
    assert format_answers(today) == format_answers(ANSWERS)
    for is_now, was in zip(walk_numbers(today), walk_numbers(ANSWERS), strict=True):
        assert is_now == pytest.approx(was, rel=1e-6, abs=1e-9)


def walk_numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for name in sorted(value):
            yield from walk_numbers(value[name])
    elif isinstance(value, list):
        for each in value:
            yield from walk_numbers(each)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize("stratum", STRATA, ids=str)
def test_the_estimates_are_those_of_other_formulas(stratum: tuple[str, int]) -> None:
    name, layers = stratum
    measures, losses, rates = read_stratum(name, layers)
    walk, evenness, distance, trace = measures.T
    tuned, best = tune_all(losses, rates)
    answers = {each["name"]: each["strata"].get(f"{name} {layers}") for each in ANSWERS["answers"]}
    found = {
        "HB": partial(walk, centre(tuned), [evenness, distance]),
        "HC": partial(evenness, centre(losses[:, 0]), [walk]),
        "HD": partial(distance, centre(tuned), [walk, evenness]),
    }
    for question, value in found.items():
        if answers[question] is not None:
            assert value == pytest.approx(answers[question]["value"], abs=1e-6), question
    assert scipy.stats.spearmanr(trace, best).statistic == pytest.approx(answers["HE"]["value"], abs=0.02)
    rhos = [scipy.stats.spearmanr(walk, centre(losses[:, place])).statistic for place in range(len(rates))]
    assert rhos == pytest.approx([value for value, _, _ in answers["HA"]["rhos"]], abs=1e-6)
    amounts = answers["HA"]["amounts"]
    assert np.polyfit(np.log2(amounts), rhos, 1)[0] == pytest.approx(answers["HA"]["value"], abs=1e-6)


def test_the_confirmation_is_that_of_other_formulas() -> None:
    measures, losses, rates = read_stratum("colour", 24)
    walk, evenness, distance, _ = measures.T
    tuned, _ = tune_all(losses, rates)
    confirmation = ANSWERS["confirmation"]
    assert partial(walk, centre(tuned), [evenness, distance]) == pytest.approx(confirmation["rho"][0], abs=1e-6)
    order = walk.argsort()
    long_less_short = tuned[order[12:]].mean() - tuned[order[:12]].mean()
    assert long_less_short == pytest.approx(confirmation["long_less_short"][0], abs=1e-6)
    seeds_taken_out = tuned - tuned.mean(axis=0)
    within = seeds_taken_out - seeds_taken_out.mean(axis=1, keepdims=True)
    n, k = tuned.shape
    f = (k * (seeds_taken_out.mean(axis=1) ** 2).sum() / (n - 1)) / ((within**2).sum() / ((n - 1) * (k - 1)))
    assert scipy.stats.f.sf(f, n - 1, (n - 1) * (k - 1)) == pytest.approx(confirmation["gate"]["p_value"], abs=1e-6)
    assert confirmation["verdict"] == "unresolved"


def test_a_diverged_training_costs_its_pattern_and_an_unfinished_seed_everybody() -> None:
    states = {
        ("a", 0): "complete",
        ("b", 0): "failed",
        ("a", 1): "complete",
        ("b", 1): "complete",
        ("a", 2): "complete",
    }
    rows = [(key, seed, state, "design") for (key, seed), state in states.items()] + [
        ("named", 3, "complete", "templates")
    ]
    table = pd.DataFrame(rows, columns=["key", "seed", "state", "strategy"])
    kept = select_complete(table)
    assert [*zip(kept["key"], kept["seed"], strict=True)] == [("a", 0), ("a", 1), ("b", 1)]


@pytest.mark.parametrize(("layers", "literal", "left_out"), [(24, 0.73, 0.69), (52, 0.89, 0.85)])
def test_the_main_answer_does_not_hang_on_how_the_rate_is_tuned(layers: int, literal: float, left_out: float) -> None:
    """The parabola through the logarithm of mean losses; and each seed at the best rate that the other seeds see."""
    measures, losses, rates = read_stratum("digits", layers)
    walk, evenness, distance, _ = measures.T
    x = np.log(rates)

    def tune(means: np.ndarray, weights: np.ndarray, at: np.ndarray) -> float:
        bend, slope, _ = np.polyfit(x, means, 2, w=weights)
        if bend <= 0:
            return float(np.exp(at[means.argmin()]))
        place = np.clip(-slope / (2 * bend), x[0], x[-1])
        return float(np.exp(np.polyval(np.polyfit(x, at, 2, w=weights), place)))

    means = np.log(losses.mean(axis=2))
    tuned = np.array([tune(own, np.exp((own.min() - own) / 2), own) for own in means])
    assert partial(walk, tuned, [evenness, distance]) == pytest.approx(literal, abs=0.005)
    each = np.empty((len(losses), losses.shape[2]))
    for pattern, seed in np.ndindex(each.shape):
        own = np.log(losses[pattern])
        others = np.delete(own, seed, axis=1).mean(axis=1)
        each[pattern, seed] = tune(others, np.exp(others.min() - others), own[:, seed])
    assert partial(walk, centre(each), [evenness, distance]) == pytest.approx(left_out, abs=0.005)


def tune_all(losses: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Losses at each pattern's best rate, (n, seeds), and the logarithms of the best rates."""
    tuned: list[np.ndarray] = []
    best: list[float] = []
    for own in np.log(losses):
        mean = own.mean(axis=1)
        x = np.log(rates / rates[mean.argmin()])
        bend, slope, _ = np.polyfit(x, mean, 2, w=np.exp(mean.min() - mean))
        place = np.clip(-slope / (2 * bend), x[0], x[-1]) if bend > 0 else 0.0
        each = [np.polyval(np.polyfit(x, seed, 2, w=np.exp(mean.min() - mean)), place) for seed in own.T]
        tuned.append(np.exp(np.array(each)) if bend > 0 else losses[len(tuned)][mean.argmin()])
        best.append(place + math.log(rates[mean.argmin()]))
    return np.array(tuned), best


def read_stratum(name: str, layers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measures (n, 4) of the designed patterns, their losses (n, rates, seeds) and the rates."""
    plan = json.loads((FOLDER / name / "plan.json").read_text())["plan"]
    trainings = pd.read_csv(FOLDER / name / "trainings.csv")
    designed = [each for each in plan["patterns"] if each["strategy"] == "design" and each["layers"] == layers]
    rates = sorted({stratum["training"]["lr"] for stratum in plan["strata"]})
    trainings["lr"] = trainings["regime"].map(lambda regime: float(re.sub("lr ", "", regime)))
    table = trainings.set_index(["key", "lr", "seed"])["validation_loss"]
    seeds = range(plan["settings"]["seeds"])
    losses = [
        [[table[each["key"][:KEY_DIGITS], lr, seed] for seed in seeds] for lr in rates] for each in designed
    ]  # fmt: skip
    return np.array([list(measure(each["sources"])) for each in designed]), np.array(losses), np.array(rates)


def measure(sources: list[list[int]]) -> tuple[float, float, float, float]:
    """Walk length, visit evenness, mean BD and NTK trace, by powers of the walk's matrix."""
    layers = len(sources)
    step = np.zeros((layers + 1, layers + 1))
    for layer, inputs in enumerate(sources, start=1):
        step[layer, inputs] = 1 / len(inputs)
    chances = np.zeros(layers + 1)
    read = [layers + 1 - 2**k for k in range(layers) if 2**k <= layers + 1]
    chances[read] = 1 / len(read)
    visits = sum(chances @ np.linalg.matrix_power(step, n) for n in range(layers + 1))[1:]
    degrees = [len(inputs) for inputs in sources]
    pattern = ConnectionPattern.from_sources(sources)
    return visits.sum(), scipy.stats.entropy(visits), backprop_distance(pattern).mean, float(visits @ degrees)


def centre(losses: np.ndarray) -> np.ndarray:
    """Mean over seeds, each seed's own mean taken out, shape (n, seeds) -> (n,)."""
    centred: np.ndarray = (losses - losses.mean(axis=0)).mean(axis=1).round(12)
    return centred


def partial(x: np.ndarray, y: np.ndarray, held: list[np.ndarray]) -> float:
    """Correlation of the residuals of ranks, the held ones' ranks and squares taken out."""
    ranks = [scipy.stats.rankdata(column.round(12)) - (len(x) + 1) / 2 for column in (x, y, *held)]
    design = np.stack([np.ones(len(x)), *ranks[2:], *(rank**2 for rank in ranks[2:])], axis=1)
    left = [rank - design @ np.linalg.lstsq(design, rank, rcond=None)[0] for rank in ranks[:2]]
    return float(np.corrcoef(*left)[0, 1])
