"""The metrics of a task: what a training is measured by, and which one a search improves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search_spaces.errors import InputError


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that every finished training of a task has.

    Args:
        name: its name in records, tables and the report.
        maximize: whether more of it is better.
    """

    name: str
    maximize: bool = False


Metrics = tuple[Metric, ...]  # of a task: the first one is the primary outcome
ACCURACY = Metric("validation_accuracy", maximize=True)  # share of the validation images that are classified right
LOSS = Metric("validation_loss")  # mean cross-entropy on the validation images, in nats
IMAGE_METRICS: Metrics = (ACCURACY, LOSS)  # also those of older runs, which do not name any


# Other columns of a run's table: a metric of such a name could not be told from them.
RESERVED = frozenset(
    {"number", "state", "key", "template", "strategy", "regime", "cell", "matched", "seed", "budget", "layers",
     "connections", "mean_bd", "max_bd", "span", "from_output_mean", "to_input_mean", "max_in_degree", "max_out_degree",
     "random_walk_depth", "out_degree_sd", "mean_inverse_bd", "walk_length", "visit_evenness", "ntk_trace", "nn_mass",
     "params", "flops", "epoch", "epochs", "seconds", "error", "sources", "growth", "global_mean_bd", "n_seeds",
     "all_seeds"}
)  # fmt: skip


def image_metrics(accuracy: float | None, loss: float | None) -> dict[str, float]:
    """Return the metrics of a training on images; none where it failed.

    >>> image_metrics(0.5, 1.25), image_metrics(None, None)
    ({'validation_accuracy': 0.5, 'validation_loss': 1.25}, {})
    """
    if accuracy is None or loss is None:
        return {}
    return {ACCURACY.name: accuracy, LOSS.name: loss}


def shorten(name: str) -> str:
    """Return a metric's name in short, as it may be given and as lines of a terminal have it.

    >>> shorten("validation_loss"), shorten("bits")
    ('loss', 'bits')
    """
    return name.removeprefix("validation_")


def find_problem(values: Mapping[str, float], metrics: Sequence[Metric]) -> str | None:
    """Return why a training with these values has no outcome, or None.

    >>> find_problem({"loss": 0.5}, [Metric("loss"), Metric("bits")])
    'it gave no bits'
    >>> find_problem({"loss": math.nan}, [Metric("loss")])
    'loss is nan, which is not finite'
    """
    for metric in metrics:
        if metric.name not in values:
            return f"it gave no {metric.name}"
    for name, value in values.items():
        if not math.isfinite(value):
            return f"{name} is {value}, which is not finite"
    return None


def check_metrics(metrics: Sequence[Metric]) -> None:
    """Check that a run's table can have columns of these names.

    Raises:
        InputError: it cannot, or there are no metrics.
    """
    names = [metric.name for metric in metrics]
    if not names or len(set(names)) < len(names):
        raise InputError(f"a task has the metrics {', '.join(names) or 'none'}: name at least one, and each once")
    for name in names:
        if name in RESERVED:
            raise InputError(f"a metric is called {name}, which is another column of every run's table: rename it")


def find_objective(name: str | None, metrics: Metrics) -> Metric:
    """Return the metric that a search improves, by its name, of which `validation_` may be left out.

    Args:
        name: the name; None: the first metric, for images the loss.

    >>> find_objective("loss", IMAGE_METRICS).name, find_objective(None, (Metric("f1", True),)).name
    ('validation_loss', 'f1')

    Raises:
        InputError: the task has no such metric.
    """
    if name is None:
        return LOSS if metrics == IMAGE_METRICS else metrics[0]
    for metric in metrics:
        if name in (metric.name, shorten(metric.name)):
            return metric
    known = ", ".join(metric.name for metric in metrics)
    raise InputError(f"objective {name!r} is no metric of this task, which has {known}: give one of them")


def write_metrics(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Return metrics as a study's attribute stores them."""
    return [asdict(metric) for metric in metrics]


def read_metrics(stored: object) -> Metrics:
    """Return the metrics that a study's attribute stores: those of images where it is None.

    >>> read_metrics(None) == IMAGE_METRICS, read_metrics(write_metrics([Metric("loss")]))
    (True, (Metric(name='loss', maximize=False),))

    Raises:
        InputError: it is no list of metrics.
    """
    if stored is None:
        return IMAGE_METRICS
    try:
        assert isinstance(stored, list)
        metrics = tuple(Metric(str(values["name"]), bool(values["maximize"])) for values in stored)
        assert metrics and len({metric.name for metric in metrics}) == len(metrics)
    except (AssertionError, TypeError, LookupError):
        raise InputError(f"the study's metrics are {stored!r:.100}, and not a list of names and directions") from None
    return metrics


Counts = Sequence[Sequence[int]]  # number of pixels by true class (row) and answered class (column), without void


def list_ious(confusion: Counts) -> list[float | None]:
    """Return the intersection over union of each class; None of a class that no pixel has.

    Union is of the pixels that have a class (arXiv:1611.09326, equation 2).

    >>> list_ious([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    [0.75, 0.6666666666666666, None]
    """
    answered = [sum(column) for column in zip(*confusion, strict=True)]
    return [
        row[label] / (sum(row) + answered[label] - row[label]) if sum(row) else None
        for label, row in enumerate(confusion)
    ]


def mean_iou(confusion: Counts) -> float:
    """Return the mean intersection over union of the classes that some pixel has.

    >>> mean_iou([[3, 1, 0], [0, 3, 0], [0, 0, 0]])
    0.75
    """
    present = [iou for iou in list_ious(confusion) if iou is not None]
    return sum(present) / len(present)


def global_accuracy(confusion: Counts) -> float:
    """Return the share of the pixels that are answered right.

    >>> global_accuracy([[3, 1], [0, 4]])
    0.875
    """
    return sum(row[label] for label, row in enumerate(confusion)) / sum(map(sum, confusion))
