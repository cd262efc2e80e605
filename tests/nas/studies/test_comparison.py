"""Networks side by side: matched FLOPs, what dense teaches, and the same figures after an interruption."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from analysis.data.results import read_run
from analysis.page.document import format_markdown
from analysis.report.report import compose_report
from analysis.strengths.learning import select_trained
from nas.data.readers import load_data
from nas.layouts.condensed import CondenseNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.records.checked import validate
from nas.records.trial import Trial
from nas.run.directory import RENEWED
from nas.run.ledger import Ledger
from nas.settings.comparison import NETWORKS, LineupConfig
from nas.settings.resume import settle_config
from nas.studies.comparison import Contender, learn_pattern, make_contender, match_growth, run_lineup
from nas.workers.jobs import Job
from search_spaces.budget import log_budget
from search_spaces.errors import ConflictError, InputError, Interrupted, NothingUsableError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template
from search_spaces.wiring.strongest import average_relative
from tests.support.driving import FakeTrainer

DIGITS = load_data("digits", None)
TINY: dict[str, Any] = {
    "layers": 5, "blocks": 2, "growth": 6, "train_examples": 64, "epochs": 1, "seeds": 2, "workers": 1, "device": "cpu"
}  # fmt: skip


@dataclass(frozen=True)
class StrengthTrainer(FakeTrainer):
    """Trains nothing; the strengths of a training are made up, but fixed by its seed."""

    def train_cohort(self, jobs: Sequence[Job], check_stop: Callable[[], None] = lambda: None) -> list[Any]:
        """Add strengths to the outcomes, and to those of CondenseNets shares that were kept."""
        outcomes = super().train_cohort(jobs, check_stop)
        return [
            replace(outcome, strengths=make_strengths(job), kept=make_kept(job))
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]


def make_strengths(job: Job) -> tuple[tuple[float, ...], ...]:
    blocks = job.candidate.network.blocks
    chance = random.Random(f"{job.candidate.pattern.key} {job.candidate.seed}")  # noqa: S311  not a secret
    return tuple(tuple(chance.random() for _ in job.candidate.pattern.connections) for _ in range(blocks))


def make_kept(job: Job) -> tuple[tuple[float, ...], ...]:
    """The nearer an input, the less is kept of it."""
    if not job.candidate.network.has_layout:
        return ()
    return (tuple((target - source) / 100 for source, target in job.candidate.pattern.connections),)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that take no time."""
    monkeypatch.setattr("nas.studies.comparison.Trainer", StrengthTrainer)


def run(folder: Path, n_before_signal: int | None = None, **changes: Any) -> list[str]:
    """Run, or go on with, a tiny comparison; gives what the listener was told, in order."""
    told: list[str] = []

    def listen(trial: Trial | None, _finished: int, _asked: int) -> None:
        if trial is not None:
            told.append(f"{trial.template} {trial.seed}")
            if len(told) == n_before_signal:
                raise Interrupted(2)

    run_lineup(folder, settle_config(folder, None, TINY | changes, LineupConfig), listen)
    return told


def entries_of(folder: Path) -> list[Trial]:
    return Ledger(folder / "study.db", {}, RENEWED).entries()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lineup") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.studies.comparison.Trainer", StrengthTrainer)
        told = run(folder)
    assert told == [f"{name} {seed}" for name in NETWORKS for seed in range(2)]
    return folder


def test_every_network_is_trained_with_every_seed(whole: Path) -> None:
    entries = entries_of(whole)
    assert [(entry.regime, entry.seed) for entry in entries] == [(name, seed) for name in NETWORKS for seed in range(2)]
    assert all(entry.value is not None for entry in entries)
    depths = {str(entry.regime): entry.pattern.depth for entry in entries}
    assert depths == {name: 10 if name == "log-densenet-v1" else 5 for name in NETWORKS}


def test_learned_is_the_strongest_of_the_trained_dense_networks(whole: Path) -> None:
    entries = entries_of(whole)
    dense = [entry for entry in entries if entry.regime == "dense"]
    connections = list(find_template("dense").build(5).connections)
    shares: dict[tuple[int, int], float] = dict.fromkeys(connections, 0.0)
    for entry in dense:
        assert len(entry.strengths) == 2  # blocks
        for strengths in entry.strengths:
            by_connection = dict(zip(connections, strengths, strict=True))
            for source, target in connections:
                layer = [by_connection[j, target] for j in range(target)]
                shares[source, target] += by_connection[source, target] / (sum(layer) / len(layer))
    expected = []
    for target, degree in enumerate(log_budget(5).per_layer or (), start=1):
        others = sorted(range(target - 1), key=[-shares[source, target] for source in range(target - 1)].__getitem__)
        expected.append(tuple(sorted([target - 1, *others[: degree - 1]])))
    learned = {entry.pattern for entry in entries if entry.regime == "learned"}
    assert learned == {ConnectionPattern.from_sources(expected)}


def test_a_real_training_of_dense_gives_strengths_to_learn_from(tmp_path: Path) -> None:
    assert run(tmp_path / "run", networks=("dense", "learned"), seeds=1, blocks=1) == ["dense 0", "learned 0"]
    dense, learned = entries_of(tmp_path / "run")
    assert learned.pattern == learn_pattern(dense.pattern, dense.strengths)
    assert len(dense.strengths[0]) == dense.pattern.n_connections


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("n_before_signal", [3, 11])
def test_an_interrupted_comparison_ends_with_the_same_figures(
    whole: Path, tmp_path: Path, n_before_signal: int
) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "run", n_before_signal)
    assert len([entry for entry in entries_of(tmp_path / "run") if not entry.running]) == n_before_signal
    run(tmp_path / "run")
    found, expected = entries_of(tmp_path / "run"), entries_of(whole)
    for one, other in zip(found, expected, strict=True):
        for name in ("regime", "seed", "pattern", "value", "strengths"):
            assert getattr(one, name) == getattr(other, name), name


@pytest.mark.usefixtures("fake")
def test_what_was_learned_stays_when_more_seeds_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "run", 11)  # one of learned is done
    (before,) = {entry.pattern for entry in entries_of(tmp_path / "run") if entry.regime == "learned"}

    def refuse(*_: Any) -> None:
        raise AssertionError("it was learned again")

    monkeypatch.setattr("nas.studies.comparison.learn_pattern", refuse)
    run(tmp_path / "run", seeds=3)
    after = [entry.pattern for entry in entries_of(tmp_path / "run") if entry.regime == "learned"]
    assert after == [before] * 3


def test_growth_is_the_one_of_nearest_flops() -> None:
    config = validate(LineupConfig, {**TINY, "growth": 11, "bottleneck": True, "blocks": 3})
    made = {name: make_contender(name, config, DIGITS) for name in NETWORKS if name != "learned"}

    def flops(contender: Contender, growth: int) -> int:
        network = contender.network.model_copy(update={"growth": growth, "stem_channels": 2 * growth})
        return predict_cost(Candidate(contender.pattern, network, 0, contender.template)).flops

    target = flops(made["log"], 11)
    for name, contender in made.items():
        ratios = {growth: flops(contender, growth) / target for growth in range(1, 40)}
        nearest = min(ratios, key=lambda growth: max(ratios[growth], 1 / ratios[growth]))
        assert contender.network.growth == nearest, name
    assert made["optimum"].candidate(0).pattern.in_degrees == made["log"].pattern.in_degrees
    assert made["log"].network.growth == 11
    alike = {
        made[name].network.model_copy(update={"growth": 1, "stem_channels": 2}) for name in made if "v" not in name
    }
    assert {(one.transition, one.compression) for one in alike} == {("all", 0.5)}
    assert len(alike) == 1
    assert made["log-densenet-v1"].network.transition == "v1"


@pytest.mark.parametrize("target", [1, 2, 5, 6, 7, 12, 99, 100, 101, 10_001])
def test_match_growth_takes_the_nearest_by_ratio(target: int) -> None:
    found = match_growth(lambda growth: growth * growth, target)
    ratios = {growth: max(growth * growth / target, target / growth**2) for growth in range(1, 200)}
    assert ratios[found] == min(ratios.values())


def test_relative_strengths_are_averaged_over_trainings() -> None:
    dense = find_template("dense").build(3)
    # Layer 3 reads 0, 1 and 2. Shares of its mean: 1.8, 0.2, 1 and 0.375, 2.25, 0.375; by plain means 0 would win.
    first, second = [1.0, 1, 1, 9, 1, 5], [1.0, 1, 1, 0.001, 0.006, 0.001]
    assert learn_pattern(dense, [first]).sources[2] == (0, 2)
    assert learn_pattern(dense, [first, second]).sources[2] == (1, 2)


def test_dense_that_fails_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(NothingUsableError, match="no training of dense gave connection strengths"):
        run(tmp_path / "run", networks=("dense", "learned"), lr=1000, epochs=2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networks": ("learned", "log")}, "learned keeps the strongest connections of dense"),
        ({"networks": ("densenet",)}, "networks"),
        ({"networks": ()}, "networks"),
        ({"networks": 5}, "networks: .*got 5"),
        ({"networks": "dense"}, "networks: .*got 'dense'"),
        ({"networks": [["dense"]]}, "networks"),
        ({"transition": "last"}, "and surroundings of its own"),
        ({"stem_channels": 12}, "and surroundings of its own"),
        ({"budget": "total:9"}, "and surroundings of its own"),
        ({"exits": "every:2", "merge": "sum"}, "and surroundings of its own: drop .*exits"),
    ],
)
def test_refusals(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        validate(LineupConfig, TINY | changes)


def test_a_run_of_another_kind_is_told_by_its_name(whole: Path) -> None:
    from nas.settings.search import SearchConfig

    with pytest.raises(ConflictError, match=r"holds a comparison, not a search: use `.*compare-networks"):
        settle_config(whole, None, {}, SearchConfig)


CONDENSING: dict[str, Any] = {"networks": ("condensed", "log", "condensenet"), "growth": 16}


def test_the_networks_that_condense_are_trained_where_they_are_asked_for() -> None:
    config = validate(LineupConfig, TINY | CONDENSING)
    assert config.networks == ("log", "condensenet", "condensed")
    assert {"condensenet", "condensed"}.isdisjoint(validate(LineupConfig, TINY).networks)
    contender = make_contender("condensenet", config, DIGITS)
    assert contender.pattern == find_template("dense").build(10)  # of both blocks
    assert contender.network.surroundings == CondenseNet()
    flops = {
        growth: predict_cost(replace(contender, network=replace_growth(contender, growth)).candidate(0)).flops
        for growth in range(4, 100, 4)
    }
    target = predict_cost(make_contender("log", config, DIGITS).candidate(0)).flops
    nearest = min(flops, key=lambda growth: abs(math.log(flops[growth] / target)))
    assert contender.network.growth == nearest


def replace_growth(contender: Contender, growth: int) -> NetworkConfig:
    return contender.network.model_copy(update={"growth": growth})


@pytest.mark.usefixtures("fake")
def test_condensed_has_the_connections_of_which_most_was_kept(tmp_path: Path) -> None:
    assert run(tmp_path / "run", **CONDENSING) == [
        f"{name} {seed}" for name in ("log", "condensenet", "condensed") for seed in range(2)
    ]
    entries = entries_of(tmp_path / "run")
    # Of the farthest inputs most was kept; the chain is always there.
    degrees = log_budget(10).per_layer or ()
    expected = [
        tuple(sorted({*range(degree - 1), layer - 1})) for layer, degree in enumerate(degrees, start=1)
    ]  # fmt: skip
    patterns = {entry.pattern for entry in entries if entry.regime == "condensed"}
    assert patterns == {ConnectionPattern.from_sources(expected)}
    contenders = {str(entry.regime): entry.facts["growth"] for entry in entries}
    assert all(contenders[name] % 4 == 0 for name in ("condensenet", "condensed"))
    taught = select_trained(read_run(tmp_path / "run"), "condensenet", "condensation")
    assert taught.numbers == (2, 3)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("n_before_signal", [3, 4, 5])
def test_an_interrupted_comparison_with_networks_that_condense_ends_with_the_same_figures(
    tmp_path: Path, n_before_signal: int
) -> None:
    run(tmp_path / "whole", **CONDENSING)
    with pytest.raises(Interrupted):
        run(tmp_path / "run", n_before_signal, **CONDENSING)
    run(tmp_path / "run", **CONDENSING)
    found, expected = entries_of(tmp_path / "run"), entries_of(tmp_path / "whole")
    assert [(each.regime, each.seed, each.pattern, each.value) for each in found] == [
        (each.regime, each.seed, each.pattern, each.value) for each in expected
    ]


def test_a_real_condensenet_teaches_condensed(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"networks": ("condensenet", "condensed"), "seeds": 1, "layers": 3, "epochs": 2, "growth": 4}
    assert run(tmp_path / "run", **tiny) == ["condensenet 0", "condensed 0"]
    teacher, pupil = entries_of(tmp_path / "run")
    assert pupil.pattern == learn_pattern(teacher.pattern, teacher.kept)
    text = format_markdown(compose_report(read_run(tmp_path / "run")).blocks)
    assert "| condensed | the connections of which condensenet kept most" in text
    shares = average_relative(teacher.pattern, teacher.kept)
    assert f"condensation kept {min(shares):.2f} to {max(shares):.2f} times" in text
    assert "with V1, condensenet and condensed of all blocks" in text


@pytest.mark.usefixtures("fake")
def test_a_condensenet_whose_trainings_failed_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.nas.studies.test_comparison.make_kept", lambda _: ())
    with pytest.raises(NothingUsableError, match="condensenet"):
        run(tmp_path / "run", **CONDENSING)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"networks": ("condensed", "log")}, "give network condensenet too"),
        ({"networks": ("condensenet", "log"), "merge": "gated"}, "merge gated"),
    ],
)
def test_settings_in_which_nothing_can_condense_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        validate(LineupConfig, TINY | values)
