"""What networks side by side, and a final measurement, say in one short sentence."""

from collections.abc import Sequence

from analysis.comparisons.accuracy import Final, FinalAccuracy
from analysis.comparisons.standing import REFERENCE, Standing
from analysis.page.wording import count_digits, count_nouns
from analysis.stats.guessing import Learning


def conclude_lineup(standings: Sequence[Standing], learning: Learning | None = None) -> str:
    """Say which network comes first, and whether it is told apart from the reference.

    Args:
        standings: as rank_networks orders them.
        learning: of the most accurate network.
    """
    measured = [standing for standing in standings if standing.accuracy is not None]
    if not measured:
        return "No training is complete yet."
    if learning is not None and not learning.is_better:
        return "The networks have learned nothing, so none can be called better than another."
    best = measured[0]
    if len(measured) == 1:
        return f"Only {best.name} has been trained, so there is nothing to compare it with."
    reference = next((standing for standing in measured if standing.name == REFERENCE), None)
    if reference is None:
        return (
            f"{best.name} comes first of {len(measured)} networks; without {REFERENCE}, none is compared with another."
        )
    apart = sum(standing.is_told_apart for standing in measured)
    if best is reference:
        others = count_nouns(len(measured) - 1, "other network")
        return f"{REFERENCE} comes first; it is told apart from {apart or 'none'} of {others}."
    first, low, high = f"{best.name} comes first", best.difference_low, best.difference_high
    if low is None or high is None:
        return f"{first}, but without repeats it cannot be told apart from {REFERENCE}."
    if best.is_told_apart:
        return f"{first}, {format_points(best.difference or 0.0, low, high)} points more accurate than {REFERENCE}."
    if low > 0:
        return f"{first}, but among {len(measured)} networks compared it is not told apart from {REFERENCE}."
    return f"{first}, but is not told apart from {REFERENCE}: {span_points(low, high)}."


def conclude_final(final: Final) -> str:
    """Say how the pick does on the test images, next to the best named template."""
    if final.learning is not None and not final.learning.is_better:
        return "On the test images the networks have learned nothing, so no pattern can be recommended."
    firsts = list({(row.budget, row.layers, row.regime): row for row in reversed(final.rows)}.values())[::-1]
    if len(firsts) > 1:
        return _conclude_strata(firsts)
    pick = final.rows[0]
    images = "the test images" if final.n_test is None else f"{final.n_test:,} test images"
    right = f"{100 * pick.test_accuracy:.1f} %"
    rival = find_rival(final, pick)
    if rival is None or pick.difference is None:
        return f"On {images}, {name_final(pick)}, the first choice, gets {right} right."
    low, high = pick.difference_low, pick.difference_high
    whom = f"template {rival.template}"
    if low is None or high is None:
        other = f"{100 * rival.test_accuracy:.1f} %"
        return f"On {images}, {name_final(pick)} gets {right} right, {whom} {other}: too few repeats to tell."
    if low > 0 or high < 0:
        side = "more" if low > 0 else "less"
        ends = sorted((abs(low), abs(high)))
        points = format_points(abs(pick.difference), *ends)
        return f"On {images}, {name_final(pick)} is {points} points {side} accurate than {whom}."
    return f"On {images}, {name_final(pick)} is not told apart from {whom}: {span_points(low, high)}."


def _conclude_strata(firsts: Sequence[FinalAccuracy]) -> str:
    compared = [row for row in firsts if row.difference is not None]
    better = sum(row.difference_low is not None and row.difference_low > 0 for row in compared)
    return f"On the test images, the pick is shown better than the best template in {better} of {len(firsts)} settings."


def find_rival(final: Final, row: FinalAccuracy) -> FinalAccuracy | None:
    """Return the named template that a row is compared with: the first of its stratum; None for that itself."""
    stratum = (row.budget, row.layers, row.regime)
    named = (each for each in final.rows if each.template and (each.budget, each.layers, each.regime) == stratum)
    rival = next(named, None)
    return None if rival is row else rival


def name_final(row: FinalAccuracy) -> str:
    """Return what a measured pattern is called in a sentence."""
    return f"template {row.template}" if row.template else f"pattern {row.key[:12]}"


def format_points(value: float, low: float, high: float) -> str:
    """Return a difference of accuracies in points and its interval, rounded to its noise.

    >>> format_points(0.021, 0.0104, 0.0316)
    '2.1 (1.0 to 3.2)'
    """
    digits = count_digits(100 * low, 100 * high)
    size, least, most = (f"{100 * each:.{digits}f}" for each in (value, low, high))
    return f"{size} ({least} to {most})"


def span_points(low: float, high: float) -> str:
    """Return an interval of differences of accuracies that has 0 inside, from the worst case to the best.

    >>> span_points(-0.0115, 0.0096), span_points(-0.012, 0.031)
    ('between 1.1 points worse and 1.0 better', 'between 1 point worse and 3 better')
    """
    digits = count_digits(100 * low, 100 * high)
    worse, better = (f"{100 * abs(end):.{digits}f}" for end in (low, high))
    return f"between {worse} point{'' if worse == '1' else 's'} worse and {better} better"
