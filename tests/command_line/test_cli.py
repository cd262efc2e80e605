"""The command line: what scripts rely on, and the exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.export.manifest import FILES
from search_spaces.templates import TEMPLATES
from tests.support.small import ROOT, CommandLine

SCORE_KEYS = "template layers connections mean_bd max_bd from_output_mean to_input_mean span".split()  # noqa: SIM905
SCORE_KEYS += ["max_in_degree", "max_out_degree", "params", "flops", "activation_bytes", "activation_bytes_efficient"]
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
    "loglog": (30, 3, 1.769),
    "harmonic": (22, 5, 2.179),
    "midpoint": (28, 2, 1.641),
    "greedy": (37, 3, 1.538),
    "annealed": (37, 2, 1.526),
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
    sizes = ["--blocks", 2, "--growth", 8, "--bottleneck", "--image", "3x32x32", "--classes", 100, "--json"]
    rows = json.loads(command_line("score", *arguments, *sizes).stdout)
    assert [(row["template"], row["connections"]) for row in rows] == [
        (str(file), 4),
        ("log:b=2,c=1", 5),
        ("random:7", 5),
    ]
    table = command_line("score", "--layers", 4, "--template", "dense").stdout
    assert "1.0000" in table
    assert "dense" in table


def test_networks_lists_the_papers_networks(command_line: CommandLine) -> None:
    done = command_line("networks", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert all({"name", "paper", "params", "differs"} <= set(row) for row in rows)
    params = {row["name"]: row["params"] for row in rows}
    assert (params["densenet-121"], params["densenet-bc-100-12"]) == (7_978_856, 769_162)
    assert "log-densenet-v2-52-32" in command_line("networks").stdout


def test_score_takes_a_published_network(command_line: CommandLine) -> None:
    (row,) = json.loads(command_line("score", "--network", "densenet-121", "--json").stdout)
    assert (row["network"], row["params"], row["template"]) == ("densenet-121", 7_978_856, "dense")
    surrounded = command_line("score", "--network", "densenet-bc-100-12", "--template", "log", "--json")
    (row,) = json.loads(surrounded.stdout)
    assert (row["network"], row["template"], row["connections"], row["layers"]) == ("densenet-bc-100-12", "log", 54, 16)
    wrong = command_line("score", "--network", "densenet-122")
    assert wrong.returncode == 2
    assert "no network 'densenet-122'" in wrong.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [("0.5;0.75", "--lr-drops 0.5;0.75: expected numbers"), ("0.75,0.5", "lr-drops: the shares must ascend")],
)
def test_drops_of_the_learning_rate_are_checked(
    command_line: CommandLine, tmp_path: Path, given: str, said: str
) -> None:
    done = command_line("search", "--run", tmp_path / "run", "--lr-drops", given)
    assert done.returncode == 2
    assert said in done.stderr


def test_score_of_a_network_loads_no_torch() -> None:
    code = (
        "import sys, run_search; sys.argv[1:] = ['score', '--network', 'log-densenet-v1-12-16', '--json']\n"
        "try:\n    run_search.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_networks_are_compared_and_teach_a_pattern(command_line: CommandLine, tmp_path: Path) -> None:
    run, small = tmp_path / "run", ["--layers", 4, "--blocks", 2, "--growth", 4, "--train-examples", 64, "--epochs", 1]
    small += ["--network", "dense", "--network", "log", "--network", "learned", "--seeds", 2, "--workers", 1]
    done = command_line("compare-networks", "--run", run, *small, "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"dense", "log", "learned"}
    assert all(row["n_seeds"] == 2 for row in rows.values())
    assert (run / "report" / "index.html").stat().st_size > 0
    again = command_line("compare-networks", "--run", run, "--json")
    assert json.loads(again.stdout) == json.loads(done.stdout)
    file = tmp_path / "learned.json"
    row = json.loads(command_line("pattern-from-strengths", "--run", run, "--to", file, "--json").stdout)
    assert row["sources"] == rows["learned"]["pattern"]
    assert command_line("verify", file).returncode == 0
    trained = tmp_path / "trained"
    flags = ["--run", trained, "--pattern", file, "--strategy", "templates", "--no-templates", *small[:2], *small[6:10]]
    assert command_line("search", *flags, "--seeds", 1, "--workers", 1).returncode == 0
    status = json.loads(command_line("search", "--run", trained, "--json").stdout.splitlines()[-1])
    assert (status["complete"], status["patterns"]) == (1, 1)
    assert command_line("strengths", "--run", run, "--to", tmp_path / "told").returncode == 0
    table = (tmp_path / "told" / "strengths.csv").read_text().splitlines()
    assert (table[0], len(table)) == ("source,target,relative_strength", 1 + 10)
    assert {path.name for path in (tmp_path / "told").iterdir()} >= {"heat_map.svg", "heat_map.png", "arcs.svg"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "arcs.svg").write_text("mine")
    refused = command_line("strengths", "--run", run, "--to", tmp_path / "mine")
    assert refused.returncode == 4
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]
    for command, said in (("search", "holds a comparison, not a search"), ("export", "compares networks of several")):
        refused = command_line(command, "--run", run)
        assert refused.returncode in (2, 4)
        assert said in refused.stderr


def test_a_run_from_search_to_export(command_line: CommandLine, small_flags: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = command_line("search", "--run", run, *small_flags, "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout.splitlines()[-1])
    assert set(status) == {"complete", "failed", "pruned", "running", "asked", "patterns", "best"}
    assert (status["complete"], status["asked"], status["patterns"], status["running"]) == (14, 14, 7, 0)
    assert "14/14" in done.stderr
    alone: dict[str, Any] = {"driver": None, "driver_deaths": {}}
    assert json.loads(command_line("status", "--run", run, "--json").stdout) == status | alone
    for name in ("index.html", "report.md", "candidates.csv", "summary.json"):
        assert (run / "report" / name).stat().st_size > 0
    best = run / "templates" / status["best"]["key"][:12] / "template.json"
    texts = {"template.json", "template.graphml", "template.dot", "template.svg", "model.py", "README.md"}
    assert {path.name for path in best.parent.iterdir()} == texts | {"manifest.json"}
    assert json.loads(best.read_text())["provenance"]["measured"]["n_seeds"] == 2
    (row,) = json.loads(command_line("score", "--pattern", best, "--json").stdout)
    assert row["mean_bd"] == status["best"]["mean_bd"]
    again = command_line("search", "--run", run)  # nothing left to train: report and templates alone
    assert again.returncode == 0
    assert "13/14" not in again.stdout
    changed = command_line("search", "--run", run, "--layers", 6)
    assert changed.returncode == 4
    assert "layers 5 there, 6 now" in changed.stderr
    assert command_line("report", "--run", run).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_says_how_to_go_on_and_does(
    command_line: CommandLine, small_flags: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(run), *small_flags, "--trials", "8"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("2/26"):
            break
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"to go on: python run_search.py search --run {run}" in rest
    status = json.loads(command_line("status", "--run", run, "--json").stdout)
    assert 2 <= status["complete"] < 26
    assert status["running"] <= 1
    done = command_line("search", "--run", run, "--json")
    status = json.loads(done.stdout.splitlines()[-1])
    assert (status["complete"], status["running"], status["asked"]) == (26, 0, 26)


@pytest.mark.slow
def test_a_killed_search_goes_on(command_line: CommandLine, small_flags: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(run), *small_flags, "--trials", "8"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (run / "study.db").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.kill()
    process.wait()
    done = command_line("search", "--run", run, *small_flags, "--trials", 8, "--json")
    status = json.loads(done.stdout.splitlines()[-1])
    assert (status["complete"], status["running"], status["asked"]) == (26, 0, 26)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["score", "--layers", "0"], 2, "layers: expected a whole number from 1 to 4096, got 0"),
        (["score", "--template", "denes"], 2, "no template is named 'denes'"),
        (["score", "--pattern", "nowhere.json"], 2, "no pattern file at nowhere.json"),
        (["score", "--image", "8x8"], 2, "--image 8x8: expected CxHxW"),
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


def test_debug_shows_the_traceback(command_line: CommandLine) -> None:
    done = command_line("score", "--template", "denes", "--debug")
    assert "Traceback" in done.stderr
    assert "InputError" in done.stderr


def test_a_folder_that_is_no_run_is_left_alone(
    command_line: CommandLine, small_flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = command_line("search", "--run", tmp_path, *small_flags)
    assert done.returncode == 4
    assert "holds other files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["years of work", '{"layers": 2, "sources": [[0], [0, 1]]}', "edited"])
def test_optimize_replaces_a_template_file_of_its_own_and_nothing_else(
    text: str, command_line: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "best.json"
    for _ in range(2):
        assert command_line("optimize", "--layers", 4, "--seconds", 1, "--to", path).returncode == 0
    content = path.read_text().replace('"seed": 0', '"seed": 1').replace('"connections": ', '"connections": 1')
    path.write_text(content if text == "edited" else text)
    held = path.read_text()
    done = command_line("optimize", "--layers", 4, "--to", path)
    assert (done.returncode, done.stdout) == (4, "")
    assert str(path) in done.stderr
    assert path.read_text() == held


def test_export_of_a_template_needs_no_run(command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line("export", "--template", "midpoint", "--layers", 6, "--to", tmp_path)
    assert done.returncode == 0
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {*FILES, "manifest.json"} - {"weights.pt", "network.svg"}
    template = json.loads((folder / "template.json").read_text())
    assert (template["layers"], template["budget"], template["distances"]["max_bd"]) == (6, "total:10", 2)


@pytest.mark.slow
def test_an_exported_pattern_is_exported_again(
    command_line: CommandLine, exported_folder: Path, tmp_path: Path
) -> None:
    again = command_line("export", "--pattern", exported_folder / "template.json", "--to", tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / exported_folder.name / "template.json").exists()


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


def test_a_run_says_its_data_first_and_takes_the_data_set_from_the_file(
    command_line: CommandLine, small_flags: list[str], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 200, (90, 8, 8, 4)).astype(np.uint8)
    labels = np.arange(90) % 3
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images[:30] // 2, y_test=labels[:30])
    flags = [*small_flags, "--train-examples", 30, "--strategy", "templates", "--seeds", 1, "--json"]
    done = command_line("search", "--run", tmp_path / "run", *flags, "--data", tmp_path / "mine.npz")
    assert done.returncode == 0, done.stderr
    first = done.stderr.splitlines()[0]
    assert first == "data: mine.npz, 4 x 8 x 8, 3 classes, 30 training and 30 validation images, 30 test images"
    refused = command_line("search", "--run", tmp_path / "other", *flags, "--dataset", "digits", "--data", "/nowhere")
    assert refused.returncode == 2
    assert "/nowhere" in refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--growth", 10_000, "--layers", 100], "GB"),
        (["--seeds", "nan"], "--seeds"),
        (["--workers", -1], "auto or a whole number from 1 to 4096, got -1"),
    ],
)
def test_what_no_machine_can_do_is_refused_in_words(
    command_line: CommandLine, tmp_path: Path, flags: list[Any], named: str
) -> None:
    done = command_line("search", "--run", tmp_path / "run", *flags)
    assert done.returncode == 2
    assert named in " ".join(done.stderr.split())
    assert not any(word in done.stderr for word in ("a bug of ours", "Input should", "to go on"))
    assert not (tmp_path / "run").exists()
