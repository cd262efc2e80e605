"""What replayed searches would pick, and how good that is by the seeds they did not see."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.protocol import N_RESAMPLES
from analysis.stats.resampling import Vector, draw_weights


@dataclass(frozen=True, slots=True)
class Course:
    """What the searches of one strategy did.

    Args:
        trained: row of the table of each training, shape (replays, trainings); below 0 once a search had ended.
        picked: row that a search would pick after each training, the same shape.
        n_named: number of trainings at the start that were of named templates, not proposed.
    """

    trained: NDArray[np.int64]
    picked: NDArray[np.int64]
    n_named: int = 0


@dataclass(frozen=True, slots=True)
class Searches:
    """What replayed searches did on a table; replay r saw the same seeds with every strategy.

    Args:
        values: what is judged, lower is better, shape (patterns, seeds).
        is_uniform: whether a pattern is a uniform draw, shape (patterns,).
        is_visible: shape (replays, seeds): seeds that a search trained with; the others judge it.
        by_strategy: courses by name, RANDOM's among them, which may be longer than the others.
    """

    values: Vector
    is_uniform: NDArray[np.bool_]
    is_visible: NDArray[np.bool_]
    by_strategy: dict[str, Course]

    @property
    def n_trainings(self) -> int:
        """Number of trainings that all strategies were replayed for."""
        return min(int(course.trained.shape[1]) for course in self.by_strategy.values())


class JudgedSearches(NamedTuple):
    """Values by the judging seeds: first the sample's own, then those of N_RESAMPLES resamples.

    Args:
        picked: by strategy, values of the picks, shape (1 + N_RESAMPLES, trainings of its course).
        ranks, medians: by strategy, of the patterns that it proposed in n_trainings, both by single seeds: their mean
            rank in the table, 0 the best and 1 the worst, and their median; shape (1 + N_RESAMPLES,).
        best: value of the table's best pattern, shape (1 + N_RESAMPLES, 1).
        average: mean value of uniform draws, shape (1 + N_RESAMPLES, 1).
    """

    picked: dict[str, Vector]
    ranks: dict[str, Vector]
    medians: dict[str, Vector]
    best: Vector
    average: Vector


def judge_searches(searches: Searches, generator: np.random.Generator) -> JudgedSearches:
    """Return how good picks and proposals are by the judging seeds, averaged over replays, and resamples of that.

    A resample deviates by what drawing the replays again changes, and by what drawing the judging seeds again changes,
    independently of each other. What is particular to a replay and a seed together is in both, so the spread may be too
    wide, by a factor of 1.4 at most and by none with many replays, but not too narrow.
    """
    table, judges = searches.values, ~searches.is_visible  # noqa: PD011  no frame
    of_replays, of_seeds = (
        draw_weights(np.zeros(size, dtype=np.int64), N_RESAMPLES, generator) for size in judges.shape
    )

    def resample(judged: Vector) -> Vector:
        return _resample(judged, judges, of_replays, of_seeds)

    # All are of shape (replays, seeds, what is judged).
    picked = {name: resample(np.swapaxes(table[course.picked], 1, 2)) for name, course in searches.by_strategy.items()}
    ranks = (pd.DataFrame(table).rank().to_numpy(np.float64) - 1) / max(1, len(table) - 1)
    proposed = {
        name: resample(_describe_proposals(course, searches.n_trainings, ranks, table))
        for name, course in searches.by_strategy.items()
    }
    means = judges @ table.T / judges.sum(axis=1, keepdims=True)  # (replays, patterns)
    average = np.broadcast_to(table[searches.is_uniform].mean(axis=0), judges.shape)
    ends = resample(np.stack([table[means.argmin(axis=1)], average], axis=2))
    return JudgedSearches(
        picked,
        {name: draws[:, 0] for name, draws in proposed.items()},
        {name: draws[:, 1] for name, draws in proposed.items()},
        ends[:, :1],
        ends[:, 1:],
    )


def _describe_proposals(course: Course, n_trainings: int, ranks: Vector, values: Vector) -> Vector:
    """Return mean rank and median value of each replay's proposals by each seed, shape (replays, seeds, 2)."""
    described = np.full((len(course.trained), values.shape[1], 2), np.nan)
    for number, trained in enumerate(course.trained[:, course.n_named : n_trainings]):
        rows = np.unique(trained[trained >= 0])
        if len(rows):
            described[number] = np.stack([ranks[rows].mean(axis=0), np.median(values[rows], axis=0)], axis=1)
    return described


def count_distinct(course: Course) -> Vector:
    """Return how many patterns were trained after each training, averaged over replays; shape (trainings,)."""
    counts = []
    for trained in course.trained:
        _, firsts = np.unique(trained, return_index=True)
        is_new = np.isin(np.arange(len(trained)), firsts) & (trained >= 0)
        counts.append(np.cumsum(is_new))
    mean: Vector = np.mean(counts, axis=0)
    return mean


def _resample(values: Vector, judges: NDArray[np.bool_], of_replays: Vector, of_seeds: Vector) -> Vector:
    """Return the mean of values over replays and their judges, and resamples of it.

    Args:
        values: shape (replays, seeds, n).
        judges: whether a seed judges, shape (replays, seeds); equally many in each replay.
        of_replays, of_seeds: weights, shapes (draws, replays) and (draws, seeds).

    Returns:
        Shape (1 + draws, n).
    """
    judged = values * judges[:, :, None]
    mean = judged.sum(axis=(0, 1)) / judges.sum()
    replays = of_replays @ judged.sum(axis=1) / (of_replays @ judges.sum(axis=1))[:, None]
    with np.errstate(invalid="ignore"):  # with very few replays a resample may leave out all judges
        seeds = of_seeds @ judged.sum(axis=0) / (of_seeds @ judges.sum(axis=0))[:, None]
    return np.vstack([mean, replays + seeds - mean])
