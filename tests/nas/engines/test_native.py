"""What a machine builds once: where it is kept, what it depends on, what goes wrong, and the advice beside it."""

import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from nas.engines import native
from nas.engines.native import (
    ADVICE,
    FLAGS,
    LIBRARY_SOURCES,
    BuildError,
    _describe_build,
    _find_library,
    cache_folder,
    load_library,
    read_advice,
    write_advice,
)
from tests.support.small import ROOT

WHOLE = "first half, second half\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, not yet there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "skipsearch"


def write_compiler(path: Path, script: str) -> Path:
    """A compiler that does what the script says, $OUT the file it is to write."""
    path.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nOUT="$2"\n{script}\n')
    path.chmod(0o755)
    return path


WRITING = "printf 'first half, ' > \"$OUT\"; {between}; printf 'second half\\n' >> \"$OUT\""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that is done at once, in CXX."""
    path = write_compiler(tmp_path / "compiler", WRITING.format(between=":"))
    monkeypatch.setenv("CXX", str(path))
    return path


@pytest.mark.usefixtures("compiler")
def test_the_cache_is_the_users_alone_and_holds_the_library(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    library = _find_library(FLAGS)
    assert library.parent == cache
    assert library.read_text() == WHOLE
    assert cache.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in cache.iterdir()] == [library.name]
    monkeypatch.setenv("CXX", "false")  # and is not built again
    assert _find_library(FLAGS) == library


@pytest.mark.parametrize("setting", [None, ""])
def test_without_a_setting_the_cache_is_in_the_home_folder(
    setting: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME") if setting is None else monkeypatch.setenv("XDG_CACHE_HOME", setting)
    assert cache_folder() == Path.home() / ".cache" / "skipsearch"


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702, 0o775])
def test_a_cache_that_others_can_write_is_refused_with_what_it_holds(cache: Path, mode: int) -> None:
    library = _find_library(FLAGS)
    cache.chmod(mode)
    with pytest.raises(BuildError) as caught:
        _find_library(FLAGS)
    assert str(caught.value) == f"{cache} can be written by others: chmod 700 it"
    cache.chmod(0o755)  # read it may be
    assert _find_library(FLAGS) == library


@pytest.mark.usefixtures("compiler")
def test_somebody_elses_cache_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True, mode=0o700)
    owner = cache.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(BuildError, match="can be written by others"):
        _find_library(FLAGS)


def test_without_a_compiler_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BuildError, match=r"there is no C\+\+ compiler; apt-get install g\+\+, or set CXX"):
        _find_library(FLAGS)


def test_the_compiler_is_cxx_else_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("c++", "g++", "mine"):
        write_compiler(folder / name, f'printf {name} > "$OUT"')
    monkeypatch.delenv("CXX", raising=False)
    assert _find_library(["1"]).read_text() == "c++"
    monkeypatch.setenv("CXX", "mine")
    assert _find_library(["2"]).read_text() == "mine"
    monkeypatch.setenv("CXX", "none of that name")
    assert _find_library(["3"]).read_text() == "g++"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 1", "gave exit status 1: "),
        (
            "echo note >&2; echo 'x.cpp:3: error: boom' >&2; echo 'error: more' >&2; exit 4",
            "status 4: x.cpp:3: error: boom",
        ),
        ("echo 'out of memory' >&2; printf half > \"$OUT\"; exit 2", "exit status 2: out of memory"),
    ],
)
def test_a_compiler_that_fails_leaves_nothing_and_says_why(
    script: str, said: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_compiler(tmp_path / "compiler", script)
    monkeypatch.setenv("CXX", str(path))
    with pytest.raises(BuildError) as caught:
        _find_library(FLAGS)
    assert str(caught.value).startswith(f"{path} gave exit status ")
    assert str(caught.value).endswith(said)
    assert list(cache.iterdir()) == []


def test_a_compiler_without_an_end_is_given_up(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(write_compiler(tmp_path / "compiler", "exec sleep 60")))
    monkeypatch.setattr(native, "BUILD_SECONDS", 0.2)
    with pytest.raises(BuildError, match=r"took more than 0\.2 s"):
        _find_library(FLAGS)
    assert list(cache.iterdir()) == []


def try_to_load(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged when there is no library to load."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="nas.engines.native"):
        assert not load_library.__wrapped__()
    return [record.getMessage() for record in caplog.records]


def test_what_goes_wrong_is_one_line_and_no_error(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = "warning: compiled layers are not available ("
    monkeypatch.setenv("CXX", "false")
    building, line = try_to_load(caplog)
    assert building.startswith("building the compiled layers")
    assert line.startswith(start)
    assert line.endswith("gave exit status 1: ): the same in plain torch, slower")
    monkeypatch.setenv("CXX", str(write_compiler(tmp_path / "compiler", 'printf "no library" > "$OUT"')))
    _, line = try_to_load(caplog)
    assert line.startswith(start)
    assert str(cache / "layers-") in line
    shutil.rmtree(cache)
    cache.write_text("a file in the folder's place")
    (line,) = try_to_load(caplog)
    assert line.startswith(start)
    assert str(cache) in line


WITHOUT = """
import torch
from nas.engines.layer_operation import Parameters, Sources, run_layers, run_layers_in_torch
generator = torch.Generator().manual_seed(0)
x = torch.randn(1, 3, 2, 5, 4, generator=generator)
weights = [torch.randn(1, 2, n, 3, 3, generator=generator) for n in (2, 4)]
ones = [torch.ones(1, n) for n in (2, 4)]
given = [x], Sources(torch.tensor([[0, 0, 1]]), [1, 2]), [1, 2], Parameters(ones, ones, weights)
for _ in range(2):
    one, other = run_layers(*given), run_layers_in_torch(*given)
    assert all(map(torch.equal, one.nodes, other.nodes)) and one.nodes[1].std() > 0.1
    assert torch.equal(one.mean, other.mean) and torch.equal(one.variance, other.variance)
assert not hasattr(torch.ops.skipsearch, "layers")
print("the same")
"""


def test_without_a_compiler_plain_torch_gives_the_numbers(cache: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CXX"}
    environment |= {"PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the same\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: compiled layers are not available (there is no C++ compiler")
    assert list(cache.iterdir()) == []


def test_another_build_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change_source(number: int) -> None:
        sources = []
        for place, source in enumerate(LIBRARY_SOURCES):
            sources.append(tmp_path / source.name)
            sources[-1].write_bytes(source.read_bytes() + (b"// more\n" if place == number else b""))
        monkeypatch.setattr(native, "LIBRARY_SOURCES", tuple(sources))

    own = _describe_build(FLAGS)
    assert own == _describe_build(FLAGS)
    change_source(-1)  # none: copies of the same content
    assert _describe_build(FLAGS) == own
    names = [own, _describe_build(FLAGS[:-1]), _describe_build((*FLAGS, "-O2"))]
    for number in range(len(LIBRARY_SOURCES)):
        change_source(number)
        names.append(_describe_build(FLAGS))
    change_source(-1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", torch.__version__ + ".1")
        names.append(_describe_build(FLAGS))
    with monkeypatch.context() as patch:
        patch.setattr(native, "_describe_processor", lambda: "another processor")
        names.append(_describe_build(FLAGS))
    assert _describe_build(FLAGS) == own
    assert len(set(names)) == len(names) == 5 + len(LIBRARY_SOURCES)


def test_a_processor_is_told_by_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "first": "processor: 0\nflags\t\t: sse avx\ncpu MHz: 1\nprocessor: 1\nflags\t\t: sse avx\ncpu MHz: 2\n",
        "the same at another speed": "processor: 0\nflags\t\t: sse avx\ncpu MHz: 3\n",
        "more": "processor: 0\nflags\t\t: sse avx avx512f\ncpu MHz: 1\n",
        "arm": "processor: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd0c\n",
        "another arm": "processor: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd40\n",
    }
    told = {}
    for name, text in texts.items():
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", lambda _, text=text: text)
            told[name] = native._describe_processor()
    assert told["first"] == told["the same at another speed"]
    assert len(set(told.values())) == 4
    with monkeypatch.context() as patch:
        patch.setattr(native, "Path", lambda _: Path("/there/is/no/such/file"))
        assert native._describe_processor() == f"{platform.machine()} {platform.processor()}"


def test_of_three_at_once_one_builds_and_all_have_the_whole_library(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = f'dirname "$OUT" >> {tmp_path / "log"}'
    script = f"{log}; {WRITING.format(between='sleep 0.3')}"
    monkeypatch.setenv("CXX", str(write_compiler(tmp_path / "compiler", script)))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(_find_library(FLAGS))) for _ in range(3)]
    threads[0].start()
    time.sleep(0.2)
    for thread in threads[1:]:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        seen |= {path.read_text() for path in cache.glob("layers-*")}
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert seen <= {WHOLE}
    assert len(found) == 3
    assert len(set(found)) == 1
    assert found[0].read_text() == WHOLE
    assert [path.name for path in cache.iterdir()] == [found[0].name]
    assert len(set((tmp_path / "log").read_text().splitlines())) == 1


def test_a_build_that_is_killed_leaves_no_part_of_a_library(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    script = WRITING.format(between=f"touch {begun}; sleep 60")
    monkeypatch.setenv("CXX", str(write_compiler(tmp_path / "compiler", script)))
    code = "from nas.engines.native import FLAGS, _find_library; _find_library(FLAGS)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with its compiler
        process.wait()
    assert list(cache.glob("layers-*")) == []
    assert {path.read_text() for path in cache.glob(".build-*/*")} == {"first half, "}
    monkeypatch.setenv("CXX", str(write_compiler(tmp_path / "compiler", WRITING.format(between=":"))))
    assert _find_library(FLAGS).read_text() == WHOLE


# --- advice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_advice_is_kept(engine: str, cache: Path) -> None:
    assert read_advice("cpu") is None
    write_advice("cpu", "something else", 1)
    write_advice("cpu", engine, 4)
    assert read_advice("cpu") == (engine, 4)
    assert [path.name for path in cache.iterdir()] == [ADVICE.format("cpu")]
    assert read_advice("cuda") is None
    write_advice("cuda", "fused", 16)
    assert (read_advice("cpu"), read_advice("cuda")) == ((engine, 4), ("fused", 16))


@pytest.mark.usefixtures("compiler")
def test_a_cache_that_began_with_advice_takes_a_library(cache: Path) -> None:
    write_advice("cpu", "fused", 1)
    assert _find_library(FLAGS).parent == cache


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"eager"',
        b"{}",
        b'{"engine": "eager", "cohort": 1}',
        b'{"build": 3}',
        b"\xff\xfe",
    ],
)
def test_damaged_advice_is_none(content: bytes, cache: Path) -> None:
    write_advice("cpu", "eager", 1)
    (cache / ADVICE.format("cpu")).write_bytes(content)
    assert read_advice("cpu") is None


def test_advice_of_another_build_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    write_advice("cpu", "eager", 1)
    with monkeypatch.context() as patch:
        patch.setattr(native, "_describe_processor", lambda: "another processor")
        assert read_advice("cpu") is None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0")
        assert read_advice("cpu") is None
    assert read_advice("cpu") == ("eager", 1)


def test_advice_in_a_folder_s_place_is_none(cache: Path) -> None:
    (cache / ADVICE.format("cpu")).mkdir(parents=True)
    assert read_advice("cpu") is None


# --- other processors --------------------------------------------------------------------------------------------

OTHERS = {32: ("-mavx2", "-mfma", "-mno-avx512f"), 16: ("-march=x86-64",)}  # by bytes of a vector
PROBE = """
import sys
import nas.engines.native
nas.engines.native.FLAGS = tuple(sys.argv[2].split())
import torch, pytest
assert nas.engines.native.load_library()
assert torch.ops.skipsearch.vector_bytes() == int(sys.argv[1])
sys.exit(pytest.main(["-n", "0", "-q", "-p", "no:cacheprovider", "tests/nas/engines/test_layer_operation.py"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_bytes", OTHERS)
def test_shorter_vectors_give_the_numbers_too(n_bytes: int) -> None:
    """All of test_layer_operation.py, by a library for a processor that has less than this one."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("these are vectors of x86")
    if n_bytes == 32 and "avx2" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("this processor has no AVX2")
    if shutil.which(os.environ.get("CXX", "c++")) is None and shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")
    assert "-march=native" in FLAGS
    flags = [flag for flag in FLAGS if flag != "-march=native"] + list(OTHERS[n_bytes])
    command = [sys.executable, "-c", PROBE, str(n_bytes), " ".join(flags)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_a_user_without_a_home_folder_has_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", refuse)
    assert native.read_advice("cpu") is None


@pytest.mark.usefixtures("cache")
def test_advice_for_a_gpu_is_for_that_card_and_these_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "one card")
    write_advice("cuda", "fused", 16)
    assert read_advice("cuda") == ("fused", 16)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "another")
    assert read_advice("cuda") is None
    write_advice("cuda", "fused", 4)
    other = tmp_path / "triton_layers.py"
    other.write_text("other kernels")
    monkeypatch.setattr("nas.engines.native.KERNELS", (other,))
    assert read_advice("cuda") is None
