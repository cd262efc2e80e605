"""Where a task of the user's own comes from: a file or a module, read once, hashed, and loaded as it was read."""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from search_spaces.errors import InputError
from search_spaces.plugins import NAMES, Plugins, list_plugins, load_plugins, require_callable

IMAGES = "images"
BUILT_IN = {  # in addition to images, by name
    "text": "nas.tasks.text.task:TextTask",
    "segmentation": "nas.tasks.segmentation.task:SegmentationTask",
}
TASK_FILE = "task.py"  # in a run directory: the source of a task that was given from Python
_MAX_BYTES = 10**7  # of a file
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class TaskSource:
    """The source of a task, which workers get as it was when the run started.

    Args:
        reference: FILE.py:NAME with an absolute path, package.module:NAME, or the name of a built-in task or of one
            that another package brings.
        name: the object in it.
        path: the file that contains it.
        text: the file's content.
        folders: folders in which it finds what it imports.
        module: name to import it by; None: the content is run.
    """

    reference: str
    name: str
    path: str
    text: bytes
    folders: tuple[str, ...]
    module: str | None = None

    @property
    def is_built_in(self) -> bool:
        """Whether it is a task of ours, whose version is that of the program."""
        return self.reference in BUILT_IN

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's content."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def label(self) -> str:
        """Name for messages and the record, without the folder."""
        return shorten_reference(self.reference)


def shorten_reference(reference: str) -> str:
    """Return a reference without the folder of its file.

    >>> shorten_reference("/home/me/task.py:objective"), shorten_reference("text")
    ('task.py:objective', 'text')
    """
    return Path(reference).name if _is_file(reference) else reference


def _is_file(reference: str) -> bool:
    return reference.rpartition(":")[0].endswith(".py")


def resolve_reference(reference: str) -> str:
    """Return a reference with an absolute path where it names a file."""
    path, _, name = reference.rpartition(":")
    return f"{Path(path).resolve()}:{name}" if _is_file(reference) else reference


def read_source(reference: str) -> TaskSource:
    """Read the file of a task without running it.

    Raises:
        InputError: the reference has another form, or there is no such file or module, or a package's task is broken.
    """
    resolved = BUILT_IN.get(reference) or _find_brought(reference) or reference
    place, colon, name = resolved.rpartition(":")
    if not colon or not name.isidentifier() or not (_is_file(resolved) or _MODULE.fullmatch(place)):
        raise InputError(
            f"task {reference!r:.200}: expected FILE.py:NAME, package.module:NAME, or one of "
            f"{', '.join((IMAGES, *BUILT_IN, *load_tasks().objects))}"
        )
    if not _is_file(resolved):
        return _read_module(reference, place, name)
    path = Path(place).resolve()
    return TaskSource(resolve_reference(reference), name, str(path), _read_file(path, reference), (str(path.parent),))


def load_tasks() -> Plugins:
    """Load the tasks of other packages, without a warning of those that cannot be used."""
    return load_plugins("tasks", frozenset({IMAGES, *BUILT_IN}), require_callable)


def _find_brought(reference: str) -> str | None:
    """Return the place of a task that another package brings, as package.module:NAME; None if none does.

    Raises:
        InputError: a package brings it, and it is broken.
    """
    if NAMES.fullmatch(reference) is None or load_tasks().find(reference) is None:
        return None
    return next(each.value for each in list_plugins() if (each.kind, each.name) == ("tasks", reference))


def _read_module(reference: str, module: str, name: str) -> TaskSource:
    folder = str(Path.cwd())
    _find_imports((folder,))
    try:
        with _report_problems(reference, None):
            spec = importlib.util.find_spec(module)
    except InputError:
        if reference in BUILT_IN:
            raise
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise InputError(
            f"task {reference!r:.200}: there is no module {module} to import from {folder}: start this where it can be "
            "imported, or give FILE.py:NAME"
        )
    return TaskSource(reference, name, spec.origin, _read_file(Path(spec.origin), reference), (folder,), module)


def _read_file(path: Path, reference: str) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"task {reference!r:.200}: {path} cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise InputError(f"task {reference!r:.200}: {path} is larger than {_MAX_BYTES:,} bytes")
    return content


def load_object(source: TaskSource) -> Any:
    """Run the file of a task, once for each process, and return the object that the task names.

    Raises:
        InputError: the file raises, has no such object, or is not the one that was read.
    """
    with _report_problems(source.reference, source.path):
        module = _import(source) if source.module is not None else _execute(source)
    if not hasattr(module, source.name):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise InputError(
            f"task {source.label}: {source.path} has no {source.name}; it has {', '.join(known[:9]) or 'nothing'}"
        )
    return getattr(module, source.name)


def _import(source: TaskSource) -> ModuleType:
    _find_imports(source.folders)
    module = importlib.import_module(str(source.module))
    if Path(str(module.__file__)).read_bytes() != source.text:
        raise InputError(
            f"task {source.label}: {module.__file__} is not the file that the run started with: put the same file on "
            "all nodes, and start again"
        )
    return module


def _execute(source: TaskSource) -> ModuleType:
    """Run the text of a file as a module of a name that no other text has."""
    name = f"skipsearch_task_{hashlib.sha256(source.path.encode() + source.text).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    _find_imports(source.folders)
    module = ModuleType(name)
    module.__file__ = source.path
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    try:
        exec(compile(source.text, source.path, "exec"), vars(module))  # noqa: S102  running it is what was asked for
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _find_imports(folders: tuple[str, ...]) -> None:
    sys.path += [folder for folder in folders if folder not in sys.path]


@contextmanager
def _report_problems(reference: str, path: str | None) -> Iterator[None]:
    try:
        with divert_output():
            yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"task {shorten_reference(reference)} cannot be loaded: {describe_error(error, path)}"
        ) from None


def describe_error(error: BaseException, path: str | None) -> str:
    """Return what an error says in a line, and which line of the task's file raised it.

    >>> describe_error(ValueError("no such layer"), None)
    'ValueError: no such layer'
    """
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text:.500}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return said
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{said} ({Path(str(path)).name}:{frames[-1].lineno})" if frames else said


@contextmanager
def divert_output() -> Iterator[None]:
    """Send what the block prints to standard error where standard output is no terminal: a program may read that."""
    if sys.stdout is None or sys.stdout.isatty():
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)  # of child processes too
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
