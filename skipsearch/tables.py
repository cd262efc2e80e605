"""Tables of trainings: those that come with the package, and rank correlations in any table."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from search_spaces.errors import InputError
from skipsearch.words import in_python

if TYPE_CHECKING:
    import pandas as pd


def list_tables() -> list[str]:
    """Return the names of the tables that come with the package.

    >>> "layers-12" in list_tables()
    True
    """
    from analysis.replays.catalogue import list_tables as list_ours

    return list_ours()


def load(name: str) -> "pd.DataFrame":
    """Return a table of trainings that comes with the package, one row for each pattern and seed.

    Args:
        name: name of the table, from list_tables.

    Returns:
        Columns key and sources (the pattern), strategy and template (who proposed it), seed, budget, layers,
        connections, measures of the pattern, validation_loss in nats and validation_accuracy as a share of 1.

    Raises:
        InputError: there is no such table, or its file was changed.
    """
    from analysis.replays.catalogue import load as load_ours

    with in_python():
        return load_ours(name)


def correlate(
    frame: "pd.DataFrame | str | Path",
    measure: str | Sequence[str],
    outcome: str,
    group: str | Sequence[str] | None = None,
    pattern: str | None = None,
    seed: int = 0,
) -> "pd.DataFrame":
    """Correlate columns of a table with one of them by rank, as a study does.

    Args:
        frame: table with one row for each measurement, or the path of a CSV file.
        measure: columns to correlate: a list, or names joined by commas.
        outcome: column to correlate them with.
        group: columns that split the table; everything is computed inside the groups and pooled.
        pattern: column that is the same for repeats of one thing, which are averaged.
        seed: seed of bootstrap and permutations.

    Returns:
        One row a measure: spearman with spearman_low and spearman_high (95 % interval), kendall, p_permutation,
        quadratic_r2, ceiling (the correlation that the noise leaves room for), n, patterns, groups, strata (unused
        columns that split the table: a difference between strata looks like an effect), by_group and note.

    Raises:
        InputError: a column is missing, has text among its numbers, or a measure varies inside a pattern.
    """
    import pandas as pd

    from analysis.correlate.table import correlate_table

    measures = _list_names(measure)
    groups = None if group is None else ",".join(_list_names(group))
    with in_python():
        if not isinstance(frame, pd.DataFrame):
            return pd.DataFrame(correlate_table(Path(frame), measures, outcome, groups, pattern, seed))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "frame.csv"
            frame.to_csv(path, index=False)  # numbers as they are written, without rounding
            try:
                return pd.DataFrame(correlate_table(path, measures, outcome, groups, pattern, seed))
            except InputError as error:
                raise InputError(str(error).replace(str(path), "the table")) from None


def _list_names(names: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
