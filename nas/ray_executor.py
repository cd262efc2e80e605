"""Trainings through Ray Tune, several at a time: the only importer of ray."""

import json
import logging
import os
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Read by Ray when it is imported: no telemetry, no files of Tune's own, the older of its two printers, which can be
# silenced, and no SIGINT handler of Tune's, which would make an interrupted run look finished.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import ray
from ray import tune
from ray.tune.search import Searcher

from nas.executors import Source, StopFlag, Trainer
from nas.train import Outcome


class LedgerSearcher(Searcher):
    """Hands a source's candidates to Tune and Tune's results to the source.

    Args:
        source: gives candidates and takes outcomes, in this process.
        n_workers: candidates handed out at a time.
        check_stop: set once a signal came; what ends then has no outcome.
    """

    def __init__(self, source: Source, n_workers: int, check_stop: StopFlag) -> None:
        super().__init__()
        self._source = source
        self._n_workers = n_workers
        self._check_stop = check_stop
        self._numbers: dict[str, int] = {}  # Tune's trial id -> the candidate's number
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        """The next candidate as a Tune config, None while all workers are busy, FINISHED when none is left."""
        if len(self._numbers) >= self._n_workers:
            return None
        with self._keep_error():
            task = self._source.ask()
        if task is None:
            return None if self._numbers else Searcher.FINISHED  # what is running may be lost, and asked again
        self._numbers[trial_id], candidate = task
        return {"candidate": candidate}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Bring the outcome home. An error that reaches Tune left no result: the worker itself died."""
        number = self._numbers.pop(trial_id, None)
        if number is None or self._check_stop.signal_number is not None:
            # A signal ends workers too: their candidates stay running and are trained again on resume.
            return
        with self._keep_error():
            if error or result is None:
                self._source.lose(number, "worker died")
            else:
                self._source.tell(number, _read_outcome(result))

    @contextmanager
    def _keep_error(self) -> Iterator[None]:
        """Keep what goes wrong on our side: Tune would take it for the trial's failure and go on."""
        try:
            yield
        except Exception as error:
            self.error = error
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that we never ask of it


class _StopCallback(tune.Callback):
    """Ends Tune's loop on a signal or an error of ours, between two turns: a safe point, with no write under way."""

    def __init__(self, searcher: LedgerSearcher, check_stop: StopFlag) -> None:
        self._searcher = searcher
        self._check_stop = check_stop

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002  Tune's form
        self._check_stop()
        if self._searcher.error is not None:
            raise self._searcher.error

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _train(config: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """What a worker runs for one candidate."""
    try:
        outcome = trainer.train(config["candidate"])
    except Exception:  # Tune would tell the searcher that there was an error, but not which
        return {"crash": traceback.format_exc()}
    return {"outcome": json.dumps(outcome.to_dict(), allow_nan=False)}  # text: Tune flattens a dict


def _read_outcome(result: dict[str, Any]) -> Outcome:
    if "crash" in result:
        raise RuntimeError(f"a training crashed in its worker:\n{result['crash']}")
    return Outcome.from_dict(json.loads(result["outcome"]))


def run_ray(source: Source, trainer: Trainer, check_stop: StopFlag, n_workers: int) -> None:
    """Train the source's candidates, n_workers at a time, each in a process of its own on a Ray started for this run.

    Raises:
        Interrupted: a signal came; the candidates being trained have no outcome.
    """
    n_gpus = n_workers if trainer.config.device == "cuda" else 0
    # "local": never join a cluster that somebody else runs on this machine.
    ray.init(
        address="local",
        num_cpus=n_workers,
        num_gpus=n_gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        # Once more: ray.init put a SIGTERM handler of its own in the place of ours.
        with check_stop.installed(), tempfile.TemporaryDirectory(prefix="skipsearch-tune-") as folder:
            _fit(source, trainer, check_stop, n_workers, folder)
    finally:
        ray.shutdown()


def _fit(source: Source, trainer: Trainer, check_stop: StopFlag, n_workers: int, folder: str) -> None:
    trainable = tune.with_resources(
        tune.with_parameters(_train, trainer=trainer),
        {"cpu": 1, "gpu": 1 if trainer.config.device == "cuda" else 0},
    )
    searcher = LedgerSearcher(source, n_workers, check_stop)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,  # until the searcher says FINISHED
            reuse_actors=True,  # 0.07 s a candidate where a new process takes seconds to import torch
        ),
        run_config=tune.RunConfig(
            storage_path=folder,
            verbose=0,
            callbacks=[_StopCallback(searcher, check_stop)],
            failure_config=tune.FailureConfig(max_failures=0),  # a retry of Tune's would be invisible to the ledger
        ),
    )
    try:
        tuner.fit()
    except tune.TuneError:
        if searcher.error is None:
            raise
    if searcher.error is not None:
        raise searcher.error
