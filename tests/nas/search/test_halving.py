"""Successive halving: the survivors are those of a plain computation, whatever the order of completion."""

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search.halving import Halving
from nas.settings.search import list_rungs
from tests.support.memory_search import Accuracies, survive


def drive(
    halving: Halving, keys: Sequence[str], n_seeds: int, accuracies: Accuracies, order: random.Random
) -> dict[tuple[str, int], list[int]]:
    """Place and report in any order that a run can have; gives the rungs that each candidate reported at."""
    reported: dict[tuple[str, int], list[int]] = {}
    failed: set[tuple[str, int]] = set()
    n_placed = 0
    while True:
        events: list[tuple[str, int, int] | None] = [None] * (n_placed < len(keys))
        for key, seed in reported.keys() - failed:
            rung = halving.pause_after(key) if halving.is_alive(key) else None
            if rung is not None and rung not in reported[key, seed]:
                events.append((key, seed, rung))
        if not events:
            return reported
        event = order.choice(sorted(events, key=str))
        if event is None:
            for seed in range(n_seeds):
                halving.place(keys[n_placed], seed)
            reported |= {(keys[n_placed], seed): [] for seed in range(n_seeds)}
            n_placed += 1
            continue
        key, seed, rung = event
        accuracy = accuracies[event]
        if accuracy is None:
            failed.add((key, seed))
            halving.fail(key, seed)
        else:
            reported[key, seed].append(rung)
            halving.report(key, seed, rung, 1 - accuracy)


def name(n: int) -> list[str]:
    return [f"p{number:02d}" for number in range(n)]


TWICE = (1, 3)  # brackets of nine


def place_all(n: int, rungs: Sequence[int] = TWICE, n_seeds: int = 1) -> Halving:
    halving = Halving(rungs, n, n_seeds)
    for key in name(n):
        for seed in range(n_seeds):
            halving.place(key, seed)
    return halving


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, ()), (2, ()), (3, (1,)), (8, (2,)), (9, (3,)), (10, (3,)), (18, (6,)), (27, (9,)), (300, (100,))],
)
def test_a_rung_is_at_a_third_of_the_epochs(epochs: int, rungs: tuple[int, ...]) -> None:
    assert list_rungs(epochs) == rungs


@st.composite
def _runs(draw: st.DrawFn) -> tuple[list[str], int, tuple[int, ...], Accuracies]:
    keys = name(draw(st.integers(1, 20)))
    n_seeds, rungs = draw(st.integers(1, 3)), draw(st.sampled_from([(1,), (3,), (1, 3), (2, 6)]))
    places = list(itertools.product(keys, range(n_seeds), rungs))
    # Few values, so that ties are common. Drawn by a seed: hypothesis' own lists are mostly of one value.
    chance = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311  of no secret
    values = chance.choices([None, 0.25, 0.5, 0.625], [1, 2, 2, 2], k=len(places))
    return keys, n_seeds, rungs, dict(zip(places, values, strict=True))


@given(_runs(), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_survivors_are_those_of_a_plain_computation_in_any_order(
    run: tuple[list[str], int, tuple[int, ...], Accuracies], order: int
) -> None:
    keys, n_seeds, rungs, accuracies = run
    halving = Halving(rungs, len(keys), n_seeds)
    reported = drive(halving, keys, n_seeds, accuracies, random.Random(order))  # noqa: S311  of no secret
    winners, dropped = survive(keys, n_seeds, rungs, accuracies)
    assert {key for key in keys if halving.is_alive(key)} == winners
    assert all(halving.pause_after(key) is None for key in winners)
    # No candidate is trained further than to the rung where its pattern was dropped, or it failed; nor less far.
    for (key, seed), reached in reported.items():
        reach = dropped.get(key, max(rungs))
        sound = []
        for rung in rungs:
            if rung > reach or accuracies[key, seed, rung] is None:
                break
            sound.append(rung)
        assert reached == sound


def test_of_three_the_one_that_costs_least_is_trained_to_the_end() -> None:
    halving = place_all(6, list_rungs(9))
    for key, cost in zip(name(6), (-0.5, -2.0, 1.0, 3.0, 2.5, 2.75), strict=True):
        assert halving.pause_after(key) == 3
        halving.report(key, 0, 3, cost)
    alive = [key for key in name(6) if halving.is_alive(key)]
    assert alive == ["p01", "p04"]
    assert [halving.pause_after(key) for key in alive] == [None, None]


def test_nine_become_three_become_one() -> None:
    halving = place_all(9)
    for number, key in enumerate(name(9)):
        assert halving.pause_after(key) == 1
        halving.report(key, 0, 1, -number / 10)
    assert [key for key in name(9) if halving.is_alive(key)] == ["p06", "p07", "p08"]
    assert halving.pause_after("p06") == 3
    for key, cost in (("p08", 0.3), ("p07", 0.2), ("p06", 0.1)):
        assert halving.is_alive("p08")
        halving.report(key, 0, 3, cost)
    assert [key for key in name(9) if halving.is_alive(key)] == ["p06"]
    assert halving.pause_after("p06") is None


def test_of_equal_means_the_earlier_proposals_go_on() -> None:
    halving = place_all(9)
    for key in reversed(name(9)):
        halving.report(key, 0, 1, 0.5)
    assert [key for key in name(9) if halving.is_alive(key)] == ["p00", "p01", "p02"]


def test_of_equal_means_at_a_later_rung_too_the_earlier_proposal_goes_on() -> None:
    halving = place_all(9)
    for number, key in enumerate(name(9)):
        halving.report(key, 0, 1, -number / 10)  # the later proposals are ahead at first
    for key in name(9)[6:]:
        halving.report(key, 0, 3, 0.5)
    assert [key for key in name(9) if halving.is_alive(key)] == ["p06"]


def test_nothing_is_decided_before_the_last_seed_of_the_last_pattern() -> None:
    halving = place_all(9, n_seeds=2)
    reports = [(key, seed) for seed in (0, 1) for key in name(9)]
    for key, seed in reports:
        assert all(halving.is_alive(other) and halving.pause_after(other) == 1 for other in name(9))
        halving.report(key, seed, 1, 0.5)
    assert sum(halving.is_alive(key) for key in name(9)) == 3


def test_a_pattern_is_judged_by_the_mean_of_its_seeds() -> None:
    halving = place_all(3, (1,), n_seeds=2)
    for key, costs in zip(name(3), ([0.1, 0.9], [0.4, 0.4], [1.0, 0.0]), strict=True):
        for seed, cost in enumerate(costs):
            halving.report(key, seed, 1, cost)
    assert [key for key in name(3) if halving.is_alive(key)] == ["p01"]


def test_a_pattern_is_judged_by_the_seeds_that_did_not_fail() -> None:
    halving = place_all(3, (1,), n_seeds=2)
    halving.fail("p00", 1)
    halving.report("p00", 0, 1, 0.3)
    for key in ("p01", "p02"):
        halving.report(key, 0, 1, 0.1)
        halving.report(key, 1, 1, 0.6)
    assert [key for key in name(3) if halving.is_alive(key)] == ["p00"]


def test_a_pattern_of_which_all_seeds_failed_is_dropped_even_where_there_is_room() -> None:
    halving = place_all(9)
    for key in name(9)[:7]:
        halving.fail(key, 0)
    assert halving.is_alive("p00")
    halving.report("p07", 0, 1, 9.0)
    halving.report("p08", 0, 1, 8.0)
    assert [key for key in name(9) if halving.is_alive(key)] == ["p07", "p08"]
    halving.fail("p08", 0)  # on its way to the next rung
    halving.report("p07", 0, 3, 9.0)
    assert [key for key in name(9) if halving.is_alive(key)] == ["p07"]
    halving.fail("p07", 0)  # after the last rung, where nothing is left to decide
    assert halving.pause_after("p07") is None


def test_a_bracket_in_which_all_failed_has_no_survivor_and_the_next_is_not_touched() -> None:
    halving = place_all(12)
    for key in name(9):
        halving.fail(key, 0)
    assert [key for key in name(12) if halving.is_alive(key)] == ["p09", "p10", "p11"]
    assert halving.pause_after("p09") == 1


def test_patterns_of_one_bracket_are_never_compared_with_anothers() -> None:
    halving = place_all(18)
    for number, key in enumerate(name(18)):
        halving.report(key, 0, 1, -number / 100)  # the first bracket is worse throughout
    alive = [key for key in name(18) if halving.is_alive(key)]
    assert alive == ["p06", "p07", "p08", "p15", "p16", "p17"]
    for key in alive[:3]:
        halving.report(key, 0, 3, 0.5)
    assert [halving.pause_after(key) for key in ("p06", "p15")] == [None, 3]  # nor wait for each other


@pytest.mark.parametrize(("n", "left", "end"), [(10, 1, 1), (12, 1, 1), (13, 2, 1), (16, 3, 1)])
def test_a_last_bracket_that_is_smaller_does_not_wait_for_more(n: int, left: int, end: int) -> None:
    halving = place_all(n)
    last = name(n)[9:]
    for key in last:
        halving.report(key, 0, 1, 0.5)
    assert sum(map(halving.is_alive, last)) == left == math.ceil(len(last) / 3)
    for key in last[:left]:
        halving.report(key, 0, 3, 0.5)
    assert sum(map(halving.is_alive, last)) == end


def test_when_proposals_run_out_the_last_bracket_waits_for_no_more() -> None:
    halving = Halving(TWICE, 20, 1)
    for key in name(12):
        halving.place(key, 0)
    for key in name(12)[9:]:
        halving.report(key, 0, 1, 0.5)
    assert [halving.pause_after(key) for key in name(12)[9:]] == [1, 1, 1]
    halving.close()
    assert [halving.is_alive(key) for key in name(12)[9:]] == [True, False, False]
    assert halving.pause_after("p09") == 3
    assert [halving.pause_after(key) for key in name(9)] == [1] * 9  # which has not been measured yet


def test_the_last_pattern_of_a_run_is_judged_by_the_seeds_that_it_has() -> None:
    halving = Halving((3,), 3, 2)
    for key, n_seeds in (("p00", 2), ("p01", 1)):
        for seed in range(n_seeds):
            halving.place(key, seed)
            halving.report(key, seed, 3, 0.5 if key == "p00" else 0.25)
    assert halving.pause_after("p00") == 3  # a third pattern may come, and the other seed of the second
    halving.close()
    assert [key for key in name(2) if halving.is_alive(key)] == ["p01"]
    assert halving.pause_after("p01") is None


def test_closing_a_bracket_that_is_full_or_none_at_all_changes_nothing() -> None:
    Halving(TWICE, 20, 1).close()
    halving = place_all(9)
    for key in name(9)[:8]:
        halving.report(key, 0, 1, 0.5)
    halving.close()
    assert all(map(halving.is_alive, name(9)))


def test_a_pattern_placed_again_stays_where_it_is() -> None:
    halving = place_all(10)
    for key in name(10):
        halving.place(key, 0)
    for key in name(9):
        halving.report(key, 0, 1, 0.5)
    assert [key for key in name(10) if halving.is_alive(key)] == ["p00", "p01", "p02", "p09"]
