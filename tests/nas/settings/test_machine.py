"""What settings mean on a machine: its device, engine, cohort and workers."""

import os

import pytest

from nas.settings.machine import resolve_cohort, resolve_device, resolve_engine, resolve_workers
from search_spaces.errors import InputError, MachineError


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [resolve_device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(MachineError, match="no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [resolve_device(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]


def test_a_cluster_may_have_the_device_that_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [resolve_device(name, on_cluster=True) for name in ("auto", "cpu", "cuda")] == ["cpu", "cpu", "cuda"]


def test_workers_auto_is_one_a_core_or_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert resolve_workers("auto", "cpu") == 2
    assert resolve_workers("auto", "cuda") == 3
    assert resolve_workers(7, "cpu") == 7
    assert [resolve_workers("auto", "cuda", share) for share in (0.25, 0.4, 1, 2, 4)] == [12, 6, 3, 1, 1]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("advice", [None, "eager", "fused"])
def test_engine_auto_is_what_suits_the_machine(
    advice: str | None, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.settings.machine.read_advice", lambda _: advice and (advice, 8))
    monkeypatch.setattr("nas.settings.machine.load_library", lambda: compiled)
    fastest = "fused" if compiled and advice != "eager" else "eager"
    assert resolve_engine("auto", "cpu", can_fuse=True) == fastest
    assert resolve_engine("auto", "cpu", can_fuse=False) == "eager"
    assert resolve_engine("auto", "cuda", can_fuse=True) == (advice or "eager")
    assert resolve_cohort("auto", "cuda", is_single=False) == (8 if advice else 1)
    assert resolve_cohort("auto", "cuda", is_single=True) == 1
    assert resolve_cohort(3, "cuda", is_single=False) == 3


def test_engine_auto_builds_nothing_that_it_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> bool:
        raise AssertionError("the library was asked for")

    monkeypatch.setattr("nas.settings.machine.load_library", build)
    monkeypatch.setattr("nas.settings.machine.read_advice", lambda _: None)
    assert resolve_engine("auto", "cuda", can_fuse=True) == "eager"
    assert resolve_engine("auto", "cpu", can_fuse=False) == "eager"
    with pytest.raises(AssertionError, match="was asked for"):
        resolve_engine("auto", "cpu", can_fuse=True)
    monkeypatch.setattr("nas.settings.machine.read_advice", lambda _: ("eager", 1))
    assert resolve_engine("auto", "cpu", can_fuse=True) == "eager"


def test_fused_on_a_gpu_of_this_machine_needs_triton_and_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("nas.settings.machine.find_spec", lambda _: object())
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/gcc" if name == "gcc" else None)
    assert resolve_engine("fused", "cuda", can_fuse=True) == "fused"
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(MachineError, match=r"C compiler.*--engine eager"):
        resolve_engine("fused", "cuda", can_fuse=True)
    assert resolve_engine("fused", "cuda", can_fuse=False) == "fused"  # runs eagerly
    monkeypatch.delenv("CC")
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/cc" if name == "cc" else None)
    with pytest.raises(MachineError, match=r"C compiler.*--engine eager"):
        resolve_engine("fused", "cuda", can_fuse=True)
    assert resolve_engine("graph", "cuda", can_fuse=True) == "graph"
    monkeypatch.setattr("nas.settings.machine.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="came without it"):
        resolve_engine("fused", "cuda", can_fuse=True)


@pytest.mark.parametrize("advice", ["eager", "fused"])
@pytest.mark.parametrize("can_fuse", [False, True])
def test_an_engine_that_is_named_is_taken(advice: str, can_fuse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.settings.machine.read_advice", lambda _: advice and (advice, 8))
    monkeypatch.setattr("nas.settings.machine.load_library", lambda: False)
    assert resolve_engine("fused", "cpu", can_fuse) == "fused"
    assert resolve_engine("eager", "cpu", can_fuse) == "eager"
    for engine in ("eager", "fused", "graph"):
        for precision in ("float32", "bfloat16"):
            assert resolve_engine(engine, "cuda", can_fuse, precision) == engine
    with pytest.raises(InputError, match="CUDA graph"):
        resolve_engine("graph", "cpu", can_fuse)


@pytest.mark.parametrize("advice", [None, "eager", "fused"])
def test_bfloat16_is_fused_on_a_cpu_that_has_it(
    advice: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nas.settings.machine.read_advice", lambda _: advice and (advice, 8))
    monkeypatch.setattr("nas.settings.machine.load_library", lambda: True)
    monkeypatch.setattr("nas.settings.machine.has_bfloat16", lambda: True)
    assert resolve_engine("auto", "cpu", True, "bfloat16") == ("eager" if advice == "eager" else "fused")
    assert resolve_engine("fused", "cpu", True, "bfloat16") == "fused"
    assert resolve_engine("eager", "cpu", True, "bfloat16") == "eager"
    assert resolve_engine("auto", "cpu", False, "bfloat16") == "eager"
    assert not caplog.records


def test_where_a_cpu_lacks_bfloat16_autocast_is_taken_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nas.settings.machine.read_advice", lambda _: None)
    monkeypatch.setattr("nas.settings.machine.load_library", lambda: True)
    monkeypatch.setattr("nas.settings.machine.has_bfloat16", lambda: False)
    assert resolve_engine("auto", "cpu", True) == "fused"
    assert resolve_engine("eager", "cpu", True, "bfloat16") == "eager"
    assert resolve_engine("fused", "cpu", False, "bfloat16") == "fused"  # layers that cannot be fused are autocast's
    assert not caplog.records
    assert resolve_engine("auto", "cpu", True, "bfloat16") == "eager"
    (record,) = caplog.records
    assert "AVX512_BF16" in record.getMessage()
    with pytest.raises(MachineError, match=r"AVX512_BF16.*--precision float32"):
        resolve_engine("fused", "cpu", True, "bfloat16")
