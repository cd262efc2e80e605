"""What a report says of a segmentation: which classes of pixels are found, and pictures to see it by."""

from collections.abc import Iterator

from analysis.page.captions import name_file
from analysis.page.document import Block, Heading, Paragraph, Picture, Table
from analysis.page.wording import NONE, count_nouns, format_estimate, share_digits
from analysis.segmentation.answers import Answers, Overlap, Segmentation
from analysis.segmentation.pictures import CLASS_COLOURS, draw_answers


def build_segmentation(
    segmentation: Segmentation, caption: str, part: str = "", *, has_pictures: bool = True
) -> Iterator[Block]:
    """Show what the networks of one stratum answered.

    Args:
        caption: line at the foot of the figure, about `segmentation.shown`.
        part: the stratum's name; empty where the report has only one.
        has_pictures: whether images are shown; a page of several strata would be heavy.
    """
    yield Heading(3 if part else 2, "Which pixels are found")
    yield Paragraph(answer_segmentation(segmentation), "finding")
    if has_pictures:
        yield _draw(segmentation, caption, name_file("answers", part))
    yield _tabulate(segmentation)
    yield Paragraph(
        "Intersection over union of a class: of the validation pixels that are of it or were answered with it, the "
        "share that both are; void pixels are left out. mIoU is its mean over the classes that occur, from one count "
        "over all validation images. Intervals are over seeds; without one, there is a single seed, or all are equal.",
        kind="note",
    )


def answer_segmentation(segmentation: Segmentation) -> str:
    """Say how good the best pattern is next to guessing, and which classes it finds best and worst."""
    best = segmentation.patterns[0]
    known = [(iou.value, name) for iou, name in zip(best.ious, segmentation.classes, strict=True) if iou is not None]
    (high, most), (low, least) = max(known), min(known)
    name = best.name.removesuffix(" (best)")
    largest, guessed = max(zip(segmentation.shares, segmentation.classes, strict=True))
    return (
        f"The best pattern, {name}, has an mIoU of {_format(best.miou)} over {count_nouns(best.n_seeds, 'seed')}; "
        f"always answering {guessed} would have {largest / len(known):.3f}. Of {len(known)} classes it finds {most} "
        f"best (intersection over union {high:.2f}) and {least} worst ({low:.2f})."
    )


def _draw(segmentation: Segmentation, caption: str, file: str) -> Picture:
    seeds = sorted({answers.seed for answers in segmentation.patterns})
    which = f"seed {seeds[0]}" if len(seeds) == 1 else "each pattern's first seed"
    n_classes = len(segmentation.classes)
    repeated = f" Colours repeat after {len(CLASS_COLOURS)} classes." if n_classes > len(CLASS_COLOURS) + 1 else ""
    description = (
        f"Validation images of {segmentation.data}, the class of each pixel, and what the networks of {which} "
        f"answered. Grey pixels of the truth are void: an answer there counts nowhere.{repeated}"
    )
    return Picture(file, draw_answers(segmentation, caption), description, "Images and masks")


def _tabulate(segmentation: Segmentation) -> Table:
    header = ("class", "share of pixels", *(_head(answers) for answers in segmentation.patterns))
    rows = [("mIoU", NONE, *(_format(answers.miou) for answers in segmentation.patterns))]
    columns = [_format_column(answers) for answers in segmentation.patterns]
    for place, (name, share) in enumerate(zip(segmentation.classes, segmentation.shares, strict=True)):
        rows.append((name, f"{100 * share:.1f} %", *(column[place] for column in columns)))
    return Table(header, tuple(rows))


def _head(answers: Answers) -> str:
    return f"{answers.name}, {count_nouns(answers.n_seeds, 'seed')}"


def _format(estimate: Overlap) -> str:
    return format_estimate(*estimate)


def _format_column(answers: Answers) -> list[str]:
    known = [iou for iou in answers.ious if iou is not None]
    digits = share_digits([(iou.low, iou.high) for iou in known], digits=2)
    return [NONE if iou is None else format_estimate(*iou, digits) for iou in answers.ious]
