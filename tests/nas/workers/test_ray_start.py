"""A Ray is started once, for the outermost block, and early only where a new run will need it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import search_spaces
from nas.settings.search import SearchConfig
from nas.workers.stop import StopFlag
from search_spaces.errors import Interrupted

ray_start = pytest.importorskip("nas.workers.ray_start")
CONFIG = SearchConfig(device="cpu", workers=3)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What happens to Ray, which is not really started."""
    happened: list[str] = []

    def start(config: SearchConfig, n_workers: int) -> int:  # noqa: ARG001
        happened.append(f"start {n_workers}")
        return n_workers

    monkeypatch.setattr(ray_start, "start_ray", start)
    monkeypatch.setattr(ray_start.ray, "shutdown", lambda: happened.append("end"))
    yield happened
    assert not ray_start._held


def test_a_block_inside_uses_the_ray_of_the_one_around_it(events: list[str], tmp_path: Path) -> None:
    with ray_start.running_ray(CONFIG, tmp_path, 3, StopFlag()) as outer:
        assert len(list(tmp_path.glob(".ss-*.ray"))) == 1  # the note by which a killed driver's Ray is found
        for asked, expected in ((2, 2), (3, 3), (8, 3)):
            with ray_start.running_ray(CONFIG, tmp_path, asked, StopFlag()) as inner:
                assert inner == expected
        events.append("inner ended")
    assert outer == 3
    assert events == ["start 3", "inner ended", "end"]
    assert not list(tmp_path.iterdir())


def test_an_error_inside_ends_ray_and_the_next_block_starts_another(events: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), ray_start.running_ray(CONFIG, None, 2, StopFlag()):
            raise KeyError
    assert events == ["start 2", "end"] * 2


def test_modules_are_loaded_and_ray_is_started_for_a_new_run(events: list[str], tmp_path: Path) -> None:
    with ray_start.start_while_loading(tmp_path, CONFIG, ["colorsys"]):
        assert events == ["start 3"]
        assert "colorsys" in sys.modules
    assert events == ["start 3", "end"]


def test_ray_is_started_early_where_data_and_patterns_are_there(events: list[str], tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    data.touch()
    config = SearchConfig(device="cpu", workers=3, dataset="npz", data=str(data), pattern=("evenly",))
    with ray_start.start_while_loading(tmp_path, config, []):
        assert events == ["start 3"]


@pytest.mark.usefixtures("events")
def test_workers_that_ray_starts_load_this_version_where_another_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def find() -> str:
        program = [sys.executable, "-c", "import search_spaces; print(search_spaces.__file__)"]
        return subprocess.run(program, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.strip()

    with ray_start.running_ray(CONFIG, None, 3, StopFlag()):
        # -c puts the folder of the call first, as a worker's program its own: leave it out
        monkeypatch.setenv("PYTHONSAFEPATH", "1")
        assert find() == search_spaces.__file__
    assert find() == str(tmp_path / "search_spaces" / "__init__.py")


@pytest.mark.parametrize("reason", ["one worker", "a cluster", "all that fit", "begun before", "no data", "no pattern"])
def test_ray_is_not_started_early_where_it_may_not_be_needed(events: list[str], tmp_path: Path, reason: str) -> None:
    config = {
        "one worker": SearchConfig(device="cpu", workers=1),
        "a cluster": SearchConfig(device="cpu", workers=3, ray_address="10.0.0.1:6379"),
        "all that fit": SearchConfig(device="cpu", workers="auto"),
        "begun before": CONFIG,
        "no data": SearchConfig(device="cpu", workers=3, dataset="npz", data=str(tmp_path / "none.npz")),
        "no pattern": SearchConfig(device="cpu", workers=3, pattern=("evenly", str(tmp_path / "none.json"))),
    }[reason]
    if reason == "begun before":
        (tmp_path / "study.db").touch()
    with ray_start.start_while_loading(tmp_path, config, []):
        assert events == []


def test_handlers_of_before_come_back_and_a_signal_while_ray_starts_is_told(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def start(*_: object) -> int:
        signal.signal(signal.SIGTERM, lambda *_: None)  # as ray.init does
        return 2

    monkeypatch.setattr(ray_start, "start_ray", start)
    with ray_start.running_ray(CONFIG, None, 2, StopFlag()):
        assert signal.getsignal(signal.SIGTERM) == before

    def be_killed(*_: object) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 2

    monkeypatch.setattr(ray_start, "start_ray", be_killed)
    with pytest.raises(Interrupted), ray_start.running_ray(CONFIG, None, 2, StopFlag()):
        pytest.fail("the block has no Ray")
    signal.signal(signal.SIGTERM, before)
    assert events == ["end", "end"]
