"""A folder replaced as a whole: after an error, after a kill at any point, and with a user's own files in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from nas.folders import replace_folder
from search_spaces.errors import ConflictError

OURS = ("a", "b", "big")


def write(folder: Path, text: str, *names: str) -> None:
    with replace_folder(folder, OURS) as new:
        for name in names:
            (new / name).write_text(text)


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_new_files_take_the_place_of_the_old(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    write(folder, "old", "a", "b")
    assert held(folder) == {"a": "old", "b": "old"}
    (folder / "notes.txt").write_text("mine")
    (folder / "__pycache__").mkdir()
    write(folder, "new", "a")
    assert held(folder) == {"a": "new", "notes.txt": "mine"}
    assert list(folder.parent.iterdir()) == [folder]


def test_an_error_leaves_all_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for _ in range(2):
        with pytest.raises(RuntimeError), replace_folder(folder, OURS) as new:
            (new / "a").write_text("half")
            raise RuntimeError
        assert list(tmp_path.iterdir()) == []
    write(folder, "old", "a")
    with pytest.raises(KeyboardInterrupt), replace_folder(folder, OURS) as new:
        (new / "a").write_text("half")
        raise KeyboardInterrupt
    assert (list(tmp_path.iterdir()), held(folder)) == ([folder], {"a": "old"})


KILLED = """
import os, sys, shutil
from pathlib import Path
from nas.folders import replace_folder

left, rename = int(sys.argv[2]), Path.rename

def die(path, target):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return rename(path, target)

Path.rename = die
shutil.rmtree = lambda *_, **__: os._exit(9)
with replace_folder(Path(sys.argv[1]), ("a", "b")) as new:
    (new / "a").write_text("new")
"""


def kill_at(folder: Path, n_renames: int) -> None:
    """Replace the folder in a process that dies without a word after so many renames, or at its first removal."""
    command = [sys.executable, "-c", KILLED, str(folder), str(n_renames)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 9


@pytest.mark.parametrize(("n_renames", "expected"), [(0, "old"), (1, "old"), (2, "new"), (9, "new")])
def test_a_kill_leaves_the_old_or_the_new(n_renames: int, expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "old", "a", "b")
    (folder / "notes.txt").write_text("mine")
    kill_at(folder, n_renames)
    assert len(list(tmp_path.iterdir())) == 2  # something is left over
    write(tmp_path / "another", "x", "a")  # sweeps
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "folder"]
    assert held(folder)["a"] == expected
    assert held(folder)["notes.txt"] == "mine"
    assert ("b" in held(folder)) == (expected == "old")


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / f".other.{os.getppid()}.new"
    theirs.mkdir()
    strange = tmp_path / ".config.d.new"
    strange.mkdir()
    write(tmp_path / "folder", "new", "a")
    assert theirs.is_dir()
    assert strange.is_dir()


def test_a_file_or_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for name in ("file", "link"):
        with pytest.raises(ConflictError, match=f"{name} is a file or a link"):
            write(tmp_path / name, "new", "a")
    assert (tmp_path / "file").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3
