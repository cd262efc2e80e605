"""Opens CSV files that may be a stranger's at their header, and finds the separator."""

import csv
import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nas.records.safe_files import open_regular

SEPARATORS = (",", ";", "\t")
MAX_BLANK = 1000  # lines before the header
BLANK = "".join(SEPARATORS) + " \r\n\v\f"  # a spreadsheet writes an empty row as its separators


@dataclass(frozen=True, slots=True)
class OpenTable:
    """An open CSV file.

    Args:
        lines: the file, from its header on.
        separator: character between the fields of a line.
        n_blank: number of blank lines before the header.
    """

    lines: io.TextIOWrapper
    separator: str
    n_blank: int


@contextmanager
def open_csv(path: Path, max_bytes: int, names: Collection[str]) -> Iterator[OpenTable]:
    """Open a CSV file, with the separator that gives its header most of these names, or else the most fields.

    Raises:
        InputError, OSError: see open_regular.
        UnicodeDecodeError: the file is not UTF-8.
    """
    with open_regular(path, max_bytes) as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        header, start, n_blank = lines.readline(), 0, 0
        while header and not header.strip(BLANK) and n_blank < MAX_BLANK:
            start, header, n_blank = lines.tell(), lines.readline(), n_blank + 1
        lines.seek(start)
        yield OpenTable(lines, _find_separator(header, names), n_blank)


def _find_separator(header: str, names: Collection[str]) -> str:
    def count(separator: str) -> tuple[int, int]:
        fields = [field.strip() for field in next(csv.reader([header], delimiter=separator), [])]
        return len(set(names) & set(fields)), len(fields)

    return max(SEPARATORS, key=count)  # of equals the first
