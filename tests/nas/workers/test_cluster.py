"""What a Ray can hold, and what is said where it cannot; real clusters are in faults/."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nas.settings.search import SearchConfig
from search_spaces.errors import MachineError

cluster = pytest.importorskip("nas.workers.cluster")


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody answered at every address."""
    monkeypatch.setattr(cluster, "_knock", lambda _: None)
    monkeypatch.setattr(cluster, "_greet", lambda _: None)


@pytest.mark.parametrize("form", ["{}:{}", "ray://{}:{}"])
def test_where_nobody_answers_is_told_at_once(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    joined: list[dict[str, Any]] = []
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [_node(CPU=4)])
    monkeypatch.setattr(cluster.ray, "init", lambda **arguments: joined.append(arguments))
    with socket.create_server(("127.0.0.1", 0)) as server, monkeypatch.context() as patch:
        patch.setattr(cluster, "_greet", cluster._knock)  # what listens here is mute
        address = form.format(*server.getsockname())
        assert cluster.start_ray(SearchConfig(device="cpu", ray_address=address), 1) == 1
    with pytest.raises(MachineError, match=f"no Ray cluster can be joined at {address} .*refused"):
        cluster.start_ray(SearchConfig(device="cpu", ray_address=address), 1)
    assert len(joined) == 1


@pytest.mark.parametrize(
    "address",
    ["head", "head:", ":6379", "head:ray", "127.0.0.1:99999999", "127.0.0.1", "10.0.0.1:" + "9" * 5000],
    ids=lambda address: address[:20],
)
def test_an_address_that_is_not_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(MachineError, match="HOST:PORT"):
        cluster.start_ray(SearchConfig(device="cpu", ray_address=address), "auto")


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


class _Server:
    """Somebody who answers at an address, until it is closed."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        host, self.port = self.socket.getsockname()
        self.address = f"{host}:{self.port}"

    def node(self, name: str, alive: bool = True) -> dict[str, Any]:
        return {
            **_node(alive, CPU=2),
            "NodeID": name,
            "NodeManagerAddress": "127.0.0.1",
            "NodeManagerHostname": f"host-{name}",
            "NodeManagerPort": self.port,
        }


@dataclass
class _Context:
    gcs_address: str

    def get_node_id(self) -> str:
        return "own"


@pytest.fixture
def servers() -> Iterator[list[_Server]]:
    """Of the head process, of the driver's own node, and of two other nodes."""
    servers = [_Server() for _ in range(4)]
    yield servers
    for server in servers:
        server.socket.close()


@pytest.fixture
def pulse(monkeypatch: pytest.MonkeyPatch, servers: list[_Server]) -> Any:
    head, own, *others = servers
    nodes = [own.node("own"), *(server.node(name) for name, server in zip("ab", others, strict=True))]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [*nodes, {**_node(False), "NodeID": "gone before"}])
    monkeypatch.setattr(cluster.ray, "get_runtime_context", lambda: _Context(head.address))
    monkeypatch.setattr(cluster, "PULSE_SECONDS", 0.0)
    return cluster.Pulse(SearchConfig(device="cpu", ray_address=head.address))


@pytest.mark.parametrize("place", [0, 1])
def test_a_ray_whose_head_or_node_process_has_ended_is_told(pulse: Any, servers: list[_Server], place: int) -> None:
    pulse.check(at_once=True)
    servers[place].socket.close()
    with pytest.raises(cluster.LostRayError, match=servers[place].address) as caught:
        pulse.check()
    assert caught.value.exit_code == 3


def test_a_dead_node_excuses_as_many_workers_as_it_held(pulse: Any, servers: list[_Server], caplog: Any) -> None:
    assert pulse.find_dead_node() is None
    servers[2].socket.close()
    assert [pulse.find_dead_node() for _ in range(3)] == ["host-a (127.0.0.1)", "host-a (127.0.0.1)", None]
    assert caplog.text.count("node host-a (127.0.0.1) of the cluster died") == 1


def test_a_cluster_that_has_lost_all_that_could_hold_a_worker_ends_the_run(
    pulse: Any, servers: list[_Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers[2].socket.close()
    servers[3].socket.close()
    own = {**servers[1].node("own"), "Resources": {}}  # a head that trains nothing
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [own, servers[2].node("a"), servers[3].node("b", alive=False)])
    with pytest.raises(cluster.LostRayError, match="last node"):
        pulse.find_dead_node()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_port_where_no_ray_listens_is_refused_at_once(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.workers.cluster.CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(MachineError, match=address):
            cluster.start_ray(SearchConfig(ray_address=address), "auto")
        thread.join()
