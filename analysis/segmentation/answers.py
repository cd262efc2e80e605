"""What the networks of a segmentation answered: intersection over union by class, and a few pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.averages import average_patterns
from analysis.data.results import STRATUM, Run
from analysis.page.wording import name_briefly
from analysis.picks.found import Found
from analysis.picks.order import sort_found
from analysis.stats.intervals import SHARE, student_interval
from nas.records.metrics import Counts, list_ious, mean_iou
from nas.records.safe_files import unpack_bytes
from search_spaces.errors import InputError

NEXT_TO_BEST = (
    "log",
    "nearest",
)  # beginnings of the names of templates, the best of which stand next to the best pattern
# Of a ledger that may be a stranger's; sums of all counts are those of numpy's whole numbers.
MAX_CLASSES, MAX_PICTURES, MAX_PIXELS, MAX_COUNTED = 255, 16, 128**2, 10**15

Pixels = NDArray[np.uint8]


class Overlap(NamedTuple):
    """A mean over seeds with its 95 % interval; without an interval for one seed."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Answers:
    """What the networks of one pattern answered.

    Args:
        name: what the pattern is called.
        key: its key.
        miou: mean intersection over union.
        ious: intersection over union of each class; None of a class that no validation pixel has.
        n_seeds: number of its trainings.
        seed: seed of the training that the pictures are of, the least.
        masks: answers for the images that are shown, (height, width) each, classes.
    """

    name: str
    key: str
    miou: Overlap
    ious: tuple[Overlap | None, ...]
    n_seeds: int
    seed: int
    masks: tuple[Pixels, ...]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The answers of a stratum's best pattern and of templates, next to the truth.

    Args:
        data: name of the data.
        classes: names of the classes.
        shares: share of each class among the validation pixels that are not void.
        images: (height, width, 1 or 3) each.
        truth: (height, width) each, classes or void.
        patterns: the best pattern first.
        shown: their rows of average_patterns.
    """

    data: str
    classes: tuple[str, ...]
    shares: tuple[float, ...]
    images: tuple[Pixels, ...]
    truth: tuple[Pixels, ...]
    patterns: tuple[Answers, ...]
    shown: pd.DataFrame


def analyse_segmentation(run: Run, candidates: pd.DataFrame, picks: Sequence[Found] = ()) -> Segmentation | None:
    """Return what the networks of one stratum answered; None where the run is of another task.

    Args:
        candidates: rows of read_run, all of one stratum.
        picks: what a search found, by which its patterns are ranked.

    Raises:
        InputError: the run's record of its pictures is not what a program of ours writes.
    """
    complete = candidates[(candidates["state"] == "complete").fillna(False)].drop_duplicates([*STRATUM, "key", "seed"])
    measured = complete[complete["number"].isin(list(run.details))].sort_values("seed")
    if not run.examples or measured.empty:
        return None
    classes, images, truth = _read_examples(run.examples)
    ranked = sort_found(average_patterns(complete), picks)
    ranked = ranked[ranked["key"].isin(set(measured["key"]))]
    shown = _choose_shown(ranked)
    patterns, counts = [], list[Counts]()
    for place, (_, row) in enumerate(shown.iterrows()):
        own = measured[measured["key"] == row["key"]]
        read = [_read_details(run.details[number], number, truth, len(classes)) for number in map(int, own["number"])]
        counts = [confusion for confusion, _ in read]
        by_training = [list_ious(confusion) for confusion in counts]
        patterns.append(
            Answers(
                name=name_briefly(row) + (" (best)" if place == 0 else ""),
                key=str(row["key"]),
                miou=_estimate([mean_iou(confusion) for confusion in counts]),
                ious=tuple(map(_estimate_class, zip(*by_training, strict=True))),
                n_seeds=len(own),
                seed=int(own["seed"].iloc[0]),
                masks=read[0][1],
            )
        )
    totals = np.array(counts[0]).sum(axis=1)
    shares = tuple((totals / totals.sum()).tolist())
    return Segmentation(str(run.examples.get("data"))[:80], classes, shares, images, truth, tuple(patterns), shown)


def _choose_shown(ranked: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the best pattern and of the best template of each kind, in the order of NEXT_TO_BEST."""
    places = [0]
    for beginning in NEXT_TO_BEST:
        named = ranked["template"].fillna("").str.startswith(beginning).to_numpy().nonzero()[0]
        places += [int(named[0])] if len(named) and named[0] not in places else []
    return ranked.iloc[places]


def summarise_segmentation(segmentation: Segmentation) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    return {
        "classes": list(segmentation.classes),
        "shares": list(segmentation.shares),
        "patterns": [
            {
                "name": answers.name,
                "key": answers.key,
                "n_seeds": answers.n_seeds,
                "miou": answers.miou._asdict(),
                "ious": [None if iou is None else iou._asdict() for iou in answers.ious],
            }
            for answers in segmentation.patterns
        ],
    }


def _estimate(values: Sequence[float]) -> Overlap:
    array = np.array(values)
    return Overlap(float(array.mean()), *student_interval(array, SHARE))


def _estimate_class(values: Sequence[float | None]) -> Overlap | None:
    present = [value for value in values if value is not None]
    return _estimate(present) if present else None


def _read_examples(examples: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Pixels, ...], tuple[Pixels, ...]]:
    """Return names of classes, images and masks."""
    classes, images, masks = (examples.get(name) for name in ("classes", "images", "masks"))
    is_named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not is_named or not isinstance(classes, list) or not 2 <= len(classes) <= MAX_CLASSES:
        raise InputError(f"the run names the classes of its pixels {classes!r:.80}, expected 2 to {MAX_CLASSES} texts")
    shown, truth = _unpack(images, 3), _unpack(masks, 1)
    if [image.shape[:2] for image in shown] != [mask.shape for mask in truth]:
        raise InputError("the run's pictures and their masks are of other shapes: it was written by another program")
    return tuple(name[:40] for name in classes), shown, truth


def _unpack(packed: object, channels: int) -> tuple[Pixels, ...]:
    if not isinstance(packed, list) or len(packed) > MAX_PICTURES:
        raise InputError(f"the run has {packed!r:.80} for pictures, expected a list of at most {MAX_PICTURES}")
    pictures = []
    for each in packed:
        content, shape = unpack_bytes(each, channels * MAX_PIXELS)
        if len(shape) != (3 if channels > 1 else 2) or (channels > 1 and shape[2] not in (1, channels)):
            raise InputError(f"a picture of the run has shape {shape}, which no program of ours writes")
        pictures.append(np.frombuffer(content, np.uint8).reshape(shape))
    return tuple(pictures)


def _read_details(
    details: Mapping[str, Any], number: int, truth: Sequence[Pixels], n_classes: int
) -> tuple[Counts, tuple[Pixels, ...]]:
    """Return the confusion matrix of a training and its answers."""
    confusion, masks = details.get("confusion"), _unpack(details.get("answers"), 1)
    is_matrix = (
        isinstance(confusion, list)
        and len(confusion) == n_classes
        and all(isinstance(row, list) and len(row) == n_classes for row in confusion)
        and all(type(count) is int and count >= 0 for row in confusion for count in row)
        and 0 < sum(map(sum, confusion)) <= MAX_COUNTED
    )
    if not is_matrix or [mask.shape for mask in masks] != [mask.shape for mask in truth]:
        raise InputError(
            f"trial {number} has no confusion matrix of {n_classes} classes and an answer for each picture: the file "
            "was edited or written by another program"
        )
    assert isinstance(confusion, list)
    return confusion, masks
