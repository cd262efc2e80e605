"""Measures of other packages: used like ours where they work, otherwise a message that names the package."""

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from analysis.data.csv_files import read_table
from analysis.data.results import COLUMNS, read_run
from analysis.page.wording import name_measure
from analysis.study.stratum import analyse_candidates
from search_spaces.errors import InputError
from search_spaces.measures.compiled import measure_batch
from search_spaces.measures.registry import find_measure, list_brought, list_measures, measure, measure_brought
from tests.support.patterns import random_pattern
from tests.support.plugins import WORKING, installed, write_package
from tests.support.resamples import use_resamples
from tests.support.small import ROOT, CommandLine
from tests.support.synthetic_run import make_run, propose

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """Install a package with these entry points; several calls install several packages."""
    with ExitStack() as stack:

        def add(entries: Mapping[str, str], name: str = "gauge") -> None:
            folder = tmp_path / name
            folder.mkdir()
            write_package(folder, entries, name)
            stack.enter_context(installed(monkeypatch, folder))

        yield add


def test_without_packages_there_are_ours() -> None:
    assert list_brought() == ()
    assert measure_brought(random_pattern(5, 0)) == {}


def test_a_function_and_a_measure_are_found_with_their_definitions(install: Install) -> None:
    install(WORKING)
    pattern = random_pattern(9, 1)
    expected = {"n_twos": sum(len(inputs) == 2 for inputs in pattern.sources), "share_read": 0.4}  # nodes 2, 6, 8, 9
    assert [entry.name for entry in list_brought()] == ["n_twos", "share_read"]
    assert list_measures()[-2:] == list_brought()
    function, whole = list_brought()
    assert (function.definition, function.source) == ("Number of layers with two inputs.", "package gauge 1.2")
    assert (whole.definition, whole.source, whole.highest) == (
        "Share of the nodes that the classifier reads.",
        "a test",
        1,
    )
    assert measure(pattern, expected) == measure_brought(pattern) == pytest.approx(expected)
    assert measure(pattern, ["share_read"], (9,)) == {"share_read": 0.1}
    batch = measure_batch([pattern, random_pattern(4, 2)], ["n_twos", "mean_bd"])
    assert batch["n_twos"][0] == expected["n_twos"]


def test_score_and_sample_show_them_next_to_bd(install: Install, command_line: CommandLine, tmp_path: Path) -> None:
    install(WORKING)
    (row,) = json.loads(command_line("score", "--layers", 6, "--template", "chain", "--json").stdout)
    assert (row["n_twos"], row["share_read"]) == (0, 3 / 7)
    table = command_line("score", "--layers", 6, "--template", "chain").stdout
    assert "n_twos" in table
    assert "share_read" in table
    shown = command_line("score", "--layers", 6, "--template", "chain", "--measures", "n_twos").stdout
    assert "Number of layers with two inputs." in shown
    flags = ("--layers", 6, "--budget", "total:9", "--cross", "n_twos", "--bins", "1:3", "--per-cell", 2)
    drawn = command_line("sample", *flags, "--to", tmp_path / "drawn", "--json")
    assert [1 <= row["n_twos"] <= 3 for row in json.loads(drawn.stdout)] == [True, True]


def test_the_report_correlates_them_with_the_outcomes(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_resamples(monkeypatch, 20)
    run = make_run(
        tmp_path / "run", propose(14, budget="total:16"), lambda place, seed: 0.5 + 0.01 * place + 0.001 * seed
    )
    assert list(read_run(run).candidates) == list(COLUMNS)
    install(WORKING)
    table = read_run(run).candidates
    assert list(table) == [*COLUMNS, "n_twos", "share_read"]
    for _, row in table.iterrows():
        assert row["n_twos"] == sum(len(inputs) == 2 for inputs in json.loads(row["sources"]))
    (stratum,) = analyse_candidates(table).strata
    assert {"n_twos"} == {effect.measure for effect in stratum.effects} & {"n_twos", "share_read"}
    assert "share_read" in stratum.constant
    assert name_measure("n_twos") == "n twos"
    table.drop(columns="n_twos").to_csv(tmp_path / "table.csv", index=False)
    assert read_table(tmp_path / "table.csv")["n_twos"].tolist() == table["n_twos"].tolist()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("lost", "no_such_module:f", "ModuleNotFoundError"),
        ("lost", "gauge:no_such_function", "AttributeError"),
        ("number", "gauge:NUMBER", "no Measure and no function"),
        ("Two words", "gauge:n_twos", "lower-case"),
        ("other", "gauge:READ", "share_read"),
    ],
)
def test_a_broken_package_is_named_and_stops_nothing_else(
    name: str, value: str, reason: str, install: Install, command_line: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    install({name: value, "n_twos": "gauge:n_twos"})
    done = command_line("score", "--layers", 5, "--template", "log", "--json")
    assert done.returncode == 0
    (row,) = json.loads(done.stdout)
    assert "n_twos" in row
    assert name not in row
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert all(part in record.getMessage() for part in (repr(name), "package gauge 1.2", reason))
    list_measures()
    assert len(caplog.records) == 1  # said once
    with pytest.raises(InputError, match=r"package gauge 1\.2"):
        find_measure(name)


@pytest.mark.parametrize(("value", "reason"), [("gauge:fails", "ZeroDivisionError"), ("gauge:endless", "nan")])
def test_a_measure_that_fails_is_left_out_unless_it_was_asked_for(
    value: str, reason: str, install: Install, command_line: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    install({"fragile": value, "n_twos": "gauge:n_twos"})
    done = command_line("score", "--layers", 5, "--json")
    assert done.returncode == 0
    assert all("n_twos" in row and "fragile" not in row for row in json.loads(done.stdout))
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert reason in caplog.text
    asked = command_line("score", "--layers", 5, "--template", "log", "--measures", "fragile")
    assert asked.returncode == 2
    for part in ("'fragile'", "package gauge 1.2", reason, "uninstall"):
        assert part in asked.stderr
    assert command_line("score", "--layers", 5, "--template", "log").returncode == 0  # the table, without it
    for templates in (["log"], ["log", "dense"]):
        flags = [part for name in templates for part in ("--template", name)]
        every = command_line("score", "--layers", 5, *flags, "--measures", "all")
        assert every.returncode == 0
        assert "n_twos" in every.stdout


def test_ours_keeps_its_name(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    pattern = random_pattern(7, 3)
    before = measure(pattern, ["span"])
    install({"span": "gauge:n_twos"})
    assert measure(pattern, ["span"]) == before
    assert list_brought() == ()
    assert "'span' of package gauge 1.2 is left out" in caplog.text
    assert "rename" in caplog.text


def test_a_name_that_tables_have_already_is_left_out_of_them(
    install: Install, command_line: CommandLine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install({"params": "gauge:n_twos", "seed": "gauge:n_twos"})
    (row,) = json.loads(command_line("score", "--layers", 5, "--template", "log", "--json").stdout)
    assert row["params"] > 100
    table = read_run(make_run(tmp_path / "run", propose(2), lambda _p, _s: 0.5)).candidates
    assert table["params"].tolist() == [1000] * 4
    assert table["seed"].tolist() == [0, 1, 0, 1]
    assert "'params'" in caplog.text
    assert "'seed'" in caplog.text


def test_of_two_packages_with_one_name_neither_is_chosen(install: Install) -> None:
    install({"n_twos": "gauge:n_twos"})
    install({"n_twos": "gauge:n_twos"}, "meter")
    with pytest.raises(InputError, match=r"package gauge 1\.2 and package meter 1\.2 each"):
        find_measure("n_twos")
    assert list_brought() == ()


def test_a_warning_goes_to_standard_error(tmp_path: Path) -> None:
    write_package(tmp_path, {"lost": "no_such_module:f", "n_twos": "gauge:n_twos"})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, str(ROOT / "run_search.py"), "score", "--layers", "4", "--template", "log", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    (row,) = json.loads(done.stdout)
    assert math.isfinite(row["n_twos"])
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: measure 'lost' of package gauge 1.2 is left out: ")
