"""A folder replaced as a whole: after an error, after a kill at any point, and with a user's own files in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.export.folders import REPLACING_MARK, replace_folder
from search_spaces.errors import ConflictError
from tests.support.small import ROOT

OURS = ("a", "b", "big")


def find_ours(folder: Path) -> list[str]:
    return [name for name in OURS if (folder / name).exists() and (folder / name).read_text() != "changed"]


def write(folder: Path, text: str, *names: str) -> None:
    with replace_folder(folder, find_ours) as new:
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


def test_what_a_user_changed_is_kept_under_another_name(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "old", "a", "b")
    (folder / "a").write_text("changed")
    (folder / "b").write_text("changed")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "mine.txt").write_text("mine")
    for number in ("", "2"):
        write(folder, "new", "a")
        kept = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        assert kept == {"a": "new", "a.kept": "changed", "b": "changed"} | ({"a.kept2": "changed"} if number else {})
        assert (folder / "__pycache__" / "mine.txt").read_text() == "mine"
        (folder / "a").write_text("changed")
    assert list(tmp_path.iterdir()) == [folder]


def test_an_error_leaves_all_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for _ in range(2):
        with pytest.raises(RuntimeError), replace_folder(folder, find_ours) as new:
            (new / "a").write_text("half")
            raise RuntimeError
        assert list(tmp_path.iterdir()) == []
    write(folder, "old", "a")
    with pytest.raises(KeyboardInterrupt), replace_folder(folder, find_ours) as new:
        (new / "a").write_text("half")
        raise KeyboardInterrupt
    assert (list(tmp_path.iterdir()), held(folder)) == ([folder], {"a": "old"})


KILLED = """
import os, sys
from pathlib import Path
from nas.export.folders import replace_folder

left = 0

def deadly(call):
    def die(path, *arguments, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(path, *arguments, **named)
    return die

Path.rename, Path.unlink, Path.rmdir = map(deadly, (Path.rename, Path.unlink, Path.rmdir))
for number, folder in enumerate(sys.argv[1:]):
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue
    left = number
    with replace_folder(Path(folder), lambda held: [name for name in ("a", "b") if (held / name).exists()]) as new:
        (new / "a").write_text("new")
    os._exit(0)
"""


def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    folders = [tmp_path / str(n_steps) / "folder" for n_steps in range(12)]
    for folder in folders:
        write(folder, "old", "a", "b")
        (folder / "notes.txt").write_text("mine")
    command = [sys.executable, "-c", KILLED, *map(str, folders)]  # each dies one rename or removal later
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    statuses = [int(line) for line in done.stdout.split()]
    assert set(statuses) == {0, 9}
    assert statuses == sorted(statuses, reverse=True)
    for n_steps, folder in enumerate(folders):
        write(folder.parent / "another", "x", "a")  # sweeps
        assert sorted(path.name for path in folder.parent.iterdir()) == ["another", "folder"]
        text = "old" if n_steps < 2 else "new"  # the second rename puts the new one into its place
        assert held(folder) == {"a": text, "notes.txt": "mine"} | ({"b": "old"} if text == "old" else {})


def test_hidden_folders_of_a_user_are_left_alone_whatever_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "old", "a")
    names = [".photos.2999998.new", ".folder.2999998.new", ".folder.2999998.old", ".folder.2999998-0.old"]
    names += [f".folder.{os.getpid()}-0.new", f".folder.{os.getpid()}-0.old", ".gone.2999998.old"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("mine")
    mark = '{"folder": "folder", "old": ".folder.2999998-0.old", "pid": 2999998}'
    (tmp_path / names[0] / REPLACING_MARK).write_text(mark)
    write(folder, "new", "a")
    assert held(folder) == {"a": "new"}
    assert {path.name for path in tmp_path.iterdir()} == {"folder", *names}
    assert all((tmp_path / name / "a").read_text() == "mine" for name in names)


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / f".other.{os.getppid()}-0.new"
    theirs.mkdir()
    mark = {"folder": "other", "old": f".other.{os.getppid()}-0.old", "pid": os.getppid()}
    (theirs / REPLACING_MARK).write_text(json.dumps(mark))
    write(tmp_path / "folder", "new", "a")
    assert theirs.is_dir()
    (theirs / REPLACING_MARK).write_text(json.dumps(mark).replace(str(os.getppid()), "2999998"))
    theirs.rename(tmp_path / ".other.2999998-0.new")
    write(tmp_path / "folder", "new", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_or_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for name in ("file", "link"):
        with pytest.raises(ConflictError, match=f"{name} is a file or a link"):
            write(tmp_path / name, "new", "a")
    assert (tmp_path / "file").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3
