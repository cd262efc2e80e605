"""What a report says of exits: how right each is, and what leaving early saves."""

from collections.abc import Iterator, Sequence

from analysis.exits.anytime import Anytime, Exits, Spot
from analysis.page.captions import make_picture, name_file
from analysis.page.document import Block, Fold, Heading, Paragraph, Table
from analysis.page.wording import NONE, count_nouns, format_count, format_estimate, share_digits


def build_exits(exits: Exits, caption: str, part: str = "") -> Iterator[Block]:
    """Show the exits of one stratum's networks.

    Args:
        caption: line at the foot of the figure, about `exits.shown`.
        part: the stratum's name; empty where the report has only one.
    """
    from analysis.exits.plot import plot_anytime  # matplotlib: half a second

    yield Heading(3 if part else 2, "Accuracy by exit")
    yield Paragraph(answer_exits(exits.patterns[0]), "finding")
    yield make_picture(
        plot_anytime(exits.patterns, caption),
        name_file("exits", part),
        "Mean validation accuracy over seeds with 95 % intervals against the multiply-adds of an image. Solid: every "
        "image leaves at the same exit. Dashed: an image leaves at the first exit that is confident enough of it. "
        "Point at a mark for its numbers.",
        "Line plot with intervals",
    )
    yield _tabulate_shown(exits.patterns)
    about = (
        "An exit's multiply-adds are those of all exits up to it and of every layer that these need. The outcomes of "
        "all other sections are the last exit's.",
        "Leaving early: each exit has a threshold, and an image leaves where its most probable class is as probable as "
        "that. The thresholds are set on one half of the validation images so that the share that leaves changes by "
        "one ratio from exit to exit, and are measured on the other half; a point of the dashed line has one ratio. "
        "Where the whole validation set says which exit or ratio to take, that choice is not in these intervals.",
    )
    yield Fold("Every exit in numbers", (_tabulate_exits(exits.patterns), *map(Paragraph, about)))


def answer_exits(best: Anytime) -> str:
    """Say in two sentences what the best pattern's exits give."""
    first, last, equal = best.exits[0], best.exits[-1], best.equal_shares
    digits = share_digits([_scale(spot)[1:] for spot in (first, last, equal) if spot is not None], 1)
    answer = (
        f"The last of {count_nouns(len(best.exits), 'exit')} of {best.name}, the best pattern, is right on "
        f"{_percent(last, digits)} % of the validation images ({count_nouns(best.n_seeds, 'seed')}), the first on "
        f"{_percent(first, digits)} % with {_share(first, last)} % of the multiply-adds."
    )
    if equal is None:
        return answer
    return (
        f"{answer} Where as many images leave at each exit, the confident ones first, {_percent(equal, digits)} % are "
        f"right with {_share(equal, last)} % of the multiply-adds."
    )


def _share(spot: Spot, last: Spot) -> str:
    return f"{100 * spot.macs / last.macs:.0f}"


def _percent(spot: Spot, digits: int | None = None) -> str:
    return format_estimate(*_scale(spot), digits)


def _scale(spot: Spot) -> tuple[float, float | None, float | None]:
    return (
        100 * spot.accuracy,
        None if spot.low is None else 100 * spot.low,
        None if spot.high is None else 100 * spot.high,
    )


def _tabulate_shown(patterns: Sequence[Anytime]) -> Table:
    header = (
        "pattern", "first exit (%) [95 %]", "last exit (%) [95 %]", "equal shares leave (%) [95 %]",
        "their multiply-adds (% of the last exit's)", "seeds",
    )  # fmt: skip
    ends = [(pattern.exits[0], pattern.exits[-1], pattern.equal_shares) for pattern in patterns]
    digits = share_digits([_scale(spot)[1:] for spots in ends for spot in spots if spot is not None], 1)
    rows = [
        (
            pattern.name + (" (best)" if pattern is patterns[0] else ""),
            *(NONE if spot is None else _percent(spot, digits) for spot in (first, last, equal)),
            NONE if equal is None else _share(equal, last),
            str(pattern.n_seeds),
        )
        for pattern, (first, last, equal) in zip(patterns, ends, strict=True)
    ]
    return Table(header, tuple(rows))


def _tabulate_exits(patterns: Sequence[Anytime]) -> Table:
    digits = share_digits([_scale(spot)[1:] for pattern in patterns for spot in pattern.exits], 1)
    rows = [
        (
            pattern.name,
            str(number),
            format_count(round(spot.macs)),
            _percent(spot, digits),
            NONE if spot.loss is None else f"{spot.loss:.3f}",
        )
        for pattern in patterns
        for number, spot in enumerate(pattern.exits, start=1)
    ]
    return Table(("pattern", "exit", "multiply-adds", "accuracy (%) [95 %]", "mean loss (nats)"), tuple(rows))
