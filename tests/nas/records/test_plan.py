"""The plan file: what was hashed is what is read, or it is refused with its path."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.records.plan import (
    PARTS,
    PLAN_FILE,
    SCHEMA,
    VERSION,
    hash_plan,
    list_crossings,
    read_plan,
    write_plan,
)
from search_spaces.errors import ConflictError

PLAN: dict[str, Any] = {
    "schema": SCHEMA,
    "version": VERSION,
    "protocol": {"alpha": 0.05, "hypotheses": ["größer"]},
    "settings": {"seeds": 2},
    "strata": [{"layers": 3, "regime": "a"}],
    "cells": [],
    "patterns": [{"layers": 3, "sources": [[0], [0, 1], [2]]}],
    "order": [[0, 0, 1], [0, 0, 0]],
}


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    written = write_plan(tmp_path, PLAN)
    assert [path.name for path in tmp_path.iterdir()] == [PLAN_FILE]
    assert read_plan(tmp_path) == (PLAN, written)
    assert len(written) == 64


def test_the_hash_is_of_canonical_json(tmp_path: Path) -> None:
    text = json.dumps(PLAN, sort_keys=True, separators=(",", ":"))
    assert write_plan(tmp_path, PLAN) == sha256(text.encode("ascii")).hexdigest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=5))
def test_the_hash_does_not_depend_on_the_order_of_keys_and_survives_json(plan: dict[str, Any]) -> None:
    turned = dict(reversed(plan.items()))
    assert hash_plan(turned) == hash_plan(plan) == hash_plan(json.loads(json.dumps(plan, indent=2)))


def test_the_hash_depends_on_every_part() -> None:
    hashes = {hash_plan({**PLAN, name: ["other"]}) for name in PLAN}
    assert len(hashes | {hash_plan(PLAN)}) == len(PLAN) + 1


def test_spaces_and_order_of_keys_in_the_file_do_not_matter(tmp_path: Path) -> None:
    written = write_plan(tmp_path, PLAN)
    held = json.loads((tmp_path / PLAN_FILE).read_text())
    (tmp_path / PLAN_FILE).write_text(json.dumps(dict(reversed(held.items())), indent=7, sort_keys=True))
    assert read_plan(tmp_path) == (PLAN, written)


def _rewrite(edit: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    """An edit of the file's value in place, or its replacement where it gives one."""

    def rewrite(text: str) -> str:
        held = json.loads(text)
        changed = edit(held)
        return json.dumps(held if changed is None else changed)

    return rewrite


def _rehashed(**parts: Any) -> Callable[[str], str]:
    plan = {name: value for name, value in {**PLAN, **parts}.items() if value is not ...}
    return lambda _: json.dumps({"plan": plan, "sha256": hash_plan(plan)})


def _nested(n_lists: int) -> Callable[[str], str]:
    return lambda text: text.replace("[0, 0, 1]", "[" * n_lists + "]" * n_lists)


EDITS: dict[str, tuple[Callable[[str], str], str]] = {
    "a seed less": (_rewrite(lambda held: held["plan"]["order"].clear()), "was changed after it was hashed"),
    "another hypothesis": (lambda text: text.replace("0.05", "0.06"), "was changed after it was hashed"),
    "another hash": (_rewrite(lambda held: held.update(sha256="0" * 64)), "was changed after it was hashed"),
    "a hash that is a list": (_rewrite(lambda held: held.update(sha256=[1])), "was changed after it was hashed"),
    "an addition": (_rewrite(lambda held: held["plan"].update(note="")), "was changed after it was hashed"),
    "another schema": (_rehashed(schema="skipsearch/template"), "schema 'skipsearch/template' version 1, expected"),
    "a later version": (_rehashed(version=VERSION + 1), "version 2, expected"),
    "no schema": (_rehashed(schema=...), "is no plan of a study"),
    "no hash": (_rewrite(lambda held: {"plan": held["plan"]}), "is no plan of a study"),
    "no plan": (_rewrite(lambda held: {"sha256": held["sha256"]}), "is no plan of a study"),
    "a plan that is text": (_rewrite(lambda held: held.update(plan="plan")), "is no plan of a study"),
    "a list": (_rewrite(lambda held: [held]), "is no plan of a study"),
    "null": (lambda _: "null", "is no plan of a study"),
    "nothing": (lambda _: "", "is no plan of a study"),
    "a cut": (lambda text: text[:-20], "is no plan of a study"),
    "text": (lambda _: "the plan is to win", "is no plan of a study"),
    "no number": (lambda text: text.replace("0.05", "NaN"), "is no plan of a study"),
    "no end": (lambda text: text.replace("0.05", "-Infinity"), "is no plan of a study"),
    "a long number": (lambda text: text.replace("0.05", "1" * 5000), "is no plan of a study"),
    "many lists": (_nested(100_000), "is no plan of a study"),
    **{f"no {name}": (_rehashed(**{name: ...}), "is no plan of a study") for name in PARTS},
    **{f"{name} of text": (_rehashed(**{name: "a"}), "it lacks one of protocol, settings") for name in PARTS},
}


@pytest.mark.parametrize(("edit", "said"), EDITS.values(), ids=EDITS)
def test_a_changed_or_damaged_file_is_refused_with_its_path_and_left_alone(
    tmp_path: Path, edit: Callable[[str], str], said: str
) -> None:
    write_plan(tmp_path, PLAN)
    path = tmp_path / PLAN_FILE
    before = path.read_text()
    path.write_text(edit(before))
    assert path.read_text() != before
    edited = path.read_bytes()
    with pytest.raises(ConflictError) as refusal:
        read_plan(tmp_path)
    assert str(path) in str(refusal.value)
    assert said in str(refusal.value)
    assert "restore it, or give another --run" in str(refusal.value)
    assert len(str(refusal.value)) < 600 + len(str(path))
    assert [one.name for one in tmp_path.iterdir()] == [PLAN_FILE]
    assert path.read_bytes() == edited


@pytest.mark.parametrize("n_lists", [900, 960, 970, 980, 990, 1000])
def test_nesting_near_the_limit_is_refused_too(tmp_path: Path, n_lists: int) -> None:
    write_plan(tmp_path, PLAN)
    path = tmp_path / PLAN_FILE
    path.write_text(_nested(n_lists)(path.read_text()))
    with pytest.raises(ConflictError):
        read_plan(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", bytes(range(256))])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PLAN_FILE).write_bytes(content)
    with pytest.raises(ConflictError, match="is no plan of a study"):
        read_plan(tmp_path)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(tmp_path, PLAN)
    monkeypatch.setattr("nas.records.plan.MAX_BYTES", 100)
    with pytest.raises(ConflictError, match="at most 100 are read"):
        read_plan(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_a_plan_that_is_no_json_is_not_written(tmp_path: Path, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_plan(tmp_path, {**PLAN, "protocol": {"alpha": value}})
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    written = write_plan(tmp_path, PLAN)
    with pytest.raises(ValueError, match="JSON"):
        write_plan(tmp_path, {**PLAN, "protocol": {"alpha": float("nan")}})
    assert read_plan(tmp_path) == (PLAN, written)


def test_what_a_plan_crosses_is_read_from_older_plans_too() -> None:
    older = {
        "layers": 24,
        "distance": "mean_bd",
        "distance_bins": [[1.8, 2.0], [2.0, 2.2]],
        "span_bands": [[3.9, 4.1]],
        "lacking": [[1, 0, 2]],
    }
    newer = {
        "layers": 12,
        "measures": ["walk_length", "ntk_trace", "span"],
        "bins": [[[2.0, 3.0]], [[8.0, 9.0], [9.0, 10.0]], [[3.9, 4.1]]],
        "lacking": [{"cell": [0, 1, 0], "n": 3}],
    }
    first, second = list_crossings({"cells": [older, newer]})
    assert (first.layers, first.measures) == (24, ("mean_bd", "span"))
    assert first.bins == (((1.8, 2.0), (2.0, 2.2)), ((3.9, 4.1),))
    assert first.lacking == (((1, 0), 2),)
    assert (second.measures[1], second.bins[1][1], second.lacking) == ("ntk_trace", (9.0, 10.0), (((0, 1, 0), 3),))
    assert first.describe() == "mean_bd in 2 bins from 1.800 to 2.200, crossed with span in 1 bins from 3.900 to 4.100"
    assert list_crossings({}) == ()
