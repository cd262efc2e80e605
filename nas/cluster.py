"""The Ray that a run trains on: started on this machine or joined, and what it can hold."""

import logging
import math
import os
import socket
from typing import Any, Literal

import ray
import torch

from nas.config import SearchConfig
from search_spaces.errors import MachineError

ANSWERS_WITHIN = 10.0  # seconds
logger = logging.getLogger(__name__)


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
        # "local": never join a cluster that somebody else runs on this machine.
        ray.init(address="local", num_cpus=n_workers, num_gpus=n_gpus, include_dashboard=False, **quiet)
        return
    try:
        _knock(address)
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
    """Fail at once where nobody answers: ray.init would try for minutes.

    Raises:
        OSError: no connection.
        ValueError: no HOST:PORT.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("it is not of the form HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN).close()


def share_gpus(config: SearchConfig) -> float:
    """GPUs of one worker."""
    return (config.gpus_per_worker or 1.0) if config.device == "cuda" else 0.0


def _count_slots(config: SearchConfig) -> int:
    """How many workers the nodes that are alive can hold at a time."""
    share = share_gpus(config)
    slots = 0
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        resources = node["Resources"] if node["Alive"] else {}
        n_gpus = resources.get("GPU", 0)
        on_gpus = math.inf if share == 0 else n_gpus * int(1 / share) if share < 1 else n_gpus // share
        slots += int(min(resources.get("CPU", 0), on_gpus))
    return slots


def _describe_shortage(config: SearchConfig, n_workers: int | str, capacity: int) -> str:
    share = share_gpus(config)
    where = config.ray_address or "this machine"
    needs = "1 CPU" + (f" and {share:g} GPU" if share else "")
    return f"{n_workers} workers of {needs} each were asked for, and {where} can hold {capacity} at a time: give " + (
        f"--workers {capacity}" if capacity else "--device cpu, or a smaller --gpus-per-worker"
    )
