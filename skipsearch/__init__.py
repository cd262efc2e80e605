"""The Python face: what scripts and notebooks import."""

from typing import TYPE_CHECKING, Any

from skipsearch.shadows import check_shadows

check_shadows()  # first: what follows imports our packages by their names

from search_spaces.errors import ConflictError, InputError, MachineError, NothingUsableError  # noqa: E402
from skipsearch import tables  # noqa: E402
from skipsearch.patterns import (  # noqa: E402
    Figure,
    Optimized,
    build_network,
    draw,
    optimize,
    recommend,
    sample,
    score,
    template,
)
from skipsearch.runs import Best, Run, load_run  # noqa: E402
from skipsearch.tables import correlate  # noqa: E402
from skipsearch.tasks import Task  # noqa: E402
from skipsearch.training import search, study  # noqa: E402

if TYPE_CHECKING:
    from nas.model.cost import Cost
    from nas.tasks.candidate import TaskPattern
    from nas.tasks.task_trial import TaskTrial
    from search_spaces.pattern import ConnectionPattern

__all__ = [
    "Best",
    "ConflictError",
    "ConnectionPattern",
    "Cost",
    "Figure",
    "InputError",
    "MachineError",
    "NothingUsableError",
    "Optimized",
    "Run",
    "Task",
    "TaskPattern",
    "TaskTrial",
    "build_network",
    "correlate",
    "draw",
    "load_run",
    "optimize",
    "recommend",
    "sample",
    "score",
    "search",
    "study",
    "tables",
    "template",
]
# Classes whose modules load networkx or torch, which take seconds.
_LATER = {
    "ConnectionPattern": "search_spaces.pattern",
    "Cost": "nas.model.cost",
    "TaskPattern": "nas.tasks.candidate",
    "TaskTrial": "nas.tasks.task_trial",
}


if not TYPE_CHECKING:  # a type checker refuses the names that are not there

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module 'skipsearch' has no {name}; it has {', '.join(__all__)}")
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return __all__
