"""Files beside a user's: only what is as it was written here is replaced or removed, after a kill too."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.export.export import export_pattern
from nas.export.folders import replace_folder
from nas.model.config import NetworkConfig
from nas.records import written
from nas.records.safe_files import write_atomic
from nas.records.template import check_replaceable
from nas.records.written import RECORD, write_files
from search_spaces.errors import ConflictError
from search_spaces.pattern import ConnectionPattern

PATTERN = ConnectionPattern(2, ((0,), (0, 1)))


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != RECORD}


def test_a_writers_own_files_are_replaced_and_removed_and_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    write_files(folder, {"a": "1", "b": b"1"}, "one")
    write_files(folder, {"c": "1", "b": b"1"}, "two")
    (folder / "d").write_text("mine")
    write_files(folder, {"a": "2"}, "one")
    assert held(folder) == {"a": "2", "b": "1", "c": "1", "d": "mine"}
    write_files(folder, {}, "one")
    assert held(folder) == {"b": "1", "c": "1", "d": "mine"}


def test_what_a_user_changed_is_kept(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": "1", "b": "1"}, "one")
    for name in "ab":
        (tmp_path / name).write_text("mine")
    (tmp_path / "a.kept").write_text("mine too")
    write_files(tmp_path, {"a": "2"}, "one")
    assert held(tmp_path) == {"a": "2", "a.kept": "mine too", "a.kept2": "mine", "b": "mine"}
    write_files(tmp_path, {"a": "3"}, "one")
    assert held(tmp_path) == {"a": "3", "a.kept": "mine too", "a.kept2": "mine", "b": "mine"}


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
@pytest.mark.parametrize("is_recorded", [True, False])
def test_what_was_not_written_here_is_in_the_way(kind: str, is_recorded: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    if is_recorded:
        write_files(folder, {"b": "1"}, "one")
    folder.mkdir(exist_ok=True)
    (tmp_path / "elsewhere").write_text("1")
    path = folder / "a"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("../elsewhere")
    names = sorted(folder.iterdir())
    with pytest.raises(ConflictError, match=str(path)):
        write_files(folder, {"a": "1", "b": "2"}, "one")
    assert sorted(folder.iterdir()) == names
    assert not is_recorded or (folder / "b").read_text() == "1"


def test_the_same_content_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    write_files(tmp_path, {"a": "1"}, "one")
    assert held(tmp_path) == {"a": "1"}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"schema": "skipsearch/files", "files": {"one": {"../mine": ["0"]}}}',
        '{"schema": "skipsearch/files", "files": {"one": {"..": ["0"]}}}',
        '{"schema": "another"}',
    ],
)
def test_a_record_that_is_not_ours_changes_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(ConflictError, match=RECORD):
        write_files(tmp_path, {"a": "1"}, "one")
    assert [path.read_text() for path in tmp_path.iterdir()] == [content]


def test_a_death_at_any_step_leaves_old_or_new_files_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaths() -> Iterator[int]:
        for n_steps in range(20):
            left = n_steps

            def die_later(path: Path, content: str | bytes) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                write_atomic(path, content)

            monkeypatch.setattr(written, "write_atomic", die_later)
            yield n_steps

    for n_steps in deaths():
        folder = tmp_path / str(n_steps)
        with monkeypatch.context() as patch:
            patch.setattr(written, "write_atomic", write_atomic)
            write_files(folder, {"a": "1", "b": "1", "c": "1"}, "one")
        (folder / "mine").write_text("mine")
        is_done = False
        try:
            write_files(folder, {"a": "2", "c": "2", "d": "2"}, "one")
            is_done = True
        except KeyboardInterrupt:
            assert set(held(folder).values()) <= {"1", "2", "mine"}
        with monkeypatch.context() as patch:
            patch.setattr(written, "write_atomic", write_atomic)
            write_files(folder, {"a": "3", "c": "3"}, "one")
        assert held(folder) == {"a": "3", "c": "3", "mine": "mine"}
        assert set(json.loads((folder / RECORD).read_text())["files"]["one"]) == {"a", "c"}
        if is_done:
            break
    assert is_done


@pytest.mark.parametrize("kind", ["file", "link that leads nowhere"])
@pytest.mark.parametrize("inside", ["", "new/folder"])
@pytest.mark.parametrize("writer", ["files", "folder", "template", "one template"])
def test_a_file_where_a_folder_is_needed_is_named_and_stays(
    kind: str, inside: str, writer: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to("nowhere")
    folder = place / inside
    with pytest.raises(ConflictError, match=str(place)):
        if writer == "files":
            write_files(folder, {"a": "1"}, "one")
        elif writer == "folder":
            with replace_folder(folder / "template", lambda _: []):
                pass
        elif writer == "template":
            export_pattern(PATTERN, NetworkConfig(layers=2), "log", {"name": None}, folder)
        else:
            check_replaceable(folder / "template.json")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert place.is_symlink() or place.read_text() == "mine"
