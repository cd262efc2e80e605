"""report/: Markdown + one self-contained HTML page + CSV + figures."""

from pathlib import Path

from analysis.document import Picture, format_html, format_markdown
from analysis.findings import find, summarise
from analysis.results import read_run
from analysis.sections import build_blocks, title
from search_spaces.files import format_json, write_atomic


def write_report(run_dir: Path) -> list[Path]:
    """Write RUN/report/: index.html, report.md, candidates.csv, summary.json and the figures as SVG.

    Returns:
        The paths of all files written.

    Raises:
        InputError: not a run directory.
        NothingUsableError: no candidate is complete.
    """
    findings = find(read_run(run_dir))
    blocks = [*build_blocks(findings)]
    texts = {
        "index.html": format_html(title(findings), blocks),
        "report.md": format_markdown(blocks),
        "candidates.csv": findings.run.candidates.to_csv(index=False),
        "summary.json": format_json(summarise(findings)),
        **{block.file: block.svg for block in blocks if isinstance(block, Picture)},
    }
    folder = run_dir / "report"
    for name, text in texts.items():
        write_atomic(folder / name, text)
    for path in folder.glob("arcs_*.svg"):  # of patterns that were among the best when the report was last written
        if path.name not in texts:
            path.unlink()
    return [folder / name for name in texts]
