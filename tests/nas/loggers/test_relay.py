"""A logger that fails or hangs ends nothing, and what it was not shown it is shown by the next process."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nas.loggers.logger import Logger
from nas.loggers.relay import Relay, mutable_outputs
from tests.support import logged
from tests.support.logged import (
    SETTINGS,
    TRIALS,
    EndlessLogger,
    FailingLogger,
    HangingLogger,
    NotingLogger,
    PrintingLogger,
    make_trial,
    read_noted,
    wait_until,
)
from tests.support.small import ROOT

SHORT = 0.2  # seconds of patience


@pytest.fixture(autouse=True)
def _release(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("nas.loggers.relay.SOON", 0.05)
    logged.RELEASE.clear()
    yield
    logged.RELEASE.set()


def follow(
    run: Path, make: Callable[[], Logger], report: list[Path], patience: float = 60.0
) -> tuple[Relay, list[str]]:
    said: list[str] = []
    relay = Relay("noting", make, run, said.append, patience)
    relay.start(SETTINGS)
    for trial in TRIALS:
        relay.take(trial)
    relay.end(report)
    return relay, said


def test_a_logger_is_shown_all_in_order(tmp_path: Path) -> None:
    _, said = follow(tmp_path, NotingLogger, [tmp_path / "report.md"])
    shown = ["finish 0 complete", "finish 1 failed", "finish 2 pruned"]
    assert read_noted(tmp_path) == ["start 6", *shown, f"end {tmp_path.name} 1"]
    assert said == []


def test_the_logger_of_the_page_is_one(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "howto" / "trackers.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  our own page
    assert follow(tmp_path, names["Lines"], [])[1] == []
    lines = (tmp_path / "lines.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0000", "0001", "0002"]


def test_what_was_shown_is_not_shown_again_unless_its_state_changed(tmp_path: Path) -> None:
    follow(tmp_path, NotingLogger, [])
    (tmp_path / "noted.txt").unlink()
    relay = Relay("noting", NotingLogger, tmp_path, lambda _: None)
    relay.start(SETTINGS)
    for trial in (*TRIALS, make_trial(1, "nearest_4"), make_trial(3)):
        relay.take(trial)
    relay.end([])
    assert read_noted(tmp_path)[1:-1] == ["finish 1 complete", "finish 3 complete"]


def test_a_line_that_a_kill_cut_short_is_not_taken_for_another_training(tmp_path: Path) -> None:
    follow(tmp_path, NotingLogger, [])
    file = tmp_path / "trackers" / "noting.txt"
    file.write_text(file.read_text().removesuffix("pruned\n"))
    (tmp_path / "noted.txt").unlink()
    follow(tmp_path, NotingLogger, [])
    assert read_noted(tmp_path)[1:-1] == ["finish 2 pruned"]
    assert file.read_text() == "0 complete\n1 failed\n2 pruned\n"


def test_an_exception_is_reported_once_and_drops_the_logger(tmp_path: Path) -> None:
    relay, said = follow(tmp_path, FailingLogger, [tmp_path / "report.md"])
    relay.take(make_trial(3))
    relay.end([])
    assert len(said) == 1
    assert "noting failed: ConnectionError: the server has gone" in said[0]
    assert read_noted(tmp_path) == ["start 6", "finish 0 complete"]
    (tmp_path / "noted.txt").unlink()
    follow(tmp_path, NotingLogger, [])  # the next command
    assert read_noted(tmp_path)[1:-1] == ["finish 1 failed", "finish 2 pruned"]


def test_one_that_cannot_even_be_made_is_dropped(tmp_path: Path) -> None:
    def make() -> Logger:
        raise SystemExit(3)

    _, said = follow(tmp_path, make, [])
    assert ["SystemExit" in sentence for sentence in said] == [True]


@pytest.mark.parametrize("make", [HangingLogger, EndlessLogger])
def test_a_logger_that_hangs_is_dropped_when_patience_ends(tmp_path: Path, make: Callable[[], Logger]) -> None:
    relay, said = follow(tmp_path, make, [tmp_path / "report.md"], SHORT)
    assert ["has not answered for 0.2 seconds" in sentence for sentence in said] == [False, True]
    relay.take(make_trial(3))
    logged.RELEASE.set()
    relay._thread.join()
    assert "finish 3 complete" not in read_noted(tmp_path)  # it woke up, and was shown nothing more
    if make is HangingLogger:
        assert (tmp_path / "trackers" / "noting.txt").read_text() == "0 complete\n"


def test_an_interrupted_run_waits_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.loggers.relay.GRACE", 0.1)
    _, said = follow(tmp_path, HangingLogger, [])
    assert said[0] == "waiting for noting"
    assert "has not finished in 0.1 seconds" in said[1]


def test_a_training_never_waits(tmp_path: Path) -> None:
    said: list[str] = []
    relay = Relay("noting", EndlessLogger, tmp_path, said.append, SHORT)
    relay.start(SETTINGS)
    wait_until(lambda: (tmp_path / "noted.txt").exists())
    while not said:  # each returns at once, and one of them sees the hang
        relay.take(TRIALS[0])
    n_left = relay._calls.qsize()
    relay.take(TRIALS[1])
    assert relay._calls.qsize() == n_left  # so what is kept does not grow


def test_what_a_logger_prints_stays_off_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mutable_outputs():
        follow(tmp_path, PrintingLogger, [])
        print("ours")  # noqa: T201
    assert capsys.readouterr().out == "ours\n"
    assert len(read_noted(tmp_path)) == 5
