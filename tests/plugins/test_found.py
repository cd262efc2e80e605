"""Plug-ins of every kind: found, used in small runs, recorded; broken ones named and left out."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.data.results import read_run
from analysis.page.document import format_markdown
from analysis.report.report import compose_report
from nas.data.readers import load_data
from nas.export.sources.skip_network import format_model
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.model.network import build_skip_network
from nas.records.checked import validate
from nas.records.database import read_attributes
from nas.search.loop import run_search
from nas.search.replay import ListedSpace
from nas.search.strategies.registry import create_strategy
from nas.search.strategy import Training
from nas.search.stratum import iterate_named
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.tasks.candidate import TaskPattern
from nas.tasks.loaded import load_task
from nas.tasks.text.task import TextTask
from search_spaces.budget import Budget
from search_spaces.errors import ConflictError, InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.plugins import KINDS
from search_spaces.templates import find_template, list_brought_templates
from tests.support.own_tasks import train_once
from tests.support.plugins import example_installed, installed, write_metadata
from tests.support.small import CommandLine
from tests.support.synthetic_run import make_run, propose

FLAGS: dict[str, Any] = {
    "task": "short_spans",
    "strategy": "best_child",
    "layers": 7,
    "budget": "total:9",
    "pattern": ("every_third",),
    "trials": 4,
    "seeds": 1,
    "templates": False,
    "workers": 1,
    "device": "cpu",
    "epochs": 1,
}
WRONG = """
import torch
from torch import nn
from nas.search.strategy import Proposal

class Drawn(nn.Module):
    def __init__(self, n_sources):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_sources))
    def forward(self, sources):
        return sum(w * x for w, x in zip(self.weight, sources))

class Wider(nn.Module):
    def __init__(self, n_sources):
        super().__init__()
    def forward(self, sources):
        return torch.cat(sources, 1)

def number(n_sources): return 7
def fails(*arguments): return 1 / 0
def shallow(depth):
    from search_spaces.templates import find_template
    return find_template("chain").build(depth - 1)
def two(path): return 1, 2
def short(path):
    import numpy as np
    return np.ones((9, 8, 8)).cumsum(0), np.arange(9) % 2, np.ones((4, 8, 8)).cumsum(0), np.arange(3) % 2
class Again:
    def __init__(self, space, seed, seeds, seeds_at_most): self.space = space
    def propose(self, history): return Proposal(history[0].pattern, history[0].seed)
class Nothing(Again):
    def propose(self, history): return 7
class Other(Again):
    def propose(self, history):
        from search_spaces.templates import find_template
        return Proposal(find_template("dense").build(self.space.budget.depth), 0)
class Raises(Again):
    def propose(self, history): raise KeyError("lost")
NUMBER = 7
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with example_installed(monkeypatch, tmp_path / "site"):
        yield


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Install a package with plug-ins that are broken, or that go wrong when they are used."""
    folder = tmp_path / "wrong"
    folder.mkdir()
    (folder / "wrong_plugins.py").write_text(WRONG)
    names = {
        "templates": {"fails": "fails", "shallow": "shallow"},
        "merges": {"drawn": "Drawn", "wider": "Wider", "number": "number", "fails": "fails"},
        "readers": {"fails": "fails", "two": "two", "short": "short"},
        "strategies": {"again": "Again", "nothing": "Nothing", "other": "Other", "raises": "Raises"},
        "tasks": {"number": "NUMBER"},
        "loggers": {"number": "NUMBER"},
    }
    entries = {
        kind: {name: f"wrong_plugins:{value}" for name, value in values.items()} | {"lost": "no_such_module:thing"}
        for kind, values in names.items()
    }
    write_metadata(folder, entries, "wrong")
    with installed(monkeypatch, folder):
        yield


def search(run: Path, **flags: Any) -> SearchConfig:
    config = settle_config(run, None, {**FLAGS, **flags}, SearchConfig)
    run_search(run, config, lambda *_: None)
    return config


def read_report(run: Path) -> str:
    return format_markdown(compose_report(read_run(run)).blocks)


@pytest.mark.usefixtures("example")
def test_every_kind_is_listed_with_distribution_and_version(command_line: CommandLine) -> None:
    rows = json.loads(command_line("plugins", "--json").stdout)
    assert [row["kind"] for row in rows] == list(KINDS)
    assert {(row["distribution"], row["version"], row["problem"]) for row in rows} == {
        ("skipsearch-example", "0.1", None)
    }
    table = command_line("plugins").stdout
    assert all(row["name"] in table for row in rows)


def test_without_plugins_the_list_says_where_to_read_on(command_line: CommandLine) -> None:
    assert json.loads(command_line("plugins", "--json").stdout) == []
    assert "docs/howto/plugins.md" in command_line("plugins").stdout


@pytest.mark.usefixtures("example")
def test_a_measure_without_a_unit_shows_none(command_line: CommandLine) -> None:
    shown = command_line("score", "--layers", 7, "--template", "log", "--measures", "n_twos").stdout
    assert "Number of layers with two inputs." in shown and "()" not in shown


@pytest.mark.usefixtures("example")
def test_a_template_is_scored_and_trained_where_it_is_named(command_line: CommandLine) -> None:
    rows = json.loads(command_line("score", "--layers", 7, "--json").stdout)
    (row,) = (row for row in rows if row["template"] == "every_third")
    assert row["connections"] == 9
    pattern = find_template("every_third").build(7)
    assert pattern.sources == ((0,), (1,), (0, 2), (3,), (4,), (0, 5), (6,))
    budget = Budget(7, total=9)
    config = validate(SearchConfig, {"layers": 7, "budget": "total:9", "pattern": ("every_third",)})
    assert dict(iterate_named(budget, config))["every_third"] == pattern
    assert "every_third" not in dict(iterate_named(budget, config.model_copy(update={"pattern": None})))


@pytest.mark.usefixtures("example")
def test_a_reader_gives_a_data_set() -> None:
    data = load_data("stripes", None)
    assert (data.name, data.image, data.n_classes, len(data.labels), len(data.test)) == (
        "stripes",
        (1, 8, 8),
        2,
        400,
        100,
    )
    means = [data.images[data.labels == label].mean() for label in (0, 1)]
    assert means == pytest.approx([0, 1], abs=0.05)
    assert validate(SearchConfig, {"dataset": "stripes"}).dataset == "stripes"


@pytest.mark.usefixtures("example")
def test_a_merge_is_built_counted_and_exported() -> None:
    pattern = find_template("every_third").build(6)
    network = NetworkConfig(layers=6, merge="softmax", growth=3)
    candidate = Candidate(pattern, network, seed=1)
    model = build_skip_network(candidate).eval()
    summed = predict_cost(Candidate(pattern, NetworkConfig(layers=6, merge="sum", growth=3), seed=1))
    assert predict_cost(candidate).params == summed.params + pattern.n_connections + len(candidate.reads)
    assert not network.has_equal_cost
    program: dict[str, Any] = {"__name__": "exported", "__file__": "model.py"}
    exec(format_model(candidate), program)  # noqa: S102  the exported program
    other = program["SkipNetwork"]().eval()
    other.load_state_dict(model.state_dict())
    images = torch.randn(2, *network.image, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(images), model(images))


@pytest.mark.usefixtures("wrong")
def test_a_merge_starts_by_the_seed_and_nothing_else() -> None:
    pattern = find_template("log").build(5)

    def build(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)  # whatever was drawn before
        network = build_skip_network(Candidate(pattern, NetworkConfig(layers=5, merge="drawn"), seed))
        return torch.cat([value for name, value in network.named_parameters() if "inner" in name])

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build(1)
    torch.testing.assert_close(build(1), first)
    assert not torch.equal(build(2), first)
    torch.manual_seed(5)
    build_skip_network(Candidate(pattern, NetworkConfig(layers=5, merge="drawn"), 1))
    torch.testing.assert_close(torch.rand(3), expected)  # the global generator is where it was


@pytest.mark.usefixtures("example")
def test_the_text_task_takes_a_merge() -> None:
    pattern = TaskPattern.of(find_template("log").build(4))
    task = TextTask(merge="softmax", width=12, heads=3, context=8)
    network = task.build(pattern, 0)
    assert sum(parameter.numel() for parameter in network.parameters()) == task.cost(pattern).params
    assert network(torch.zeros(2, 8, dtype=torch.int64)).shape[:2] == (2, 8)
    with pytest.raises(InputError, match="concat"):
        TextTask(merge="concat")


@pytest.mark.usefixtures("example")
def test_a_task_is_trained_and_sent_to_workers() -> None:
    task = load_task("short_spans", ["weight=2"])
    for own in (task, pickle.loads(pickle.dumps(task))):  # noqa: S301  our own
        assert train_once(own, epochs=1).metrics == {"loss": pytest.approx(2 * 7 / 5)}  # spans 1, 2, 1, 2, 1
    described = task.describe()
    assert (described["name"], described["settings"], len(described["sha256"])) == ("short_spans", {"weight": 2.0}, 64)


@pytest.mark.usefixtures("example")
def test_a_search_uses_and_records_them_and_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    search(run)
    candidates = read_run(run).candidates
    assert candidates["strategy"].tolist() == ["templates"] + 4 * ["best_child"]
    assert candidates["template"].tolist()[0] == "every_third"
    losses = candidates["loss"].tolist()
    assert min(losses[1:]) <= losses[0]
    search(run, trials=6)
    search(tmp_path / "whole", trials=6)
    both = (read_run(each).candidates["key"].tolist() for each in (run, tmp_path / "whole"))
    assert next(both) == next(both)  # interrupted and continued: the same
    used = {(each["kind"], each["name"]) for each in read_attributes(run / "study.db")["plugins"] if each["used"]}
    assert used == {
        ("tasks", "short_spans"),
        ("strategies", "best_child"),
        ("templates", "every_third"),
        ("measures", "n_twos"),
    }
    report = read_report(run)
    for line in ("strategies: best_child | skipsearch-example 0.1; used by this run", "merges: softmax"):
        assert line in report.replace("\\", "")


def test_another_version_is_warned_of_and_a_missing_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with example_installed(monkeypatch, tmp_path / "one"):
        search(run)
        settle_config(run, None, {}, SearchConfig)
        assert "0.1" not in caplog.text
    with example_installed(monkeypatch, tmp_path / "two", "0.2"):
        settle_config(run, None, {}, SearchConfig)
        warned = [record.getMessage() for record in caplog.records if "0.2" in record.getMessage()]
        assert len(warned) == 4
        assert all("skipsearch-example 0.1" in each for each in warned)
        assert not any("softmax" in each for each in warned)  # which the run does not use
    with pytest.raises(ConflictError, match=r"strategy 'best_child' of skipsearch-example 0\.1, not installed"):
        settle_config(run, None, {}, SearchConfig)
    assert "best_child" in read_report(run)


def test_a_run_without_a_record_of_plugins_is_read(tmp_path: Path) -> None:
    assert read_run(make_run(tmp_path / "run", propose(2), lambda _p, _s: 0.5)).plugins == ()


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize(
    "flags",
    [
        ("score", "--template", "lost"),
        ("search", "--dataset", "lost"),
        ("search", "--merge", "lost"),
        ("search", "--strategy", "lost"),
        ("search", "--task", "lost"),
        ("search", "--task", "number"),
        ("search", "--log", "number"),
        ("search", "--pattern", "lost"),
        ("compare-strategies", "--table", "layers-12", "--strategy", "lost", "--replays", "1"),
    ],
    ids=" ".join,
)
def test_what_is_broken_is_refused_by_name_and_package(
    flags: tuple[str, ...], command_line: CommandLine, tmp_path: Path
) -> None:
    run = ("--run", tmp_path / "run") if flags[0] == "search" else ()
    done = command_line(*flags, *run)
    assert done.returncode == 2
    reason = "no function and no class" if "number" in flags else "ModuleNotFoundError"
    assert all(part in done.stderr for part in ("package wrong 1.2", reason, "left out"))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("wrong")
def test_what_is_broken_is_listed_warned_of_once_and_ignored(
    command_line: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    rows = json.loads(command_line("plugins", "--json").stdout)
    assert {row["name"] for row in rows if row["problem"]} == {"lost", "number"}
    names = [row["template"] for row in json.loads(command_line("score", "--layers", 5, "--json").stdout)]
    assert "log" in names
    assert not {"lost", "fails", "shallow"} & set(names)
    assert list_brought_templates(5) == []
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(set(messages)) == 3
    assert all("package wrong 1.2" in message for message in messages)


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize(
    ("name", "reason"), [("fails", "ZeroDivisionError"), ("two", "x_train"), ("short", r"shape \(3,\)")]
)
def test_what_a_reader_gives_is_checked(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        load_data(name, None)
    assert "package wrong 1.2" in str(refused.value)


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize(("name", "reason"), [("fails", "ZeroDivisionError"), ("number", "7"), ("wider", "one shape")])
def test_what_a_merge_gives_is_checked(name: str, reason: str) -> None:
    candidate = Candidate(find_template("log").build(4), NetworkConfig(layers=4, merge=name), 0)
    with pytest.raises(InputError, match=reason) as refused:
        build_skip_network(candidate)(torch.zeros(1, 1, 8, 8))
    assert "package wrong 1.2" in str(refused.value)


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize(
    ("name", "reason"), [("again", "twice"), ("nothing", "7"), ("other", "15 connections"), ("raises", "KeyError")]
)
def test_what_a_strategy_proposes_is_checked(name: str, reason: str) -> None:
    budget = Budget(5, total=6)
    pattern = ConnectionPattern(5, ((0,), (1,), (2,), (3,), (0, 4)))
    strategy = create_strategy(name, ListedSpace(budget, [pattern], [True]), 0, 1)
    with pytest.raises(InputError, match=reason) as refused:
        strategy.propose([Training(pattern, 0, 0.5, "finished")])
    assert "package wrong 1.2" in str(refused.value)
