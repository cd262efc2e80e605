"""The command recommend: rows for scripts, a program that runs as pasted, a file, errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import skipsearch
from commands.patterns import N_TOLD, write_snippet
from nas.records.template import read_pattern
from search_spaces.budget import parse_budget
from search_spaces.measures.measure import log_reads
from search_spaces.sampling.bounds import certify
from tests.support.patterns import by_layer_order
from tests.support.small import CommandLine

SMALL = ("recommend", "--layers", 5, "--budget", "total:8")


def test_rows_are_those_of_score_with_sources_and_a_reason(command_line: CommandLine) -> None:
    done = command_line(*SMALL, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    (scored,) = json.loads(command_line("score", "--layers", 5, "--template", "shortest_walk", "--json").stdout)
    assert all(list(row) == [*scored, "sources", "reason"] for row in rows)
    assert "shortest_walk" in [row["template"] for row in rows]
    assert skipsearch.recommend(5, "total:8") == rows
    budget = parse_budget("total:8", 5)
    for row in rows:
        pattern = skipsearch.ConnectionPattern.from_sources(row["sources"])
        pairs = by_layer_order(pattern)
        assert row["mean_bd"] == pytest.approx(sum(pairs.values()) / len(pairs))
        certificate = certify(pattern, budget)
        assert (row["certificate"], row["gap"]) == (certificate.status, certificate.gap)
        assert row["gap"] == pytest.approx(row["mean_bd"] / row["bound_mean_bd"] - 1)


def test_the_terminal_says_why_and_what_next(command_line: CommandLine) -> None:
    said, all_said = (command_line(*SMALL, *flags).stdout for flags in ([], ["--wide"]))
    rows = skipsearch.recommend(5, "total:8")
    assert said.startswith("Take ")
    assert [row["reason"] in said for row in rows] == [place < N_TOLD for place in range(len(rows))]
    assert all(row["reason"] in all_said for row in rows)
    assert "Nothing was measured at 5 layers" in said
    best = rows[0]["template"]
    assert write_snippet(parse_budget("total:8", 5), best) in said
    (following,) = [line for line in said.splitlines() if line.startswith("next: ")]
    kept = "recommend --layers 5 --budget total:8 --to" if best is None else f"export --template {best} --budget"
    assert kept in following


@pytest.mark.parametrize(("budget", "name"), [("log", "shortest_walk"), ("total:9", "geometric"), ("total:9", None)])
def test_the_program_runs_as_pasted(budget: str, name: str | None) -> None:
    snippet = write_snippet(parse_budget(budget, 6), name)
    assert max(map(len, snippet.splitlines())) < 80
    made: dict[str, Any] = {}
    exec(snippet, made)  # noqa: S102
    assert parse_budget(budget, 6).is_met_by(made["pattern"])
    assert made["network"](torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert [tuple(node.shape) for node in made["nodes"]] == [(1, 16, 32, 32)] * 7
    read = [made["nodes"][node] for node in sorted(log_reads(6), reverse=True)]
    assert torch.equal(made["outputs"], torch.cat(read, 1))


def test_the_best_is_written_as_a_file_that_holds(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    done = command_line(*SMALL, "--to", file, "--json")
    assert read_pattern(file).sources == tuple(map(tuple, json.loads(done.stdout)[0]["sources"]))
    assert command_line("verify", file).returncode == 0
    file.write_text("mine")
    assert command_line(*SMALL, "--to", file).returncode == 4
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layers", 0], "got 0"),
        (["--layers", 9, "--budget", "total:8"], "total:9 to total:45"),
        (["--layers", 9, "--budget", "logs"], "'logs'"),
        (["--layers", 300], "not to 300"),
    ],
)
def test_what_cannot_be_recommended_for_is_refused(
    command_line: CommandLine, arguments: list[object], said: str
) -> None:
    done = command_line("recommend", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout
