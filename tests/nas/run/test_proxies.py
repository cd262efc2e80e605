"""Proxies of a run's candidates: on a training's first batch, once for all regimes, from ledger to table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from torch import Tensor

from analysis.data.averages import average_patterns
from analysis.data.csv_files import format_table, read_table
from analysis.data.proxies import list_proxies
from analysis.data.results import read_run
from nas.data.splits import split_data
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.model.cost import predict_cost
from nas.model.proxies import PROXIES, measure_proxies
from nas.records.checked import validate
from nas.records.database import STUDY_NAME
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome, seal
from nas.run.directory import accept, hold_run, open_ledger
from nas.run.proxies import ProxyRecorder
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.studies.plan import list_assignments
from nas.studies.study import Study
from nas.training.stepping import Stepper
from nas.training.train import first_batch
from search_spaces.budget import log_budget
from search_spaces.errors import ConflictError, InputError
from search_spaces.templates import find_template
from tests.support.small import SMALL
from tests.support.small_study import DIGITS, tiny
from tests.support.training import train_candidate

SETTINGS = {**SMALL, "engine": "eager", "proxies": True}
CONFIG = validate(SearchConfig, SETTINGS)
NETWORK = CONFIG.network(10, (1, 8, 8))
PATTERNS = {name: find_template(name).build(5) for name in ("log", "chain")}
CANDIDATES = [Candidate(pattern, NETWORK, seed, name) for name, pattern in PATTERNS.items() for seed in (0, 1)]


def measure(candidate: Candidate) -> dict[str, float | None]:
    split = split_data(DIGITS, candidate.seed, 64, "cpu")
    return measure_proxies(candidate, first_batch(split, CONFIG.batch_size, candidate.seed), candidate.seed)


@pytest.mark.parametrize(("augment", "batch_size"), [(False, 16), (True, 16), (False, 100)])
def test_the_batch_is_that_of_the_first_step(augment: bool, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_data(replace(DIGITS, augment=augment), 1, 64, "cpu")
    seen: list[tuple[Tensor, Tensor]] = []
    step = Stepper.step

    def keep(self: Stepper, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        seen.append((images[0].clone(), labels[0]))
        return step(self, images, labels, rate)

    monkeypatch.setattr(Stepper, "step", keep)
    train_candidate(CANDIDATES[1], split, TrainingConfig(epochs=1, batch_size=batch_size))
    batch = first_batch(split, batch_size, 1)
    assert torch.equal(batch.images, seen[0][0])
    assert torch.equal(batch.labels, seen[0][1])
    assert len(batch.labels) == min(64, batch_size)


def test_regimes_share_a_patterns_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def count(candidate: Candidate, *rest: Any) -> dict[str, float | None]:
        measured.append(candidate)
        return measure_proxies(candidate, *rest)

    monkeypatch.setattr("nas.run.proxies.measure_proxies", count)
    recorder = ProxyRecorder(DIGITS, CONFIG)
    for candidate in CANDIDATES[:2]:
        values = [recorder.measure(replace(candidate, training=TrainingConfig(lr=lr))) for lr in (0.1, 0.4)]
        assert values == [measure(candidate)] * 2
    assert [candidate.seed for candidate in measured] == [0, 1]


def test_a_network_that_does_not_fit_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.run.proxies.measure_memory", lambda _: 10**5)
    with pytest.raises(InputError, match=r"0\.0 GB.*--batch-size"):
        ProxyRecorder(DIGITS, CONFIG).measure(CANDIDATES[0])


def enter_all(run: Path, config: SearchConfig) -> Path:
    """A run that has trained CANDIDATES, each with an accuracy of its own."""
    with hold_run(run, config):
        ledger = open_ledger(run, config, DIGITS, len(CANDIDATES))
        accept(ledger, config)
        for place, candidate in enumerate(CANDIDATES):
            number = ledger.enter(candidate, "templates", log_budget(5), predict_cost(candidate))
            ledger.finish(number, Outcome(image_metrics(0.5 + 0.1 * place, 1.0), 1, 0.0))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with proxies; not to be changed."""
    path = tmp_path_factory.mktemp("proxies") / "run"
    return enter_all(path, settle_config(path, None, SETTINGS, SearchConfig))


def test_proxies_go_from_the_ledger_to_the_tables(run: Path, tmp_path: Path) -> None:
    table = read_run(run).candidates
    columns = [f"proxy_{name}" for name in PROXIES]
    assert list_proxies(table) == columns
    expected = [measure(candidate) for candidate in CANDIDATES]
    assert table[columns].to_dict("records") == [
        {f"proxy_{name}": value for name, value in row.items()} for row in expected
    ]
    file = tmp_path / "candidates.csv"
    file.write_text(format_table(table))
    pd.testing.assert_frame_equal(read_table(file), table)
    patterns = average_patterns(table).set_index("template")
    for place, name in enumerate(PATTERNS):
        own = [expected[2 * place + seed]["synflow"] for seed in (0, 1)]
        assert patterns.loc[name, "proxy_synflow"] == pytest.approx(sum(map(float, own)) / 2)  # type: ignore[arg-type]


def test_a_run_without_proxies_has_no_columns_of_them(tmp_path: Path) -> None:
    own = {**SETTINGS, "proxies": False}
    path = enter_all(tmp_path / "run", settle_config(tmp_path / "run", None, own, SearchConfig))
    table = read_run(path).candidates
    assert list_proxies(table) == list_proxies(average_patterns(table)) == []


def test_proxies_are_asked_for_when_a_run_begins(run: Path) -> None:
    assert settle_config(run, None, {}, SearchConfig).proxies
    with pytest.raises(ConflictError, match="proxies True there, False now"):
        settle_config(run, None, {"proxies": False}, SearchConfig)


def test_an_older_run_goes_on_without_proxies(tmp_path: Path) -> None:
    """Its settings do not know of them."""
    path = tmp_path / "run"
    config = enter_all(path, settle_config(path, None, {**SETTINGS, "proxies": False}, SearchConfig)) / "config.toml"
    lines = [line for line in config.read_text().splitlines() if not line.startswith("proxies")]
    assert len(lines) < len(config.read_text().splitlines())
    config.write_text("\n".join(lines))
    assert not settle_config(path, None, {}, SearchConfig).proxies
    with pytest.raises(ConflictError, match="proxies False there, True now"):
        settle_config(path, None, {"proxies": True}, SearchConfig)


def test_an_interrupted_study_has_them_in_every_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern and seed is measured once before the interruption and once after it, not for each regime."""
    measured: list[tuple[str, int]] = []

    def invent(candidate: Candidate, _batch: object, seed: int) -> dict[str, float | None]:
        measured.append((candidate.pattern.key, seed))
        return {"synflow": int(candidate.pattern.key[:6], 16) + seed / 10, "naswot": None}

    monkeypatch.setattr("nas.run.proxies.measure_proxies", invent)
    config, plan = tiny()
    config = config.model_copy(update={"proxies": True, "engine": "eager"})
    tasks = list_assignments(plan, config, DIGITS)
    for n_more in (7, len(tasks) - 7):
        measured.clear()
        ledger = open_ledger(tmp_path, config, DIGITS, len(tasks))
        ledger.accept()
        study = Study(tasks, ledger, lambda *_: None, config.attempts)
        for _ in range(n_more):
            job = study.ask()
            assert job is not None
            study.tell(job.number, Outcome(image_metrics(0.5, 1.0), 1, 0.0))
        assert len(measured) == len(set(measured))
    table = read_run(tmp_path).candidates
    assert len(table) == len(tasks) > len(table.groupby(["key", "seed"]))
    expected = [int(key[:6], 16) + seed / 10 for key, seed in zip(table["key"], table["seed"], strict=True)]
    assert table["proxy_synflow"].tolist() == expected
    assert table["proxy_naswot"].isna().all()


def test_proxies_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    enter_all(path, settle_config(path, None, {**SETTINGS, "proxies": False}, SearchConfig))
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path / 'study.db'}")
    trial, record = study.ask(), study.trials[0].user_attrs["~candidate"]
    for proxies in ("synflow", [1.0], {"zen": "high"}, {"zen": True}, {"zen": 10**400}):
        trial.set_user_attr("~candidate", seal({**record, "proxies": proxies}, trial.number, {}))
        with pytest.raises(InputError, match=f"trial {trial.number} records proxies"):
            read_run(path)
