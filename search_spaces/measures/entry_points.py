"""Measures that other packages bring, by the entry point group `skipsearch.measures`."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from search_spaces.errors import InputError
from search_spaces.measures.measure import Measure, Reads
from search_spaces.pattern import ConnectionPattern

GROUP = "skipsearch.measures"


@dataclass(frozen=True, slots=True)
class Brought:
    """What other packages bring.

    Args:
        measures: measures by name, in alphabetical order.
        problems: why something is left out and what to do, by the name that it has.
    """

    measures: Mapping[str, Measure]
    problems: Mapping[str, str]


@cache
def load_brought(taken: frozenset[str]) -> Brought:
    """Load the measures of other packages; what cannot be used is left out, with its reason.

    An entry point is a Measure of the entry's name, or a function of a pattern and of what the classifier reads. It is
    loaded once in a process.

    Args:
        taken: names of our own measures, which no other gets.
    """
    entries = defaultdict(list)
    for entry in entry_points(group=GROUP):
        entries[entry.name].append(entry)
    measures, problems = {}, {}
    for name, alike in sorted(entries.items()):
        try:
            if len(alike) > 1:
                raise InputError(f"{' and '.join(sorted(map(_origin, alike)))} each bring one: uninstall all but one")
            if name in taken:
                raise InputError("skipsearch has one of this name, which is used: its authors should rename it")
            measures[name] = _load(alike[0])
        except InputError as error:
            problems[name] = f"measure {name!r} of {_origin(alike[0])} is left out: {error}"
    return Brought(measures, problems)


def _load(entry: EntryPoint) -> Measure:
    if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", entry.name) is None:
        raise InputError("a name is lower-case words joined by underscores")
    try:
        loaded = entry.load()
    except Exception as error:  # of a stranger's module: anything
        what = f"{entry.value} raised {type(error).__name__}: {error}"
        raise InputError(f"{what}; repair the package, or uninstall it") from error
    if not isinstance(loaded, Measure):
        if not callable(loaded):
            raise InputError(f"{entry.value} is {loaded!r:.80}, no Measure and no function; repair the package")
        sentence = " ".join((loaded.__doc__ or "No definition given.").strip().partition("\n\n")[0].split())
        loaded = Measure(entry.name, sentence, _origin(entry), "", -math.inf, math.inf, loaded)
    if loaded.name != entry.name:
        raise InputError(f"{entry.value} is called {loaded.name!r}; give the entry point and the measure one name")
    return replace(loaded, function=_Guarded(entry.name, _origin(entry), loaded))


def _origin(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else f"package {entry.dist.name} {entry.dist.version}"


@dataclass(frozen=True, slots=True)
class _Guarded:
    """Another package's function, whose errors name that package."""

    name: str
    origin: str
    measure: Measure

    def __call__(self, pattern: ConnectionPattern, reads: Reads) -> float:
        about = f"measure {self.name!r} of {self.origin}"
        try:
            value = float(self.measure.function(pattern, reads))
        except Exception as error:
            failed = f"{about} failed on a pattern of {pattern.depth} layers: {type(error).__name__}: {error}"
            raise InputError(f"{failed}; repair the package, or uninstall it") from error
        if not math.isfinite(value):
            raise InputError(f"{about} gave {value} for a pattern of {pattern.depth} layers: repair or uninstall it")
        return value
