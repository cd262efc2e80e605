"""The patterns of one stratum as numbers: outcomes by pattern and seed, measures, and how they are resampled."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.outcomes import OUTCOMES, is_lower_better, list_outcomes
from analysis.data.protocol import CONTROLS
from analysis.stats.resampling import Groups, Vector, centre_inside, design_cells, draw_weights, split_resamples
from search_spaces.seeds import derive_generator


class Drawn(NamedTuple):
    """Some resamples: weights of patterns, shape (draws, n), and of seeds, shape (draws, k)."""

    patterns: Vector
    seeds: Vector


@dataclass(frozen=True, slots=True)
class Sample:
    """The sampled patterns of one stratum.

    Args:
        outcome: name of the outcome.
        values: outcome of each pattern at each seed, shape (n, k); nan where a training is missing.
        columns: measures by name, each of shape (n,); without missing values.
        keys, seeds: names of the rows and columns of values.
        cells: groups inside which the bootstrap draws, of all patterns that are drawn together, shape (m,).
        places: place of each pattern among those, shape (n,).
        draw_seed: whatever the resamples depend on; strata with equal cells and draw_seed draw the same patterns.
    """

    outcome: str
    values: Vector
    columns: Mapping[str, Vector]
    keys: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: Groups
    places: Groups
    draw_seed: tuple[int | str, ...]

    @classmethod
    def from_arrays(cls, values: Vector, columns: Mapping[str, Vector], outcome: str = OUTCOMES[0]) -> Self:
        """Return a sample without design cells, for arrays made elsewhere."""
        n, k = values.shape
        keys, places = tuple(map(str, range(n))), np.arange(n)
        return cls(outcome, values, columns, keys, tuple(range(k)), np.zeros(n, dtype=np.int64), places, ("sample",))

    @property
    def lower_is_better(self) -> bool:
        """Whether a lower outcome is the better one."""
        return is_lower_better(self.outcome)

    @property
    def is_full(self) -> NDArray[np.bool_]:
        """Whether each pattern was trained at every seed, shape (n,)."""
        return np.asarray(np.isfinite(self.values).all(axis=1), np.bool_)

    @property
    def centred(self) -> Vector:
        """Each value less its seed's level, shape (n, k).

        The levels are those of a least squares fit of patterns and seeds, so that trainings that are missing, of good
        patterns or of bad ones, do not move them. In a full table they are the seeds' means.
        """
        rows, seeds = np.nonzero(np.isfinite(self.values))
        y = self.values[rows, seeds]
        by_seed = (seeds[:, None] == np.arange(self.values.shape[1])).astype(np.float64)
        inside = np.stack([centre_inside(column, rows) for column in by_seed.T], axis=1)
        levels = np.linalg.lstsq(inside, centre_inside(y, rows), rcond=None)[0]
        centred: Vector = self.values - (levels - levels.mean()) - y.mean()
        return centred

    @property
    def means(self) -> Vector:
        """Mean over seeds of each pattern's centred values, rounded so that rounding does not separate ties."""
        means: Vector = np.nanmean(self.centred, axis=1).round(12)
        return means

    def draw(self) -> Iterator[Drawn]:
        """Draw weights of patterns and of seeds, the same ones at every call.

        Drawing k - 1 of k seeds and scaling their counts is for seeds what draw_weights does for patterns. That both
        are drawn at once is the pigeonhole bootstrap (Owen, Ann. Appl. Stat. 1, 2007).
        """
        generator = derive_generator(*self.draw_seed)
        of_seeds = np.zeros(len(self.seeds), dtype=np.int64)
        for n_draws in split_resamples(9 * len(self.cells)):
            weights = draw_weights(self.cells, n_draws, generator)
            yield Drawn(weights[:, self.places], draw_weights(of_seeds, n_draws, generator))


def build_samples(strata: Mapping[str, pd.DataFrame], measures: tuple[str, ...], run_seed: int) -> dict[str, Sample]:
    """Return the sample of each stratum; strata of one budget and depth draw the patterns that they share together.

    Args:
        strata: by name the complete candidates of the sampled patterns: rows of read_run.
        measures: declared measures; they and CONTROLS are columns of the samples, as far as every pattern has them.

    Returns:
        Samples by the name of the stratum; none of a stratum without an outcome.
    """
    by_space: dict[tuple[str, int], list[str]] = {}
    for name, rows in strata.items():
        if len(rows):
            by_space.setdefault((str(rows["budget"].iloc[0]), int(rows["layers"].iloc[0])), []).append(name)
    samples = {}
    for space, names in by_space.items():
        together = pd.concat([strata[name] for name in names]).drop_duplicates("key").sort_values("key")
        cells = design_cells(together)
        places = dict(zip(together["key"].tolist(), range(len(together)), strict=True))
        for name in names:
            sample = _build_sample(strata[name], measures, cells, places, (run_seed, "resamples", *space))
            if sample is not None:
                samples[name] = sample
    return samples


def _build_sample(
    rows: pd.DataFrame,
    measures: tuple[str, ...],
    cells: Groups,
    places: Mapping[str, int],
    draw_seed: tuple[int | str, ...],
) -> Sample | None:
    outcome = next((name for name in list_outcomes(rows) if rows[name].notna().any()), None)
    if outcome is None:
        return None
    rows = rows.dropna(subset=[outcome, "seed"]).drop_duplicates(["key", "seed"])
    table = rows.set_index(["key", "seed"])[outcome].unstack("seed").sort_index()  # noqa: PD010  no aggregation
    first = rows.drop_duplicates("key").set_index("key").loc[table.index]
    wanted = [name for name in dict.fromkeys((*measures, *CONTROLS)) if name in first and first[name].notna().all()]
    return Sample(
        outcome=outcome,
        values=table.to_numpy(np.float64),
        columns={name: first[name].to_numpy(np.float64).round(12) for name in wanted},
        keys=tuple(table.index.tolist()),
        seeds=tuple(int(seed) for seed in table.columns),
        cells=cells,
        places=np.array([places[key] for key in table.index], dtype=np.int64),
        draw_seed=draw_seed,
    )
