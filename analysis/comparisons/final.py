"""What a report says of the test images, on which a few chosen patterns are measured once."""

from collections.abc import Iterator

from analysis.comparisons.accuracy import Final, FinalAccuracy
from analysis.page.document import Block, Heading, Paragraph, Table
from analysis.page.wording import NONE, capitalise, count_nouns, format_interval, format_signed
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
        kind="notice",
    )
    if final.learning is not None and not final.learning.is_better:
        yield Paragraph(f"Not learned: {explain_unlearned(final.learning, 'test images')}.", kind="notice")
    has_strata = len({(row.budget, row.layers, row.regime) for row in final.rows}) > 1
    header = ("pattern", *(("stratum",) if has_strata else ()), "seeds", "test accuracy (%)", "95 % interval")
    header += ("less the best template (points)", "95 % interval", "in the search (%)")
    yield Table(header, tuple(_row(row, has_strata) for row in final.rows))
    error = None
    if final.n_test:
        error = 100 * share_error(sum(row.test_accuracy for row in final.rows) / len(final.rows), final.n_test)
    guessing = None if final.learning is None else describe_guessing(final.learning.guessing, "test images")
    yield Paragraph(
        "Each was trained again with seeds that the search did not have, on training and validation images together. "
        "Intervals are over seeds, by Student's t; differences are paired by seed, to the named template that was best "
        "in the search. The search's own accuracy is on fewer training images, and that of a pattern that was picked "
        "by it is too high."
        + (f" Another draw of test images would move an accuracy by about {error:.1f} points." if error else "")
        + (f" {capitalise(guessing)}." if guessing else "")
    )


def _row(row: FinalAccuracy, has_strata: bool) -> tuple[str, ...]:
    stratum = (f"{row.layers} layers, {row.regime or row.budget}",) if has_strata else ()
    low, high = (None if bound is None else 100 * bound for bound in (row.low, row.high))
    below, above = (None if end is None else 100 * end for end in (row.difference_low, row.difference_high))
    return (
        f"{row.template} ({row.key[:12]})" if row.template else f"{row.strategy} ({row.key[:12]})",
        *stratum,
        str(row.n_seeds),
        f"{100 * row.test_accuracy:.2f}",
        NONE if low is None else f"{low:.2f} to {high:.2f}",
        NONE if row.difference is None else format_signed(100 * row.difference),
        format_interval(below, above),
        NONE if row.validation_accuracy is None else f"{100 * row.validation_accuracy:.2f}",
    )
