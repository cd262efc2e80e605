"""Commands about patterns and tables: what scripts rely on."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands.terminal import make_console, print_written
from nas.data.splits import split_data
from nas.export.export import Exported
from nas.export.manifest import FILES
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.model.proxies import PROXIES, measure_proxies
from nas.presets.registry import PRESETS
from nas.settings.study import StudyConfig
from nas.training.train import first_batch
from search_spaces.budget import Budget
from search_spaces.measures.registry import list_measures
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.cells import Crossed, find_reach
from search_spaces.sampling.design import Layout, lay_out
from search_spaces.sampling.draw import sample_wide
from search_spaces.sampling.goals import Band
from search_spaces.seeds import derive_generator
from search_spaces.templates import TEMPLATES, find_template
from tests.support.measured import SECOND
from tests.support.small import ROOT, CommandLine
from tests.support.small_study import DIGITS

SCORE_KEYS = "template layers connections mean_bd max_bd from_output_mean to_input_mean span".split()  # noqa: SIM905
SCORE_KEYS += ["max_in_degree", "max_out_degree", "walk_length", "visit_evenness", "ntk_trace"]
SCORE_KEYS += ["params", "flops", "activation_bytes", "activation_bytes_efficient"]
SCORE_KEYS += ["global_mean_bd", "global_max_bd", "from_loss_mean", "bound_mean_bd", "certificate", "gap"]
# connections, MBD, mean BD at 12 layers
EXPECTED = {
    "chain": (12, 12, 4.667),
    "dense": (78, 1, 1.000),
    "log": (37, 3, 1.628),
    "nearest_log_i": (37, 4, 1.769),
    "nearest_log_L": (42, 3, 1.590),
    "nearest_4": (42, 3, 1.590),
    "nearest_half": (42, 4, 1.718),
    "evenly_log_i": (37, 3, 1.577),
    "evenly_log_L": (42, 3, 1.500),
    "odd_even": (42, 2, 1.462),
    "half_and_log": (60, 2, 1.231),
    "mini_dense": (25, 5, 2.282),
    "loglog": (30, 3, 1.769),
    "harmonic": (22, 5, 2.179),
    "midpoint": (28, 2, 1.641),
    "greedy": (37, 3, 1.538),
    "annealed": (37, 2, 1.526),
    "shortest_walk": (37, 9, 2.679),
}


def test_score_prints_one_array_with_every_template(command_line: CommandLine) -> None:
    done = command_line("score", "--layers", 12, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert [row["template"] for row in rows] == list(TEMPLATES) == list(EXPECTED)
    assert all(list(row) == SCORE_KEYS for row in rows)
    found = {row["template"]: (row["connections"], row["max_bd"], round(row["mean_bd"], 3)) for row in rows}
    assert found == EXPECTED


def test_score_takes_templates_sizes_and_files(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"layers": 3, "sources": [[0], [1], [0, 2]]}')
    arguments = ["--template", "log:b=2,c=1", "--template", "random:7", "--pattern", file, "--budget", "total:5"]
    sizes = ["--blocks", 2, "--growth", 8, "--layer", "bottleneck", "--image", "3x32x32", "--classes", 100, "--json"]
    rows = json.loads(command_line("score", *arguments, *sizes).stdout)
    assert [(row["template"], row["connections"]) for row in rows] == [
        (str(file), 4),
        ("log:b=2,c=1", 5),
        ("random:7", 5),
    ]
    table = command_line("score", "--layers", 4, "--template", "dense").stdout
    assert "1.0000" in table
    assert "dense" in table


def test_score_measures_proxies_on_the_data_at_hand(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["score", "--proxies", "--layers", 3, "--template", "log", "--template", "chain", "--seed", 4]
    flags += ["--batch-size", 8, "--train-examples", 64]
    done = command_line(*flags, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    split = split_data(DIGITS, 4, 64, "cpu")
    for row in rows:
        assert list(row) == [*SCORE_KEYS, *(f"proxy_{name}" for name in PROXIES)]
        candidate = Candidate(find_template(row["template"]).build(3), NetworkConfig(layers=3), 4)
        expected = measure_proxies(candidate, first_batch(split, 8, 4), 4)
        assert {name: row[f"proxy_{name}"] for name in PROXIES} == pytest.approx(expected, rel=1e-9)
    monkeypatch.setenv("COLUMNS", "80")
    shown = command_line(*flags).stdout
    tables = shown[shown.index("proxies") :].splitlines()
    assert max(map(len, tables)) <= 80
    assert all(any(name in line for line in tables) for name in PROXIES)
    assert f"{rows[0]['proxy_synflow']:.4g}" in "".join(tables)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dataset", "digits"], "--dataset is for the proxies"),
        (["--seed", 0], "--seed is for the proxies"),
        (["--proxies", "--image", "3x8x8"], "--image contradicts the data"),
        (["--proxies", "--classes", 7], "--classes contradicts the data"),
        (["--proxies", "--blocks", 5], "4 blocks"),
        (["--proxies", "--seed", -1], "seed: expected"),
        (["--proxies", "--dataset", "cifar-10"], "needs --data"),
    ],
)
def test_score_refuses_proxies_of_what_it_cannot_build(
    flags: list[object], said: str, command_line: CommandLine
) -> None:
    done = command_line("score", "--layers", 3, *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_networks_lists_the_papers_networks(command_line: CommandLine) -> None:
    done = command_line("networks", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(rows) == list(PRESETS)
    assert all({"name", "paper", "params", "flops", "differs"} <= set(row) for row in rows.values())
    small = rows["densenet-bc-100-12"]
    assert (small["params"], small["layers"], small["growth"], small["template"]) == (769_162, [16] * 3, 12, "dense")
    assert small["connections"] == 3 * 16 * 17 // 2
    # Log-DenseNet V1 is one pattern over all blocks: 36 layers, of which layer i reads floor(log2(i)) + 1.
    assert rows["log-densenet-v1-12-16"]["connections"] == sum(layer.bit_length() for layer in range(1, 37))
    assert all(row["flops"] == 2 * row["macs"] for row in rows.values())


def test_networks_prints_every_name_under_its_paper_and_every_difference(command_line: CommandLine) -> None:
    lines = command_line("networks", "--wide").stdout.splitlines()
    place = {line.split()[0]: number for number, line in enumerate(lines) if re.match(r"  \S", line)}
    assert place.keys() == PRESETS.keys()
    papers = [(number, line.strip()[:-1]) for number, line in enumerate(lines) if line.rstrip().endswith(":")]
    for preset in PRESETS.values():
        assert max(pair for pair in papers if pair[0] < place[preset.name])[1] == preset.paper
        marks = re.findall(rf"{preset.name} (\[\d+\])", lines[place[preset.name]])
        assert [line for line in lines for mark in marks if line.startswith(mark)] == [
            f"{mark} {preset.differs}" for mark in marks
        ]
        assert bool(marks) == bool(preset.differs)


def test_score_takes_a_published_network(command_line: CommandLine) -> None:
    (row,) = json.loads(command_line("score", "--network", "densenet-121", "--json").stdout)
    assert (row["network"], row["params"], row["template"]) == ("densenet-121", 7_978_856, "dense")
    surrounded = command_line("score", "--network", "densenet-bc-100-12", "--template", "log", "--json")
    (row,) = json.loads(surrounded.stdout)
    assert (row["network"], row["template"], row["connections"], row["layers"]) == ("densenet-bc-100-12", "log", 54, 16)
    (row,) = json.loads(command_line("score", "--network", "fractalnet", "--json").stdout)
    assert (row["params"], row["connections"]) == (33_724_618, 12)  # without chain connections that it lacks
    wrong = command_line("score", "--network", "densenet-122")
    assert wrong.returncode == 2
    assert "no network 'densenet-122'" in wrong.stderr


@pytest.mark.parametrize(("network", "is_said"), [("highway-19", True), ("resnet-20", False)])
def test_score_says_where_distances_are_not_those_of_the_gradient(
    network: str, is_said: bool, command_line: CommandLine
) -> None:
    done = command_line("score", "--network", network, "--growth", 2)
    assert done.returncode == 0
    assert ("the gradient may cross many" in " ".join(done.stdout.split())) is is_said


def test_flags_win_over_the_published_network(command_line: CommandLine) -> None:
    done = command_line("score", "--network", "densenet-bc-100-12", "--growth", 24, "--classes", 7, "--json")
    (row,) = json.loads(done.stdout)
    preset = PRESETS["densenet-bc-100-12"]
    network = preset.network.model_copy(update={"growth": 24, "classes": 7})
    assert row["params"] == predict_cost(Candidate(preset.pattern, network, 0, preset.template)).params


@pytest.mark.parametrize("seed", [1, 2])
def test_sample_draws_by_its_seed(seed: int, command_line: CommandLine, tmp_path: Path) -> None:
    flags = ["--layers", 8, "--budget", "total:16", "--cross", "span", "--bins", "2:3", "--per-cell", 2]
    done = command_line("sample", *flags, "--seed", seed, "--to", tmp_path)
    assert done.returncode == 0
    layout = Layout((Crossed("span", 1, Band(2.0, 3.0)),), 2, optima=0, uniform=0, seed=seed)
    drawn = lay_out(Budget(8, total=16), layout, []).members
    assert {folder.name for folder in tmp_path.iterdir()} == {member.pattern.key[:12] for member in drawn}
    low, high = find_reach(Budget(8, total=16), ["span"])["span"]
    assert f"span: {low:.4g} to {high:.4g} are reached at this budget" in done.stdout


def test_sample_takes_bins_for_each_measure_that_is_given_alone(command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line("sample", "--layers", 6, "--cross", "span", "--per-cell", 1, "--to", tmp_path, "--json")
    assert done.returncode == 0
    assert {tuple(row["cell"]) for row in json.loads(done.stdout)} <= {(0,), (1,), (2,)}
    assert StudyConfig(cross="span,mean_bd").bins == "3,3"
    assert StudyConfig(cross="span", bins="5").bins == "5"
    refused = command_line("sample", "--layers", 6, "--cross", "span", "--bins", "3,3", "--to", tmp_path)
    assert "bins '3,3' are for 2 measures" in refused.stderr


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["best.json"], "wrote best.json"),
        (["a/best.json"], "wrote a/best.json"),
        (["a/one", "a/two"], "wrote a: one, two"),
        (["a/b/one", "a/c/one"], "wrote 2 folders in a, each with: one"),
    ],
    ids=str,
)
def test_what_was_written_is_named(paths: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_written(make_console(), [*map(Path, paths)], ["verify", "x"])
    assert capsys.readouterr().out.splitlines()[0] == said


def test_sample_says_what_it_did_not_find(command_line: CommandLine, tmp_path: Path) -> None:
    flags = ["--layers", 8, "--budget", "log", "--cross", "mean_bd,walk_length", "--bins", "1.4:1.6:2,2:9:2"]
    done = command_line("sample", *flags, "--per-cell", 1, "--json", "--to", tmp_path / "some")
    rows = json.loads(done.stdout)
    assert 1 <= len(rows) < 4
    for row in rows:
        bd, walk = row["cell"]
        assert 1.4 + 0.1 * bd <= row["mean_bd"] <= 1.5 + 0.1 * bd
        assert 2 + 3.5 * walk <= row["walk_length"] <= 5.5 + 3.5 * walk
    assert done.stderr.count("not found: 1 of 1 patterns with ") == 4 - len(rows)
    nothing = command_line("sample", "--layers", 8, "--cross", "span", "--bins", "7:8", "--to", tmp_path / "none")
    assert nothing.returncode == 5
    assert "not found" in nothing.stderr
    assert not (tmp_path / "none").exists()


def test_sample_draws_wide_ones_from_the_whole_budget(command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line("sample", "--layers", 9, "--budget", "total:18", "--wide-draws", 5, "--json", "--to", tmp_path)
    rows = json.loads(done.stdout)
    drawn = [sample_wide(Budget(9, total=18), derive_generator(0, "wide", number)) for number in range(5)]
    assert [row["sources"] for row in rows] == [[list(inputs) for inputs in pattern.sources] for pattern in drawn]
    assert {folder.name for folder in tmp_path.iterdir()} == {pattern.key[:12] for pattern in drawn}


def test_sample_says_that_a_budget_has_no_more_patterns(command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line("sample", "--layers", 4, "--budget", "total:7", "--wide-draws", 25, "--to", tmp_path)
    assert "not found: 5 of 25 patterns" in done.stdout
    assert len(list(tmp_path.iterdir())) == Budget(4, total=7).n_patterns == 20


@pytest.mark.parametrize("flags", [["--cross", "span"], ["--bins", "3"], ["--per-cell", 2]])
def test_sample_draws_either_wide_ones_or_cells(command_line: CommandLine, tmp_path: Path, flags: list[object]) -> None:
    done = command_line("sample", "--layers", 8, "--wide-draws", 2, *flags, "--to", tmp_path / "drawn")
    assert done.returncode == 2
    assert "--wide-draws 2" in done.stderr
    assert not (tmp_path / "drawn").exists()


def test_score_of_a_network_loads_none_of_the_large_libraries() -> None:
    code = (
        "import sys, run_search; sys.argv[1:] = ['score', '--network', 'log-densenet-v1-12-16', '--json']\n"
        "try:\n    run_search.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'ray', 'optuna', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", ["years of work", '{"layers": 2, "sources": [[0], [0, 1]]}', "edited"])
def test_optimize_replaces_a_template_file_of_its_own_and_nothing_else(
    text: str, command_line: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "best.json"
    for _ in range(2):
        assert command_line("optimize", "--layers", 4, "--to", path).returncode == 0
    content = path.read_text().replace('"seed": 0', '"seed": 1').replace('"connections": ', '"connections": 1')
    path.write_text(content if text == "edited" else text)
    held = path.read_text()
    done = command_line("optimize", "--layers", 4, "--to", path)
    assert (done.returncode, done.stdout) == (4, "")
    assert str(path) in done.stderr
    assert path.read_text() == held


@pytest.mark.slow
def test_export_of_a_template_needs_no_run(command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line("export", "--template", "midpoint", "--layers", 6, "--to", tmp_path)
    assert done.returncode == 0
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {*FILES, "manifest.json"} - {"model.safetensors", "network.svg"}
    template = json.loads((folder / "template.json").read_text())
    assert (template["layers"], template["budget"], template["distances"]["max_bd"]) == (6, "total:10", 2)


def test_export_takes_a_template_a_file_or_a_published_network(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[tuple[ConnectionPattern, NetworkConfig, str, dict[str, Any]]] = []

    def export_folder(
        pattern: ConnectionPattern, network: NetworkConfig, budget: str, provenance: dict[str, Any], folder: Path
    ) -> Exported:
        exported.append((pattern, network, budget, provenance))
        return Exported(folder / "midpoint", [folder / "midpoint" / "template.json"], ["a note"])

    monkeypatch.setattr("nas.export.export.export_folder", export_folder)
    file = tmp_path / "mine.json"
    file.write_text('{"layers": 3, "sources": [[0], [1], [0, 2]]}')
    sizes = ["--growth", 6, "--image", "3x32x16", "--classes", 7]
    for flags in (
        ["--template", "midpoint", "--layers", 6, *sizes],
        ["--template", "nearest", "--layers", 4, "--budget", "total:6"],
        ["--pattern", file, "--layer", "bottleneck"],
        ["--network", "densenet-bc-100-12"],
    ):
        done = command_line("export", *flags, "--to", tmp_path / "out")
        assert (done.returncode, done.stderr) == (0, "")
        assert "a note" in done.stdout
        assert f"verify {tmp_path / 'out' / 'midpoint'}" in done.stdout.replace("\n", "")
    named, fitted, own, published = exported
    assert (named[0], named[2]) == (find_template("midpoint").build(6), "total:10")
    assert named[1] == NetworkConfig(layers=6, growth=6, image=(3, 32, 16), classes=7)
    assert named[3] == {"name": "midpoint", "origin": "named template"}
    assert (fitted[0].depth, fitted[0].n_connections, fitted[3]["name"]) == (4, 6, "nearest")
    assert (own[0].sources, own[1].layer, own[1].layers) == (((0,), (1,), (0, 2)), "bottleneck", 3)
    assert own[3] == {"name": None, "origin": "pattern file mine.json"}
    assert published[:2] == (PRESETS["densenet-bc-100-12"].pattern, PRESETS["densenet-bc-100-12"].network)


def test_correlate_says_what_splits_a_table_and_prints_no_p_of_0(command_line: CommandLine, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{i},{2 * i + 40 * (i % 2)},3,{'ab'[i % 2]},{24 + i // 12}" for i in range(24)]
    table.write_text("\n".join(["x,y,flat,regime,layers", *rows]))
    done = command_line("correlate", table, "--measure", "x,flat", "--outcome", "y", "--group", "regime")
    assert done.returncode == 0
    assert "--group regime,layers" in done.stderr
    assert "1.000" in done.stdout
    assert "<0.001" in done.stdout
    assert "0.000" not in done.stdout
    assert "flat is constant" in done.stdout


def test_score_shows_any_measure_and_says_what_it_is(command_line: CommandLine) -> None:
    done = command_line("score", "--layers", 6, "--template", "log", "--measures", "all")
    assert (done.returncode, done.stderr) == (0, "")
    for entry in list_measures():
        assert entry.name in done.stdout
    words = " ".join(done.stdout.replace("│", " ").split())
    assert "Mean number of layers that a random walk back from what the classifier reads visits" in words

    arguments = [
        "--layers",
        9,
        "--blocks",
        2,
        "--transition",
        "last",
        "--measures",
        "from_loss_mean,least_visit",
        "--json",
    ]
    rows = json.loads(command_line("score", *arguments).stdout)
    assert [row["template"] for row in rows] == list(TEMPLATES)
    for row in rows:
        pattern = find_template(row["template"]).build(9)
        # Of one block; without --measures it is of the whole network, here of two.
        expected = {name: SECOND[name](pattern, (9,)) for name in ("from_loss_mean", "least_visit")}
        assert row["measures"] == pytest.approx(expected)
        assert row["from_loss_mean"] > row["measures"]["from_loss_mean"]


def test_measures_of_several_patterns_are_all_in_a_pipe(command_line: CommandLine) -> None:
    done = command_line("score", "--layers", 6, "--measures", "all")
    assert done.returncode == 0
    for name in (*TEMPLATES, *(entry.name for entry in list_measures())):
        assert name in done.stdout


def test_a_measure_that_there_is_not_is_refused(command_line: CommandLine) -> None:
    done = command_line("score", "--layers", 6, "--measures", "span,walk_lenght")
    assert done.returncode == 2
    assert "'walk_lenght'" in done.stderr
    assert "walk_length" in done.stderr
