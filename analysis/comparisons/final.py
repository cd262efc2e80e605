"""What a report says of the test images, on which a few chosen patterns are measured once."""

from collections.abc import Iterator, Sequence

from analysis.charts.drawing import HEAD_WIDTH
from analysis.charts.intervals import Level, draw_levels
from analysis.comparisons.accuracy import Final, FinalAccuracy
from analysis.page.document import Block, Fold, Heading, Paragraph, Picture, Table
from analysis.page.wording import NONE, capitalise, count_nouns, format_difference, format_estimate, share_digits
from analysis.stats.guessing import describe_guessing, explain_unlearned
from analysis.stats.intervals import share_error


def build_final(final: Final) -> Iterator[Block]:
    """Say when the test images were looked at, and what they showed."""
    yield Heading(2, "Test accuracy")
    when = f" first on {final.at}" if final.at else ""
    sizes = "" if final.n_train is None else f" Trained on {final.n_train:,} images, measured on {final.n_test:,}"
    *others, longest = final.epochs or (0,)
    epochs = f", {' or '.join([*map(str, others), count_nouns(longest, 'epoch')])}." if final.epochs else "."
    yield Paragraph(
        f"The test images of this run were looked at{when}, by the patterns below and no others.{sizes}{epochs}"
        + (f" {final.n_left} of the trainings are still to come." if final.n_left else ""),
        kind="notice" if final.n_left else "note",
    )
    if final.learning is not None and not final.learning.is_better:
        yield Paragraph(f"Not learned: {explain_unlearned(final.learning, 'test images')}.", kind="notice")
    has_strata = len({(row.budget, row.layers, row.regime) for row in final.rows}) > 1
    header = ("pattern", *(("stratum",) if has_strata else ()), "test accuracy (%) [95 %]")
    header += ("less the best template (points) [95 %]", "in the search (%)", "seeds")
    yield Table(header, _list_cells(final.rows, has_strata), tuple(row.key for row in final.rows))
    error = None
    if final.n_test:
        error = 100 * share_error(sum(row.test_accuracy for row in final.rows) / len(final.rows), final.n_test)
    guessing = None if final.learning is None else describe_guessing(final.learning.guessing, "test images")
    text = (
        "Each was trained again with seeds that the search did not have, on training and validation images together. "
        "Intervals are over seeds, by Student's t; differences are paired by seed, to the named template that was best "
        "in the search. The search's own accuracy is on fewer training images, and that of a pattern that was picked "
        "by it is too high."
        + (f" Another draw of test images would move an accuracy by about {error:.1f} points." if error else "")
        + (f" {capitalise(guessing)}." if guessing else "")
    )
    yield Fold("How this was measured", (Paragraph(text),))


def draw_final(final: Final) -> Picture:
    """Draw the patterns' accuracies on the test images."""
    has_strata = len({(row.budget, row.layers, row.regime) for row in final.rows}) > 1
    levels = [
        Level(
            label=(row.template or row.key[:12]) + (" (the pick)" if row is final.rows[0] and not has_strata else ""),
            value=row.test_accuracy,
            low=row.low,
            high=row.high,
            note=f"{row.layers} layers, {row.regime or row.budget}" if has_strata else count_nouns(row.n_seeds, "seed"),
            key=row.key,
        )
        for row in final.rows
    ]
    return draw_levels(levels, "test accuracy", lower_is_better=False, width=HEAD_WIDTH).show(
        "first.svg", "Accuracy on the test images, with 95 % intervals over seeds.", "Interval plot"
    )


def _list_cells(rows: Sequence[FinalAccuracy], has_strata: bool) -> tuple[tuple[str, ...], ...]:
    accuracies = [_percent(row.test_accuracy, row.low, row.high)[1:] for row in rows]
    differences = [_percent(row.difference or 0.0, row.difference_low, row.difference_high)[1:] for row in rows]
    digits = share_digits(accuracies, 1), share_digits(differences, 1)
    return tuple(_row(row, has_strata, *digits) for row in rows)


def _row(row: FinalAccuracy, has_strata: bool, digits: int, difference_digits: int) -> tuple[str, ...]:
    stratum = (f"{row.layers} layers, {row.regime or row.budget}",) if has_strata else ()
    difference = NONE
    if row.difference is not None:
        difference = format_difference(
            *_percent(row.difference, row.difference_low, row.difference_high), difference_digits
        )
    return (
        row.template or row.key[:12],
        *stratum,
        format_estimate(*_percent(row.test_accuracy, row.low, row.high), digits),
        difference,
        NONE if row.validation_accuracy is None else f"{100 * row.validation_accuracy:.1f}",
        str(row.n_seeds),
    )


def _percent(value: float, low: float | None, high: float | None) -> tuple[float, float | None, float | None]:
    return 100 * value, None if low is None else 100 * low, None if high is None else 100 * high
