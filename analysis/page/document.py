"""A document, written as Markdown or as one self-contained HTML page."""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from analysis.page.inline_svg import inline_svg
from analysis.web.frame import wrap_page
from nas.records.shown import show, show_lines

MIN_SECTIONS = 3  # from which a page has a list of contents


@dataclass(frozen=True, slots=True)
class Heading:
    """The title at level 1, a section at level 2, a part of it at level 3.

    The page's contents list the sections; a link to "#" and name_anchor's word for the heading leads to it.
    """

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
            finding is what a section comes to; a note says how to read what stands above it.
    """

    text: str
    kind: Literal["plain", "notice", "answer", "finding", "note"] = "plain"
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain text under a header; every row has the header's length.

    Args:
        keys: full key of each row's pattern, by which pictures and tables of a page know each other's marks; None for a
            row of something else. Empty for a table without patterns.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of this program.

    Args:
        file: file name of the SVG, next to the Markdown.
        svg: the SVG document.
        description: caption: what the figure shows and how to read it.
        alt: kind of picture in a few words, for readers who cannot see it; the caption is not repeated.
        is_small: whether two stand side by side where the page is wide enough.
        png: the figure as a bitmap for slides, written next to the SVG and not shown.
    """

    file: str
    svg: str
    description: str
    alt: str
    is_small: bool = False
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that are closed until the reader opens them.

    Args:
        summary: line that stays visible; it says what was found, not only what is inside.
    """

    summary: str
    blocks: "tuple[Block, ...]"


Block = Heading | Paragraph | Table | Picture | Code | Fold


def walk_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield all blocks in the page's order, each fold before what it holds."""
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from walk_blocks(block.blocks)


def name_anchor(heading: str) -> str:
    """Return the word that a link to a heading ends with, by GitHub's rule.

    >>> name_anchor("What was found, 24 layers?")
    'what-was-found-24-layers'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def format_html(title: str, blocks: Sequence[Block], data: Mapping[str, Any] | None = None) -> str:
    """Return a page that loads nothing: it contains its style, script and pictures, and all its text is escaped.

    What comes before the first section is the page's head; the contents follow it.

    Args:
        data: JSON values of the patterns in its tables and pictures, for its script.
    """
    writer = _HtmlWriter(_choose_prefixes(blocks), iter(_choose_anchors(blocks)))
    first = _find_first_section(blocks)
    head, sections = writer.write(blocks[:first]), writer.write(blocks[first:])
    body = (
        f'<main>\n<header>\n{head}\n</header>\n{_html_contents(blocks)}<div class="sections">\n{sections}\n</div>\n'
        "</main>"
    )
    return wrap_page(title, body, data)


def format_markdown(blocks: Sequence[Block]) -> str:
    """Return GitHub's Markdown, with pictures as links to files next to it.

    >>> print(format_markdown([Heading(2, "Best"), Table(("name",), (("a|b",),))]), end="")
    ## Best
    <BLANKLINE>
    | name |
    |---|
    | a\\|b |
    """
    first = _find_first_section(blocks)
    contents = [f"- [{escape_markdown(heading.text)}](#{anchor})" for heading, anchor in _list_sections(blocks)]
    parts = [
        *map(_markdown_block, blocks[:first]),
        *(["\n".join(contents)] if len(contents) >= MIN_SECTIONS else []),
        *map(_markdown_block, blocks[first:]),
    ]
    return "\n\n".join(parts) + "\n"


def _find_first_section(blocks: Sequence[Block]) -> int:
    """Return the place of the first section's heading; the number of blocks without any."""
    places = (place for place, block in enumerate(blocks) if isinstance(block, Heading) and block.level > 1)
    return next(places, len(blocks))


def _choose_anchors(blocks: Sequence[Block]) -> list[str]:
    """Return an anchor for each heading that no other has: GitHub numbers those of equal headings."""
    counts: Counter[str] = Counter()
    anchors = []
    for block in walk_blocks(blocks):
        if isinstance(block, Heading):
            name = name_anchor(block.text)
            anchors.append(f"{name}-{counts[name]}" if counts[name] else name)
            counts[name] += 1
    return anchors


def _list_sections(blocks: Sequence[Block]) -> list[tuple[Heading, str]]:
    """Return the sections with their anchors."""
    headings = [block for block in walk_blocks(blocks) if isinstance(block, Heading)]
    both = zip(headings, _choose_anchors(blocks), strict=True)
    return [(heading, anchor) for heading, anchor in both if heading.level == 2]


def _choose_prefixes(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield a prefix for each picture's ids that no other has: its file's name, numbered where it comes again."""
    counts: Counter[str] = Counter()
    for block in walk_blocks(blocks):
        if isinstance(block, Picture):
            name = re.sub(r"[^a-z0-9]+", "_", block.file.removesuffix(".svg").lower())
            counts[name] += 1
            yield f"p-{name}-" if counts[name] == 1 else f"p-{name}-{counts[name]}-"


def _html_contents(blocks: Sequence[Block]) -> str:
    """Return links to the sections; nothing where they are too few to need any."""
    links = [f'<li><a href="#{anchor}">{html.escape(each.text)}</a></li>' for each, anchor in _list_sections(blocks)]
    inside = "\n".join(links)
    return f'<nav aria-label="Contents">\n<ul>\n{inside}\n</ul>\n</nav>\n' if len(links) >= MIN_SECTIONS else ""


@dataclass(frozen=True, slots=True)
class _HtmlWriter:
    """Writes blocks in the page's order.

    Args:
        prefixes: of each picture's ids.
        anchors: of each heading.
    """

    prefixes: Iterator[str]
    anchors: Iterator[str]

    def write(self, blocks: Iterable[Block]) -> str:
        """Return the blocks as HTML."""
        return "\n".join(map(self._write_block, blocks))

    def _write_block(self, block: Block) -> str:
        match block:
            case Heading(level, text):
                return f'<h{level} id="{html.escape(next(self.anchors))}">{html.escape(text)}</h{level}>'
            case Paragraph(text, kind, link):
                mark = "" if kind == "plain" else f' class="{kind}"'
                after = f' <a href="{html.escape(link.target)}">{html.escape(link.text)}</a>' if link else ""
                return f"<p{mark}>{html.escape(text)}{after}</p>"
            case Code(text):
                return f"<pre><code>{html.escape(text)}</code></pre>"
            case Picture():
                return _html_picture(block, next(self.prefixes))
            case Table():
                return _html_table(block)
            case Fold(summary, inside):
                return f"<details>\n<summary>{html.escape(summary)}</summary>\n{self.write(inside)}\n</details>"


def _html_picture(picture: Picture, prefix: str) -> str:
    image = inline_svg(picture.svg, prefix, picture.alt)
    caption = f"<figcaption>{html.escape(picture.description)}</figcaption>"
    if picture.is_small:
        return f'<figure class="small">{image}{caption}</figure>'
    return f'<figure><div class="scroll">{image}</div>{caption}</figure>'


def _html_table(table: Table) -> str:
    """Return a table whose first column of words heads its rows."""
    numeric = [all(_is_numeric(row[column]) for row in table.rows) for column in range(len(table.header))]
    naming = numeric.index(False) if False in numeric else -1
    marks = [' class="n"' if is_number else "" for is_number in numeric]
    names = [html.escape(name).replace(" %", "\u00a0%") for name in table.header]  # no line ends before the sign
    head = "".join(f'<th scope="col"{mark}>{name}</th>' for mark, name in zip(marks, names, strict=True))

    def cell(column: int, text: str) -> str:
        tag, end = ('th scope="row"', "th") if column == naming else ("td", "td")
        return f"<{tag}{marks[column]}>{html.escape(text)}</{end}>"

    lines = []
    for row, key in zip(table.rows, table.keys or (None,) * len(table.rows), strict=True):
        own = "" if key is None else f' data-key="{html.escape(key)}"'
        lines.append(f"<tr{own}>{''.join(cell(column, text) for column, text in enumerate(row))}</tr>")
    body = "\n".join(lines)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _is_numeric(cell: str) -> bool:
    return (
        re.fullmatch(r"[-+<±]?\s?\d[\d.,]*( (±|to|of|x) [-+]?[\d.,]+| \[[-+]?[\d.]+, [-+]?[\d.]+\])?( %)?|-?", cell)
        is not None
    )


def _markdown_block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {escape_markdown(text)}"
        case Paragraph(text, kind, link):
            words = f"**{escape_markdown(text)}**" if kind in ("answer", "finding") else escape_markdown(text)
            after = f" [{escape_markdown(link.text)}]({link.target})" if link else ""
            return ("> " if kind in ("notice", "answer") else "") + words + after
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))  # no line of the text ends it
            return f"{fence}\n{show_lines(text)}\n{fence}"
        case Picture():
            return f"![{escape_markdown(block.alt)}]({block.file})\n\n*{escape_markdown(block.description)}*"
        case Table(header, rows):
            lines = [header, *rows]
            texts = ["| " + " | ".join(map(escape_markdown, line)) + " |" for line in lines]
            return "\n".join([texts[0], "|" + "---|" * len(header), *texts[1:]])
        case Fold(summary, inside):
            words = html.escape(show(" ".join(summary.split())))  # GitHub reads no Markdown in this line
            blocks = "\n\n".join(map(_markdown_block, inside))
            return f"<details>\n<summary>{words}</summary>\n\n{blocks}\n\n</details>"


def escape_markdown(text: str) -> str:
    """Escape all that Markdown would take for markup, an entity, a formula, a heading or a list."""
    text = show(" ".join(text.split()))
    return re.sub(r"([\\`*\[\]<>|~$&]|\b_|_\b|^[#+-](?=[#+-]* ))", r"\\\1", text)
