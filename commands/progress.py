"""How trainings come along: what is being trained, on what, and how to continue a run that ends early."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from commands.terminal import log_to
from nas.records.shown import quote, show

if TYPE_CHECKING:
    from rich.console import Console

    from nas.model.candidate import Candidate
    from nas.records.trial import Outcome
    from nas.run.source import Listener
    from nas.settings.search import SearchConfig


def describe_workers(settings: "SearchConfig") -> str:
    """Say how many trainings run at a time, and on what."""
    number = "as many at a time as fit" if settings.workers == "auto" else f"{settings.workers} at a time"
    most = settings.lookahead * settings.seeds * len(settings.budgets)
    if settings.strategy in ("tpe", "evolve") and settings.workers != "auto" and settings.workers > most:
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
            console.print(f"what is finished is kept; to continue: python run_search.py {command} --run {quote(run)}")
        raise


@contextmanager
def show_progress(console: "Console", headline: str) -> "Iterator[Listener]":
    """Show trainings as they end: as a bar on a terminal, as lines elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate, line = TextColumn("{task.fields[rate]}"), TextColumn("{task.description}")
    columns = (BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(), line)
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task("starting", rate="", total=None)

    def listen(candidate: "Candidate | None", outcome: "Outcome | None", n_finished: int, n_asked: int) -> None:
        if candidate is None or outcome is None:
            if n_finished == n_asked:
                console.print(f"nothing to train: all {n_asked} trainings are done")
            else:
                console.print(headline + (f"; {n_finished} of {n_asked} are done already" if n_finished else ""))
            bar.reset(task, total=n_asked, completed=n_finished, description="training")
            return
        line = _describe_training(candidate, outcome)
        if console.is_terminal:
            speed = bar.tasks[0].speed
            rate = "" if speed is None else f"{3600 * speed:,.0f} candidates/h"
            bar.update(task, completed=n_finished, description=line, rate=rate)
        else:
            console.print(f"{n_finished}/{n_asked} {line}")

    with bar, log_to(console):
        yield listen


def _describe_training(candidate: "Candidate", outcome: "Outcome") -> str:
    name = f"{candidate.template or candidate.pattern.key[:12]} seed {candidate.seed}"
    if outcome.validation_accuracy is None:
        line = f"{name}: failed, {outcome.error}"
    elif outcome.paused:
        line = f"{name}: pruned after epoch {outcome.epochs} at accuracy {outcome.validation_accuracy:.4f}"
    else:
        line = f"{name}: accuracy {outcome.validation_accuracy:.4f}, loss {outcome.validation_loss:.4f}"
    return show(line + (f" (from the start: {outcome.checkpoint_error})" if outcome.checkpoint_error else ""))
