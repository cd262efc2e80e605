"""Reads tables from CSV files, which may be a stranger's, and writes the table of candidates as one."""

import csv
import math
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.outcomes import OUTCOMES
from analysis.data.proxies import list_proxies
from analysis.data.results import COLUMNS, find_brought, parse_sources
from nas.records.safe_files import OpenTable, open_csv
from nas.records.shown import defuse, restore
from nas.records.trial import STATES
from search_spaces.errors import InputError
from search_spaces.measures.registry import ALWAYS_SHOWN, measure, measure_brought

REQUIRED = ("state", "key", "strategy", "seed", "budget", "layers", "connections", "mean_bd", "span", "max_out_degree")
MAX_TABLE_BYTES = 10**9
OLDER_CELL = ["distance_bin", "span_bin"]  # columns of older tables


def format_table(table: pd.DataFrame) -> str:
    """Return a table as CSV whose texts no spreadsheet takes for formulas; read_table undoes it."""
    texts = {name: column.map(defuse, na_action="ignore") for name, column in table.items() if _is_text(column)}
    return table.assign(**{str(name): column for name, column in texts.items()}).to_csv(index=False)


def _is_text(column: "pd.Series[Any]") -> bool:
    return bool(pd.api.types.is_string_dtype(column.dtype))


def _check_header(path: Path, opened: OpenTable) -> None:
    """Check that a header has each of our columns only once: pandas would read the first."""
    start = opened.lines.tell()
    header = next(csv.reader(opened.lines, delimiter=opened.separator), [])
    opened.lines.seek(start)
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise InputError(f"{path} has {header.count(twice[0])} columns {twice[0]!r}; give each its own name")


def fill_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of text columns with the column cell, which older tables have as two bins."""
    if "cell" in table or not set(OLDER_CELL) <= set(table.columns):
        return table
    has_cell = table[OLDER_CELL].notna().all(axis=1)
    return table.assign(cell=(table[OLDER_CELL[0]] + "," + table[OLDER_CELL[1]]).where(has_cell))


def read_table(path: Path) -> pd.DataFrame:
    """Read a tidy CSV with read_run's columns; columns that the statistics do not need may be absent.

    An empty field is missing; "None" and "NA" are names like any other.

    Raises:
        InputError: the file is missing or no CSV, lacks a column of REQUIRED or both of OUTCOMES, or has text among
            numbers.
    """
    try:
        with open_csv(path, MAX_TABLE_BYTES, COLUMNS) as opened:
            _check_header(path, opened)
            # All as text first: pandas would otherwise guess a type by column and read "NA" as missing.
            table = pd.read_csv(
                opened.lines, sep=opened.separator, dtype="string", keep_default_na=False, na_values=[""]
            )
        for name in table:
            table[name] = table[name].map(restore, na_action="ignore").astype("string")
    except FileNotFoundError:
        raise InputError(f"no table at {path}; `report` writes one as report/candidates.csv") from None
    except (OSError, UnicodeDecodeError, csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is not a CSV table: {error}") from None
    absent = [name for name in REQUIRED if name not in table]
    if absent or not any(name in table for name in OUTCOMES):
        absent = absent or [" or ".join(OUTCOMES)]
        present = f"it has {', '.join(map(str, table.columns)):.300}"
        raise InputError(
            f"{path} lacks the columns {', '.join(absent)}; {present}; report/candidates.csv shows the form"
        )
    table = fill_cells(table)
    for name, dtype in {**COLUMNS, **dict.fromkeys(list_proxies(table), "float64")}.items():
        if name not in table:
            table[name] = pd.Series(pd.NA, index=table.index, dtype="string")
        try:
            if dtype != "string":
                table[name] = pd.to_numeric(table[name])
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: column {name} should have only numbers: {error}") from None
        if dtype == "float64" and table[name].isin([math.inf, -math.inf]).any():
            raise InputError(f"{path}: column {name} has an infinite number; leave the field empty if it is missing")
    unknown = set(table["state"].fillna("nothing")) - set(STATES.values())
    if unknown:
        raise InputError(f"{path}: state is {', '.join(sorted(unknown))}; it is one of {', '.join(STATES.values())}")
    table = fill_from_sources(table)
    columns = COLUMNS | dict.fromkeys([*find_brought(table), *list_proxies(table)], "float64")
    return table[list(columns)].astype(columns)


def fill_from_sources(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the measures of ALWAYS_SHOWN and of other packages where it lacks them and has `sources`.

    They are those of a classifier that reads what transition `log` lets it.
    """
    measured = {text: _measure_sources(text) for text in table["sources"].dropna().unique()}
    filled = table.copy()
    for name in dict.fromkeys((*ALWAYS_SHOWN, *(name for values in measured.values() for name in values))):
        computed = table["sources"].map({text: values.get(name) for text, values in measured.items()})
        computed = pd.to_numeric(computed).astype("float64")
        filled[name] = pd.to_numeric(table[name]).astype("float64").fillna(computed) if name in table else computed
    return filled


def _measure_sources(text: str) -> dict[str, float]:
    try:
        pattern = parse_sources(text)
    except (ValueError, TypeError, RecursionError):  # no test needs this column
        return {}
    return {**measure(pattern, ALWAYS_SHOWN), **measure_brought(pattern, taken=COLUMNS)}
