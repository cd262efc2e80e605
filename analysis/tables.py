"""any tidy CSV -> rank correlations of its columns with one of them."""

import csv
import difflib
import io
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.correlations import correlate_spearman
from analysis.reliability import measure_mean_reliability
from analysis.resampling import Groups, Vector, number_groups, pool_single
from analysis.slopes import explain
from search_spaces.errors import InputError
from search_spaces.files import open_regular
from search_spaces.sampling import derive_generator

MAX_BYTES = 100 * 10**6
MAX_ROWS, MAX_COLUMNS = 10**6, 10**4  # the bootstrap of so many rows takes minutes
LEAST_PATTERNS = 3
MISSING = {"", "na", "n/a", "nan", "null", "none"}  # as R, pandas and SQL spell it, among numbers
DIGITS = 12  # of a mean that count: 1e-17 between equal outcomes is no difference


@dataclass(frozen=True, slots=True)
class _Sample:
    """The rows that one measure can use, a pattern a row: its mean outcome, and the repeats behind it."""

    n_rows: int
    x: Vector
    y: Vector
    groups: Groups
    ceiling: float | None


def correlate_table(
    path: Path,
    measures: Sequence[str],
    outcome: str,
    group: str | None = None,
    pattern: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Spearman and Kendall correlations of measures with an outcome, from any CSV with a header.

    Rows that lack a value which a measure needs are left out for that measure: an empty field, or NA, NaN, null or
    none among numbers.

    Args:
        measures, outcome: columns of numbers.
        group: a column inside whose values bootstrap and permutations stay; the coefficient is over all rows, so
            levels of the outcome that differ between groups stay in it.
        pattern: a column that tells repeats of one thing: rows of a group are averaged by it, and their spread gives
            the ceiling.
        seed: of bootstrap and permutations.

    Returns:
        For each measure: measure, n (rows used), patterns (distinct ones used), spearman, spearman_low, spearman_high
        (95 % bootstrap interval over patterns), kendall (tau-b), quadratic_r2, p_permutation (two-sided, of Spearman),
        ceiling (sqrt of the reliability of a pattern's mean). Finite, or None where it is not defined.

    Raises:
        InputError: no such file, over MAX_BYTES, MAX_ROWS or MAX_COLUMNS, not a CSV, a header twice, a column absent,
            text among numbers, an infinite value, a measure that varies inside a pattern, fewer than 3 patterns.
    """
    names = [*measures, outcome, *(name for name in (group, pattern) if name is not None)]
    if not measures:
        raise InputError("no measure is given; name one column at least")
    columns = read_columns(path, names)
    numbers = {name: _parse_numbers(columns[name], f"{path}: column {name}") for name in {*measures, outcome}}
    labels = {name: columns[name] for name in (group, pattern) if name is not None}
    found = []
    for measure in dict.fromkeys(measures):
        sample = _choose_rows(str(path), measure, outcome, numbers, group, pattern, labels)
        found.append({"measure": measure} | _describe(sample, derive_generator(seed, "table", measure, outcome)))
    return found


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The named columns of a CSV, as text.

    Raises:
        InputError: as of correlate_table.
    """
    try:
        with open_regular(path, MAX_BYTES) as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            return _pick_columns(csv.reader(lines, strict=True), path, list(dict.fromkeys(names)))
    except FileNotFoundError:
        raise InputError(f"no table at {path}; give a CSV file with a header") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV table: {error}") from None


def _pick_columns(reader: Any, path: Path, names: list[str]) -> dict[str, list[str]]:
    header: list[str] = [name.strip() for name in next(reader, [])]
    if not header:
        raise InputError(f"{path} is not a CSV table: it is empty, where a header should be")
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{path} has {len(header):,} columns, and at most {MAX_COLUMNS:,} are read: drop some")
    for name in names:
        if name not in header:
            near = difflib.get_close_matches(name, header, n=3) or header[:10]
            raise InputError(f"{path} has no column {name!r}; it has {', '.join(near):.400}")
    ((name, n_columns),) = Counter(header).most_common(1)
    if n_columns > 1:
        raise InputError(f"{path} has {n_columns} columns {name!r:.80}; give each its own name")
    places = [header.index(name) for name in names]
    rows: list[list[str]] = []
    for row in reader:
        if len(rows) == MAX_ROWS:
            raise InputError(f"{path} has more than {MAX_ROWS:,} rows: average repeats, or draw some of them")
        if row and len(row) != len(header):
            raise InputError(
                f"{path}, line {reader.line_num}: {len(row)} fields under a header of {len(header)}; was it cut?"
            )
        if row:
            rows.append([row[place].strip() for place in places])
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _parse_numbers(texts: list[str], where: str) -> Vector:
    """Texts as numbers, nan where missing."""
    values = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        if text.lower() in MISSING:
            continue
        try:
            values[i] = float(text)
        except ValueError:
            raise InputError(f"{where} holds {text!r:.80} in data row {i + 1}; numbers alone can be ranked") from None
        if math.isinf(values[i]):
            raise InputError(f"{where} holds {text!r:.80} in data row {i + 1}; leave the field empty if it is missing")
    return values


def _choose_rows(
    path: str,
    measure: str,
    outcome: str,
    numbers: dict[str, Vector],
    group: str | None,
    pattern: str | None,
    labels: dict[str, list[str]],
) -> _Sample:
    x, y = numbers[measure], numbers[outcome]
    is_used = np.isfinite(x) & np.isfinite(y)
    for texts in labels.values():
        is_used &= np.array([text != "" for text in texts], dtype=bool)
    rows = np.flatnonzero(is_used)
    group_of = [labels[group][i] for i in rows] if group is not None else [""] * len(rows)
    keys: list[Hashable] = [*range(len(rows))]
    if pattern is not None:  # one that was measured in two groups counts in each
        keys = [(name, labels[pattern][i]) for i, name in zip(rows, group_of, strict=True)]
    repeats, groups = number_groups(keys), number_groups(group_of)
    firsts = np.unique(repeats, return_index=True)[1]
    if len(firsts) < LEAST_PATTERNS:
        raise InputError(
            f"{path}: {len(firsts)} usable patterns of {len(x)} rows for {measure} and {outcome}, "
            f"{len(x) - len(rows)} rows lacking a value; at least {LEAST_PATTERNS} are needed"
        )
    x, y = x[rows], y[rows]
    _check_fixed(x, repeats, firsts, keys, f"{path}: {measure}")
    reliability = measure_mean_reliability(y, repeats) if pattern is not None else None
    means = np.bincount(repeats, y) / np.bincount(repeats) if len(firsts) < len(y) else y
    ceiling = None if reliability is None else max(reliability, 0.0) ** 0.5
    return _Sample(len(rows), x[firsts], _round(means), groups[firsts], ceiling)


def _check_fixed(values: Vector, repeats: Groups, firsts: NDArray[np.intp], keys: list[Hashable], what: str) -> None:
    """Refuse a column that varies inside a pattern, naming the first pattern where it does."""
    own = values[firsts][repeats]
    differs = np.flatnonzero(abs(values - own) > 1e-9 * np.maximum(abs(values), abs(own)))
    if len(differs):
        raise InputError(
            f"{what} varies inside pattern {_name(keys[differs[0]]):.80}, which should have one value; is it the right "
            "column?"
        )


def _name(key: Hashable) -> str:
    """A pattern's key as its table has it, the group before it where there are groups."""
    return repr(key[1]) + (f" of {key[0]!r}" if key[0] else "") if isinstance(key, tuple) else repr(key)


def _round(values: Vector) -> Vector:
    """To DIGITS significant digits of the largest."""
    largest = float(np.abs(values).max(initial=0.0))
    return values.round(DIGITS - 1 - math.floor(math.log10(largest))) if largest > 0 else values


def _describe(sample: _Sample, generator: np.random.Generator) -> dict[str, Any]:
    from scipy.stats import kendalltau  # a second

    estimate = correlate_spearman(sample.x, sample.y, pool_single(sample.groups), sample.groups, generator)
    is_defined = estimate.value is not None
    return {
        "n": sample.n_rows,
        "patterns": len(sample.x),
        "spearman": estimate.value,
        "spearman_low": estimate.low,
        "spearman_high": estimate.high,
        "kendall": float(kendalltau(sample.x, sample.y).statistic) if is_defined else None,
        "quadratic_r2": explain(sample.x, sample.y)[1],
        "p_permutation": estimate.p_value,
        "ceiling": sample.ceiling,
    }
