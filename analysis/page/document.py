"""A document, written as Markdown or as one self-contained HTML page."""

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.page.inline_svg import inline_svg
from nas.records.shown import show, show_lines


@dataclass(frozen=True, slots=True)
class Heading:
    """The title at level 1, a section at level 2, a part of it at level 3."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a file near the page, or to a part of the page.

    Args:
        target: relative path such as ../../docs/checklist.md, or #part of the page.

    Raises:
        ValueError: any other target; it would not work, or lead elsewhere, once the report is passed on.
    """

    text: str
    target: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(?!/)[A-Za-z0-9._~%/#+=-]+", self.target):  # no colon, so no scheme
            raise ValueError(f"{self.target!r} is not a relative link; give a path from the page, with spaces as %20")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text, with an optional link after it.

    Args:
        kind: a notice is set apart, so that no reader misses it; the answer is large, for it is what they came for; a
            note says how to read what stands above it.
    """

    text: str
    kind: Literal["plain", "notice", "answer", "note"] = "plain"
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain text under a header; every row has the header's length."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of this program.

    Args:
        file: file name of the SVG, next to the Markdown.
        svg: the SVG document.
        description: what the figure shows: its caption, and its name for readers who cannot see it.
        is_small: whether two stand side by side where the page is wide enough.
        png: the figure as a bitmap for slides, written next to the SVG and not shown.
    """

    file: str
    svg: str
    description: str
    is_small: bool = False
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy."""

    text: str


Block = Heading | Paragraph | Table | Picture | Code


def format_html(title: str, blocks: Sequence[Block]) -> str:
    """Return a page that loads nothing: it contains its style and pictures, and all its text is escaped."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    prefixes = _choose_prefixes(blocks)
    body = "\n".join(_html_block(block, prefix) for block, prefix in zip(blocks, prefixes, strict=True))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def format_markdown(blocks: Sequence[Block]) -> str:
    """Return GitHub's Markdown, with pictures as links to files next to it.

    >>> print(format_markdown([Heading(2, "Best"), Table(("name",), (("a|b",),))]), end="")
    ## Best
    <BLANKLINE>
    | name |
    |---|
    | a\\|b |
    """
    return "\n\n".join(map(_markdown_block, blocks)) + "\n"


def _choose_prefixes(blocks: Sequence[Block]) -> list[str]:
    """Return a prefix for each picture's ids that no other has: its file's name, numbered where it comes again."""
    counts: Counter[str] = Counter()
    prefixes = []
    for block in blocks:
        name = re.sub(r"[^a-z0-9]+", "_", block.file.removesuffix(".svg").lower()) if isinstance(block, Picture) else ""
        counts[name] += 1
        prefixes.append(f"p-{name}-" if counts[name] == 1 else f"p-{name}-{counts[name]}-")
    return prefixes


def _html_block(block: Block, prefix: str) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text, kind, link):
            mark = "" if kind == "plain" else f' class="{kind}"'
            after = f' <a href="{html.escape(link.target)}">{html.escape(link.text)}</a>' if link else ""
            return f"<p{mark}>{html.escape(text)}{after}</p>"
        case Code(text):
            return f"<pre><code>{html.escape(text)}</code></pre>"
        case Picture(_, svg, description, is_small):
            image = inline_svg(svg, prefix, description)
            caption = f"<figcaption>{html.escape(description)}</figcaption>"
            if is_small:
                return f'<figure class="small">{image}{caption}</figure>'
            return f'<figure><div class="scroll">{image}</div>{caption}</figure>'
        case Table(header, rows):
            return _html_table(header, rows)


def _html_table(header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    numeric = [all(_is_numeric(row[column]) for row in rows) for column in range(len(header))]

    def row_of(tag: str, cells: tuple[str, ...]) -> str:
        marks = [' class="n"' if is_number else "" for is_number in numeric]
        inner = "".join(f"<{tag}{m}>{html.escape(c)}</{tag}>" for m, c in zip(marks, cells, strict=True))
        return f"<tr>{inner}</tr>"

    body = "\n".join(row_of("td", row) for row in rows)
    head = row_of("th", header)
    return f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _is_numeric(cell: str) -> bool:
    return re.fullmatch(r"[-+<±]?\s?\d[\d.,]*( (±|to|of|x) [-+]?[\d.,]+)?( %)?|-?", cell) is not None


def _markdown_block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {escape_markdown(text)}"
        case Paragraph(text, kind, link):
            words = f"**{escape_markdown(text)}**" if kind == "answer" else escape_markdown(text)
            after = f" [{escape_markdown(link.text)}]({link.target})" if link else ""
            return ("> " if kind in ("notice", "answer") else "") + words + after
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))  # no line of the text ends it
            return f"{fence}\n{show_lines(text)}\n{fence}"
        case Picture(file, _, description):
            return f"![{escape_markdown(description)}]({file})"
        case Table(header, rows):
            lines = [header, *rows]
            texts = ["| " + " | ".join(map(escape_markdown, line)) + " |" for line in lines]
            return "\n".join([texts[0], "|" + "---|" * len(header), *texts[1:]])


def escape_markdown(text: str) -> str:
    """Escape all that Markdown would take for markup, an entity, a formula, a heading or a list."""
    text = show(" ".join(text.split()))
    return re.sub(r"([\\`*\[\]<>|~$&]|\b_|_\b|^[#+-](?=[#+-]* ))", r"\\\1", text)
