"""Whether networks learned anything, that is, do better than always answering the largest class."""

import math
from dataclasses import dataclass

import pandas as pd

from analysis.data.results import STRATUM, Run
from analysis.stats.intervals import SHARE, clip, share_error

ACCURACY = "validation_accuracy"
N_ERRORS = 2  # standard errors above guessing from which networks have learned something


@dataclass(frozen=True, slots=True)
class Guessing:
    """The accuracy of answers given without looking at the image.

    Args:
        classes: number of classes; None where the run does not record it.
        largest_class: share of the largest class among the measured images, which is the accuracy of always answering
            it; None where the run does not record it.
        n_images: number of images that one training is measured on; None where the run does not record it.
    """

    classes: int | None
    largest_class: float | None
    n_images: int | None

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing each class equally often."""
        return 1 / self.classes if self.classes else None

    @property
    def best(self) -> float | None:
        """The accuracy of always answering the largest class, or chance where that is not known."""
        return self.chance if self.largest_class is None else self.largest_class


UNKNOWN = Guessing(None, None, None)


@dataclass(frozen=True, slots=True)
class Learning:
    """The median accuracy of a group of networks, next to that of guessing.

    Args:
        accuracy: mean over seeds of the median over the networks of each seed.
        low: lower end of the interval.
        n_patterns: number of different patterns among the networks.
        guessing: accuracy that it is compared with.
    """

    accuracy: float
    low: float
    n_patterns: int
    guessing: Guessing

    @property
    def is_better(self) -> bool:
        """Whether the networks learned something: the interval lies above the best guessing."""
        return self.guessing.best is None or self.low > self.guessing.best

    @property
    def is_better_than_chance(self) -> bool:
        """Whether the interval lies above guessing each class equally often."""
        return self.guessing.chance is None or self.low > self.guessing.chance

    @property
    def is_below_chance(self) -> bool:
        """Whether guessing each class equally often would hardly ever do so badly on one training's images."""
        chance, n_images = self.guessing.chance, self.guessing.n_images
        return chance is not None and n_images is not None and self.accuracy < chance - _half_width(chance, n_images)


def read_guessing(run: Run) -> Guessing:
    """Return the accuracy of guessing on a run's validation images, or on a final run's test images."""
    classes, n_images = run.data.get("classes"), run.data.get("n_test", run.data.get("n_validation"))
    return Guessing(
        classes if isinstance(classes, int) and classes > 0 else None,
        run.largest_class,
        n_images if isinstance(n_images, int) and n_images > 0 else None,
    )


def measure_learning(complete: pd.DataFrame, guessing: Guessing) -> Learning | None:
    """Compare the median accuracy of a group of networks with guessing; None without any accuracy.

    The interval is N_ERRORS standard errors of a share, on one seed's images times the number of seeds. More networks
    of one seed do not narrow it, for they are measured on the same images. Few networks do not widen it either: the
    question is whether these networks learned, not whether others would.

    Args:
        complete: rows of read_run, complete candidates only.
    """
    if ACCURACY not in complete:  # of a task that is no classification of images
        return None
    by_seed = complete.dropna(subset=[ACCURACY]).groupby("seed")[ACCURACY].median()
    if by_seed.empty:
        return None
    mean = clip(float(by_seed.mean()), SHARE)
    half = 0.0
    if guessing.n_images is not None:
        half = _half_width(mean, guessing.n_images * len(by_seed))
    # The mean of shares that all equal the largest class's may come out 1e-17 above it.
    return Learning(mean, clip(mean - half - 1e-12, SHARE), int(complete["key"].nunique()), guessing)


def _half_width(share: float, n_images: int) -> float:
    """Return half the width of the interval of a share of this many images."""
    return N_ERRORS * share_error(share, n_images)


def list_unlearned(run: Run, images: str = "validation images") -> list[str]:
    """Return one sentence, without its full stop, for each stratum whose networks learned nothing.

    Args:
        images: name of the images that the run measures on.
    """
    complete = run.candidates[(run.candidates["state"] == "complete").fillna(False)]
    sentences = []
    for _, rows in complete.groupby(STRATUM, dropna=False, sort=False):
        learning = measure_learning(rows, read_guessing(run))
        if learning is not None and not learning.is_better:
            first = rows.iloc[0]
            stratum = first["budget"] if pd.isna(first["regime"]) else first["regime"]
            sentences.append(f"not learned, {first['layers']} layers, {stratum}: {explain_unlearned(learning, images)}")
    return sentences


def describe_guessing(guessing: Guessing, images: str = "validation images") -> str | None:
    """Say in a clause how accurate guessing is; None where nothing is known.

    >>> describe_guessing(Guessing(2, 0.996, 500))
    'always answering the largest class gets 99.6 % of the validation images right (chance, 1 of 2 classes: 50.0 %)'
    >>> describe_guessing(Guessing(10, None, None))
    'guessing gets 10.0 % of the validation images right (chance, 1 of 10 classes)'
    """
    if guessing.best is None:
        return None
    right = f"gets {format_share(guessing.best)} of the {images} right"
    if guessing.largest_class is None:
        return f"guessing {right} (chance, 1 of {guessing.classes} classes)"
    chance = f" (chance, 1 of {guessing.classes} classes: {format_share(guessing.chance)})" if guessing.chance else ""
    return f"always answering the largest class {right}{chance}"


def explain_unlearned(learning: Learning, images: str = "validation images") -> str:
    """Say that networks learned nothing, and how accurate guessing is; a clause without its full stop."""
    how = "below chance level" if learning.is_below_chance else "at chance level"
    if learning.is_better_than_chance:
        how = "no better than always answering the largest class"
    n_patterns = f"n={learning.n_patterns} pattern{'' if learning.n_patterns == 1 else 's'}"
    return (
        f"the networks are {how}: their median accuracy is {format_share(learning.accuracy)} ({n_patterns}), and "
        f"{describe_guessing(learning.guessing, images)}"
    )


def format_share(share: float) -> str:
    """Return a share in per cent with one decimal, or with more where it would round to 100 %.

    >>> format_share(0.996), format_share(0.99996), format_share(1.0)
    ('99.6 %', '99.996 %', '100.0 %')
    """
    return f"{100 * share:.1f} %" if share == 1 or share < 0.9995 else f"{math.floor(1e6 * share) / 1e4:g} %"
