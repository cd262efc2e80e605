"""any tidy CSV -> rank correlations of its columns with one of them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.correlate.columns import read_columns
from analysis.correlate.exact import average_exactly, explain_exactly, order_exactly, parse_numbers, scale_exactly
from analysis.data.protocol import CONFIDENCE
from analysis.page.wording import format_p
from analysis.stats.correlations import correlate_spearman, pooled_kendall, varies_inside
from analysis.stats.reliability import measure_mean_reliability
from analysis.stats.resampling import Groups, number_groups
from search_spaces.errors import InputError
from search_spaces.seeds import derive_generator

LEAST_PATTERNS = 3
SAME = Fraction(1, 10**9)  # share by which a measure may differ between a pattern's repeats: rounding
MAX_NAMED = 5  # groups
STRATA = ("budget", "layers", "regime", "dataset", "network", "task", "stratum")  # columns that split a table

Values = list[Fraction]


@dataclass(frozen=True, slots=True)
class _Sample:
    """The rows that one measure can use.

    Args:
        measure, outcome: names of the columns.
        x, y: a value a pattern, y the mean over its repeats, exact.
        groups: shape (patterns,); names: of the groups by number.
        repeats: every row's outcome, exact, and the pattern's number of each; None where no column tells patterns.
    """

    measure: str
    outcome: str
    n_rows: int
    x: Values
    y: Values
    groups: Groups
    names: list[str]
    repeats: tuple[Values, Groups] | None


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
    none among numbers. Numbers are ranked as they are written, without rounding.

    Args:
        measures, outcome: columns of numbers.
        group: a column, or several separated by commas. Everything is then computed inside its groups and pooled over
            them: ranks, resamples, permutations, R2 and ceiling. A group in which the measure or the outcome is
            constant adds nothing.
        pattern: a column that tells repeats of one thing: rows of a group are averaged by it, and their spread gives
            the ceiling.
        seed: of bootstrap and permutations.

    Returns:
        For each measure: measure, n (rows used), patterns (distinct ones used), spearman, spearman_low, spearman_high
        (95 % bootstrap interval over patterns), kendall (tau-b), quadratic_r2, p_permutation (two-sided, of Spearman),
        ceiling (sqrt of the reliability of a pattern's mean): finite, or None where it is not defined. Further groups
        (how many add something; None without a group column), strata (columns of STRATA that split the table, or its
        groups, and are not in `group`), and note (why something is not defined or left out, or that p and interval do
        not agree; or None). See pooled_spearman, pooled_kendall, explain_exactly and measure_mean_reliability for how
        groups are pooled.

    Raises:
        InputError: no such file, over MAX_BYTES, MAX_ROWS or MAX_COLUMNS, not a CSV, a column absent or there twice,
            text among numbers, an infinite value, the outcome among the measures, a measure that varies inside a
            pattern, fewer than 3 patterns.
    """
    if not measures:
        raise InputError("no measure is given; name one column at least")
    if outcome in measures:
        raise InputError(f"column {outcome!r:.80} is the outcome and a measure too: correlate it with another column")
    group_names = [name.strip() for name in group.split(",")] if group is not None else []
    pattern_names = [pattern] if pattern is not None else []
    columns = read_columns(path, [*measures, outcome, *group_names, *pattern_names], STRATA)
    numbers = {name: parse_numbers(columns[name], f"{path}: column {name}") for name in {*measures, outcome}}
    n_rows = len(columns[outcome])
    group_of = list(zip(*(columns[name] for name in group_names), strict=True)) if group_names else [()] * n_rows
    pattern_of = columns[pattern] if pattern is not None else None
    strata = _find_strata(columns, {*measures, outcome, *group_names, *pattern_names}, group_of)
    found = []
    for measure in dict.fromkeys(measures):
        sample = _choose_rows(str(path), measure, outcome, numbers, group_of, pattern_of)
        generator = derive_generator(seed, "table", measure, outcome)
        row = {"measure": measure} | _describe(sample, group_names, generator)
        found.append(row | {"strata": strata, "note": _explain_gaps(sample, row)})
    return found


def _find_strata(columns: dict[str, list[str]], used: set[str], group_of: Sequence[Hashable]) -> list[str]:
    """Columns of STRATA, none of them used, that take more than one value inside a group."""
    n_groups = len(set(group_of))
    others = (name for name in STRATA if name in columns and name not in used)
    return [name for name in others if len(set(zip(group_of, columns[name], strict=True))) > n_groups]


def _choose_rows(
    path: str,
    measure: str,
    outcome: str,
    numbers: dict[str, list[Fraction | None]],
    group_of: Sequence[tuple[str, ...]],
    pattern_of: list[str] | None,
) -> _Sample:
    pairs = list(zip(numbers[measure], numbers[outcome], strict=True))
    is_named = [all(group) and (pattern_of is None or pattern_of[i] != "") for i, group in enumerate(group_of)]
    rows = [i for i, (x, y) in enumerate(pairs) if x is not None and y is not None and is_named[i]]
    keys: list[Hashable] = [*rows]
    if pattern_of is not None:  # one that was measured in two groups counts in each
        keys = [(group_of[i], pattern_of[i]) for i in rows]
    repeats, groups = number_groups(keys), number_groups(group_of[i] for i in rows)
    firsts = np.unique(repeats, return_index=True)[1]
    if len(firsts) < LEAST_PATTERNS:
        raise InputError(
            f"{path}: {len(firsts)} usable patterns of {len(pairs)} rows for {measure} and {outcome}, "
            f"{len(pairs) - len(rows)} rows lacking a value; at least {LEAST_PATTERNS} are needed"
        )
    xs, ys = ([value for i in rows if (value := numbers[name][i]) is not None] for name in (measure, outcome))
    _check_fixed(xs, repeats, firsts, keys, f"{path}: {measure}")
    return _Sample(
        measure=measure,
        outcome=outcome,
        n_rows=len(rows),
        x=[xs[i] for i in firsts],
        y=average_exactly(ys, repeats) if len(firsts) < len(ys) else ys,
        groups=groups[firsts],
        names=[", ".join(group) for group in dict.fromkeys(group_of[i] for i in rows)],
        repeats=None if pattern_of is None else (ys, repeats),
    )


def _check_fixed(values: Values, repeats: Groups, firsts: NDArray[np.intp], keys: list[Hashable], what: str) -> None:
    """Refuse a column that varies inside a pattern, naming the first pattern where it does."""
    for value, key, first in zip(values, keys, firsts[repeats].tolist(), strict=True):
        own = values[first]
        if value != own and abs(value - own) > max(abs(value), abs(own)) * SAME:
            raise InputError(
                f"{what} varies inside pattern {_name(key):.80}, which should have one value; is it the right column?"
            )


def _name(key: Hashable) -> str:
    """A pattern's key as its table has it, the group before it where there are groups."""
    if not isinstance(key, tuple):
        return repr(key)
    group, name = key
    return repr(name) + (f" of {', '.join(group)!r}" if group else "")


def _describe(sample: _Sample, group_names: Sequence[str], generator: np.random.Generator) -> dict[str, Any]:
    x, y, groups = order_exactly(sample.x), order_exactly(sample.y), sample.groups
    is_used = varies_inside(x, groups) & varies_inside(y, groups)
    estimate = correlate_spearman(x, y, groups, groups, generator)
    used_x, used_y = (
        [value for value, used in zip(column, is_used, strict=True) if used] for column in (sample.x, sample.y)
    )
    return {
        "n": sample.n_rows,
        "patterns": len(sample.x),
        "spearman": estimate.value,
        "spearman_low": estimate.low,
        "spearman_high": estimate.high,
        "kendall": pooled_kendall(x, y, groups),
        "quadratic_r2": explain_exactly(used_x, used_y, groups[is_used]),
        "p_permutation": estimate.p_value,
        "ceiling": _measure_ceiling(sample, is_used),
        "groups": len(np.unique(groups[is_used])) if group_names else None,
    }


def _measure_ceiling(sample: _Sample, is_used: NDArray[np.bool_]) -> float | None:
    """The largest correlation that the repeats' noise leaves on average; None without repeats."""
    if sample.repeats is None or not is_used.any():
        return None
    values, repeats = scale_exactly(sample.repeats[0]), sample.repeats[1]
    rows = is_used[repeats]
    reliability = measure_mean_reliability(values[rows], repeats[rows], sample.groups[repeats][rows])
    return None if reliability is None else max(reliability, 0.0) ** 0.5


def _explain_gaps(sample: _Sample, row: dict[str, Any]) -> str | None:
    """Say what is constant, in which groups, or what is wrong with the interval; None where all is well."""
    columns = {sample.measure: sample.x, sample.outcome: sample.y}
    constant = [name for name, values in columns.items() if len(set(values)) == 1]
    if constant:
        verb = "are" if len(constant) > 1 else "is"
        return f"{' and '.join(constant)} {verb} constant, so no correlation is defined"
    notes = []
    varying = {name: varies_inside(order_exactly(values), sample.groups) for name, values in columns.items()}
    left_out = np.setdiff1d(sample.groups, sample.groups[np.logical_and(*varying.values())]).tolist()
    if left_out:
        names = " or ".join(name for name, is_varying in varying.items() if not is_varying.all())
        shown = "; ".join(sample.names[group] for group in left_out[:MAX_NAMED])
        more = " and others" if len(left_out) > MAX_NAMED else ""
        share = f"{len(left_out)} of {len(sample.names)} groups"
        notes.append(f"{names} is constant in {share}, which add nothing: {shown:.200}{more}")
    if row["spearman"] is not None and row["spearman_low"] is None:
        notes.append("no interval is defined: a resample of groups so small holds one pattern of each")
    low, high, p_value = row["spearman_low"], row["spearman_high"], row["p_permutation"]
    if low is not None and (low <= 0 <= high) != (p_value > 1 - CONFIDENCE):
        notes.append(
            f"p of {sample.measure} is {format_p(p_value)} and yet its interval "
            f"{'holds' if low <= 0 <= high else 'leaves out'} 0: p decides, for intervals by resampling are rough"
        )
    return "; ".join(notes) or None
