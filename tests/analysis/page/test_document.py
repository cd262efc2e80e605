import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import pytest
from matplotlib.figure import Figure

from analysis.page.document import (
    Block,
    Code,
    Fold,
    Heading,
    Link,
    Paragraph,
    Picture,
    Table,
    format_html,
    format_markdown,
    walk_blocks,
)
from analysis.page.figure_style import draw_svg
from analysis.page.inline_svg import inline_svg
from search_spaces.templates import find_template
from search_spaces.wiring.arcs import draw_arcs

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def _svg(inside: str, attributes: str = 'width="10" height="5" viewBox="0 0 10 5"') -> str:
    return f"<svg {NAMESPACES} {attributes}>{inside}</svg>"


class _Collector(HTMLParser):
    """Every tag with its attributes, and the text outside tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data


def _read_data(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="patterns.json">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_policy_allows_what_the_page_contains_and_nothing_else() -> None:
    page = format_html("t", [Heading(1, "t"), Picture("a.svg", _svg('<path style="fill: none"/>'), "d", "d")], {"n": 1})
    tags = _Collector(page).tags
    policy = next(attributes["content"] for _, attributes in tags if "http-equiv" in attributes)
    allowed = {
        name: sources.split() for name, _, sources in (part.strip().partition(" ") for part in policy.split(";"))
    }
    assert allowed["default-src"] == ["'none'"]
    assert allowed["img-src"] == ["data:"]
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[directive] == [f"'sha256-{digest}'"]
    assert not any("style" in attributes for _, attributes in tags)  # the policy forbids the attribute
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # the name of SVG's elements, which nobody fetches
    assert _read_data(page) == {"n": 1}


def test_every_id_and_every_reference_is_prefixed() -> None:
    inside = (
        '<defs><clipPath id="c"><path d="M 0 0"/></clipPath><path id="m"/></defs>'
        '<g clip-path="url(#c)" aria-labelledby="c  m"><use xlink:href="#m"/><use href="#m"/>'
        "<path style=\"fill: url('#c'); marker: url( #m )\"/></g>"
    )
    result = inline_svg(_svg(inside), "p-", "")
    assert re.findall(r' id="(.*?)"', result) == ["p-c", "p-m"]
    assert re.findall(r'href="(.*?)"', result) == ["#p-m", "#p-m"]
    assert "xlink" not in result
    assert re.findall(r"url\((.*?)\)", result) == ["#p-c", "#p-c", "#p-m"]
    assert 'aria-labelledby="p-c p-m"' in result


def test_what_belongs_to_a_document_alone_is_stripped() -> None:
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd">\n<!-- by -->'
    )
    inside = (
        '<title>whole</title><metadata><a xmlns="urn:x">m</a></metadata><g id="a"><title>a &amp; &lt;b&gt;</title></g>'
    )
    result = inline_svg(head + _svg(inside), "p-", 'say "x" <y>')
    root = ET.fromstring(result)  # noqa: S314 - our own
    assert result.startswith('<svg viewBox="0 0 10 5" role="img"')
    assert root.attrib == {"viewBox": "0 0 10 5", "role": "img", "aria-label": 'say "x" <y>'}
    assert [(child.tag, child.get("id")) for child in root] == [("g", "p-a")]
    assert root[0][0].text == "a & <b>"


def test_matplotlibs_style_stays_inside_the_picture() -> None:
    result = inline_svg(_svg('<defs><style type="text/css">*{stroke-linejoin: round}</style></defs>'), "p-", "")
    assert "style" not in result
    assert 'stroke-linejoin="round"' in result


@pytest.mark.parametrize(
    ("inside", "problem"),
    [
        ("<script>1</script>", "only draw"),
        ("<foreignObject/>", "only draw"),
        ('<g onclick="x()"/>', "onclick"),
        ('<a xlink:href="https://example.org"/>', "its own parts"),
        ('<image href="data:image/png;base64,AAAA"/>', "its own parts"),
        ('<path fill="url(https://example.org/a#b)"/>', "its own parts"),
        ("<path style='fill: url( \"x.svg#b\")'/>", "its own parts"),
        ("<style>body { color: red }</style>", "beyond the picture"),
        ('<style xmlns="">body { color: red }</style>', "beyond the picture"),
        ("<style>* { color: red } p { color: red }</style>", "beyond the picture"),
        ('<g style="onclick: x()"/>', "'onclick' is none"),
        ('<g style="background: red"/>', "'background' is none"),
        ("<g>", "not an SVG document"),
    ],
)
def test_a_picture_that_would_do_more_than_show_is_refused(inside: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        inline_svg(_svg(inside), "p-", "")


def test_another_document_is_no_picture() -> None:
    with pytest.raises(ValueError, match="outermost element is html"):
        inline_svg("<html/>", "p-", "")


def test_pictures_of_like_names_share_no_id_on_a_page() -> None:
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1], "o-")
    svg = draw_svg(figure)
    page = format_html(
        "t", [Picture(name, svg, "d", "Plot") for name in ("a b.svg", "a-b.svg", "A_B.svg", "a.svg", "a.svg")]
    )
    result = _Collector(page)
    ids = [attributes["id"] for _, attributes in result.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 15
    references = [attributes["href"] for _, attributes in result.tags if "href" in attributes]
    references += re.findall(r"url\((#.*?)\)", page)
    assert len(references) > 50
    assert {reference[1:] for reference in references} <= set(ids)


@pytest.mark.parametrize("target", ["candidates.csv", "../../docs/checklist.md", "#best", "a%20b.html#x"])
def test_relative_links_are_allowed(target: str) -> None:
    block = Paragraph("See", link=Link("the <list>", target))
    assert f'See <a href="{target}">the &lt;list&gt;</a>' in format_html("t", [block])
    assert format_markdown([block]) == f"See [the \\<list\\>]({target})\n"


@pytest.mark.parametrize(
    "target",
    ["", "/etc", "//example.org", "https://example.org", "javascript:x", "java\nscript:x", "a b", "\\\\a", 'a"b'],
)
def test_links_that_leave_the_run_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match="not a relative link"):
        Link("x", target)


def test_the_answer_and_notices_are_set_apart_in_both_forms() -> None:
    blocks = [Paragraph("a"), Paragraph("b", "notice"), Paragraph("c", "answer")]
    page = format_html("t", blocks)
    assert [attributes.get("class") for tag, attributes in _Collector(page).tags if tag == "p"] == [
        None,
        "notice",
        "answer",
    ]
    assert format_markdown(blocks) == "a\n\n> b\n\n> **c**\n"


def test_hostile_text_is_text_everywhere() -> None:
    evil = '"></script><script>alert(1)</script><b onclick="x"><!--<script>'
    blocks: list[Block] = [
        Heading(1, evil),
        Paragraph(evil, "answer", Link(evil, "x")),
        Table((evil,), ((evil,),)),
        Picture('"><b>.svg', _svg("<path/>"), evil, evil),
        Code(evil),
        Fold(evil, (Paragraph(evil),)),
    ]
    page = format_html(evil, blocks, {evil: [evil]})
    result = _Collector(page)
    assert not {"b", "img"} & {tag for tag, _ in result.tags}
    assert [attributes for tag, attributes in result.tags if tag == "script"] == [
        {"type": "application/json", "id": "patterns.json"},
        {},
    ]
    assert _read_data(page) == {evil: [evil]}
    assert result.text.count(evil) == 10
    assert next(attributes for tag, attributes in result.tags if tag == "svg")["aria-label"] == evil


SECTIONS: list[Block] = [
    Heading(1, "All"),
    Paragraph("the answer", "answer"),
    Heading(2, "One & two"),
    Fold(
        "1 < 2: shown", (Paragraph("inside"), Heading(3, "A part"), Picture("a.svg", _svg("<g/>"), "Why *so*", "Plot"))
    ),
    Heading(2, "One & two"),
    Heading(2, "Three"),
    Table(("", "name"), (("1", "log"), ("2", "a draw")), ("k" * 64, None)),
]


def test_the_contents_link_to_every_section_once() -> None:
    page = _Collector(format_html("t", SECTIONS))
    headings = {attributes["id"]: tag for tag, attributes in page.tags if re.fullmatch(r"h\d", tag)}
    assert headings == {"all": "h1", "one--two": "h2", "a-part": "h3", "one--two-1": "h2", "three": "h2"}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["#one--two", "#one--two-1", "#three"]
    text = format_markdown(SECTIONS)
    assert re.findall(r"^- \[(.*)\]\((.*)\)$", text, re.MULTILINE) == [
        (name, link) for name, link in zip((r"One \& two", r"One \& two", "Three"), links, strict=True)
    ]
    assert text.index("the answer") < text.index("- [One") < text.index("## One")
    assert "<nav" not in format_html("t", SECTIONS[:4])


def test_a_fold_is_closed_and_holds_its_blocks() -> None:
    page = format_html("t", SECTIONS)
    inside = page.partition("<details>\n<summary>1 &lt; 2: shown</summary>")[2].partition("</details>")[0]
    assert "<p>inside</p>" in inside
    assert "<figcaption>Why *so*</figcaption>" in inside
    text = format_markdown(SECTIONS)
    opened = (
        "<details>\n<summary>1 &lt; 2: shown</summary>\n\ninside\n\n### A part\n\n![Plot](a.svg)\n\n*Why \\*so\\**\n\n"
    )
    assert f"{opened}</details>" in text
    assert [type(block).__name__ for block in walk_blocks(SECTIONS)][3:7] == ["Fold", "Paragraph", "Heading", "Picture"]


def test_rows_carry_their_patterns_key_and_a_tables_headers_their_scope() -> None:
    tags = _Collector(format_html("t", SECTIONS)).tags
    assert [attributes.get("data-key") for tag, attributes in tags if tag == "tr"] == [None, "k" * 64, None]
    assert [attributes.get("scope") for tag, attributes in tags if tag == "th"] == ["col", "col", "row", "row"]


def test_arcs_share_what_they_have_in_common_and_stay_the_same_arcs() -> None:
    pattern = find_template("dense").build(6)
    drawn = draw_arcs(pattern)
    plain = [path.attrib for path in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}path")]  # noqa: S314
    group = next(ET.fromstring(inline_svg(drawn, "p-", "")).iter("g"))  # noqa: S314
    assert len(inline_svg(drawn, "p-", "")) < 0.8 * len(drawn)
    for before, path in zip(plain, group, strict=True):
        after = {**group.attrib, **path.attrib}
        numbers = [float(number) for number in re.findall(r"[-\d.]+", after.pop("d"))]
        assert numbers == [float(number) for number in re.findall(r"[-\d.]+", before["d"])]
        assert after == {name: value for name, value in before.items() if name != "d"}
