"""Samples of a study whose truth is planted: measures of patterns, and outcomes that follow one of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.verdict.rules import Judged, gather_evidence, judge_strata
from analysis.verdict.sample import Sample
from search_spaces.seeds import derive_generator

Column = NDArray[np.float64]
Columns = dict[str, Column]
MEASURES = ("mean_bd", "span", "walk_length", "visit_evenness")
BINS = {"walk_length": 3, "visit_evenness": 3, "mean_bd": 2}


@dataclass(frozen=True)
class Truth:
    """What the true outcome of a pattern follows.

    Args:
        signal: function from the measures' ranks (-1..1) to what the outcome follows, 0 for nothing.
        beyond: measures whose rank and square the signal's own part is measured beyond.
        partial: correlation of that part with the mean over seeds of what is left of the outcome.
        own: standard deviation of what each pattern has of its own, next to 1 of a training's noise.
        seed_slope: standard deviation of the slope on mean BD that a seed has of its own, in the same units a standard
            deviation of mean BD.
        noise: function from the measures' ranks to the standard deviation of a training's noise.
    """

    signal: Callable[[Columns], Column] = lambda ranks: 0 * ranks["span"]
    beyond: tuple[str, ...] = ()
    partial: float = 0.6
    own: float = 1.0
    seed_slope: float = 0.0
    noise: Callable[[Columns], Column] = lambda ranks: np.ones(len(ranks["span"]))


def draw_measures(design: str, n: int, generator: np.random.Generator) -> Columns:
    """Draw measures of n patterns.

    `crossed` has walk length, evenness and mean BD in 3 x 3 x 2 cells, and span that falls with walk length (rank
    correlation about -.7); `naive` has all four correlated, and mean BD a curve in walk length.
    """
    if design == "crossed":
        drawn = {}
        cells = np.arange(n) * 18 // n
        for name, n_bins in BINS.items():
            cells, places = np.divmod(cells, n_bins)
            drawn[name] = places + generator.uniform(0, 1, n)
        walk = drawn["walk_length"] - drawn["walk_length"].mean()
        drawn["span"] = 5 - walk / walk.std() + generator.normal(size=n)
        return drawn
    walk, own, span, even = generator.normal(size=(4, n))
    return {
        "walk_length": walk,
        "span": -0.8 * walk + 0.6 * span,
        "visit_evenness": 0.4 * walk + 0.9 * even,
        "mean_bd": 0.5 * walk + 0.6 * (walk**2 - 1) / 2**0.5 + 0.6 * own,
    }


def scale_ranks(column: Column) -> Column:
    """Return the ranks of distinct values, from -1 to 1."""
    ranks: Column = 2 * np.argsort(np.argsort(column)) / (len(column) - 1) - 1
    return ranks


def plant(truth: Truth, design: str, number: int, n: int = 72, k: int = 4) -> Sample:
    """Return a sample of n patterns at k seeds; the same number gives the same one."""
    generator = derive_generator(7, "planted", design, number, n, k)
    columns = draw_measures(design, n, generator)
    ranks = {name: scale_ranks(column) for name, column in columns.items()}
    noise = truth.noise(ranks)[:, None] * generator.normal(size=(n, k))
    values = noise + truth.own * generator.normal(size=(n, 1)) + 5 * generator.normal(size=k)
    distance = (columns["mean_bd"] - columns["mean_bd"].mean()) / columns["mean_bd"].std()
    values += truth.seed_slope * distance[:, None] * generator.normal(size=k)
    signal = truth.signal(ranks)
    if np.ptp(signal):
        held = [np.ones(n), *(power for name in truth.beyond for power in (ranks[name], ranks[name] ** 2))]
        basis = np.stack(held, axis=1)
        left = signal - basis @ np.linalg.lstsq(basis, signal, rcond=None)[0]
        of_mean = (truth.own**2 + 1 / k) ** 0.5
        values += (signal / left.std() * of_mean * truth.partial / (1 - truth.partial**2) ** 0.5)[:, None]
    return Sample.from_arrays(values, columns)


def judge_planted(samples: dict[str, Sample], measures: tuple[str, ...] = ("mean_bd",), number: int = 0) -> Judged:
    """Judge samples as strata of one study."""
    return judge_strata(
        {
            name: gather_evidence(sample, measures, None, derive_generator(number, "judged", name))
            for name, sample in samples.items()
        }
    )


def count_statuses(truth: Truth, design: str, measure: str, n_draws: int, **size: int) -> dict[str, int]:
    """Return how often each status was found in n_draws studies of one stratum."""
    statuses = []
    for number in range(n_draws):
        judged = judge_planted({"only": plant(truth, design, number, **size)}, (measure,), number)
        statuses.append(judged.strata["only"][0].status)
    return {status: statuses.count(status) for status in sorted(set(statuses))}
