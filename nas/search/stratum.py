"""One budget of a search: its patterns, in order, and which outcomes each proposal may use."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nas.records.metrics import IMAGE_METRICS, Metrics, find_objective
from nas.records.template import read_pattern
from nas.records.trial import Outcome, Trial
from nas.search.halving import Halving
from nas.search.space import OpenSpace
from nas.search.strategies.registry import create_strategy
from nas.search.strategy import Training
from nas.settings.search import N_TRAININGS, SearchConfig, list_rungs
from search_spaces.budget import Budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.families import iterate_families
from search_spaces.pattern import ConnectionPattern
from search_spaces.surrogate.earlier import EarlierTraining, average_earlier
from search_spaces.surrogate.target import find_cost
from search_spaces.templates import build_named, is_template_name, iterate_templates

TEMPLATES = "templates"  # strategy of the patterns that were named, not proposed
TABLE = "table"  # strategy of the patterns that a table of earlier outcomes has
MODEL = "model"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A training that is to be made.

    Args:
        strategy: its strategy as the ledger records it.
        template: the name of its template, or None.
    """

    pattern: ConnectionPattern
    seed: int
    strategy: str
    template: str | None = None


class Stratum:
    """The trainings of one budget: first those of the named patterns, then those that the strategy proposes.

    A proposal uses the outcomes of the trainings that came `lookahead` or more places before it, with halving of none
    in its own bracket. So it does not depend on the order in which trainings end, the number of workers, or a kill.

    Args:
        n_validation: number of validation images.
        metrics: metrics of the task.
        earlier: trainings of before at this budget, which the strategy learns from; they are none of the stratum's own.
    """

    def __init__(
        self,
        budget: Budget,
        config: SearchConfig,
        n_validation: int,
        metrics: Metrics = IMAGE_METRICS,
        earlier: Sequence[EarlierTraining] = (),
    ) -> None:
        self.budget = budget
        self.ended: str | None = None
        self._config = config
        self._n_validation = n_validation
        self._objective = find_objective(config.objective, metrics)
        self._has_warned = False
        self._named = dict(iterate_named(budget, config))
        self._names = {pattern.key: name for name, pattern in self._named.items()}
        self._strategy = None
        if config.strategy != TEMPLATES:
            create = partial(create_strategy, earlier=average_earlier(earlier)) if earlier else create_strategy
            self._strategy = create(config.strategy, OpenSpace(budget), config.seed, config.seeds)
        self._earlier = {training.pattern.key for training in earlier}
        self._n_proposals = _count_proposals(budget, config, len(self._named))
        self._halving = None
        if config.halving:
            n_patterns = self._n_proposals // config.seeds
            self._halving = Halving(list_rungs(config.epochs), n_patterns, config.seeds)
        self._proposed: list[Trial] = []  # those in the ledger
        self._numbers: set[int] = set()  # of those of them that the settings ask for
        self._known: set[str] = set()  # keys of the patterns that have arrived
        self._history: list[Training] = []  # in order of arrival, outcomes as far as the next proposal may know them
        self._n_known = 0
        self._costs: dict[tuple[str, int], float | None] = {}  # by key and seed; None: the training failed

    def load(self, entries: Iterable[Trial]) -> None:
        """Bring the stratum to where the run was: proposals stay, and halving repeats its decisions."""
        entries = list(entries)
        self._proposed = [entry for entry in entries if not self._is_first_of_named(entry)]
        self._numbers = {entry.number for entry in self._proposed[: self._n_proposals]}
        for entry in entries:
            if not entry.running:
                self.note(entry.pattern.key, entry.seed, entry.outcome)
        if self._halving is not None:
            self._replay_rungs(self._halving)

    def _is_first_of_named(self, entry: Trial) -> bool:
        """Return whether a training is one that comes before all proposals; the model repeats named patterns later."""
        return entry.strategy == TEMPLATES and entry.seed < _count_first_seeds(self._config)

    def asks_for(self, entry: Trial) -> bool:
        """Return whether the settings ask for a training of the ledger."""
        if self._is_first_of_named(entry):
            return entry.pattern.key in self._names
        return entry.number in self._numbers

    def arrivals(self) -> Iterator[Arrival | None]:
        """Give every training in order; None while the next proposal waits for outcomes that it uses."""
        for name, pattern in self._named.items():
            for seed in range(_count_first_seeds(self._config)):
                yield self._arrive(Arrival(pattern, seed, TEMPLATES, name))
        for number in range(self._n_proposals):
            if number < len(self._proposed):
                entry = self._proposed[number]
                arrival: Arrival | None = Arrival(entry.pattern, entry.seed, entry.strategy, entry.template)
            else:
                while not self._learn_all_but_latest():
                    yield None
                arrival = self._propose()
            if arrival is None:
                break
            halving = self.halving_of(arrival.strategy)
            if halving is not None:
                halving.place(arrival.pattern.key, arrival.seed)
            yield self._arrive(arrival)
        if self._halving is not None:
            self._halving.close()

    def _arrive(self, arrival: Arrival) -> Arrival:
        self._known.add(arrival.pattern.key)
        self._history.append(Training(arrival.pattern, arrival.seed, None, "pending"))
        return arrival

    def _propose(self) -> Arrival | None:
        assert self._strategy is not None, "templates propose nothing"
        proposal = self._strategy.propose(self._history)
        if proposal is None:
            self.ended = "there is no other pattern"
            return None
        key, seed = proposal.pattern.key, proposal.seed
        if key not in self._known and self._is_patience_over():
            self.ended = f"{self._config.patience} trainings in a row were no better than the best before them"
            return None
        if key in self._names:
            return Arrival(proposal.pattern, seed, TEMPLATES, self._names[key])
        if key in self._earlier:  # chosen by outcomes, if not of this run
            return Arrival(proposal.pattern, seed, TABLE)
        # Patterns that survive halving are no random sample of the space, and statistics must not use them as one.
        return Arrival(proposal.pattern, seed, self._config.strategy + (" halved" if self._halving else ""))

    def _is_patience_over(self) -> bool:
        if self._config.patience is None:
            return False
        costs = [training.cost for training in self._history if training.cost is not None]
        return len(costs) - costs.index(min(costs)) > self._config.patience if costs else False

    def _learn_all_but_latest(self) -> bool:
        """Put the outcomes that the next proposal uses into the history; return False while one is missing."""
        learns = self._strategy is not None and self._strategy.learns
        if not learns and self._config.patience is None:
            return True
        n_known = len(self._history) - (self._config.lookahead or 1) + 1
        if self._halving is not None:
            n_known = min(n_known, self._find_open_bracket(self._halving))
        while self._n_known < n_known:
            training = self._history[self._n_known]
            place = training.pattern.key, training.seed
            if place not in self._costs:
                return False
            cost = self._costs[place]
            known = replace(training, cost=cost, state="failed" if cost is None else "finished")
            self._history[self._n_known] = known
            self._n_known += 1
        return True

    def _find_open_bracket(self, halving: Halving) -> int:
        """Return the number of trainings before the first one whose bracket still lacks a pattern or a seed."""
        n_trained = Counter(
            training.pattern.key for training in self._history if training.pattern.key not in self._names
        )
        keys = list(n_trained)
        n_decided = 0
        for start in range(0, len(keys), halving.bracket_size):
            bracket = keys[start : start + halving.bracket_size]
            if len(bracket) < halving.bracket_size or any(n_trained[key] < self._config.seeds for key in bracket):
                break
            n_decided = start + halving.bracket_size
        is_open = set(keys[n_decided:])
        places = (place for place, training in enumerate(self._history) if training.pattern.key in is_open)
        return next(places, len(self._history))

    def note(self, key: str, seed: int, outcome: Outcome | None) -> None:
        """Take a training's last outcome, at a rung if it was dropped there; None: it failed."""
        self._costs[key, seed] = None if outcome is None else self.find_cost(outcome.metrics)

    def find_cost(self, metrics: Mapping[str, float]) -> float | None:
        """Return what the search makes small; None: the training failed, or has a loss without a logarithm."""
        name = self._objective.name
        cost = find_cost(metrics, name, self._n_validation, maximize=self._objective.maximize)
        if cost is None and name in metrics and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s is %g, and a loss that is not above 0 has no logarithm: the search counts it as a failure; call "
                "the metric by a name that does not end in loss to have its value compared",
                name, metrics[name],
            )  # fmt: skip
        return cost

    def halving_of(self, strategy: str) -> Halving | None:
        """Return the halving of a strategy's patterns; None for named ones, which are trained to the end."""
        return None if strategy == TEMPLATES else self._halving

    def _replay_rungs(self, halving: Halving) -> None:
        halved = [entry for entry in self._proposed if entry.strategy != TEMPLATES]
        for entry in halved:
            halving.place(entry.pattern.key, entry.seed)
        for rung in halving.rungs:
            for entry in halved:
                if rung in entry.rungs:
                    cost = self.find_cost(entry.metrics_at(rung))
                    halving.report(entry.pattern.key, entry.seed, rung, math.inf if cost is None else cost)
                elif not entry.running and not entry.metrics:
                    halving.fail(entry.pattern.key, entry.seed)


def iterate_named(budget: Budget, config: SearchConfig) -> Iterator[tuple[str, ConnectionPattern]]:
    """List the patterns that a search trains in addition to its proposals, each once, by name.

    These are the templates that spend the budget, the families fitted to it, and what --pattern gives: the patterns of
    files, by the file's name, and further templates. Only templates can have `rule` transitions.

    Raises:
        InputError: a file cannot be read, or there is no such template.
    """
    named = dict(iterate_templates(budget)) if config.templates else {}
    if config.templates and config.transition != "rule":
        named |= dict(iterate_families(budget))
    given = ((Path(text).name, read_given(text, budget)) for text in config.pattern or ())
    named |= {name: pattern for name, pattern in given if budget.is_met_by(pattern)}
    first_names: dict[str, str] = {}
    for name, pattern in named.items():
        if first_names.setdefault(pattern.key, name) == name:
            yield name, pattern


def check_patterns(config: SearchConfig) -> None:
    """Check that the run would train every pattern that is given.

    Raises:
        InputError: a file cannot be read, or there is no such template; a pattern spends none of the run's budgets, or
            has another one's name.
    """
    budgets = list_budgets(config)
    names = [Path(path).name for path in config.pattern or ()]
    for path, name in zip(config.pattern or (), names, strict=True):
        patterns = [read_given(path, budget) for budget in budgets]
        pattern = patterns[0]
        if not any(budget.is_met_by(each) for budget, each in zip(budgets, patterns, strict=True)):
            raise InputError(
                f"{path} has {pattern.depth} layers and {pattern.n_connections} connections, and spends no budget of "
                f"the run, {' or '.join(map(str, budgets))} over {budgets[0].depth} layers: give --budget "
                f"total:{pattern.n_connections}"
            )
        if names.count(name) > 1:
            raise InputError(f"two pattern files are called {name}, which the report could not tell apart: rename one")


def read_given(text: str, budget: Budget) -> ConnectionPattern:
    """Return the pattern that a --pattern stands for: of a file, or of a template at the budget's depth.

    Raises:
        InputError: the file cannot be read, or there is no such template.
    """
    return build_named(text, budget) if is_template_name(text) else read_pattern(Path(text))


def list_budgets(config: SearchConfig) -> list[Budget]:
    """Return the budgets of a run."""
    return [parse_budget(text, config.pattern_depth) for text in config.budgets]


def _count_first_seeds(config: SearchConfig) -> int:
    """Return how often a named pattern is trained before any proposal."""
    return 1 if config.strategy == MODEL else config.seeds


def _count_proposals(budget: Budget, config: SearchConfig, n_named: int) -> int:
    """Return the number of trainings that the strategy proposes at a budget.

    Raises:
        InputError: there is none, or the budget has fewer patterns than named ones and trials together.
    """
    n_first = n_named * _count_first_seeds(config)
    if config.strategy == TEMPLATES:
        return 0
    n_trainings = N_TRAININGS if config.trainings is None else config.trainings
    if config.trials is None and n_trainings <= n_first:
        raise InputError(
            f"trainings {n_trainings}: the {n_named} named patterns of budget {budget} take {n_first} of them, and "
            "none is left for proposals: give more, or --no-templates"
        )
    if config.strategy == MODEL:
        return n_trainings - n_first
    n_left = budget.count_up_to(n_named + (config.trials or n_trainings)) - n_named
    if config.trials is None:
        return min((n_trainings - n_first) // config.seeds, n_left) * config.seeds
    if config.trials > n_left:
        raise InputError(
            f"budget {budget} has {n_left} patterns of {budget.depth} layers besides the named templates, fewer than "
            f"the {config.trials} trials asked for: give --trials {n_left} or less"
        )
    return config.trials * config.seeds


def count_trainings(budget: Budget, config: SearchConfig) -> int:
    """Return the number of trainings at a budget that a run of these settings makes.

    Raises:
        InputError: there is none, or the budget has fewer patterns than are asked for.
    """
    n_named = len(list(iterate_named(budget, config)))
    if config.strategy == TEMPLATES and n_named == 0:
        raise InputError(f"no named template spends budget {budget} at {budget.depth} layers: use another strategy")
    return n_named * _count_first_seeds(config) + _count_proposals(budget, config, n_named)
