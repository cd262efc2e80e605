"""What commands print on a terminal: lines, tables, progress, and what to do next."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nas.records.metrics import shorten
from nas.records.shown import name_program, quote, show, show_lines

if TYPE_CHECKING:
    from rich.console import Console

    from nas.records.trial import Trial
    from nas.run.source import Listener
    from nas.settings.search import SearchConfig

WIDTH = 80  # characters of a line where there is no terminal to ask
LABEL = 30  # characters up to which a first column is given its room; paths may be longer


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


def print_columns(
    console: "Console", title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()
) -> None:
    """Print a table; columns for which a line has no room follow in further tables, next to the first column."""
    widths = [max(map(len, column)) + 3 for column in zip(headings, *rows, strict=True)]  # with frame and spaces
    room = (console.width if console.is_terminal else WIDTH) - min(widths[0], LABEL) - 1
    tables: list[list[int]] = [[]]
    for place, width in enumerate(widths[1:], start=1):
        if tables[-1] and sum(widths[other] for other in tables[-1]) + width > room:
            tables.append([])
        tables[-1].append(place)
    for number, places in enumerate(tables):
        shown = [[line[place] for place in (0, *places)] for line in (headings, *rows)]
        print_table(console, "" if number else title, shown[0], shown[1:], left)


def print_written(console: "Console", paths: Sequence[Path], following: Sequence[object]) -> None:
    """Say which files were written, folder by folder, and which command of ours follows, or `open`."""
    alike: dict[tuple[Path, str], list[Path]] = {}  # folders of one folder that hold files of the same names
    for folder in dict.fromkeys(path.parent for path in paths):
        names = ", ".join(path.name for path in paths if path.parent == folder)
        alike.setdefault((folder.parent, names), []).append(folder)
    for (parent, names), folders in alike.items():
        where = show(folders[0] if len(folders) == 1 else f"{len(folders)} folders in {parent}, each with")
        console.print(f"wrote {where}: {names}")
    if following[0] == "open":
        console.print(f"next: {' '.join(map(quote, following))}")
    else:
        print_next(console, *following)


def print_next(console: "Console", *words: object) -> None:
    """Print which command of ours follows, so that it can be copied."""
    console.print(f"next: {name_program()} {' '.join(map(quote, words))}")


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
            console.print(f"what is finished is kept; to continue: {name_program()} {command} --run {quote(run)}")
        raise


@contextmanager
def show_progress(console: "Console", headline: str) -> "Iterator[Listener]":
    """Show trainings as they end: as a bar on a terminal, as lines elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate, line = TextColumn("{task.fields[rate]}"), TextColumn("{task.description}")
    columns = (BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(), line)
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task("starting", rate="", total=None)

    def listen(trial: "Trial | None", n_finished: int, n_asked: int) -> None:
        if trial is None:
            if n_finished == n_asked:
                console.print(f"nothing to train: all {n_asked} trainings are done")
            else:
                console.print(headline + (f"; {n_finished} of {n_asked} are done already" if n_finished else ""))
            bar.reset(task, total=n_asked, completed=n_finished, description="training")
            return
        line = describe_training(trial)
        if console.is_terminal:
            speed = bar.tasks[0].speed
            rate = "" if speed is None else f"{3600 * speed:,.0f} candidates/h"
            bar.update(task, completed=n_finished, description=line, rate=rate)
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
