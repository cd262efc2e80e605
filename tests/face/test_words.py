"""Errors speak of arguments, and of functions where the face has them."""

import signal

import pytest

from search_spaces.errors import InputError, Interrupted
from skipsearch.shadows import OURS
from skipsearch.words import COMMANDS, in_python, word_for_python
from tests.support.small import ROOT


def test_commands_are_those_that_there_are() -> None:
    from run_search import app

    assert sorted(COMMANDS) == sorted(str(command.name) for command in app.registered_commands)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("give a smaller --growth, --batch-size or --layers", "give a smaller growth, batch_size or layers"),
        ("  - batch-size: expected a whole number", "  - batch_size: expected a whole number"),
        ("did you mean train-examples?", "did you mean train_examples?"),
        ("in runs/batch-size/a", "in runs/batch-size/a"),
        ("with --no-templates leaves nothing", "with templates=False leaves nothing"),
        ("Give another --run, or drop these flags", "Give another run, or drop these arguments"),
        ("use `python run_search.py study --run 'a b'`", 'use `skipsearch.study(run="a b")`'),
        ("`score --measures all` lists them", "`skipsearch score --measures all` lists them"),
        ("`networks` lists them", "`skipsearch networks` lists them"),
        ("not a `thing`", "not a `thing`"),
    ],
)
def test_flags_are_arguments(text: str, expected: str) -> None:
    assert word_for_python(text) == expected
    assert word_for_python(expected) == expected


def test_an_error_keeps_its_class() -> None:
    with pytest.raises(InputError, match=r"^give a run$"), in_python():
        raise InputError("give a --run")


def test_an_interruption_is_pythons_own() -> None:
    with pytest.raises(KeyboardInterrupt), in_python():
        raise Interrupted(signal.SIGINT)
    with pytest.raises(SystemExit) as end, in_python():
        raise Interrupted(signal.SIGTERM)
    assert end.value.code == 128 + signal.SIGTERM


def test_a_hint_to_install_needs_no_clone() -> None:
    folders = [ROOT / name for name in ("skipsearch", *OURS)]
    files = [ROOT / "run_search.py", *(file for folder in folders for file in folder.rglob("*.py"))]
    assert len(files) > 100
    assert [file for file in files if "pip install -e" in file.read_text(encoding="utf-8")] == []
