"""one document -> Markdown and a self-contained HTML page."""

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.page.inline_svg import inline_svg
from nas.records.shown import show, show_lines

STYLE = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #5a616b; --line: #dfe2e6; --ground: #ffffff;
  --tint: #f5f6f8; --warn: #fff4e0; --warn-line: #e69f00; --answer: #eaf3fa; --answer-line: #0072b2; --link: #005a8f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e9; --soft: #a3abb5; --line: #3a4048; --ground: #16191d;
  --tint: #20242a; --warn: #33290f; --warn-line: #e69f00; --answer: #14283a; --answer-line: #56b4e9;
  --link: #7cc4f0; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 860px; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 0.6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.8rem 0 0.5rem; }
p { margin: 0.6rem 0; max-width: 46rem; }
a { color: var(--link); }
.notice { background: var(--warn); border-left: 4px solid var(--warn-line); padding: 0.6rem 0.9rem; }
.answer { background: var(--answer); border-left: 4px solid var(--answer-line); padding: 0.9rem 1.1rem;
  margin: 1rem 0; max-width: none; font-size: 1.25rem; line-height: 1.4; }
.scroll { overflow-x: auto; margin: 0.9rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; min-width: 60%; }
th, td { text-align: left; padding: 0.32rem 0.9rem 0.32rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.n, th.n { text-align: right; white-space: nowrap; }
figure { margin: 1.1rem 0; }
figure .scroll { margin: 0; border-radius: 6px; background: #ffffff; }
figure.small { display: inline-block; width: 49%; margin: 0.6rem 0; vertical-align: bottom; padding-right: 0.8rem; }
svg { display: block; width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
figcaption { color: var(--soft); font-size: 0.94rem; margin-top: 0.35rem; }
pre { background: var(--tint); padding: 0.7rem 0.9rem; border-radius: 6px; overflow-x: auto; font-size: 0.9rem; }
@media (max-width: 640px) {
  body { padding: 1.5rem 1rem 3rem; }
  .answer { font-size: 1.12rem; }
  figure.small { display: block; width: 100%; padding-right: 0; }
  figure:not(.small) svg { min-width: 600px; }  /* scrolls: letters would be too small to read */
}
""".strip()


@dataclass(frozen=True, slots=True)
class Heading:
    """The title at level 1, a section at level 2, a part of it at level 3."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead to a file beside the page or near it.

    Args:
        target: a relative path such as ../../docs/checklist.md, or #part of the page.

    Raises:
        ValueError: any other target: a report that was passed on would lead elsewhere, or to no one's files.
    """

    text: str
    target: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(?!/)[A-Za-z0-9._~%/#+=-]+", self.target):  # no colon, so no scheme
            raise ValueError(f"{self.target!r} is no relative link; give a path from the page, spaces as %20")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text, and a link after it where one is given.

    Args:
        kind: a notice is set apart, for what a reader must not miss; the answer is large, for what they came for.
    """

    text: str
    kind: Literal["plain", "notice", "answer"] = "plain"
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain text under a header; every row has the header's length."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG document of this program, and its file name beside the Markdown.

    Args:
        description: what it shows; its caption, and its name for who cannot see it.
        is_small: two beside each other where the page is wide enough.
        png: the same as a bitmap, for slides; written beside the SVG, and not shown.
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
    """A page that loads nothing from elsewhere: style and pictures are inside it, all text is escaped."""
    prefixes = _choose_prefixes(blocks)
    body = "\n".join(_html_block(block, prefix) for block, prefix in zip(blocks, prefixes, strict=True))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def format_markdown(blocks: Sequence[Block]) -> str:
    """GitHub's Markdown, pictures as links to files beside it.

    >>> print(format_markdown([Heading(2, "Best"), Table(("name",), (("a|b",),))]), end="")
    ## Best
    <BLANKLINE>
    | name |
    |---|
    | a\\|b |
    """
    return "\n\n".join(map(_markdown_block, blocks)) + "\n"


def _choose_prefixes(blocks: Sequence[Block]) -> list[str]:
    """For every picture's ids a beginning that no other picture has: its file's name, numbered where it comes again."""
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
            return f"{'#' * level} {_escape_markdown(text)}"
        case Paragraph(text, kind, link):
            words = f"**{_escape_markdown(text)}**" if kind == "answer" else _escape_markdown(text)
            after = f" [{_escape_markdown(link.text)}]({link.target})" if link else ""
            return ("" if kind == "plain" else "> ") + words + after
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))  # no line of the text ends it
            return f"{fence}\n{show_lines(text)}\n{fence}"
        case Picture(file, _, description):
            return f"![{_escape_markdown(description)}]({file})"
        case Table(header, rows):
            lines = [header, *rows]
            texts = ["| " + " | ".join(map(_escape_markdown, line)) + " |" for line in lines]
            return "\n".join([texts[0], "|" + "---|" * len(header), *texts[1:]])


def _escape_markdown(text: str) -> str:
    """Text as it stands: no markup, entities, formulas or, at its start, headings and lists."""
    text = show(" ".join(text.split()))
    return re.sub(r"([\\`*\[\]<>|~$&]|\b_|_\b|^[#+-](?=[#+-]* ))", r"\\\1", text)
