"""The README and the site: what they name exists, their pictures and figures are the tool's."""

import csv
import hashlib
import json
import math
import re
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
import typer

from nas.bench.contestants import CAPTURED, COHORTS, COMPILED, EAGER, FUSED, GROUPED, Contestant
from nas.settings.study import StudyConfig
from run_search import app
from search_spaces.templates import find_template
from search_spaces.wiring.arcs import draw_arcs
from tests.support.small import ROOT

README = (ROOT / "README.md").read_text()


def _page(name: str) -> str:
    """Return a page of the site as one line."""
    return " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())


def test_it_is_short_and_its_commands_are_not_cut() -> None:
    assert len(README.splitlines()) <= 150
    code = re.findall(r"^```\w+\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert [line for block in code for line in block.splitlines() if len(line) > 100] == []


def test_there_are_two_commands_that_search_and_test() -> None:
    """Continuous integration runs these blocks, the first two of the README; the site's front has the same."""
    search, test, *_ = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert search.endswith("&&\n.venv/bin/python run_search.py search --run runs/first")
    assert test.endswith("&&\n.venv/bin/python -m pytest -q")
    assert all(command.startswith("python3 -m venv .venv && ") for command in (search, test))
    front = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"```sh\n(.*?)\n```", front, re.DOTALL) == [search, test]


def _checklist() -> dict[str, tuple[str, str]]:
    """Point -> yes, in part or no, and where."""
    text = (ROOT / "docs" / "checklist.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]*) \| (.*) \|$", text, re.MULTILINE)
    return {point: (answer, where) for point, answer, where in rows if answer}


def test_the_checklist_names_only_what_the_tool_has() -> None:
    rows = _checklist()
    assert len(rows) == 17
    assert {answer for answer, _ in rows.values()} <= {"yes", "in part", "no"}
    commands = vars(typer.main.get_command(app))["commands"]
    flags = {name: {option for flag in command.params for option in flag.opts} for name, command in commands.items()}
    flags["study"] |= {f"--{name.replace('_', '-')}" for name in StudyConfig.model_fields}
    for point, (_, where) in rows.items():
        for named in re.findall(r"`([^`]+)`", where):
            command, _, flag = named.partition(" ")
            if named.startswith("--"):  # of the command that the checklist is about
                assert named in flags["study"], (point, named)
            elif command in commands:
                assert not flag or flag in flags[command], (point, named)
            else:
                is_file_of_a_run = named in {"config.toml", "plan.json", "candidates.csv", "seed"}
                assert is_file_of_a_run or (ROOT / named).exists(), (point, named)


@pytest.mark.parametrize(
    ("point", "answer", "by"),
    [
        ("final evaluation", "yes", "export --final"),
        ("Tabular", "in part", "compare-strategies"),
        ("How hyperparameters were tuned", "yes", "--tune-lr"),
        ("Confounders controlled", "yes", "--cross"),
        ("Performance over time", "in part", "--check-epochs"),
        ("Limits of what was found", "yes", "--dry-run"),
    ],
)
def test_the_checklist_denies_nothing_that_exists(point: str, answer: str, by: str) -> None:
    ((found, where),) = [row for name, row in _checklist().items() if point in name]
    assert found == answer
    assert f"`{by}`" in where


@pytest.mark.parametrize(
    ("name", "page"), [("log", "index.md"), ("shortest_walk", "index.md"), ("midpoint", "explanation/distance.md")]
)
def test_the_pictures_are_what_the_tool_draws(name: str, page: str) -> None:
    assert f"{name}.svg)" in _page(page)
    assert page != "index.md" or f"(docs/{name}.svg)" in README
    assert (ROOT / "docs" / f"{name}.svg").read_text() == draw_arcs(find_template(name).build(24), name)


def test_it_says_of_the_earlier_studies_what_their_page_says() -> None:
    page = (ROOT / "docs" / "earlier" / "README.md").read_text()
    verdicts = [row.split(" | ")[3] for row in re.findall(r"^\| (.*, lr .*) \|$", page, re.MULTILINE)]
    words = {1: "one", 2: "two", 3: "three", 7: "seven"}
    text = _page("explanation/walks.md")
    assert f"{words[verdicts.count('unresolved')]} of their {words[len(verdicts)]} strata are unresolved" in text
    assert "in none is mean BD found to go with the loss under every control" in text
    assert not {"supported", "reversed", "u-shaped"} & set(verdicts)


def test_its_budgets_are_those_of_the_committed_summary() -> None:
    summary = json.loads((ROOT / "docs" / "budgets" / "summary.json").read_text())
    points = {(one["family"], one["connections"]): one for one in summary["tradeoffs"][0]["points"]}
    assert sorted({connections for _, connections in points}) == [40, 94, 180]

    def told(family: str, connections: int) -> str:
        share = [100 * points[family, connections][name] for name in ("accuracy", "low", "high")]
        return "{:.1f} % [{:.1f}, {:.1f}]".format(*share)

    text = _page("howto/budgets.md")
    assert f"at 40 connections reaches {told('found', 40)}, where the 40 nearest reach {told('nearest', 40)}" in text
    evenly = [100 * points["evenly", 94]["difference"][name] for name in ("mean", "low", "high")]
    assert "where skips are spread evenly ({:.1f} points [{:.1f}, {:.1f}])".format(*evenly) in text
    statuses = {place: point["difference"]["status"] for place, point in points.items() if point["difference"]}
    assert {family for (family, n), status in statuses.items() if n == 94 and status == "kept"} == {"evenly"}
    assert not [family for (family, n), status in statuses.items() if n == 94 and status == "lost"]
    assert {family for (family, n), status in statuses.items() if n == 40 and status != "lost"} == {"shortest_walk"}


PARTS = ("difference", "low", "high")


@pytest.mark.parametrize("setting", sorted(path.stem for path in (ROOT / "docs" / "race").glob("*.json")))
def test_the_races_are_told_as_they_were_run(setting: str) -> None:
    folder = ROOT / "docs" / "race"
    answers = json.loads((folder / f"{setting}.json").read_text())
    page = (folder / "README.md").read_text()
    table = pd.read_csv(folder / f"{setting}.csv")
    loss = table.pivot_table(index="key", columns="seed", values="validation_loss").transform(np.log)
    assert loss.shape[1] == answers["judges"] == 8

    def judge(strategy: str, n_best: int) -> Any:
        rows = []
        for seed in range(100, 100 + answers["pairs"]):
            places = [f"{strategy} {seed} place {place}" for place in range(1, n_best + 1)]
            own = table["picked_by"].fillna("").str.split("; ").map(lambda who, places=places: bool({*who} & {*places}))
            rows.append(loss.loc[sorted(set(table.loc[own, "key"]))].mean())
        return pd.DataFrame(rows).to_numpy()

    contrasts = {
        "pick, log loss, model less random": judge("model", 1) - judge("random", 1),
        "top four, log loss, model less random": judge("model", 4) - judge("random", 4),
        "pick, log loss, model less geometric": judge("model", 1) - loss.loc[answers["geometric"]].to_numpy(),
    }
    for name, values in contrasts.items():
        n_pairs, n_seeds = values.shape
        error = math.sqrt(values.mean(1).var(ddof=1) / n_pairs + values.mean(0).var(ddof=1) / n_seeds)
        half = scipy.stats.t.ppf(0.975, min(values.shape) - 1) * error
        found = [values.mean(), values.mean() - half, values.mean() + half]
        answer = [answers["differences"][name][part] for part in PARTS]
        assert found == pytest.approx(answer, abs=1e-5)  # the table is rounded
        told = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*found)
        assert told in page
        assert told in _page("explanation/strategies.md")
    difference, low, high = (-answers["differences"]["pick, log loss, model less random"][at] for at in PARTS)
    assert f"{difference:.3f} [{high:.3f}, {low:.3f}]" in " ".join(README.split())  # the README has how much less


@pytest.mark.parametrize("table", sorted(path.stem for path in (ROOT / "docs" / "tables").glob("*.csv")))
def test_what_it_says_of_strategies_is_what_the_committed_replays_say(table: str) -> None:
    replayed = json.loads((ROOT / "docs" / "tables" / table / "regret.json").read_text())
    last = {row["strategy"]: row for row in replayed}
    provenance = json.loads((ROOT / "docs" / "tables" / f"{table}.json").read_text())
    csv = (ROOT / "docs" / "tables" / f"{table}.csv").read_bytes()
    assert provenance["sha256"] == hashlib.sha256(csv).hexdigest()
    page = (ROOT / "docs" / "explanation" / "strategies.md").read_text()
    for strategy in set(last) - {"random"}:
        (row,) = re.findall(rf"^\| \[{table}\]\S* \| {strategy} \| (.*) \|$", page, re.MULTILINE)
        one = last[strategy]
        values = [one[name] for name in ("mean_difference", "mean_difference_low", "mean_difference_high")]
        assert row == "{:+.4f} [{:+.4f}, {:+.4f}] | {}".format(*values, one["verdict"])


def test_its_lines_for_your_own_loop_are_about_ten_and_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = next(code for code in re.findall(r"```python\n(.*?)\n```", README, re.DOTALL) if "class Block" in code)
    monkeypatch.chdir(tmp_path)
    sources = find_template("log").build(40).sources
    (tmp_path / "forty.json").write_text(json.dumps({"sources": sources}))
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102  our own README
    assert names["block"](torch.zeros(2, 16, 8, 8)).shape[2:] == (8, 8)
    assert all(weight.grad is not None for weight in names["block"].parameters())


def test_the_page_on_export_builds_the_network_that_it_says() -> None:
    (program,) = re.findall(r"```python\n(.*?)\n```", (ROOT / "docs" / "howto" / "export.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102  our own page
    assert names["network"](torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def _points(one: dict[str, Any], names: tuple[str, str, str], form: str) -> str:
    value, low, high = (format(100 * one[name], form) for name in names)
    return f"{value} [{low}, {high}]"


def test_its_networks_side_by_side_are_those_of_the_committed_summaries() -> None:
    sets = [
        json.loads((ROOT / "docs" / "networks" / name / "summary.json").read_text()) for name in ("digits", "fashion")
    ]
    by_name = [{one["name"]: one for one in held["networks"]} for held in sets]
    text = _page("howto/networks.md")
    for name in by_name[0]:
        cells = []
        for networks in by_name:
            one = networks[name]
            cells.append(_points(one, ("accuracy", "low", "high"), ".1f"))
            compared = one["difference"] is not None
            cells.append(_points(one, ("difference", "difference_low", "difference_high"), "+.1f") if compared else "")
            cells.append(f"{one['flops'] / 1e6:.1f} M")
        assert " ".join(f"| {name} | {' | '.join(cells)} |".split()) in text
    told_apart = [one["name"] for held in sets for one in held["networks"] if (one["p_holm"] or 1) < 0.05]
    assert not told_apart
    assert "No network is told apart from log" in text


def test_its_memory_is_that_of_the_committed_table() -> None:
    with (ROOT / "docs" / "memory.csv").open() as stream:
        rows = {
            (row["network"], row["mode"]): row for row in csv.DictReader(stream) if row["layers_of_a_block"] == "64"
        }
    text = _page("howto/gpu.md")
    mib = {place: f"{int(row['measured_bytes']) / 2**20:,.0f}" for place, row in rows.items()}
    for name, words in (("dense", "dense takes {} MiB and {}"), ("Log-DenseNet V1", "V1 {} and {}")):
        assert words.format(mib[name, "naive"], mib[name, "efficient"]) in text
    for name, words in (("Log-DenseNet V2", "V2 {} and {}"), ("midpoint", "midpoint {} and {}")):
        assert words.format(mib[name, "naive"], mib[name, "efficient"]) in text
    for row in rows.values():
        assert abs(int(row["measured_bytes"]) / int(row["predicted_bytes"]) - 1) < 0.001


def test_its_speeds_are_those_measured() -> None:
    with (ROOT / "docs" / "speed.csv").open() as stream:
        measured = list(csv.DictReader(stream))
    page = (ROOT / "docs" / "howto" / "gpu.md").read_text()
    ours = [row for row in measured if row["engine"] == FUSED and row["precision"] == "float32" and row["gate"]]
    assert ours and all(row["gate"] == "True" for row in ours)
    for row in ours:
        at_shape = {(own["engine"], own["precision"]): own for own in measured if own["shape"] == row["shape"]}
        strongest = [name for name, own in at_shape.items() if own["ratio_to_strongest"] == "1.0"]
        named = str(Contestant(*strongest[0])) if strongest else "-"  # type: ignore[arg-type]
        ratios = ("ratio_to_strongest", "ratio_to_strongest_in_precision")
        given = [own.get(name) for own in (row, at_shape.get((FUSED, "bfloat16"), {})) for name in ratios]
        cells = [f"{float(ratio):.2f}" if ratio else "-" for ratio in given]
        assert f"| {row['shape']} | {named} | {' | '.join(cells)} | " in page
    assert len(re.findall(r"growth=\d+ batch=", page)) == len(ours)


def test_its_speeds_of_scoring_are_those_measured() -> None:
    with (ROOT / "docs" / "distance-speed.csv").open() as stream:
        rows = {row["work"]: row for row in csv.DictReader(stream) if row["layers"] == "24"}
    packed, batch, single = (rows[f"ours, {work}"] for work in ("a batch packed before", "a batch", "one pattern"))
    text = _page("explanation/distance.md")
    assert f"a batch is scored {float(packed['to_networkx']):.0f} times as fast as by networkx" in text
    assert f"and {float(packed['to_rustworkx']):.1f} times as fast as by rustworkx" in text
    assert f"it is {float(batch['to_rustworkx']):.1f} times as fast as rustworkx" in text
    assert f"and {float(single['to_rustworkx']):.1f} times where each pattern is scored by itself" in text


def test_its_speeds_on_a_gpu_are_those_measured() -> None:
    with (ROOT / "docs" / "gpu.csv").open() as stream:
        measured = {(row["precision"], row["contestant"]): row for row in csv.DictReader(stream)}
    written = (ROOT / "docs" / "howto" / "gpu.md").read_text()
    text = " ".join(written.split())
    engines = [EAGER, CAPTURED, COMPILED, GROUPED, "eager, one process a candidate", *COHORTS]
    assert {contestant for _, contestant in measured} == set(engines)
    best = {}
    for precision in ("bfloat16", "float32"):
        rows = [measured.get((precision, engine)) for engine in engines]
        cells = [f"{float(row['steps_per_second']):.1f}" if row else "-" for row in rows]
        assert f"| {precision} | {' | '.join(cells)} |\n" in written
        ours = [row for row in rows if row and row["contestant"] in COHORTS]
        best[precision] = [max(float(row[name]) for row in ours) for name in ("to_eager", "to_strongest")]
    assert "{:.1f} times eager and {:.1f} times the strongest".format(*best["bfloat16"]) in text
    assert "{:.1f} and {:.1f} in float32".format(*best["float32"]) in text
    page = (ROOT / "docs" / "gpu.md").read_text()
    found = json.loads((ROOT / "docs" / "gpu.json").read_text())
    for precision in ("bfloat16", "float32"):
        seen = found[precision]["seen"]
        to_eager = {one["contestant"]: median(map(truediv, one["rates"], one["eager"])) for one in seen}
        strongest = max(ratio for name, ratio in to_eager.items() if name not in COHORTS)
        for one in seen:
            row, own = measured[precision, one["contestant"]], to_eager[one["contestant"]]
            assert float(row["to_eager"]) == pytest.approx(own)
            assert float(row["to_strongest"]) == pytest.approx(own / strongest)
            assert float(row["steps_per_second"]) == pytest.approx(median(one["rates"]))
            rates = "{:.1f} ({:.1f} to {:.1f})".format(median(one["rates"]), min(one["rates"]), max(one["rates"]))
            watched = ["-" if one[name] is None else f"{one[name]:.0f}" for name in ("peak_mib", "utilisation")]
            cells = [row["contestant"], precision, row["candidates"], rates, f"{own:.2f}", f"{own / strongest:.2f}"]
            assert f"| {' | '.join([*cells, *watched])} | " in page
    (seconds,) = re.findall(r"180 of 180 trainings complete in (\d+) s", page)
    assert f"180 trainings in {seconds} seconds on one H200" in text
    quick = re.findall(r"skipsearch-fused-cohort-64 \| [0-9.]+ \| ([0-9.]+) ", page)
    assert f"`bench` has 64 together at {float(quick[0]):.0f} times eager" in text
    differences = re.findall(r"root mean square ([0-9]\.[0-9]+)", page)
    told = [f"{100 * float(one):.2f}".rstrip("0") for one in differences]
    assert "by {} points root mean square, where another order of the same images makes {}".format(*told) in text
