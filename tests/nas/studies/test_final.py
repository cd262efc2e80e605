"""Final trainings: on all but the test images, of patterns laid down once, and what is kept of them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from safetensors.torch import load_file

from nas.data.readers import load_data
from nas.data.splits import split_final
from nas.export.manifest import read_manifest
from nas.export.runs import export_run
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.model.network import build_skip_network
from nas.records.database import FINAL
from nas.search.loop import run_search
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.settings.toml import format_toml
from nas.studies.final import FIRST_SEED, Chosen, change_training, plan_final, run_final, settings_of_final
from nas.training.checkpoints import read_weights, weights_path
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.errors import ConflictError, InputError, Interrupted, NothingUsableError
from search_spaces.templates import find_template
from tests.support.driving import FakeTrainer
from tests.support.evaluating import evaluate
from tests.support.small import ROOT, SMALL
from tests.support.small_study import TINY as SMALL_STUDY

DIGITS = load_data("digits", None)
CHANGES: dict[str, Any] = {"seeds": 2, "epochs": 1, "train_examples": 80}
CONFIG = SearchConfig(**{**SMALL, "trials": 1, "seeds": 1, "train_examples": 32, "templates": False})


def choose(*names: str) -> list[Chosen]:
    training = TrainingConfig(epochs=3, lr=0.1)
    return [Chosen(find_template(name).build(5), name, "templates", "log", None, training) for name in names]


def run(path: Path, chosen: list[Chosen], changes: dict[str, Any] = CHANGES, listener: Any = None) -> None:
    config = settings_of_final(CONFIG, changes)
    settled = settle_config(path / FINAL, None, config.model_dump(), SearchConfig)
    trained = [replace(one, training=change_training(one.training, changes)) for one in chosen]
    run_final(path, settled, trained, listener or (lambda *_: None))


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of a search, not to be changed."""
    path = tmp_path_factory.mktemp("search") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.loop.Trainer", FakeTrainer)
        run_search(path, settle_config(path, None, CONFIG.model_dump(), SearchConfig), lambda *_: None)
    return path


@pytest.fixture
def searched(search: Path, tmp_path: Path) -> Path:
    return shutil.copytree(search, tmp_path / "run")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Final trainings that take no time."""
    monkeypatch.setattr("nas.studies.final.Trainer", FakeTrainer)


def trials(path: Path) -> list[Any]:
    study = optuna.load_study(study_name="skipsearch", storage=f"sqlite:///{path}")
    return [study, *study.trials]


def test_the_final_split_is_the_test_images_and_all_others() -> None:
    split = split_final(DIGITS, 0, None, "cpu")
    assert len(split.validation_labels) == len(DIGITS.test)
    assert len(split.train_labels) == len(DIGITS.labels) - len(DIGITS.test)
    assert split.validation_labels.tolist() == DIGITS.labels[DIGITS.test].tolist()
    rest = np.setdiff1d(np.arange(len(DIGITS.labels)), DIGITS.test)
    images = torch.from_numpy(DIGITS.images[rest].astype(np.float32))
    assert split.mean == pytest.approx((float(images.double().mean()),), rel=1e-5)
    assert split.deviation == pytest.approx((float(images.double().std(correction=0)),), rel=1e-5)
    back = split.train_images * split.deviation[0] + split.mean[0]
    assert torch.allclose(back, images, atol=1e-4)


def test_fewer_examples_are_stratified_and_never_of_the_test_images() -> None:
    split = split_final(DIGITS, 3, 100, "cpu")
    counts = torch.bincount(split.train_labels)
    assert counts.sum() == 100
    assert counts.min() >= 9
    assert len(split.validation_labels) == len(DIGITS.test)
    assert not torch.equal(split_final(DIGITS, 4, 100, "cpu").train_images, split.train_images)
    with pytest.raises(InputError, match=r"asks for more than the 1437"):
        split_final(DIGITS, 0, 1500, "cpu")


def test_chosen_patterns_are_measured_once_and_the_run_says_so(searched: Path) -> None:
    run(searched, choose("log", "nearest_log_i"))
    study, *found = trials(searched / FINAL / "study.db")
    assert study.metric_names == ["test_accuracy"]
    assert study.user_attrs["measured_on"] == "test"
    assert [(one.user_attrs["~candidate"]["template"], one.user_attrs["~candidate"]["seed"]) for one in found] == [
        ("log", FIRST_SEED), ("nearest_log_i", FIRST_SEED),
        ("log", FIRST_SEED + 1), ("nearest_log_i", FIRST_SEED + 1),
    ]  # fmt: skip
    assert study.user_attrs["data"] | {"n_train": 80, "n_test": 360} == study.user_attrs["data"]
    looked, *_ = trials(searched / "study.db")
    assert looked.user_attrs["test_looked_at"]["plan"] == study.user_attrs["plan"]
    # The weights kept are those that gave the accuracy.
    split = split_final(DIGITS, FIRST_SEED, 80, "cpu")
    for one in found[:2]:
        held = read_weights(weights_path(searched / FINAL, one.number))
        assert held is not None
        assert held[1] == {"mean": list(split.mean), "deviation": list(split.deviation)}
        network = CONFIG.network(10, (1, 8, 8))
        built = build_skip_network(
            Candidate(find_template(one.user_attrs["~candidate"]["template"]).build(5), network, 0)
        )
        built.load_state_dict(held[0])
        assert evaluate(built, split.validation_images, split.validation_labels)[1] == one.value


@pytest.mark.usefixtures("fake")
def test_the_same_call_again_trains_nothing(searched: Path) -> None:
    run(searched, choose("log"))
    heard: list[Any] = []
    run(searched, choose("log"), listener=lambda *told: heard.append(told))
    assert heard == [(None, 2, 2)]


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("names", "changes"), [(("log", "greedy"), {}), (("log",), {"epochs": 2}), (("log",), {"seeds": 3})]
)
def test_after_a_look_at_the_test_images_nothing_else_is_measured(
    searched: Path, names: tuple[str, ...], changes: dict[str, Any]
) -> None:
    run(searched, choose("log"))
    with pytest.raises(ConflictError):
        run(searched, choose(*names), CHANGES | changes)
    assert len(trials(searched / FINAL / "study.db")) == 1 + 2


@pytest.mark.usefixtures("fake")
def test_interrupted_it_goes_on_to_the_same_end(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(searched, choose("log", "greedy"))
    whole = [one.value for one in trials(searched / FINAL / "study.db")[1:]]
    (searched / FINAL).rename(searched / "moved")
    n_trained = 0
    train_cohort = FakeTrainer.train_cohort

    def interrupt(self: FakeTrainer, jobs: Sequence[Job], *rest: Any) -> Any:
        nonlocal n_trained
        n_trained += 1
        if n_trained == 3:
            raise Interrupted(2)
        return train_cohort(self, jobs, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(FakeTrainer, "train_cohort", interrupt)
        with pytest.raises(Interrupted):
            run(searched, choose("log", "greedy"))
    run(searched, choose("log", "greedy"))
    assert [one.value for one in trials(searched / FINAL / "study.db")[1:]] == whole


def test_the_settings_are_the_runs_own_but_for_what_is_given() -> None:
    own = SearchConfig(layers=9, growth=6, epochs=7, lr=0.2, halving=True, train_examples=50, strategy="evolve")
    seeded = {"from_table": "/before.csv", "table_sha256": "0" * 64, "strategy": "model", "trials": None}
    assert settings_of_final(own.model_copy(update=seeded), {}).from_table is None
    final = settings_of_final(own, {"seeds": None, "workers": 2})
    assert (final.layers, final.growth, final.epochs, final.lr) == (9, 6, 7, 0.2)
    assert (final.seeds, final.workers, final.train_examples, final.halving) == (5, 2, None, False)


def test_patterns_of_rows_are_trained_as_in_their_regime_with_the_changes(tmp_path: Path) -> None:
    sources = "[[0], [0, 1], [1, 2]]"
    row = {"sources": sources, "template": float("nan"), "strategy": "random", "budget": "log", "regime": float("nan")}
    config = CONFIG.model_dump(mode="json")
    settings, (chosen,) = plan_final(tmp_path, config, None, [row], {"epochs": 7, "seeds": None, "workers": 2})
    assert (settings.seeds, settings.workers, settings.epochs) == (5, 2, 7)
    assert chosen.pattern.sources == ((0,), (0, 1), (1, 2))
    assert (chosen.template, chosen.regime, chosen.training.epochs, chosen.training.lr) == (None, None, 7, CONFIG.lr)
    training = {**chosen.training.model_dump(), "epochs": 3, "lr": 0.5}
    study = {"strata": [{"regime": "steep", "training": training}]}
    recorded = StudyConfig(**SMALL_STUDY).model_dump(mode="json")
    _, (chosen,) = plan_final(tmp_path, recorded, study, [{**row, "regime": "steep", "template": "log"}], {"lr": 0.3})
    assert (chosen.template, chosen.regime, chosen.training.epochs, chosen.training.lr) == ("log", "steep", 3, 0.3)


def test_a_measurement_that_goes_on_keeps_its_trackers(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"log": ("tensorboard",)}).model_dump(mode="json")
    settings, _ = plan_final(tmp_path, config, None, [], {"log": ("mlflow",)})
    assert settings.log == ("mlflow",)
    (tmp_path / FINAL).mkdir()
    (tmp_path / FINAL / "config.toml").write_text(format_toml(settings))
    for log, kept in ((None, ("mlflow",)), (("none",), ()), (("wandb",), ("wandb",))):
        settings, _ = plan_final(tmp_path, config, None, [], {"log": log})
        assert settings.log == kept


def test_a_measured_pattern_is_exported_with_the_weights_of_its_first_seed(searched: Path) -> None:
    run(searched, choose("log"))
    row = {
        "sources": json.dumps([list(inputs) for inputs in find_template("log").build(5).sources]),
        "key": find_template("log").build(5).key,
        "layers": 5,
        "budget": "log",
        "template": "log",
        "regime": None,
        "strategy": "templates",
        "n_seeds": 1,
        "validation_accuracy": 0.5,
        "validation_loss": 1.0,
    }
    tested = {"number": 0, "n_seeds": 2, "test_accuracy": 0.25, "low": 0.2, "high": 0.3, "test_loss": 2.0}
    config = CONFIG.model_dump(mode="json")
    described = {"config": config, "data": {"classes": 10, "image": [1, 8, 8]}, "environment": {}}
    (exported,) = export_run(searched, described, [(row, {**tested, "n_train": 80, "n_test": 360})], archives=False)
    kept = read_weights(weights_path(searched / FINAL, 0))
    assert kept is not None
    written = load_file(exported.folder / "model.safetensors")
    assert all(torch.equal(value, kept[0][name]) for name, value in written.items())
    measured = read_manifest(exported.folder).measured
    assert measured["normalisation"] == kept[1]
    assert measured["test"]["test_accuracy"] == 0.25
    with pytest.raises(NothingUsableError, match=str(searched)):
        export_run(searched, described, [], archives=False)


def test_on_another_device_nothing_of_the_first_is_asked_for() -> None:
    own = SearchConfig(device="cuda", gpus_per_worker=0.25, engine="graph")
    final = settings_of_final(own, {"device": "cpu"})
    assert (final.device, final.gpus_per_worker, final.engine) == ("cpu", None, "auto")
    same = settings_of_final(own, {"device": "cuda"})
    assert (same.gpus_per_worker, same.engine) == (0.25, "graph")


def test_each_stratum_is_trained_as_it_was_but_for_what_is_given(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = choose("log", "log")
    gentle = Chosen(one.pattern, "log", "templates", "log", "gentle", TrainingConfig(epochs=2, lr=0.01))
    asked: list[Any] = []

    train = Trainer.train

    def note(self: Trainer, job: Job, *rest: Any) -> Any:
        asked.append(job.candidate.training)
        return train(self, job, *rest)

    monkeypatch.setattr(Trainer, "train", note)
    run(searched, [other, gentle], {**CHANGES, "epochs": None, "seeds": 1})
    assert [(one.epochs, one.lr) for one in asked] == [(3, 0.1), (2, 0.01)]


def test_other_data_than_the_runs_are_refused_and_nothing_is_looked_at(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.studies.final.load_data", lambda *_: replace(DIGITS, sha256="another"))
    with pytest.raises(ConflictError, match="was trained on data that are not those of now"):
        run(searched, choose("log"))
    assert not (searched / FINAL / "plan.json").exists()
    assert "test_looked_at" not in trials(searched / "study.db")[0].user_attrs


@pytest.mark.usefixtures("fake")
def test_while_a_search_goes_on_nothing_is_chosen(searched: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(searched)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(ConflictError):
        run(searched, choose("log"))
    holder.communicate()
    assert not (searched / FINAL / "plan.json").exists()
    run(searched, choose("greedy"))  # another choice than the one that was refused


HOLD = """
import sys
from pathlib import Path
from nas.run.lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
