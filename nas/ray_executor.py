"""Trainings through Ray Tune, several at a time: the only importer of ray."""

import logging
import os
import tempfile
from typing import Any

# Read by Ray when it is imported: no telemetry, no files of Tune's own, and no SIGINT handler of Tune's, which would
# make an interrupted run look finished.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"

import ray
from ray import tune
from ray.tune.search import Searcher

from nas.executors import Source, StopFlag, Trainer, failed
from nas.train import Outcome


class LedgerSearcher(Searcher):
    """Hands a source's candidates to Tune and Tune's results to the source.

    Args:
        source: gives candidates and takes outcomes, in this process.
        n_workers: candidates handed out at a time.
        check_stop: set once a signal came; what ends then has no outcome.
    """

    def __init__(self, source: Source, n_workers: int, check_stop: StopFlag) -> None:
        super().__init__(metric="done", mode="max")
        self._source = source
        self._n_workers = n_workers
        self._check_stop = check_stop
        self._numbers: dict[str, int] = {}  # Tune's trial id -> the candidate's number

    def suggest(self, trial_id: str) -> Any:
        """The next candidate as a Tune config, None while all workers are busy, FINISHED when none is left."""
        if len(self._numbers) >= self._n_workers:
            return None
        task = self._source.ask()
        if task is None:
            return Searcher.FINISHED
        self._numbers[trial_id], candidate = task
        return {"candidate": candidate}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Bring the outcome home. An error that reaches Tune left no result: the worker itself died."""
        number = self._numbers.pop(trial_id)
        if self._check_stop.signal_number is not None:
            return  # a signal ends workers too: their candidates stay running and are trained again on resume
        if error or result is None:
            self._source.tell(number, failed("worker died"))
        else:
            self._source.tell(number, Outcome.from_dict(result["outcome"]))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that we never ask of it


class _StopCallback(tune.Callback):
    """Looks at the flag on every turn of Tune's loop: a safe point, with no write under way."""

    def __init__(self, check_stop: StopFlag) -> None:
        self._check_stop = check_stop

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002  Tune's form
        self._check_stop()

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _train(config: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """What a worker runs for one candidate."""
    return {"outcome": trainer.train(config["candidate"]).to_dict(), "done": 1}


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
        with tempfile.TemporaryDirectory(prefix="skipsearch-tune-") as folder:
            _fit(source, trainer, check_stop, n_workers, folder)
    finally:
        ray.shutdown()


def _fit(source: Source, trainer: Trainer, check_stop: StopFlag, n_workers: int, folder: str) -> None:
    trainable = tune.with_resources(
        tune.with_parameters(_train, trainer=trainer),
        {"cpu": 1, "gpu": 1 if trainer.config.device == "cuda" else 0},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearcher(source, n_workers, check_stop),
            num_samples=-1,  # until the searcher says FINISHED
            reuse_actors=True,  # 0.07 s a candidate where a new process takes seconds to import torch
        ),
        run_config=tune.RunConfig(
            storage_path=folder,
            verbose=0,
            callbacks=[_StopCallback(check_stop)],
            failure_config=tune.FailureConfig(max_failures=0),  # a retry of Tune's would be invisible to the ledger
        ),
    )
    tuner.fit()
