"""The report's page in a real browser: nothing overflows, nothing is hidden, nothing runs."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from analysis.page.document import Block, Code, Heading, Link, Paragraph, Picture, Table, format_html
from analysis.page.figure_style import draw_svg, name_mark
from search_spaces.templates import find_template
from search_spaces.wiring.arcs import draw_arcs

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--hide-scrollbars", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--window-size=1400,1000", "--virtual-time-budget=3000", "--dump-dom"),
)
HOSTILE = '<script>parent.document.title = "ran"</script><img src=x onerror="parent.document.title=1"> ' + "w" * 300
MARK = 'evenly & "co": mean BD 1.937 <b>'
# A headless window is at least 500 pixels wide; a frame may be as narrow as a phone, and media queries follow it.
WRAPPER = """<!doctype html><title>untouched</title><body>{frames}<pre id="found"></pre><script>
function measure(frame) {{
  const page = frame.contentDocument, root = page.documentElement;
  const boxes = [...page.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  const mark = page.querySelector("[id$=mark-first]"), box = mark.getBoundingClientRect();
  const hit = page.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  const ids = [...page.querySelectorAll("[id]")].map(element => element.id);
  return {{
    width: root.clientWidth, content: root.scrollWidth,
    font: parseFloat(getComputedStyle(page.body).fontSize),
    pictures: boxes.map(b => [b.width, b.height]),
    titles: [...page.querySelectorAll("svg [id] > title")].map(title => title.textContent),
    hit: hit === null || hit.closest("[id$=mark-first]") === mark,
    namespace: mark.firstElementChild.namespaceURI,
    ids: ids.length, distinct: new Set(ids).size,
    active: page.querySelectorAll("body :is(script, img, iframe, link, [onerror])").length,
    tables: [...page.querySelectorAll("table")].map(t => [t.scrollWidth, t.parentElement.clientWidth]),
  }};
}}
window.addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map(measure);
  document.getElementById("found").textContent = JSON.stringify({{title: document.title, found}});
}});
</script></body>"""


def _picture(file: str) -> Picture:
    figure = Figure(figsize=(7.2, 3))
    axes = figure.subplots()
    for place, name in enumerate(("first", "second")):
        (dot,) = axes.plot(place, place, "o", markersize=12)
        name_mark(dot, name, MARK)
    return Picture(file, draw_svg(figure), HOSTILE, HOSTILE)


def _page() -> str:
    header = tuple(f"a rather long column name {i}" for i in range(12))
    arcs = [draw_arcs(find_template(name).build(24), HOSTILE[:40], width=460) for name in ("log", "nearest_log_i")]
    blocks: list[Block] = [
        Heading(1, HOSTILE),
        Paragraph(HOSTILE, "answer"),
        Paragraph(HOSTILE, "notice", Link(HOSTILE, "../../docs/checklist.md")),
        _picture("wide one.svg"),
        _picture("wide-one.svg"),
        *(Picture(f"arcs_{place}.svg", svg, HOSTILE, HOSTILE, is_small=True) for place, svg in enumerate(arcs)),
        Table(header, tuple((HOSTILE, *("0.123 ± 0.004",) * 11) for _ in range(40))),
        Code("python run_search.py " + "x" * 500),
    ]
    return format_html(HOSTILE, blocks)


def _run_browser(page: Path, profile: Path) -> tuple[str, str]:
    assert BROWSER is not None
    command = [BROWSER, *OPTIONS, f"--user-data-dir={profile}", page.as_uri()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own group: the browser and the helpers it started
            pytest.fail(f"{BROWSER} did not end within a minute")
    if process.returncode != 0:
        pytest.skip(f"{BROWSER} does not start here: {err[-300:]}")
    return out, err


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the browser measured at 1280 and 390 pixels, and what it said on standard error."""
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    folder = tmp_path_factory.mktemp("page")
    source = html.escape(_page())
    frames = [
        f'<iframe srcdoc="{source}" style="border: 0; width: {width}px; height: 9000px"></iframe>'
        for width in (1280, 390)
    ]
    page = folder / "wrapper.html"
    page.write_text(WRAPPER.format(frames="".join(frames)), encoding="utf-8")
    out, err = _run_browser(page, folder / "profile")
    found = re.search(r'<pre id="found">(.*?)</pre>', out, re.DOTALL)
    assert found, err
    return json.loads(html.unescape(found[1])), err


@pytest.mark.parametrize(("place", "width"), [(0, 1280), (1, 390)])
def test_the_page_fits_and_can_be_read(measured: tuple[dict[str, Any], str], place: int, width: int) -> None:
    found = measured[0]["found"][place]
    assert found["width"] == width
    assert found["content"] <= width
    assert found["font"] >= 15
    assert all(content > room for content, room in found["tables"])  # so the table does scroll in its own container
    wide, small = found["pictures"][:2], found["pictures"][2:]
    assert all(box[0] >= 560 and box[1] > 100 for box in wide)
    assert all(300 < box[0] < 480 and box[1] > 30 for box in small)


@pytest.mark.parametrize("place", [0, 1])
def test_marks_carry_their_names_and_ids_do_not_meet(measured: tuple[dict[str, Any], str], place: int) -> None:
    found = measured[0]["found"][place]
    assert found["titles"] == [MARK] * 4
    assert found["namespace"] == "http://www.w3.org/2000/svg"
    assert found["hit"]
    assert found["ids"] == found["distinct"] > 10


def test_nothing_runs_and_nothing_is_complained_about(measured: tuple[dict[str, Any], str]) -> None:
    page, err = measured
    assert page["title"] == "untouched"
    assert [found["active"] for found in page["found"]] == [2, 2]  # the page's data and its own script
    assert "CONSOLE" not in err
