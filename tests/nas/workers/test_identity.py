"""What a worker computes with is compared with what the driver has, before anything of it is taken."""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import nas
import search_spaces
from nas.workers.identity import check_worker, describe_worker
from search_spaces.errors import MachineError

OWN = describe_worker("cpu")


def test_a_worker_tells_its_versions_and_a_hash_of_the_sources_that_it_imports() -> None:
    content = b""
    for package in (nas, search_spaces):
        folder = Path(str(package.__file__)).parent
        for path in sorted(file for kind in ("py", "cpp", "h") for file in folder.rglob(f"*.{kind}")):
            text = path.read_bytes()
            content += f"{path.relative_to(folder.parent).as_posix()} {len(text)}\n".encode() + text
    assert OWN["sources"] == hashlib.sha256(content).hexdigest()[:12]
    assert (OWN["python"], OWN["torch"]) == (platform.python_version(), version("torch").split("+")[0])
    assert OWN["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


def test_what_python_and_numba_cache_beside_the_sources_is_no_other_version() -> None:
    cache = Path(str(search_spaces.__file__)).parent / "__pycache__"
    cache.mkdir(exist_ok=True)
    written = cache / f"cached-{os.getpid()}.nbi"
    try:
        written.write_bytes(b"by numba")
        assert describe_worker.__wrapped__("cpu")["sources"] == OWN["sources"]
    finally:
        written.unlink()


@pytest.mark.parametrize("name", ["sources", "python", "torch"])
def test_another_version_is_refused_with_node_and_both_values(name: str) -> None:
    with pytest.raises(MachineError, match=r"node b7 \(10\.0\.0\.7\)") as caught:
        check_worker("b7 (10.0.0.7)", {**OWN, name: "0.0.1"}, OWN, "cpu")
    assert caught.value.exit_code == 3
    assert "0.0.1" in str(caught.value)
    assert OWN[name] in str(caught.value)


def test_a_worker_that_tells_nothing_is_of_another_version() -> None:
    with pytest.raises(MachineError, match="node b7"):
        check_worker("b7", None, OWN, "cpu")


def test_cuda_that_was_asked_for_must_be_there_and_the_drivers_own_device_does_not_count() -> None:
    with pytest.raises(MachineError, match=r"node b7 .*--device cuda"):
        check_worker("b7", {**OWN, "device": "cpu"}, OWN, "cuda")
    # A driver without a GPU has a build of torch without CUDA.
    own = {**OWN, "device": "cpu", "build": "2.13.0+cpu"}
    assert check_worker("b7", {**own, "device": "cuda", "build": "2.13.0+cu126", "gpu": "H200"}, own, "cuda") == []


@pytest.mark.parametrize(("key", "device"), [("processor", "cpu"), ("build", "cpu"), ("gpu", "cuda")])
def test_what_moves_figures_by_rounding_is_told_and_not_refused(key: str, device: str) -> None:
    own = {**OWN, "device": device, "gpu": "H200"}
    (told,) = check_worker("b7", {**own, key: "of yore"}, own, device)
    assert "b7" in told
    assert "of yore" in told
    assert own[key] in told
    assert check_worker("b7", own, own, device) == []
