"""A run directory in use: locked by one driver, its ledger open, its trainings executed."""

import logging
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nas.data.data_set import DataSet
from nas.data.readers import load_data
from nas.data.splits import check_split, find_largest_class
from nas.model.cost import predict_training_bytes
from nas.records.safe_files import sweep_temporaries, write_atomic
from nas.records.trial import SCHEMA
from nas.run.ledger import Ledger
from nas.run.lock import lock_run
from nas.run.proxies import ProxyRecorder
from nas.run.source import LedgerSource
from nas.settings.environment import describe_plugins, describe_versions
from nas.settings.machine import measure_memory
from nas.settings.own_task import load_task_of
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.toml import format_toml
from nas.tasks.costs import Costs
from nas.tasks.reference import IMAGES
from nas.tasks.task import ImageTask, OwnTask, Task
from nas.training.checkpoints import FOLDER, SCRATCH
from nas.workers.jobs import Source
from nas.workers.ray_folder import sweep_ray_folders
from nas.workers.stop import StopFlag
from nas.workers.trainer import Material, Trainer, run_serial
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError, Interrupted

logger = logging.getLogger(__name__)
# Attributes of the study that may change from one opening to the next.
RENEWED = frozenset({"asked", "config", "environment", "plugins", "cost", "examples"})


def prepare_data(config: SearchConfig, depths: Sequence[int]) -> Material:
    """Load what a run trains on: its data set, or a task of the user's own.

    Args:
        config: the run's settings, from settle_config.
        depths: numbers of layers of the run's patterns.

    Raises:
        InputError: see prepare_images; or the task cannot be loaded.
    """
    return prepare_images(config, depths) if config.task == IMAGES else prepare_own(config, depths)


def prepare_own(config: SearchConfig, depths: Sequence[int]) -> OwnTask:
    """Load a task of the user's own, measure what its networks cost, and say both.

    Raises:
        InputError: the task cannot be loaded.
    """
    loaded = load_task_of(config)
    costs = Costs(loaded, config.transition)
    costs.measure(parse_budget(text, depth) for depth in depths for text in config.budgets)
    names = ", ".join(metric.name + (" (more is better)" if metric.maximize else "") for metric in loaded.metrics)
    tell_data = getattr(loaded.target, "tell_data", None)  # in a line, where a class can
    data = "" if tell_data is None else f"; data: {tell_data()}"
    logger.info("task: %s, measured by %s%s", loaded.source.label, names, data)
    if not loaded.source.is_built_in:
        logger.warning("task: %s is a program, and runs here and on all workers as you", loaded.source.path)
    for sentence in costs.list_sentences():
        logger.warning("%s", sentence)
    return OwnTask(loaded, config.transition, costs)


def find_task(config: SearchConfig, data: Material) -> Task:
    """Return what one training of a run is, given what prepare_data returned."""
    if isinstance(data, OwnTask):
        return data
    _, n_validation = check_split(data, 1, config.train_examples, config.validation_examples)
    return ImageTask(data, config.network(data.n_classes, data.image), n_validation)


def prepare_images(config: SearchConfig, depths: Sequence[int]) -> DataSet:
    """Load a run's data set, check that settings and machine can use it, and log what it contains.

    Args:
        config: the run's settings, from settle_config.
        depths: numbers of layers of the run's patterns.

    Raises:
        InputError: the data cannot be used or split, contradict the settings, or one training would not fit into the
            machine's memory.
    """
    data = load_data(config.dataset, config.data)
    n_train, n_validation = check_split(data, config.seeds, config.train_examples, config.validation_examples)
    network = config.network(data.n_classes, data.image)
    is_efficient = config.memory_efficient or config.engine != "eager"
    n_together = 1 if config.cohort == "auto" else config.cohort
    memory = None if config.ray_address else measure_memory(config.device)
    for depth in depths:
        around = network.with_pattern_depth(depth)
        for text in config.budgets:
            needed = n_together * predict_training_bytes(
                around, parse_budget(text, depth), config.batch_size, is_efficient
            )
            if memory is not None and needed > memory:
                raise InputError(
                    f"one training at budget {text} of {depth} layers needs {needed / 1e9:,.1f} GB or more, and "
                    f"{config.device} has {memory / 1e9:,.1f} GB: give a smaller --growth, --batch-size, --layers or "
                    "--cohort"
                )
    n_test = len(data.test)
    announce(data, f"{n_train:,} to train on, {n_validation:,} for validation, {n_test:,} for the test")
    return data


def announce(data: DataSet, sizes: str) -> None:
    """Log what a run is about to train on and to measure with."""
    logger.info("data: %s; %s", data, sizes)
    for remark in data.remarks:
        logger.warning("data: %s", remark)


@contextmanager
def hold_run(run: Path, config: SearchConfig) -> Iterator[StopFlag]:
    """Lock a run directory until the block ends, check its settings, and remove what killed runs left half-made.

    Yields:
        The flag that the first signal within the block sets.

    Raises:
        ConflictError: another process has locked the directory, or it contains another run.
    """
    check_stop = StopFlag()
    with check_stop.installed(), lock_run(run):
        settle_config(run, None, config.model_dump(), type(config))  # again, now that nobody else can write it
        sweep(run)
        yield check_stop


def accept(ledger: Ledger, config: SearchConfig) -> None:
    """Write what a run was asked for, once nothing can refuse it any more.

    config.toml comes first: after a kill in between, its settings count as asked for, and the ledger follows.
    """
    write_atomic(ledger.run / "config.toml", format_toml(config))
    ledger.accept()


def sweep(run: Path) -> None:
    """Remove what killed processes left half-made in a locked run directory."""
    shutil.rmtree(run / SCRATCH, ignore_errors=True)
    sweep_ray_folders(run)
    for folder in (run, run / FOLDER):
        sweep_temporaries(folder)


def open_ledger(run: Path, config: SearchConfig, data: Material, n_asked: int, **attributes: Any) -> Ledger:
    """Open the ledger of a locked run, with all that its figures are measured with; its caller accepts it.

    Args:
        data: from prepare_data.
        n_asked: number of candidates that the run ends with.
        attributes: further attributes of the study; an existing study must have the same.

    Raises:
        InputError: the data cannot be split like this.
        ConflictError: see Ledger.
    """
    if isinstance(data, OwnTask):
        attributes |= describe_settings_of_run(config, n_asked)
        attributes |= {"task": data.loaded.describe(), "cost": data.costs.describe()}
        if callable(describe_examples := getattr(data.loaded.target, "describe_examples", None)):
            attributes |= {"examples": describe_examples()}  # what a report shows trainings by
        return Ledger(run / "study.db", attributes, RENEWED, config.deepest, metrics=data.metrics)
    n_train, n_validation = check_split(data, config.seeds, config.train_examples, config.validation_examples)
    sizes = {"n_train": n_train, "n_validation": n_validation}
    largest = find_largest_class(data, config.train_examples, config.validation_examples)
    attributes |= describe_run(config, data, n_asked, sizes, largest)
    proxies = ProxyRecorder(data, config)
    describe = (lambda candidate: {"proxies": proxies.measure(candidate)}) if config.proxies else lambda _: {}
    return Ledger(run / "study.db", attributes, RENEWED, config.deepest, describe=describe)


def describe_run(
    config: SearchConfig, data: DataSet, n_asked: int, sizes: Mapping[str, int], largest_class: float
) -> dict[str, Any]:
    """Return the attributes that the study of every run has.

    Args:
        sizes: number of examples by their use, as n_train.
        largest_class: accuracy of always answering the largest class of the examples that are measured on. It has an
            attribute of its own because `data` of a run that an older version began has to stay unchanged.
    """
    described = {"name": data.name, "classes": data.n_classes, "image": list(data.image)}
    return {
        **describe_settings_of_run(config, n_asked),
        "data": {**described, **sizes, "sha256": data.sha256},
        "largest_class": largest_class,
    }


def describe_settings_of_run(config: SearchConfig, n_asked: int) -> dict[str, Any]:
    """Return the attributes that follow from the settings."""
    settings = config.model_dump(mode="json")
    return {
        "kind": config.kind,
        "asked": n_asked,
        "config": settings,
        "environment": describe_environment(config),
        "plugins": describe_plugins(settings),
    }


def train_all(ledger: Ledger, source: LedgerSource, trainer: Trainer, check_stop: StopFlag) -> None:
    """Write what a run was asked for, report what is finished, and train the rest; it raises what execute raises."""
    accept(ledger, trainer.config)
    if not trainer.config.can_fuse:
        logger.info(
            "layers: run by torch's own operations; the fused ones take convolutions of concatenations, without drops"
        )
    source.report_start()
    execute(source, trainer, check_stop, source.n_asked - source.n_finished)


def execute(source: Source, trainer: Trainer, check_stop: StopFlag, n_left: int) -> None:
    """Train all of a source's candidates, n_left of them, with as many workers as the settings say.

    A single worker on this machine is this process, unless trainings have a time limit: then it must be another one,
    which can be ended.

    Raises:
        MachineError: the machine, or the cluster, cannot do it.
        Interrupted: a signal came; all finished trainings have been reported.
    """
    config = trainer.config
    n_workers = config.workers if config.workers == "auto" else min(config.workers, n_left)
    try:
        if n_left == 0:
            return
        if n_workers == 1 and config.trial_timeout is None and config.ray_address is None:
            run_serial(source, trainer, check_stop)
        else:
            from nas.workers.ray_executor import run_ray

            run_ray(source, trainer, check_stop, n_workers)
    except Interrupted:
        source.give_back()
        raise


def describe_environment(config: SearchConfig) -> dict[str, str]:
    """Return what figures are measured with: device and engine, versions, commit."""
    versions = describe_versions(("torch", "optuna", "numpy"))
    layers = f"{config.engine} layers" if config.task == IMAGES else "layers of the task's own"
    how = layers + (f", {config.precision}" if config.precision != "float32" else "")
    return {"device": f"{name_device(config.device)}, {how}", **versions, "schema": str(SCHEMA)}


def name_device(device: str) -> str:
    """Return the name that reports give to the device of the trainings."""
    if device == "cpu":
        return f"{platform.machine()} CPU, one thread a worker"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA, on a cluster"
