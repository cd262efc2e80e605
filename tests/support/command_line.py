"""The command line in this process, which need not load its libraries again."""

import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

import run_search


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run what `python run_search.py ARGUMENTS` runs, and return its exit code and what it prints."""
    words = [str(argument) for argument in arguments]
    code: object = 0
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            try:
                with patch.object(sys, "argv", ["run_search.py", *words]):
                    run_search.app(words)
            except Exception as error:
                run_search.fail(error)
        except SystemExit as end:
            code = end.code
    assert code is None or isinstance(code, int)
    return subprocess.CompletedProcess(words, code or 0, out.getvalue(), err.getvalue())
