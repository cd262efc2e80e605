"""Measures that other packages bring, by the entry point group `skipsearch.measures`."""

import math
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.errors import InputError
from search_spaces.measures.measure import Measure, Reads
from search_spaces.pattern import ConnectionPattern
from search_spaces.plugins import Origin


def make_measure(name: str, loaded: Any, origin: Origin) -> Measure:
    """Return the measure of an entry point, whose errors name its package.

    Args:
        name: name of the entry point.
        loaded: a Measure of that name, or a function of a pattern and of what the classifier reads.
        origin: package that brings it.

    Raises:
        InputError: it is neither, or has another name.
    """
    if isinstance(loaded, Measure):
        measure = loaded
    elif callable(loaded):
        sentence = " ".join((loaded.__doc__ or "No definition given.").strip().partition("\n\n")[0].split())
        measure = Measure(name, sentence, str(origin), "", -math.inf, math.inf, loaded)
    else:
        raise InputError(f"it is {loaded!r:.80}, no Measure and no function; repair the package")
    if measure.name != name:
        raise InputError(f"it is called {measure.name!r}; give the entry point and the measure one name")
    return replace(measure, function=_Guarded(name, origin, measure))


@dataclass(frozen=True, slots=True)
class _Guarded:
    """Another package's function, whose errors name that package."""

    name: str
    origin: Origin
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
