"""What a Ray can hold, and what is said where it cannot; real clusters are in faults/."""

import socket
from typing import Any

import pytest

from nas.config import SearchConfig
from search_spaces.errors import MachineError

cluster = pytest.importorskip("nas.cluster")


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody answered at every address."""
    monkeypatch.setattr(cluster, "_knock", lambda _: None)


@pytest.mark.parametrize("form", ["{}:{}", "ray://{}:{}"])
def test_where_nobody_answers_is_told_at_once(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    joined: list[dict[str, Any]] = []
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [_node(CPU=4)])
    monkeypatch.setattr(cluster.ray, "init", lambda **arguments: joined.append(arguments))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = form.format(*server.getsockname())
        assert cluster.start_ray(SearchConfig(device="cpu", ray_address=address), 1) == 1
    with pytest.raises(MachineError, match=f"no Ray cluster can be joined at {address} .*refused"):
        cluster.start_ray(SearchConfig(device="cpu", ray_address=address), 1)
    assert len(joined) == 1


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:ray"])
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(MachineError, match="not of the form HOST:PORT"):
        cluster.start_ray(SearchConfig(device="cpu", ray_address=address), 1)


def _node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"memory": 1e9, **resources}}


@pytest.mark.parametrize(
    ("nodes", "device", "share", "expected"),
    [
        ([_node(CPU=4), _node(CPU=2), _node(False, CPU=8), _node()], "cpu", None, 6),
        ([_node(CPU=16, GPU=2), _node(CPU=8)], "cuda", None, 2),
        ([_node(CPU=16, GPU=2)], "cuda", 0.25, 8),
        ([_node(CPU=16, GPU=2)], "cuda", 0.4, 4),  # two on each card: no worker spans two
        ([_node(CPU=3, GPU=2)], "cuda", 0.25, 3),
        ([_node(CPU=16, GPU=1), _node(CPU=16, GPU=3)], "cuda", 2.0, 1),
    ],
)
@pytest.mark.usefixtures("answering")
def test_a_cluster_holds_what_fits_on_its_nodes(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, Any]], device: Any, share: float | None, expected: int
) -> None:
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(cluster.ray, "init", lambda **_: None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    config = SearchConfig(device=device, gpus_per_worker=share, ray_address="10.0.0.1:6379")
    assert cluster.start_ray(config, "auto") == expected
    assert cluster.start_ray(config, expected) == expected
    with pytest.raises(MachineError, match=f"10.0.0.1:6379 can hold {expected} at a time: give --workers {expected}"):
        cluster.start_ray(config, expected + 1)


@pytest.mark.usefixtures("answering")
def test_a_gpu_that_no_node_has_is_refused_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [_node(CPU=4)])
    monkeypatch.setattr(cluster.ray, "init", lambda **_: None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    config = SearchConfig(device="cuda", gpus_per_worker=0.5, ray_address="10.0.0.1:6379")
    with pytest.raises(MachineError, match=r"of 1 CPU and 0.5 GPU each .* can hold 0 .* give --device cpu"):
        cluster.start_ray(config, 2)


@pytest.mark.parametrize("mode", ["token", "disabled", None])
@pytest.mark.usefixtures("answering")
def test_a_cluster_without_authentication_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str | None
) -> None:
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [_node(CPU=4)])
    joined: list[dict[str, Any]] = []
    monkeypatch.setattr(cluster.ray, "init", lambda **arguments: joined.append(arguments))
    monkeypatch.setenv("RAY_AUTH_MODE", mode or "")
    cluster.start_ray(SearchConfig(device="cpu", ray_address="10.0.0.1:6379"), 1)
    assert ("without token authentication" in caplog.text) == (mode != "token")
    assert joined[0]["address"] == "10.0.0.1:6379"


def test_this_machine_never_joins_what_runs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[dict[str, Any]] = []
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [_node(CPU=2)])
    monkeypatch.setattr(cluster.ray, "init", lambda **arguments: joined.append(arguments))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.9:6379")
    assert cluster.start_ray(SearchConfig(device="cpu"), 2) == 2
    assert (joined[0]["address"], joined[0]["num_cpus"], joined[0]["num_gpus"]) == ("local", 2, 0)
