"""Connection strengths: averages and correlations against other computations, and trends that are planted or not."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import rankdata, spearmanr

from analysis.data.protocol import MIN_PATTERNS
from analysis.strengths.trends import (
    DETOUR,
    MIN_LAYERS,
    PLACES,
    SPAN,
    STRENGTH,
    TRENDS,
    ConnectionStrengths,
    Trend,
    analyse_strengths,
    average_strengths,
    correlate_ranks,
    sum_products,
)
from search_spaces.budget import parse_budget
from search_spaces.distance import detours
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from search_spaces.wiring.strongest import relative_strengths
from tests.support.synthetic_run import Weigh, make_candidates, weigh_by

LAYERS = 14


def draw_patterns(n: int, budget: str = "log", depth: int = LAYERS) -> list[ConnectionPattern]:
    generator = derive_generator("strengths", budget, depth)
    return [sample_uniform(parse_budget(budget, depth), generator) for _ in range(n)]


def analyse(
    patterns: Sequence[ConnectionPattern], weigh: Weigh, n_seeds: int = 2, draw: int = 0
) -> ConnectionStrengths:
    """Of random patterns, each trained at the seeds draw * n_seeds and on."""
    seeds = range(draw * n_seeds, (draw + 1) * n_seeds)
    proposals = [(None, "random", pattern) for pattern in patterns]
    candidates = make_candidates(proposals, lambda _p, _s: 0.5, ["log"] * len(patterns), seeds)
    weighed = itertools.product(patterns, seeds)
    recorded = {number: as_recorded(weigh(pattern, seed)) for number, (pattern, seed) in enumerate(weighed)}
    found = analyse_strengths(candidates, recorded, derive_generator("analyse", draw))
    assert found is not None
    return found


def as_recorded(blocks: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, blocks))


def by_name(found: ConnectionStrengths) -> dict[tuple[str, str | None], Trend]:
    assert tuple((trend.measure, trend.given) for trend in found.trends) == TRENDS
    return dict(zip(TRENDS, found.trends, strict=True))


def list_skips(pattern: ConnectionPattern) -> Iterator[tuple[int, int]]:
    """Those that compare: of layers that read two or more."""
    for target in range(1, pattern.depth + 1):
        skips = [(source, target) for source in pattern.sources[target - 1] if target - source > 1]
        if len(skips) > 1:
            yield from skips


def tabulate(pattern: ConnectionPattern, relative: Mapping[tuple[int, int], float]) -> pd.DataFrame:
    """One row a skip that compares: its target, and the ranks of three columns inside its layer over their number."""
    apart = detours(pattern)
    rows = [(t, relative[s, t], t - s, apart[s, t]) for s, t in list_skips(pattern)]
    table = pd.DataFrame(rows, columns=["target", "strength", "span", "detour"])
    for name in ("strength", "span", "detour"):
        table[name] = table.groupby("target")[name].transform(lambda column: rankdata(column) / len(column))
    return table


def residuals(table: pd.DataFrame, name: str, given: str | None = None) -> np.ndarray:
    """What a least squares fit to the layers, and to another column's ranks, leaves of a column."""
    held = pd.get_dummies(table["target"], dtype=float)
    if given is not None:
        held[given] = table[given]
    return np.asarray(sm.OLS(table[name].to_numpy(), held.to_numpy()).fit().resid)


@pytest.mark.parametrize("place", range(6))
def test_correlations_are_those_of_residuals_on_layers(place: int) -> None:
    pattern = draw_patterns(6, "total:40")[place]
    relative = relative_strengths(pattern, weigh_by(-0.03)(pattern, place)[0])
    table = tabulate(pattern, relative)
    assert table["target"].nunique() > 3
    sums = sum_products(pattern, relative).sum(axis=0)
    for measure, given in TRENDS:
        one, other = residuals(table, "strength", given), residuals(table, measure, given)
        expected = (one @ other) / np.sqrt((one @ one) * (other @ other))
        found = correlate_ranks(sums, STRENGTH, PLACES[measure], None if given is None else PLACES[given])
        assert float(found) == pytest.approx(expected, abs=1e-9)
        assert 0.01 < abs(expected) < 1


def test_of_a_single_layer_it_is_spearmans_rho() -> None:
    pattern = ConnectionPattern(9, (*(((i,)) for i in range(5)), (3, 5), (6,), (7,), (0, 1, 2, 4, 5, 6, 8)))
    strengths = derive_generator("single").uniform(size=pattern.n_connections).tolist()
    sums = sum_products(pattern, relative_strengths(pattern, strengths)).sum(axis=0)
    skips = list(list_skips(pattern))
    assert skips == [(source, 9) for source in (0, 1, 2, 4, 5, 6)]
    by_connection = dict(zip(pattern.connections, strengths, strict=True))
    apart = detours(pattern)
    for place, column in ((SPAN, [t - s for s, t in skips]), (DETOUR, [apart[skip] for skip in skips])):
        expected = spearmanr([by_connection[skip] for skip in skips], column).statistic
        assert float(correlate_ranks(sums, STRENGTH, place)) == pytest.approx(expected, abs=1e-12)


def test_strengths_are_averaged_over_blocks_and_seeds() -> None:
    pattern = find_template("dense").build(2)
    candidates = make_candidates([(None, "random", pattern)], lambda _p, _s: 0.5, ["log"])
    recorded = {0: ((7.0, 1.0, 3.0), (1.0, 5.0, 5.0)), 1: ((2.0, 0.0, 1.0), (1.0, 3.0, 1.0))}
    averages = average_strengths(candidates, recorded)
    assert averages == {pattern.key: {(0, 1): 1.0, (0, 2): (0.5 + 1 + 0 + 1.5) / 4, (1, 2): (1.5 + 1 + 2 + 0.5) / 4}}
    found = analyse_strengths(candidates, {1: recorded[1]}, derive_generator(0))  # the older seed has none
    assert found is not None
    assert found.by_pattern[pattern.key][0, 2] == 0.75
    assert found.n_seeds == {pattern.key: 1}


def test_a_layers_scale_changes_nothing() -> None:
    pattern = draw_patterns(1)[0]
    strengths = weigh_by(-0.1)(pattern, 0)[0]
    scaled = [strength * 3**target for strength, (_, target) in zip(strengths, pattern.connections, strict=True)]
    sums = [sum_products(pattern, relative_strengths(pattern, one)) for one in (strengths, scaled)]
    assert sums[0].any()
    np.testing.assert_array_equal(sums[0], sums[1])


@pytest.mark.parametrize(("slope", "status"), [(-0.05, "falls"), (0.05, "rises"), (0.0, "not_detected")])
def test_what_is_planted_on_span_is_found_and_nothing_else(slope: float, status: str) -> None:
    trends = by_name(analyse(draw_patterns(20), weigh_by(slope, n_blocks=2)))
    assert trends["span", None].status == status
    assert trends["span", "detour"].status == status
    assert trends["detour", "span"].status == "not_detected"
    for trend in trends.values():
        assert trend.low is not None
        assert trend.value is not None
        assert trend.high is not None
        assert -1 <= trend.low < trend.value < trend.high <= 1
        assert trend.n_patterns + trend.n_undefined == 20


def test_what_is_planted_on_detour_is_not_taken_for_span() -> None:
    patterns = draw_patterns(30, "total:52", 20)

    def weigh(pattern: ConnectionPattern, seed: int) -> list[list[float]]:
        apart = detours(pattern)
        noise = derive_generator("detour", pattern.key, seed).normal(scale=0.1, size=pattern.n_connections)
        pairs = zip(pattern.connections, noise, strict=True)
        return [[float(np.exp(-0.2 * apart.get(one, 1) + error)) for one, error in pairs]]

    found = analyse(patterns, weigh)
    trends = by_name(found)
    assert found.collinearity is not None
    assert found.collinearity < -0.2  # far sources have many readers, so other ways to them are short
    assert trends["span", None].status == "rises"  # it goes along with detour
    assert trends["detour", None].status == trends["detour", "span"].status == "falls"
    assert trends["span", "detour"].status == "not_detected"


def test_a_strong_chain_is_no_trend() -> None:
    patterns = draw_patterns(20)
    found = analyse(patterns, weigh_by(0.0, chain=4.0))
    plain = []
    for pattern in patterns:
        relative = found.by_pattern[pattern.key]
        skips = [(s, t) for s, t in pattern.connections if t - s > 1]
        plain.append(spearmanr([relative[skip] for skip in skips], [t - s for s, t in skips]).statistic)
    assert np.mean(plain) > 0.2  # over all skips of a pattern it would be one: later layers dilute their chain more
    trend = by_name(found)["span", None]
    assert trend.status == "not_detected"
    assert trend.value == pytest.approx(0, abs=0.15)


def test_noise_that_a_seeds_patterns_share_is_seldom_taken_for_a_trend() -> None:
    patterns, n_draws = draw_patterns(12), 16
    weigh = weigh_by(0.0, noise=0.2)
    trends = [by_name(analyse(patterns, weigh, n_seeds=1, draw=draw))["span", None] for draw in range(n_draws)]
    assert sum(trend.status != "not_detected" for trend in trends) <= 0.12 * n_draws
    # Over patterns alone most of these would be detected: their means lie beyond what the patterns' own spread allows.
    assert np.std([trend.value or 0.0 for trend in trends]) > 0.1


def test_patterns_that_disagree_are_no_trend() -> None:
    patterns = draw_patterns(12)
    falling = {pattern.key for pattern in patterns[:8]}

    def weigh(pattern: ConnectionPattern, seed: int) -> list[list[float]]:
        return weigh_by(-0.2 if pattern.key in falling else 0.2)(pattern, seed)

    trend = by_name(analyse(patterns, weigh))["span", None]
    assert trend.value is not None
    assert trend.value < -0.2
    assert trend.status == "not_detected"  # layers alone drawn again would all say what these eight say


def test_the_interval_is_that_of_patterns_and_layers_drawn_one_by_one() -> None:
    patterns = draw_patterns(12)
    found = analyse(patterns, weigh_by(-0.03))
    tables = [tabulate(pattern, found.by_pattern[pattern.key]) for pattern in patterns]
    targets = sorted({target for table in tables for target in table["target"]})
    generator = np.random.default_rng(0)

    columns = [[residuals(table, name) for name in ("strength", "span")] for table in tables]

    def correlate(drawn: list[int], place: int) -> float:
        """Of a pattern whose layers occur as often as they were drawn."""
        x, y = columns[place]
        weights = np.array([drawn.count(target) for target in tables[place]["target"]])
        return float((weights * x * y).sum() / np.sqrt((weights * x * x).sum() * (weights * y * y).sum()))

    means = []
    for _ in range(400):
        layers = generator.choice(targets, len(targets) - 1).tolist()
        chosen = generator.choice(len(tables), len(tables) - 1).tolist()
        means.append(np.mean([correlate(layers, place) for place in chosen]))
    trend = by_name(found)["span", None]
    assert trend.value is not None
    wider = {11: 2.2010, 10: 2.2281}[min(len(targets), len(tables)) - 1] / 1.9600  # Student's t over the normal
    low, high = (trend.value + wider * (end - trend.value) for end in np.quantile(means, [0.025, 0.975]))
    assert trend.low == pytest.approx(low, abs=0.05)
    assert trend.high == pytest.approx(high, abs=0.05)
    assert high - low > 0.2


def test_too_few_patterns_or_layers_give_no_interval() -> None:
    few = by_name(analyse(draw_patterns(MIN_PATTERNS - 1), weigh_by(-0.1)))["span", None]
    assert (few.status, few.n_patterns, few.low) == ("too_few", MIN_PATTERNS - 1, None)
    assert few.value is not None
    assert by_name(analyse(draw_patterns(MIN_PATTERNS), weigh_by(-0.1)))["span", None].status == "falls"
    shallow = by_name(analyse(draw_patterns(20, "log", MIN_LAYERS + 2), weigh_by(-0.1)))["span", None]
    assert (shallow.status, shallow.n_layers) == ("too_few", MIN_LAYERS - 1)


def test_patterns_where_nothing_differs_are_left_out_and_counted() -> None:
    single = ConnectionPattern(LAYERS, ((0,), *((i - 1, i) for i in range(1, LAYERS))))  # one skip a layer
    patterns = [*draw_patterns(11), find_template("dense").build(LAYERS), single]
    trends = by_name(analyse(patterns, weigh_by(-0.1)))
    assert (trends["span", None].n_patterns, trends["span", None].n_undefined) == (12, 1)
    assert (trends["detour", None].n_patterns, trends["detour", None].n_undefined) == (11, 2)  # dense: all detours 2
    assert trends["span", "detour"].n_patterns == 12  # a constant leaves nothing to hold
    nowhere = by_name(analyse([single], weigh_by(-0.1)))["span", None]
    assert (nowhere.value, nowhere.status, nowhere.n_patterns, nowhere.n_undefined) == (None, "too_few", 0, 1)


def test_only_patterns_drawn_without_looking_are_the_sample() -> None:
    patterns = draw_patterns(4)
    strategies = ["random", "design", "tpe", "templates"]
    proposals = [(None, strategy, pattern) for strategy, pattern in zip(strategies, patterns, strict=True)]
    candidates = make_candidates(proposals, lambda _p, _s: 0.5, ["log"] * 4, (0,))
    recorded = {number: as_recorded(weigh_by(0.0)(pattern, 0)) for number, pattern in enumerate(patterns)}
    found = analyse_strengths(candidates, recorded, derive_generator(0))
    assert found is not None
    assert set(found.sampled) == {patterns[0].key, patterns[1].key}
    assert set(found.by_pattern) == {pattern.key for pattern in patterns}
    assert found.trends[0].n_patterns == 2
    assert analyse_strengths(candidates, {}, derive_generator(0)) is None
    assert analyse_strengths(candidates, {99: ()}, derive_generator(0)) is None
