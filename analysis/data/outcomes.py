"""The columns of a table that hold outcomes: which ones there are, which way is better, and their logarithms."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nas.records.metrics import ACCURACY, IMAGE_METRICS, LOSS, Metrics, shorten
from search_spaces.surrogate.target import find_cost, is_loss

if TYPE_CHECKING:  # a command that only asks which outcomes there are need not wait for it
    import pandas as pd

_ATTRIBUTE = "outcomes"  # of a table of another task; pandas hands it on to whatever is made from the table


class OutcomeName(str):
    """The name of a column of outcomes, which knows how to read the column.

    Args:
        name: the column's name, a metric's.
        maximize: whether more is better.
        is_log: whether the column has the metric's logarithm.
    """

    maximize: bool
    is_log: bool

    def __new__(cls, name: str, maximize: bool = False, is_log: bool = False) -> Self:
        made = super().__new__(cls, name)
        made.maximize, made.is_log = maximize, is_log
        return made

    def __getnewargs__(self) -> Any:
        return str(self), self.maximize, self.is_log


# Of images the loss comes first: one seed's loss says more than its accuracy.
OUTCOMES = (OutcomeName(LOSS.name), OutcomeName(ACCURACY.name, maximize=True))


def name_outcomes(metrics: Metrics) -> tuple[OutcomeName, ...]:
    """Return the outcomes of a task in the order in which statistics take them, the primary one first."""
    if metrics == IMAGE_METRICS:
        return OUTCOMES
    return tuple(OutcomeName(metric.name, metric.maximize) for metric in metrics)


def mark_outcomes(table: "pd.DataFrame", metrics: Metrics) -> "pd.DataFrame":
    """Return a table that says which of its columns are outcomes; one of images has the usual ones, and says nothing.

    >>> import pandas as pd
    >>> from nas.records.metrics import Metric
    >>> table = mark_outcomes(pd.DataFrame({"f1": [0.5]}), (Metric("f1", maximize=True),))
    >>> list_outcomes(table[table["f1"] > 0]), list_outcomes(pd.DataFrame())
    (('f1',), ('validation_loss', 'validation_accuracy'))
    """
    if metrics != IMAGE_METRICS:
        table.attrs[_ATTRIBUTE] = name_outcomes(metrics)
    return table


def list_outcomes(table: "pd.DataFrame | pd.Series[Any]") -> tuple[OutcomeName, ...]:
    """Return the outcomes of a table, the primary one first."""
    own: tuple[OutcomeName, ...] = table.attrs.get(_ATTRIBUTE, OUTCOMES)
    return own


def list_shown(table: "pd.DataFrame | pd.Series[Any]") -> tuple[OutcomeName, ...]:
    """Return the outcomes of a table in the order in which pages show them and patterns are sorted by them."""
    return OUTCOMES[::-1] if is_of_images(table) else list_outcomes(table)


def is_of_images(table: "pd.DataFrame | pd.Series[Any]") -> bool:
    """Return whether the outcomes of a table are those of images."""
    return list_outcomes(table) == OUTCOMES


def is_lower_better(outcome: str) -> bool:
    """Return whether less of an outcome is better."""
    return not (outcome.maximize if isinstance(outcome, OutcomeName) else outcome == ACCURACY.name)


def take_logarithms(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table whose losses are logarithms, where all are above 0, for a factor counts alike everywhere.

    A table of images keeps its loss as it is.

    >>> import pandas as pd
    >>> from nas.records.metrics import Metric
    >>> table = mark_outcomes(pd.DataFrame({"loss": [1.0, 1.0], "state": "complete"}), (Metric("loss"),))
    >>> taken = take_logarithms(table)
    >>> taken["loss"].tolist(), list_outcomes(taken)[0].is_log
    ([0.0, 0.0], True)
    """
    if is_of_images(table):
        return table
    outcomes, columns = [], {}
    for outcome in list_outcomes(table):
        values = table[outcome].to_numpy(np.float64)
        is_log = is_loss(outcome) and not outcome.maximize and bool((values[~np.isnan(values)] > 0).all())
        if is_log:
            columns[str(outcome)] = np.log(values)
        outcomes.append(OutcomeName(outcome, outcome.maximize, is_log))
    table = table.assign(**columns)
    table.attrs[_ATTRIBUTE] = tuple(outcomes)
    return table


class Objective(str):
    """What a search improves, by its name in sentences: `loss` and `accuracy` of images, otherwise the metric's own.

    Args:
        outcome: the column of the metric.
    """

    outcome: OutcomeName

    def __new__(cls, outcome: OutcomeName) -> Self:
        made = super().__new__(cls, shorten(outcome))
        made.outcome = outcome
        return made

    def __getnewargs__(self) -> Any:
        return (self.outcome,)

    @property
    def is_share(self) -> bool:
        """Whether it is a share of images."""
        return self.outcome == ACCURACY.name

    @property
    def is_loss(self) -> bool:
        """Whether its cost is its logarithm."""
        return is_loss(self.outcome) and not self.outcome.maximize

    @property
    def is_ratio(self) -> bool:
        """Whether a difference of costs is a ratio."""
        return self.is_share or self.is_loss

    def find_cost(self, value: float, n_validation: int = 1) -> float | None:
        """Return the cost of an outcome, lower is better; None where it has none."""
        return find_cost({self.outcome: value}, self.outcome, n_validation, maximize=self.outcome.maximize)
