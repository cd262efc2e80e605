"""What comes from outside is shown harmless, commands can be copied, and outputs that are closed lose nothing."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.data.csv_files import format_table, read_table
from analysis.data.results import read_run
from analysis.page.document import Code, Paragraph, Table, format_markdown
from analysis.report.report import write_report
from nas.records.shown import FORMULA, defuse, quote, restore, show
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from search_spaces.errors import InputError
from tests.support.small import ROOT, CommandLine
from tests.support.synthetic_run import make_run, propose

HOSTILE = "a b'c\"$(x)\\\n\x1b[31m\x07\u202e\x85?#%25"
LATIN = os.fsdecode(b"u\xffv w")
NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=20)
RUN_SEARCH = [sys.executable, str(ROOT / "run_search.py")]


def run_shell(command: str, **named: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["/bin/bash", "-c", command], cwd=ROOT, capture_output=True, check=False, timeout=120, env=os.environ | named
    )


@given(NAMES | st.just(LATIN) | st.just(HOSTILE))
def test_what_is_shown_is_one_line_that_no_terminal_acts_on(name: str) -> None:
    assert show(name).isprintable()
    assert show(name) == name or not name.isprintable()
    assert quote(name).isprintable()


def test_bash_reads_a_quoted_word_as_it_was() -> None:
    words = [HOSTILE, LATIN, "it's", "plain", "", "-x", "~", "é", "日本", "a\\\x01f", "\x7f1", *map(chr, range(1, 300))]
    done = run_shell(f"printf '%s\\0' {' '.join(map(quote, words))}", LC_ALL="C.UTF-8")
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


@given(st.text(max_size=5) | st.text(["'", *FORMULA, "a"], max_size=5))
def test_a_defused_cell_is_no_formula_and_is_restored(cell: str) -> None:
    assert not defuse(cell).startswith(FORMULA)
    assert restore(defuse(cell)) == cell


def test_the_reports_table_holds_no_formula_and_is_read_back_equal(tmp_path: Path) -> None:
    reasons = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "'quoted'", "plain"]
    scores: dict[int, str] = dict(enumerate(reasons))
    run = make_run(tmp_path / "run", propose(9), lambda p, _s: scores.get(p, 0.5), seeds=(0,))
    write_report(run)
    raw = pd.read_csv(run / "report" / "candidates.csv", dtype="string", keep_default_na=False)
    for name in ("error", "template", "strategy", "sources"):
        assert not raw[name].str.startswith(FORMULA).any()
    assert set(reasons) <= set(read_run(run).candidates["error"])
    pd.testing.assert_frame_equal(read_table(run / "report" / "candidates.csv"), read_run(run).candidates)
    assert format_table(pd.DataFrame({"a": [-1.5, 2], "b": ["-1.5", "x"]})) == "a,b\n-1.5,'-1.5\n2.0,x\n"


def test_a_report_shows_control_characters_as_escapes() -> None:
    text = format_markdown([Paragraph(HOSTILE), Table((HOSTILE,), ((HOSTILE,),)), Code(f"one\n{quote(HOSTILE)}\x1b")])
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("flag", ["run", "data", "pattern"])
def test_a_name_that_is_not_utf8_cannot_be_stored(flag: str, tmp_path: Path) -> None:
    path = tmp_path / LATIN
    given: dict[str, Any] = {"data": str(path), "pattern": (str(path),)}
    flags = {flag: given[flag]} if flag in given else {}
    with pytest.raises(InputError, match=f"--{flag}"):
        settle_config(path if flag == "run" else tmp_path / "run", None, flags, SearchConfig)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(HOSTILE.replace("?", ""), id="hostile"),
        pytest.param(LATIN, id="latin", marks=[pytest.mark.slow, pytest.mark.ci]),
    ],
)
def test_commands_to_go_on_can_be_copied(name: str, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / name)
    flags = ["optimize", "--layers", "4", "--seconds", "1", "--to", os.fsdecode(folder + b"/a b.json")]
    done = subprocess.run([*RUN_SEARCH, *flags], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert all(line.isprintable() for line in text.split("\n"))
    following = text.partition("next: python run_search.py ")[2].strip()
    again = run_shell(f"{' '.join(map(quote, RUN_SEARCH))} {following}", LC_ALL="C.UTF-8")
    assert (again.returncode, again.stderr) == (0, b"")
    assert b"every claim holds" in again.stdout


def test_errors_show_names_escaped_in_one_line(command_line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / HOSTILE
    for arguments in (("verify", path), ("report", "--run", path), ("score", "--template", HOSTILE)):
        done = command_line(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.isprintable()
        assert "\\x1b[31m" in line


# --- outputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "outputs"),
    [
        ("networks", ">&-"),
        pytest.param("score --layers 24 --json", ">&- 2>&- <&-", marks=pytest.mark.slow),
        pytest.param("networks", "| true", marks=[pytest.mark.slow, pytest.mark.ci]),
        ("score --layers 24 --json", "| head -c 1"),
        pytest.param("score --layers 24", "2>&1 | true", marks=pytest.mark.slow),
    ],
)
def test_a_reader_that_goes_is_no_error(command: str, outputs: str) -> None:
    words = f"{' '.join(map(quote, RUN_SEARCH))} {command}"
    done = run_shell(f"exec 9>&1; {{ {words}; echo status $? >&9; }} {outputs}")
    assert b"status 0\n" in done.stdout
    assert done.stderr == b""


def test_a_full_disk_behind_standard_output_is_named() -> None:
    done = run_shell(f"{' '.join(map(quote, RUN_SEARCH))} score --layers 24 > /dev/full")
    assert done.returncode == 3
    assert b"standard output" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [">&- 2>&-", "| head -c 1 > /dev/null"])
def test_a_run_whose_outputs_are_closed_loses_nothing(outputs: str, small_flags: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = " ".join(map(quote, [*RUN_SEARCH, "search", "--run", run, *small_flags, "--no-templates", "--seeds", "1"]))
    done = run_shell(f"exec 9>&1; {{ {words}; echo status $? >&9; }} {outputs}")
    assert (done.stdout, done.stderr) == (b"status 0\n", b"")
    assert len(read_run(run).candidates) == 2
    assert (run / "report" / "index.html").exists()
    assert (run / "study.db").read_bytes().startswith(b"SQLite format 3\0")
