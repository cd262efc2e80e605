"""A text as numbers: its characters, its training and its validation part, and windows of them."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.records.safe_files import open_regular
from search_spaces.errors import InputError

VALIDATION_SHARE = 0.1  # of a text, its end
MAX_BYTES = 10**8  # of a file
MAX_CHARACTERS = 1000  # distinct ones: beyond that the maps from and to characters outweigh the network
N_WINDOWS = 2  # the least that the validation part must have room for


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text, cut into a training part and, after it, a validation part.

    Args:
        name: where it comes from.
        vocabulary: its distinct characters, ascending.
        training, validation: characters of each part, as their numbers in the vocabulary, (n,) int64.
        sha256: hash of the text in UTF-8.
    """

    name: str
    vocabulary: str
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    sha256: str


@lru_cache(maxsize=4)  # every training of a process asks for the same text
def load_text(path: Path | None = None) -> Text:
    """Load a text in UTF-8, or without a path the one that comes with Python.

    That one is the help pages of the language, `pydoc_data.topics`, in the order of their names. Topics repeat whole
    sections, so each paragraph is taken once: no validation paragraph is in the training part.

    Raises:
        InputError: the file cannot be read, is no UTF-8, or has too many distinct characters.
    """
    if path is not None:
        return make_text(path.name, _read(path))
    from pydoc_data.topics import topics  # half a megabyte that only this task needs

    pages = "\n\n".join(topics[name] for name in sorted(topics))
    return make_text("pydoc_data.topics", "\n\n".join(dict.fromkeys(pages.split("\n\n"))))


def _read(path: Path) -> str:
    try:
        with open_regular(path, MAX_BYTES) as stream:
            return stream.read().decode()
    except OSError as error:
        raise InputError(f"file {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"file {path} is no text in UTF-8 ({error}): convert it first") from None


def make_text(name: str, content: str) -> Text:
    """Return a text with its last tenth as validation part.

    Raises:
        InputError: it has too many distinct characters.

    >>> text = make_text("a", "abacabacabacabacabac")
    >>> text.vocabulary, text.training.tolist()[:4], text.validation.tolist()
    ('abc', [0, 1, 0, 2], [0, 2])
    """
    vocabulary = "".join(sorted(set(content)))
    if len(vocabulary) > MAX_CHARACTERS:
        raise InputError(f"text {name} has {len(vocabulary)} distinct characters; {MAX_CHARACTERS} are the most")
    number = {character: place for place, character in enumerate(vocabulary)}
    numbers = np.fromiter((number[character] for character in content), np.int64, len(content))
    cut = len(numbers) - round(VALIDATION_SHARE * len(numbers))
    return Text(name, vocabulary, numbers[:cut], numbers[cut:], hashlib.sha256(content.encode()).hexdigest())


def cut_windows(part: NDArray[np.int64], starts: NDArray[np.int64], context: int) -> NDArray[np.int64]:
    """Return (n, context + 1) characters of a part from each start on: a context, and one more to predict.

    >>> cut_windows(np.arange(9), np.array([0, 4]), 2).tolist()
    [[0, 1, 2], [4, 5, 6]]
    """
    windows: NDArray[np.int64] = part[starts[:, None] + np.arange(context + 1)]
    return windows


def spread_starts(part: NDArray[np.int64], n_windows: int, context: int) -> NDArray[np.int64]:
    """Return starts of windows that lie evenly over a part, at most as many as have room without an overlap.

    >>> spread_starts(np.arange(9), 2, 2).tolist(), spread_starts(np.arange(9), 100, 2).tolist()
    ([0, 6], [0, 2, 4, 6])
    """
    last = len(part) - context - 1
    n = min(n_windows, last // context + 1)
    return np.linspace(0, last, n).astype(np.int64)


def draw_starts(
    part: NDArray[np.int64], n_windows: int, context: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw starts of windows, each place with equal chance."""
    return generator.integers(0, len(part) - context, n_windows)


def check_length(text: Text, context: int) -> None:
    """Refuse a text whose validation part has no room for a few windows.

    Raises:
        InputError: with the length that it takes.
    """
    n_needed = N_WINDOWS * context + 1
    if len(text.validation) < n_needed:
        total = len(text.training) + len(text.validation)
        raise InputError(
            f"text {text.name} has {total} characters, of which the last tenth is for validation: a context of "
            f"{context} takes at least {round(n_needed / VALIDATION_SHARE)}"
        )
