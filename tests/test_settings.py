"""A run's engine: resolved once, kept, and not exchanged for another."""

from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, CommandLine

from nas.config import SearchConfig, format_toml
from nas.settings import settle_config
from search_spaces.errors import ConflictError, InputError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What this machine compiles and advises; to be changed."""
    values: dict[str, Any] = {"compiled": True, "advice": None}
    monkeypatch.setattr("nas.machine.load_library", lambda: values["compiled"])
    monkeypatch.setattr("nas.machine.read_advice", lambda _: values["advice"] and (values["advice"], 1))
    return values


def settle(run: Path, **flags: Any) -> SearchConfig:
    return settle_config(run, None, flags, SearchConfig)


def keep(run: Path, config: SearchConfig, without: str | None = None) -> None:
    """Write the settings as a run does, or as one did that knew no such setting."""
    lines = format_toml(config).splitlines(keepends=True)
    kept = [line for line in lines if without is None or not line.startswith(f"{without} =")]
    assert len(kept) == len(lines) - (without is not None)
    run.mkdir(exist_ok=True)
    (run / "config.toml").write_text("".join(kept))


@pytest.mark.parametrize(
    ("compiled", "advice", "engine"), [(True, None, "fused"), (True, "eager", "eager"), (False, None, "eager")]
)
def test_a_new_run_takes_the_engine_that_suits_the_machine(
    machine: dict[str, Any], compiled: bool, advice: str | None, engine: str, tmp_path: Path
) -> None:
    machine |= {"compiled": compiled, "advice": advice}
    assert settle(tmp_path / "run", **SMALL).engine == engine
    assert settle(tmp_path / "run", **SMALL, engine="auto").engine == engine
    assert settle(tmp_path / "run", **SMALL, bottleneck=True).engine == "eager"
    for named in ("eager", "fused"):
        assert settle(tmp_path / "run", **SMALL, engine=named).engine == named


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_a_run_goes_on_with_its_engine_whatever_the_machine_has_now(
    machine: dict[str, Any], engine: str, tmp_path: Path
) -> None:
    keep(tmp_path, settle(tmp_path / "run", **SMALL, engine=engine))
    for compiled, advice in ((True, "fused"), (True, "eager"), (False, None)):
        machine |= {"compiled": compiled, "advice": advice}
        assert settle(tmp_path).engine == engine
        assert settle(tmp_path, trials=9).engine == engine
        assert settle(tmp_path, engine=engine).engine == engine
        assert settle(tmp_path, engine="auto").engine == engine


def test_a_run_of_before_there_were_engines_goes_on_as_eager(machine: dict[str, Any], tmp_path: Path) -> None:
    machine["advice"] = "fused"
    keep(tmp_path, settle(tmp_path / "run", **SMALL), without="engine")
    assert settle(tmp_path).engine == "eager"
    assert settle(tmp_path, engine="eager").engine == "eager"
    with pytest.raises(ConflictError, match=r"engine 'eager' there, 'fused' now"):
        settle(tmp_path, engine="fused")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("held", "given"), [("fused", "eager"), ("eager", "fused")])
def test_another_engine_is_another_run(held: str, given: str, tmp_path: Path) -> None:
    keep(tmp_path, settle(tmp_path / "run", **SMALL, engine=held))
    before = (tmp_path / "config.toml").read_bytes()
    with pytest.raises(ConflictError, match=rf"engine '{held}' there, '{given}' now") as caught:
        settle(tmp_path, engine=given)
    assert caught.value.exit_code == 4
    assert (tmp_path / "config.toml").read_bytes() == before


def test_on_a_gpu_layers_are_eager_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    given = SMALL | {"device": "auto"}
    assert settle(tmp_path / "run", **given).engine == "eager"
    for engine in ("fused", "graph"):
        settled = settle(tmp_path / engine, **given, engine=engine, precision="bfloat16", cohort=8)
        assert (settled.engine, settled.precision, settled.cohort) == (engine, "bfloat16", 8)


def test_a_cuda_graph_on_a_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--engine graph is a CUDA graph"):
        settle(tmp_path / "run", **SMALL, engine="graph")


def test_the_command_line_refuses_another_engine(command_line: CommandLine, tmp_path: Path) -> None:
    keep(tmp_path, settle(tmp_path / "run", **SMALL, engine="fused"))
    done = command_line("search", "--run", tmp_path, "--engine", "eager")
    assert done.returncode == 4
    assert "engine 'fused' there, 'eager' now" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.slow
def test_a_search_with_fused_layers_is_not_gone_on_with_in_eager(
    command_line: CommandLine, small_flags: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = command_line("search", "--run", run, *small_flags, "--engine", "fused")
    assert done.returncode == 0, done.stderr
    assert 'engine = "fused"' in (run / "config.toml").read_text()
    changed = command_line("search", "--run", run, "--engine", "eager")
    assert changed.returncode == 4
    assert "engine 'fused' there, 'eager' now" in changed.stderr
    assert command_line("search", "--run", run).returncode == 0


@pytest.mark.slow
def test_the_final_trainings_of_an_older_run_are_eager(
    command_line: CommandLine, small_flags: list[str], tmp_path: Path
) -> None:
    """And those that were begun before there were engines go on."""
    run = tmp_path / "run"
    done = command_line("search", "--run", run, *small_flags, "--engine", "eager")
    assert done.returncode == 0, done.stderr
    for folder in (run, run / "final"):
        text = (folder / "config.toml").read_text()
        assert 'engine = "eager"\n' in text
        (folder / "config.toml").write_text(text.replace('engine = "eager"\n', ""))
        done = command_line("export", "--run", run, "--to", tmp_path / folder.name, "--final", "--seeds", 1, "--top", 1)
        assert done.returncode == 0, done.stderr
