"""What the scripts share: places, tables, medians with their ranges, growth exponents."""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MIB = 2**20


def format_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Return rows as CSV with a header of their columns, which must be given if there may be no rows."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns or list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def format_row(*cells: object) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def format_range(values: Iterable[float], digits: int = 1) -> str:
    """Return median, least and largest value.

    >>> format_range([3, 1, 2])
    '2.0 (1.0 to 3.0)'
    """
    ordered = sorted(values)
    return f"{statistics.median(ordered):.{digits}f} ({ordered[0]:.{digits}f} to {ordered[-1]:.{digits}f})"


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the logarithm of values on that of sizes: 1 is linear growth.

    >>> round(fit_exponent([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
