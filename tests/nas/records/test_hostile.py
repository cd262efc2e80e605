"""Files of strangers: whatever they hold, a valid value comes of it or a refusal in words, and nothing else happens."""

import ast
import copy
import io
import json
import os
import re
import resource
import subprocess
import sys
import tomllib
import warnings
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator
from functools import reduce
from html.parser import HTMLParser
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.correlate.table import correlate_table
from analysis.page.figure_style import draw_svg, new_figure, wrap_text
from analysis.report.report import write_report
from nas.data.data_set import DataSet
from nas.data.readers import load_data
from nas.export.export import describe_export, verify_template
from nas.model.config import NetworkConfig
from nas.records.checked import validate
from nas.records.plan import PLAN_FILE, read_plan
from nas.records.safe_files import read_json
from nas.records.template import MAX_BYTES, MAX_LAYERS, format_template, read_pattern, write_template
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.settings.toml import MAX_TOML_BYTES, format_toml, merge_settings
from search_spaces.errors import ConflictError, InputError
from search_spaces.templates import find_template
from tests.support.small import ROOT
from tests.support.synthetic_run import make_run, propose

MEMORY = 4 * 2**30
by_luck = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

TEMPLATE: dict[str, Any] = json.loads(
    format_template(
        describe_export(find_template("log").build(6), NetworkConfig(layers=6, blocks=2), "log", {"name": "log"})
    )
)
BARE: dict[str, Any] = {name: TEMPLATE[name] for name in ("layers", "sources")}
CONFIGS: list[tuple[type[SearchConfig], SearchConfig]] = [
    (SearchConfig, SearchConfig(layers=12, budget="total:30", data="a.npz", dataset="npz", stem_channels=8)),
    (StudyConfig, StudyConfig(layers=12, also_layers=(16, 20), regime=("low=lr:0.05", "high=lr:0.15,epochs:3"))),
]

# --- values and edits --------------------------------------------------------------------------------------------

JSON_VALUES = [
    "NaN", "-Infinity", "1e999", "-1", "0", "1", "true", "null", "0.5", "1.0", "1e2", "1000000000", "9" * 40, "9" * 41,
    "9" * 5000, '""', '"1"', '"\\ud800"', '"\\u0000"', '"../../x"', '"<script>alert(1)</script>"',
    f'"{"x" * 9999}"', f'"log;max-in:{"9" * 5000}"', f'"layers:{"1," * 999}1"', "[]", "{}", "[[]]", '{"a": 1, "a": 2}',
    "[" * 99 + "]" * 99, "[" * 900 + "]" * 900, "[" * 99999, '{"a":' * 300 + "1" + "}" * 300,
]  # fmt: skip
TOML_VALUES = [
    "nan", "-inf", "1e999", "-1", "0", "1", "true", "0.5", "1000000000", "9" * 5000, "0x" + "f" * 5000, "1979-05-27",
    "9223372036854775807", "9223372036854775808", '""', '"1"', '"\\u0000"', '"../../x"', '"$(touch x)"',
    f'"{"x" * 9999}"', f'"log;max-in:{"9" * 5000}"', f'"layers:{"1," * 999}1"', f'"1:2:{"9" * 5000}"', "[]", "[[]]",
    "[1, nan]", '["a=lr:nan"]', f'["a=lr:1,epochs:{"9" * 5000}"]', "{}", "{a = 1, a = 2}", "[" * 99 + "]" * 99,
    "[" * 900 + "]" * 900, "[" * 50000, "1" + ".a" * 40000,
]  # fmt: skip
NAMES = ["", "layers", "sources", "budget", "seed", "__class__", "a.b", "\x1b[31m", "x" * 5000]


def list_places(value: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys and indices that lead to each value inside nested ones."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from list_places(inner, (*place, key))


@st.composite
def json_mutants(draw: st.DrawFn) -> bytes:
    """A template file with one to three values dropped, doubled, renamed or replaced, or its bytes damaged."""
    held = copy.deepcopy(draw(st.sampled_from([TEMPLATE, BARE])))
    raw: dict[str, str] = {}
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(list(list_places(held)) or [("layers",)]))
        parent: Any = reduce(getitem, above, held)
        old = parent.pop(last) if last in (parent if isinstance(parent, dict) else range(len(parent))) else 0
        edit = draw(st.sampled_from(["drop", "replace", "double", "rename"]))
        if edit == "replace":
            old = f"@{len(raw)}"
            raw[f'"{old}"'] = draw(st.sampled_from(JSON_VALUES))
        if isinstance(parent, list):
            for _ in range({"drop": 0, "double": 2}.get(edit, 1)):
                parent.insert(last, old)
        elif edit != "drop":
            parent[draw(st.sampled_from(NAMES)) if edit == "rename" else last] = old
            if edit == "double":
                parent[f"{last}@twin"] = old
    text = json.dumps(held).replace("@twin", "")
    for placeholder, value in raw.items():
        text = text.replace(placeholder, value)
    return draw(damaged(text.encode()))


@st.composite
def toml_mutants(draw: st.DrawFn) -> tuple[type[SearchConfig], bytes]:
    """The same of a config file, line by line."""
    model, config = draw(st.sampled_from(CONFIGS))
    lines = format_toml(config).replace("[\n    ", "[").replace(",\n    ", ", ").replace(",\n]", "]").splitlines()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        name, _, value = lines[place].partition(" = ")
        edit = draw(st.sampled_from(["drop", "replace", "double", "rename", "nest", "underscore"]))
        if edit == "replace":
            lines[place] = f"{name} = {draw(st.sampled_from(TOML_VALUES))}"
        if edit == "rename":
            lines[place] = f"{json.dumps(draw(st.sampled_from(NAMES)))} = {value}"
        if edit == "drop":
            lines[place] = ""
        if edit == "double":
            lines.append(lines[place])
        if edit == "underscore":
            lines.append(lines[place].replace("-", "_", 1))
        if edit == "nest":
            lines[place] = draw(st.sampled_from([f"[{name}]\na = {value}", f"{name}.a = {value}", f"[[{name}]]"]))
    return model, draw(damaged("\n".join(lines).encode()))


@st.composite
def damaged(draw: st.DrawFn, content: bytes, share: int = 4) -> bytes:
    """The bytes as they are, or in one case of `share` some of them changed, cut out or put in."""
    if draw(st.integers(1, share)) > 1:
        return content
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        n_cut = draw(st.sampled_from([0, 1, 7, len(content)]))
        put = draw(
            st.sampled_from([b"", b"\0", b"\xff", b"0", b"9", b"[", b"}", b'"', b",", b"\n"]) | st.binary(max_size=3)
        )
        content = content[:start] + put + content[start + n_cut :]
    return content


def check_refusal(error: InputError, *words: str) -> None:
    said = str(error)
    assert all(word in said for word in words), said
    assert 40 < len(said) < 3000, said


# --- templates and plans -----------------------------------------------------------------------------------------


@settings(by_luck, max_examples=150)
@given(json_mutants())
def test_a_mutated_template_is_refused_in_words_or_read_as_it_stands(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "template.json"
    path.write_bytes(content)
    try:
        pattern = read_pattern(path)
    except InputError as refusal:
        check_refusal(refusal, str(path))
        assert re.search("`export`|remove all but them", str(refusal))
    else:
        held = json.loads(content)
        assert (held["layers"], [sorted(inputs) for inputs in held["sources"]]) == (
            pattern.depth,
            [list(inputs) for inputs in pattern.sources],
        )
        assert {type(number) for inputs in held["sources"] for number in (held["layers"], *inputs)} == {int}
        assert set(held) == set(BARE) or held["key"] == pattern.key
    try:
        false = verify_template(path)
    except InputError as refusal:
        check_refusal(refusal, str(path))
    else:
        assert all(false.values())
        assert not false or all(len(said) < 9000 for said in false.values())
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"layers": 1000000000, "sources": []}', f"layers: expected a whole number from 1 to {MAX_LAYERS}"),
        ('{"layers": 1, "layers": 1, "sources": [[0]]}', "key 'layers' comes 2 times"),
        ('{"layers": 1, "sources": [[0]], "a": {"b": {"c": 0, "c": 0}}}', "key 'c' comes 2 times"),
        ('{"layers": NaN, "sources": [[0]]}', "NaN is no finite number"),
        ('{"layers": 1e999, "sources": [[0]]}', "1e999 is no finite number"),
        ('{"layers": ' + "9" * 41 + ', "sources": [[0]]}', "a whole number has 41 digits, at most 40"),
        ('{"layers": 1, "sources": ' + "[" * 101 + "]" * 101 + "}", "it nests lists and tables more than 100 deep"),
        ('{"layers": 1, "sources": ' + '{"a":' * 150 + "0" + "}" * 151, "it nests lists and tables more than 100 deep"),
    ],
)
def test_what_json_allows_and_a_template_does_not_is_named(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "pattern.json"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(said)):
        read_pattern(path)


def test_as_many_layers_as_are_allowed_are_read_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "chain.json"
    for n_layers in (MAX_LAYERS, MAX_LAYERS + 1):
        path.write_text(json.dumps({"layers": n_layers, "sources": [[i] for i in range(n_layers)]}))
        if n_layers == MAX_LAYERS:
            assert read_pattern(path).n_connections == MAX_LAYERS
        else:
            with pytest.raises(InputError, match="from 1 to 4096"):
                read_pattern(path)


def test_a_file_is_read_up_to_the_limit_and_not_a_byte_beyond(tmp_path: Path) -> None:
    path = tmp_path / "pattern.json"
    path.write_text(json.dumps(BARE).ljust(MAX_BYTES))
    assert read_pattern(path) == find_template("log").build(6)
    os.truncate(path, 2**40)  # no such disk is needed: the file is a hole
    with pytest.raises(InputError, match=r"has 1,099,511,627,776 bytes, and at most 1,000,000 are read"):
        read_pattern(path)


def read_config(path: Path) -> object:
    return merge_settings(path, {})


def read_npz(path: Path) -> object:
    return load_data("npz", str(path))


def read_table(path: Path) -> object:
    return correlate_table(path, ["x"], "y")


def read_idx(path: Path) -> object:
    """As the first of the four files of a folder."""
    (path.parent / "train-images-idx3-ubyte.gz").symlink_to(path)
    return load_data("fashion-mnist", str(path.parent))


@pytest.mark.parametrize("read", [read_pattern, read_config, read_npz, read_idx, read_table])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "loop", "nothing"])
def test_what_is_no_file_is_refused_at_once(read: Callable[[Path], object], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    make: dict[str, Callable[[], object]] = {
        "device": lambda: path.symlink_to("/dev/zero"),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to("file"),
        "nothing": lambda: path.symlink_to("absent"),
    }
    make[kind]()
    with pytest.raises(InputError) as refusal:
        read(path)
    check_refusal(refusal.value, str(tmp_path), "device or a pipe" if kind in ("device", "pipe") else "")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text(json.dumps(BARE))
    (tmp_path / "here.json").symlink_to("there.json")
    assert read_pattern(tmp_path / "here.json") == find_template("log").build(6)


def test_a_template_too_large_to_be_read_back_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = find_template("log").build(6)
    template = describe_export(pattern, NetworkConfig(layers=6), "log", {"name": None})
    n_bytes = len(format_template(template).encode())
    monkeypatch.setattr("nas.records.template.MAX_BYTES", n_bytes)
    assert read_pattern(write_template(template, tmp_path / "fits")[0]) == pattern
    monkeypatch.setattr("nas.records.template.MAX_BYTES", n_bytes - 1)
    with pytest.raises(InputError, match=f"of 14 connections would have {n_bytes:,} bytes.*export a pattern of fewer"):
        write_template(template, tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    "content", ['{"plan": 1, "plan": 2, "sha256": 3}', '{"plan": 1e999}', '{"plan": ' + "[" * 200 + "]" * 200 + "}"]
)
def test_a_plan_is_read_as_strictly(content: str, tmp_path: Path) -> None:
    (tmp_path / PLAN_FILE).write_text(content)
    with pytest.raises(InputError):
        read_json(tmp_path / PLAN_FILE, 1000)
    with pytest.raises(ConflictError, match="is no plan of a study"):
        read_plan(tmp_path)


# --- configs -----------------------------------------------------------------------------------------------------


@settings(by_luck, max_examples=150)
@given(toml_mutants())
def test_a_mutated_config_is_refused_in_words_or_read_as_it_stands(
    tmp_path: Path, mutant: tuple[type[SearchConfig], bytes]
) -> None:
    model, content = mutant
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    try:
        config = validate(model, merge_settings(path, {}))
    except InputError as refusal:
        assert re.search(
            f"^{re.escape(str(path))} is not TOML: .*; give lines such as|^these settings cannot be used:\n  - ",
            str(refusal),
        )
    else:
        held = {name.replace("-", "_"): value for name, value in tomllib.loads(content.decode()).items()}
        found = config.model_dump(include=set(held))
        if held.get("train_examples") == "all":
            held["train_examples"] = None  # what it is kept as
        # A whole number is read as a float where one is asked for: 2^63 - 1 has none of its own.
        read = {name: float(value) if isinstance(found[name], float) else value for name, value in held.items()}
        assert found == {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()}
        assert not any(isinstance(found[name], bool) != isinstance(held[name], bool) for name in held)
        assert validate(model, tomllib_values(format_toml(config))) == config
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == content


def tomllib_values(text: str) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in tomllib.loads(text).items()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("layers = 1000000000", "layers: expected a whole number from 1 to 4096, got 1000000000"),
        ("layers = 3\nlayers = 3", "Cannot overwrite a value"),
        ("batch-size = 2\nbatch_size = 3", "a setting is given twice, once with - and once with _"),
        ("lr = nan", "lr: "),
        ("layres = 3", "layres: no such setting; did you mean layers?"),
        ("seed = 0x" + "f" * 5000, "beyond TOML's 64 bits"),
        ("seed = [[{a = 9223372036854775808}]]", "beyond TOML's 64 bits"),
        ("seed = " + "9" * 5000, "4300 digits"),
        ("layers = " + "[" * 40000, "is not TOML"),
        ("layers = " + "[" * 150 + "]" * 150, "it nests lists and tables more than 100 deep"),
        ("a." * 40000 + "a = 1", "a line has more than 100 dots"),
        ("[" + "a." * 40000 + "a]", "a line has more than 100 dots"),
        ("#" * (MAX_TOML_BYTES + 1), "has 100,001 bytes, and at most 100,000 are read"),
    ],
    ids=lambda value: value[:24],
)
def test_a_config_that_asks_for_too_much_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(content)
    with pytest.raises(InputError) as refusal:
        validate(SearchConfig, merge_settings(path, {}))
    check_refusal(refusal.value, said)


# --- data sets ---------------------------------------------------------------------------------------------------

ARRAYS: dict[str, Any] = {
    "x_train": np.arange(96, dtype=np.uint8).reshape(6, 4, 4), "y_train": np.arange(6) % 2,
    "x_test": np.arange(48, dtype=np.uint8).reshape(3, 4, 4), "y_test": np.arange(3) % 2,
}  # fmt: skip


def save_npz(save: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    save(stream, **ARRAYS)
    return stream.getvalue()


NPZ = save_npz(np.savez), save_npz(np.savez_compressed)


def load_npz(path: Path, content: bytes) -> DataSet:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numpy's, of a header in Python 2's way
        return load_data("npz", str(path))


@settings(by_luck, max_examples=100)
@given(st.sampled_from(NPZ).flatmap(lambda content: damaged(content, 1)))
def test_a_damaged_data_set_is_refused_in_words_or_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    try:
        data = load_npz(path, content)
    except InputError as refusal:
        check_refusal(refusal, str(path))
    else:
        assert data.sha256 == load_npz(path, NPZ[0]).sha256
    assert list(tmp_path.iterdir()) == [path]


def write_member(path: Path, header: object, content: bytes = b"", name: str = "x_train.npy") -> None:
    """An .npz of good arrays but one, whose header says what it likes."""
    text = repr(header).encode() if not isinstance(header, bytes) else header
    with zipfile.ZipFile(io.BytesIO(NPZ[0])) as good, zipfile.ZipFile(path, "w") as archive:
        for other in good.namelist():
            if other != "x_train.npy":
                archive.writestr(other, good.read(other))
        archive.writestr(name, b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content)


def header_of(descr: object, shape: tuple[int, ...]) -> dict[str, object]:
    return {"descr": descr, "fortran_order": False, "shape": shape}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (header_of("|u1", (10**12, 4, 4)), "its header says 16,000,000,000,000"),
        (header_of("|u1", (6, 4, 5)), "x_train has 96 bytes, its header says 120"),
        (header_of("|u1", (-6, -4, 4)), "x_train"),
        (header_of("|u1", (0, 2**70)), "x_train"),
        (header_of("|S1000000000", (6,)), "its header says 6,000,000,000"),
        (header_of([("a", "<f8", (10**9,))], (6,)), "plain arrays"),
        (header_of("|O", (6,)), "allow_pickle=False"),
        (header_of([("a", "|O")], (6,)), "allow_pickle=False"),
        (header_of("|V0", (6, 4, 4)), "x_train"),
        (b"__import__('os').mkdir('made')", "plain arrays"),
        (b"(" * 500, "plain arrays"),
        (b"-" * 900 + b"1", "plain arrays"),
        (b"[" * 30000, "plain arrays"),
        (b"", "plain arrays"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_header_is_not_believed(header: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data.npz"
    write_member(path, header, bytes(96))
    with pytest.raises(InputError) as refusal:
        load_npz(path, path.read_bytes())
    check_refusal(refusal.value, str(path), said, "numpy.savez")
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.npz"
    images = np.zeros((6, 1000, 1000), np.uint8)
    images[:, 0] = 1
    np.savez_compressed(path, **{**ARRAYS, "x_train": images, "x_test": images[:3]})
    monkeypatch.setattr("nas.data.readers.MAX_BYTES", 9_000_071)
    with pytest.raises(InputError, match=r"unpacks to 9,000,072 bytes, and at most 9,000,071 are read"):
        load_data("npz", str(path))
    monkeypatch.setattr("nas.data.readers.MAX_BYTES", 9_000_072)
    assert load_data("npz", str(path)).images.shape == (9, 1, 1000, 1000)


@pytest.mark.parametrize("name", ["x_train", "../x_train.npy", "/x_train.npy", "x_train.npy/"])
def test_members_of_other_names_are_not_read(name: str, tmp_path: Path) -> None:
    write_member(tmp_path / "data.npz", b"cos\nsystem\n(S'x'\ntR.", name=name)
    with pytest.raises(InputError, match="x_train"):
        load_data("npz", str(tmp_path / "data.npz"))
    assert len(list(tmp_path.iterdir())) == 1


# --- tables ------------------------------------------------------------------------------------------------------

TABLE = b"x,y,name\n" + b"".join(b"%d,%d,p%d\n" % (i, i * i % 7, i) for i in range(8))


@settings(by_luck, max_examples=50)
@given(damaged(TABLE, 1))
def test_a_damaged_table_is_refused_in_words_or_gives_numbers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    try:
        (row,) = correlate_table(path, ["x"], "y")
    except InputError as refusal:
        check_refusal(refusal, str(path))
    else:
        json.dumps(row, allow_nan=False)
        assert 3 <= row["n"] <= content.count(b"\n") + content.count(b"\r")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("MAX_ROWS", "has more than 2 rows"),
        ("MAX_COLUMNS", "has 3 columns, and at most 2"),
        ("MAX_BYTES", "at most 2 are"),
    ],
)
def test_a_table_beyond_a_limit_is_refused(
    limit: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.csv").write_bytes(TABLE)
    monkeypatch.setattr(f"analysis.correlate.columns.{limit}", 2)
    with pytest.raises(InputError, match=said):
        correlate_table(tmp_path / "table.csv", ["x"], "y")


def test_nothing_in_a_table_is_evaluated(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("x,y\n1,2\n=1+1,3\n__import__('os'),4\n")
    with pytest.raises(InputError, match=r"column x has '=1\+1' in data row 2; only numbers"):
        correlate_table(tmp_path / "table.csv", ["x"], "y")


# --- reports -----------------------------------------------------------------------------------------------------

EVIL = (
    '<script>alert(1)</script>"><img src=x onerror=alert(1)> `x` | *b* _i_ [a](javascript:x) ~~s~~ &lt;b&gt; '
    "$\\frac{ $ \x00\x1b[31m\n\n# h\n```\n" + "a" * 41 + "$\\frac{" + "c" * 34 + "$ " + "very long " * 200
)


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def test_a_report_shows_whatever_names_it_is_given(tmp_path: Path) -> None:
    proposals = [
        (template and template + EVIL, strategy + EVIL, one) for template, strategy, one in propose(4, ["log"])
    ]
    run = make_run(
        tmp_path / "<img src=x> ``` | $a$\n```\n# h",
        proposals,
        lambda place, seed: EVIL if (place, seed) == (2, 0) else 0.5 + 0.02 * place + 0.01 * seed,
        config={"dataset": EVIL, EVIL: EVIL},
        environment={"device": EVIL, "commit": EVIL},
        data={"name": EVIL, "n_train": 300},
    )
    texts = {path.name: path.read_text(encoding="utf-8") for path in write_report(run) if path.suffix != ".png"}
    page = _Page(texts["index.html"])
    assert not {"img", "b", "foreignobject", "iframe"} & page.tags
    data, script = page.scripts  # ours
    assert json.loads(data) and script.strip() == (ROOT / "analysis" / "web" / "page.js").read_text("utf-8").strip()
    assert not [name for name in page.attributes if name.startswith("on")]
    for name, text in texts.items():
        if name.endswith(".svg"):
            elements = list(ET.fromstring(text).iter())  # noqa: S314 - our own
            assert not [one.tag for one in elements if one.tag.rpartition("}")[2] in ("script", "img", "foreignObject")]
            assert not [key for one in elements for key in one.attrib if key.startswith("on")]
    outside = re.sub("^`{4,}$.*?^`{4,}$", "", texts["report.md"], flags=re.MULTILINE | re.DOTALL)
    assert texts["report.md"].count("\n````\n") == 2
    outside = re.sub(r"^(</?details>|<summary>[^<]*</summary>)\n+", "", outside, flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)[<`$~]|^>? ?#+ h|\n\n# h", outside)
    counts = [{len(re.findall(r"(?<!\\)\|", line)) for line in part.splitlines()} for part in outside.split("\n\n")]
    n_tables = sum(min(one, default=0) > 2 for one in counts)
    assert n_tables == texts["index.html"].count("<table>") >= 2  # no name ends one, or begins one
    assert all(len(one) <= 1 for one in counts)


def test_a_line_break_between_backslash_and_dollar_makes_no_formula() -> None:
    text = "a" * 41 + "$\\frac{" + "c" * 34 + "$"
    lines = wrap_text(text, 42, 3)
    assert "".join(lines) == text.replace("$", r"\$")
    figure = new_figure(2)
    figure.subplots().set_yticks([0], ["\n".join(lines)])
    assert "frac" in draw_svg(figure)


# --- code --------------------------------------------------------------------------------------------------------


def test_no_code_of_a_stranger_can_run() -> None:
    files = [
        path for folder in ("nas", "analysis", "search_spaces", "commands") for path in (ROOT / folder).rglob("*.py")
    ]
    found = []
    for path in [*files, ROOT / "run_search.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called, flags = ast.unparse(node.func), {flag.arg: ast.unparse(flag.value) for flag in node.keywords}
                is_bad = (
                    re.fullmatch(r"eval|exec|compile|os\.system|(pickle|marshal|shelve)\.(loads?|open)", called)
                    or (called == "torch.load" and flags.get("weights_only") != "True")
                    or (called in ("npy.read_array", "np.load") and flags.get("allow_pickle") != "False")
                    or flags.get("shell", "False") != "False"
                )
                found += [f"{path.name} {called}"] if is_bad else []
    assert len(files) > 60
    assert found == ["reference.py exec", "reference.py compile"]  # of the task that the command was told to run


# --- the command line --------------------------------------------------------------------------------------------


def attack(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder, with MEMORY bytes at most; nothing is written there."""
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_search.py"), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120, cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )  # fmt: skip
    assert sorted(folder.rglob("*")) == before
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "a bug of ours" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("arguments", "content", "said"),
    [
        pytest.param(
            ["verify", "FILE"],
            '{"schema": "skipsearch/template", "layers": 1000000000}',
            "from 1 to 4096",
            marks=[pytest.mark.slow, pytest.mark.ci],
        ),
        pytest.param(
            ["score", "--pattern", "FILE"], "[" * 500_000, "is not JSON", marks=[pytest.mark.slow, pytest.mark.ci]
        ),
        (
            ["search", "--run", "run", "--config", "FILE"],
            "layers = 1000000000\nlr = nan\nlayres = 1",
            "did you mean layers?",
        ),
        (["correlate", "/dev/zero", "--measure", "x", "--outcome", "y"], "", "device or a pipe"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_attack_on_the_command_line_ends_with_exit_2(
    arguments: list[str], content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text(content)
    done = attack(tmp_path, *[argument.replace("FILE", "file") for argument in arguments])
    assert said in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "--pattern", "/dev/zero"], "device or a pipe"),
        (["export", "--pattern", "pipe", "--to", "out"], "device or a pipe"),
        (["search", "--run", "run", "--config", "pipe"], "device or a pipe"),
        (["search", "--run", "run", "--config", "hole"], "at most 100,000 are read"),
        (["search", "--run", "run", "--dataset", "npz", "--data", "pipe"], "device or a pipe"),
        (["search", "--run", "run", "--dataset", "npz", "--data", "hole"], "at most 2,000,000,000 are read"),
        (["search", "--run", "run", "--dataset", "npz", "--data", "lies.npz"], "its header says 16,000,000,000,000"),
        (["study", "--run", "run", "--config", "/dev/zero"], "device or a pipe"),
        (["verify", "hole"], "at most 1,000,000 are read"),
        (["correlate", "hole", "--measure", "x", "--outcome", "y"], "at most 100,000,000 are read"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_files_without_end_end_with_exit_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 2**40)
    write_member(tmp_path / "lies.npz", header_of("|u1", (10**12, 4, 4)), bytes(96))
    assert said in attack(tmp_path, *arguments).stderr
