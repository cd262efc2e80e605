"""Every measure against a second computation, inside its bounds, and found by its name."""

import re

import pytest

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from search_spaces.errors import InputError
from search_spaces.measures.measure import Measure, log_reads
from search_spaces.measures.registry import find_measure, list_measures, measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import TEMPLATES, find_template
from search_spaces.wiring.blocks import global_distance
from tests.support.measured import SECOND, read_by_log
from tests.support.patterns import every_pattern, random_pattern

NAMES = [each.name for each in list_measures()]


def _assert_right(pattern: ConnectionPattern, reads: tuple[int, ...]) -> None:
    measured = measure(pattern, NAMES, reads)
    for name, value in measured.items():
        assert value == pytest.approx(SECOND[name](pattern, reads), rel=1e-9, abs=1e-9), name
        entry = find_measure(name)
        assert entry.lowest - 1e-9 <= value <= entry.highest + 1e-9, name


def test_every_measure_has_a_second_computation() -> None:
    assert set(SECOND) == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 11, 16, 24])
@pytest.mark.parametrize("seed", range(4))
def test_measures_of_drawn_patterns(depth: int, seed: int) -> None:
    pattern = random_pattern(depth, seed)
    _assert_right(pattern, read_by_log(depth))
    _assert_right(pattern, (depth,))
    _assert_right(pattern, tuple(range(depth + 1)))


@pytest.mark.parametrize("name", TEMPLATES)
def test_measures_of_the_templates(name: str) -> None:
    _assert_right(find_template(name).build(12), read_by_log(12))


def test_measures_of_every_pattern_of_four_layers() -> None:
    for pattern in every_pattern(4):
        _assert_right(pattern, read_by_log(4))


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 8, 24, 52])
def test_what_is_read_by_default_is_what_transition_log_reads(depth: int) -> None:
    pattern = random_pattern(depth, 0)
    assert log_reads(depth) == read_by_log(depth)
    assert log_reads(depth) == tuple(sorted(find_template("log").inputs_after(depth)))
    candidate = Candidate(pattern, NetworkConfig(layers=depth), 0)
    assert tuple(sorted(candidate.wiring.read)) == log_reads(depth)
    assert measure(pattern, NAMES) == measure(pattern, NAMES, log_reads(depth))


@pytest.mark.parametrize("transition", ["log", "all", "last"])
def test_the_distance_from_the_loss_is_that_of_a_network_of_one_block(transition: str) -> None:
    pattern = random_pattern(13, 5)
    wiring = Candidate(pattern, NetworkConfig.model_validate({"layers": 13, "transition": transition}), 0).wiring
    assert measure(pattern, ["from_loss_mean"], wiring.read)["from_loss_mean"] == pytest.approx(
        global_distance(wiring).from_loss_mean
    )


@pytest.mark.parametrize("entry", list_measures(), ids=lambda entry: entry.name)
def test_a_measure_says_what_it_is(entry: Measure) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", entry.name)
    assert re.fullmatch(r"[A-Z].+[^.]\.", entry.definition)
    assert entry.source
    assert entry.unit
    assert entry.lowest < entry.highest


def test_a_name_that_is_nearly_right_gets_a_hint() -> None:
    with pytest.raises(InputError, match=r"'walk_lenght'.*walk_length"):
        find_measure("walk_lenght")
    with pytest.raises(InputError, match="'zzz'"):
        measure(random_pattern(3, 0), ["mean_bd", "zzz"])


@pytest.mark.parametrize("reads", [(), (0, 4), (5, 5), (5, 6), (-1, 5)])
def test_what_no_classifier_can_read_is_refused(reads: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=re.escape(str(list(reads)))):
        measure(random_pattern(5, 0), ["walk_length"], reads)
