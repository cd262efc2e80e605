"""Groups of patterns, and how patterns are resampled and permuted inside them."""

from collections.abc import Callable, Hashable, Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.protocol import MAX_BANDS, MIN_BAND, N_RESAMPLES

Vector = NDArray[np.float64]
Groups = NDArray[np.int64]  # (n,): each row's group by number

MAX_CHUNK = 2**22  # elements of one array of weights
MAX_SLICE = 2**18  # elements that a statistic gets at once: larger arrays leave the processor's cache


def number_groups(labels: Iterable[Hashable]) -> Groups:
    """Number equal labels alike, in order of first appearance.

    >>> number_groups(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def pool_single(groups: Groups) -> Groups:
    """Unite the groups of a single row; where there is only one such row, put it into the largest group.

    A row that is alone in its group could not be resampled.

    >>> pool_single(np.array([0, 0, 1, 2])).tolist(), pool_single(np.array([0, 0, 1])).tolist()
    ([0, 0, 1, 1], [0, 0, 0])
    """
    _, groups = np.unique(groups, return_inverse=True)
    sizes = np.bincount(groups)
    single = sizes[groups] == 1
    target = int(sizes.argmax()) if single.sum() == 1 else len(sizes)
    _, pooled = np.unique(np.where(single, target, groups), return_inverse=True)
    return pooled.astype(np.int64)


def design_cells(patterns: pd.DataFrame) -> Groups:
    """Return groups for the bootstrap: cells of the crossed design, and strategies of patterns without a cell."""
    cells, strategies = patterns["cell"].tolist(), patterns["strategy"].fillna("unknown").tolist()
    labels = [
        ("strategy", strategy) if pd.isna(cell) else ("cell", cell)
        for cell, strategy in zip(cells, strategies, strict=True)
    ]  # fmt: skip
    return pool_single(number_groups(labels)) if labels else np.zeros(0, dtype=np.int64)


def design_bands(patterns: pd.DataFrame, column: str, place: int) -> Groups:
    """Return groups for permutations: the design's bands of a column, or quantile bands without a design.

    Where only some patterns have a band, the others are a band of their own.

    Args:
        place: the column's place among two crossed measures; other designs have no bands.
    """
    bins = list_bins(patterns, place)
    if bins.isna().all():
        return quantile_bands(patterns[column].to_numpy(np.float64))
    return number_groups(bins.fillna(-1).tolist())


def list_bins(patterns: pd.DataFrame, place: int) -> "pd.Series[int]":
    """Return each pattern's bin of the first (place 0) or second of two crossed measures, where there is one."""
    parts = patterns["cell"].astype("string").str.extract(r"^(\d+),(\d+)$")
    return parts[place].astype("Int64")


def quantile_bands(values: Vector) -> Groups:
    """Form up to MAX_BANDS bands of about equal size and at least MIN_BAND rows; equal values share a band.

    >>> np.bincount(quantile_bands(np.arange(12.0))).tolist(), quantile_bands(np.ones(3)).tolist()
    ([6, 6], [0, 0, 0])
    """
    for n_bands in range(min(MAX_BANDS, len(values) // MIN_BAND), 1, -1):
        edges = np.quantile(values, np.arange(1, n_bands) / n_bands)
        bands = np.searchsorted(edges, values, side="left")
        if np.bincount(bands, minlength=n_bands).min() >= MIN_BAND:
            return bands.astype(np.int64)
    return np.zeros(len(values), dtype=np.int64)


def draw_weights(groups: Groups, n_draws: int, generator: np.random.Generator) -> Vector:
    """Draw bootstrap weights of rows inside groups, shape (n_draws, n); each group's sum to its size.

    A plain bootstrap inside a group of n_h understates the variance of a mean by (n_h - 1) / n_h, a third at the three
    patterns of a design's cell. Drawing n_h - 1 and scaling the counts by n_h / (n_h - 1) makes it right (Rao,
    Wu and Yue, Survey Methodology 18, 1992). A group of one row keeps weight 1.
    """
    weights = np.ones((n_draws, len(groups)))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        size = len(members)
        if size < 2:
            continue
        drawn = generator.integers(0, size, (n_draws, size - 1)) + size * np.arange(n_draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n_draws * size).reshape(n_draws, size)
        weights[:, members] = counts * (size / (size - 1))
    return weights


def bootstrap(statistic: Callable[[Vector], Vector], groups: Groups, generator: np.random.Generator) -> Vector:
    """Compute a statistic in N_RESAMPLES resamples.

    Args:
        statistic: function from weights, shape (draws, n), to values, shape (draws, ...).
    """
    rows = max(1, MAX_SLICE // max(1, len(groups)))
    drawn = (draw_weights(groups, size, generator) for size in split_resamples(len(groups)))
    slices = (weights[begin : begin + rows] for weights in drawn for begin in range(0, len(weights), rows))
    return np.concatenate([statistic(weights) for weights in slices])


def split_resamples(n: int) -> list[int]:
    """Split N_RESAMPLES draws of n rows into chunks of at most MAX_CHUNK elements."""
    chunk = max(1, min(N_RESAMPLES, MAX_CHUNK // max(1, n)))
    return [min(chunk, N_RESAMPLES - begin) for begin in range(0, N_RESAMPLES, chunk)]


def permute(groups: Groups, n_draws: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw orders of the rows, shape (n_draws, n), that move each row only inside its group."""
    orders = np.tile(np.arange(len(groups)), (n_draws, 1))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        if len(members) > 1:
            orders[:, members] = generator.permuted(orders[:, members], axis=1)
    return orders


def centre_inside(values: Vector, groups: Groups) -> Vector:
    """Subtract from each value the mean of its group.

    >>> centre_inside(np.array([1.0, 3.0, 7.0]), np.array([0, 0, 1])).tolist()
    [-1.0, 1.0, 0.0]
    """
    _, groups = np.unique(groups, return_inverse=True)
    means = np.bincount(groups, values) / np.bincount(groups)
    centred: Vector = values - means[groups]
    return centred


def share_as_far(observed: float, permuted: Vector, centre: float) -> float:
    """Return the two-sided p-value: the share of permutations at least as far from the centre of their null.

    The sample itself counts as one permutation, so that p is never 0. Distances that differ by less than 1e-9 of the
    largest are ties, which rounding would separate.

    Args:
        centre: exact mean of the statistic over all permutations. It need not be 0, for permutations inside groups keep
            what goes along with the groups; the mean of the drawn ones would decide mirrored ties by chance.

    >>> share_as_far(2.0, np.array([-2.0, 1.0, 0.0]), centre=0.0)
    0.5
    >>> share_as_far(8.0, np.array([12.0, 11.0, 9.0]), centre=10.0)
    0.5
    """
    far, distances = abs(observed - centre), abs(permuted - centre)
    slack = 1e-9 * max(far, float(distances.max(initial=0.0)))
    return (1 + int((distances >= far - slack).sum())) / (1 + len(permuted))


def share_as_large(observed: float, permuted: Vector) -> float:
    """Return the p-value of a statistic that is itself a squared distance: the share of permutations as large.

    The sample itself counts as one permutation; 1e-9 of it are ties, which rounding would separate.

    >>> share_as_large(2.0, np.array([3.0, 1.0, 0.0]))
    0.5
    """
    return (1 + int((permuted >= observed * (1 - 1e-9)).sum())) / (1 + len(permuted))
