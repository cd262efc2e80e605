"""Errors: said in words, with the exit code of their class, and nothing is begun."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.small import CommandLine


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["score", "--layers", "0"], 2, "layers: expected a whole number from 1 to 4096, got 0"),
        (["score", "--template", "denes"], 2, "no template is named 'denes'"),
        (["score", "--pattern", "nowhere.json"], 2, "no pattern file at nowhere.json"),
        (["score", "--image", "8x8"], 2, "image: expected 3 values, each a whole number"),
        (["search", "--run", "{run}", "--lr-drops", "0.75,0.5"], 2, "lr-drops: the shares must ascend"),
        (["score", "--budget", "total:3", "--template", "random:1"], 2, "total:24 to total:300"),
        (["score", "--nonsense"], 2, "--nonsense"),
        (["search", "--run", "{run}", "--epochs", "0", "--lr", "-1"], 2, "lr: expected a number above 0"),
        (["search", "--run", "{run}", "--dataset", "npz"], 2, "needs --data"),
        (["search", "--run", "{run}", "--device", "cuda"], 3, "no CUDA device"),
        (["search", "--run", "{run}", "--train-examples", "5000"], 2, "asks for more than the 958"),
        (["status", "--run", "{run}"], 2, "no run directory"),
        (["report", "--run", "{run}"], 2, "no run directory"),
        (["export"], 2, "export takes one of"),
        (["export", "--template", "log"], 2, "need --to"),
        (["export", "--run", "{run}", "--to", "elsewhere", "--stem-channels", "3"], 2, "--to, --stem-channels"),
        (["export", "--pattern", "mine.json", "--to", "elsewhere", "--budget", "total:9"], 2, "--budget total:9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_explained_without_a_traceback(
    command_line: CommandLine, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    if "cuda" in arguments and _has_cuda():
        pytest.skip("this machine has a CUDA device")
    run = tmp_path / "run"
    done = command_line(*(argument.format(run=run) for argument in arguments))
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not run.exists()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def test_debug_shows_the_traceback(command_process: CommandLine) -> None:
    done = command_process("score", "--template", "denes", "--debug")
    assert "Traceback" in done.stderr
    assert "InputError" in done.stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--growth", 10_000, "--layers", 100], "GB"),
        (["--seeds", "nan"], "seeds: expected a whole number"),
        (["--workers", -1], "auto or a whole number from 1 to 4096, got -1"),
    ],
)
def test_what_no_machine_can_do_is_refused_in_words(
    command_line: CommandLine, tmp_path: Path, flags: list[Any], named: str
) -> None:
    done = command_line("search", "--run", tmp_path / "run", *flags)
    assert done.returncode == 2
    assert named in " ".join(done.stderr.split())
    assert not any(word in done.stderr for word in ("a bug of ours", "Input should", "to continue"))
    assert not (tmp_path / "run").exists()
