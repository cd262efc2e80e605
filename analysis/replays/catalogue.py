"""The tables of trainings that come with the package."""

from pathlib import Path

import pandas as pd

from analysis.data.csv_files import REQUIRED, read_table
from analysis.replays.table import read_provenance
from search_spaces.errors import InputError
from search_spaces.measures.registry import ALWAYS_SHOWN

FOLDER = Path(__file__).parent / "committed"  # a link to docs/tables; in an installed package a folder of its own
TABLE_COLUMNS = (
    *(name for name in REQUIRED if name != "state"),
    *ALWAYS_SHOWN,
    "template",
    "validation_loss",
    "validation_accuracy",
    "sources",
)


def list_tables() -> list[str]:
    """Return the names of the tables, in order.

    >>> "layers-12" in list_tables()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


def load(name: str) -> pd.DataFrame:
    """Return a table of trainings, one row for each pattern and seed, all complete.

    Columns: key and sources say the pattern (search_spaces.pattern), strategy and template what proposed it, seed which
    training it is, budget, layers and connections what all share; then measures of the pattern, and validation_loss in
    nats and validation_accuracy as a share of 1. docs/tables/README.md says how each table was made.

    Raises:
        InputError: there is no such table, or its file was changed.
    """
    path = find_table(Path(name))
    read_provenance(path)  # checks the hash
    return read_table(path)[list(TABLE_COLUMNS)]


def find_table(table: Path) -> Path:
    """Return the path of a table's file: the one given, or that of a table of ours by its name.

    Raises:
        InputError: there is neither.
    """
    if table.exists() or table.suffix == ".csv":
        return table
    if str(table) in list_tables():
        return FOLDER / f"{table}.csv"
    raise InputError(f"there is no table {table}; give the path of a CSV file, or one of {', '.join(list_tables())}")
