"""A run directory in use: held by one driver, its ledger open, its trainings executed."""

import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nas.checkpoints import FOLDER, SCRATCH
from nas.config import SearchConfig, format_toml
from nas.data import DataSet, check_split, find_largest_class
from nas.environment import describe_versions
from nas.executors import Source, StopFlag, Trainer, run_serial
from nas.ledger import SCHEMA, Ledger
from nas.lock import lock_run
from nas.ray_folder import sweep_ray_folders
from nas.settings import settle_config
from search_spaces.errors import Interrupted
from search_spaces.files import sweep_temporaries, write_atomic

RENEWED = frozenset(
    {"asked", "config", "environment"}
)  # attributes of the study that may change from one opening to the next


@contextmanager
def hold_run(run: Path, config: SearchConfig) -> Iterator[StopFlag]:
    """Hold a run directory, its settings checked and leftovers of killed runs swept, until the block ends.

    Yields:
        The flag that the first signal sets within the block.

    Raises:
        ConflictError: another process or another run holds the directory.
    """
    check_stop = StopFlag()
    with check_stop.installed(), lock_run(run):
        settle_config(run, None, config.model_dump(), type(config))  # again, now that nobody else can write it
        sweep(run)
        yield check_stop


def accept(ledger: Ledger, config: SearchConfig) -> None:
    """Write what a run was asked for, now that data, ledger and source are there and nothing refuses it any more.

    config.toml comes first: where a kill comes in between, its settings count as asked for, and the ledger follows.
    """
    write_atomic(ledger.run / "config.toml", format_toml(config))
    ledger.accept()


def sweep(run: Path) -> None:
    """Remove what killed processes left half-made in a run directory that is held."""
    shutil.rmtree(run / SCRATCH, ignore_errors=True)
    sweep_ray_folders(run)
    for folder in (run, run / FOLDER):
        sweep_temporaries(folder)


def open_ledger(run: Path, config: SearchConfig, data: DataSet, n_asked: int, **attributes: Any) -> Ledger:
    """The ledger of a run that is held, with all that its figures were measured with, to be accepted.

    Args:
        n_asked: candidates that the run ends with.
        attributes: of the study, beside the usual ones; an existing study must have the same.

    Raises:
        InputError: the data cannot be split so.
        ConflictError: see Ledger.
    """
    n_train, n_validation = check_split(data, config.seeds, config.train_examples, config.validation_examples)
    sizes = {"n_train": n_train, "n_validation": n_validation}
    largest = find_largest_class(data, config.train_examples, config.validation_examples)
    attributes |= describe_run(config, data, n_asked, sizes, largest)
    return Ledger(run / "study.db", attributes, RENEWED, config.deepest)


def describe_run(
    config: SearchConfig, data: DataSet, n_asked: int, sizes: Mapping[str, int], largest_class: float
) -> dict[str, Any]:
    """The attributes that the study of every run has.

    Args:
        sizes: numbers of examples by their part in the run, as n_train.
        largest_class: accuracy of always answering the largest class of the examples that are measured on. It is an
            attribute of its own, for `data` of a run that an older version began has to stay as it is.
    """
    described = {"name": data.name, "classes": data.n_classes, "image": list(data.image)}
    return {
        "asked": n_asked,
        "config": config.model_dump(mode="json"),
        "environment": describe_environment(config),
        "data": {**described, **sizes, "sha256": data.sha256},
        "largest_class": largest_class,
    }


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


def describe_environment(config: SearchConfig) -> dict[str, str]:
    """What figures were measured with: device and engine, versions, commit."""
    versions = describe_versions(("torch", "optuna", "numpy"))
    how = f"{config.engine} layers" + (f", {config.precision}" if config.precision != "float32" else "")
    return {"device": f"{name_device(config.device)}, {how}", **versions, "schema": str(SCHEMA)}


def name_device(device: str) -> str:
    """The device that trainings ran on, as reports say it."""
    if device == "cpu":
        return f"{platform.machine()} CPU, one thread a worker"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA, on a cluster"
