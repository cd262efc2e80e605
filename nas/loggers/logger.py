"""What a logger is: a class that is shown a run's settings, each of its trainings and its report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nas.records.database import FINAL
from nas.records.template import read_pattern
from nas.records.trial import Trial
from search_spaces.pattern import ConnectionPattern


@dataclass(frozen=True, slots=True)
class ShownTraining:
    """One training that has ended, as loggers are shown it.

    Args:
        number: its number in the run, from 0.
        name: number, template or first digits of the pattern's key, and seed.
        state: complete, failed or pruned.
        settings: what was trained, by name: seed, strategy, budget, layers and, where it has them, template and regime.
        measures: measures of the pattern and costs of its network, by name.
        metrics: what was measured at the end; empty if the training failed.
        curve: one row an epoch: `epoch`, from 1, and what the task reports of it.
        seconds: wall-clock time.
        error: why there is no outcome, or None.
    """

    number: int
    name: str
    state: str
    pattern: ConnectionPattern
    settings: Mapping[str, str | float]
    measures: Mapping[str, float]
    metrics: Mapping[str, float]
    curve: Sequence[Mapping[str, float]]
    seconds: float
    error: str | None

    def list_values(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the values of each epoch; what was measured at the end is in the last."""
        rows = [(int(row["epoch"]), dict(row)) for row in self.curve if "epoch" in row] or [(0, {})]
        rows[-1][1].update(self.metrics)
        for epoch, values in rows:
            yield epoch, {name: float(value) for name, value in values.items() if name != "epoch"}


class Logger(Protocol):
    """A tracker of one run: a class that is called with no arguments.

    Its methods are called one after the other, in a thread of their own. An exception ends the logger, never the run.
    """

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        """Begin, or go on with, what is shown of a run.

        Args:
            run: the run directory; `read_id` of nas.loggers.shown gives a name that no other run has.
            settings: the run's settings by name, as plain values.
        """

    def finish(self, training: ShownTraining) -> None:
        """Show a training that has ended; one that was shown before, as after a kill, is replaced or left."""

    def end(self, run: Path, report: Sequence[Path]) -> None:
        """Show a run's end.

        Args:
            run: the run directory.
            report: files of the report, then those of the best patterns, the best first; none where the run was
                interrupted and can be continued.
        """


def show_training(trial: Trial) -> ShownTraining:
    """Return what loggers are shown of a training in the ledger."""
    facts = dict(_flatten(trial.facts))
    named = {"template": trial.template, "regime": trial.regime}
    settings: dict[str, str | float] = {
        "seed": trial.seed,
        "strategy": trial.strategy,
        "budget": trial.budget,
        "layers": trial.pattern.depth,
        "connections": trial.pattern.n_connections,
        "key": trial.pattern.key,
        **{name: value for name, value in named.items() if value is not None},
    }
    measured = {**trial.descriptors, **facts}
    outcome = trial.outcome
    return ShownTraining(
        number=trial.number,
        name=f"{trial.number:04d} {trial.template or trial.pattern.key[:12]} seed {trial.seed}",
        state=trial.state,
        pattern=trial.pattern,
        settings=settings,
        measures={name: float(value) for name, value in measured.items() if _is_number(value)},
        metrics={} if outcome is None else dict(outcome.metrics),
        curve=() if outcome is None else outcome.curve,
        seconds=0.0 if outcome is None else outcome.seconds,
        error=None if outcome is None else outcome.error,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}_")
        else:
            yield prefix + name, value


def flatten_settings(settings: Mapping[str, Any]) -> dict[str, str | float | bool]:
    """Return those settings that have a value, lists as texts.

    >>> flatten_settings({"layers": 24, "lr_drops": [0.5, 0.75], "data": None})
    {'layers': 24, 'lr_drops': '0.5, 0.75'}
    """
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for name, value in _flatten(settings)
        if value not in (None, [], ())
    }


def name_run(run: Path) -> str:
    """Return the name that trackers show of a run directory.

    >>> name_run(Path("runs/first")), name_run(Path("runs/first/final"))
    ('first', 'first final')
    """
    run = run.resolve()
    return f"{run.parent.name} {FINAL}" if run.name == FINAL else run.name


def find_best(report: Sequence[Path]) -> ConnectionPattern | None:
    """Return the best pattern among the files at a run's end; None where no pattern was exported."""
    first = next((path for path in report if path.name == "template.json"), None)
    return None if first is None else read_pattern(first)


def find_page(report: Sequence[Path]) -> str:
    """Return the report as Markdown; empty where there is none."""
    page = next((path for path in report if path.name == "report.md"), None)
    return "" if page is None else page.read_text(encoding="utf-8")
