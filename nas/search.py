"""The loop: ask -> train -> tell."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from nas.config import Candidate, SearchConfig
from nas.cost import Cost, predict_cost
from nas.data import DataSet, check_split
from nas.executors import Trainer
from nas.ledger import Ledger
from nas.proposals import create_strategy, iterate_templates
from nas.readers import load_data
from nas.run_directory import execute, hold_run, open_ledger
from nas.train import Outcome
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

Listener = Callable[[Candidate | None, Outcome | None, int, int], None]


class Search:
    """All candidates of a run in the order they are trained: a source for an executor.

    Each pattern with every seed before the next pattern; first what an interrupted run left running, then named
    templates, then proposals.

    Args:
        config: the run's settings, resolved.
        data: its data set.
        ledger: open.
        listener: called as (candidate, outcome, n_finished, n_asked) after every outcome.
    """

    def __init__(self, config: SearchConfig, data: DataSet, ledger: Ledger, listener: Listener) -> None:
        self._config = config
        self._ledger = ledger
        self._listener = listener
        self._network = config.network(data.n_classes, data.image)
        self._budget = parse_budget(config.budget, config.layers)
        self._cost: Cost | None = None
        self._load_history()
        self._queue = deque(self._interrupted)
        self._plan = self._iterate_plan()
        self.n_asked = count_asked(config)

    def _load_history(self) -> None:
        entries = self._ledger.entries()
        self._candidates = {e.number: self._candidate(e.pattern, e.template, e.seed) for e in entries}
        self._strategies = {e.number: e.strategy for e in entries}
        self._entered = {(e.pattern.key, e.seed) for e in entries}
        self._interrupted = [e.number for e in entries if e.running]
        self.n_finished = len(entries) - len(self._interrupted)
        self._proposed = list(dict.fromkeys(e.pattern for e in entries if e.strategy != "templates"))
        self._known = {e.pattern.key for e in entries}
        if self._config.strategy != "templates":
            self._strategy = create_strategy(self._config.strategy, self._budget, self._config.seed)
            for entry in entries:
                if not entry.running:
                    self._strategy.tell(entry.pattern, entry.seed, entry.validation_accuracy)

    def _candidate(self, pattern: ConnectionPattern, template: str | None, seed: int) -> Candidate:
        return Candidate(pattern, self._network, seed, template)

    def _iterate_plan(self) -> Iterator[tuple[str, Candidate]]:
        """Every candidate that is not in the ledger yet, with its strategy."""
        for strategy, template, pattern in self._iterate_patterns():
            self._known.add(pattern.key)
            for seed in range(self._config.seeds):
                if (pattern.key, seed) not in self._entered:
                    yield strategy, self._candidate(pattern, template, seed)

    def _iterate_patterns(self) -> Iterator[tuple[str, str | None, ConnectionPattern]]:
        if self._config.templates:
            for name, pattern in iterate_templates(self._budget):
                yield "templates", name, pattern
        if self._config.strategy == "templates":
            return
        for number in range(self._config.trials):
            if number < len(self._proposed):
                yield self._config.strategy, None, self._proposed[number]
            elif (proposal := self._strategy.ask(number, self._known)) is not None:
                yield self._config.strategy, None, proposal
            else:
                return

    def ask(self) -> tuple[int, Candidate] | None:
        """See executors.Source."""
        if self._queue:
            number = self._queue.popleft()
            return number, self._candidates[number]
        following = next(self._plan, None)
        if following is None:
            return None
        strategy, candidate = following
        number = self._ledger.enter(candidate, strategy, self._budget, self._check_cost(candidate))
        self._candidates[number] = candidate
        self._strategies[number] = strategy
        return number, candidate

    def _check_cost(self, candidate: Candidate) -> Cost:
        cost = predict_cost(candidate)
        if self._cost is None:
            self._cost = cost
        if self._network.has_equal_cost:
            assert cost == self._cost, f"candidates of one stratum cost {cost} and {self._cost}"
        return cost

    def tell(self, number: int, outcome: Outcome) -> None:
        """See executors.Source."""
        self._ledger.finish(number, outcome)
        candidate = self._candidates[number]
        if self._strategies[number] != "templates":
            self._strategy.tell(candidate.pattern, candidate.seed, outcome.validation_accuracy)
        self.n_finished += 1
        self._listener(candidate, outcome, self.n_finished, self.n_asked)


def count_asked(config: SearchConfig) -> int:
    """Number of candidates that a run of these settings ends with.

    Raises:
        InputError: none at all, or fewer patterns left beside the templates than trials.
    """
    budget = parse_budget(config.budget, config.layers)
    n_templates = len(list(iterate_templates(budget))) if config.templates else 0
    if config.strategy == "templates":
        if n_templates == 0:
            raise InputError(
                f"no named template spends budget {budget} at {config.layers} layers: use another strategy"
            )
        return n_templates * config.seeds
    n_left = budget.n_patterns_at_most - n_templates
    if config.trials > n_left:
        raise InputError(
            f"budget {budget} has {n_left} patterns of {config.layers} layers beside the named templates, fewer than "
            f"the {config.trials} trials asked for: give --trials {n_left} or less"
        )
    return (n_templates + config.trials) * config.seeds


def run_search(run: Path, config: SearchConfig, listener: Listener) -> None:
    """Search, or go on with a search, in a run directory until it holds what was asked for.

    Args:
        run: the run directory, made if missing.
        config: from settle_config.
        listener: see Search; also called once at the start with neither candidate nor outcome.

    Raises:
        InputError: the data cannot be used, or the settings contradict it.
        ConflictError: another process or another run holds the directory.
        Interrupted: a signal came; the same call goes on.
    """
    data = load_data(config.dataset, config.data)
    n_asked = count_asked(config)
    check_split(data, config.seeds, config.train_examples)
    config.network(data.n_classes, data.image)
    with hold_run(run, config) as check_stop:
        search = Search(config, data, open_ledger(run, config, data, n_asked), listener)
        listener(None, None, search.n_finished, search.n_asked)
        execute(search, Trainer(data, config), check_stop, search.n_asked - search.n_finished)
