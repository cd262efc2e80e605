"""Checkpoints of half-trained networks: one file a candidate, hashed, and bound to what is trained."""

import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.records.safe_files import write_atomic
from search_spaces.errors import InputError

FOLDER = "checkpoints"  # in the run directory
WEIGHTS = "weights"  # in the directory of a final training
SCRATCH = ".skipsearch-tune"  # in the run directory: Ray Tune's own files; no user has such a folder
_HEADER = b"skipsearch checkpoint 1\n"
_N_HEX = 64  # digits of a SHA-256


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training at the end of an epoch.

    Args:
        network: the network's state_dict.
        optimizer: the optimiser's state_dict.
        curve: one row a finished epoch; see records.trial.Outcome.
        seconds: training time so far.
    """

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    curve: list[dict[str, float]]
    seconds: float


@dataclass(slots=True)
class Slot:
    """The file of one candidate's checkpoints, each of which replaces the one before.

    Args:
        path: path of the file, whose folder is made at the first write.
        identity: hash of what is trained; see Trainer. A checkpoint of another identity is refused.
        every_seconds: least training time from one checkpoint to the next.
    """

    path: Path
    identity: str
    every_seconds: float
    _written: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        """Whether every_seconds have passed since the last checkpoint, or since the slot was made."""
        return time.monotonic() - self._written >= self.every_seconds

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the file; at any moment it is the old checkpoint or the new, never part of one."""
        stream = io.BytesIO()
        values = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
        torch.save({"identity": self.identity, **values}, stream)
        payload = stream.getvalue()
        digest = hashlib.sha256(payload).hexdigest().encode()
        write_atomic(self.path, _HEADER + digest + b"\n" + payload)
        self._written = time.monotonic()

    def read(self, device: str) -> Checkpoint | None:
        """Read the checkpoint, its tensors on the device; None if there is none.

        Raises:
            InputError: the file is damaged, foreign, or the checkpoint of another training.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        values = _decode(self.path, content, device)
        if values.pop("identity", None) != self.identity:
            raise InputError(f"{self.path} is the checkpoint of another training")
        try:
            return Checkpoint(**values)
        except TypeError as error:
            raise InputError(f"{self.path} is no checkpoint: {error}") from None

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def _decode(path: Path, content: bytes, device: str) -> dict[str, Any]:
    """Return a file's content after checking its hash: no byte of a damaged one is unpickled."""
    start = len(_HEADER) + _N_HEX + 1
    digest, payload = content[len(_HEADER) : start], content[start:]
    if not content.startswith(_HEADER) or hashlib.sha256(payload).hexdigest().encode() + b"\n" != digest:
        raise InputError(f"{path} is damaged, or no checkpoint")
    try:
        # weights_only: tensors and plain values, nothing that executes.
        values = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch.load raises nearly anything for a foreign payload
        raise InputError(f"{path} is no checkpoint: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is no checkpoint: its content is a {type(values).__name__}")
    return values


def slot_path(run: Path, number: int) -> Path:
    """Return the path of a candidate's checkpoint."""
    return run / FOLDER / f"{number:06d}.pt"


def read_digest(path: Path) -> str | None:
    """Return the hash at the start of a checkpoint's file, which changes every epoch; None if there is no file."""
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_HEADER) + _N_HEX)
    except FileNotFoundError:
        return None
    return head[len(_HEADER) :].decode(errors="replace")


def weights_path(run: Path, number: int) -> Path:
    """Return the path of a candidate's trained weights, if they are kept."""
    return run / WEIGHTS / f"{number:06d}.pt"


def write_weights(path: Path, network: nn.Module, normalisation: Mapping[str, Sequence[float]]) -> None:
    """Write a trained network's state_dict and the normalisation of the images that it was trained on."""
    stream = io.BytesIO()
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    torch.save({"weights": weights, "normalisation": {name: list(v) for name, v in normalisation.items()}}, stream)
    write_atomic(path, stream.getvalue())


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, list[float]]] | None:
    """Read what write_weights wrote; None if there is no such file."""
    if not path.exists():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    return content["weights"], content["normalisation"]
