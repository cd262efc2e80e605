"""The columns of a CSV file that a caller names."""

import csv
import difflib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.correlate.exact import MISSING
from nas.records.safe_files import OpenTable, open_csv
from search_spaces.errors import InputError

MAX_BYTES = 100 * 10**6
MAX_ROWS, MAX_COLUMNS = 10**6, 10**4  # the bootstrap of so many rows takes minutes
N_LOOKED_AT = 100  # rows that decide which columns contain numbers


def read_columns(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """Read the named columns of a CSV as text, and those of the optional ones that it has.

    Raises:
        InputError: as correlate_table.
    """
    wanted = list(dict.fromkeys(names))
    try:
        with open_csv(path, MAX_BYTES, wanted) as table:
            return _read_table(table, path, wanted, optional)
    except FileNotFoundError:
        raise InputError(f"no table at {path}; give a CSV file with a header") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a CSV table: {error}; save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV table: {error}") from None


def _read_table(table: OpenTable, path: Path, names: list[str], optional: Sequence[str]) -> dict[str, list[str]]:
    reader = csv.reader(table.lines, delimiter=table.separator, strict=True)
    header = [name.strip() for name in next(reader, [])]
    _check_header(path, header, names, reader)
    names += [name for name in optional if header.count(name) == 1 and name not in names]
    places = [header.index(name) for name in names]
    rows: list[list[str]] = []
    for row in reader:
        if len(rows) == MAX_ROWS:
            raise InputError(f"{path} has more than {MAX_ROWS:,} rows: average repeats, or draw some of them")
        if not row or (len(row) == 1 < len(header) and not row[0].strip()):
            continue  # a blank line
        if len(row) != len(header):
            raise InputError(
                f"{path}, line {table.n_blank + reader.line_num}: {len(row)} fields under a header of {len(header)}; "
                "was it cut?"
            )
        rows.append([row[place].strip() for place in places])
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _check_header(path: Path, header: list[str], names: list[str], rows: Iterator[list[str]]) -> None:
    """Refuse a header that is empty, too long, or lacks one of the names or has it twice."""
    if not header:
        raise InputError(f"{path} is not a CSV table: it is empty, where a header should be")
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{path} has {len(header):,} columns, and at most {MAX_COLUMNS:,} are read: drop some")
    for name in names:
        if name not in header:
            raise InputError(f"{path} has no column {name!r:.80}{_list_columns(name, header, rows)}")
        n_columns = header.count(name)
        if n_columns > 1:
            raise InputError(f"{path} has {n_columns} columns {name!r:.80}; give each its own name")


def _list_columns(name: str, header: list[str], rows: Iterator[list[str]]) -> str:
    """Say which columns a table has in place of a missing one, with those of numbers first."""
    first = [row for row in itertools.islice(rows, N_LOOKED_AT) if len(row) == len(header)]
    numeric = [title for i, title in enumerate(header) if first and all(_is_number(row[i].strip()) for row in first)]
    others = [title for title in header if title not in numeric]
    near = difflib.get_close_matches(name, header, n=1)
    text = f"; did you mean {near[0]!r:.80}?" if near else ""
    text += f"; columns of numbers: {', '.join(numeric) or 'none':.300}"
    return text + (f"; others: {', '.join(others):.300}" if others else "")


def _is_number(text: str) -> bool:
    try:
        return text.lower() in MISSING or math.isfinite(float(text))
    except ValueError:
        return False
