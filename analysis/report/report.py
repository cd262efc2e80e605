"""RUN/report: one page as Markdown and as self-contained HTML, with its tables and figures as files."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analysis.comparisons.networks import (
    build_lineup,
    draw_accuracies,
    draw_network,
    learn_lineup,
    list_faults,
    title_lineup,
)
from analysis.comparisons.standing import Standing, rank_networks
from analysis.data.csv_files import format_table
from analysis.data.results import Run, read_run
from analysis.page.document import Block, Heading, Picture, format_html, format_markdown, walk_blocks
from analysis.report.conclusion import Conclusion, conclude_findings, conclude_networks, summarise_conclusion
from analysis.report.findings import find, summarise
from analysis.report.head import build_head
from analysis.report.optuna_studies import write_studies
from analysis.report.patterns import PatternStudy, study_networks, study_patterns
from analysis.report.sections import build_blocks
from analysis.stats.guessing import read_guessing
from analysis.strengths.learning import select_trained
from analysis.study.linked import link_patterns
from nas.records.safe_files import format_json
from nas.records.shown import quote
from nas.records.written import write_files
from search_spaces.errors import InputError

CHECKLIST = Path(__file__).parents[2] / "docs" / "checklist.md"  # missing where only the packages were installed


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says: on its page, which begins with its heading, as JSON values, in short, and for Optuna.

    Args:
        linked: what the page's script knows of the patterns.
    """

    blocks: tuple[Block, ...]
    summary: dict[str, Any]
    conclusion: Conclusion
    studies: tuple[PatternStudy, ...] = ()
    linked: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The page's heading."""
        first = self.blocks[0]
        assert isinstance(first, Heading)
        return first.text


def write_report(run_dir: Path) -> list[Path]:
    """Compute and write RUN/report/, as compose_report and save_report do.

    Raises:
        InputError, ConflictError, NothingUsableError: as read_run, compose_report and save_report.
    """
    run = read_run(run_dir)
    return save_report(run, compose_report(run))


def save_report(run: Run, report: Report) -> list[Path]:
    """Write RUN/report/: index.html, report.md, candidates.csv, summary.json, figures as SVG and PNG; and RUN/optuna/.

    Files of the last report are replaced or removed; those that a user put there or changed are kept.

    Returns:
        The paths of all files of the report.

    Raises:
        ConflictError: a user's file is in the way.
    """
    pictures = [block for block in walk_blocks(report.blocks) if isinstance(block, Picture)]
    files: dict[str, str | bytes] = {
        "index.html": format_html(report.title, report.blocks, report.linked),
        "report.md": format_markdown(report.blocks),
        "candidates.csv": format_table(run.candidates),
        "summary.json": format_json(report.summary),
        **{picture.file: picture.svg for picture in pictures},
    }
    if run.kind == "study" and CHECKLIST.exists():
        files["checklist.md"] = CHECKLIST.read_text(encoding="utf-8")
    files |= {picture.file.replace(".svg", ".png"): picture.png for picture in pictures if picture.png is not None}
    folder = run.path / "report"
    write_files(folder, files, "report", is_older=True)
    write_studies(run.path, report.studies)
    return [folder / name for name in files]


def compose_report(run: Run) -> Report:
    """Compute the report of a run of any kind.

    Raises:
        InputError: it is a final measurement, which the report of its run shows.
        NothingUsableError: no candidate is complete.
    """
    if run.kind == "final":
        raise InputError(
            f"{run.path} has the final measurement of a run, which that run's own report shows: give --run "
            f"{quote(run.path.parent)}"
        )
    if run.kind == "comparison":
        return _compose_lineup(run)
    findings = find(run)
    conclusion = conclude_findings(findings)
    summary = {"conclusion": summarise_conclusion(conclusion), **summarise(findings)}
    blocks = tuple(build_blocks(findings, conclusion))
    linked = link_patterns(findings.views, findings.picks)
    return Report(blocks, summary, conclusion, study_patterns(findings, conclusion.sentence), linked)


def _compose_lineup(run: Run) -> Report:
    standings = rank_networks(run)
    names = {standing.name for standing in standings}
    learned_from = select_trained(run, "dense").strengths if "learned" in names else ()
    kept = select_trained(run, "condensenet", "condensation").strengths if "condensed" in names else ()
    learning = learn_lineup(run)
    conclusion = conclude_networks(run, standings)
    summary = {
        "conclusion": summarise_conclusion(conclusion),
        "is_learned": None if learning is None else learning.is_better,
        "guessing": asdict(read_guessing(run)),
        "networks": [
            {**asdict(standing), "pattern": [list(inputs) for inputs in standing.pattern.sources]}
            for standing in standings
        ],
    }
    lineup = build_lineup(run, standings, learned_from, kept)
    blocks = tuple(_build_all(run, standings, lineup, conclusion))
    return Report(blocks, summary, conclusion, (study_networks(run, standings, conclusion.sentence),))


def _build_all(
    run: Run, standings: Sequence[Standing], lineup: Iterator[Block], conclusion: Conclusion
) -> Iterator[Block]:
    yield Heading(1, title_lineup(run))
    yield from list_faults(run, standings)
    measured = [standing for standing in standings if standing.accuracy is not None]
    pictures = [draw_network(measured[0], "best.svg"), draw_accuracies(run, standings)] if measured else []
    yield from build_head(conclusion, pictures)
    yield from lineup
