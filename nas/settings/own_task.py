"""What --task and --set mean: the task loaded, its defaults taken, and that of a run that exists not changed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.records.metrics import IMAGE_METRICS, Metrics, find_objective
from nas.settings.search import IMAGE_ONLY, SearchConfig
from nas.tasks.reference import IMAGES, resolve_reference, shorten_reference
from search_spaces.errors import ConflictError, InputError

if TYPE_CHECKING:
    from nas.tasks.loaded import LoadedTask


def settle_task(
    run: Path, recorded: object, stored: Mapping[str, Any], asked: Mapping[str, Any], model: type[SearchConfig]
) -> dict[str, Any]:
    """Return a run's settings by name, with what its task decides, where that is not images.

    Args:
        run: run directory.
        recorded: attribute `task` of the run's study; None where there is none.
        stored: settings that the run has already.
        asked: settings that are given now, and win.
        model: class of the settings.

    Raises:
        InputError: the task cannot be loaded, or a setting is not of it.
        ConflictError: the run has another task, or its file or settings were changed.
    """
    given = {**stored, **asked}
    task = given.get("task", IMAGES)
    _check_same(run, stored, asked)
    if task == IMAGES or not isinstance(task, str):
        return given
    foreign = [f"--{name.replace('_', '-')}" for name in sorted(IMAGE_ONLY & asked.keys())]
    if foreign:
        raise InputError(
            f"--task {shorten_reference(task)} has a network and data of its own, and {', '.join(foreign)} "
            f"{'is' if len(foreign) == 1 else 'are'} of the image networks (--network stands for such flags too): drop "
            "them, or give settings of the task by --set NAME=VALUE"
        )
    if "task" in model.without_flags:
        raise InputError(
            f"task {shorten_reference(task)}: a {model.kind} is of image networks only: use search or study"
        )
    texts = given.get("set", ())
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        return given  # which the model refuses
    loaded = _load(task, texts)
    _check_unchanged(run, recorded, loaded)
    given = {**loaded.defaults, **given, "task": resolve_reference(task), "set": list(_list_given(loaded))}
    given["objective"] = find_objective(given.get("objective"), loaded.metrics).name
    has_regimes = given.get("regime") or given.get("tune_lr")
    if loaded.is_objective and "regime" in model.model_fields and not has_regimes:
        # Whether it reads trial.training.lr is not known: by default it is trained in one way.
        given["regime"] = [f"as given=epochs:{given.get('epochs', model.model_fields['epochs'].default)}"]
    return given


def load_task_of(config: SearchConfig) -> "LoadedTask":
    """Return the task of settings, which is not images."""
    return _load(config.task, config.set)


def find_metrics(config: SearchConfig) -> Metrics:
    """Return the metrics of a run's task, the primary one first."""
    return IMAGE_METRICS if config.task == IMAGES else load_task_of(config).metrics


def _load(reference: str, texts: Sequence[str]) -> "LoadedTask":
    from nas.tasks.loaded import load_task  # torch takes seconds, which a run on images loads later

    return load_task(reference, texts)


def _check_same(run: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse another task than the run's; its file may have been moved."""
    own, now = stored.get("task", IMAGES), asked.get("task")
    if stored and isinstance(now, str) and shorten_reference(now) != shorten_reference(own):
        raise ConflictError(
            f"{run} holds a run of other settings: task {own!r} there, {now!r} now. Give another --run, or drop "
            "this flag"
        )


def _check_unchanged(run: Path, recorded: object, loaded: "LoadedTask") -> None:
    """Refuse a task whose file or settings are not those that the run's trainings were made with."""
    if not isinstance(recorded, Mapping):
        return
    now = loaded.describe()
    if recorded.get("sha256") != now["sha256"]:
        raise ConflictError(
            f"{loaded.source.path} was changed since {run} was begun, so further trainings would be of another task: "
            f"its SHA-256 was {recorded.get('sha256')!s:.12}, and is {now['sha256']!s:.12} now. Put the file "
            "back as it was, or give another --run"
        )
    if recorded.get("data") != now.get("data"):
        raise ConflictError(
            f"{run} was begun with other data: {recorded.get('data')} there, {now.get('data')} now. Put them back as "
            "they were, or give another --run"
        )
    before, after = recorded.get("settings"), now["settings"]
    before = before if isinstance(before, Mapping) else {}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        said = "; ".join(f"{name} {before.get(name)!r} there, {after.get(name)!r} now" for name in changed)
        raise ConflictError(
            f"{run} holds trainings of other settings of {loaded.source.label}: {said}. Give another --run, or drop "
            "--set"
        )


def _list_given(loaded: "LoadedTask") -> list[str]:
    """Return the settings that are not at their defaults, as texts."""
    texts = []
    for name, value in loaded.settings.items():
        if value != loaded.default_settings.get(name):
            texts.append(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    return texts
