"""A run directory in use: its settings settled, its ledger open, its trainings executed."""

import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

from nas.checkpoints import FOLDER, SCRATCH
from nas.config import SearchConfig, format_toml, merge_settings, read_toml, validate
from nas.data import DataSet, check_split
from nas.executors import Source, StopFlag, Trainer, resolve_device, resolve_workers, run_serial
from nas.ledger import SCHEMA, Ledger
from nas.lock import lock_run
from search_spaces.errors import ConflictError, InputError, Interrupted
from search_spaces.files import write_atomic

RENEWED = frozenset({"asked", "config", "environment"})  # attributes of the study that each opening writes anew
Config = TypeVar("Config", bound=SearchConfig)


def settle_config(run: Path, file: Path | None, flags: Mapping[str, Any], model: type[Config]) -> Config:
    """The settings of a run: its own where it has some, changed where that is allowed; device and workers resolved.

    Args:
        run: the run directory; need not exist.
        file: TOML of settings, or None.
        flags: by name with _; None means not given; they win.
        model: SearchConfig, or StudyConfig.

    Raises:
        InputError: the settings cannot be used, or the run directory is a file.
        ConflictError: a run exists there and was made with others, or something that is no run; nothing was changed.
    """
    _check_folder(run)
    held = read_toml(run / "config.toml") if (run / "config.toml").exists() else {}
    _check_kind(run, held, model)
    config = validate(model, {**held, **merge_settings(file, flags)})
    device = resolve_device(config.device, on_cluster=config.ray_address is not None)
    workers = config.workers  # of a cluster: the executor resolves them, where it sees what there is
    if config.ray_address is None:
        workers = resolve_workers(workers, device, config.gpus_per_worker)
    data = str(Path(config.data).resolve()) if config.data else None
    config = config.model_copy(update={"device": device, "workers": workers, "data": data})
    differences = _find_differences(validate(model, held), config) if held else []
    if differences:
        raise ConflictError(
            f"{run} holds a run of other settings: "
            + "; ".join(differences)
            + ". Give another --run, or drop these flags"
        )
    return config


def _find_differences(held: SearchConfig, config: SearchConfig) -> list[str]:
    """What a run's settings would change that would make it another run."""
    # With more patterns or seeds, halving would have kept others.
    changeable = held.changeable - ({"trials", "seeds"} if held.halving else set())
    values = held.model_dump(mode="json")
    return [
        f"{name.replace('_', '-')} {values[name]!r} there, {value!r} now"
        for name, value in config.model_dump(mode="json").items()
        if name not in changeable and values[name] != value
    ]


def _check_folder(run: Path) -> None:
    """Refuse to spread a run's files over what somebody keeps there."""
    if run.exists() and not run.is_dir():
        raise InputError(f"--run {run} is a file: give a folder, or a name that is free")
    if run.is_dir() and not (run / "config.toml").exists():
        others = sorted(path.name for path in run.iterdir() if path.name != "lock" and not path.name.startswith("."))
        if others:
            raise ConflictError(
                f"{run} holds other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}) and no run: "
                "give an empty folder, or a name that is free"
            )


def _check_kind(run: Path, held: Mapping[str, Any], model: type[SearchConfig]) -> None:
    """Refuse to go on with a study as a search, or the reverse: a study's settings have more names than a search's."""
    if not held:
        return
    is_study = bool(set(held) - set(SearchConfig.model_fields))
    if is_study == (model is SearchConfig):
        kinds = ("study", "search") if is_study else ("search", "study")
        raise ConflictError(
            f"{run} holds a {kinds[0]}, not a {kinds[1]}: use `{kinds[0]} --run {run}`, or another --run"
        )


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
