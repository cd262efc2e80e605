"""Export of the patterns of a run, with the run's own networks and what was measured of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.export.export import Exported, export_folder
from nas.model.config import NetworkConfig
from nas.records.checked import validate
from nas.records.database import FINAL, read_attributes
from nas.records.metrics import read_metrics
from nas.records.template import describe_template, write_template
from nas.tasks.reference import BUILT_IN
from search_spaces.errors import NothingUsableError
from search_spaces.pattern import ConnectionPattern

if TYPE_CHECKING:
    from torch import Tensor

# What a search says of each of its patterns, where it could: see analysis.picks.order.describe_expected.
EXPECTED = ("objective", "n_trainings", "expected", "interval", "chance_better_than_log")


def export_run(
    run: Path,
    described: Mapping[str, Mapping[str, Any]],
    patterns: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]],
    archives: bool,
) -> list[Exported]:
    """Export patterns of a run to RUN/templates, with the run's own network.

    Args:
        described: the run's `config`, `data` and `environment`, which the template files repeat.
        patterns: each pattern as a row of average_patterns, with the results of its final trainings and the `number` of
            the one whose weights are exported, or None without final trainings.
        archives: whether model.onnx and model.pt2 are written; a folder that has them keeps them up to date anyhow.

    Raises:
        NothingUsableError: there are no patterns.
    """
    if not patterns:
        raise NothingUsableError(f"{run} holds no finished training, so there is no template to export")
    if "task" in described["config"]:
        return [_export_of_task(run, described, row, archives) for row, _ in patterns]
    known = {**described["config"], **{name: described["data"].get(name) for name in ("classes", "image")}}
    known = {name: known.get(name) for name in NetworkConfig.model_fields}
    exported = []
    for row, tested in patterns:
        sources = json.loads(row["sources"])
        searched = {name: row[name] for name in ("n_seeds", "validation_accuracy", "validation_loss")}
        searched |= {name: row[name] for name in EXPECTED if row.get(name) is not None}
        provenance = {
            "name": row["template"] if isinstance(row["template"], str) else None,
            "strategy": row["strategy"],
            "regime": row["regime"] if isinstance(row["regime"], str) else None,
            "measured": searched,
            **described,
        }
        weights, measured = None, {**searched, "data": described["data"]}
        if tested is not None:
            weights, final = _read_final(run, tested)
            measured |= final
        has_archives = (run / "templates" / row["key"][:12] / "model.pt2").exists()
        exported.append(
            export_folder(
                ConnectionPattern.from_sources(sources),
                validate(NetworkConfig, known).with_pattern_depth(int(row["layers"])),
                row["budget"],
                provenance,
                run / "templates",
                weights,
                measured,
                archives or has_archives,
            )
        )
    return exported


def _export_of_task(
    run: Path, described: Mapping[str, Mapping[str, Any]], row: Mapping[str, Any], archives: bool
) -> Exported:
    """Export a pattern of a run whose task is not images: with its network where that is one of ours."""
    pattern = ConnectionPattern.from_sources(json.loads(row["sources"]))
    attributes = read_attributes(run / "study.db")
    names = ["n_seeds", *(metric.name for metric in read_metrics(attributes.get("metrics"))), *EXPECTED]
    provenance = {
        "name": row["template"] if isinstance(row["template"], str) else None,
        "strategy": row["strategy"],
        "regime": row["regime"] if isinstance(row["regime"], str) else None,
        "measured": {name: row[name] for name in names if row.get(name) is not None},
        "task": attributes.get("task"),
        "cost": attributes.get("cost"),
        **described,
    }
    measured = {**provenance["measured"], "data": described["data"]}
    own = _find_network(described["config"], pattern)
    if own is not None:
        return export_folder(pattern, own, row["budget"], provenance, run / "templates", None, measured, archives)
    network = {"layers": pattern.depth, "transition": described["config"].get("transition", "log")}
    template = describe_template(pattern, row["budget"], network, {}, provenance)
    folder = run / "templates" / pattern.key[:12]
    note = (
        "the networks are the task's own, so there is no model.py: template.json has the connections to build one from"
    )
    return Exported(folder, write_template(template, folder), [note])


def _find_network(config: Mapping[str, Any], pattern: ConnectionPattern) -> NetworkConfig | None:
    """Return the network that a task of ours puts around a pattern; None where it is no network of a layout."""
    if config["task"] not in BUILT_IN:  # a stranger's task is not loaded: that would run its code
        return None
    from nas.tasks.candidate import TaskPattern
    from nas.tasks.loaded import load_task

    task = load_task(config["task"], config.get("set", ())).target
    if not hasattr(task, "network"):
        return None
    network: NetworkConfig = task.network(TaskPattern.of(pattern, config.get("transition", "log")))
    return network


def _read_final(run: Path, tested: Mapping[str, Any]) -> "tuple[Mapping[str, Tensor] | None, dict[str, Any]]":
    """Read a pattern's trained weights, where they were kept, and list what an export says of its final trainings."""
    from nas.training.checkpoints import read_weights, weights_path

    names = ("n_seeds", "test_accuracy", "low", "high", "test_loss", "n_train", "n_test")
    test = {name: tested[name] for name in names}
    kept = read_weights(weights_path(run / FINAL, tested["number"]))
    if kept is None:
        return None, {"test": test}
    weights, normalisation = kept
    test["weights"] = "of the first seed, none was picked"
    return weights, {"test": test, "normalisation": normalisation}
