"""An SVG document as an element of an HTML page, where many stand side by side."""

import itertools
import re
import xml.etree.ElementTree as ET
from collections import Counter

from analysis.web.frame import read_asset

SVG = "{http://www.w3.org/2000/svg}"
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
LABELLED = ("aria-labelledby", "aria-describedby")  # contain ids, separated by spaces
PIXELS = ("d", "x", "y", "width", "height", "points")  # pixels, of which tenths are enough
OWN_IDS = r"(line2d|text|patch|[xy]tick|axes|figure|legend|matplotlib\.axis|LineCollection|PathCollection)_\d+"
TEXTS = ("text", "tspan", "title")  # in which spaces count
MIN_GROUP = 5  # paths
DROPPED = {"metadata", "title", "desc"}  # from the document's top level; marks keep their titles
CHART_STYLE = read_asset("charts.css")  # the page has it once for all its charts
# Properties that SVG takes as attributes too; a page's policy forbids those of style="...".
PROPERTIES = {
    *("fill", "fill-opacity", "fill-rule", "opacity", "stop-color", "stop-opacity", "clip-path", "clip-rule"),
    *("stroke", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit"),
    *("stroke-opacity", "stroke-width", "marker", "marker-start", "marker-end"),
    *("font-family", "font-size", "font-stretch", "font-style", "font-variant", "font-weight", "text-anchor"),
}


def inline_svg(svg: str, prefix: str, description: str) -> str:
    """Return a document's <svg> element as HTML, without metadata and with ids that no other picture has.

    Args:
        svg: a drawing of this program.
        prefix: beginning of every id and of every reference to one.
        description: what the picture shows, for readers who cannot see it.

    Raises:
        ValueError: not an SVG document, or one that would run a script, load a file or restyle the page.

    >>> inline_svg('<svg xmlns="http://www.w3.org/2000/svg"><g id="a"/></svg>', "p-", "x > y")
    '<svg role="img" aria-label="x &gt; y"><g id="p-a" /></svg>'
    """
    try:
        root = ET.fromstring(svg)  # noqa: S314 - drawings that this program made
    except ET.ParseError as error:
        raise ValueError(f"not an SVG document: {error}; it begins {svg[:60]!r}") from None
    if root.tag.removeprefix(SVG) != "svg":
        raise ValueError(f"not an SVG document: its outermost element is {root.tag}")
    for child in [child for child in root if child.tag.removeprefix(SVG) in DROPPED]:
        root.remove(child)
    _move_style(root)
    for element in root.iter():
        _patch(element, prefix)
    if root.attrib.pop("version", None):  # Matplotlib's
        root.set("class", "plot")
        _shrink(root, prefix)
    _group_paths(root)
    if "viewBox" in root.attrib:  # the page's style sets the size
        root.attrib.pop("width", None)
        root.attrib.pop("height", None)
    role = "group" if root.get("role") == "group" else "img"  # a group's marks can be reached one by one
    root.attrib |= {"role": role, "aria-label": description}
    root.tail = None
    return ET.tostring(root, encoding="unicode")


def _move_style(root: ET.Element) -> None:
    """Make Matplotlib's style sheet the root's own style, and drop our charts', which the page has."""
    for parent in [*root.iter()]:
        for child in [child for child in parent if child.tag.removeprefix(SVG) == "style"]:
            if (child.text or "").strip() != CHART_STYLE.strip():
                rule = re.fullmatch(r"\s*\*\s*\{([^{}@]*)\}\s*", child.text or "")
                if not rule:
                    raise ValueError(f"this style sheet would reach beyond the picture: {(child.text or '')[:60]!r}")
                root.set("style", "; ".join(filter(None, (root.get("style"), rule[1]))))
            parent.remove(child)


def _patch(element: ET.Element, prefix: str) -> None:
    """Turn one element and its attributes into HTML, and refuse what would do more than draw."""
    name = element.tag.removeprefix(SVG)
    if not re.fullmatch(r"[A-Za-z]+", name) or name.lower() in ("script", "foreignobject", "iframe"):
        raise ValueError(f"a picture may not contain <{name}>: only the page runs a script, and pictures only draw")
    element.tag = name
    if XLINK_HREF in element.attrib:  # SVG 2 writes it plainly
        element.set("href", element.attrib.pop(XLINK_HREF))
    element.attrib |= _split_style(element.attrib.pop("style", ""))
    for key, value in element.attrib.items():
        if key.lower().startswith("on"):
            raise ValueError(f"a picture may not contain {key}: only the page runs a script")
        element.set(key, _prefix_value(key, value, prefix))


def _shrink(root: ET.Element, prefix: str) -> None:
    """Leave out what draws nothing: Matplotlib's own ids, groups without attributes, line ends, a font named again."""
    fonts = Counter(element.get("font-family") for element in root.iter("text") if "font-family" in element.attrib)
    for element in root.iter():
        if re.fullmatch(re.escape(prefix) + OWN_IDS, element.get("id", "")):
            del element.attrib["id"]
        if fonts and element.get("font-family") == fonts.most_common(1)[0][0] and element is not root:
            del element.attrib["font-family"]
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if element.tag not in TEXTS and not (element.text or "").strip():
            element.text = None
        for child in element:
            child.tail = None if element.tag not in TEXTS else child.tail
    for parent in [*root.iter()]:
        parent[:] = [leaf for child in parent for leaf in _open_group(child)]
    if fonts and "font-family" not in root.attrib:
        root.set("font-family", str(fonts.most_common(1)[0][0]))


def _group_paths(root: ET.Element) -> None:
    """Put neighbouring paths at the top, such as arcs, into one group that has what they all have."""
    children = []
    for tag, own in itertools.groupby(root, key=lambda child: child.tag):
        run = list(own)
        shared = set.intersection(*(set(path.attrib.items()) for path in run)) if tag == "path" else set()
        if len(run) < MIN_GROUP or not shared:
            children += run
            continue
        for path in run:
            path.attrib = {name: value for name, value in path.attrib.items() if (name, value) not in shared}
            path.tail = None
        group = ET.Element("g", dict(sorted(shared)))
        group.extend(run)
        children.append(group)
    root[:] = children


def _open_group(element: ET.Element) -> list[ET.Element]:
    """Return what a group without attributes contains, any other element as it is."""
    if element.tag != "g" or element.attrib or element.find("title") is not None:
        return [element]
    return [leaf for child in element for leaf in _open_group(child)]


def _split_style(style: str) -> dict[str, str]:
    """Return the properties of a style as attributes.

    >>> _split_style("fill: none; stroke: #000000")
    {'fill': 'none', 'stroke': '#000000'}
    """
    pairs = [declaration.partition(":") for declaration in style.split(";") if declaration.strip()]
    properties = {name.strip(): value.strip() for name, _, value in pairs}
    if unknown := sorted(set(properties) - PROPERTIES):
        raise ValueError(f"a picture may be styled by SVG's own properties, and {unknown[0][:60]!r} is none of them")
    return properties


def _prefix_value(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return prefix + value
    if key == "href":
        if not value.startswith("#"):
            raise ValueError(f"a picture may refer only to its own parts, not to {value[:60]!r}")
        return f"#{prefix}{value[1:]}"
    if key in PIXELS:
        rounded = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), value)
        return re.sub(r"\s*([A-Za-z])\s*", r"\1", " ".join(rounded.split())) if key == "d" else rounded
    if key in LABELLED:
        return " ".join(prefix + part for part in value.split())
    if re.search(r"url\(\s*['\"]?(?!\s*['\"]?#)", value):
        raise ValueError(f"a picture may refer only to its own parts, and {key} is {value[:60]!r}")
    return re.sub(r"url\(\s*(['\"]?)#([^)'\"\s]+)\1\s*\)", rf"url(#{prefix}\2)", value)
