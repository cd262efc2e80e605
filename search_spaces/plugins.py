"""Plug-ins: what other packages bring by the entry point groups `skipsearch.tasks`, `.templates` and five more."""

import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Literal, get_args

from search_spaces.errors import InputError

Kind = Literal["tasks", "templates", "measures", "strategies", "merges", "loggers", "readers"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAMES = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SINGULAR = {"strategies": "strategy"}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """The distribution that brings a plug-in, by its name and version on the package index.

    >>> print(Origin("gauge", "1.2"))
    package gauge 1.2
    """

    distribution: str
    version: str

    def __str__(self) -> str:
        """Return distribution and version as messages name them."""
        return f"package {self.distribution} {self.version}" if self.distribution else "an unknown package"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point, which need not work.

    Args:
        kind: the group without `skipsearch.`.
        value: the object it names, as package.module:NAME.
    """

    kind: Kind
    name: str
    origin: Origin
    value: str

    def describe(self) -> dict[str, str]:
        """Return it as plain values, for a run's record."""
        return {
            "kind": self.kind,
            "name": self.name,
            "distribution": self.origin.distribution,
            "version": self.origin.version,
        }


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plug-ins of one kind.

    Args:
        objects: those that work, by name, in alphabetical order.
        problems: why the others are left out and what to do, by name.
        origins: where both come from, by name; of several with one name, the first.
    """

    objects: Mapping[str, Any] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def find(self, name: str) -> Any | None:
        """Return the object of a name; None if no package brings one.

        Raises:
            InputError: a package brings it, and it is broken.
        """
        if name in self.problems:
            raise InputError(self.problems[name])
        return self.objects.get(name)

    def warn_of_problems(self) -> None:
        """Log what is left out and why, once in a process."""
        for problem in self.problems.values():
            warn_once(problem)


def forget_plugins() -> None:
    """Look for installed packages again, and warn again: for tests and notebooks that install one."""
    for each in (_read_entries, load_plugins, warn_once):
        each.cache_clear()


def list_plugins() -> tuple[Plugin, ...]:
    """Return the entry points of all kinds that installed packages have, without loading them."""
    return tuple(
        Plugin(kind, entry.name, _find_origin(entry), entry.value) for kind in KINDS for entry in _find_entries(kind)
    )


@cache
def load_plugins(kind: Kind, taken: frozenset[str], adapt: Callable[[str, Any, Origin], Any] | None = None) -> Plugins:
    """Load the plug-ins of one kind, once in a process; what cannot be used is left out, with its reason.

    Args:
        kind: which entry points: those of group `skipsearch.KIND`.
        taken: names of our own objects of this kind, which no other gets.
        adapt: function of name, loaded object and origin that returns what is used for it, and raises InputError if
            it cannot be used; None: the object itself. A function of a module, since loaded plug-ins are kept by it.
    """
    by_name: dict[str, list[EntryPoint]] = {}
    for entry in _find_entries(kind):
        by_name.setdefault(entry.name, []).append(entry)
    objects, problems, origins = {}, {}, {}
    for name, alike in by_name.items():
        origins[name] = _find_origin(alike[0])
        try:
            loaded = _load(alike, taken)
            objects[name] = loaded if adapt is None else adapt(name, loaded, origins[name])
        except InputError as error:
            problems[name] = f"{name_kind(kind)} {name!r} of {origins[name]} is left out: {error}"
    return Plugins(objects, problems, origins)


def check_name(name: str, own: Sequence[str], load: Callable[[], Plugins]) -> str:
    """Return a name, if it is one of ours or that of a plug-in that works.

    Args:
        own: our names, with which no plug-in is loaded.
        load: function that returns the plug-ins.

    Raises:
        InputError: it is neither.
    """
    if name not in own and load().find(name) is None:
        *first, last = [*own, *load().objects]
        raise InputError(f"expected {', '.join(first)} or {last}, or a name that an installed package brings")
    return name


def require_callable(name: str, loaded: Any, origin: Origin) -> Any:  # noqa: ARG001  the form of load_plugins' adapt
    """Return a loaded object, which has to be a function or a class.

    Raises:
        InputError: it is neither.
    """
    if not callable(loaded):
        raise InputError(f"it is {loaded!r:.80}, no function and no class; repair the package")
    return loaded


def name_kind(kind: Kind) -> str:
    """Return the word for one plug-in of a kind.

    >>> name_kind("strategies"), name_kind("measures")
    ('strategy', 'measure')
    """
    return _SINGULAR.get(kind, kind[:-1])


@cache
def warn_once(text: str) -> None:
    """Log a warning, once in a process."""
    _logger.warning("warning: %s", text)


def _find_entries(kind: Kind) -> list[EntryPoint]:
    """Return the entry points of a kind by name; of one name, by distribution."""
    return sorted(_read_entries(kind), key=lambda entry: (entry.name, str(_find_origin(entry))))


@cache
def _read_entries(kind: Kind) -> EntryPoints:
    return entry_points(group=f"skipsearch.{kind}")


def _find_origin(entry: EntryPoint) -> Origin:
    return Origin("", "") if entry.dist is None else Origin(entry.dist.name, entry.dist.version)


def _load(alike: Sequence[EntryPoint], taken: frozenset[str]) -> Any:
    """Return the object of entry points of one name, of which there may be one only.

    Raises:
        InputError: it cannot be used.
    """
    entry = alike[0]
    if len(alike) > 1:
        raise InputError(
            f"{' and '.join(str(_find_origin(each)) for each in alike)} each bring one: uninstall all but one"
        )
    if entry.name in taken:
        raise InputError("skipsearch has one of this name, which is used: its authors should rename it")
    if NAMES.fullmatch(entry.name) is None:
        raise InputError("a name is lower-case words joined by underscores")
    try:
        with redirect_stdout(sys.stderr):  # a program may read what we print
            return entry.load()
    except (Exception, SystemExit) as error:  # of a stranger's module: anything
        what = f"{entry.value} raised {type(error).__name__}: {error}"
        raise InputError(f"{what}; repair the package, or uninstall it") from error
