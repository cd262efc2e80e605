"""The Ray that a run trains on: started on this machine or joined, and what it can hold."""

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

ANSWERS_WITHIN = 10.0  # seconds
# Ray's servers speak gRPC: whoever greets them by HTTP/2 (RFC 9113, section 3.4) is sent their settings first.
SETTINGS_FRAME = b"\x04"
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS_FRAME + b"\0\0\0\0\0"
TELLS_WITHIN = 120.0  # seconds: a worker starts, and imports torch
PULSE_SECONDS = 1.0  # from one look whether Ray is alive to the next
logger = logging.getLogger(__name__)


class LostRayError(MachineError):
    """The Ray that a run trains on has ended under it."""


class Pulse:
    """Whether the Ray that this process has started or joined is still alive.

    Ray itself waits for a minute for processes of its own that are gone, and then ends this process without a word.
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
        self._looked = time.monotonic()
        self._gone = {name for name, node in nodes.items() if not node["Alive"]}
        self._slots = {name: _count_slots_of(config, node) for name, node in nodes.items()}
        self._excused: dict[str, int] = {}  # dead node -> how many workers may have gone down with it, unseen so far

    def check(self, at_once: bool = False) -> None:
        """Knock at both processes, unless that was done a moment ago.

        Args:
            at_once: knock in any case.

        Raises:
            LostRayError: one of them does not answer, twice.
        """
        if not at_once and time.monotonic() - self._looked < PULSE_SECONDS:
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
                        "the same command goes on, and no candidate was charged an attempt for it"
                    ) from None
        self._looked = time.monotonic()

    def find_dead_node(self) -> str | None:
        """The name of a node that died a moment ago, if one did and a worker that was lost can have been on it.

        Ray itself knows so only seconds later, when it has told of the worker.

        Raises:
            LostRayError: no node is left that can hold a worker.
        """
        nodes = {node["NodeID"]: node for node in _list_nodes()}
        for name, node in nodes.items():
            if node["Alive"] and name not in self._excused:
                self._slots[name] = _count_slots_of(self._config, node)
        dead = {name for name, node in nodes.items() if name not in self._gone and not _answers(node)}
        for name in dead - self._excused.keys():
            self._excused[name] = self._slots.get(name, 1)
            logger.warning(
                "warning: node %s of the cluster died: what it trained goes on elsewhere, and it costs no attempt",
                _name(nodes[name]),
            )
        if not any(self._slots.get(name, 0) for name in nodes.keys() - dead - self._gone):
            raise LostRayError(
                f"the last node of the cluster at {self._config.ray_address} that can hold a worker has died: start "
                "one, and give the same command again; no candidate was charged an attempt for it"
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
    """Start a Ray of this run's own on this machine, or join the cluster at the address given.

    Returns:
        How many workers train at a time: n_workers, or for auto as many as the cluster can hold.

    Raises:
        MachineError: the cluster does not answer, or can never hold so many workers.
    """
    _connect(config, n_workers)
    capacity = _count_slots(config)
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
            # "local": never join a cluster that somebody else runs on this machine.
            ray.init(address="local", num_cpus=n_workers, num_gpus=n_gpus, include_dashboard=False, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, OSError) and error.filename:
                raise
            raise MachineError(
                f"Ray does not start on this machine, its files in {os.environ.get('RAY_TMPDIR', 'its own folder')} "
                f"({error}): --workers 1 does without it"
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
            "warning: the Ray cluster at %s runs without token authentication: whoever reaches its ports can run "
            "code on it. Set RAY_AUTH_MODE=token on all of its nodes; see the README",
            address,
        )


def _knock(address: str) -> None:
    """Fail at once where nobody answers.

    Raises:
        OSError: no connection.
        ValueError: no HOST:PORT.
    """
    _open(address).close()


def _greet(address: str) -> None:
    """Fail at once where something else than a Ray answers: ray.init would try for minutes.

    Raises:
        OSError: no connection, or no answer.
        ValueError: no HOST:PORT, or no Ray.
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
    return socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN)


def check_nodes(config: SearchConfig) -> None:
    """Ask every node of a cluster that can hold a worker what it computes with, before anything is trained.

    Raises:
        MachineError: it is not what this driver has, or the node does not answer.
    """
    device = config.device

    def describe() -> dict[str, str] | str:  # within a function, so that Ray sends its code and looks for no module
        try:
            from nas.workers.identity import describe_worker
        except ImportError as error:
            return str(error)
        return describe_worker(device)

    nodes = {node["NodeID"]: node for node in _list_nodes() if _count_slots_of(config, node)}
    asked = {}
    for name in nodes:
        there = NodeAffinitySchedulingStrategy(name, soft=False)
        asked[name] = ray.remote(num_cpus=0, max_retries=0)(describe).options(scheduling_strategy=there).remote()
    for name, answer in asked.items():
        node = _name(nodes[name])
        try:
            found = ray.get(answer, timeout=TELLS_WITHIN)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise MachineError(f"node {node} does not say which skipsearch it has ({reason}): look at it") from None
        if isinstance(found, str):
            raise MachineError(
                f"node {node} has no skipsearch of this version ({found}): install the same version on all nodes, "
                "and start Ray on them anew"
            )
        for told in check_worker(node, found, describe_worker(device), device):
            logger.warning("warning: %s", told)


def share_gpus(config: SearchConfig) -> float:
    """GPUs of one worker."""
    return (config.gpus_per_worker or 1.0) if config.device == "cuda" else 0.0


def _count_slots(config: SearchConfig) -> int:
    """How many workers the nodes that are alive can hold at a time."""
    return sum(_count_slots_of(config, node) for node in _list_nodes())


def _count_slots_of(config: SearchConfig, node: dict[str, Any]) -> int:
    """How many workers a node can hold at a time; none if it is dead."""
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
