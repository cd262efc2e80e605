"""What trains: searches and studies."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from search_spaces.errors import InputError
from skipsearch.runs import Run, import_bar, load_run
from skipsearch.tasks import AnyTask, keep_task
from skipsearch.words import in_python

if TYPE_CHECKING:
    from typing import Unpack

    from nas.records.trial import Trial
    from nas.run.source import Listener
    from nas.settings.search import SearchConfig
    from nas.settings.study import StudyConfig
    from skipsearch.settings import SearchSettings, StudySettings

Config = TypeVar("Config", bound="SearchConfig")
REPEATED = ("log", "pattern", "regime", "set")  # settings that are lists of texts
logger = logging.getLogger(__name__)


def search(
    task: AnyTask | None = None,
    *,
    run: str | Path,
    config: str | Path | None = None,
    network: str | None = None,
    recipe: str | None = None,
    progress: bool = True,
    **settings: "Unpack[SearchSettings]",
) -> Run:
    """Train patterns under a budget, write the report and the best templates, and return the run.

    The same call again continues an interrupted run; on a run that exists, `run` is enough.

    Args:
        task: what is trained: an objective or a task class, or a reference as FILE.py:NAME; by default images.
        run: the run directory.
        config: TOML file of settings, which those given here win over.
        network: name of a published network whose stem, transitions and sizes are used.
        recipe: training schedule by name: a paper's, such as densenet, or short.
        progress: whether a bar shows the trainings as they end.
        settings: the command's flags, with _ for -. One that is None counts as not given.

    Raises:
        InputError: a setting cannot be used.
        ConflictError: the run has other settings, or another process works on it.
        NothingUsableError: every training failed.
        KeyboardInterrupt: Ctrl-C; what is finished is kept.
    """

    def settle(given: Mapping[str, Any]) -> "SearchConfig":
        from commands.training import find_table
        from nas.settings.resume import settle_config
        from nas.settings.search import SearchConfig

        return settle_config(Path(run), _find_path(config), given, SearchConfig, find_table)

    def train(settled: "SearchConfig", listener: "Listener") -> None:
        from nas.search.loop import run_search

        run_search(Path(run), settled, listener)

    return _drive(Path(run), task, {**settings, "network": network, "recipe": recipe}, progress, _Kind(settle, train))


def study(
    task: AnyTask | None = None,
    *,
    run: str | Path,
    config: str | Path | None = None,
    network: str | None = None,
    recipe: str | None = None,
    progress: bool = True,
    **settings: "Unpack[StudySettings]",
) -> Run:
    """Train a design that crosses measures of patterns, with controls, and return what they explain.

    The plan is laid out and hashed before the first training. The same call again continues an interrupted study.

    Args:
        task, run, config, network, recipe, progress, settings: as of search.

    Raises:
        InputError, ConflictError, NothingUsableError, KeyboardInterrupt: as search.
    """

    def settle(given: Mapping[str, Any]) -> "StudyConfig":
        from nas.settings.resume import settle_config
        from nas.settings.study import StudyConfig

        return settle_config(Path(run), _find_path(config), given, StudyConfig)

    def train(settled: "StudyConfig", listener: "Listener") -> None:
        from analysis.data.protocol import describe_protocol
        from nas.settings.own_task import find_metrics
        from nas.studies.study import run_study

        run_study(Path(run), settled, describe_protocol(settled.measures, find_metrics(settled)), listener)

    return _drive(Path(run), task, {**settings, "network": network, "recipe": recipe}, progress, _Kind(settle, train))


@dataclass(frozen=True)
class _Kind(Generic[Config]):
    """How a kind of run reads its settings, and how it trains all that they ask for."""

    settle: "Callable[[Mapping[str, Any]], Config]"
    train: "Callable[[Config, Listener], None]"


def _drive(run: Path, task: AnyTask | None, settings: Mapping[str, Any], progress: bool, kind: "_Kind[Config]") -> Run:
    """Train all that a run asks for, then write its report and templates."""
    import_bar()  # first: Optuna imports it too, and not silently
    from commands.runs import annotate
    from commands.training import write_results
    from nas.run.lock import lock_run

    if threading.current_thread() is not threading.main_thread():
        raise InputError("a run handles Ctrl-C, which reaches the main thread only: call this there, or in a process")
    given = {name: _make_plain(name, value) for name, value in settings.items() if value is not None}
    with in_python(), lock_run(run), nullcontext() if task is None else keep_task(task, run) as reference:
        settled = kind.settle(given if reference is None else {**given, "task": reference})

        from nas.run.following import follow

        with follow(run, settled, logger.warning) as followers:
            with _show_progress(progress) as listener:
                kind.train(settled, followers.listen(listener))
            written = write_results(run)
            annotate(run, written.conclusion)
            followers.end(written.paths)
        return load_run(run)


def _find_path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _make_plain(name: str, value: Any) -> Any:
    """Return a setting as settings take it: paths as texts, lists as tuples, a task's own settings as NAME=VALUE.

    One text stands for a list of one.

    >>> _make_plain("set", {"width": 16, "kind": "wide"}), _make_plain("pattern", [Path("a.json")])
    (('width=16', 'kind=wide'), ('a.json',))
    >>> _make_plain("log", "tensorboard")
    ('tensorboard',)
    """
    if name == "set" and isinstance(value, Mapping):
        return tuple(f"{key}={each if isinstance(each, str) else json.dumps(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(_make_plain("", each) for each in value)
    plain = str(value) if isinstance(value, Path) else value
    return (plain,) if name in REPEATED and isinstance(plain, str) else plain


@contextmanager
def _show_progress(is_shown: bool) -> "Iterator[Listener]":
    """Show trainings as they end by a bar, in a notebook as on a terminal."""
    if not is_shown:
        yield lambda *_: None
        return
    from commands.terminal import describe_training

    tqdm = import_bar()
    bar: Any = None

    def listen(trial: "Trial | None", n_finished: int, n_asked: int) -> None:
        nonlocal bar
        if bar is None:  # not before: settings may be refused
            bar = tqdm(total=n_asked, initial=n_finished, unit="training")
        if trial is not None:
            bar.set_postfix_str(describe_training(trial), refresh=False)
            bar.update(n_finished - bar.n)

    try:
        yield listen
    finally:
        if bar is not None:
            bar.close()
