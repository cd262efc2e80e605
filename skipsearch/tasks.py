"""Tasks from a notebook or a script: what to subclass, and how an object in memory is kept as a file of source.

A run needs its task again when it is continued, and on every worker. A function or class in memory can be sent there,
but a later session could not tell whether it is still the same. So its source is written to RUN/task.py, with the
imports, definitions and plain values that it uses, and that file is the task: hashed, sent and read as any other.
"""

import ast
import builtins
import inspect
import linecache
import math
import re
import symtable
import sys
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from search_spaces.errors import ConflictError, InputError

if TYPE_CHECKING:
    from torch import nn

    from nas.tasks.candidate import TaskPattern

AnyTask: TypeAlias = str | Callable[..., Any] | type[Any]  # a name, FILE.py:NAME, an objective, a task class
HEADER = "# The task that skipsearch was given from Python, with all that it uses."
MAIN = "__main__"  # module of a notebook's cells and of a script
MAX_VALUE = 10_000  # characters of a plain value that a task uses


class Task(ABC):
    """What is trained: subclass it, and say how a network is built and what its data are.

    Typed fields with defaults are settings. A task may also have `loss(self, network, batch)`, `evaluate(self, network,
    batches)`, `optimizer(self, network, training, n_steps)`, `cost(self, pattern)` and `augment_batch(self, batch,
    generator)`: docs/tutorials/own-network.md says what each gets and returns. A class need not be derived from this
    one: it is here for type checkers and editors.
    """

    metrics: ClassVar[Mapping[str, str]] = {"loss": "min"}  #: names and "min" or "max", the primary one first
    defaults: ClassVar[Mapping[str, Any]] = {}  #: other defaults of epochs, lr, batch_size, weight_decay, lr_drops

    @abstractmethod
    def build(self, pattern: "TaskPattern", seed: int) -> "nn.Module":
        """Return the network around a pattern: `pattern.sources` of its layers, `pattern.reads` of its output."""

    @abstractmethod
    def data(self, seed: int) -> tuple[Any, Any]:
        """Return training and validation data: tuples of tensors, or functions of the epoch that give batches."""


@contextmanager
def keep_task(task: AnyTask, run: Path) -> Iterator[str]:
    """Yield the reference of a task; one in memory is written to the run, and removed if no run comes of it.

    Args:
        task: a reference, or a function or class. One that can be imported from a file stands for that file.
        run: run directory, locked.

    Raises:
        InputError: it cannot be written as source.
        ConflictError: the run was begun with another source.
    """
    if isinstance(task, str):
        yield task
        return
    reference = _find_reference(task)
    if reference is not None:
        yield reference
        return
    from nas.records.safe_files import write_atomic
    from nas.tasks.reference import TASK_FILE

    path, text = run / TASK_FILE, write_source(task)
    existing = path.read_text(encoding="utf-8") if path.exists() else text
    has_begun = (run / "study.db").exists()
    if existing != text and (has_begun or not existing.startswith(HEADER)):
        raise ConflictError(
            f"{task.__name__} is not as it was when {run} was begun: {path} has its source of then. Give it as it was, "
            "or give another --run"
        )
    write_atomic(path, text)
    try:
        yield f"{path.resolve()}:{task.__name__}"
    except BaseException:
        if not (run / "config.toml").exists():
            path.unlink(missing_ok=True)
        raise


def _find_reference(task: Callable[..., Any]) -> str | None:
    """Return the reference of a function or class that can be imported from a file; None of another one.

    Raises:
        InputError: it is neither a function nor a class with a name.
    """
    if not isinstance(task, FunctionType | type) or not task.__name__.isidentifier():
        raise InputError(
            f"task {task!r:.100}: give a function (def, not lambda), a class, or a reference such as FILE.py:NAME"
        )
    module = sys.modules.get(task.__module__)
    file = getattr(module, "__file__", None)
    if task.__module__ == MAIN or file is None or getattr(module, task.__qualname__, None) is not task:
        return None
    return f"{task.__module__}:{task.__name__}" if "." in task.__module__ else f"{file}:{task.__name__}"


def write_source(task: Callable[..., Any]) -> str:
    """Return a file of source that defines a function or class, with all that it uses of the module it is in.

    Raises:
        InputError: its source is not known, or it uses something that source cannot say; with what to do.
    """
    source = _Source(task.__name__)
    source.define(task.__name__, task)
    imports = "\n".join(sorted(source.imports))
    parts = [*([imports] if imports else []), *source.parts.values()]
    future = "from __future__ import annotations\n\n" if source.has_future else ""
    return f"{HEADER}\n\n{future}" + "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


class _Source:
    """A file in the making.

    Attributes:
        imports: its lines of imports.
        parts: its definitions by name, each after those that it uses.
        has_future: whether annotations are not evaluated.
    """

    def __init__(self, task: str) -> None:
        self.imports: set[str] = set()
        self.parts: dict[str, str] = {}
        self.has_future = False
        self._task = task
        self._begun: set[str] = set()

    def define(self, name: str, value: "FunctionType | type | Callable[..., Any]") -> None:
        """Add a function or class, after what it uses."""
        if name in self._begun:
            return
        self._begun.add(name)
        codes = [*_list_codes(value)]
        captured = sorted({free for code in codes for free in code.co_freevars} - {"__class__"})
        if captured:
            raise InputError(
                f"task {self._task}: {name} is made inside another function, and uses its {', '.join(captured)}: "
                "define it at the top of a cell or file, with these as settings or inside it"
            )
        self.has_future |= any(code.co_flags & _find_flag() for code in codes)
        text = self._find_text(name, value, codes)
        for used in _list_globals(text):
            if used != name and used in _find_namespace(value):
                self._use(used, _find_namespace(value)[used], text, name)
        lines = [text.rstrip("\n")]
        for attribute, given in sorted(vars(value).items()) if isinstance(value, FunctionType) else ():
            written = _write_plain(given)
            if written is not None:
                lines.append(f"{name}.{attribute} = {written}")
        if value.__name__ != name:
            lines.append(f"{name} = {value.__name__}")
        self.parts[name] = "\n".join(lines)

    def _use(self, name: str, value: Any, text: str, user: str) -> None:
        if isinstance(value, ModuleType):
            self.imports |= _import_module(name, value, text)
            return
        if isinstance(value, FunctionType | type) and value.__module__ == MAIN:
            self.define(name, value)
            return
        written = _write_plain(value)
        if written is not None:
            self.parts[name] = f"{name} = {written}"
            return
        place = _find_import(name, value)
        if place is None:
            raise InputError(
                f"task {self._task}: {user} uses {name}, a {type(value).__name__}, which is not kept with the run: "
                f"make it in {user} or in a function that it calls, or put the task into a file and give FILE.py:NAME"
            )
        self.imports.add(place)

    def _find_text(self, name: str, value: Any, codes: list[CodeType]) -> str:
        kinds = (ast.ClassDef,) if isinstance(value, type) else (ast.FunctionDef, ast.AsyncFunctionDef)
        for code in codes:
            text = _cut_definition(code.co_filename, kinds, value.__name__, code.co_firstlineno)
            if text is not None:
                return text
        for file in [] if codes else _list_cells():  # a class without methods: the last cell that defines it
            text = _cut_definition(file, kinds, value.__name__, None)
            if text is not None:
                return text
        raise InputError(
            f"task {self._task}: the source of {name} is not known to Python: define it in a file or a notebook's cell"
        )


def _cut_definition(file: str, kinds: tuple[type[ast.stmt], ...], name: str, line: int | None) -> str | None:
    """Return the text of a definition in a file or cell: the innermost around a line, or the last; None without one."""
    lines = linecache.getlines(file)
    try:
        nodes = ast.walk(ast.parse("".join(lines)))
    except SyntaxError:
        return None
    named = [node for node in nodes if isinstance(node, kinds) and getattr(node, "name", "") == name]
    around = [node for node in named if line is None or _find_first(node) <= line <= (node.end_lineno or 0)]
    if not around:
        return None
    node = max(around, key=_find_first)
    return textwrap.dedent("".join(lines[_find_first(node) - 1 : node.end_lineno]))


def _list_cells() -> list[str]:
    """Return the files that Python has read lines of and that no module but `__main__` is of, the latest first."""
    loaded = {getattr(module, "__file__", None) for name, module in sys.modules.copy().items() if name != MAIN}
    return [file for file in reversed(linecache.cache) if file not in loaded]


def _find_flag() -> int:
    """Return the flag of code whose annotations are not evaluated."""
    import __future__

    return __future__.annotations.compiler_flag


def _find_first(node: ast.AST) -> int:
    """Return the first line of a definition, its decorators' included."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _list_codes(value: Any) -> Iterator[CodeType]:
    """Yield the code of a function, or of a class's own methods."""
    if not isinstance(value, type):
        yield inspect.unwrap(value).__code__
        return
    for member in vars(value).values():
        own = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        if isinstance(own, FunctionType) and own.__module__ == value.__module__:
            yield inspect.unwrap(own).__code__


def _find_namespace(value: Any) -> Mapping[str, Any]:
    return vars(sys.modules[value.__module__])


def _list_globals(text: str) -> list[str]:
    """Return the names that a definition takes from its module, in alphabetical order.

    >>> _list_globals("def f(a: Kind = DEFAULT):\\n    b = a + shift\\n    return [len(c) for c in b]")
    ['DEFAULT', 'Kind', 'shift']
    """
    names = set()
    tables = [symtable.symtable(text, "task", "exec")]
    while tables:
        table = tables.pop()
        is_module = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (not symbol.is_assigned() if is_module else symbol.is_global()):
                names.add(symbol.get_name())
        tables += table.get_children()
    return sorted(name for name in names if not hasattr(builtins, name))


def _import_module(name: str, module: ModuleType, text: str) -> set[str]:
    """Return the lines that import a module by a name, with its submodules that a text names in full."""
    if name != module.__name__:
        return {f"import {module.__name__} as {name}"}
    lines = {f"import {name}"}
    for chain in re.findall(rf"\b{re.escape(name)}((?:\.\w+)+)", text):
        parts = chain[1:].split(".")
        longer = [".".join([name, *parts[:end]]) for end in range(1, len(parts) + 1)]
        lines |= {f"import {each}" for each in longer if isinstance(sys.modules.get(each), ModuleType)}
    return lines


def _write_plain(value: Any) -> str | None:
    """Return a number, a text, or a tuple, list or dict of them as source; None for anything else.

    >>> _write_plain({"a": (1, 2.5)}), _write_plain({1}), _write_plain(print)
    ("{'a': (1, 2.5)}", None, None)
    >>> _write_plain("info"), _write_plain([float("inf")])
    ("'info'", None)
    """
    text = repr(value) if _is_plain(value) else ""
    return text if 0 < len(text) <= MAX_VALUE else None


def _is_plain(value: Any) -> bool:
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(_is_plain(inner) for item in value.items() for inner in item)
    if type(value) is float:
        return math.isfinite(value)  # the others have no literal
    return value is None or type(value) in (bool, int, str, bytes)


def _find_import(name: str, value: Any) -> str | None:
    """Return the line that imports an object of a module by a name; None where no module has it."""
    own = (getattr(value, "__module__", None), getattr(value, "__name__", None))
    others = [(module, name) for module in sorted(sys.modules, key=lambda each: (len(each), each))]
    for module, attribute in (own, *others):
        if not isinstance(module, str) or not isinstance(attribute, str) or module in (MAIN, "__mp_main__"):
            continue
        if vars(sys.modules[module]).get(attribute) is value if module in sys.modules else False:
            return f"from {module} import {attribute}" + (f" as {name}" if attribute != name else "")
    return None
