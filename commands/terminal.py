"""What commands print on a terminal: lines, tables, progress, and what to do next."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nas.records.shown import quote, show, show_lines

if TYPE_CHECKING:
    from rich.console import Console

OURSELVES = ("python", "run_search.py")


def make_console(stderr: bool = False) -> "Console":
    """Return a console that escapes what a terminal would act on; rich's own control codes stay."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=show_lines(segment.text))

    stream = sys.stderr if stderr else sys.stdout
    # A file or pipe has no width of its own, and a table must not be cut to fit 80 columns.
    width = None if stream.isatty() else 160
    return SafeConsole(stderr=stderr, width=width, highlight=False, soft_wrap=True, markup=False)


def print_table(
    console: "Console", title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()
) -> None:
    """Print a table; columns are aligned to the right but for the first and those in `left`."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in (headings[0], *left) else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_written(console: "Console", paths: Sequence[Path], following: Sequence[object]) -> None:
    """Say which files were written, folder by folder, and which command follows."""
    alike: dict[tuple[Path, str], list[Path]] = {}  # folders of one folder that hold files of the same names
    for folder in dict.fromkeys(path.parent for path in paths):
        names = ", ".join(path.name for path in paths if path.parent == folder)
        alike.setdefault((folder.parent, names), []).append(folder)
    for (parent, names), folders in alike.items():
        where = show(folders[0] if len(folders) == 1 else f"{len(folders)} folders in {parent}, each with")
        console.print(f"wrote {where}: {names}")
    print_next(console, *following)


def print_next(console: "Console", *words: object) -> None:
    """Print the command that follows, so that it can be copied."""
    console.print(f"next: {' '.join(map(quote, words))}")


@contextmanager
def count_up(console: "Console", doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar that grows to a total on a terminal, and nothing elsewhere."""
    from rich.progress import Progress

    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda n_done: bar.update(task, completed=n_done)


@contextmanager
def log_to(console: "Console") -> Iterator[None]:
    """Print what the library logs as the command's own lines."""
    handler = logging.Handler()
    handler.emit = lambda record: console.print(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("nas")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def show_message(text: str) -> str:
    """Return a message as shown: its list of settings has lines of its own, any other break of a line is a name's."""
    return "\n  - ".join(map(show, text.split("\n  - ")))
