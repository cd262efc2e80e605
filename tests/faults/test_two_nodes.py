"""A search on a Ray cluster of two nodes: one is lost, and what it trained goes on from its checkpoint."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.driving import load_trials
from tests.support.small import ROOT

# A cluster in a process of its own: it says its address, kills its second node when told to, and ends with its input.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1, env_vars=dict(PYTHONPATH=sys.argv[1]) if sys.argv[1:] else {})
cluster.wait_for_nodes()
print(cluster.address, flush=True)
if sys.stdin.readline():
    cluster.remove_node(second, allow_graceful=False)
    print("killed", flush=True)
    sys.stdin.readline()
cluster.shutdown()
"""
SEARCH = (
    "--layers 12 --strategy random --trials 2 --seeds 2 --no-templates --train-examples 300 --device cpu "
    "--checkpoint-seconds 0"
)


class TwoNodes:
    """A cluster of two nodes with one core each, in processes of its own."""

    def __init__(self, environment: dict[str, str], *second: str) -> None:
        self.environment = environment
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, *second],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.address = self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill_second_node(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        assert self._read() == "killed"

    def end(self) -> None:
        self._process.communicate(timeout=300)
        assert self._process.returncode == 0

    def start_search(self, run: Path, *flags: str, address: str | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(run), *SEARCH.split(), *flags]
        return subprocess.Popen(
            [*command, "--ray-address", address or self.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )


def _environment(**changes: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**inherited, "RAY_USAGE_STATS_ENABLED": "0", **changes}


@pytest.fixture
def safe_cluster(tmp_path: Path) -> Iterator[TwoNodes]:
    """With token authentication."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    cluster = TwoNodes(_environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token)))
    yield cluster
    cluster.end()


@pytest.fixture
def open_cluster() -> Iterator[TwoNodes]:
    """Without authentication."""
    cluster = TwoNodes(_environment(RAY_AUTH_MODE="disabled"))
    yield cluster
    cluster.end()


def _wait_for(found: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


@pytest.mark.slow
def test_what_a_lost_node_trained_goes_on_from_its_checkpoint(tmp_path: Path, safe_cluster: TwoNodes) -> None:
    run = tmp_path / "run"
    process = safe_cluster.start_search(run, "--epochs", "60")
    _wait_for(lambda: len(list(run.glob("checkpoints/*.pt"))) == 2, process)
    safe_cluster.kill_second_node()
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "token authentication" not in out + error
    assert "as many at a time as fit on cpu with fused layers at" in out
    assert (out + error).count("of the cluster died: what it trained continues on other nodes") == 1
    trials = load_trials(run)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    taken_up = [trial for trial in trials if "~attempts" in trial.user_attrs]
    assert len(taken_up) == 1
    assert not taken_up[0].user_attrs["~attempts"]["lost"]
    outcome = taken_up[0].user_attrs["~outcome"]
    assert outcome["resumed_epoch"] >= 1
    assert outcome["checkpoint_error"] is None
    serial = tmp_path / "serial"
    command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(serial), *SEARCH.split()]
    subprocess.run([*command, "--epochs", "60", "--workers", "1"], check=True, capture_output=True)
    assert {
        (t.user_attrs["~candidate"]["key"], t.user_attrs["~candidate"]["seed"]): t.value for t in load_trials(serial)
    } == {(t.user_attrs["~candidate"]["key"], t.user_attrs["~candidate"]["seed"]): t.value for t in trials}


@pytest.mark.slow
def test_a_cluster_is_refused_what_it_cannot_hold_and_warned_of_where_it_is_open(
    tmp_path: Path, open_cluster: TwoNodes
) -> None:
    process = open_cluster.start_search(tmp_path / "many", "--epochs", "1", "--workers", "3")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "can hold 2 at a time: give --workers 2" in error
    process = open_cluster.start_search(tmp_path / "gpu", "--epochs", "1", "--device", "cuda")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "1 CPU and 1 GPU" in error
    process = open_cluster.start_search(tmp_path / "fits", "--epochs", "1", "--workers", "2")
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "runs without token authentication" in out + error
    process = open_cluster.start_search(tmp_path / "nobody", "--epochs", "1", address="127.0.0.1:1")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 3
    assert "no Ray cluster can be joined at 127.0.0.1:1" in error


def _copy_sources(folder: Path) -> Path:
    """Another source tree, for a node that has this folder on its path: it imports the packages from there."""
    for name in ("nas", "search_spaces"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport nas, search_spaces\ndel sys.path[0]\n"
    (folder / "sitecustomize.py").write_text(text)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["changed", "older"])
def test_a_node_of_another_version_is_refused_before_anything_is_trained(tmp_path: Path, kind: str) -> None:
    other = _copy_sources(tmp_path / "other")
    changed = other / "nas" / ("training/train.py" if kind == "changed" else "workers/identity.py")
    if kind == "changed":
        changed.write_text(changed.read_text().replace("WARM_UP_SHARE = 0.", "WARM_UP_SHARE = 0.0"))
    else:
        changed.write_text("")  # not removed: an installed skipsearch would fill the gap
    cluster = TwoNodes(_environment(RAY_AUTH_MODE="disabled"), str(other))
    try:
        process = cluster.start_search(tmp_path / "run", "--epochs", "1")
        out, error = process.communicate(timeout=300)
        assert process.returncode == 3, error
        told = error.splitlines()[-1]
        assert told.startswith("error: node ")
        assert re.search(
            "sources of hash [0-9a-f]{12}, .* has [0-9a-f]{12}" if kind == "changed" else "no skipsearch", told
        )
        assert "to continue" in out
        assert not load_trials(tmp_path / "run")
    finally:
        cluster.end()
