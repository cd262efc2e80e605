"""one document -> Markdown and a self-contained HTML page."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #5a616b; --line: #dfe2e6; --ground: #ffffff;
  --tint: #f5f6f8; --warn: #fff4e0; --warn-line: #e69f00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e9; --soft: #a3abb5; --line: #3a4048; --ground: #16191d;
  --tint: #20242a; --warn: #33290f; --warn-line: #e69f00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 860px; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 0.6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { margin: 0.6rem 0; max-width: 46rem; }
.notice { background: var(--warn); border-left: 4px solid var(--warn-line); padding: 0.6rem 0.9rem; }
.scroll { overflow-x: auto; margin: 0.9rem 0; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; min-width: 60%; }
th, td { text-align: left; padding: 0.32rem 0.9rem 0.32rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.n, th.n { text-align: right; white-space: nowrap; }
figure { margin: 1.1rem 0; }
figure.small { display: inline-block; width: 49%; margin: 0.6rem 0; vertical-align: bottom; padding-right: 0.8rem; }
@media (max-width: 600px) { figure.small { width: 100%; } }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
figcaption { color: var(--soft); font-size: 0.86rem; margin-top: 0.35rem; }
pre { background: var(--tint); padding: 0.7rem 0.9rem; border-radius: 6px; overflow-x: auto; font-size: 0.86rem; }
""".strip()


@dataclass(frozen=True, slots=True)
class Heading:
    """The title at level 1, a section at level 2."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text; a notice is set apart, for what a reader must not miss."""

    text: str
    is_notice: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain text under a header; every row has the header's length."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG document, its file name beside the Markdown, and what it shows for who cannot see it."""

    file: str
    svg: str
    description: str
    is_small: bool = False  # two beside each other where the page is wide enough


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy."""

    text: str


Block = Heading | Paragraph | Table | Picture | Code


def format_html(title: str, blocks: Sequence[Block]) -> str:
    """A page that loads nothing from elsewhere: style and pictures are inside it, all text is escaped."""
    body = "\n".join(map(_html_block, blocks))
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


def _html_block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text, is_notice):
            mark = ' class="notice"' if is_notice else ""
            return f"<p{mark}>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre><code>{html.escape(text)}</code></pre>"
        case Picture(_, svg, description, is_small):
            mark = ' class="small"' if is_small else ""
            data = base64.b64encode(svg.encode()).decode()
            text = html.escape(description)
            image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text}">'
            return f"<figure{mark}>{image}<figcaption>{text}</figcaption></figure>"
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
    return re.fullmatch(r"[-+<]?\s?\d[\d.,]*( ± [\d.]+)?|-?", cell) is not None


def _markdown_block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_escape_markdown(text)}"
        case Paragraph(text, is_notice):
            return ("> " if is_notice else "") + _escape_markdown(text)
        case Code(text):
            return f"```\n{text}\n```"
        case Picture(file, _, description):
            return f"![{_escape_markdown(description)}]({file})"
        case Table(header, rows):
            lines = [header, *rows]
            texts = ["| " + " | ".join(map(_escape_markdown, line)) + " |" for line in lines]
            return "\n".join([texts[0], "|" + "---|" * len(header), *texts[1:]])


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))
