"""Every measure by name: those of this project and those that other packages bring."""

import difflib
from collections.abc import Collection, Iterable

from search_spaces.errors import InputError
from search_spaces.measures.distances import DISTANCES
from search_spaces.measures.entry_points import make_measure
from search_spaces.measures.measure import Measure, Reads, check_reads, log_reads
from search_spaces.measures.placement import PLACEMENT
from search_spaces.measures.spectra import SPECTRA
from search_spaces.measures.walks import WALKS
from search_spaces.pattern import ConnectionPattern
from search_spaces.plugins import Plugins, load_plugins, warn_once

__all__ = [
    "ALWAYS_SHOWN",
    "Measure",
    "Reads",
    "find_measure",
    "list_brought",
    "list_measures",
    "load_measures",
    "measure",
    "measure_all",
    "measure_brought",
]

ALWAYS_SHOWN = ("walk_length", "visit_evenness", "ntk_trace")  # in the ledger and in tables, next to the distances

_OWN = {each.name: each for each in (*DISTANCES, *WALKS, *PLACEMENT, *SPECTRA)}


def list_measures() -> tuple[Measure, ...]:
    """Return every measure: distances, walks, placement, spectra, and those of other packages."""
    return (*_OWN.values(), *list_brought())


def list_brought() -> tuple[Measure, ...]:
    """Return the measures that other packages bring; what cannot be used is left out, with a warning."""
    plugins = load_measures()
    plugins.warn_of_problems()
    return tuple(plugins.objects.values())


def load_measures() -> Plugins:
    """Load the measures of other packages, without a warning of those that cannot be used."""
    return load_plugins("measures", frozenset(_OWN), make_measure)


def find_measure(name: str) -> Measure:
    """Return the measure of a name.

    Raises:
        InputError: nothing has that name, and a similar one is suggested; or a package brings it, and it is broken.
    """
    if name in _OWN:
        return _OWN[name]
    brought: Measure | None = load_measures().find(name)
    if brought is not None:
        return brought
    names = [each.name for each in list_measures()]
    near = difflib.get_close_matches(name, names, n=1) or [each for each in names if name and name in each]
    hint = f"did you mean {' or '.join(near)}?" if near else "`score --measures all` lists them"
    raise InputError(f"no measure is called {name!r}: {hint}")


def measure(pattern: ConnectionPattern, names: Iterable[str], reads: Reads | None = None) -> dict[str, float]:
    """Return measures of a pattern by name.

    Args:
        pattern: pattern of one block.
        names: names of the measures.
        reads: nodes that the classifier reads; None for those of transition `log`, L + 1 - 2^k.

    Raises:
        InputError: nothing has one of the names, a package's measure failed, or no classifier can read these nodes.

    >>> measure(ConnectionPattern(3, ((0,), (0, 1), (1, 2))), ["walk_length", "mean_bd"])
    {'walk_length': 1.25, 'mean_bd': 1.1666666666666667}
    """
    nodes = log_reads(pattern.depth) if reads is None else reads
    check_reads(nodes, pattern.depth)
    return {name: float(find_measure(name).function(pattern, nodes)) for name in names}


def measure_all(pattern: ConnectionPattern, reads: Reads | None = None) -> dict[str, float]:
    """Return every measure of a pattern by name; one of another package that fails is left out, with a warning.

    Args:
        pattern, reads: as for `measure`.
    """
    return {**measure(pattern, _OWN, reads), **measure_brought(pattern, reads)}


def measure_brought(
    pattern: ConnectionPattern, reads: Reads | None = None, taken: Collection[str] = ()
) -> dict[str, float]:
    """Return the measures of a pattern that other packages bring, by name.

    One that fails is left out, with a warning: a table of other numbers must not be lost for it.

    Args:
        pattern, reads: as for `measure`.
        taken: names that mean something else where these measures go, and are left out too.
    """
    nodes = log_reads(pattern.depth) if reads is None else reads
    check_reads(nodes, pattern.depth)
    values = {}
    for each in list_brought():
        try:
            if each.name in taken:
                what = f"measure {each.name!r} of another package is left out of a table"
                raise InputError(f"{what} that has a column of this name: its authors should rename it")
            values[each.name] = each.function(pattern, nodes)
        except InputError as error:
            warn_once(str(error))
    return values
