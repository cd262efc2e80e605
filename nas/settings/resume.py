"""A run's settings: what its directory holds, changed where that is allowed.

Its ledger's record of them counts; config.toml is what people read and edit. No large library is loaded before they are
known to be good.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from nas.records.checked import validate
from nas.records.database import COMMANDS, read_attributes, read_kind
from nas.records.safe_files import check_utf8
from nas.records.shown import quote
from nas.settings.search import RUNNING, SearchConfig
from nas.settings.toml import merge_settings, read_toml
from search_spaces.errors import ConflictError, InputError

Config = TypeVar("Config", bound=SearchConfig)


def settle_config(run: Path, file: Path | None, flags: Mapping[str, Any], model: type[Config]) -> Config:
    """The settings of a run: its own where it has some, changed where that is allowed; device, workers and engine
    resolved. Nothing is written: a missing or empty config.toml is made up for by the ledger's record.

    Args:
        run: the run directory; need not exist.
        file: TOML of settings, or None.
        flags: by name with _; None means not given; they win.
        model: SearchConfig, or StudyConfig.

    Raises:
        InputError: the settings cannot be used, or the run directory is a file.
        ConflictError: a run exists there and was made with others or asked for more, or a damaged one, or something
            that is no run.
    """
    for name in ("run", "data", "pattern"):
        given = run if name == "run" else flags.get(name)
        for path in given if isinstance(given, tuple) else [given]:
            check_utf8(str(path), f"--{name}")
    attributes = _read_attributes(run)
    record = attributes.get("config")
    record = record if isinstance(record, dict) else {}
    held = _read_held(run) or {name: value for name, value in record.items() if value is not None}
    held, record = (mend_older(values) if values else {} for values in (held, record))
    if record or held:
        _check_kind(run, attributes or {"config": held}, model)
    own = _validate_held(run, held, model, bool(record)) if held else None
    if own is not None:
        _check_edits(run, record, own)
    asked = merge_settings(file, flags)
    _check_data(run, held, asked)
    config = validate(model, {**held, **asked})

    # torch: seconds that a wrong setting need not wait
    from nas.settings.machine import resolve_cohort, resolve_device, resolve_engine, resolve_workers

    device = resolve_device(config.device, on_cluster=config.ray_address is not None)
    workers = config.workers  # of a cluster: the executor resolves them, where it sees what there is
    if config.ray_address is None:
        workers = resolve_workers(workers, device, config.gpus_per_worker)
    wanted = held["engine"] if held and config.engine == "auto" else config.engine  # auto of a run is what it has
    engine = resolve_engine(wanted, device, config.bottleneck, config.precision)
    data = str(Path(config.data).resolve()) if config.data else None
    pattern = None if config.pattern is None else tuple(str(Path(path).resolve()) for path in config.pattern)
    cohort = resolve_cohort(config.cohort, device, config.memory_efficient)
    resolved = {"device": device, "workers": workers, "cohort": cohort, "engine": engine}
    config = config.model_copy(update={**resolved, "data": data, "pattern": pattern})
    differences = [] if own is None else _find_differences(own, config)
    _refuse(run, differences)
    _check_shrink(run, record, config)
    return config


def mend_older(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run holds, by name with _, those of older runs as they were meant."""
    mended = dict(values)
    if mended.get("engine", "auto") == "auto":
        mended["engine"] = "eager"  # of runs that were made before there was another, or from Python, unresolved
    if mended.get("dataset", "digits") == "digits":
        mended.pop("data", None)  # was taken once, and never read
    return mended


def _check_data(run: Path, held: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse other data than the run's, before data and data set that were not given together are checked together."""
    now = {name: given[name] for name in ("dataset", "data") if held and name in given}
    if isinstance(now.get("data"), str):
        now["data"] = str(Path(now["data"]).resolve())
    _refuse(
        run,
        [f"{name} {held.get(name)!r} there, {value!r} now" for name, value in now.items() if value != held.get(name)],
    )


def _refuse(run: Path, differences: list[str]) -> None:
    if differences:
        raise ConflictError(
            f"{run} holds a run of other settings: "
            + "; ".join(differences)
            + ". Give another --run, or drop these flags"
        )


def _read_attributes(run: Path) -> dict[str, Any]:
    """Return the attributes of the run's study, whose settings count; empty where there is no ledger yet.

    Raises:
        InputError, ConflictError, MachineError: see settle_config.
    """
    if run.exists() and not run.is_dir():
        raise InputError(f"--run {run} is a file: give a folder, or a name that is free")
    if (run / "study.db").exists():
        return read_attributes(run / "study.db")
    _check_folder(run)
    return {}


def _read_held(run: Path) -> dict[str, Any]:
    """The settings in the run's config.toml; empty where there are none: the ledger's count then."""
    path = run / "config.toml"
    try:
        return read_toml(path) if path.exists() else {}
    except InputError as error:
        raise ConflictError(f"{error!s:.400}. {_how_to_mend(path)}") from None


def _how_to_mend(path: Path) -> str:
    """What to do about a config.toml that cannot be used."""
    if path.with_name("study.db").exists():
        return f"To go on with the run's own settings, which its study.db holds, remove {path}"
    return f"Mend or remove {path}, or give another --run"


def _validate_held(run: Path, held: Mapping[str, Any], model: type[Config], has_record: bool) -> Config:
    try:
        return validate(model, held)
    except InputError as error:
        path = run / "config.toml"
        where = path if path.exists() or not has_record else run / "study.db"
        raise ConflictError(f"{where} cannot be used. {_how_to_mend(path)}. In it, {error!s:.400}") from None


def _check_edits(run: Path, record: Mapping[str, Any], own: SearchConfig) -> None:
    """Refuse a config.toml that was edited to be that of another run; edits of what may change count as asked."""
    edits = _find_differences_of(_without_places(record), _without_places(own.model_dump(mode="json")), own)
    if edits:
        told = [f"{flag} is {recorded!r} in study.db, {value!r} in config.toml" for flag, recorded, value in edits]
        raise ConflictError(
            f"{run / 'config.toml'} was edited, and its trainings were made with other settings: {'; '.join(told)}. "
            f"Put that back, or remove the file: study.db holds the settings too. Or give another --run"
        )


def _without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without where files lie, which may be moved: the ledger has a hash of the data, and the patterns."""
    names = [Path(path).name for path in values.get("pattern") or ()]
    return {**values, "data": None, **({"pattern": names} if "pattern" in values else {})}


def _check_shrink(run: Path, record: Mapping[str, Any], config: SearchConfig) -> None:
    """Refuse to ask for less than a run was asked for: what it holds cannot be taken away."""
    for name in sorted(config.changeable - RUNNING):
        asked, now = record.get(name), getattr(config, name)
        if isinstance(asked, int) and now < asked:
            raise ConflictError(
                f"{run} was asked for {asked} {name}, and {now} are fewer: what it holds cannot be taken away. Give "
                f"{asked} or more (also in config.toml), or another --run. A run can be stopped at any time by Ctrl-C, "
                "and `report` tells what it holds"
            )


def _find_differences(held: SearchConfig, config: SearchConfig) -> list[str]:
    """What a run's settings would change that would make it another run."""
    found = _find_differences_of(held.model_dump(mode="json"), config.model_dump(mode="json"), held)
    return [f"{flag} {there!r} there, {now!r} now" for flag, there, now in found]


def _find_differences_of(
    held: Mapping[str, Any], given: Mapping[str, Any], config: SearchConfig
) -> list[tuple[str, Any, Any]]:
    """Flag, value held and value given of each setting that is another, and that a run like config's keeps."""
    # With more patterns or seeds, halving would have kept others.
    changeable = config.changeable - ({"trials", "seeds"} if config.halving else set())
    return [
        (name.replace("_", "-"), held[name], value)
        for name, value in given.items()
        if name not in changeable and name in held and held[name] != value
    ]


LEFT_BY_WORK = ("report", "templates", "final", "weights")  # in a run directory, by who has trained


def _check_folder(run: Path) -> None:
    """Refuse to spread a run's files over what somebody keeps there, or over what is left of a run."""
    if not run.is_dir():
        return
    others = sorted(path.name for path in run.iterdir() if path.name != "lock" and not path.name.startswith("."))
    if "config.toml" not in others and others:
        raise ConflictError(
            f"{run} holds other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}) and no run: "
            "give an empty folder, or a name that is free"
        )
    left = [name for name in others if name in LEFT_BY_WORK] + [
        f"checkpoints/{path.name}" for path in run.glob("checkpoints/*.pt")
    ]
    if left:
        raise ConflictError(
            f"{run} has lost its study.db, which held all of its results ({left[0]} is left): restore it from a copy, "
            "or give another --run"
        )


def _check_kind(run: Path, attributes: Mapping[str, Any], model: type[SearchConfig]) -> None:
    """Refuse to continue a run of another kind; a final measurement has the settings of a search."""
    kind = read_kind(attributes)
    if kind != model.kind and (kind, model.kind) != ("final", "search"):
        raise ConflictError(
            f"{run} holds a {kind}, not a {model.kind}: use `{COMMANDS[kind]} --run {quote(run)}`, or another --run"
        )
