"""What replayed searches would pick, and how accurate that is by the seeds they did not see."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.data.protocol import N_RESAMPLES
from analysis.stats.resampling import Vector, draw_weights


@dataclass(frozen=True, slots=True)
class Searches:
    """What replayed searches proposed and saw; replay r saw the same seeds with every strategy.

    Args:
        strategies: names, RANDOM among them.
        accuracies: shape (patterns of the table, seeds).
        is_visible: shape (replays, seeds): seeds whose mean a search saw; the others judge it.
        proposed: rows of accuracies, shape (strategies, replays, patterns proposed); below 0 where none was left.
    """

    strategies: tuple[str, ...]
    accuracies: Vector
    is_visible: NDArray[np.bool_]
    proposed: NDArray[np.int64]


class JudgedSearch(NamedTuple):
    """Accuracies by the judging seeds: first the sample's own, then those of N_RESAMPLES resamples.

    Args:
        picked: accuracies of the picks, shape (strategies, 1 + N_RESAMPLES, patterns proposed).
        best: accuracy of the table's best pattern, shape (1 + N_RESAMPLES, 1).
        average: mean accuracy of all patterns, shape (1 + N_RESAMPLES, 1).
    """

    picked: Vector
    best: Vector
    average: Vector


def judge_picks(searches: Searches, generator: np.random.Generator) -> JudgedSearch:
    """Return how accurate picks are by the judging seeds, averaged over replays, and resamples of that.

    A resample deviates by what drawing the replays again changes, and by what drawing the judging seeds again changes,
    independently of each other. What is particular to a replay and a seed together is in both, so the spread may be too
    wide, by a factor of 1.4 at most and by none with many replays, but not too narrow.
    """
    accuracies, judges = searches.accuracies, ~searches.is_visible
    judged = judges @ accuracies.T / judges.sum(axis=1, keepdims=True)  # (replays, patterns)
    # (replays, seeds, what is judged): picks after every number of patterns; then the best, and the mean of all
    values = [np.swapaxes(accuracies[rows], 1, 2) for rows in find_picks(searches)]
    ends = np.stack([accuracies[judged.argmax(axis=1)], np.broadcast_to(accuracies.mean(axis=0), judges.shape)], axis=2)
    of_replays, of_seeds = (
        draw_weights(np.zeros(size, dtype=np.int64), N_RESAMPLES, generator) for size in judges.shape
    )
    *picked, both = (_resample(array, judges, of_replays, of_seeds) for array in (*values, ends))
    return JudgedSearch(np.stack(picked), both[:, :1], both[:, 1:])


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


def find_picks(searches: Searches) -> NDArray[np.int64]:
    """Return the row of the best visible mean after each number of patterns, the first of equal ones.

    Returns:
        Shape (strategies, replays, patterns proposed).
    """
    visible = searches.is_visible @ searches.accuracies.T / searches.is_visible.sum(axis=1, keepdims=True)
    seen = np.take_along_axis(visible[None], searches.proposed, axis=2)
    seen[searches.proposed < 0] = -np.inf
    best = np.maximum.accumulate(seen, axis=2)
    is_new = np.ones_like(seen, dtype=bool)
    is_new[:, :, 1:] = seen[:, :, 1:] > best[:, :, :-1]
    place = np.maximum.accumulate(np.where(is_new, np.arange(seen.shape[2]), 0), axis=2)
    return np.take_along_axis(searches.proposed, place, axis=2)
