"""The loop: ask -> train -> tell."""

from collections.abc import Iterator
from pathlib import Path

from nas.config import Candidate, SearchConfig
from nas.cost import Cost, predict_cost
from nas.data import DataSet, check_split
from nas.executors import Trainer
from nas.halving import Halving
from nas.ledger import Entry, Ledger
from nas.proposals import create_strategy, iterate_templates
from nas.readers import load_data
from nas.run_directory import execute, hold_run, open_ledger
from nas.source import LedgerSource, Listener, Task
from nas.train import Outcome
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern


class Search(LedgerSource):
    """All candidates of a search: each pattern with every seed before the next; named templates, then proposals.

    Args:
        config: the run's settings, resolved.
        data: its data set.
        ledger, listener: see LedgerSource.
    """

    def __init__(self, config: SearchConfig, data: DataSet, ledger: Ledger, listener: Listener) -> None:
        super().__init__(ledger, listener, count_asked(config), config.attempts)
        self._config = config
        self._network = config.network(data.n_classes, data.image)
        self._budget = parse_budget(config.budget, config.layers)
        self._cost: Cost | None = None
        if config.strategy != "templates":
            self._strategy = create_strategy(config.strategy, self._budget, config.seed)
        self._halving = Halving(config.epochs, config.trials, config.seeds) if config.halving else None
        self._load_history()
        self._plan = self._iterate_plan()

    def _load_history(self) -> None:
        entries = self._ledger.entries()
        self._entered = {(e.pattern.key, e.seed) for e in entries}
        self._proposed = list(dict.fromkeys(e.pattern for e in entries if e.strategy != "templates"))
        self._known = {e.pattern.key for e in entries}
        for entry in entries:
            if not entry.running and entry.strategy != "templates":
                self._strategy.tell(entry.pattern, entry.seed, entry.validation_accuracy)
        if self._halving is not None:
            self._replay_rungs(self._halving, [e for e in entries if e.strategy != "templates"])
        self._resume((e, self._task(e.strategy, e.template, e.pattern, e.seed)) for e in entries)
        self._advance()

    def _replay_rungs(self, halving: Halving, entries: list[Entry]) -> None:
        """Lead halving to where the run was: it decides again what it decided before."""
        for entry in entries:
            halving.place(entry.pattern.key)
        for rung in halving.rungs:
            for entry in entries:
                if rung in entry.rungs:
                    halving.report(entry.pattern.key, entry.seed, rung, entry.rungs[rung])
                elif not entry.running and entry.validation_accuracy is None:
                    halving.fail(entry.pattern.key, entry.seed)

    def _task(self, strategy: str, template: str | None, pattern: ConnectionPattern, seed: int) -> Task:
        return Task(Candidate(pattern, self._network, seed, template), strategy, self._budget)

    def _iterate_plan(self) -> Iterator[Task]:
        """Every training that is not in the ledger yet."""
        for strategy, template, pattern in self._iterate_patterns():
            self._known.add(pattern.key)
            for seed in range(self._config.seeds):
                if (pattern.key, seed) not in self._entered:
                    yield self._task(strategy, template, pattern, seed)

    def _iterate_patterns(self) -> Iterator[tuple[str, str | None, ConnectionPattern]]:
        if self._config.templates:
            for name, pattern in iterate_templates(self._budget):
                yield "templates", name, pattern
        if self._config.strategy == "templates":
            return
        # Those that survive halving are no sample of the space any more: statistics must not take them for one.
        label = self._config.strategy + (" halved" if self._config.halving else "")
        for number in range(self._config.trials):
            if number < len(self._proposed):
                proposal: ConnectionPattern | None = self._proposed[number]
            else:
                proposal = self._strategy.ask(number, self._known)
            if proposal is None:
                break
            if self._halving is not None:
                self._halving.place(proposal.key)
            yield label, None, proposal
        if self._halving is not None:
            self._halving.close()
            self._advance()

    def _next_task(self) -> Task | None:
        task = next(self._plan, None)
        if task is not None and self._network.has_equal_cost:
            cost = predict_cost(task.candidate)
            self._cost = self._cost or cost
            assert cost == self._cost, f"candidates of one stratum cost {cost} and {self._cost}"
        return task

    def _pause_after(self, task: Task) -> int | None:
        """The rung that a proposal is trained to next; the named templates are trained to the end, to compare with."""
        if self._halving is None or task.strategy == "templates":
            return None
        return self._halving.pause_after(task.candidate.pattern.key)

    def _measured(self, task: Task, outcome: Outcome) -> None:
        if self._halving is None or task.strategy == "templates":
            return
        key, seed = task.candidate.pattern.key, task.candidate.seed
        if outcome.paused:
            assert outcome.validation_accuracy is not None, "a training that failed does not pause"
            self._halving.report(key, seed, outcome.epochs, outcome.validation_accuracy)
        elif outcome.validation_accuracy is None:
            self._halving.fail(key, seed)
        self._advance()

    def _advance(self) -> None:
        """Let go on, or end, what waits at a rung that is decided."""
        if self._halving is None:
            return
        for number, outcome in sorted(self._waiting.items()):
            key = self._unfinished[number].candidate.pattern.key
            if not self._halving.is_alive(key):
                self._prune(number)
            elif self._halving.pause_after(key) != outcome.epochs:
                self._go_on(number)

    def _end(self, number: int, outcome: Outcome) -> None:
        task = self._unfinished[number]
        super()._end(number, outcome)
        if task.strategy != "templates":
            accuracy = None if outcome.paused else outcome.validation_accuracy
            self._strategy.tell(task.candidate.pattern, task.candidate.seed, accuracy)


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
    check_split(data, config.seeds, config.train_examples, config.validation_examples)
    config.network(data.n_classes, data.image)
    with hold_run(run, config) as check_stop:
        search = Search(config, data, open_ledger(run, config, data, n_asked), listener)
        listener(None, None, search.n_finished, search.n_asked)
        execute(search, Trainer(data, config, run.resolve()), check_stop, search.n_asked - search.n_finished)
