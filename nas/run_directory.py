"""A run directory in use: held by one driver, its ledger open, its trainings executed."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nas.checkpoints import FOLDER, SCRATCH
from nas.config import SearchConfig, format_toml
from nas.data import DataSet, check_split
from nas.executors import Source, StopFlag, Trainer, run_serial
from nas.ledger import SCHEMA, Ledger
from nas.lock import lock_run
from nas.settings import settle_config
from search_spaces.errors import Interrupted
from search_spaces.files import write_atomic

RENEWED = frozenset({"asked", "config", "environment"})  # attributes of the study that each opening writes anew


@contextmanager
def hold_run(run: Path, config: SearchConfig) -> Iterator[StopFlag]:
    """Hold a run directory, its settings written and leftovers of killed runs swept, until the block ends.

    Yields:
        The flag that the first signal sets within the block.

    Raises:
        ConflictError: another process or another run holds the directory.
    """
    check_stop = StopFlag()
    with check_stop.installed(), lock_run(run):
        settle_config(run, None, config.model_dump(), type(config))  # again, now that nobody else can write it
        sweep(run)
        write_atomic(run / "config.toml", format_toml(config))
        yield check_stop


def sweep(run: Path) -> None:
    """Remove what killed processes left half-made in a run directory that is held."""
    shutil.rmtree(run / SCRATCH, ignore_errors=True)
    for folder in (run, run / FOLDER):
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)  # a worker that outlived its driver may be faster


def open_ledger(run: Path, config: SearchConfig, data: DataSet, n_asked: int, **attributes: Any) -> Ledger:
    """The ledger of a run that is held, with all that its figures were measured with.

    Args:
        n_asked: candidates that the run ends with.
        attributes: of the study, beside the usual ones; an existing study must have the same.

    Raises:
        InputError: the data cannot be split so.
        ConflictError: see Ledger.
    """
    n_train, n_validation = check_split(data, config.seeds, config.train_examples, config.validation_examples)
    described = {
        "name": data.name,
        "classes": data.n_classes,
        "image": list(data.image),
        "n_train": n_train,
        "n_validation": n_validation,
        "sha256": data.sha256,
    }
    attributes |= {
        "asked": n_asked,
        "config": config.model_dump(mode="json"),
        "environment": describe_environment(config.device),
        "data": described,
    }
    return Ledger(run / "study.db", attributes, RENEWED, config.deepest)


def execute(source: Source, trainer: Trainer, check_stop: StopFlag, n_left: int) -> None:
    """Train all of a source's candidates, n_left of them, by as many workers as the settings say.

    One worker on this machine is this process, unless trainings have a time limit: only another process can be ended.

    Raises:
        MachineError: the machine, or the cluster, cannot do it.
        Interrupted: a signal came; what is finished has been told.
    """
    config = trainer.config
    n_workers = config.workers if config.workers == "auto" else min(config.workers, n_left)
    try:
        if n_left == 0:
            return
        if n_workers == 1 and config.trial_timeout is None and config.ray_address is None:
            run_serial(source, trainer, check_stop)
        else:
            from nas.ray_executor import run_ray

            run_ray(source, trainer, check_stop, n_workers)
    except Interrupted:
        source.give_back()
        raise


def describe_environment(device: str) -> dict[str, str]:
    """What figures were measured with: device, versions, commit."""
    return {
        "device": _name_device(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "optuna": version("optuna"),
        "numpy": version("numpy"),
        "skipsearch": _own_version(),
        "commit": _own_commit(),
        "schema": str(SCHEMA),
    }


def _name_device(device: str) -> str:
    if device == "cpu":
        return f"{platform.machine()} CPU, one thread a worker"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA, on a cluster"


def _own_version() -> str:
    try:
        return version("skipsearch")
    except PackageNotFoundError:
        return "not installed"


def _own_commit() -> str:
    """The commit of the checkout that this file lies in, `-dirty` with changes; `unknown` outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
