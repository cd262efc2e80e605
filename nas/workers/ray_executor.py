"""Several trainings at a time, by Ray Tune."""

import faulthandler
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

# Tune reads these when it is imported or later.
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Tune's handler makes an interrupted run look finished
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no files of Tune's
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the older of Tune's printers can be silenced
os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1000"  # the default of 1 starts workers one after the other

from ray import tune
from ray.tune.search import Searcher

from nas.records.safe_files import TEMPORARY
from nas.records.trial import Outcome
from nas.tasks.task import OwnTask
from nas.training.checkpoints import FOLDER, SCRATCH
from nas.training.stepping import KeptStepper
from nas.workers.cluster import LostRayError, Pulse, check_nodes, share_gpus
from nas.workers.identity import check_worker, describe_worker
from nas.workers.jobs import Cohorts, Job, LostDeviceError, LostError, Source, report
from nas.workers.ray_start import running_ray
from nas.workers.stop import StopFlag
from nas.workers.trainer import Trainer
from search_spaces.errors import MachineError


class LedgerSearcher(Searcher):
    """Gives a source's jobs to Tune and Tune's results to the source.

    Args:
        n_workers: number of cohorts in training at a time.
        size: largest number of jobs in a cohort.
        check_stop: flag of a signal, after which trainings that end have no outcome.
        device: the device that the run trains on.
    """

    def __init__(self, source: Source, n_workers: int, size: int, check_stop: StopFlag, device: str) -> None:
        super().__init__()
        self._device = device
        self._own = describe_worker(device)
        self._source = source
        self._cohorts = Cohorts(source, size)
        self._n_workers = n_workers
        self._check_stop = check_stop
        self._numbers: dict[str, list[int]] = {}  # Tune's trial id -> its candidates' numbers
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        """Return the next cohort as a Tune config, None while all workers are busy, FINISHED when none is left."""
        if len(self._numbers) >= self._n_workers:
            return None
        with self._keep_error():
            jobs = self._cohorts.ask()
        if not jobs:
            return None if self._numbers else Searcher.FINISHED  # a running cohort may be lost, and then comes again
        self._numbers[trial_id] = [job.number for job in jobs]
        return {"jobs": jobs, "sources": self._own["sources"]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Give a trial's outcomes to the source; an error comes through `lose` instead, with its reason."""
        if error or self._check_stop.signal_number is not None:
            return  # a signal ends workers too: their candidates stay running and are trained again on resume
        numbers = self._numbers.pop(trial_id)
        with self._keep_error():
            if result is None:
                results: list[Outcome | LostError] = [LostError("worker ended without a result")] * len(numbers)
            else:
                theirs = json.loads(result["worker"]) if "worker" in result else None
                check_worker(f"{result['hostname']} ({result['node_ip']})", theirs, self._own, self._device)
                results = _read_results(result)
            for number, outcome in zip(numbers, results, strict=True):
                report(self._source, number, outcome)

    def numbers_of(self, trial_id: str) -> list[int]:
        """Return the numbers of a trial's candidates; empty once Tune has its result."""
        return self._numbers.get(trial_id, [])

    def lose(self, trial_id: str, reason: str | None) -> None:
        """Report a trial whose worker died for this reason, or whose node died, which costs no attempt (None)."""
        if self._check_stop.signal_number is None:
            with self._keep_error():
                for number in self._numbers.pop(trial_id):
                    if reason is None:
                        self._source.put_back(number)
                    else:
                        self._source.lose(number, reason)

    @contextmanager
    def _keep_error(self) -> Iterator[None]:
        """Keep an error of ours: Tune would take it for the trial's failure and continue."""
        try:
            yield
        except Exception as error:
            self.error = error
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that we never ask of it


class _EndedError(BaseException):
    """Ray has ended. Not an Exception: after one Tune cleans up, which takes a minute and then ends the process."""


class _Watch(tune.Callback):
    """Ends Tune's loop on a signal, an error of ours or Ray's end, and reports dead workers to the searcher."""

    def __init__(self, searcher: LedgerSearcher, trainer: Trainer, check_stop: StopFlag, pulse: Pulse) -> None:
        self._searcher = searcher
        self._trainer = trainer
        self._check_stop = check_stop
        self._pulse = pulse

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002  Tune's form
        self._check_stop()  # a safe point: nothing is being written
        if self._searcher.error is not None:
            raise self._searcher.error
        self._look()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._look(at_once=True)  # no candidate is to blame if Ray itself has ended
        numbers = self._searcher.numbers_of(trial.trial_id)
        if not numbers:
            return
        try:
            node = self._pulse.find_dead_node()
        except LostRayError as error:
            raise _EndedError from error
        reason = None if node is not None else _explain_death(self._trainer, numbers, _read_error(trial))
        self._searcher.lose(trial.trial_id, reason)

    def _look(self, at_once: bool = False) -> None:
        if self._check_stop.signal_number is not None:
            return  # the signal may have ended Ray's processes too
        try:
            self._pulse.check(at_once)
        except LostRayError as error:
            raise _EndedError from error

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _read_error(trial: Any) -> str:
    """Return Ray's text about a trial's end; Tune's get_error does not find it yet."""
    try:
        return Path(trial.error_file).read_text(errors="replace")
    except OSError:
        return ""


def _explain_death(trainer: Trainer, numbers: Sequence[int], text: str) -> str:
    """Return in a line why a worker died, from the stack that it left and from Ray's text."""
    stack = _stack_path(trainer, numbers[0])
    if stack is not None and stack.exists() and (frames := stack.read_text()):
        stack.unlink()
        ours = re.search(_find_code(trainer) + r'", line (\d+) in (\w+)', frames)
        where = f" at {ours[1]}:{ours[2]}, {ours[3]}" if ours else ""
        times = f" x {len(numbers)}" if len(numbers) > 1 else ""
        return f"over the trial timeout of {trainer.config.trial_timeout:g} s{times}{where}"
    if "running low on memory" in text:
        return "worker died: its node ran out of memory"
    if unreadable := re.search(r"RaySystemError: System error: (.+)", text):  # of what Ray hands to it, the task too
        return f"worker cannot load what it is to train: {unreadable[1]:.300}"
    return "worker died"


def _find_code(trainer: Trainer) -> str:
    """Return a regular expression of the files whose line says where a training was: its task's, or ours."""
    if isinstance(trainer.data, OwnTask):
        folder, name = os.path.split(trainer.data.loaded.source.path)
        return f"{re.escape(folder)}/({re.escape(name)})"
    return r"/nas/(?:\w+/)*(\w+\.py)"


def _stack_path(trainer: Trainer, number: int) -> Path | None:
    """Return where a worker over its time limit leaves its stack; None on a node without the run directory."""
    if trainer.run is None or not trainer.run.is_dir():
        return None
    return trainer.run / FOLDER / f".{number:06d}.stack{TEMPORARY}"


_KEPT = KeptStepper()  # of this worker: Tune brings a new trainer with every cohort


def _train(config: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """Train one cohort in a worker."""
    own = describe_worker(trainer.config.device)
    result = {"worker": json.dumps(own)}  # text: Tune flattens a dict
    if own["sources"] == config["sources"]:  # else the driver refuses this worker
        result |= _train_cohort(config["jobs"], trainer)
    return result


def _train_cohort(jobs: list[Job], trainer: Trainer) -> dict[str, str]:
    try:
        with _time_limit(trainer, jobs):
            results = replace(trainer, kept=_KEPT).train_cohort(jobs)
    except OSError as error:
        return {"machine": f"a worker cannot write its checkpoint: {error}"}
    except LostDeviceError as error:  # Tune starts another process
        print(error, file=sys.stderr, flush=True)  # noqa: T201
        os._exit(error.exit_code)
    except MachineError as error:
        return {"machine": str(error)}
    except Exception:  # Tune would not tell the searcher which error it was
        return {"crash": traceback.format_exc()}
    values = [{"lost": str(one)} if isinstance(one, LostError) else one.to_dict() for one in results]
    return {"results": json.dumps(values, allow_nan=False)}


@contextmanager
def _time_limit(trainer: Trainer, jobs: Sequence[Job]) -> Iterator[None]:
    """Write this process's stack and end it if the block takes longer than its trainings may.

    faulthandler's watchdog needs neither the interpreter's lock nor a working interpreter.
    """
    seconds = trainer.config.trial_timeout
    if seconds is None:
        yield
        return
    path = _stack_path(trainer, jobs[0].number) or Path(os.devnull)
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as stream:
        faulthandler.dump_traceback_later(seconds * len(jobs), exit=True, file=stream)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    if path != Path(os.devnull):
        path.unlink(missing_ok=True)


def _read_results(result: dict[str, Any]) -> list[Outcome | LostError]:
    if "machine" in result:
        raise MachineError(result["machine"])
    if "crash" in result:
        raise RuntimeError(f"a training crashed in its worker:\n{result['crash']}")
    values = json.loads(result["results"])
    return [LostError(one["lost"]) if "lost" in one else Outcome.from_dict(one) for one in values]


def run_ray(source: Source, trainer: Trainer, check_stop: StopFlag, n_workers: int | Literal["auto"]) -> None:
    """Train the source's candidates on Ray, n_workers cohorts at a time, each in its own process.

    Args:
        n_workers: number of workers; auto: as many as a cluster can hold.

    Raises:
        MachineError: the cluster does not answer, cannot hold so many workers, or has nodes of another version.
        LostRayError: Ray ended, and its candidates were given back.
        Interrupted: a signal came; the candidates being trained have no outcome.
    """
    config = trainer.config
    try:
        with check_stop.installed(), running_ray(config, trainer.run, n_workers, check_stop) as n_at_a_time:
            logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
            if config.ray_address is not None:
                with check_stop.at_once():
                    check_nodes(config)
            _fit(source, trainer, check_stop, n_at_a_time)
    except LostRayError:
        source.give_back()
        raise


def _fit(source: Source, trainer: Trainer, check_stop: StopFlag, n_workers: int) -> None:
    trainable = tune.with_resources(
        tune.with_parameters(_train, trainer=trainer), {"cpu": 1, "gpu": share_gpus(trainer.config)}
    )
    searcher = LedgerSearcher(source, n_workers, trainer.cohort, check_stop, trainer.config.device)
    pulse = Pulse(trainer.config)
    with _scratch_folder(trainer.run) as folder:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,  # until the searcher says FINISHED
                reuse_actors=True,  # 0.07 s a candidate; a new process takes seconds to import torch
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder),
                verbose=0,
                callbacks=[_Watch(searcher, trainer, check_stop, pulse)],
                failure_config=tune.FailureConfig(max_failures=0),  # the ledger would not see a retry by Tune
            ),
        )
        try:
            tuner.fit()
        except _EndedError as ended:
            assert isinstance(ended.__cause__, LostRayError)
            raise ended.__cause__ from None
        except Exception:  # a Ray that has ended raises nearly anything
            if searcher.error is None:
                pulse.check(at_once=True)
                raise
    if searcher.error is not None:
        raise searcher.error
    check_stop()
    pulse.check(at_once=True)  # Tune may take the end of Ray for the end of the run


@contextmanager
def _scratch_folder(run: Path | None) -> Iterator[Path]:
    """Make a folder for Tune in the run directory, whose next start removes it if this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="skipsearch-tune-")) if run is None else run / SCRATCH
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
