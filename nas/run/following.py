"""The loggers of a run: shown every training by the driver, and the report at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import optuna

from nas.loggers.registry import find_loggers
from nas.loggers.relay import Relay, mutable_outputs, quiet
from nas.records.database import STUDY_NAME, read_attributes, read_kind, storage_url
from nas.records.metrics import read_metrics
from nas.records.trial import Trial
from nas.run.source import Listener
from nas.settings.search import SearchConfig


class Followers:
    """The loggers that follow a run; there may be none.

    Args:
        run: the run directory.
        config: the run's settings, whose `log` names the loggers.
        say: function that shows the user a sentence, from any thread.

    Raises:
        InputError: see find_loggers.
    """

    def __init__(self, run: Path, config: SearchConfig, say: Callable[[str], None]) -> None:
        self._run = run
        self._config = config
        self._has_started = False

        def speak(text: str) -> None:
            with quiet(False):
                say(text)

        self._relays = [Relay(name, make, run, speak) for name, make in find_loggers(config.log).items()]

    def listen(self, listener: Listener) -> Listener:
        """Return a listener that also shows the loggers what ends; first what ended before, and they were not shown."""

        def hear(trial: Trial | None, n_finished: int, n_asked: int) -> None:
            listener(trial, n_finished, n_asked)
            if trial is None:
                self._start()
                earlier = list_ended(self._run) if n_finished else []
            for ended in earlier if trial is None else [trial]:
                for relay in self._relays:
                    relay.take(ended)

        return hear if self._relays else listener

    def _start(self) -> None:
        for relay in self._relays:
            relay.start(self._config.model_dump(mode="json"))
        self._has_started = True

    def end(self, report: Sequence[Path] = ()) -> None:
        """Show the loggers a run's end, once, and wait for them; without a report only for moments."""
        if self._has_started:
            self._has_started = False
            for relay in self._relays:
                relay.end(report)


@contextmanager
def follow(run: Path, config: SearchConfig, say: Callable[[str], None]) -> Iterator[Followers]:
    """Let the loggers in the settings follow a run inside the block, which calls `end` if all went well.

    Raises:
        InputError: see find_loggers.
    """
    followers = Followers(run, config, say)
    with ExitStack() as stack:
        if config.log:
            stack.enter_context(mutable_outputs())
        try:
            yield followers
        finally:
            followers.end()


def list_ended(run: Path) -> list[Trial]:
    """Return the trainings of a run that have ended, in order, as its listener gets them.

    In a comparison their template is the network's name: see Assignment.label.
    """
    path = run / "study.db"
    attributes = read_attributes(path)
    metrics = read_metrics(attributes.get("metrics"))
    study = optuna.load_study(study_name=STUDY_NAME, storage=storage_url(path))
    trials = (Trial.from_optuna(trial, metrics) for trial in study.get_trials(deepcopy=False))
    ended = [trial for trial in trials if not trial.running]
    if read_kind(attributes) == "comparison":
        return [replace(trial, template=trial.regime) for trial in ended]
    return ended
