"""Errors in Python's words: the same sentences, with arguments where the command line has flags."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from search_spaces.errors import ConflictError, InputError, Interrupted, MachineError, NothingUsableError

FUNCTIONS = ("search", "study")  # that continue a run, as the commands of these names do
COMMANDS = (
    *("search", "study", "compare-networks", "status", "report", "export", "verify", "score", "recommend"),
    *(
        "optimize",
        "sample",
        "networks",
        "strengths",
        "pattern-from-strengths",
        "correlate",
        "compare-strategies",
        "bench",
        "plugins",
    ),
)


@contextmanager
def in_python() -> Iterator[None]:
    """Raise what the block raises as a Python program expects it: arguments for flags, KeyboardInterrupt for Ctrl-C."""
    try:
        yield
    except (InputError, MachineError, ConflictError, NothingUsableError) as error:
        error.args = (word_for_python(str(error)),)
        raise
    except Interrupted as reason:
        if reason.exit_code == 128 + signal.SIGTERM:
            raise SystemExit(reason.exit_code) from None
        raise KeyboardInterrupt("what is finished is kept; the same call continues the run") from None


def word_for_python(text: str) -> str:
    """Return a message of the command line with arguments in place of flags, and calls in place of commands.

    >>> word_for_python("give a smaller --batch-size, or --no-templates")
    'give a smaller batch_size, or templates=False'
    >>> word_for_python("make a run there by `skipsearch search --run runs/a`")
    'make a run there by `skipsearch.search(run="runs/a")`'
    """
    parts = text.split("`")
    parts[::2] = map(_word_flags, parts[::2])
    parts[1::2] = map(_word_command, parts[1::2])
    return "`".join(parts)


def _word_flags(text: str) -> str:
    text = re.sub(r"(?<!\w)--no-([a-z][a-z-]*)", lambda found: f"{found[1].replace('-', '_')}=False", text)
    text = re.sub(r"(?<!\w)--([a-z][a-z0-9-]*)", lambda found: found[1].replace("-", "_"), text)
    text = re.sub(r"\b(these|this|other|the|such) flag(s?)\b", r"\1 argument\2", text)
    return _list_dashed().sub(lambda found: found[0].replace("-", "_"), text)


@cache
def _list_dashed() -> re.Pattern[str]:
    """Return a pattern of the settings whose names have dashes on the command line."""
    from nas.model.config import NetworkConfig
    from nas.settings.study import StudyConfig

    fields = {*NetworkConfig.model_fields, *StudyConfig.model_fields}
    names = sorted((name.replace("_", "-") for name in fields if "_" in name), key=len, reverse=True)
    return re.compile(rf"(?<![\w/-])(?:{'|'.join(names)})(?![\w/-])")


def _word_command(code: str) -> str:
    words = re.sub(r"^(?:python run_search\.py|python -m skipsearch|skipsearch) ", "", code)
    name, _, rest = words.partition(" ")
    if name in FUNCTIONS and rest.startswith("--run "):
        path = rest.removeprefix("--run ").strip("'")
        return f'skipsearch.{name}(run="{path}")'
    return f"skipsearch {words}" if name in COMMANDS else code
