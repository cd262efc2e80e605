"""What commands print: tables that fit, and nothing cut."""

import io
import math
import os
import re
import textwrap
from collections.abc import Sequence

import pytest
from rich.console import Console

from commands.terminal import GAP, LABEL, can_redraw, fit_parts, make_console, make_progress, print_next, print_table
from tests.support.small import CommandLine

HEADINGS = ["name", "first", "of two words", "what it is", *(f"n{number}" for number in range(9))]
WORDS = "a sentence of several words that is longer than any line has room for if other columns are to be read too"
ROWS = [[f"row{row}", "1.5", "12345678", WORDS, *(f"{row}{number:05}" for number in range(9))] for row in range(2)]
LONG = "template_of_a_long_name_" * 3


def _print(
    rows: Sequence[Sequence[str]], capsys: pytest.CaptureFixture[str], width: int | None, *, wide: bool = False
) -> list[str]:
    """The lines of a table as a terminal of this width shows them; None: in a pipe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width)) if width else patch.delenv("COLUMNS", raising=False)
        print_table(make_console(wide=wide), "a title", HEADINGS, rows, left=["what it is"])
    return capsys.readouterr().out.splitlines()


def _count_fitting(width: int) -> int:
    """How many columns a line has room for: the least width of each, worked out by hand."""
    least = [4, 5, 8, LABEL, *[6] * 9]
    fits = [n for n in range(2, len(least) + 1) if sum(least[:n]) + GAP * (n - 1) <= width]
    return max(fits, default=2)


@pytest.mark.parametrize("width", [20, 40, 50, 60, 80, 100, 120, 160])
def test_a_table_leaves_out_its_last_columns_and_says_which(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    title, heading, *lines, note = _print(ROWS, capsys, width)
    n_shown = _count_fitting(width)
    assert title == "a title"
    if n_shown == len(HEADINGS):
        lines.append(note)
    else:
        assert note == f"not shown: {', '.join(HEADINGS[n_shown:])}; --wide shows all columns"
    assert max(map(len, [heading, *lines])) <= max(width, 11)
    text = "\n".join(lines)
    for row in ROWS:
        assert all(cell in text for cell in (row[0], *row[4:n_shown]))
    assert n_shown < 4 or all(word in text for word in WORDS.split())
    assert "…" not in text


@pytest.mark.parametrize(("width", "wide"), [(None, False), (80, True), (40, True)])
def test_wide_and_a_pipe_show_every_column_in_one_line_a_row(
    width: int | None, wide: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _print(ROWS, capsys, width, wide=wide)
    assert len(lines) == 3 + len(ROWS)
    assert [re.split(r" {2,}", line.strip()) for line in lines[3:]] == ROWS


def test_a_long_name_is_wrapped_and_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[LONG, "1.5", "2"]]
    text = "\n".join(_print(rows, capsys, 40))
    below = text[text.rindex("─") + 1 : text.index("not shown")].split()
    assert below[1] == "1.5"
    assert "".join(word for word in below if word not in rows[0]) == LONG


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=str)
def test_a_pipe_gets_no_control_codes(
    variable: dict[str, str], command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    done = command_line("score", "--layers", 3, "--template", "log")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", ["score", "networks"])
def test_commands_fit_a_terminal(command: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    narrow, wide = command_line(command), command_line(command, "--wide")
    table = [line for line in narrow.stdout.splitlines() if not line.startswith(("next", "not shown", "["))]
    assert max(map(len, table)) <= 80
    (said,) = re.findall(r"not shown: (.*); --wide", narrow.stdout)
    assert all(name in wide.stdout for name in said.split(", "))
    assert "not shown" not in wide.stdout
    assert os.environ["COLUMNS"] == "80"


LAST = "shortest_walk seed 2: loss 0.4321, accuracy 0.9123"


@pytest.mark.parametrize(("width", "text"), [(40, ""), (60, ""), (80, LAST), (120, LAST)])
@pytest.mark.parametrize(("n_done", "total"), [(12, 60), (1234, 1800)])
def test_progress_keeps_bar_count_rate_and_time_left(width: int, text: str, n_done: int, total: int) -> None:
    clock = [0.0]
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    bar = make_progress(console, is_kept=True)
    bar.get_time = lambda: clock[0]
    task = bar.add_task("starting", total=None)
    bar.reset(task, total=total, completed=0, description="training")
    for share in (0, 1, 2):
        clock[0] += 60
        bar.update(task, completed=n_done * share // 2, description=LAST)
    console.print(bar.get_renderable())
    assert isinstance(console.file, io.StringIO)
    (line,) = console.file.getvalue().splitlines()
    assert len(line) <= width
    drawn, count, rate, left, *rest = line.split()
    per_second = n_done / 120
    minutes, seconds = divmod(math.ceil((total - n_done) / per_second), 60)
    assert set(drawn) <= set("━╸╺") and drawn
    assert count == f"{n_done}/{total}"
    assert rate == f"{3600 * per_second:,.0f}/h"
    assert left == f"0:{minutes:02}:{seconds:02}"
    expected = text if total == 60 or width > 80 else text.partition(",")[0]
    assert " ".join(rest) == expected


def test_a_text_is_dropped_by_parts() -> None:
    assert fit_parts(LAST, len(LAST)) == LAST
    assert fit_parts(LAST, len(LAST) - 1) == "shortest_walk seed 2: loss 0.4321"
    assert fit_parts(LAST, 3) == ""


def test_lines_break_between_words_and_commands_and_paths_nowhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/a/path/{'x' * 60}"
    sentence = f"what a search found is written to {path}: and to other places too"
    for is_terminal in (True, False):
        monkeypatch.setenv("TTY_COMPATIBLE", "1" if is_terminal else "0")
        monkeypatch.setenv("COLUMNS", "40")
        console = make_console()
        assert console.is_terminal == is_terminal
        console.print(sentence)
        print_next(console, "report", "--run", path)
        *said, command = capsys.readouterr().out.splitlines()
        assert command.endswith(f"report --run {path}")
        assert said == ([*textwrap.wrap(sentence, 40, break_long_words=False)] if is_terminal else [sentence])
        assert len(said) > 1 or not is_terminal


@pytest.mark.parametrize(
    ("term", "no_color", "redraws"),
    [("xterm-256color", None, True), ("xterm-256color", "1", True), ("dumb", "1", False)],
)
def test_a_dumb_terminal_gets_lines_and_no_color_means_none(
    term: str, no_color: str | None, redraws: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color) if no_color else monkeypatch.delenv("NO_COLOR", raising=False)
    console = make_console()
    assert console.is_terminal and can_redraw(console) == redraws
    with make_progress(console, is_kept=True) as bar:
        bar.add_task("training", total=4, completed=2)
        bar.refresh()
    shown = capsys.readouterr().out
    assert ("2/4" in shown) == redraws
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", shown)) == (redraws and no_color is None)
