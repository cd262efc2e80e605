"""The settings of a run: those it has, changed where that is allowed, and what they mean on this machine.

The ledger's record of them counts; config.toml is what people read and edit. Settings are checked before any large
library is loaded.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nas.model.config import BOTTLENECK, ShapeConfig
from nas.records.checked import validate
from nas.records.database import COMMANDS, read_attributes, read_kind
from nas.records.safe_files import check_utf8
from nas.records.shown import name_program, quote
from nas.settings.environment import find_missing_plugins, warn_of_other_plugins
from nas.settings.own_task import settle_task
from nas.settings.search import N_TRAININGS, RUNNING, SearchConfig
from nas.settings.table import TABLE_COPY, settle_table
from nas.settings.toml import merge_settings, read_toml
from nas.tasks.reference import IMAGES, TASK_FILE, shorten_reference
from search_spaces.errors import ConflictError, InputError
from search_spaces.templates import is_template_name

Config = TypeVar("Config", bound=SearchConfig)


class _Change(NamedTuple):
    """A setting that would make a run another one."""

    flag: str
    before: Any
    after: Any


CLUSTER_LOOKAHEAD = 16  # where the number of workers is not known beforehand
LEFT_BY_WORK = ("report", "templates", "final", "weights")  # what only a run that has trained writes


def settle_config(
    run: Path,
    file: Path | None,
    flags: Mapping[str, Any],
    model: type[Config],
    find_table: Callable[[Path], Path] = Path,
) -> Config:
    """Return the settings of a run, with device, workers, cohort and engine as this machine has them.

    A run that exists keeps its settings except for those that may change. Nothing is written.

    Args:
        run: run directory; need not exist.
        file: TOML file of settings, or None.
        flags: settings by name with _, which win over the file; None means not given.
        model: class of the settings.
        find_table: function that returns the path of --from-table, which may be the name of a table of ours.

    Raises:
        InputError: the settings cannot be used, or the run directory is a file.
        ConflictError: the run there has other settings, was asked for more, is damaged, or is no run.
    """
    places = {"run": run, **{name: flags.get(name) for name in ("data", "pattern", "from_table")}}
    for name, value in places.items():
        for path in value if isinstance(value, tuple) else [value]:
            check_utf8(str(path), f"--{name.replace('_', '-')}")
    attributes = _read_attributes(run)
    record = attributes.get("config")
    record = record if isinstance(record, dict) else {}
    stored = _read_config(run) or {name: value for name, value in record.items() if value is not None}
    _check_older_halving(run, stored)
    stored, record = (mend_older(values) if values else {} for values in (stored, record))
    own = None
    if stored:
        _check_kind(run, attributes or {"config": stored}, model)
        missing = find_missing_plugins(attributes.get("plugins"))
        if missing:
            raise ConflictError(
                f"{run} uses {', '.join(missing)}, not installed now: install it, or give another --run"
            )
        own = _validate_stored(run, stored, model, bool(record))
        _check_edits(run, record, own)
    asked = merge_settings(file, flags)
    _check_data(run, stored, asked)
    asked = settle_table(run, stored, flags, asked, find_table)
    config = validate(model, settle_task(run, attributes.get("task"), stored, asked, model))
    if own is not None and config.engine == "auto":
        config = config.model_copy(update={"engine": own.engine})
    config = _resolve(config)
    if own is not None:
        own = own.model_copy(update={"lookahead": own.lookahead or config.lookahead})  # an older run has none
        before, after = (shorten_task(each.model_dump(mode="json")) for each in (own, config))
        _refuse(run, _list_changes(before, after, own))
    _check_shrink(run, record, config)
    warn_of_other_plugins(attributes.get("plugins"), config.model_dump(mode="json"))
    return config


def _resolve(config: Config) -> Config:
    """Return settings with absolute paths, and with the device, workers, cohort and engine of this machine."""
    # torch takes seconds, which a wrong setting need not wait
    from nas.settings.machine import resolve_cohort, resolve_device, resolve_engine, resolve_workers

    device = resolve_device(config.device, on_cluster=config.ray_address is not None)
    can_fuse = config.can_fuse and (device == "cpu" or config.layer != BOTTLENECK)
    engine, cohort = config.engine, config.cohort
    if config.task != IMAGES:  # it has layers of its own
        engine, cohort = "eager", 1
    workers = config.workers  # of a cluster: the executor sees what there is
    if config.ray_address is None:
        workers = resolve_workers(workers, device, config.gpus_per_worker)
    lookahead = config.lookahead
    if lookahead is None and "lookahead" not in config.without_flags:  # a study's plan must not depend on the machine
        lookahead = CLUSTER_LOOKAHEAD if workers == "auto" else max(2, workers)
    return config.model_copy(
        update={
            "device": device,
            "workers": workers,
            "lookahead": lookahead,
            "cohort": resolve_cohort(cohort, device, config.memory_efficient or config.trains_alone),
            "engine": resolve_engine(engine, device, can_fuse, config.precision),
            "data": str(Path(config.data).resolve()) if config.data else None,
            "from_table": str(Path(config.from_table).resolve()) if config.from_table else None,
            "pattern": config.pattern and tuple(map(resolve_pattern, config.pattern)),
        }
    )


def resolve_pattern(text: str) -> str:
    """Return the name of a template as it is, and the place of a file with an absolute path."""
    return text if is_template_name(text) else str(Path(text).resolve())


def mend_older(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings by name with _, those of older versions as they were meant."""
    mended = dict(values)
    if mended.get("engine", "auto") == "auto":
        mended["engine"] = "eager"  # the run is older than the other engines, or was made from Python
    if mended.get("dataset", "digits") == "digits":
        mended.pop("data", None)  # was accepted once, and never read
    mended.setdefault("objective", "accuracy")  # there was no other once
    if mended.get("task", IMAGES) == IMAGES:
        mended.setdefault("train_examples", None)  # was left out where it was all
    mended = ShapeConfig.infer(mended)
    return mend_crossing(mended)


def mend_crossing(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's settings by name with _, with those that crossed a distance with span as they are written now.

    >>> mend_crossing({"cross": "from_output,span", "mean_bd_bins": "9", "span_bins": "2:4:3"})
    {'cross': 'from_output_mean,span', 'bins': '9,2:4:3'}
    """
    mended = dict(values)
    if {"mean_bd_bins", "span_bins"} & mended.keys():
        mended["cross"] = "from_output_mean,span" if mended.get("cross") == "from_output,span" else "mean_bd,span"
        mended["bins"] = f"{mended.pop('mean_bd_bins', '9')},{mended.pop('span_bins', '3')}"
    return mended


def _check_older_halving(run: Path, stored: Mapping[str, Any]) -> None:
    """Refuse a run whose patterns were compared at a ninth of the epochs too."""
    if stored.get("halving") and "objective" not in stored:
        raise ConflictError(
            f"{run} was begun with --halving by an older version, which compared patterns at a ninth of the epochs "
            "too. `report` and `export` read it; to continue it use that version, or give another --run"
        )


def _check_data(run: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse other data than the run's, before its data set is checked together with data that was given now."""
    now = {name: asked[name] for name in ("dataset", "data") if stored and name in asked}
    if isinstance(now.get("data"), str):
        now["data"] = str(Path(now["data"]).resolve())
    _refuse(run, [_Change(name, stored.get(name), value) for name, value in now.items() if value != stored.get(name)])


def _refuse(run: Path, changes: Sequence[_Change]) -> None:
    if changes:
        said = "; ".join(f"{change.flag} {change.before!r} there, {change.after!r} now" for change in changes)
        raise ConflictError(f"{run} holds a run of other settings: {said}. Give another --run, or drop these flags")


def _read_attributes(run: Path) -> dict[str, Any]:
    """Return the attributes of the run's study; empty where there is no study yet.

    Raises:
        InputError, ConflictError, MachineError: see settle_config.
    """
    if run.exists() and not run.is_dir():
        raise InputError(f"--run {run} is a file: give a folder, or a name that is free")
    if (run / "study.db").exists():
        return read_attributes(run / "study.db")
    _check_folder(run)
    return {}


def _read_config(run: Path) -> dict[str, Any]:
    """Return the settings in the run's config.toml; empty where there are none."""
    path = run / "config.toml"
    try:
        return read_toml(path) if path.exists() else {}
    except InputError as error:
        raise ConflictError(f"{error!s:.400}. {_how_to_mend(path)}") from None


def _how_to_mend(path: Path) -> str:
    if path.with_name("study.db").exists():
        return f"To continue with the run's own settings, which its study.db holds, remove {path}"
    return f"Mend or remove {path}, or give another --run"


def _validate_stored(run: Path, stored: Mapping[str, Any], model: type[Config], has_record: bool) -> Config:
    try:
        return validate(model, stored)
    except InputError as error:
        path = run / "config.toml"
        where = path if path.exists() or not has_record else run / "study.db"
        raise ConflictError(f"{where} cannot be used. {_how_to_mend(path)}. In it, {error!s:.400}") from None


def _check_edits(run: Path, record: Mapping[str, Any], own: SearchConfig) -> None:
    """Refuse a config.toml that was edited to be that of another run; edits of what may change count as asked."""
    edits = _list_changes(_without_places(record), _without_places(own.model_dump(mode="json")), own)
    if edits:
        said = "; ".join(f"{edit.flag} is {edit.before!r} in study.db, {edit.after!r} in config.toml" for edit in edits)
        raise ConflictError(
            f"{run / 'config.toml'} was edited, and its trainings were made with other settings: {said}. "
            "Put that back, or remove the file: study.db holds the settings too. Or give another --run"
        )


def _without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without the places of files, which may be moved: the ledger has the data's hash."""
    names = [Path(path).name for path in values.get("pattern") or ()]
    return {**shorten_task(values), "data": None, **({"pattern": names} if "pattern" in values else {})}


def shorten_task(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the task without its folder: its file may be moved, and its hash is recorded."""
    return {**values, "task": shorten_reference(values["task"])} if "task" in values else dict(values)


def _check_shrink(run: Path, record: Mapping[str, Any], config: SearchConfig) -> None:
    """Refuse to ask for less than a run was asked for: what it holds cannot be taken away."""
    by_default = {} if record.get("trials") else {"trainings": N_TRAININGS}
    for name in sorted(config.changeable - RUNNING if record else ()):
        asked, now = record.get(name) or by_default.get(name), getattr(config, name)
        if isinstance(asked, int) and isinstance(now, int) and now < asked:
            raise ConflictError(
                f"{run} was asked for {asked} {name}, and {now} are fewer: what it holds cannot be taken away. Give "
                f"{asked} or more (also in config.toml), or another --run. A run can be stopped at any time by Ctrl-C, "
                "and `report` shows what it holds"
            )


def _list_changes(before: Mapping[str, Any], after: Mapping[str, Any], own: SearchConfig) -> list[_Change]:
    """Return the settings that differ and that a run of its own settings keeps."""
    # With more patterns or seeds, halving would have kept others.
    changeable = own.changeable - ({"trainings", "trials", "seeds"} if own.halving else set())
    return [
        _Change(name.replace("_", "-"), before[name], value)
        for name, value in after.items()
        if name not in changeable and name in before and before[name] != value
    ]


def _check_folder(run: Path) -> None:
    """Refuse to spread a run's files over what somebody keeps there, or over what is left of a run."""
    if not run.is_dir():
        return
    others = sorted(
        path.name for path in run.iterdir() if path.name not in ("lock", TABLE_COPY, TASK_FILE) and path.name[0] != "."
    )
    if "config.toml" not in others and others:
        raise ConflictError(
            f"{run} holds other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}) and no run: "
            "give an empty folder, or a name that is free"
        )
    left = [name for name in others if name in LEFT_BY_WORK]
    left += [f"checkpoints/{path.name}" for path in run.glob("checkpoints/*.pt")]
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
            f"{run} holds a {kind}, not a {model.kind}: use `{name_program()} {COMMANDS[kind]} --run {quote(run)}`, "
            "or another --run"
        )
