"""A named function of a pattern, and what the classifier reads."""

from collections.abc import Callable
from dataclasses import dataclass

from search_spaces import rules
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

Reads = tuple[int, ...]  # nodes that the classifier reads, ascending; the last layer is one of them

PROJECT = "this project"
PAPER = "Log-DenseNet, arXiv:1711.00002, section 3"


@dataclass(frozen=True, slots=True)
class Measure:
    """A named function of a pattern and of what the classifier reads, with its definition.

    Args:
        name: name on the command line and in tables: lower-case words joined by underscores.
        definition: one sentence that says what it is.
        source: paper that it comes from, or "this project".
        unit: unit of its values.
        lowest, highest: bounds of its values over all patterns of all depths, both included.
        function: takes a pattern and the nodes that the classifier reads, and returns a finite number.
    """

    name: str
    definition: str
    source: str
    unit: str
    lowest: float
    highest: float
    function: Callable[[ConnectionPattern, Reads], float]


def log_reads(depth: int) -> Reads:
    """Return the nodes that the classifier reads under transition `log`: L + 1 - 2^k for k = 0, 1, ...

    >>> log_reads(8), log_reads(1)
    ((1, 5, 7, 8), (0, 1))
    """
    return tuple(sorted(rules.log(depth + 1, depth)))


def check_reads(reads: Reads, depth: int) -> None:
    """Refuse what a classifier cannot read: measures of the walk or the distance from it need all nodes to be reached.

    Raises:
        InputError: a node is outside 0..L or repeated, or the last layer is missing.
    """
    if len(set(reads)) < len(reads) or not set(reads) <= set(range(depth + 1)) or depth not in reads:
        raise InputError(
            f"the classifier cannot read the nodes {list(reads)} of {depth} layers: give different nodes of "
            f"0..{depth}, {depth} among them, since nothing else leads back from the last layer"
        )
