"""Cohorts: candidates trained together are what each is alone, whatever befalls one of them."""

import itertools
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nas.data.readers import load_data
from nas.data.splits import Split
from nas.engines.native import has_bfloat16
from nas.model.candidate import Candidate
from nas.model.cohort import CohortNetwork
from nas.model.config import NetworkConfig
from nas.model.network import build_skip_network
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome
from nas.settings.search import SearchConfig
from nas.training.stepping import N_WARM_UP, Engine
from nas.training.train import Member, train_cohort
from nas.workers.jobs import Cohorts, Job
from nas.workers.stop import StopFlag
from nas.workers.trainer import Trainer, run_serial
from search_spaces.budget import log_budget, parse_budget
from search_spaces.errors import Interrupted
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import iterate_templates
from tests.support.small import SMALL
from tests.support.small_cohorts import (
    N_IMAGES,
    N_STEPS,
    NETWORKS,
    draw_candidates,
    draw_split,
    list_losses,
    slots,
    step_by_step,
    stop_at,
    without_time,
)
from tests.support.training import train_candidate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused layers as on a GPU: by Triton's kernels, interpreted."""
    triton_layers = pytest.importorskip("nas.engines.triton_layers", exc_type=ImportError)
    monkeypatch.setattr("nas.engines.fused_layers.uses_triton", lambda _: True)
    cut = pytest.importorskip("nas.engines.triton_kernels").Cut(64, 16)
    monkeypatch.setattr(triton_layers, "CUTS", dict.fromkeys(triton_layers.CUTS, cut))


FORMS = ("eager", "fused")


def engine_of(form: str) -> Engine:
    return Engine(is_fused=form == "fused")


def assert_same(together: Outcome, alone: Outcome, nats: float = 1e-9) -> None:
    assert list_losses(together) == pytest.approx(list_losses(alone), rel=0, abs=nats)
    assert together.metrics == pytest.approx(alone.metrics, rel=0, abs=nats)
    assert together.metrics.get("validation_accuracy") == alone.metrics.get("validation_accuracy")
    assert together.error == alone.error


# Each network by one engine, the plainest by both; the rest is slow.
BY_DEFAULT = {("log", "eager"), ("log", "fused"), ("wide stem", "fused"), ("bottleneck", "fused")} | {
    ("two blocks", "eager"), ("last", "fused"), ("v2", "eager"), ("large stem", "fused"), ("sum", "eager"),
    ("gated", "fused"), ("dwa", "eager"), ("depthwise", "fused"),
}  # fmt: skip


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "budget", "form"),
    [
        pytest.param(
            name, budget, form, marks=() if budget == "log" and (name, form) in BY_DEFAULT else pytest.mark.slow
        )
        for name, budget, form in itertools.product(NETWORKS, ("log", "total"), FORMS)
        if name != "tiny"
    ],
)
def test_eight_together_are_each_what_they_are_alone(name: str, budget: str, form: str) -> None:
    candidates = draw_candidates(name, budget)
    splits = {one.seed: draw_split(one) for one in candidates}
    config = step_by_step()
    together = train_cohort([Member(one, splits[one.seed]) for one in candidates], config, engine=engine_of(form))
    n_different = len({(one.pattern, one.seed) for one in candidates})
    assert n_different > 3  # more than seeds
    # Rounded: some processors sum in another order at another place of the cohort.
    assert len({tuple(round(loss, 9) for loss in list_losses(one)) for one in together}) == n_different
    for candidate, outcome in zip(candidates, together, strict=True):
        alone = train_candidate(candidate, splits[candidate.seed], config, is_fused=form != "eager")
        assert len(outcome.curve) == N_STEPS
        assert_same(outcome, alone)


@pytest.mark.usefixtures("float64", "triton")
@pytest.mark.parametrize(
    ("name", "budget", "n", "n_images", "n_steps"),
    [
        ("tiny", "total", 2, 3, 1),
        *(
            pytest.param(*names, 3, N_IMAGES, N_STEPS, marks=pytest.mark.slow)
            for names in (("log", "log"), ("last", "total"), ("wide stem", "log"))
        ),
    ],
)
def test_as_a_gpu_runs_them_they_are_what_they_are_alone(
    name: str, budget: str, n: int, n_images: int, n_steps: int
) -> None:
    candidates = draw_candidates(name, budget, n=n)
    splits = {one.seed: draw_split(one, n_images) for one in candidates}
    engine, config = Engine(is_fused=True), step_by_step(n_steps, batch_size=n_images)
    together = train_cohort([Member(one, splits[one.seed]) for one in candidates], config, engine=engine)
    for candidate, outcome in zip(candidates, together, strict=True):
        assert_same(outcome, train_candidate(candidate, splits[candidate.seed], config))


def test_in_float32_they_differ_by_rounding() -> None:
    candidates = draw_candidates()
    splits = {one.seed: draw_split(one) for one in candidates}
    config = step_by_step()
    together = train_cohort([Member(one, splits[one.seed]) for one in candidates], config)
    for candidate, outcome in zip(candidates, together, strict=True):
        alone = train_candidate(candidate, splits[candidate.seed], config)
        assert list_losses(outcome) == pytest.approx(list_losses(alone), rel=0, abs=1e-5)


@pytest.mark.parametrize(
    ("device", "is_fused"), [("cpu", False), ("cpu", True), pytest.param("cuda", True, marks=pytest.mark.gpu)]
)
def test_in_bfloat16_weights_and_statistics_stay_float32_and_losses_near(device: str, is_fused: bool) -> None:
    if is_fused and device == "cpu" and not has_bfloat16():
        pytest.skip("the compiled layers have no bfloat16 on this machine")
    engine = Engine(is_fused=is_fused)
    candidates = draw_candidates(n=3)
    members = [Member(one, draw_split(one, device=device)) for one in candidates]
    config = step_by_step()
    dtypes: set[torch.dtype] = set()
    kept = [
        replace(one, keep_trained=lambda n: dtypes.update(t.dtype for t in n.state_dict().values())) for one in members
    ]
    exact, rough = (train_cohort(kept, config, engine=replace(engine, is_bfloat16=rounds)) for rounds in (False, True))
    assert dtypes == {torch.float32, torch.int64}
    for one, other in zip(exact, rough, strict=True):
        assert list_losses(one) != list_losses(other)
        # bfloat16 keeps 8 bits: a logit of this size is off by about 1 %.
        assert list_losses(other) == pytest.approx(list_losses(one), rel=0, abs=0.05)


@pytest.mark.parametrize("is_fused", [False, True])
def test_a_cohort_in_bfloat16_is_what_its_members_are_alone(is_fused: bool) -> None:
    if is_fused and not has_bfloat16():
        pytest.skip("the compiled layers have no bfloat16 on this machine")
    candidates = draw_candidates("log", "total", n=3)
    members = [Member(one, draw_split(one)) for one in candidates]
    engine = Engine(is_fused=is_fused, is_bfloat16=True)
    together = train_cohort(members, step_by_step(), engine=engine)
    for member, outcome in zip(members, together, strict=True):
        (alone,) = train_cohort([member], step_by_step(), engine=engine)
        assert list_losses(outcome) == pytest.approx(list_losses(alone), rel=0, abs=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("budget", ["log", "total"])
def test_on_a_gpu_a_captured_training_is_an_eager_one(
    budget: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # it rounds by the algorithm chosen
    candidates = draw_candidates("log", budget, n=size)
    config = step_by_step(3 * N_WARM_UP)

    def train(device: str, engine: Engine, folder: Path) -> list[Outcome]:
        own = slots(folder, candidates)
        members = [Member(one, draw_split(one, device=device), slot) for one, slot in zip(candidates, own, strict=True)]
        return train_cohort(members, config, engine=engine)

    on_cpu = train("cpu", Engine(), tmp_path / "cpu")
    eager = train("cuda", Engine(), tmp_path / "eager")
    captured = train("cuda", Engine(is_captured=True), tmp_path / "captured")
    fused = train("cuda", Engine(is_captured=True, is_fused=True), tmp_path / "fused")
    for one, two, three, four in zip(on_cpu, eager, captured, fused, strict=True):
        assert list_losses(two)[:3] == pytest.approx(list_losses(one)[:3], rel=0, abs=1e-3)
        assert list_losses(three) == pytest.approx(list_losses(two), rel=0, abs=1e-3)
        assert list_losses(four) == pytest.approx(list_losses(two), rel=0, abs=1e-3)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("budget", "form"),
    [
        ("log", "eager"),
        ("total", "fused"),
        pytest.param("log", "fused", marks=pytest.mark.slow),
        pytest.param("total", "eager", marks=pytest.mark.slow),
    ],
)
def test_one_that_diverges_leaves_the_others_where_they_were(budget: str, form: str) -> None:
    candidates = draw_candidates("log", budget)
    config = step_by_step(5)
    sound = [Member(one, draw_split(one)) for one in candidates]
    broken = [*sound[:3], Member(candidates[3], draw_split(candidates[3], factor=float("inf"))), *sound[4:]]
    expected = train_cohort(sound, config, engine=engine_of(form))
    found = train_cohort(broken, config, engine=engine_of(form))
    assert found[3].error == "training loss not finite at step 1 of 5"
    assert (found[3].metrics.get("validation_accuracy"), found[3].curve, found[3].strengths) == (None, (), ())
    for number in (0, 1, 2, 4, 5, 6, 7):
        assert without_time(found[number]) == without_time(expected[number])  # bit for bit


def test_where_all_diverge_the_training_ends() -> None:
    candidates = draw_candidates(n=2)
    members = [Member(one, draw_split(one, factor=float("inf"))) for one in candidates]
    n_steps: list[int] = []
    outcomes = train_cohort(members, step_by_step(5), check_stop=lambda: n_steps.append(1))
    assert [one.error for one in outcomes] == ["training loss not finite at step 1 of 5"] * 2
    assert len(n_steps) == 1


@pytest.mark.parametrize("budget", ["log", "total"])
@pytest.mark.parametrize("name", ["log", "wide stem", "bottleneck", "gated", "depthwise"])
def test_what_fills_a_member_up_stays_zero(name: str, budget: str) -> None:
    candidates = draw_candidates(name, budget)
    cohort = CohortNetwork(candidates, torch.device("cpu")).train()
    optimizer = torch.optim.SGD(cohort.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    images = torch.stack([draw_split(one).train_images for one in candidates])
    for _ in range(3):
        optimizer.zero_grad()
        cohort.predict(images).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    is_filled = False
    shapes = [{key: x.shape for key, x in build_skip_network(one).named_parameters()} for one in candidates]
    for key, stacked in cohort.network.named_parameters():
        for member in range(len(candidates)):
            shape = shapes[member][key]
            rest = stacked[member].detach().clone()
            rest[tuple(slice(size) for size in shape)] = 0
            is_filled |= rest.numel() > shape.numel()
            assert not rest.any()
    assert is_filled == (budget != "log" or name == "wide stem")


def test_candidates_with_drops_are_no_cohort() -> None:
    candidates = [replace(one, network=one.network.model_copy(update={"drop_path": 0.1})) for one in draw_candidates()]
    with pytest.raises(ValueError, match="one at a time"):
        CohortNetwork(candidates, torch.device("cpu"))


def test_candidates_around_other_networks_are_no_cohort() -> None:
    first, second = draw_candidates("log", n=1)[0], draw_candidates("bottleneck", n=1)[0]
    with pytest.raises(ValueError, match="must share the network"):
        CohortNetwork([first, second], torch.device("cpu"))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_cohort_goes_on_together_alone_or_apart(tmp_path: Path, form: str) -> None:
    candidates = draw_candidates("log", "total", n=4)
    splits = [draw_split(one) for one in candidates]
    config = step_by_step(6)

    def train(numbers: list[int], folder: Path, check_stop: Callable[[], None] = lambda: None) -> list[Outcome]:
        own = slots(folder, candidates)
        members = [Member(candidates[k], splits[k], own[k]) for k in numbers]
        return train_cohort(members, config, check_stop, engine=engine_of(form))

    whole = train([0, 1, 2, 3], tmp_path / "whole")
    with pytest.raises(Interrupted):
        train([0, 1, 2, 3], tmp_path / "cut", stop_at(4))
    resumed = train([0, 1], tmp_path / "cut")
    assert [one.resumed_epoch for one in resumed] == [4, 4]
    with pytest.raises(Interrupted):
        train([2], tmp_path / "cut", stop_at(1))
    rest = train([2, 3], tmp_path / "cut")  # of epochs 5 and 4, which cannot take a step together
    assert [one.resumed_epoch for one in rest] == [5, 4]
    for expected, found in zip(whole, [*resumed, *rest], strict=True):
        assert_same(found, expected)


@pytest.mark.usefixtures("float64")
def test_a_pause_is_each_member_s_own(tmp_path: Path) -> None:
    candidates = draw_candidates("log", "total", n=3)
    config = step_by_step(4)
    members = [
        Member(one, draw_split(one), slot) for one, slot in zip(candidates, slots(tmp_path, candidates), strict=True)
    ]
    paused = train_cohort(members, config, pause_after=2)
    assert [(one.paused, one.epochs, one.strengths) for one in paused] == [(True, 2, ())] * 3
    (best,) = train_cohort(members[1:2], config)
    alone = train_candidate(candidates[1], members[1].split, config)
    assert (best.resumed_epoch, best.epochs) == (2, 4)
    assert_same(best, replace(alone, curve=(*best.curve[:2], *alone.curve[2:])))


def test_seconds_are_shared() -> None:
    candidates = draw_candidates(n=4)
    members = [Member(one, draw_split(one)) for one in candidates]
    started = time.perf_counter()
    outcomes = train_cohort(members, step_by_step())
    elapsed = time.perf_counter() - started
    assert all(one.seconds > 0 for one in outcomes)
    assert sum(one.seconds for one in outcomes) <= elapsed  # four whole times would be more


@pytest.mark.usefixtures("triton")
def test_the_index_of_triton_s_kernels_changes_in_place() -> None:
    candidates = draw_candidates(n=6)
    cohort, expected = (
        CohortNetwork(own, torch.device("cpu"), is_fused=True) for own in (candidates[:3], candidates[3:])
    )
    (changed,), (other,) = cohort._fused, expected._fused
    assert changed is not None and changed._index is not None and other is not None and other._index is not None
    before = changed._index.sources
    assert not torch.equal(before, other._index.sources)
    assert cohort.take_on(candidates[3:])
    assert changed._index.sources is before
    assert torch.equal(before, other._index.sources)
    assert changed._index.degrees == other._index.degrees


# --- executors -----------------------------------------------------------------------------------------------------

DIGITS = load_data("digits", None)


class ListSource:
    """Candidates from a list; outcomes by number."""

    def __init__(self, jobs: list[Job]) -> None:
        self.left = list(jobs)
        self.outcomes: dict[int, Outcome] = {}
        self.lost: list[tuple[int, str]] = []

    def ask(self) -> Job | None:
        return self.left.pop(0) if self.left else None

    def tell(self, number: int, outcome: Outcome) -> None:
        assert number not in self.outcomes
        self.outcomes[number] = outcome

    def lose(self, number: int, reason: str) -> None:
        self.lost.append((number, reason))

    def put_back(self, number: int) -> None:
        raise AssertionError(f"no node dies here, with candidate {number}")

    def give_back(self) -> None:
        raise AssertionError("whoever calls the executor gives back")


@dataclass(frozen=True)
class DoubleTrainer(Trainer):
    """Trains in double precision, so that summation order leaves no trace."""

    def _train(self, jobs: Any, check_stop: Any) -> list[Outcome]:
        torch.set_default_dtype(torch.float64)
        try:
            return super()._train(jobs, check_stop)
        finally:
            torch.set_default_dtype(torch.float32)

    def _split(self, seed: int) -> Split:
        split = super()._split(seed)
        images: list[Tensor] = [split.train_images, split.validation_images]
        return replace(split, train_images=images[0].double(), validation_images=images[1].double())


def list_jobs(config: SearchConfig) -> list[Job]:
    """The named templates of two budgets in turn, two seeds of each."""
    network = config.network(10, (1, 8, 8))
    patterns = [pattern for _, pattern in iterate_templates(log_budget(config.layers))]
    generator = derive_generator(0, "jobs")
    patterns = [*patterns[:3], *(sample_uniform(parse_budget("total:12", config.layers), generator) for _ in range(3))]
    candidates = [Candidate(pattern, network, seed) for pattern in patterns for seed in range(2)]
    return [Job(number, candidate) for number, candidate in enumerate(candidates)]


CONFIG = SearchConfig(**{**SMALL, "layers": 6, "validation_examples": 64})


def test_the_serial_executor_gives_in_cohorts_what_it_gives_one_by_one() -> None:
    by_size = {}
    for size in (1, 5):
        config = CONFIG.model_copy(update={"cohort": size})
        by_size[size] = ListSource(list_jobs(config))
        run_serial(by_size[size], DoubleTrainer(DIGITS, config), StopFlag())
    assert by_size[5].outcomes.keys() == by_size[1].outcomes.keys() == set(range(12))
    for number, alone in by_size[1].outcomes.items():
        assert alone.error is None
        assert_same(by_size[5].outcomes[number], alone)


@pytest.mark.slow
def test_ray_gives_in_cohorts_what_the_serial_executor_gives_one_by_one() -> None:
    ray_executor = pytest.importorskip("nas.workers.ray_executor")
    pytest.importorskip("ray").cloudpickle.register_pickle_by_value(
        sys.modules[__name__]
    )  # workers cannot import this file
    serial, in_cohorts = ListSource(list_jobs(CONFIG)), ListSource(list_jobs(CONFIG))
    run_serial(serial, DoubleTrainer(DIGITS, CONFIG), StopFlag())
    config = CONFIG.model_copy(update={"cohort": 4})
    ray_executor.run_ray(in_cohorts, DoubleTrainer(DIGITS, config), StopFlag(), 2)
    assert in_cohorts.lost == []
    assert in_cohorts.outcomes.keys() == serial.outcomes.keys()
    for number, alone in serial.outcomes.items():
        assert_same(in_cohorts.outcomes[number], alone)


@dataclass(frozen=True)
class NarrowTrainer(Trainer):
    """A machine whose memory holds two members, and of seed 1 none; what it was given is told in the outcomes."""

    def _train(self, jobs: Any, check_stop: Any) -> list[Outcome]:  # noqa: ARG002  Trainer's form
        from nas.workers.jobs import LostError

        if len(jobs) > 2 or any(job.candidate.seed == 1 for job in jobs):
            raise LostError("out of memory")
        return [Outcome(image_metrics(0.5, 1.0), len(jobs), 0.0) for _ in jobs]


def test_a_cohort_that_the_memory_does_not_hold_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # slow among all that tests have loaded
    candidates = draw_candidates(n=8)
    source = ListSource([Job(number, one) for number, one in enumerate(candidates)])
    run_serial(source, NarrowTrainer(DIGITS, CONFIG.model_copy(update={"cohort": 8})), StopFlag())
    assert source.lost == [(number, "out of memory") for number in (1, 4, 7)]
    n_together = {number: outcome.epochs for number, outcome in source.outcomes.items()}
    assert n_together == {0: 1, 2: 2, 3: 2, 5: 1, 6: 1}  # halves: (0 1) (2 3) (4 5) (6 7), and those with seed 1 again


def test_what_a_lost_training_held_is_let_go_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Any]] = []

    def fill(members: list[Member], *_: Any) -> list[Outcome]:
        network = build_skip_network(members[0].candidate)
        network.itself = network  # as torch's first optimiser of a process does, by a detour
        assert all(one() is None for one in held)
        held.append(weakref.ref(network))
        raise torch.OutOfMemoryError(f"CUDA out of memory with {len(members)}")

    monkeypatch.setattr("nas.workers.trainer.train_cohort", fill)
    monkeypatch.setattr(Trainer, "_split", lambda *_: None)
    source = ListSource([Job(number, one) for number, one in enumerate(draw_candidates(n=3))])
    run_serial(source, Trainer(DIGITS, CONFIG.model_copy(update={"cohort": 2})), StopFlag())
    assert len(held) == 4
    assert [number for number, _ in source.lost] == [0, 1, 2]


def test_a_cohort_s_data_are_split_once_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(Trainer, "_split", lambda _, seed: seeds.append(seed))
    monkeypatch.setattr(
        "nas.workers.trainer.train_cohort",
        lambda members, *_: [Outcome(image_metrics(0.5, 1.0), 1, 0.0)] * len(members),
    )
    Trainer(DIGITS, CONFIG).train_cohort([Job(number, one) for number, one in enumerate(draw_candidates(n=8))])
    assert seeds == [0, 1, 2]


def test_a_worker_that_shares_a_gpu_keeps_to_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    fractions: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", fractions.append)
    monkeypatch.setattr(
        "nas.workers.trainer.train_cohort",
        lambda members, *_: [Outcome(image_metrics(0.5, 1.0), 1, 0.0)] * len(members),
    )
    monkeypatch.setattr(Trainer, "_split", lambda *_: None)
    jobs = [Job(0, draw_candidates(n=1)[0])]
    for device, share in (("cuda", 0.25), ("cuda", None), ("cuda", 2.0), ("cpu", None)):
        config = CONFIG.model_copy(update={"device": device, "gpus_per_worker": share})
        assert Trainer(DIGITS, config).train_cohort(jobs) == [Outcome(image_metrics(0.5, 1.0), 1, 0.0)]
    assert fractions == [0.25]


def test_an_error_in_a_cohort_is_blamed_on_whom_it_concerns(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(members: list[Member], *_: Any, **__: Any) -> list[Outcome]:
        if any(member.candidate.seed == 1 for member in members):
            raise RuntimeError("seed 1")
        return [Outcome(image_metrics(0.5, 1.0), 1, 0.0)] * len(members)

    monkeypatch.setattr("nas.workers.trainer.train_cohort", fail)
    candidates = [replace(one, seed=number) for number, one in enumerate(draw_candidates(n=4))]
    network = candidates[0].network.model_copy(update={"image": (1, 8, 8)})
    source = ListSource([Job(number, replace(one, network=network)) for number, one in enumerate(candidates)])
    run_serial(source, Trainer(DIGITS, CONFIG.model_copy(update={"cohort": 4})), StopFlag())
    assert source.lost == []
    assert {number: one.error for number, one in source.outcomes.items()} == {
        0: None, 1: "RuntimeError: seed 1", 2: None, 3: None,
    }  # fmt: skip


def test_cohorts_are_of_one_stratum_and_what_was_lost_before_is_alone() -> None:
    first, second = draw_candidates("log", n=4), draw_candidates("bottleneck", n=4)
    mixed = [one for pair in zip(first, second, strict=True) for one in pair]
    jobs = [Job(number, one) for number, one in enumerate(mixed)]
    jobs[2] = replace(jobs[2], is_alone=True)
    jobs[7] = replace(jobs[7], pause_after=2)
    cohorts = Cohorts(ListSource(jobs), 3)
    given = []
    while jobs_given := cohorts.ask():
        given.append([job.number for job in jobs_given])
    assert sorted(given) == [[0, 4, 6], [1, 3, 5], [2], [7]]
    assert cohorts.ask() == []


def test_no_more_is_handed_out_than_two_cohorts() -> None:
    networks = [NetworkConfig(layers=8, growth=growth) for growth in range(1, 12)]
    pattern = draw_candidates("log", n=1)[0].pattern
    source = ListSource([Job(number, Candidate(pattern, one, 0)) for number, one in enumerate(networks)])
    assert len(Cohorts(source, 3).ask()) == 1
    assert len(source.left) == 11 - 6
