"""report/: Markdown + one self-contained HTML page + CSV + figures."""

import re
from pathlib import Path

from analysis.document import Picture, format_html, format_markdown
from analysis.findings import find, summarise
from analysis.results import read_run
from analysis.sections import build_blocks, title
from search_spaces.files import format_json, write_atomic

CHECKLIST = Path(__file__).parents[1] / "docs" / "checklist.md"  # missing where only the packages were installed
OWN_PICTURE = re.compile(r"(arcs|bands|curves|distance|effects|levels|tradeoff)[A-Za-z0-9_-]*\.(svg|png)")


def write_report(run_dir: Path) -> list[Path]:
    """Write RUN/report/: index.html, report.md, candidates.csv, summary.json and the figures as SVG and PNG.

    Returns:
        The paths of all files written.

    Raises:
        InputError: not a run directory.
        ConflictError: a study's plan was changed or lost.
        NothingUsableError: no candidate is complete.
    """
    findings = find(read_run(run_dir))
    blocks = [*build_blocks(findings)]
    pictures = [block for block in blocks if isinstance(block, Picture)]
    texts = {
        "index.html": format_html(title(findings), blocks),
        "report.md": format_markdown(blocks),
        "candidates.csv": findings.run.candidates.to_csv(index=False),
        "summary.json": format_json(summarise(findings)),
        **{picture.file: picture.svg for picture in pictures},
    }
    if findings.run.plan is not None and CHECKLIST.exists():
        texts["checklist.md"] = CHECKLIST.read_text(encoding="utf-8")
    files: dict[str, str | bytes] = {**texts}
    files |= {picture.file.replace(".svg", ".png"): picture.png for picture in pictures if picture.png is not None}
    folder = run_dir / "report"
    for name, content in files.items():
        write_atomic(folder / name, content)
    for path in folder.iterdir() if folder.is_dir() else ():
        # Of patterns that were among the best when the report was last written, and the like.
        if path.name not in files and OWN_PICTURE.fullmatch(path.name):
            path.unlink()
    return [folder / name for name in files]
