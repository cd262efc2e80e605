"""Rank correlations of the columns of any table with one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.correlate.columns import read_columns
from analysis.correlate.exact import average_exactly, explain_exactly, order_exactly, parse_numbers, scale_exactly
from analysis.data.protocol import ALPHA, CONFIDENCE
from analysis.page.wording import format_interval, format_p
from analysis.stats.grouped import LOST, compare_groups, correlate_spearman, pooled_kendall, varies_inside
from analysis.stats.reliability import measure_mean_reliability
from analysis.stats.resampling import Groups, number_groups
from search_spaces.errors import InputError
from search_spaces.seeds import derive_generator

LEAST_PATTERNS = 3
SAME = Fraction(1, 10**9)  # share by which a measure may differ between a pattern's repeats: rounding
MAX_NAMED = 5  # groups
STRATA = ("budget", "layers", "regime", "dataset", "network", "task", "stratum")  # columns that split a table

Values = list[Fraction]
Key = tuple[tuple[str, ...], str]  # of a pattern: its group and its name


@dataclass(frozen=True, slots=True)
class _Rows:
    """The columns that were asked for, row by row; a row is its own pattern where no column names patterns."""

    path: Path
    outcome: str
    numbers: dict[str, list[Fraction | None]]  # by column; None where one is missing
    keys: list[Key]
    is_grouped: bool
    is_repeated: bool  # a column names patterns
    strata: list[str]  # unused columns of STRATA that split the table, or its groups


@dataclass(frozen=True, slots=True)
class _Sample:
    """The rows that one measure can use: x and y by pattern, y the mean over its repeats, and each row's outcome."""

    measure: str
    outcome: str
    x: Values
    y: Values
    groups: Groups  # (patterns,): each pattern's group by number
    names: list[str]  # of the groups
    outcomes: Values
    repeats: Groups  # (rows,): each row's pattern by number

    def find_varying(self) -> dict[str, NDArray[np.bool_]]:
        """Return by column the patterns in whose group it takes more than one value, shape (patterns,)."""
        columns = {self.measure: self.x, self.outcome: self.y}
        return {name: varies_inside(order_exactly(values), self.groups) for name, values in columns.items()}


def correlate_table(
    path: Path,
    measures: Sequence[str],
    outcome: str,
    group: str | None = None,
    pattern: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Correlate measures with an outcome by rank, from any CSV with a header.

    A measure leaves out the rows that lack one of its values: an empty field, or NA, NaN, null or none among numbers.
    Numbers are ranked as they are written, without rounding.

    Args:
        measures, outcome: columns of numbers.
        group: a column, or several separated by commas. Everything is computed inside its groups and pooled over them:
            ranks, resamples, permutations, R2 and ceiling. A group in which measure or outcome is constant adds
            nothing.
        pattern: column that names repeats of one pattern: their outcomes are averaged, and their spread gives the
            ceiling.
        seed: seed of bootstrap and permutations.

    Returns:
        For each measure: measure, n (rows used), patterns (distinct ones used), spearman, spearman_low, spearman_high
        (95 % bootstrap interval over patterns), kendall (tau-b), quadratic_r2, p_permutation (two-sided, of Spearman),
        ceiling (sqrt of the reliability of a pattern's mean): finite, or None where not defined; groups (number of
        those that add something, None without a group column), strata (unused columns of STRATA that split the table
        or its groups), by_group (for each group: group, patterns, spearman, ceiling; None without a group column), and
        note (why a number is undefined or rows are left out, that groups differ, or that p and interval disagree; or
        None). See pooled_spearman, pooled_kendall, explain_exactly and measure_mean_reliability for the pooling.

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
    rows = _read_rows(path, [*measures, outcome], group_names, pattern)
    described = []
    for measure in dict.fromkeys(measures):
        sample = _choose_rows(rows, measure)
        numbers = _describe(sample, rows, derive_generator(seed, "table", measure, outcome))
        by_group = _describe_groups(sample, rows) if rows.is_grouped else None
        further = {"strata": rows.strata, "by_group": by_group, "note": _explain(sample, numbers)}
        described.append({"measure": measure} | numbers | further)
    return described


def _read_rows(path: Path, numeric: list[str], group_names: list[str], pattern: str | None) -> _Rows:
    """Read columns of numbers, the last of which is the outcome, and those that name groups and patterns."""
    names = [*numeric, *group_names, *([] if pattern is None else [pattern])]
    columns = read_columns(path, names, STRATA)
    numbers = {name: parse_numbers(columns[name], f"{path}: column {name}") for name in dict.fromkeys(numeric)}
    n_rows = len(columns[numeric[-1]])
    groups = list(zip(*(columns[name] for name in group_names), strict=True)) if group_names else [()] * n_rows
    patterns = list(map(str, range(n_rows))) if pattern is None else columns[pattern]
    n_groups = len(set(groups))
    unused = [name for name in STRATA if name in columns and name not in names]
    return _Rows(
        path=path,
        outcome=numeric[-1],
        numbers=numbers,
        keys=list(zip(groups, patterns, strict=True)),
        is_grouped=bool(group_names),
        is_repeated=pattern is not None,
        strata=[name for name in unused if len(set(zip(groups, columns[name], strict=True))) > n_groups],
    )


def _choose_rows(rows: _Rows, measure: str) -> _Sample:
    """Choose the rows that lack nothing, and average each pattern's outcomes."""
    pairs = list(zip(rows.numbers[measure], rows.numbers[rows.outcome], strict=True))
    is_named = [all(group) and pattern != "" for group, pattern in rows.keys]
    chosen = [i for i, pair in enumerate(pairs) if None not in pair and is_named[i]]
    keys = [rows.keys[i] for i in chosen]  # a pattern that was measured in two groups counts in each
    repeats = number_groups(keys)
    firsts = np.unique(repeats, return_index=True)[1]
    if len(firsts) < LEAST_PATTERNS:
        raise InputError(
            f"{rows.path}: {len(firsts)} usable patterns of {len(pairs)} rows for {measure} and {rows.outcome}, "
            f"{len(pairs) - len(chosen)} rows lacking a value; at least {LEAST_PATTERNS} are needed"
        )
    xs, ys = ([number for i in chosen if (number := pairs[i][column]) is not None] for column in (0, 1))
    _check_fixed(xs, firsts[repeats].tolist(), keys, f"{rows.path}: {measure}")
    return _Sample(
        measure=measure,
        outcome=rows.outcome,
        x=[xs[i] for i in firsts],
        y=average_exactly(ys, repeats) if rows.is_repeated else ys,
        groups=number_groups(group for group, _ in keys)[firsts],
        names=[", ".join(group) for group in dict.fromkeys(group for group, _ in keys)],
        outcomes=ys,
        repeats=repeats,
    )


def _check_fixed(values: Values, firsts: list[int], keys: Sequence[Key], what: str) -> None:
    """Refuse a column that varies inside a pattern; `firsts` is each row's first row of the same pattern."""
    for value, (group, pattern), first in zip(values, keys, firsts, strict=True):
        own = values[first]
        if value != own and abs(value - own) > max(abs(value), abs(own)) * SAME:
            name = repr(pattern) + (f" of {', '.join(group)!r}" if group else "")
            raise InputError(
                f"{what} varies inside pattern {name:.80}, which should have one value; is it the right column?"
            )


def _describe(sample: _Sample, rows: _Rows, generator: np.random.Generator) -> dict[str, Any]:
    """Compute the numbers of one measure, as correlate_table names them."""
    x, y, groups = order_exactly(sample.x), order_exactly(sample.y), sample.groups
    is_used = np.logical_and(*sample.find_varying().values())
    estimate = correlate_spearman(x, y, groups, groups, generator)
    used_x, used_y = ([column[i] for i in np.flatnonzero(is_used)] for column in (sample.x, sample.y))
    return {
        "n": len(sample.outcomes),
        "patterns": len(sample.x),
        "spearman": estimate.value,
        "spearman_low": estimate.low,
        "spearman_high": estimate.high,
        "kendall": pooled_kendall(x, y, groups),
        "quadratic_r2": explain_exactly(used_x, used_y, groups[is_used]),
        "p_permutation": estimate.p_value,
        "ceiling": _measure_ceiling(sample, is_used) if rows.is_repeated else None,
        "groups": len(np.unique(groups[is_used])) if rows.is_grouped else None,
    }


def _describe_groups(sample: _Sample, rows: _Rows) -> list[dict[str, Any]]:
    """Return the correlation and the ceiling of each group by itself."""
    estimates = compare_groups(order_exactly(sample.x), order_exactly(sample.y), sample.groups)
    values = dict(zip(estimates.groups.tolist(), estimates.values.tolist(), strict=True))
    return [
        {
            "group": name,
            "patterns": int((sample.groups == number).sum()),
            "spearman": values.get(number),
            "ceiling": _measure_ceiling(sample, sample.groups == number) if rows.is_repeated else None,
        }
        for number, name in enumerate(sample.names)
    ]


def _measure_ceiling(sample: _Sample, is_used: NDArray[np.bool_]) -> float | None:
    """Return the largest correlation that the repeats' noise leaves on average."""
    if not is_used.any():
        return None
    values, used = scale_exactly(sample.outcomes), is_used[sample.repeats]
    repeats, groups = sample.repeats[used], sample.groups[sample.repeats][used]
    reliability = measure_mean_reliability(values[used], repeats, groups)
    return None if reliability is None else max(reliability, 0.0) ** 0.5


def _explain(sample: _Sample, numbers: dict[str, Any]) -> str | None:
    """Say what is constant, in which groups, or what is wrong with the interval; None where all is well."""
    columns = {sample.measure: sample.x, sample.outcome: sample.y}
    constant = [name for name, values in columns.items() if len(set(values)) == 1]
    if constant:
        verb = "are" if len(constant) > 1 else "is"
        return f"{' and '.join(constant)} {verb} constant, so no correlation is defined"
    notes = []
    varying = sample.find_varying()
    left_out = np.setdiff1d(sample.groups, sample.groups[np.logical_and(*varying.values())]).tolist()
    if left_out:
        names = " or ".join(name for name, is_varying in varying.items() if not is_varying.all())
        shown = "; ".join(sample.names[group] for group in left_out[:MAX_NAMED])
        more = " and others" if len(left_out) > MAX_NAMED else ""
        share = f"{len(left_out)} of {len(sample.names)} groups"
        notes.append(f"{names} is constant in {share}, which add nothing: {shown:.200}{more}")
    each = compare_groups(order_exactly(sample.x), order_exactly(sample.y), sample.groups)
    if each.q_p_value is not None and each.q_p_value <= ALPHA:
        notes.append(
            f"groups differ: rho of {sample.measure} is {format_interval(*np.quantile(each.values, (0, 1)))} by group, "
            f"Q test p {format_p(each.q_p_value)}, so that one number for all says little"
        )
    low, high, p_value = numbers["spearman_low"], numbers["spearman_high"], numbers["p_permutation"]
    if numbers["spearman"] is None and not left_out:
        notes.append(f"a group of {LOST} rows or fewer adds nothing, and there is no larger one")
    if numbers["spearman"] is not None and low is None:
        notes.append("no interval is defined: in groups so small, a resample has one pattern of each")
    if low is not None and (low <= 0 <= high) != (p_value > 1 - CONFIDENCE):
        notes.append(
            f"p of {sample.measure} is {format_p(p_value)} and yet its interval "
            f"{'contains' if low <= 0 <= high else 'excludes'} 0: p decides, for intervals by resampling are rough"
        )
    return "; ".join(notes) or None
