"""Checkpoints: what is written comes back, and nothing else is ever taken for one, or run."""

import hashlib
import io
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nas.training.checkpoints import Checkpoint, Slot, slot_path
from search_spaces.errors import InputError

IDENTITY = "what is trained"
HEADER = b"skipsearch checkpoint 1\n"
CURVE = [{"epoch": 1, "train_loss": 2.25}, {"epoch": 2, "train_loss": 1 / 3, "validation_loss": 1.5}]


def make_checkpoint(seed: int = 0) -> Checkpoint:
    """Of a network after a step, so that the optimizer holds its momentum."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    network(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return Checkpoint(network.state_dict(), optimizer.state_dict(), CURVE, 12.5)


def is_same(one: Any, other: Any) -> bool:
    """Equality to the last bit, of tensors within dicts and lists too."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and bool(one == other)


def seal(payload: bytes) -> bytes:
    """A file with the right header and hash, whatever is in it."""
    return HEADER + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def dump(values: object) -> bytes:
    stream = io.BytesIO()
    torch.save(values, stream)
    return stream.getvalue()


class Bomb:
    """Its pickle touches a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(slot_path(tmp_path, 7), IDENTITY, 10)


def test_a_checkpoint_comes_back_to_the_last_bit(slot: Slot) -> None:
    written = make_checkpoint()
    momenta = [state["momentum_buffer"] for state in written.optimizer["state"].values()]
    assert len(momenta) == 4
    assert any(momentum.abs().sum() > 0 for momentum in momenta)
    slot.write(written)
    held = slot.read("cpu")
    assert held is not None
    for name in ("network", "optimizer", "curve", "seconds"):
        assert is_same(getattr(held, name), getattr(written, name))
    other = make_checkpoint(seed=1)
    assert not is_same(held.network, other.network)
    slot.write(other)
    again = slot.read("cpu")
    assert again is not None
    assert is_same(again.network, other.network)


def test_tensors_come_back_on_the_device_asked_for(slot: Slot) -> None:
    slot.write(make_checkpoint())
    held = slot.read("meta")
    assert held is not None
    assert {tensor.device.type for tensor in held.network.values()} == {"meta"}


def test_each_candidate_has_a_file_in_a_folder_of_the_run(tmp_path: Path) -> None:
    assert slot_path(tmp_path, 7) == tmp_path / "checkpoints" / "000007.pt"
    assert slot_path(tmp_path, 1234567) == tmp_path / "checkpoints" / "1234567.pt"


def test_a_file_is_header_hash_and_payload(slot: Slot) -> None:
    slot.write(make_checkpoint())
    content = slot.path.read_bytes()
    assert content == seal(content[len(HEADER) + 65 :])


def test_no_file_is_no_checkpoint_and_a_cleared_one_is_gone(slot: Slot) -> None:
    assert slot.read("cpu") is None
    slot.clear()
    slot.write(make_checkpoint())
    slot.clear()
    assert slot.read("cpu") is None
    assert list(slot.path.parent.iterdir()) == []


@pytest.mark.parametrize("place", [0, 10, 23, 24, 50, 87, 88, 89, 90, 1000, -500, -1])
def test_one_changed_bit_anywhere_is_refused(slot: Slot, place: int) -> None:
    """Header: bytes 0 to 23; hash: 24 to 87; the end of its line: 88; payload: the rest."""
    slot.write(make_checkpoint())
    content = bytearray(slot.path.read_bytes())
    content[place] ^= 0x20
    slot.path.write_bytes(content)
    with pytest.raises(InputError, match=r"000007\.pt is damaged, or no checkpoint"):
        slot.read("cpu")


@pytest.mark.parametrize("length", [0, 1, 23, 24, 60, 88, 89, 90, 2000, -1])
def test_a_file_cut_short_is_refused(slot: Slot, length: int) -> None:
    slot.write(make_checkpoint())
    content = slot.path.read_bytes()
    assert len(content) > 2000
    slot.path.write_bytes(content[:length])
    with pytest.raises(InputError, match="damaged, or no checkpoint"):
        slot.read("cpu")


def test_a_file_with_more_at_its_end_is_refused(slot: Slot) -> None:
    slot.write(make_checkpoint())
    slot.path.write_bytes(slot.path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="damaged, or no checkpoint"):
        slot.read("cpu")


def test_a_plain_pickle_is_refused_and_not_run(slot: Slot, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    bomb = pickle.dumps(Bomb(marker))
    pickle.loads(bomb)  # noqa: S301  it does go off
    assert marker.exists()
    marker.unlink()
    slot.path.parent.mkdir()
    for content in (bomb, dump(Bomb(marker)), HEADER + bomb, HEADER + b"0" * 64 + b"\n" + bomb):
        slot.path.write_bytes(content)
        with pytest.raises(InputError, match="damaged, or no checkpoint"):
            slot.read("cpu")
    assert not marker.exists()


@pytest.mark.parametrize("form", ["pickle", "torch", "in a field"])
def test_a_pickle_with_the_right_hash_is_refused_and_not_run(slot: Slot, tmp_path: Path, form: str) -> None:
    marker = tmp_path / "marker"
    fields = {"identity": IDENTITY, "network": {}, "optimizer": {}, "curve": [], "seconds": Bomb(marker)}
    payload = {
        "pickle": pickle.dumps(Bomb(marker), protocol=2),
        "torch": dump(Bomb(marker)),
        "in a field": dump(fields),
    }[form]
    if form != "pickle":
        torch.load(io.BytesIO(payload), weights_only=False)  # it does go off
        assert marker.exists()
        marker.unlink()
    slot.path.parent.mkdir()
    slot.path.write_bytes(seal(payload))
    with pytest.raises(InputError, match="is no checkpoint"):
        slot.read("cpu")
    assert not marker.exists()


FIELDS: dict[str, Any] = {"identity": IDENTITY, "network": {}, "optimizer": {}, "curve": [], "seconds": 0.0}
NUMBERED: dict[Any, Any] = {**FIELDS, 5: 6}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "is no checkpoint"),
        (b"garbage", "is no checkpoint"),
        (pickle.dumps(5, protocol=2), "is no checkpoint"),
        (b"\x80\x02.", "is no checkpoint"),  # each of the next three makes torch.load raise an error of another kind
        (b"\x80\x02ccaf\xe9\n", "is no checkpoint"),
        (dump(FIELDS).replace(b"little", b"riddle"), "is no checkpoint"),
        (dump(5), "is a int"),
        (dump([FIELDS]), "is a list"),
        (dump(torch.zeros(2)), "is a Tensor"),
        (dump({**FIELDS, "identity": "another"}), "checkpoint of another training"),
        (dump({**FIELDS, "identity": None}), "checkpoint of another training"),
        (dump({name: FIELDS[name] for name in FIELDS if name != "identity"}), "checkpoint of another training"),
        (dump({name: FIELDS[name] for name in FIELDS if name != "optimizer"}), "is no checkpoint: .*optimizer"),
        (dump({**FIELDS, "code": "rm"}), "is no checkpoint: .*code"),
        (dump(NUMBERED), "is no checkpoint: .*string"),
        (dump(FIELDS)[:-40], "is no checkpoint"),
    ],
)
def test_a_payload_of_another_form_is_refused(slot: Slot, payload: bytes, reason: str) -> None:
    slot.path.parent.mkdir()
    slot.path.write_bytes(seal(dump(FIELDS)))
    assert slot.read("cpu") == Checkpoint({}, {}, [], 0.0)
    slot.path.write_bytes(seal(payload))
    with pytest.raises(InputError, match=reason):
        slot.read("cpu")


def test_a_checkpoint_of_something_else_is_refused(slot: Slot) -> None:
    slot.write(make_checkpoint())
    with pytest.raises(InputError, match="is the checkpoint of another training"):
        Slot(slot.path, "something else", 10).read("cpu")
    assert Slot(slot.path, IDENTITY, 99).read("cpu") is not None


def test_a_checkpoint_is_due_so_many_seconds_after_the_last(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    now = slot._written

    def wait(seconds: float) -> bool:
        nonlocal now
        now += seconds
        monkeypatch.setattr(time, "monotonic", lambda: now)
        return slot.is_due

    assert [wait(0), wait(9.5), wait(1)] == [False, False, True]
    slot.write(make_checkpoint())
    assert [wait(0), wait(9.5), wait(1), wait(100)] == [False, False, True, True]


def test_without_a_wait_a_checkpoint_is_always_due(slot: Slot) -> None:
    eager = Slot(slot.path, IDENTITY, 0)
    assert eager.is_due
    eager.write(make_checkpoint())
    assert eager.is_due


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_checkpoint_and_no_litter(
    slot: Slot, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    slot.write(make_checkpoint())
    before = slot.path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path if step == "replace" else os, step, refuse)
        with pytest.raises(OSError, match="No space left"):
            slot.write(make_checkpoint(seed=1))
    assert slot.path.read_bytes() == before
    assert list(slot.path.parent.iterdir()) == [slot.path]
