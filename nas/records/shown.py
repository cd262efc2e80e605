"""Text from outside made harmless: what a terminal, a shell or a spreadsheet would act on is escaped."""

import io
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a cell begins that a spreadsheet takes for a formula


def show(text: object) -> str:
    r"""Return text in one line, with control characters, direction marks and bytes that are no UTF-8 escaped.

    >>> show("a\x1b[31m\nb\udcff é")
    'a\\x1b[31m\\nb\\xff é'
    """
    return "".join(character if character.isprintable() else _escape(character) for character in str(text))


def show_lines(text: str) -> str:
    """Return text of several lines, each escaped as by `show`."""
    return "\n".join(map(show, text.split("\n")))


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a file name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def quote(text: object) -> str:
    r"""Return a word as bash and zsh read it, in one line that can be copied.

    >>> quote("it's"), quote("a b"), quote("a\x1b\udcff")
    ('\'it\'"\'"\'s\'', "'a b'", "$'a\\x1b\\xff'")
    """
    word = str(text)
    if word.isprintable():
        return shlex.quote(word)
    parts = (
        re.sub(r"(['\\])", r"\\\1", character)
        if character.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
        for character in word
    )
    return f"$'{''.join(parts)}'"


def name_program() -> str:
    """Return what a user types to start this program, as it was started; from Python, the installed command."""
    started = Path(sys.argv[0] if sys.argv else "")
    if started.name == "run_search.py":
        return "python run_search.py"
    is_module = started.name == "__main__.py" and started.parent.name == "skipsearch"
    return "python -m skipsearch" if is_module else "skipsearch"


def describe_seeding(table: Mapping[str, Any]) -> str:
    """Say what a search's model learned from before the run, given the attribute `table` of its study.

    >>> describe_seeding({"name": "a.csv", "sha256": "7bd9bcfc1c26e", "trainings": 4, "patterns": 2}).split(":")[0]
    'The model was seeded with 4 earlier trainings of 2 patterns from a.csv (sha256 7bd9bcfc1c26)'
    """
    said = (
        f"The model was seeded with {table.get('trainings')} earlier trainings of {table.get('patterns')} patterns "
        f"from {show(table.get('name'))} (sha256 {table.get('sha256')!s:.12}): none of them is a training of this "
        "run, and no figure here includes them"
    )
    if table.get("setting"):
        said += f"; {show(table['setting'])}"
    left_out = {"of another depth or budget": table.get("other"), "without the outcome": table.get("unusable")}
    parts = [f"{count} {what}" for what, count in left_out.items() if count]
    return f"{said}. Left out: {' and '.join(parts)}." if parts else f"{said}."


def defuse(cell: str) -> str:
    """Return a text cell of a CSV that no spreadsheet takes for a formula; `restore` undoes it.

    >>> defuse("=1+1"), defuse("'=1"), defuse("log")
    ("'=1+1", "''=1", 'log')
    """
    return f"'{cell}" if cell.lstrip("'").startswith(FORMULA) else cell


def restore(cell: str) -> str:
    """Return the text that `defuse` changed.

    >>> [restore(defuse(cell)) for cell in ("=1+1", "'=1", "'quoted'", "log")]
    ['=1+1', "'=1", "'quoted'", 'log']
    """
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


class _Output(io.TextIOWrapper):
    """Standard output or standard error that drops what is written after its reader has gone.

    Attributes:
        error: why it cannot be written for another reason, as on a full disk; None where it can.
    """

    error: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._let_go(error)

    def _let_go(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            self.error = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # libraries and other processes write to the same number
        os.close(nowhere)


def guard_outputs() -> None:
    """Make standard output and standard error work when they are closed, broken or of a small encoding.

    Closed descriptors 0 to 2 are opened first: the next file, a run's database, would otherwise get one of them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the smallest number that is free
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, io.TextIOWrapper):
            continue  # somebody's own, not the interpreter's
        encoding = "utf-8" if stream is None else stream.encoding
        how = (False, False) if stream is None else (stream.line_buffering, stream.write_through)
        raw = io.BufferedWriter(io.FileIO(number, "wb", closefd=False))
        guarded = _Output(raw, encoding, "backslashreplace", None, *how)
        setattr(sys, name, guarded)
        setattr(sys, f"__{name}__", guarded)


def find_output_error() -> OSError | None:
    """Return why standard output could not be written, unless its reader has gone."""
    sys.stdout.flush()
    return getattr(sys.stdout, "error", None)
