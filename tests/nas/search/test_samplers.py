"""Samplers of Optuna as strategies: what they are told, and which pattern is nearest to what they suggest."""

import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from nas.records.checked import validate
from nas.search.replay import ListedSpace, ReplayPlan, replay
from nas.search.space import SPREAD_MEASURES
from nas.search.strategies.registry import create_strategy
from nas.search.strategy import Training
from nas.settings.search import SearchConfig
from search_spaces.errors import InputError
from search_spaces.measures.registry import measure
from tests.support.synthetic_table import BUDGET, list_patterns

PATTERNS = list_patterns()
SPACE = ListedSpace(BUDGET, PATTERNS, [True] * len(PATTERNS), named=(7, 3))
VALUES = np.array([list(measure(pattern, SPREAD_MEASURES).values()) for pattern in PATTERNS])
OWN = f"optuna:{__name__}:"


class Fixed(BaseSampler):
    """Suggests the same shares of every range, and keeps the trials that it was shown."""

    shares: ClassVar[tuple[float, ...]] = (0.1, 0.9, 0.4)
    shown: ClassVar[list[FrozenTrial]] = []

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:  # noqa: ARG002
        Fixed.shown[:] = study.get_trials(deepcopy=True)[:-1]
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> float:  # noqa: ARG002
        share = dict(zip(SPREAD_MEASURES, self.shares, strict=True))[param_name]
        return float(param_distribution.low + share * (param_distribution.high - param_distribution.low))


class WithoutSeed(RandomSampler):
    def __init__(self) -> None:
        super().__init__()


def propose(history: Sequence[Training], seeds: int = 1) -> Any:
    return create_strategy(OWN + "Fixed", SPACE, 0, seeds).propose(history)


@pytest.mark.parametrize("n_known", [0, 3])
def test_the_unknown_pattern_nearest_to_the_suggestion_is_proposed(n_known: int) -> None:
    low, high, spread = VALUES.min(axis=0), VALUES.max(axis=0), VALUES.std(axis=0)
    target = low + np.array(Fixed.shares) * (high - low)
    order = np.argsort([sum(((row - target) / spread) ** 2) for row in VALUES], kind="stable")
    history = [Training(PATTERNS[row], 0, 1.0, "finished") for row in order[:n_known]]
    proposal = propose(history)
    assert (proposal.pattern, proposal.seed) == (PATTERNS[order[n_known]], 0)


def test_a_sampler_is_told_the_values_that_patterns_have_and_their_mean_costs() -> None:
    first, pending, failed, half = PATTERNS[:4]
    history = [
        *(Training(first, seed, cost, "finished") for seed, cost in enumerate((1.0, 2.0))),
        *(Training(pending, seed, None, "pending") for seed in range(2)),
        *(Training(failed, seed, None, "failed") for seed in range(2)),
        Training(half, 0, 4.0, "finished"),
        Training(half, 1, None, "failed"),
    ]
    propose(history, seeds=2)
    states = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL, TrialState.COMPLETE)
    assert tuple(trial.state for trial in Fixed.shown) == states
    assert [trial.value for trial in Fixed.shown] == [1.5, None, None, 4.0]
    for trial, values in zip(Fixed.shown, VALUES, strict=False):
        assert list(trial.params) == list(SPREAD_MEASURES)
        assert list(trial.params.values()) == pytest.approx(values)


def test_a_pattern_gets_all_its_seeds_before_the_next() -> None:
    again = propose([Training(PATTERNS[0], 0, 1.0, "finished")], seeds=2)
    assert (again.pattern, again.seed) == (PATTERNS[0], 1)


def test_it_is_replayed_on_a_table() -> None:
    costs = np.random.default_rng(0).normal(0.5, 0.1, (len(PATTERNS), 4))
    plan = ReplayPlan(("random", "optuna:random", "optuna:tpe"), n_replays=1, n_trainings=8, n_visible=2)
    done = replay(plan, SPACE, costs, create_strategy)
    rows = {name: one.trained[0].tolist() for name, one in done.by_strategy.items()}
    assert rows["optuna:tpe"][:2] == [7, 3]  # it starts with the named templates
    assert all(len(set(each)) == 8 for each in rows.values())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("optuna:simplex", "tpe, gp, cmaes, random"),
        ("optuna:no_such_module:Sampler", "ModuleNotFoundError"),
        ("optuna:optuna.samplers:NoSuch", "AttributeError"),
        (OWN + "WithoutSeed", "no seed"),
    ],
)
def test_what_is_no_sampler_is_refused(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        create_strategy(name, SPACE, 0, 1)


@pytest.mark.skipif(importlib.util.find_spec("cmaes") is not None, reason="the library is installed")
def test_a_missing_library_is_named() -> None:
    with pytest.raises(InputError, match="install cmaes"):
        create_strategy("optuna:cmaes", SPACE, 0, 1)


def test_settings_take_samplers() -> None:
    assert validate(SearchConfig, {"strategy": "optuna:tpe", "trials": 3}).strategy == "optuna:tpe"
    with pytest.raises(InputError, match=r"model, random, random:wide, evolve or templates, .* got 'tpe'"):
        validate(SearchConfig, {"strategy": "tpe"})
