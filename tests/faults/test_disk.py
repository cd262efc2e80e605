"""A full disk or a permission denied at any write: the path is named, nothing finished is lost, the run goes on."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas.export.folders import replace_folder
from tests.support.driving import HALVING, list_leftovers, load_results, search_undisturbed, start

KIB = 1024


@pytest.mark.slow
@pytest.mark.parametrize("stride", [101, 7])
def test_denied_any_of_its_writes_the_run_says_which_and_goes_on_later(tmp_path: Path, stride: int) -> None:
    results, n_steps = search_undisturbed()
    for point in range(2, n_steps, stride):
        run = tmp_path / f"denied at {point}"
        denied = start(run, HALVING, point, "deny")
        code = denied.wait()
        # What is swept aside at the end may stay where it is: the next start sweeps it again.
        assert code == 3 or (code, denied.acknowledged) == (0, results), run.name
        assert code == 0 or (denied.error is not None and str(run) in denied.error), denied.error
        resumed = start(run, HALVING)
        assert resumed.wait() == 0, run.name
        assert load_results(run) == results, run.name
        assert not denied.acknowledged.keys() & resumed.acknowledged.keys()
        assert not list_leftovers(run)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of half a MiB of its own."""
    folder = Path(tempfile.mkdtemp(prefix="skipsearch-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        folder.rmdir()
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607
    folder.rmdir()


def _fill(disk: Path, n_left: int) -> Path:
    """A file that leaves so many bytes."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    ballast.write_bytes(bytes(max(0, free - n_left)))
    return ballast


@pytest.mark.slow
@pytest.mark.parametrize(
    "n_left", [40 * KIB, pytest.param(200 * KIB, marks=pytest.mark.ci), *(n * 8 * KIB for n in range(40))]
)
def test_on_a_full_disk_it_ends_with_the_path_and_goes_on_when_there_is_room(small_disk: Path, n_left: int) -> None:
    results, _ = search_undisturbed()
    run = small_disk / "run"
    ballast = _fill(small_disk, n_left)
    stopped = start(run, HALVING)
    code = stopped.wait()
    if code == 0:  # there was room enough
        assert n_left >= 120 * KIB
    else:
        assert code == 3
        assert stopped.error is not None
        assert str(run) in stopped.error
    ballast.unlink()
    resumed = start(run, HALVING)
    assert resumed.wait() == 0
    assert load_results(run) == results
    assert not stopped.acknowledged.keys() & resumed.acknowledged.keys()
    assert not list_leftovers(run)


@pytest.mark.slow
@pytest.mark.parametrize(("n_left", "has_begun"), [(64 * KIB, False), (200 * KIB, True), (300 * KIB, True)])
def test_the_command_process_says_what_is_full_and_how_to_go_on(
    n_left: int,
    has_begun: bool,
    small_disk: Path,
    command_process: Callable[..., subprocess.CompletedProcess[str]],
    small_flags: list[str],
) -> None:
    run = small_disk / "run"
    ballast = _fill(small_disk, n_left)
    process = command_process("search", "--run", run, *small_flags)
    assert process.returncode == 3
    assert str(run) in process.stderr
    assert "Traceback" not in process.stderr
    # Before the settings are kept, --run by itself would start another run.
    assert (run / "config.toml").exists() == has_begun
    assert ("to continue: python run_search.py search --run" in process.stdout) == has_begun
    ballast.unlink()


def test_a_folder_that_does_not_fit_is_named_and_the_old_one_stays(small_disk: Path) -> None:
    folder = small_disk / "out"
    with replace_folder(folder, lambda _: []) as new:
        (new / "a.txt").write_text("old")
    with pytest.raises(OSError, match="No space left") as caught, replace_folder(folder, lambda _: []) as new:
        (new / "a.txt").write_bytes(bytes(1024 * KIB))
    assert caught.value.filename == str(folder)
    assert (folder / "a.txt").read_text() == "old"
    assert list(small_disk.iterdir()) == [folder]


@pytest.mark.slow
@pytest.mark.parametrize("n_left", [0, 100 * KIB])
def test_a_ray_that_has_no_room_is_told_with_its_folder(
    small_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command_process: Callable[..., subprocess.CompletedProcess[str]],
    small_flags: list[str],
    n_left: int,
) -> None:
    pytest.importorskip("ray")
    base = Path(tempfile.mkdtemp(prefix="rd-", dir="/tmp")) / "d"
    base.symlink_to(small_disk)
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    ballast = _fill(small_disk, n_left)
    process = command_process("search", "--run", tmp_path / "run", *small_flags, "--workers", 2)
    assert process.returncode == 3, process.stderr
    assert str(base) in process.stderr
    assert "Traceback" not in process.stderr
    assert "to continue: " in process.stdout
    assert [path for path in small_disk.iterdir() if path != ballast] == []
    shutil.rmtree(base.parent)
