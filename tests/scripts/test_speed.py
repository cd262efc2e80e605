"""scripts/speed.py: what its page says of what was measured, and the table that it puts into another page."""

from types import ModuleType

import pytest

from nas.bench.benchmark import FIRST, Row
from nas.bench.contestants import COMPILED, FUSED, Contestant, Precision
from nas.bench.shapes import DEFAULT_SEARCH, TEXT, Shape
from nas.bench.workers import Ceilings
from tests.support.small import ROOT

SMALL = Shape("small", (1, 6, 5), layers=4, growth=3, batch=8)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import speed

    return speed


def measure(shape: Shape, engine: str, precision: Precision, rates: list[float], to: list[float]) -> Row:
    return Row(
        shape,
        Contestant(engine, precision),
        gate=True,
        tolerance=1e-5,
        rates=tuple(rates),
        computing=tuple(1 / rate for rate in rates),
        to_one_process=tuple(rates),
        to_strongest=tuple(to),
        to_strongest_alike=tuple(2 * ratio for ratio in to),
        trainings=(0.5, 0.25, 1.0) if shape.whole else (),
    )


def compare(shape: Shape) -> list[Row]:
    return [
        measure(shape, FIRST.engine, "float32", [5, 5, 5], [0.5, 0.5, 0.5]),
        measure(shape, COMPILED, "bfloat16", [10, 10, 20], [1, 1, 1]),
        measure(shape, FUSED, "float32", [20, 10, 40], [2, 1, 2]),
        measure(shape, FUSED, "bfloat16", [30, 40, 90], [1.5, 4, 4.5]),
    ]


def test_the_table_of_all_shapes_has_paired_medians_and_names_the_strongest(script: ModuleType) -> None:
    no_speed = Row(SMALL, Contestant(FUSED, "bfloat16"), None, "this processor lacks it")
    apart = Row(TEXT, Contestant(FUSED), None, "no fused form")
    other = Shape("other", (1, 6, 5), layers=4, growth=3)
    lines = script.format_short_table([*compare(SMALL)[:3], no_speed, *compare(other), apart])
    assert lines[2:] == [
        f"| {SMALL} | torch.compile, bfloat16 | 2.00 | 4.00 | - | - | - |",
        # The last is the median of 30/20, 40/10 and 90/40; the ratio of medians would be 2.
        f"| {other} | torch.compile, bfloat16 | 2.00 | 4.00 | 4.00 | 8.00 | 2.25 |",
    ]


def test_the_page_has_every_contestant_with_its_ranges_or_why_it_has_no_speed(script: ModuleType) -> None:
    rows = [*compare(DEFAULT_SEARCH)[:3], Row(DEFAULT_SEARCH, Contestant(FUSED, "bfloat16"), None, "it is missing")]
    page = script.format_page(rows, "a machine", 2, Ceilings(1e11, 2e10))
    assert f"## {DEFAULT_SEARCH}\n" in page and "a machine; by `scripts/speed.py`" in page
    assert (
        "| skipsearch-fused | 20.0 | 50.0 | 20.00 (10.00 to 40.00) | 2.00 (1.00 to 2.00) | 4.00 (2.00 to 4.00) |"
        in page
    )
    assert "*skipsearch-fused, bfloat16* has no speed: it is missing." in page
    assert "skipsearch-fused 0.50 (0.25 to 1.00)" in page and "300 images, 9 epochs" in page
    assert "held to 1e-05 nats" in page


def test_a_table_is_replaced_where_it_stands(script: ModuleType) -> None:
    page = "before\n\n| a |\n|---|\n| 1 |\n| 2 |\n\nafter\n\n| b |\n|---|\n| 3 |\n"
    assert script.replace_table(page, ["| a |", "|---|", "| 9 |"]) == page.replace("| 1 |\n| 2 |\n", "| 9 |\n")
    with pytest.raises(AssertionError):
        script.replace_table(page, ["| c |", "|---|"])
    here = (ROOT / "docs" / "howto" / "gpu.md").read_text(encoding="utf-8")
    assert script.replace_table(here, script.format_short_table([])).count(script.SHORT_HEADINGS[2]) == 1
