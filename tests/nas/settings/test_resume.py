"""A run's settings: engines resolved once and kept, and what its ledger holds not exchanged for anything else."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.data.readers import load_data
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome
from nas.run.directory import accept, hold_run, open_ledger
from nas.search.loop import Search, count_asked, run_search
from nas.settings.comparison import LineupConfig
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.toml import format_toml
from nas.studies.comparison import Lineup
from search_spaces.errors import ConflictError, InputError
from tests.support.small import SMALL, CommandLine

DIGITS = load_data("digits", None)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What this machine compiles and advises; to be changed."""
    values: dict[str, Any] = {"compiled": True, "advice": None}
    monkeypatch.setattr("nas.settings.machine.load_library", lambda: values["compiled"])
    monkeypatch.setattr("nas.settings.machine.read_advice", lambda _: values["advice"] and (values["advice"], 1))
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
    assert settle(tmp_path / "run", **SMALL, bottleneck=True).engine == engine
    assert settle(tmp_path / "run", **SMALL, layer="depthwise").engine == "eager"
    for named in ("eager", "fused"):
        assert settle(tmp_path / "run", **SMALL, engine=named).engine == named


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("has_bottlenecks", [False, True])
def test_a_run_goes_on_with_its_engine_whatever_the_machine_has_now(
    machine: dict[str, Any], has_bottlenecks: bool, engine: str, tmp_path: Path
) -> None:
    keep(tmp_path, settle(tmp_path / "run", **SMALL, bottleneck=has_bottlenecks, engine=engine))
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


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_a_run_in_bfloat16_keeps_the_engine_that_it_has(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.settings.machine.read_advice", lambda _: None)
    monkeypatch.setattr("nas.settings.machine.load_library", lambda: True)
    monkeypatch.setattr("nas.settings.machine.has_bfloat16", lambda: True)
    keep(tmp_path, settle(tmp_path / "run", **SMALL, engine=engine, precision="bfloat16"))
    settled = settle(tmp_path)
    assert (settled.engine, settled.precision) == (engine, "bfloat16")
    assert settle(tmp_path / "other", **SMALL, precision="bfloat16").engine == "fused"


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
        done = command_line("export", "--run", run, "--final", "--seeds", 1, "--top", 1)
        assert done.returncode == 0, done.stderr


# --- a run's record of its settings ---------------------------------------------------------------------------------


def entered(run: Path, config: SearchConfig, n: int = 2) -> Path:
    """A run that has trained so many candidates."""
    with hold_run(run, config):
        ledger = open_ledger(run, config, DIGITS, count_asked(config))
        search = Search(config, DIGITS, ledger, lambda *_: None)
        accept(ledger, config)
        for _ in range(n):
            job = search.ask()
            assert job is not None
            search.tell(job.number, Outcome(image_metrics(0.5, 1.0), 1, 0.0))
    return run


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has trained two candidates; not to be changed."""
    run = tmp_path_factory.mktemp("begun") / "run"
    return entered(run, settle(run, **SMALL, engine="eager"))


@pytest.fixture
def begun(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "run")


@pytest.mark.parametrize(("name", "fewer"), [("trials", 1), ("seeds", 1)])
def test_less_than_was_asked_for_is_refused_and_nothing_is_written(begun: Path, name: str, fewer: int) -> None:
    before = contents(begun)
    with pytest.raises(ConflictError, match=rf"asked for 2 {name}, and {fewer} are fewer") as caught:
        settle(begun, **{name: fewer})
    assert caught.value.exit_code == 4
    text = (begun / "config.toml").read_text()
    (begun / "config.toml").write_text(text.replace(f"{name} = 2", f"{name} = {fewer}"))
    with pytest.raises(ConflictError, match=f"asked for 2 {name}"):
        settle(begun)
    (begun / "config.toml").write_text(text)
    assert contents(begun) == before
    assert getattr(settle(begun, **{name: 3}), name) == 3


@pytest.mark.parametrize(("trainings", "fewer"), [(30, 29), (None, 59)])
def test_fewer_trainings_or_less_patience_are_refused_the_default_counts_too(
    trainings: int | None, fewer: int, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    own = {**SMALL, "trials": None, "trainings": trainings, "patience": 12}
    entered(run, settle(run, **own), n=0)
    with pytest.raises(ConflictError, match=rf"asked for {fewer + 1} trainings, and {fewer} are fewer") as caught:
        settle(run, trainings=fewer)
    assert caught.value.exit_code == 4
    with pytest.raises(ConflictError, match="asked for 12 patience, and 11 are fewer"):
        settle(run, patience=11)
    more = settle(run, trainings=90, patience=13)
    assert (more.trainings, more.patience) == (90, 13)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_lookahead_of_a_new_run_is_its_workers_and_stays(workers: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settled = settle(run, **{**SMALL, "workers": workers})
    assert settled.lookahead == max(workers, 2)
    assert settle(tmp_path / "given", **{**SMALL, "workers": workers}, lookahead=1).lookahead == 1
    keep(run, settled)
    assert settle(run, workers=9).lookahead == settled.lookahead
    with pytest.raises(ConflictError, match=f"lookahead {settled.lookahead} there, 7 now"):
        settle(run, lookahead=7)


def test_a_run_of_before_there_was_a_lookahead_goes_on(tmp_path: Path) -> None:
    keep(tmp_path, settle(tmp_path / "run", **SMALL), without="lookahead")
    assert settle(tmp_path, trials=9).lookahead == 2


def test_on_a_cluster_the_lookahead_does_not_depend_on_the_workers_that_it_has(tmp_path: Path) -> None:
    cluster = {**SMALL, "workers": "auto", "ray_address": "10.0.0.1:6379"}
    assert settle(tmp_path / "run", **cluster).lookahead == 16


def test_a_run_of_before_there_were_objectives_goes_on_by_accuracy(tmp_path: Path) -> None:
    assert settle(tmp_path / "run", **SMALL).objective == "loss"
    keep(tmp_path, settle(tmp_path / "run", **SMALL), without="objective")
    assert settle(tmp_path).objective == "accuracy"
    assert settle(tmp_path, objective="accuracy", trials=9).objective == "accuracy"
    with pytest.raises(ConflictError, match="objective 'accuracy' there, 'loss' now"):
        settle(tmp_path, objective="loss")


def test_a_run_that_was_halved_twice_is_refused(tmp_path: Path, command_line: CommandLine) -> None:
    run = tmp_path / "run"
    halved = settle(run, **{**SMALL, "epochs": 9, "halving": True})
    keep(run, halved, without="objective")
    before = contents(run)
    done = command_line("search", "--run", run, "--device", "cpu")
    assert done.returncode == 4
    assert str(run) in done.stderr
    assert "a ninth of the epochs" in done.stderr
    assert contents(run) == before
    keep(run, halved)
    assert settle(run).halving is True


def test_networks_side_by_side_keep_their_seeds(tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags: dict[str, Any] = {"layers": 3, "seeds": 2, "device": "cpu", "workers": 1, "engine": "eager"}
    config = settle_config(run, None, {**flags, "networks": ("log",)}, LineupConfig)
    with hold_run(run, config):
        ledger = open_ledger(run, config, DIGITS, 2)
        Lineup(config, DIGITS, ledger, lambda *_: None)
        accept(ledger, config)
    with pytest.raises(ConflictError, match="asked for 2 seeds, and 1 are fewer"):
        settle_config(run, None, {"seeds": 1}, LineupConfig)
    assert settle_config(run, None, {"seeds": 3}, LineupConfig).seeds == 3


@pytest.mark.parametrize(
    ("flag", "line", "edited"),
    [
        ("layers", "layers = 5", "layers = 6"),
        ("epochs", "epochs = 1", "epochs = 2"),
        ("lr", "lr = 0.15", "lr = 0.3"),
        ("validation-examples", "layers = 5", "layers = 5\nvalidation-examples = 50"),
        ("strategy", 'strategy = "random"', 'strategy = "evolve"'),
        ("objective", 'objective = "loss"', 'objective = "accuracy"'),
        ("halving", "halving = false", "halving = true\nepochs = 3"),
    ],
)
def test_a_config_that_was_edited_is_compared_with_the_ledger(begun: Path, flag: str, line: str, edited: str) -> None:
    text = (begun / "config.toml").read_text()
    if flag == "halving":
        text = text.replace("epochs = 1\n", "")
    assert line in text
    (begun / "config.toml").write_text(text.replace(line, edited))
    before = contents(begun)
    with pytest.raises(ConflictError, match=rf"{flag} is .* in study\.db, .* in config\.toml") as caught:
        settle(begun)
    assert caught.value.exit_code == 4
    assert contents(begun) == before


def test_what_may_change_may_be_edited(begun: Path) -> None:
    text = (begun / "config.toml").read_text()
    (begun / "config.toml").write_text(text.replace("trials = 2", "trials = 4").replace("attempts = 3", "attempts = 7"))
    settled = settle(begun)
    assert (settled.trials, settled.attempts) == (4, 7)


@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_a_lost_or_emptied_config_is_made_up_for_by_the_ledger(begun: Path, content: bytes | None) -> None:
    own = settle(begun)
    path = begun / "config.toml"
    before = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert settle(begun) == own
    with pytest.raises(ConflictError, match="layers 5 there, 6 now"):
        settle(begun, layers=6)
    entered(begun, settle(begun), n=1)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"layers = \xff", b"layers = ", b"layers = 5\nleyers = 5", b'layers = "many"', b"layers = 5\nlr = -1"]
)
def test_a_damaged_config_is_said_to_be_so(begun: Path, content: bytes) -> None:
    own = settle(begun)
    (begun / "config.toml").write_bytes(content)
    with pytest.raises(ConflictError, match=r"config\.toml.*(\n.*)*remove") as caught:
        settle(begun, trials=9)
    assert caught.value.exit_code == 4
    assert (begun / "config.toml").read_bytes() == content
    (begun / "config.toml").unlink()  # as it says
    assert settle(begun) == own


def test_what_is_wrong_with_a_config_is_readable(begun: Path, command_line: CommandLine) -> None:
    (begun / "config.toml").write_text("layers = 5\nleyers = 5\n")
    told = command_line("search", "--run", begun)
    assert told.returncode == 4
    assert "leyers" in told.stderr
    assert r"\n" not in told.stderr  # a break of a line, escaped as if it came from a name


def test_settings_are_written_once_nothing_refuses_them(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger and the source: each refuses one call, and the next one is as if that had never been."""
    before = contents(begun)
    asked = settle(begun, trials=5, attempts=9, workers=2)
    other = replace(DIGITS, sha256="another")
    for target, value in (
        ("nas.search.loop.prepare_data", lambda *_: other),
        ("nas.search.stratum.iterate_named", lambda *_: iter(())),  # templates of before are none any more
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, value)
            with pytest.raises(ConflictError):
                run_search(begun, asked, lambda *_: None)
        assert contents(begun) == before
    assert settle(begun).trials == 2


def test_a_new_run_that_is_refused_leaves_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"

    def refuse(*_: object) -> None:
        raise ConflictError("no")

    with monkeypatch.context() as patch:
        patch.setattr(Search, "_load_history", refuse)
        with pytest.raises(ConflictError):
            run_search(run, settle(run, **SMALL), lambda *_: None)
    assert not (run / "config.toml").exists()
    assert settle(run, **{**SMALL, "layers": 6}).layers == 6


def test_a_pattern_file_of_another_pattern_is_another_run(tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "one.json"
    path.write_text('{"layers": 5, "sources": [[0], [0, 1], [1, 2], [0, 2, 3], [1, 3, 4]]}')
    entered(run, settle(run, **SMALL, pattern=(str(path),), templates=False), n=2)
    moved = tmp_path / "moved" / "one.json"
    moved.parent.mkdir()
    path.rename(moved)
    text = (run / "config.toml").read_text().replace(str(path), str(moved))
    (run / "config.toml").write_text(text)
    entered(run, settle(run), n=0)
    moved.write_text('{"layers": 5, "sources": [[0], [0, 1], [1, 2], [1, 2, 3], [1, 3, 4]]}')
    before = contents(run)
    with pytest.raises(ConflictError, match=r"trial 0 of "):
        run_search(run, settle(run), lambda *_: None)
    assert contents(run) == before


def test_data_of_a_run_are_its_own(tmp_path: Path) -> None:
    run, file = tmp_path / "run", str(tmp_path / "mine.npz")
    keep(run, settle(run, **SMALL, data=file))
    assert settle(run).dataset == "npz"
    assert settle(run, data=file) == settle(run, dataset="npz") == settle(run)
    for given in ({"data": str(tmp_path / "other.npz")}, {"dataset": "digits"}, {"dataset": "svhn", "data": file}):
        with pytest.raises(ConflictError) as caught:
            settle(run, **given)
        assert caught.value.exit_code == 4
        assert repr(next(iter(given.values()))) in str(caught.value)


def test_a_run_of_digits_that_was_given_data_goes_on(tmp_path: Path) -> None:
    """They were taken once, and never read."""
    keep(tmp_path, settle(tmp_path / "run", **SMALL))
    with (tmp_path / "config.toml").open("a") as stream:
        stream.write('data = "/elsewhere/mine.npz"\n')
    assert (settle(tmp_path).dataset, settle(tmp_path).data) == ("digits", None)
    with pytest.raises(ConflictError):
        settle(tmp_path, data="mine.npz")
