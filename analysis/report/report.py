"""report/: Markdown + one self-contained HTML page + CSV + figures."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.comparisons.networks import build_lineup, learn_lineup
from analysis.comparisons.networks import title as lineup_title
from analysis.comparisons.standing import rank_networks
from analysis.data.results import Run, format_table, read_run
from analysis.page.document import Block, Picture, format_html, format_markdown
from analysis.report.findings import find, summarise
from analysis.report.sections import build_blocks, title
from analysis.stats.guessing import read_guessing
from nas.records.safe_files import format_json
from nas.records.written import write_files

CHECKLIST = Path(__file__).parents[2] / "docs" / "checklist.md"  # missing where only the packages were installed


def write_report(run_dir: Path) -> list[Path]:
    """Write RUN/report/: index.html, report.md, candidates.csv, summary.json and the figures as SVG and PNG.

    Files of the last report are replaced or removed; those that a user put there or changed are kept.

    Returns:
        The paths of all files written.

    Raises:
        InputError: not a run directory.
        ConflictError: a study's plan was changed or lost, or a user's file is in the way.
        NothingUsableError: no candidate is complete.
    """
    run = read_run(run_dir)
    heading, blocks, summary = _describe_lineup(run) if run.kind == "comparison" else _describe_findings(run)
    pictures = [block for block in blocks if isinstance(block, Picture)]
    texts = {
        "index.html": format_html(heading, blocks),
        "report.md": format_markdown(blocks),
        "candidates.csv": format_table(run.candidates),
        "summary.json": format_json(summary),
        **{picture.file: picture.svg for picture in pictures},
    }
    if run.kind == "study" and CHECKLIST.exists():
        texts["checklist.md"] = CHECKLIST.read_text(encoding="utf-8")
    files: dict[str, str | bytes] = {**texts}
    files |= {picture.file.replace(".svg", ".png"): picture.png for picture in pictures if picture.png is not None}
    folder = run_dir / "report"
    write_files(folder, files, "report", is_older=True)
    return [folder / name for name in files]


def _describe_findings(run: Run) -> tuple[str, list[Block], dict[str, Any]]:
    """Heading, sections and summary of a search or a study."""
    findings = find(run)
    return title(findings), [*build_blocks(findings)], summarise(findings)


def _describe_lineup(run: Run) -> tuple[str, list[Block], dict[str, Any]]:
    """The same of a comparison of networks."""
    standings = rank_networks(run)
    networks = [{**asdict(one), "pattern": [list(inputs) for inputs in one.pattern.sources]} for one in standings]
    learning = learn_lineup(run)
    summary = {
        "is_learned": None if learning is None else learning.is_better,
        "guessing": asdict(read_guessing(run)),
        "networks": networks,
    }
    return lineup_title(run), [*build_lineup(run, standings)], summary
