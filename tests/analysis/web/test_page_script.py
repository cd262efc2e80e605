"""The page's script in a real browser, by mouse, finger and keyboard."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from analysis.data.averages import average_patterns
from analysis.data.results import CURVE_COLUMNS, Run
from analysis.page.document import Block, Heading, Paragraph, Table, format_html
from analysis.report.conclusion import conclude_findings
from analysis.report.findings import Findings, find
from analysis.report.sections import build_blocks
from analysis.study.linked import link_patterns
from tests.support.browser import Page, find_browser
from tests.support.resamples import use_resamples
from tests.support.synthetic_run import make_candidates, propose

pytestmark = [pytest.mark.slow, pytest.mark.ci]
BROWSER = find_browser()
EVIL = "</script><script>document.title = 'ran'</script>"
PANEL = "document.querySelector('aside.pattern')"
CHART = "document.querySelector('svg.chart[data-x]')"
RESULT = "document.querySelector('.controls .range').textContent"


def _tabulate(regime: str) -> pd.DataFrame:
    """Fourteen patterns at three seeds; one training failed."""
    base, step, factor = (0.6, 0.013, 7) if regime == "one" else (0.8, 0.005, 5)

    def score(place: int, seed: int) -> float | str:
        noise = 0.01 * seed + 0.004 * (place * seed % 3)
        return "lost" if (place, seed) == (3, 2) else base + step * ((factor * place) % 11) + noise

    proposals = propose(12, ["log", "nearest_log_i"])
    return make_candidates(proposals, score, ["log"] * 14, (0, 1, 2)).assign(regime=regime)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, Path]:
    """A run of two regimes whose seeds were fixed beforehand, and its page."""
    table = pd.concat([_tabulate("one"), _tabulate("two")], ignore_index=True)
    table["number"] = range(len(table))
    points = [(n, epoch, "train_loss", 1 / epoch) for n in table["number"] for epoch in (1, 2, 3)]
    curves = pd.DataFrame(points, columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS)
    with pytest.MonkeyPatch.context() as patch:
        use_resamples(patch, 19)
        findings = find(Run(Path("run"), table, curves, len(table), {"seed": 0}, {}, {}))
    keys = findings.views[0].patterns["key"].tolist()
    rows = tuple((key[:12], str(10 - n)) for n, key in enumerate(keys[:9]))
    more: list[Block] = [
        Heading(2, EVIL),
        Table((EVIL, "n"), ((EVIL, "2"), ("b", "10"), ("c", "-"))),
        Table(("pattern", "value"), rows, tuple(keys[:9])),
    ]
    linked = link_patterns(findings.views, findings.picks)
    linked["patterns"][EVIL] = {"name": EVIL}
    page = tmp_path_factory.mktemp("page") / "index.html"
    blocks = [*build_blocks(findings, conclude_findings(findings)), *more, Paragraph(EVIL)]
    page.write_text(format_html("untouched", blocks, linked), encoding="utf-8")
    return findings, page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    with Page(BROWSER, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """The browser's page; every test opens a file anew."""
    browser.complaints.clear()
    browser.requests.clear()
    yield browser
    assert browser.complaints == []  # neither an error of the script, nor anything that the policy refused
    assert len(set(browser.requests)) == 1  # the file itself
    assert browser.requests[0].startswith("file:")
    assert browser.run("document.title") == "untouched"


def _middle(page: Page, selector: str) -> tuple[float, float]:
    script = f"""(() => {{ const element = document.querySelector({selector!r});
      element.scrollIntoView({{block: "center"}});
      const box = element.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
    x, y = page.run(script)
    return x, y


def _lit(page: Page) -> set[str]:
    return set(page.run("[...document.querySelectorAll('.on')].map(element => element.dataset.key)"))


def _box(page: Page, script: str) -> dict[str, float]:
    box: dict[str, float] = page.run(f"{script}.getBoundingClientRect().toJSON()")
    return box


def test_the_mouse_shows_a_pattern_everywhere(page: Page, searched: tuple[Findings, Path]) -> None:
    findings, file = searched
    page.open(file)
    patterns = findings.views[0].patterns
    key = patterns["key"][0]
    assert page.run(f"{PANEL}.hidden")
    page.move(*_middle(page, f".mark[data-key='{key}']"))
    assert _lit(page) == {key}
    places = page.run("[...document.querySelectorAll('.on')].map(e => (e.closest('tbody, svg') || e).tagName)")
    assert {"svg", "TBODY"} <= set(places)
    assert places.count("svg") >= 3  # both panels and the curves
    text = page.run(f"{PANEL}.textContent")
    row = patterns.iloc[0]
    assert key[:12] in text
    for value in (f"{row['mean_bd']:.3f}", f"{row['span']:.3f}"):
        assert value in text
    candidates = findings.views[0].candidates
    own = candidates[candidates["key"] == key].sort_values("seed")
    cells = "[...row.cells].map(cell => cell.textContent)"
    shown = page.run(f"[...{PANEL}.querySelector('table').querySelectorAll('tbody tr')].map(row => {cells})")
    assert [row[0] for row in shown] == ["0", "1", "2", "mean"]
    assert [float(row[1]) for row in shown[:3]] == pytest.approx(own["validation_accuracy"].tolist(), abs=5e-5)
    n_skips = sum(source < layer - 1 for layer, inputs in enumerate(_sources(row), 1) for source in inputs)
    assert page.run(f"{PANEL}.querySelectorAll('.skip').length") == n_skips > 5
    page.move(2, 2)
    assert _lit(page) == set()
    page.click(*_middle(page, f".mark[data-key='{key}']"))
    page.move(2, 2)
    assert _lit(page) == {key}  # a click keeps it
    page.press("Escape")
    assert _lit(page) == set()
    assert page.run(f"{PANEL}.hidden")
    page.move(*_middle(page, f"main tr[data-key='{key}']"))
    assert _lit(page) == {key}


def _sources(row: "pd.Series[Any]") -> list[list[int]]:
    sources: list[list[int]] = json.loads(row["sources"])
    return sources


def test_a_finger_shows_a_pattern_and_the_panel_does_not_cover_it(page: Page, searched: tuple[Findings, Path]) -> None:
    page.open(searched[1], width=390, height=760, touch=True)
    key = searched[0].views[0].patterns["key"][4]
    mark = f".mark[data-key='{key}']"
    page.tap(*_middle(page, mark))
    assert _lit(page) == {key}
    panel, marked = _box(page, PANEL), _box(page, f"document.querySelector({mark!r})")
    assert panel["bottom"] == 760
    assert panel["height"] <= 0.41 * 760
    assert marked["bottom"] <= panel["top"]
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.run("parseFloat(document.body.style.paddingBottom)") > panel["height"]
    x, y = _box(page, f"{PANEL}.querySelector('button')")["x"], _box(page, f"{PANEL}.querySelector('button')")["y"]
    page.tap(x + 8, y + 8)
    assert _lit(page) == set()


def test_arrow_keys_walk_through_the_marks_of_a_picture(page: Page, searched: tuple[Findings, Path]) -> None:
    page.open(searched[1])
    panels = "[...document.querySelectorAll('.panel, .chart:not(:has(.panel))')]"
    stops = page.run(f"{panels}.map(panel => panel.querySelectorAll('[tabindex=\"0\"]').length)")
    assert set(stops) <= {0, 1}
    assert stops.count(1) >= 5  # one stop for each panel, so that nobody walks through hundreds
    patterns = searched[0].views[0].patterns.set_index("key")["mean_bd"].sort_values()
    page.run(f"{CHART}.querySelector('.mark[data-key=\"{patterns.index[0]}\"]').focus()")
    page.press("ArrowLeft")  # another may have the same mean BD
    seen = [page.run("document.activeElement.dataset.key")]
    for _ in range(len(patterns) - 1):
        page.press("ArrowRight")
        seen.append(page.run("document.activeElement.dataset.key"))
        assert _lit(page) == {seen[-1]}
        assert "mean BD" in page.run("document.activeElement.getAttribute('aria-label')")
    assert set(seen) == set(patterns.index)
    assert patterns[seen].tolist() == patterns.tolist()
    page.press("ArrowUp")
    assert page.run("document.activeElement.dataset.key") != seen[-1]
    page.press("Escape")
    assert _lit(page) == set()


def test_dragging_gives_the_mean_inside_with_our_interval(page: Page, searched: tuple[Findings, Path]) -> None:
    findings, file = searched
    page.open(file)
    _middle(page, "svg.chart[data-x]")
    box = _box(page, CHART)
    page.drag((box["x"] + 0.2 * box["width"], box["y"] + 60), (box["x"] + 0.6 * box["width"], box["y"] + 90))
    low, high = page.run("[...document.querySelectorAll('.ends input')].slice(0, 2).map(input => input.valueAsNumber)")
    patterns = findings.views[0].patterns
    inside = patterns[patterns["mean_bd"].between(low, high)]
    assert 2 < len(inside) < len(patterns)
    text = page.run(RESULT)
    assert f"{len(inside)} of {len(patterns)} patterns inside" in text
    values = inside["validation_loss"]
    ends = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    found = re.search(r"Mean validation loss \(nats\): ([\d.]+) \[([\d.]+), ([\d.]+)\]", text)
    assert found
    assert [float(number) for number in found.groups()] == pytest.approx([values.mean(), *ends], abs=1.01e-4)
    page.press("Escape")
    assert page.run(RESULT) == ""


def test_a_range_can_be_chosen_by_keyboard(page: Page, searched: tuple[Findings, Path]) -> None:
    page.open(searched[1])
    page.run(f"{CHART}.querySelector('.mark').focus()")
    page.press("ArrowLeft")
    page.press("ArrowRight", shift=True)
    page.press("ArrowRight", shift=True)
    assert re.match(r"\d+ of 14 patterns inside", page.run(RESULT))


def test_a_range_that_is_typed_includes_its_ends(page: Page, searched: tuple[Findings, Path]) -> None:
    page.open(searched[1])
    measured = sorted(float(f"{value:.6g}") for value in searched[0].views[0].patterns["mean_bd"])
    low, high = measured[3], measured[9]
    script = f"""(() => {{ const inputs = document.querySelectorAll('.ends input');
      inputs[0].value = {low}; inputs[1].value = {high}; inputs[1].dispatchEvent(new Event('change')); }})()"""
    page.run(script)
    n_inside = sum(low <= value <= high for value in measured)
    assert n_inside >= 7
    assert page.run(RESULT).startswith(f"{n_inside} of 14 patterns inside")


def test_marks_move_to_the_means_of_the_chosen_seeds(page: Page, searched: tuple[Findings, Path]) -> None:
    findings, file = searched
    page.open(file)
    before = _heights(page)
    page.click(*_middle(page, ".seeds input"))  # without seed 0
    candidates = findings.views[0].candidates
    chosen = candidates[candidates["seed"] > 0]
    averages = average_patterns(chosen).set_index("key")
    for outcome, heights in _heights(page).items():
        levels = averages[f"{outcome}_centred"] + averages.loc[averages["all_seeds"], outcome].mean()
        assert len(heights) == 14
        assert heights == pytest.approx(levels.to_dict(), abs=2e-3 if outcome == "validation_loss" else 1e-3)
    assert _heights(page) != before
    page.click(*_middle(page, ".seeds input"))
    assert _heights(page) == before
    for _ in range(3):  # one seed stays
        for box in range(1, 4):
            page.click(*_middle(page, f".seeds label:nth-of-type({box}) input"))
    assert page.run("[...document.querySelectorAll('.seeds input')].some(box => box.checked)")


def _heights(page: Page) -> dict[str, dict[str, float]]:
    """Outcome -> key -> what the mark's height says."""
    script = f"""Object.fromEntries([...{CHART}.querySelectorAll('.panel')].map(panel => {{
      const [origin, slope] = panel.dataset.y.split(' ').map(Number);
      return [panel.dataset.outcome, Object.fromEntries([...panel.querySelectorAll('.mark')]
        .filter(mark => mark.style.display !== 'none')
        .map(mark => [mark.dataset.key, (mark.transform.baseVal[0].matrix.f - origin) / slope]))];
    }}))"""
    heights: dict[str, dict[str, float]] = page.run(script)
    return heights


def test_marks_move_to_another_regime(page: Page, searched: tuple[Findings, Path]) -> None:
    findings, file = searched
    page.open(file)
    before = _heights(page)
    name, other = (view.name for view in findings.views)
    assert page.run("[...document.querySelectorAll('.controls select')[0].options].map(o => o.value)")[:2] == [
        name,
        other,
    ]
    script = f"(() => {{ const select = document.querySelector('select'); select.value = {other!r}; "
    page.run(script + "select.dispatchEvent(new Event('change')); })()")
    for outcome, heights in _heights(page).items():
        values = findings.views[1].patterns.set_index("key")[outcome].to_dict()
        assert heights == pytest.approx(values, abs=2e-3)
    page.run(script.replace(other, name) + "select.dispatchEvent(new Event('change')); })()")
    assert _heights(page) == before


def test_tables_sort_by_click_and_by_enter(page: Page, searched: tuple[Findings, Path]) -> None:
    page.open(searched[1])
    column = (
        "[...[...document.querySelectorAll('main table')].at(-2).tBodies[0].rows].map(row => row.cells[1].textContent)"
    )
    header = "[...document.querySelectorAll('main table')].at(-2).tHead.rows[0].cells[1]"
    page.run(f"{header}.id = 'sorted'")
    for click, order, state in ((True, ["2", "10", "-"], "ascending"), (False, ["10", "2", "-"], "descending")):
        if click:
            page.click(*_middle(page, "#sorted"))
        else:
            page.run(f"{header}.focus()")
            page.press("Enter")
        assert page.run(column) == order
        assert page.run(f"{header}.getAttribute('aria-sort')") == state
    page.press("Enter")
    assert page.run(column) == ["2", "10", "-"]


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_of_charts_and_panel_is_legible(page: Page, searched: tuple[Findings, Path], dark: bool) -> None:
    page.open(searched[1], dark=dark)
    page.click(*_middle(page, ".mark"))
    script = """(() => {
      const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
      const light = colour => numbers(colour).slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      const ground = element => { for (let e = element; e; e = e.parentElement) {
          const colour = numbers(getComputedStyle(e).backgroundColor);
          if (colour.length < 4 || colour[3] > 0) return getComputedStyle(e).backgroundColor; }
        return "rgb(255, 255, 255)"; };
      const shapes = [...document.querySelectorAll(".chart text")].map(e => [getComputedStyle(e).fill,
        getComputedStyle(e.closest("svg").querySelector(".ground")).fill]);
      const words = [...document.querySelectorAll("aside.pattern *, .controls *")].filter(e => e.textContent.trim())
        .filter(e => !e.closest("svg")).map(e => [getComputedStyle(e).color, ground(e)]);
      return [...shapes, ...words].map(pair => {
        const [a, b] = pair.map(light).sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); });
    })()"""
    contrasts = page.run(script)
    assert len(contrasts) > 60
    assert min(contrasts) >= 4.5


def test_without_script_the_page_offers_nothing_that_needs_it(searched: tuple[Findings, Path]) -> None:
    text = searched[1].read_text(encoding="utf-8").split("<script>")[0]
    assert not re.search(r"<(aside|form|input|select|button|fieldset)\b", text)
    assert " tabindex=" not in text
    assert text.count("<title>") > 28  # every mark names itself under the pointer
