"""Every measure by name: those of this project and those that other packages bring."""

import difflib
from collections.abc import Iterable

from search_spaces.errors import InputError
from search_spaces.measures.distances import DISTANCES
from search_spaces.measures.measure import Measure, Reads, check_reads, log_reads
from search_spaces.measures.placement import PLACEMENT
from search_spaces.measures.spectra import SPECTRA
from search_spaces.measures.walks import WALKS
from search_spaces.pattern import ConnectionPattern

__all__ = ["Measure", "Reads", "find_measure", "list_measures", "measure"]

_OWN = {each.name: each for each in (*DISTANCES, *WALKS, *PLACEMENT, *SPECTRA)}


def list_measures() -> tuple[Measure, ...]:
    """Return every measure: distances, walks, placement, spectra."""
    return tuple(_OWN.values())


def find_measure(name: str) -> Measure:
    """Return the measure of a name.

    Raises:
        InputError: nothing has that name; a similar one is suggested.
    """
    if name in _OWN:
        return _OWN[name]
    near = difflib.get_close_matches(name, _OWN, n=1)
    hint = f"did you mean {near[0]}?" if near else "`score --measures all` lists them"
    raise InputError(f"no measure is called {name!r}: {hint}")


def measure(pattern: ConnectionPattern, names: Iterable[str], reads: Reads | None = None) -> dict[str, float]:
    """Return measures of a pattern by name.

    Args:
        pattern: pattern of one block.
        names: names of the measures.
        reads: nodes that the classifier reads; None for those of transition `log`, L + 1 - 2^k.

    Raises:
        InputError: nothing has one of the names, or no classifier can read these nodes.

    >>> measure(ConnectionPattern(3, ((0,), (0, 1), (1, 2))), ["walk_length", "mean_bd"])
    {'walk_length': 1.25, 'mean_bd': 1.1666666666666667}
    """
    nodes = log_reads(pattern.depth) if reads is None else reads
    check_reads(nodes, pattern.depth)
    return {name: float(find_measure(name).function(pattern, nodes)) for name in names}
