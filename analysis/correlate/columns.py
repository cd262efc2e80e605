"""The columns of a table that were asked for."""

import csv
import difflib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.correlate.exact import MISSING
from analysis.data.csv_files import OpenTable, open_csv
from search_spaces.errors import InputError

MAX_BYTES = 100 * 10**6


MAX_ROWS, MAX_COLUMNS = 10**6, 10**4  # the bootstrap of so many rows takes minutes


N_LOOKED_AT = 100  # rows, to tell columns of numbers


def read_columns(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """The named columns of a CSV, as text, and those of the optional ones that it has.

    Raises:
        InputError: as of correlate_table.
    """
    wanted = list(dict.fromkeys(names))
    try:
        with open_csv(path, MAX_BYTES, wanted) as table:
            return _pick_columns(table, path, wanted, optional)
    except FileNotFoundError:
        raise InputError(f"no table at {path}; give a CSV file with a header") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a CSV table: {error}; save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV table: {error}") from None


def _pick_columns(table: OpenTable, path: Path, names: list[str], optional: Sequence[str]) -> dict[str, list[str]]:
    reader = csv.reader(table.lines, delimiter=table.separator, strict=True)
    header: list[str] = [name.strip() for name in next(reader, [])]
    if not header:
        raise InputError(f"{path} is not a CSV table: it is empty, where a header should be")
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{path} has {len(header):,} columns, and at most {MAX_COLUMNS:,} are read: drop some")
    for name in names:
        if name not in header:
            raise InputError(f"{path} has no column {name!r:.80}{_list_columns(name, header, reader)}")
        n_columns = header.count(name)
        if n_columns > 1:
            raise InputError(f"{path} has {n_columns} columns {name!r:.80}; give each its own name")
    names += [name for name in optional if header.count(name) == 1 and name not in names]
    places = [header.index(name) for name in names]
    rows: list[list[str]] = []
    for row in reader:
        if len(rows) == MAX_ROWS:
            raise InputError(f"{path} has more than {MAX_ROWS:,} rows: average repeats, or draw some of them")
        if len(row) <= 1 and not "".join(row).strip() and len(header) > 1:
            continue  # a blank line
        if row and len(row) != len(header):
            raise InputError(
                f"{path}, line {table.n_blank + reader.line_num}: {len(row)} fields under a header of {len(header)}; "
                "was it cut?"
            )
        if row:
            rows.append([row[place].strip() for place in places])
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _list_columns(name: str, header: list[str], rows: Iterator[list[str]]) -> str:
    """What a table has in the place of a column that it lacks: those of numbers first, by its first rows."""
    some = [row for row in itertools.islice(rows, N_LOOKED_AT) if len(row) == len(header)]
    numeric = [title for i, title in enumerate(header) if some and all(_is_number(row[i].strip()) for row in some)]
    others = [title for title in header if title not in numeric]
    near = difflib.get_close_matches(name, header, n=1)
    said = f"; did you mean {near[0]!r:.80}?" if near else ""
    said += f"; columns of numbers: {', '.join(numeric) or 'none':.300}"
    return said + (f"; others: {', '.join(others):.300}" if others else "")


def _is_number(text: str) -> bool:
    try:
        return text.lower() in MISSING or math.isfinite(float(text))
    except ValueError:
        return False
