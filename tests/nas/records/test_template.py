"""Template files: round trips, companions that parse, contradictions and damage refused by name, atomic writes."""

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from nas.records.safe_files import format_json, write_atomic
from nas.records.template import describe_template, format_dot, read_pattern, write_template
from search_spaces.budget import Budget
from search_spaces.distance import describe
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import certify
from search_spaces.templates import find_template

PATTERNS = [
    ConnectionPattern(1, ((0,),)),
    ConnectionPattern(2, ((0,), (0, 1))),
    *(find_template(name).build(depth) for name, depth in (("chain", 9), ("log", 24), ("midpoint", 52), ("dense", 12))),
]
by_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: f"{p.depth}-{p.n_connections}")


def certificate_of(pattern: ConnectionPattern) -> dict[str, str | float]:
    found = certify(pattern, Budget(pattern.depth, total=pattern.n_connections))
    return {"status": found.status, "bound_mean_bd": found.bound, "gap": found.gap}


def write_example(pattern: ConnectionPattern, folder: Path) -> list[Path]:
    template = describe_template(
        pattern,
        budget=f"total:{pattern.n_connections}",
        network={"growth": 4, "blocks": 1, "bottleneck": False},
        costs={"params": 12_345, "flops": 2**40},
        provenance={"name": 'a <"rule"> é', "accuracy": [0.5, 0.25], "nothing": None},
    )
    return write_template(template, folder)


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    """The fields of log's template file over 6 layers."""
    content: dict[str, Any] = json.loads(
        write_example(find_template("log").build(6), tmp_path / "fixture")[0].read_text()
    )
    return content


def read_raw(raw: object, folder: Path) -> ConnectionPattern:
    path = folder / "edited.json"
    path.write_text(json.dumps(raw))
    return read_pattern(path)


def refusal_of(raw: object, folder: Path) -> str:
    with pytest.raises(InputError) as refusal:
        read_raw(raw, folder)
    assert str(folder / "edited.json") in str(refusal.value)
    return str(refusal.value)


# --- round trips and companions ----------------------------------------------------------------------------------


@by_pattern
def test_what_is_written_reads_back_as_the_same_pattern(pattern: ConnectionPattern, tmp_path: Path) -> None:
    paths = write_example(pattern, tmp_path / "made" / "on the way")
    assert [path.name for path in paths] == ["template.json", "template.graphml", "template.dot", "template.svg"]
    assert sorted(paths) == sorted((tmp_path / "made" / "on the way").iterdir())
    assert read_pattern(paths[0]) == pattern


@by_pattern
def test_the_json_says_what_was_given_and_what_networkx_finds(pattern: ConnectionPattern, tmp_path: Path) -> None:
    raw = json.loads(write_example(pattern, tmp_path)[0].read_text(encoding="utf-8"))
    graph = raw.pop("graph")
    assert raw == {
        "schema": "skipsearch/template",
        "version": 1,
        "key": pattern.key,
        "layers": pattern.depth,
        "sources": [list(inputs) for inputs in pattern.sources],
        "budget": f"total:{pattern.n_connections}",
        "network": {"growth": 4, "blocks": 1, "bottleneck": False},
        "distances": {name: value for name, value in describe(pattern).items() if name != "layers"},
        "costs": {"params": 12_345, "flops": 2**40},
        "certificate": certificate_of(pattern),
        "provenance": {"name": 'a <"rule"> é', "accuracy": [0.5, 0.25], "nothing": None},
    }
    rebuilt = nx.node_link_graph(graph, edges="edges")
    assert rebuilt.is_directed()
    assert not rebuilt.is_multigraph()
    assert sorted(rebuilt) == list(range(pattern.depth + 1))
    assert sorted(rebuilt.edges) == sorted(pattern.connections)


@by_pattern
def test_graphml_holds_the_connections(pattern: ConnectionPattern, tmp_path: Path) -> None:
    graph = nx.read_graphml(write_example(pattern, tmp_path)[1], node_type=int)
    assert graph.is_directed()
    assert sorted(graph) == list(range(pattern.depth + 1))
    assert sorted(graph.edges) == sorted(pattern.connections)


@by_pattern
def test_dot_holds_the_connections_one_a_line(pattern: ConnectionPattern, tmp_path: Path) -> None:
    text = write_example(pattern, tmp_path)[2].read_text()
    assert text == format_dot(pattern)
    first, direction, *edges, last, rest = text.split("\n")
    assert (first, direction, last, rest) == ("digraph pattern {", "  rankdir=LR;", "}", "")
    parsed = [re.fullmatch(r"  (\d+) -> (\d+);", line) for line in edges]
    assert [(int(m[1]), int(m[2])) for m in parsed if m] == list(pattern.connections)
    assert None not in parsed


def test_the_picture_carries_the_name_from_the_provenance(tmp_path: Path) -> None:
    svg = write_example(PATTERNS[1], tmp_path)[3].read_text(encoding="utf-8")
    assert 'a &lt;"rule"&gt; é: 2 layers, 3 connections' in svg


def test_layers_and_sources_alone_are_a_pattern(tmp_path: Path) -> None:
    assert read_raw({"layers": 3, "sources": [[0], [1], [2, 0]]}, tmp_path) == ConnectionPattern(
        3, ((0,), (1,), (0, 2))
    )


# --- contradictions ----------------------------------------------------------------------------------------------


def test_an_unedited_file_is_read(raw: dict[str, Any], tmp_path: Path) -> None:
    assert read_raw(raw, tmp_path) == find_template("log").build(6)


def test_another_key_is_refused(raw: dict[str, Any], tmp_path: Path) -> None:
    key = find_template("log").build(6).key
    raw["key"] = find_template("chain").build(6).key
    said = refusal_of(raw, tmp_path)
    assert "contradicts itself" in said
    assert f"key is {raw['key'][:12]}..., its sources give {key[:12]}..." in said
    assert "graph" not in said
    assert "distances" not in said


@pytest.mark.parametrize(
    "edit",
    [
        lambda edges: edges.pop(),
        lambda edges: edges.append({"source": 0, "target": 5}),
        lambda edges: edges[0].update(source=1, target=0),
        lambda edges: edges[0].pop("source"),
        lambda edges: edges.clear(),
    ],
    ids=["removed", "added", "turned", "without source", "none"],
)
def test_other_edges_are_refused(raw: dict[str, Any], tmp_path: Path, edit: Callable[[Any], object]) -> None:
    edit(raw["graph"]["edges"])
    said = refusal_of(raw, tmp_path)
    assert "graph's nodes and edges are not those that sources gives" in said
    assert "key" not in said
    assert "distances" not in said


@pytest.mark.parametrize(
    "edit",
    [
        lambda graph: graph["nodes"].pop(),
        lambda graph: graph["nodes"].append({"id": 7}),
        lambda graph: graph.update(directed=False),
        lambda graph: graph["edges"].append(graph["edges"][0]),
    ],
    ids=["node removed", "node added", "undirected", "edge repeated"],
)
def test_other_graphs_are_refused(raw: dict[str, Any], tmp_path: Path, edit: Callable[[Any], object]) -> None:
    edit(raw["graph"])
    assert "graph" in refusal_of(raw, tmp_path)


@pytest.mark.parametrize("edges", [None, 5, [[0, 1]], ["01"], [{"source": [0], "target": 1}]], ids=str)
def test_edges_of_another_form_are_refused(raw: dict[str, Any], tmp_path: Path, edges: object) -> None:
    raw["graph"]["edges"] = edges
    assert "graph" in refusal_of(raw, tmp_path)


DISTANCES = [name for name in describe(PATTERNS[1]) if name != "layers"]


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("factor", [1 + 1e-6, 2, -1])
def test_another_distance_is_refused(raw: dict[str, Any], tmp_path: Path, name: str, factor: float) -> None:
    right = raw["distances"][name]
    raw["distances"][name] = right * factor
    said = refusal_of(raw, tmp_path)
    assert f"distances.{name} is {right * factor}, networkx gives {right}" in said
    assert said.count("distances.") == 1
    assert "key" not in said


def test_an_unknown_distance_is_refused(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["distances"]["mean"] = raw["distances"]["mean_bd"]
    assert "distances.mean is" in refusal_of(raw, tmp_path)


def test_an_enormous_distance_is_refused(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["distances"]["mean_bd"] = 10**39
    assert "distances.mean_bd" in refusal_of(raw, tmp_path)


def test_other_sources_contradict_key_graph_and_distances(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["sources"][5] = [0, 5]
    said = refusal_of(raw, tmp_path)
    for part in (
        "key is",
        "graph's nodes and edges",
        "distances.connections is 14, networkx gives 13",
        "distances.mean_bd",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([[0], [0]], "layer 2 does not read 1"),
        ([[0], [1, 1]], "layer 2 reads 1 more than once"),
        ([[0], [1, -1]], "layer 2 reads -1, out of range"),
        ([[0]], "1 lists of sources given, expected 2"),
        ([], "0 lists of sources given, expected 2"),
    ],
)
def test_sources_that_are_no_pattern_are_refused(sources: object, said: str, tmp_path: Path) -> None:
    assert said in refusal_of({"layers": 2, "sources": sources}, tmp_path)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"layers = 3", "is not JSON"),
        (b'{"layers": 1, "sources": [[0]', "is not JSON"),
        (b'{"layers": 1, "sources": [[0]]} x', "is not JSON"),
        (b'{"layers": 1, "sources": "\xff"}', "is not JSON"),
        (b"\x00" * 64, "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"[[0], [1]]", "contains a JSON list, expected an object with layers and sources"),
        (b'"template"', "contains a JSON str, expected an object"),
        (b"3", "contains a JSON int, expected an object"),
        (b"null", "contains a JSON NoneType, expected an object"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_file_that_holds_no_json_object_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "pattern.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_pattern(path)
    assert str(refusal.value).startswith(f"{path} {said}")


def test_a_number_of_very_many_digits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pattern.json"
    path.write_bytes(b'{"layers": ' + b"9" * 5000 + b', "sources": [[0]]}')
    with pytest.raises(InputError):
        read_pattern(path)


def test_a_written_file_cut_anywhere_is_refused(raw: dict[str, Any], tmp_path: Path) -> None:
    whole = json.dumps(raw)
    path = tmp_path / "cut.json"
    n_refused = 0
    for length in range(0, len(whole), 7):
        path.write_text(whole[:length])
        with pytest.raises(InputError, match="is not JSON"):
            read_pattern(path)
        n_refused += 1
    assert n_refused > 100


def test_a_missing_file_a_folder_and_a_file_used_as_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no pattern file at .*missing\.json"):
        read_pattern(tmp_path / "missing.json")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_pattern(tmp_path)
    (tmp_path / "file").write_text("{}")
    with pytest.raises(InputError, match="cannot be read: Not a directory"):
        read_pattern(tmp_path / "file" / "template.json")


@pytest.mark.parametrize(
    ("bare", "named"),
    [
        ({}, "layers: is missing; sources: is missing"),
        ({"layers": 1}, "sources: is missing"),
        ({"sources": [[0]]}, "layers: is missing"),
        ({"layers": 0, "sources": []}, "layers: "),
        ({"layers": "1", "sources": [[0]]}, "layers: "),
        ({"layers": 1.0, "sources": [[0]]}, "layers: "),
        ({"layers": True, "sources": [[0]]}, "layers: "),
        ({"layers": 1, "sources": None}, "sources: "),
        ({"layers": 1, "sources": [0]}, "sources.0: "),
        ({"layers": 1, "sources": {"1": [0]}}, "sources: "),
        ({"layers": 2, "sources": [[0], ["1"]]}, "sources.1.0: "),
        ({"layers": 2, "sources": [[0], [1.0]]}, "sources.1.0: "),
        ({"layers": 2, "sources": [[0], [0.5, 1]]}, "sources.1.0: "),
        ({"layers": 2, "sources": [[0], [True]]}, "sources.1.0: "),
        ({"layers": 2, "sources": [[0], [1, None]]}, "sources.1.1: "),
        ({"layers": 1, "sources": [[0]], "extra": 1}, "extra: "),
        ({"layers": 1, "sources": [[0]], "key": "0" * 64}, "key: "),
    ],
    ids=str,
)
def test_fields_missing_unknown_or_of_another_type_are_named(bare: object, named: str, tmp_path: Path) -> None:
    said = refusal_of(bare, tmp_path)
    assert f"is not a template file: {named}" in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "another/template"),
        ("schema", None),
        ("version", 2),
        ("version", "1"),
        ("key", 5),
        ("layers", "6"),
        ("sources", [["0"]]),
        ("budget", 14),
        ("network", []),
        ("distances", {"mean_bd": "1.5"}),
        ("distances", {"mean_bd": True}),
        ("costs", {"params": 1.5}),
        ("provenance", "by hand"),
        ("graph", []),
        ("comment", "not a field"),
    ],
)
def test_a_template_file_is_checked_field_by_field(
    raw: dict[str, Any], field: str, value: object, tmp_path: Path
) -> None:
    said = refusal_of(raw | {field: value}, tmp_path)
    assert f"is not a template file: {field}" in said


@pytest.mark.parametrize(
    "field", ["key", "layers", "sources", "budget", "network", "distances", "costs", "provenance", "graph"]
)
def test_a_template_file_lacks_nothing(raw: dict[str, Any], field: str, tmp_path: Path) -> None:
    del raw[field]
    assert f"is not a template file: {field}: is missing" in refusal_of(raw, tmp_path)


# --- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"a": [], "b": {}, "c": [[]], "d": None},
        {"long": list(range(100)), "short": list(range(5))},
        {"text": ["[\n  1\n]", "{", "]", '"', "\\", "a\n\n  b", "\u2028\x85é"]},
        [[[1, 2], [3]], {"x": {"y": [1.5, True, None, "z"]}}],
        "alone",
    ],
    ids=repr,
)
def test_formatted_json_reads_back(value: object) -> None:
    text = format_json(value)
    assert json.loads(text) == value
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_only_what_is_flat_and_short_stands_on_one_line() -> None:
    text = format_json({"flat": [1, 2], "nested": [[1], [2]], "long": [10**9] * 10})
    assert '  "flat": [1, 2],\n' in text
    assert '  "nested": [\n    [1],\n    [2]\n  ],\n' in text
    assert text.count("1000000000,\n") == 9


def test_letters_beyond_ascii_stay_readable() -> None:
    assert format_json({"name": "é ∀"}) == '{"name": "é ∀"}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json({"loss": value})


def fail_on_disk(_: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("old", [None, "old content\n"], ids=["new", "existing"])
@pytest.mark.parametrize("cause", ["fsync", "encoding"])
def test_a_write_that_fails_changes_nothing(
    old: str | None, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "template.json"
    if old is not None:
        path.write_text(old)
    if cause == "fsync":
        monkeypatch.setattr(os, "fsync", fail_on_disk)
        with pytest.raises(OSError, match="No space left"):
            write_atomic(path, "new content")
    else:
        with pytest.raises(UnicodeEncodeError):
            write_atomic(path, "x" * 100_000 + "\ud800")  # fails after a part was written
    assert list(tmp_path.iterdir()) == ([] if old is None else [path])
    assert old is None or path.read_text() == old


def test_the_rename_comes_between_the_two_flushes_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_atomic(path, "old")
    seen: list[tuple[bool, str, list[str]]] = []

    def record(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        others = [other.read_text() for other in path.parent.iterdir() if other != path]
        seen.append((is_folder, path.read_text(), others))

    monkeypatch.setattr(os, "fsync", record)
    write_atomic(path, "new")
    assert seen == [(False, "old", ["new"]), (True, "new", [])]


def test_writing_makes_folders_and_replaces_the_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    for text in ("a longer first text, é\r\n", "short\n", ""):
        write_atomic(path, text)
        assert path.read_bytes() == text.encode("utf-8")
    assert list(path.parent.iterdir()) == [path]
