"""A task of the user's own as its file says it: loaded, its settings and metrics checked, and trained."""

import inspect
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nas.model.config import TrainingConfig
from nas.records.metrics import Metric, Metrics, find_problem
from nas.records.trial import Outcome
from nas.tasks.candidate import TaskCandidate, TaskPattern
from nas.tasks.fields import MISSING, dump_settings, list_fields, read_settings
from nas.tasks.loop import train_network
from nas.tasks.reference import TaskSource, describe_error, load_object, read_source
from nas.tasks.task_trial import Pruned, TaskError, TaskTrial
from nas.training.checkpoints import Slot
from nas.training.stepping import OUT_OF_MEMORY
from search_spaces.errors import InputError
from search_spaces.seeds import derive_seed

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")  # of a metric: a column of tables
_DIRECTIONS = {"min": False, "max": True}


@dataclass(frozen=True)
class LoadedTask:
    """A task of the user's own, ready to be trained.

    Args:
        source: where it comes from.
        texts: settings as they were given, NAME=VALUE.
        target: the objective, or an instance of the task class.
        values: values of all settings, by name.
        settings: the same as plain values, for the record.
        default_settings: those of them that have a default, at it.
        metrics: its metrics, the first one primary.
        defaults: its own defaults of the flags of training, by name with _.
    """

    source: TaskSource
    texts: tuple[str, ...]
    target: Any
    values: Mapping[str, Any]
    settings: Mapping[str, Any]
    default_settings: Mapping[str, Any]
    metrics: Metrics
    defaults: Mapping[str, Any]

    @property
    def is_objective(self) -> bool:
        """Whether it is a function that trains by itself, and not a class that says what is trained."""
        return callable(self.target) and not hasattr(self.target, "build")

    def __reduce__(self) -> Any:
        """Send only source and settings to workers, which load it again: Ray could not import its module."""
        return make_task, (self.source, self.texts)

    def describe(self) -> dict[str, Any]:
        """Return what a run's trainings were made with, as its record says it."""
        sha256 = None if self.source.is_built_in else self.source.sha256
        described = {"name": self.source.label, "sha256": sha256, "settings": dict(self.settings)}
        describe_data = getattr(self.target, "describe_data", None)  # a name and a hash, where a class says them
        return described if describe_data is None else {**described, "data": dict(describe_data())}

    def train(
        self,
        candidate: TaskCandidate,
        training: TrainingConfig,
        device: str,
        pause_after: int | None = None,
        slot: Slot | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Train a candidate; what the task does wrong is in the outcome.

        Args:
            training: epochs and the like.
            pause_after: epoch after which patterns are compared; None: it trains to its end.
            slot: place of its checkpoints, or None.
            check_stop: function that raises where the user has ended the run.

        Raises:
            MemoryError, RuntimeError: torch's own, if they say that the memory or the GPU failed.
        """
        pattern = TaskPattern.of(candidate.pattern, candidate.network.transition)
        trial = TaskTrial(pattern, candidate.seed, device, training, self.metrics, pause_after, slot, check_stop)
        _seed_all(candidate.seed)
        is_paused, error = False, None
        measured: Mapping[str, float] = {}
        try:
            measured = self._read_metrics(self._run(trial))
            if trial.stops_after < training.epochs:
                raise TaskError(
                    f"it ended without trial.report of epoch {trial.stops_after}, at which --halving compares patterns"
                )
        except Pruned:
            measured, is_paused = trial.measured, True
        except TaskError as fault:
            error = str(fault)
        except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (Exception, SystemExit) as raised:
            if _says_out_of_memory(raised):
                raise RuntimeError(str(raised)) from None
            error = describe_error(raised, self.source.path)
        error = trial.fault or error
        return Outcome(
            metrics={} if error else dict(measured),
            epochs=trial.stops_after if is_paused or not error else int(trial.curve[-1]["epoch"]) if trial.curve else 0,
            seconds=trial.seconds,
            curve=tuple(trial.curve),
            error=error,
            paused=is_paused and error is None,
            resumed_epoch=trial.resumed_epoch,
            checkpoint_error=trial.checkpoint_error,
            details={} if error or is_paused else trial.details,
        )

    def _run(self, trial: TaskTrial) -> Any:
        if self.is_objective:
            return self.target(trial, **self.values)
        return train_network(self.target, trial, [metric.name for metric in self.metrics])

    def _read_metrics(self, given: Any) -> dict[str, float]:
        """Return what a training gave as metrics.

        Raises:
            TaskError: it is something else, lacks one, has another, or has one that is not finite.
        """
        names = [metric.name for metric in self.metrics]
        where = "objective.metrics" if self.is_objective else "metrics"
        expected = f"expected a dict with {', '.join(names)}, or other names in {where}"
        if not isinstance(given, Mapping):
            raise TaskError(f"it returned {'nothing' if given is None else repr(given)[:60]}: {expected}")
        missing = [name for name in names if name not in given]
        if missing:
            raise TaskError(
                f"it returned no {missing[0]}, only {', '.join(map(str, given)) or 'an empty dict'}: {expected}"
            )
        foreign = [name for name in given if name not in names]
        if foreign:
            raise TaskError(
                f"it returned {foreign[0]!r:.60}, which is none of its metrics, {', '.join(names)}: name it in metrics"
            )
        values = {}
        for name in names:
            try:
                values[name] = float(given[name])
            except (TypeError, ValueError):
                raise TaskError(f"it returned {given[name]!r:.60} as {name}, which is not a number") from None
        problem = find_problem(values, self.metrics)
        if problem is not None:
            raise TaskError(problem)
        return values


def load_task(reference: str, texts: Sequence[str] = ()) -> LoadedTask:
    """Load a task by its reference, with some of its settings as texts NAME=VALUE.

    Raises:
        InputError: it cannot be loaded, is no task, or the settings cannot be used.
    """
    return make_task(read_source(reference), tuple(texts))


def make_task(source: TaskSource, texts: tuple[str, ...]) -> LoadedTask:
    """Return the task of a source; see load_task."""
    target, label = load_object(source), source.label
    if not callable(target):
        raise InputError(f"task {label} is a {type(target).__name__}: give a function or a class")
    fields = list_fields(target, label)
    values = read_settings(fields, texts, label)
    settings = dump_settings(fields, values, label)
    by_default = [field for field in fields if field.default is not MISSING]
    plain = dump_settings(by_default, {field.name: field.default for field in by_default}, label)
    if not inspect.isclass(target):
        if not any(each.kind is not each.KEYWORD_ONLY for each in inspect.signature(target).parameters.values()):
            raise InputError(f"task {label} takes no trial: write it as `def {source.name}(trial):`")
        return LoadedTask(source, texts, target, values, settings, plain, _read_objective_metrics(target, label), {})
    missing = [name for name in ("build", "data") if not callable(getattr(target, name, None))]
    if missing:
        raise InputError(
            f"task {label} has no {missing[0]}: a task class has build(self, pattern, seed) and data(self, seed)"
        )
    metrics, defaults = _read_class_metrics(target, label), _read_defaults(target, label)
    return LoadedTask(source, texts, _instantiate(target, values, label), values, settings, plain, metrics, defaults)


def _instantiate(target: Any, values: Mapping[str, Any], label: str) -> Any:
    try:
        if hasattr(target, "__dataclass_fields__"):
            return target(**values)
        instance = target()
        for name, value in values.items():
            setattr(instance, name, value)
    except InputError as error:
        raise InputError(f"task {label} cannot be made with its settings: {error}") from None
    except Exception as error:
        raise InputError(f"task {label} cannot be made with its settings: {describe_error(error, None)}") from None
    return instance


def _read_objective_metrics(target: Any, label: str) -> Metrics:
    maximized = _read_names(getattr(target, "maximize", ()), "maximize", label)
    names = _read_names(getattr(target, "metrics", ()), "metrics", label)
    if not names:
        names = tuple(dict.fromkeys(("loss", *maximized)))
    foreign = [name for name in maximized if name not in names]
    if foreign:
        raise InputError(f"task {label}: maximize names {foreign[0]}, which is none of its metrics, {', '.join(names)}")
    return _check_metrics({name: name in maximized for name in names}, label)


def _read_names(given: Any, attribute: str, label: str) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise InputError(f'task {label}: {attribute} is {given!r:.60}: give names, as ("loss", "accuracy")')
    return tuple(names)


def _read_class_metrics(target: Any, label: str) -> Metrics:
    given = getattr(target, "metrics", {"loss": "min"})
    if not isinstance(given, Mapping) or not given or not all(way in _DIRECTIONS for way in given.values()):
        raise InputError(f'task {label}: metrics is {given!r:.100}: give min or max by name, as {{"loss": "min"}}')
    return _check_metrics({name: _DIRECTIONS[way] for name, way in given.items()}, label)


def _check_metrics(directions: Mapping[Any, bool], label: str) -> Metrics:
    for name in directions:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "epoch":
            raise InputError(
                f"task {label}: a metric is called {name!r:.60}: give up to 40 letters, digits and _, and not epoch"
            )
    return tuple(Metric(name, maximize) for name, maximize in directions.items())


def _read_defaults(target: Any, label: str) -> dict[str, Any]:
    given = getattr(target, "defaults", {})
    if not isinstance(given, Mapping) or not set(given) <= set(TrainingConfig.model_fields):
        raise InputError(
            f"task {label}: defaults is {given!r:.100}: give values of {', '.join(TrainingConfig.model_fields)} by name"
        )
    return dict(given)


def _seed_all(seed: int) -> None:
    """Seed the generators that a task may draw from without one of its own."""
    own = derive_seed(seed, "task")
    random.seed(own)
    np.random.seed(own % 2**32)  # noqa: NPY002  for code that draws from numpy's older generator
    torch.manual_seed(own)


def _says_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)
