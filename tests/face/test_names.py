"""Names and defaults of the face are those of the command line."""

import inspect
from typing import Any

import pytest
from pydantic import BaseModel

import skipsearch
from commands import patterns, scores, tables, training
from commands.flags import list_flags
from nas.model.config import NetworkConfig
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from search_spaces.sampling.design import choose_numbers
from skipsearch import settings
from skipsearch.patterns import CROSS, PER_CELL
from tests.support.face_settings import make_settings
from tests.support.small import ROOT

# What only one of the two has: files and printing there; the pattern or table itself, and a bar, here.
THERE = {"ctx", "to", "as_json", "json", "file", "template", "dry_run", "wide"}
HERE = {"settings", "progress", "task", "pattern", "frame"}


def _parameters(function: Any) -> dict[str, Any]:
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (skipsearch.search, training.search),
        (skipsearch.study, training.study),
        (skipsearch.score, scores.score),
        (skipsearch.recommend, patterns.recommend),
        (skipsearch.optimize, patterns.optimize),
        (skipsearch.sample, patterns.sample),
        (skipsearch.correlate, tables.correlate),
    ],
)
def test_parameters_are_the_flags(here: Any, there: Any) -> None:
    own, flags = _parameters(here), _parameters(there)
    assert own.keys() - HERE == flags.keys() - THERE - HERE
    said = {
        "budget": SearchConfig.model_fields["budget"].default,
        "layers": NetworkConfig.model_fields["layers"].default,
    }
    for name in own.keys() & flags.keys() - HERE:
        default = flags[name] if flags[name] is not None else said.get(name)
        assert own[name] == default, name


def test_cells_are_those_of_the_command() -> None:
    assert (CROSS, PER_CELL) == (patterns.CROSS, patterns.PER_CELL)
    assert choose_numbers(CROSS) == patterns.BINS == StudyConfig.model_fields["bins"].default


@pytest.mark.parametrize(("typed", "model"), [("SearchSettings", SearchConfig), ("StudySettings", StudyConfig)])
def test_settings_are_the_fields(typed: str, model: type[BaseModel]) -> None:
    names = {name for name, _ in list_flags(model)} - {"task"}  # type: ignore[arg-type]
    assert getattr(settings, typed).__annotations__.keys() == names


def test_the_types_of_settings_are_those_of_the_fields() -> None:
    assert (ROOT / "skipsearch" / "settings.py").read_text() == make_settings()
