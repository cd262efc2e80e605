"""Texts: parts by place, windows, hashes, and files that are refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from nas.tasks.text.characters import check_length, cut_windows, draw_starts, load_text, make_text, spread_starts
from search_spaces.errors import InputError


def test_the_parts_of_a_text_are_its_beginning_and_its_end() -> None:
    content = "The quick brown fox jumps over the lazy dog.\n" * 7
    text = make_text("fox", content)
    both = [*text.training.tolist(), *text.validation.tolist()]
    assert "".join(text.vocabulary[number] for number in both) == content
    assert len(text.validation) == round(len(content) / 10)
    assert text.vocabulary == "".join(sorted(set(content)))
    assert text.sha256 == hashlib.sha256(content.encode()).hexdigest()


def test_the_text_of_python_repeats_no_paragraph_across_its_parts() -> None:
    text = load_text()
    training, validation = (
        "".join(text.vocabulary[number] for number in part) for part in (text.training, text.validation)
    )
    paragraphs = (training + validation).split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert len(training) + len(validation) > 300_000
    assert "with" in validation
    assert load_text() is text  # a worker's next training reads nothing


def test_a_file_is_read_in_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("äöü€" * 30, encoding="utf-8")
    text = load_text(path)
    assert (text.name, text.vocabulary, len(text.training)) == ("text.txt", "äöü€", 108)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    with pytest.raises(InputError, match=r"text\.txt"):
        load_text(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="UTF-8"):
        load_text(path)
    with pytest.raises(InputError, match="1200 distinct"):
        make_text("many", "".join(map(chr, range(0x4E00, 0x4E00 + 1200))))


def test_a_text_too_short_for_the_context_is_refused_with_the_length_that_it_takes() -> None:
    with pytest.raises(InputError, match="170"):
        check_length(make_text("short", "ab" * 80), 8)
    check_length(make_text("short", "ab" * 85), 8)


def test_windows_are_what_the_part_has_there() -> None:
    part = np.arange(100)
    windows = cut_windows(part, np.array([0, 5, 91]), 8)
    assert windows.tolist() == [list(range(start, start + 9)) for start in (0, 5, 91)]


@pytest.mark.parametrize("n_windows", [1, 2, 7, 1000])
def test_spread_windows_reach_both_ends_and_predict_no_character_twice(n_windows: int) -> None:
    part = np.arange(1003)
    starts = spread_starts(part, n_windows, 48)
    predicted = cut_windows(part, starts, 48)[:, 1:]
    assert len(starts) == min(n_windows, 20)
    assert starts[0] == 0
    assert predicted.size == len(set(predicted.flatten().tolist()))
    assert n_windows == 1 or predicted[-1, -1] == 1002


def test_drawn_windows_can_start_wherever_there_is_room() -> None:
    part = np.arange(60)
    starts = draw_starts(part, 2000, 50, np.random.default_rng(0))
    assert set(starts.tolist()) == set(range(10))
