"""The report's last section: where its numbers come from."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.data.results import Run
from analysis.page.document import Block, Code, Fold, Link, Paragraph, Table
from nas.records.database import COMMANDS, storage_url
from nas.records.shown import name_program, quote


def build_provenance(run: Run, status: Mapping[str, Any]) -> Iterator[Block]:
    """List what a run was measured with, and the commands that continue, browse or repeat it."""
    groups = {"run": {**status, "best": None}, "data": run.data, "environment": run.environment}
    groups |= {"plug-in": _describe_plugins(run), "setting": run.config}
    rows = [
        (group, str(name), value if isinstance(value, str) else json.dumps(value))
        for group, values in groups.items()
        for name, value in values.items()
        if value is not None
    ]
    path = quote(run.path)
    patterns = quote(storage_url(run.path / "optuna" / "patterns.db"))
    pictures = quote(run.path / "optuna" / "artifacts")
    storage = quote(storage_url(run.path / "study.db"))
    command = COMMANDS[run.kind]
    yield Paragraph("One row a candidate, with all measures:", link=Link("candidates.csv", "candidates.csv"))
    yield Paragraph(
        "To continue this run, to browse its patterns or its single trainings, or to repeat it in another place:"
    )
    program = name_program()
    again = f"{program} {command} --run ANOTHER --config {quote(run.path / 'config.toml')}"
    yield Code(
        f"{program} {command} --run {path}\noptuna-dashboard {patterns} --artifact-dir {pictures}\n"
        f"optuna-dashboard {storage}\n{again}"
    )
    yield Fold(f"Every setting and version: {len(rows)} values", (Table(("", "name", "value"), tuple(rows)),))


def _describe_plugins(run: Run) -> dict[str, str]:
    """Return where the plug-ins that a run found come from, by kind and name."""
    described = {}
    for plugin in run.plugins:
        used = "used by this run" if plugin.get("used") else "installed, not used by this run"
        kind, name, *origin = (str(plugin.get(key, "?")) for key in ("kind", "name", "distribution", "version"))
        described[f"{kind}: {name}"] = f"{' '.join(origin)}; {used}"
    return described
