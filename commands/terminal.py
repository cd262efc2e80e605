"""What commands print on a terminal: lines, tables, progress, and what to do next."""

import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.records.metrics import shorten
from nas.records.shown import name_program, quote, show, show_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress
    from rich.segment import Segment
    from rich.table import Table

    from nas.records.trial import Trial
    from nas.run.source import Listener
    from nas.settings.search import SearchConfig

GAP = 2  # spaces between the columns of a table
LABEL = 24  # characters to which a column of words is narrowed before a column is left out


def make_console(stderr: bool = False, wide: bool = False) -> "Console":
    """Return a console that escapes what a terminal would act on; rich's own control codes stay.

    On a terminal, lines break between words; elsewhere, they do not break.

    Args:
        stderr: whether it prints on standard error.
        wide: whether its tables have all their columns, however long their lines are.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        has_room = wide or not ((sys.stderr if stderr else sys.stdout).isatty() or os.environ.get("COLUMNS"))

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=show_lines(segment.text))

        def print(self, *objects: Any, **options: Any) -> None:
            if self.is_terminal and "soft_wrap" not in options:
                objects = tuple(break_lines(each, self.width) if isinstance(each, str) else each for each in objects)
            super().print(*objects, **{"soft_wrap": True, **options})

    return SafeConsole(stderr=stderr, highlight=False, markup=False)


def break_lines(text: str, width: int) -> str:
    """Return a text whose lines break between words; a word longer than a line, such as a path, stays whole.

    >>> break_lines("wrote /a/long/path: one, two", 12)
    'wrote\\n/a/long/path:\\none, two'
    """
    lines = (textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _AtWidth:
    """A table that is drawn in its own width, also on a narrower terminal."""

    table: "Table"
    width: int

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Segment]":
        yield from console.render(self.table, options.update_width(self.width))


def print_table(
    console: "Console", title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()
) -> None:
    """Print a table, without the last columns for which a line has no room; --wide prints them.

    Where a line has no end, as in a file or a pipe, all columns are printed. Nothing is cut: words wrap.

    Args:
        console: from make_console.
        title: line above the table; may be empty.
        headings: headings of the columns, the most important first.
        rows: cells of each row; missing ones at the end are empty.
        left: headings of columns of words, aligned to the left as the first column is, and not to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    cells = [[*row, *[""] * (len(headings) - len(row))] for row in rows]
    of_words = [place == 0 or heading in left for place, heading in enumerate(headings)]
    columns = [_Widths.find(column, words) for *column, words in zip(headings, *cells, of_words, strict=True)]
    widths = (
        [column.full for column in columns] if getattr(console, "has_room", False) else _fit(columns, console.width)
    )
    if title:
        console.print(title)
    shown = [
        Column(heading, width=width, justify="left" if words else "right", overflow="fold")
        for heading, width, words in zip(headings, widths, of_words, strict=False)
    ]
    table = Table(*shown, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for row in cells:
        table.add_row(*row[: len(widths)])
    console.print(_AtWidth(table, sum(widths) + GAP * len(widths)))
    if len(widths) < len(headings):
        console.print(f"not shown: {', '.join(headings[len(widths) :])}; --wide shows all columns")


@dataclass(frozen=True, slots=True)
class _Widths:
    """The characters that a column takes: with every cell in one line, and at least."""

    full: int
    least: int

    @classmethod
    def find(cls, column: Sequence[str], of_words: bool) -> "_Widths":
        """Return the widths of a column, whose heading comes first; a number is never broken, a heading is."""
        from rich.cells import cell_len

        heading, *cells = column
        full = max(map(cell_len, column))
        word = max(map(cell_len, heading.split()), default=0)
        return cls(full, min(full, LABEL) if of_words else max([word, *map(cell_len, cells)]))


def _fit(columns: Sequence[_Widths], room: int) -> list[int]:
    """Return the widths of as many columns as fit, from the first; two are always kept."""
    kept = list(columns)
    while len(kept) > 2 and sum(column.least for column in kept) + GAP * (len(kept) - 1) > room:
        kept.pop()
    widths = [column.full for column in kept]
    left_over = room - GAP * (len(kept) - 1)
    while sum(widths) > left_over:
        slack = [width - column.least for width, column in zip(widths, kept, strict=True)]
        place = max(range(len(kept)), key=slack.__getitem__)
        if slack[place] == 0:
            break
        widths[place] -= 1
    return widths


def print_written(console: "Console", paths: Sequence[Path], following: Sequence[object]) -> None:
    """Say which files were written, folder by folder, and which command of ours follows, or `open`."""
    alike: dict[tuple[Path, str], list[Path]] = {}  # folders of one folder that hold files of the same names
    for folder in dict.fromkeys(path.parent for path in paths):
        names = ", ".join(path.name for path in paths if path.parent == folder)
        alike.setdefault((folder.parent, names), []).append(folder)
    for (parent, names), folders in alike.items():
        if len(folders) > 1:
            console.print(f"wrote {len(folders)} folders in {show(parent)}, each with: {show(names)}")
        elif folders[0] == Path() or ", " not in names:
            console.print(f"wrote {show(folders[0] / names)}")
        else:
            console.print(f"wrote {show(folders[0])}: {show(names)}")
    if following[0] == "open":
        console.print(f"next: {' '.join(map(quote, following))}", soft_wrap=True)
    else:
        print_next(console, *following)


def print_next(console: "Console", *words: object) -> None:
    """Print which command of ours follows, so that it can be copied."""
    console.print(f"next: {name_program()} {' '.join(map(quote, words))}", soft_wrap=True)


@contextmanager
def count_up(console: "Console", doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar that grows to a total on a terminal, and nothing elsewhere."""
    with make_progress(console, is_kept=False) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda n_done: bar.update(task, completed=n_done)


def can_redraw(console: "Console") -> bool:
    """Return whether a console is a terminal that can change what it has shown; TERM=dumb cannot."""
    return console.is_terminal and not console.is_dumb_terminal


BAR, LEAST_BAR = 40, 8  # characters of a bar of progress


def make_progress(console: "Console", is_kept: bool) -> "Progress":
    """Return a line of progress for a terminal: a bar, the count, trainings an hour, the time left, and the last text.

    A narrower terminal has a shorter bar and only the first parts of the text, which commas join, or none of it.

    Args:
        console: console of the bar; elsewhere than on a terminal, nothing is shown.
        is_kept: whether the line stays when all is done.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    bar, text = BarColumn(), TextColumn("{task.fields[shown]}", markup=False)
    rate = TextColumn("{task.fields[rate]}")
    others = (MofNCompleteColumn(), rate, TimeRemainingColumn())

    class Line(Progress):
        def get_renderables(self) -> "Iterator[RenderableType]":
            for task in self.tasks:
                speed = None if task.speed is None else f"{3600 * task.speed:,.0f}/h"
                task.fields["rate"] = speed or "-/h"
                taken = sum(1 + cell_width(column(task)) for column in others)
                task.fields["shown"] = fit_parts(task.description, self.console.width - taken - LEAST_BAR - 1)
                bar.bar_width = min(BAR, max(self.console.width - taken - 1 - len(task.fields["shown"]), 1))
            yield from super().get_renderables()

    def cell_width(shown: "RenderableType") -> int:
        return shown.cell_len if isinstance(shown, Text) else 0

    return Line(
        *(bar, *others, text),
        console=console,
        disable=not can_redraw(console),
        transient=not is_kept,
        speed_estimate_period=10**9,  # a training may take longer than rich's half a minute, without which is no rate
    )


def fit_parts(text: str, room: int) -> str:
    """Return as many parts of a text, which commas join, as there is room for.

    >>> fit_parts("log seed 0: loss 0.5, accuracy 0.9", 22), fit_parts("log seed 0: loss 0.5", 10)
    ('log seed 0: loss 0.5', '')
    """
    parts = text.split(", ")
    while parts and len(", ".join(parts)) > room:
        parts.pop()
    return ", ".join(parts)


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


def describe_workers(settings: "SearchConfig") -> str:
    """Say how many trainings run at a time, and on what."""
    number = "as many at a time as fit" if settings.workers == "auto" else f"{settings.workers} at a time"
    most = (settings.lookahead or 1) * len(settings.budgets)
    if (
        settings.strategy not in ("random", "random:wide", "templates")
        and settings.workers != "auto"
        and settings.workers > most
    ):
        number += f" (a lookahead of {settings.lookahead} lets {settings.strategy} hand out {most} at most)"
    if settings.cohort != 1:
        number += f", in cohorts of {settings.cohort}"
    engine = "" if settings.engine == "eager" else f" with {settings.engine} layers"
    return f"{number} on {settings.device}{engine}" + (f" at {settings.ray_address}" if settings.ray_address else "")


@contextmanager
def resumable(console: "Console", command: str, run: Path) -> Iterator[None]:
    """Say how to continue a run that ends early, unless it ends because of its settings."""
    from search_spaces.errors import ConflictError, InputError, NothingUsableError

    try:
        yield
    except BaseException as error:
        is_final = isinstance(error, InputError | ConflictError | NothingUsableError)
        # Before the settings are written there is no run to continue.
        if not is_final and (run / "config.toml").exists():
            console.print("what is finished is kept")
            console.print(f"to continue: {name_program()} {command} --run {quote(run)}", soft_wrap=True)
        raise


@contextmanager
def show_progress(console: "Console", headline: str) -> "Iterator[Listener]":
    """Show trainings as they end: as a bar on a terminal, as lines elsewhere."""
    bar = make_progress(console, is_kept=True)
    task = bar.add_task("starting", total=None)

    def listen(trial: "Trial | None", n_finished: int, n_asked: int) -> None:
        if trial is None:
            if n_finished == n_asked:
                console.print(f"nothing to train: all {n_asked} trainings are done")
            else:
                console.print(headline + (f"; {n_finished} of {n_asked} are done already" if n_finished else ""))
            bar.reset(task, total=n_asked, completed=n_finished, description="training")
            return
        line = describe_training(trial)
        if can_redraw(console):
            bar.update(task, completed=n_finished, description=line)
        else:
            console.print(f"{n_finished}/{n_asked} {line}")

    with bar, log_to(console):
        yield listen


def describe_training(trial: "Trial") -> str:
    """Say in a line how a training ended."""
    outcome = trial.outcome
    assert outcome is not None, "it has ended"
    name = f"{trial.template or trial.pattern.key[:12]} seed {trial.seed}"
    if not outcome.metrics:
        line = f"{name}: failed, {outcome.error}"
    elif outcome.paused:
        metric, value = next(iter(outcome.metrics.items()))
        line = f"{name}: pruned after epoch {outcome.epochs} at {shorten(metric)} {value:.4f}"
    else:
        line = f"{name}: " + ", ".join(f"{shorten(metric)} {value:.4f}" for metric, value in outcome.metrics.items())
    return show(line + (f" (from the start: {outcome.checkpoint_error})" if outcome.checkpoint_error else ""))
