"""The Ray that a run trains on: started here or joined, how many workers fit, whether it is alive."""

import logging
import math
import os
import socket
import time
from typing import Any, Literal

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nas.settings.search import SearchConfig
from nas.workers.identity import check_worker, describe_worker
from search_spaces.errors import MachineError

CONNECT_SECONDS = 10.0
# Ray's servers speak gRPC: greeted as HTTP/2 says (RFC 9113, section 3.4), they first send their settings.
SETTINGS_FRAME = b"\x04"
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS_FRAME + b"\0\0\0\0\0"
DESCRIBE_SECONDS = 120.0  # a worker has to start and to import torch
PULSE_SECONDS = 1.0  # between two checks that Ray is alive
logger = logging.getLogger(__name__)


class LostRayError(MachineError):
    """The Ray that a run trains on has ended during the run."""


class Pulse:
    """Checks that the Ray that this process has started or joined is alive.

    Ray itself waits a minute for its own dead processes, and then ends this process without a message.
    """

    def __init__(self, config: SearchConfig) -> None:
        self._config = config
        context = ray.get_runtime_context()
        nodes = {node["NodeID"]: node for node in _list_nodes()}
        own = nodes[context.get_node_id()]
        self._addresses = {
            "head process (GCS)": context.gcs_address,
            "node process (raylet)": _address(own),
        }
        self._checked_at = time.monotonic()
        self._dead_before = {name for name, node in nodes.items() if not node["Alive"]}
        self._slots = {name: _count_slots(config, node) for name, node in nodes.items()}
        self._excused: dict[str, int] = {}  # dead node -> how many lost workers can still be explained by its death

    def check(self, at_once: bool = False) -> None:
        """Connect to Ray's two processes, unless that was done less than PULSE_SECONDS ago.

        Args:
            at_once: connect in any case.

        Raises:
            LostRayError: one of them refused twice.
        """
        if not at_once and time.monotonic() - self._checked_at < PULSE_SECONDS:
            return
        for name, address in self._addresses.items():
            try:
                _knock(address)
            except OSError:
                time.sleep(PULSE_SECONDS)
                try:
                    _knock(address)
                except OSError as error:
                    raise LostRayError(
                        f"Ray's {name} at {address} has ended ({error.strerror or error}), killed or out of memory: "
                        "the same command continues the run, and no candidate lost an attempt"
                    ) from None
        self._checked_at = time.monotonic()

    def find_dead_node(self) -> str | None:
        """Return the name of a node that has just died and can have held a worker that was lost, or None.

        Ray reports the lost worker seconds before it knows that the node is dead.

        Raises:
            LostRayError: no node is left that can hold a worker.
        """
        nodes = {node["NodeID"]: node for node in _list_nodes()}
        for name, node in nodes.items():
            if node["Alive"] and name not in self._excused:
                self._slots[name] = _count_slots(self._config, node)
        dead = {name for name, node in nodes.items() if name not in self._dead_before and not _answers(node)}
        for name in dead - self._excused.keys():
            self._excused[name] = self._slots.get(name, 1)
            logger.warning(
                "warning: node %s of the cluster died: what it trained continues on other nodes and loses no attempt",
                _name(nodes[name]),
            )
        if not any(self._slots.get(name, 0) for name in nodes.keys() - dead - self._dead_before):
            raise LostRayError(
                f"the last node of the cluster at {self._config.ray_address} that can hold a worker has died: start "
                "one, and give the same command again; no candidate lost an attempt"
            )
        for name in dead:
            if self._excused[name]:
                self._excused[name] -= 1
                return _name(nodes[name])
        return None


def _list_nodes() -> list[dict[str, Any]]:
    return ray.nodes()  # type: ignore[no-untyped-call, no-any-return]


def _address(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _answers(node: dict[str, Any]) -> bool:
    if not node["Alive"]:
        return False
    try:
        _knock(_address(node))
    except OSError:
        return False
    return True


def start_ray(config: SearchConfig, n_workers: int | Literal["auto"]) -> int:
    """Start a Ray for this run on this machine, or join the cluster at the given address.

    Returns:
        Number of workers that train at a time: n_workers, or for auto as many as the cluster can hold.

    Raises:
        MachineError: the cluster does not answer, or cannot hold so many workers.
    """
    _connect(config, n_workers)
    capacity = sum(_count_slots(config, node) for node in _list_nodes())
    if capacity == 0 or (n_workers != "auto" and n_workers > capacity):
        raise MachineError(_describe_shortage(config, n_workers, capacity))
    return capacity if n_workers == "auto" else n_workers


def _connect(config: SearchConfig, n_workers: int | Literal["auto"]) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    address = config.ray_address
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        assert n_workers != "auto", "workers of this machine are resolved"
        n_gpus = torch.cuda.device_count() if config.device == "cuda" else 0
        try:
            # "local" never joins a cluster that somebody else runs on this machine.
            ray.init(address="local", num_cpus=n_workers, num_gpus=n_gpus, include_dashboard=False, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, OSError) and error.filename:
                raise
            raise MachineError(
                f"Ray does not start on this machine, its files in {os.environ.get('RAY_TMPDIR', 'its own folder')} "
                f"({error}): --workers 1 trains without Ray"
            ) from None
        return
    try:
        _greet(address)
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise MachineError(
            f"no Ray cluster can be joined at {address} ({error}): start this on one of its nodes, with the "
            "cluster's RAY_AUTH_MODE and token"
        ) from None
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        logger.warning(
            "warning: the Ray cluster at %s runs without token authentication: anybody who reaches its ports can run "
            "code on it. Set RAY_AUTH_MODE=token on all of its nodes; see docs/howto/cluster.md",
            address,
        )


def _knock(address: str) -> None:
    """Connect once, and fail at once if nobody answers.

    Raises:
        OSError: no connection.
        ValueError: the address is not HOST:PORT.
    """
    _open(address).close()


def _greet(address: str) -> None:
    """Fail at once if there is no Ray at the address: ray.init would try for minutes.

    Raises:
        OSError: no connection, or no answer.
        ValueError: the address is not HOST:PORT, or something else answers.
    """
    with _open(address) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() not in ("", "0", "false"):
            return
        connection.sendall(HTTP2_GREETING)
        answer = connection.recv(9)  # a frame's head: three bytes of length, then its type
        if answer[3:4] != SETTINGS_FRAME:
            raise ValueError("what answers there is no Ray")


def _open(address: str) -> socket.socket:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or len(port) > 5 or int(port) >= 2**16:
        raise ValueError("it is not of the form HOST:PORT")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS)


def check_nodes(config: SearchConfig) -> None:
    """Check that every node that can hold a worker computes with what this driver has.

    Raises:
        MachineError: a node differs, or does not answer.
    """
    device = config.device

    def describe() -> dict[str, str] | str:  # a local function: Ray then sends its code
        try:
            from nas.workers.identity import describe_worker
        except ImportError as error:
            return str(error)
        return describe_worker(device)

    nodes = {node["NodeID"]: node for node in _list_nodes() if _count_slots(config, node)}
    asked = {}
    for name in nodes:
        there = NodeAffinitySchedulingStrategy(name, soft=False)
        asked[name] = ray.remote(num_cpus=0, max_retries=0)(describe).options(scheduling_strategy=there).remote()
    for name, answer in asked.items():
        node = _name(nodes[name])
        try:
            theirs = ray.get(answer, timeout=DESCRIBE_SECONDS)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise MachineError(
                f"node {node} does not say which skipsearch it has ({reason}): check that node"
            ) from None
        if isinstance(theirs, str):
            raise MachineError(
                f"node {node} has no skipsearch of this version ({theirs}): install the same version on all nodes, "
                "and restart Ray on them"
            )
        for difference in check_worker(node, theirs, describe_worker(device), device):
            logger.warning("warning: %s", difference)


def share_gpus(config: SearchConfig) -> float:
    """Return the number of GPUs that one worker takes, maybe a fraction."""
    return (config.gpus_per_worker or 1.0) if config.device == "cuda" else 0.0


def _count_slots(config: SearchConfig, node: dict[str, Any]) -> int:
    """Return how many workers a node can hold at a time; 0 if it is dead."""
    share = share_gpus(config)
    resources = node["Resources"] if node["Alive"] else {}
    n_gpus = resources.get("GPU", 0)
    on_gpus = math.inf if share == 0 else n_gpus * int(1 / share) if share < 1 else n_gpus // share
    return int(min(resources.get("CPU", 0), on_gpus))


def _describe_shortage(config: SearchConfig, n_workers: int | str, capacity: int) -> str:
    share = share_gpus(config)
    where = config.ray_address or "this machine"
    needs = "1 CPU" + (f" and {share:g} GPU" if share else "")
    return f"{n_workers} workers of {needs} each were asked for, and {where} can hold {capacity} at a time: give " + (
        f"--workers {capacity}" if capacity else "--device cpu, or a smaller --gpus-per-worker"
    )
