"""Graph measures of many patterns of one budget, fast, and each pattern measured once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from search_spaces.measures.compiled import COMPILED, measure_batch
from search_spaces.measures.measure import Reads
from search_spaces.pattern import ConnectionPattern

# Spectra of the undirected graph, efficiency and the number of paths added nothing to these, and take far longer.
PREDICTORS = (
    *("mean_bd", "to_input_mean", "from_loss_mean"),
    *("walk_length", "visit_evenness", "ntk_trace", "least_visit", "layer_walk", "random_walk_depth"),
    *("span", "out_degree_sd", "in_degree_sd"),
    *("mean_log_skip", "skip_length_sd", "short_skip_share", "long_skip_share"),
    *("skip_place_mean", "skip_place_sd", "bare_chain_share", "longest_single_run"),
)
LEAST_SPREAD = 1e-9  # relative standard deviation under which a measure does not vary, but for rounding
_QUICK = tuple(name for name in PREDICTORS if name in COMPILED)


@dataclass(frozen=True, slots=True)
class Scale:
    """How measures are standardised: those that do not vary are left out.

    Args:
        varies: which of PREDICTORS vary over the patterns that the scale was made from.
        centre, spread: their means and standard deviations.
    """

    varies: NDArray[np.bool_]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, table: NDArray[np.float64]) -> Self:
        """Return the scale of a table of measures; shape (n, measures)."""
        spread = table.std(axis=0) if len(table) else np.zeros(table.shape[1])
        varies = spread > LEAST_SPREAD * (1 + np.abs(table).max(axis=0, initial=0))
        return cls(varies, table[:, varies].mean(axis=0) if len(table) else np.zeros(0), spread[varies])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the measures that are left."""
        return tuple(name for name, varies in zip(PREDICTORS, self.varies.tolist(), strict=True) if varies)

    def standardise(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the measures that vary with mean 0 and standard deviation 1 over the scale's own patterns."""
        return np.asarray((table[:, self.varies] - self.centre) / self.spread, np.float64)


class Measured:
    """A table of patterns and their measures that grows by what is asked for.

    Args:
        reads: nodes that the classifier reads; None for those of transition `log`.
    """

    def __init__(self, reads: Reads | None = None) -> None:
        self._reads = reads
        self._rows: dict[str, NDArray[np.float64]] = {}

    def table(self, patterns: Sequence[ConnectionPattern]) -> NDArray[np.float64]:
        """Return the measures PREDICTORS of patterns of one depth and number of connections; shape (n, measures)."""
        new = [pattern for pattern in patterns if pattern.key not in self._rows]
        if new:
            for pattern, row in zip(new, measure_patterns(new, self._reads), strict=True):
                self._rows[pattern.key] = row
        rows = [self._rows[pattern.key] for pattern in patterns]
        return np.stack(rows) if rows else np.empty((0, len(PREDICTORS)))


def measure_patterns(patterns: Sequence[ConnectionPattern], reads: Reads | None = None) -> NDArray[np.float64]:
    """Return the measures PREDICTORS of patterns; shape (n, measures).

    They are those of measures.registry, computed for all patterns at once: a hundred take milliseconds.

    Args:
        patterns: patterns of one depth and one number of connections, at least one.
        reads: nodes that the classifier reads; None for those of transition `log`.
    """
    columns = measure_batch(patterns, _QUICK, reads) | _measure_placement(patterns)
    return np.column_stack([columns[name] for name in PREDICTORS])


def _measure_placement(patterns: Sequence[ConnectionPattern]) -> dict[str, NDArray[np.float64]]:
    depth = patterns[0].depth
    pairs = np.array([list(pattern.connections) for pattern in patterns])  # (n, connections, 2)
    is_skip = pairs[:, :, 1] - pairs[:, :, 0] > 1
    source, target = (pairs[:, :, end][is_skip].reshape(len(patterns), -1) for end in (0, 1))
    n_skips = source.shape[1]
    row = np.arange(len(patterns))[:, None]
    changes = np.zeros((len(patterns), depth + 2))
    np.add.at(changes, (row, source + 1), 1.0)
    np.add.at(changes, (row, target + 1), -1.0)
    cover = changes[:, 1:-1].cumsum(axis=1)
    degrees = np.ones((len(patterns), depth + 1))
    np.add.at(degrees, (row, target), 1.0)
    run, longest = np.zeros(len(patterns)), np.zeros(len(patterns))
    for layer in range(1, depth + 1):
        run = np.where(degrees[:, layer] == 1, run + 1, 0.0)
        longest = np.maximum(longest, run)
    placed = {"bare_chain_share": (cover == 0).mean(axis=1), "longest_single_run": longest}
    if n_skips == 0:
        nothing = np.zeros(len(patterns))
        names = ("mean_log_skip", "skip_length_sd", "short_skip_share", "long_skip_share", "skip_place_sd")
        return placed | dict.fromkeys(names, nothing) | {"skip_place_mean": nothing + 0.5}
    length, middle = target - source, (source + target) / (2 * depth)
    return placed | {
        "mean_log_skip": np.log(length).mean(axis=1),
        "skip_length_sd": length.std(axis=1),
        "short_skip_share": (length <= depth / 4).mean(axis=1),
        "long_skip_share": (length > depth / 2).mean(axis=1),
        "skip_place_mean": middle.mean(axis=1),
        "skip_place_sd": middle.std(axis=1),
    }
