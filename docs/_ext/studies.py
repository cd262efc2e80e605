"""The committed studies on the site: their pages, their reports as written, and other files that pages link to."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
DOCS = Path(__file__).parents[1]
FOLDER = "files"  # of the site, where files lie as they do under docs/
REPORT = "index.html"
LINK = re.compile(
    r"^ *```.*?^ *```$|`[^`\n]+`|(?<!!)\[((?:`[^`]*`|[^\]`])*)\]\(([^)#\s]+)(#[^)\s]*)?\)", re.DOTALL | re.MULTILINE
)


class Report(SphinxDirective):
    """A link to a committed study's report: `{report} FOLDER`, with the link's text as the content."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[Any]:
        """Return the link."""
        page = f"{self.arguments[0]}/{REPORT}"
        _take(self.env, self.env.docname, page)
        target = f"{_root(self.env.docname)}{FOLDER}/{page}"
        link = nodes.reference("", " ".join(self.content), refuri=target, classes=["sd-btn", "sd-btn-outline-primary"])
        return [nodes.paragraph("", "", link)]


PLACE = re.compile(r"^```\{study-page\} (.*)\n```$", re.MULTILINE)


def insert(app: Any, docname: str, source: list[str]) -> None:
    """Write pages of studies into those of the site that have ```{study-page} FILE, and lead links to files there."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md":
        text = _move_links(app.env, docname, page.parent, source[0])
        source[0] = PLACE.sub(lambda place: _write_page(app.env, docname, DOCS / place[1]), text)


def _write_page(env: Any, docname: str, page: Path) -> str:
    """Return a page of a study without its title."""
    env.note_dependency(str(page), docname=docname)
    return _move_links(env, docname, page.parent, page.read_text(encoding="utf-8").partition("\n")[2])


def _move_links(env: Any, docname: str, folder: Path, text: str) -> str:
    """Return a text whose links to what is no page of the site lead to a copy there, or name its place."""

    def move(link: re.Match[str]) -> str:
        words, target, part = link[1], link[2], link[3] or ""
        if target is None or ":" in target:  # code, or the world
            return link[0]
        path = (folder / target).resolve()
        if not path.is_relative_to(DOCS):
            return f"{words} (`{target.replace('../', '')}`)"
        name = path.relative_to(DOCS).as_posix()
        results = "results/" + name.removesuffix(".md").removesuffix("/README").replace("/", "-")
        for page in (name.removesuffix(".md"), results, name.replace("/scripts", "/index")):
            if page in env.found_docs:
                return f"[{words}](/{env.doc2path(page, base=False)}{part})"
        name = name.replace("report.md", REPORT)
        _take(env, docname, name)
        return f'<a href="{_root(docname)}{FOLDER}/{name}{part}">{words}</a>'

    return LINK.sub(move, text)


def _root(docname: str) -> str:
    return "../" * docname.count("/")


def _take(env: Any, docname: str, name: str) -> None:
    """Note that a page needs a file of docs/; Sphinx forgets it with the page."""
    env.metadata[docname].setdefault(FOLDER, []).append(name)


def copy_studies(app: Any, error: object) -> None:
    """Copy the files that pages name, and what reports link to, to where they lie under docs/.

    A file that is not there is a warning; reports may be missing together, before the first is written.
    """
    if error is not None or app.builder.format != "html":
        return
    has_reports = any(DOCS.glob(f"*/**/{REPORT}"))
    for name in sorted({name for said in app.env.metadata.values() for name in said.get(FOLDER, ())}):
        for file in (DOCS / name, *_list_linked(DOCS / name)):
            target = Path(app.outdir) / FOLDER / file.relative_to(DOCS)
            if file.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            elif has_reports or file.name != REPORT:
                logger.warning("docs/%s is missing, to which a page or a report links", file.relative_to(DOCS))


def _list_linked(page: Path) -> Iterator[Path]:
    """Yield the files that a report links to."""
    if page.name == REPORT and page.is_file():
        for target in re.findall(r'href="([^"#:?]+)[^":]*"', page.read_text(encoding="utf-8")):
            path = (page.parent / unquote(target)).resolve()
            if path.is_relative_to(DOCS):
                yield path


def setup(app: Any) -> dict[str, Any]:
    """Let Sphinx call what is here."""
    app.add_directive("report", Report)
    app.connect("source-read", insert)
    app.connect("build-finished", copy_studies)
    return {"parallel_read_safe": False}
