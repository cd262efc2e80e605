"""The page's colours, by the contrast ratio of the Web Content Accessibility Guidelines 2.2."""

import re

import pytest

from analysis.web.frame import read_asset

TEXTS = ("--ink", "--soft", "--link")
GROUNDS = ("--ground", "--tint", "--warn", "--answer")
LEAST = 4.5  # of ordinary text; bold and large text may have less


def _read_schemes() -> dict[str, dict[str, str]]:
    """Return the colours by name of each scheme; one that a scheme leaves out is the light one's."""
    css = read_asset("page.css")
    light, dark, printed = (
        dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    return {"light": light, "dark": light | dark, "print": light | printed}


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(first: str, second: str) -> float:
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_ratio_is_that_of_the_guidelines_examples() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    assert _contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_every_text_can_be_read_on_every_ground(scheme: str) -> None:
    colours = _read_schemes()[scheme]
    ratios = {(text, ground): _contrast(colours[text], colours[ground]) for text in TEXTS for ground in GROUNDS}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < LEAST} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_focus_can_be_seen(scheme: str) -> None:
    colours = _read_schemes()[scheme]
    assert all(_contrast(colours["--answer-line"], colours[ground]) >= 3 for ground in GROUNDS)


def test_colours_of_text_are_of_the_scheme() -> None:
    rules = re.sub(r":root \{.*?\}", "", read_asset("page.css"), flags=re.DOTALL)
    assert set(re.findall(r"(?<![-a-z])color: ([^;]+);", rules)) <= {f"var({name})" for name in TEXTS}
