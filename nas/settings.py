"""A run's settings: what its directory holds, changed where that is allowed.

No large library is loaded before they are known to be good.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from nas.checked import validate
from nas.config import SearchConfig, merge_settings, read_toml
from search_spaces.errors import ConflictError, InputError
from search_spaces.files import check_utf8
from search_spaces.shown import quote

Config = TypeVar("Config", bound=SearchConfig)


def settle_config(run: Path, file: Path | None, flags: Mapping[str, Any], model: type[Config]) -> Config:
    """The settings of a run: its own where it has some, changed where that is allowed; device, workers and engine
    resolved.

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
    for name in ("run", "data", "pattern"):
        given = run if name == "run" else flags.get(name)
        for path in given if isinstance(given, tuple) else [given]:
            check_utf8(str(path), f"--{name}")
    held = read_toml(run / "config.toml") if (run / "config.toml").exists() else {}
    _check_kind(run, held, model)
    if held and held.get("engine", "auto") == "auto":
        held["engine"] = "eager"  # of runs that were made before there was another, or from Python, unresolved
    config = validate(model, {**held, **merge_settings(file, flags)})

    # torch: seconds that a wrong setting need not wait
    from nas.machine import resolve_cohort, resolve_device, resolve_engine, resolve_workers

    device = resolve_device(config.device, on_cluster=config.ray_address is not None)
    workers = config.workers  # of a cluster: the executor resolves them, where it sees what there is
    if config.ray_address is None:
        workers = resolve_workers(workers, device, config.gpus_per_worker)
    own = held["engine"] if held and config.engine == "auto" else config.engine  # auto of a run is what it has
    engine = resolve_engine(own, device, config.bottleneck, config.precision)
    data = str(Path(config.data).resolve()) if config.data else None
    pattern = None if config.pattern is None else tuple(str(Path(path).resolve()) for path in config.pattern)
    cohort = resolve_cohort(config.cohort, device, config.memory_efficient)
    resolved = {"device": device, "workers": workers, "cohort": cohort, "engine": engine}
    config = config.model_copy(update={**resolved, "data": data, "pattern": pattern})
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


COMMANDS = {"search": "search", "study": "study", "comparison of networks": "compare-networks"}  # by kind of run


def _check_kind(run: Path, held: Mapping[str, Any], model: type[SearchConfig]) -> None:
    """Refuse to go on with a run of another kind: each kind has settings of its own beside those of a search."""
    own = set(held) - set(SearchConfig.model_fields)
    kind = "search" if not own else "comparison of networks" if "networks" in own else "study"
    if held and kind != model.kind:
        raise ConflictError(
            f"{run} holds a {kind}, not a {model.kind}: use `{COMMANDS[kind]} --run {quote(run)}`, or another --run"
        )
