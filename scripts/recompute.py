"""Recompute a committed report, whose run is gone, by this version of the program.

python scripts/recompute.py docs/budgets [docs/networks/digits ...]

A folder under docs/ has candidates.csv and, for a study, plan.json, but no ledger. From these it computes report.md,
summary.json and the figures. Connection strengths and final measurements are only in ledgers, so what is said of them
stays unchanged, and so does the report's line on what was recomputed. Numbers that come out equal keep their digits.
"""

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.csv_files import fill_cells, fill_from_sources
from analysis.data.results import COLUMNS, CURVE_COLUMNS, NETWORK_COLUMNS, Run, parse_sources
from analysis.page.document import Picture, format_markdown, walk_blocks
from analysis.report.report import compose_report
from nas.data.readers import load_data
from nas.data.splits import find_largest_class
from nas.records.database import read_kind
from nas.records.plan import read_plan
from nas.records.safe_files import format_json, write_atomic

BALANCED = {"fashion-mnist": 0.1}  # share of the largest class, for data that may be missing here
OF_LEDGER = "final"  # key of summary.json whose value comes from a ledger


def main() -> None:
    """Rewrite the files of each folder whose content changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a committed report's folder")
    for folder in parser.parse_args().folders:
        for name, text in recompute(folder).items():
            path = folder / name
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            write_atomic(path, text)
            print(f"wrote {path}")  # noqa: T201


def recompute(folder: Path) -> dict[str, str]:
    """Return the texts of a folder's report by file name: existing files, and new figures."""
    old_summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    report = (folder / "report.md").read_text(encoding="utf-8") if (folder / "report.md").is_file() else ""
    run = rebuild_run(folder, old_summary, report)
    new = compose_report(run)
    figures = {block.file: block.svg for block in walk_blocks(new.blocks) if isinstance(block, Picture)}
    texts = {"summary.json": format_json(_keep_equal(old_summary, json.loads(format_json(new.summary))))}
    if report:
        texts["report.md"] = _keep_of_ledger(report, format_markdown(new.blocks))
        return texts | figures
    return texts | {name: svg for name, svg in figures.items() if (folder / name).is_file()}


def rebuild_run(folder: Path, summary: dict[str, Any], report: str) -> Run:
    """Return the run behind a report as `read_run` did, without learning curves and true connection strengths."""
    plan, sha256 = read_plan(folder) or (None, None)
    table = pd.read_csv(folder / "candidates.csv", dtype="string", keep_default_na=False, na_values=[""])
    table = fill_from_sources(fill_cells(table))
    columns = COLUMNS | {name: kind for name, kind in NETWORK_COLUMNS.items() if name in table}
    for name, kind in columns.items():
        if kind != "string":
            table[name] = pd.to_numeric(table[name])
    groups: dict[str, dict[str, Any]] = {group: summary.get(name, {}) for group, name in GROUPS.items()}
    if not groups["data"]:
        groups = {group: _read_provenance(report, group) for group in GROUPS}
    settings, data = groups["setting"], groups["data"]
    path = re.search(r"--run (runs/\S+)", report)
    kind = read_kind({"config": settings} if plan is None else {"config": settings, "plan": sha256})
    is_lineup = kind == "comparison"
    return Run(
        path=Path(path[1]) if path else folder,
        candidates=table[list(columns)].astype(columns),
        curves=pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS),
        asked=len(table) if is_lineup else summary["status"]["asked"],
        config=settings,
        environment=groups["environment"],
        data=data,
        plan=plan,
        plan_sha256=sha256,
        largest_class=_find_largest_class(settings, data),
        # A comparison needs some; its sentences about them are replaced by those of the old report.
        strengths=dict(enumerate(map(_make_strengths, table["sources"]))) if is_lineup else {},
        kind=kind,
    )


GROUPS = {"data": "data", "environment": "environment", "setting": "config"}  # names in the report -> summary


def _make_strengths(sources: str) -> tuple[tuple[float, ...], ...]:
    return ((1.0,) * parse_sources(sources).n_connections,)


def _read_provenance(report: str, group: str) -> dict[str, Any]:
    """Read a group of the report's table of provenance: values as JSON, or as text if they are not JSON."""
    values: dict[str, Any] = {}
    for name, text in re.findall(rf"^\| {group} \| (\S+) \| (.*) \|$", report, re.MULTILINE):
        plain = re.sub(r"\\(.)", r"\1", text)
        try:
            values[name] = json.loads(plain) if group != "environment" and name != "sha256" else plain
        except ValueError:
            values[name] = plain
    return values


def _find_largest_class(settings: dict[str, Any], data: dict[str, Any]) -> float | None:
    """Return the largest class's share of the validation images, or None if it is unknown without the run."""
    if data["name"] != "digits":
        return BALANCED.get(data["name"])
    digits = load_data("digits", None)
    if digits.sha256 != data["sha256"]:
        return None
    return find_largest_class(digits, settings["train_examples"], settings.get("validation_examples"))


def _keep_equal(old: Any, new: Any) -> Any:
    """Return the new value, with the old one wherever both are the same number or it came from a ledger."""
    if isinstance(old, dict) and isinstance(new, dict):
        kept = {OF_LEDGER: old[OF_LEDGER]} if OF_LEDGER in old else {}
        return {name: _keep_equal(old.get(name), value) for name, value in new.items()} | kept
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_keep_equal(*pair) for pair in zip(old, new, strict=True)]
    is_number = isinstance(old, float) and isinstance(new, float)
    return old if is_number and math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-12) else new


def _keep_of_ledger(old: str, new: str) -> str:
    """Return the new report with the old one's sentences on what was recomputed and what was learned."""
    note = re.search(r"^> Recomputed .*$", old, re.MULTILINE)
    if note:
        heading, answer, rest = new.split("\n\n", 2)
        new = "\n\n".join((heading, answer, note[0], rest))
    sentence = r"^The connections of dense that learned was taken from .*$"
    if learned := re.search(sentence, old, re.MULTILINE):
        new = re.sub(sentence, lambda _: learned[0], new, flags=re.MULTILINE)
    return new


if __name__ == "__main__":
    main()
