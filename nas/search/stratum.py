"""One budget of a search: its patterns, in order, and which outcomes each proposal may use."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.records.template import read_pattern
from nas.records.trial import Trial
from nas.search.halving import Halving
from nas.search.strategies import create_strategy
from nas.settings.search import SearchConfig
from search_spaces.budget import Budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.families import iterate_families
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import iterate_templates

TEMPLATES = "templates"  # strategy of the patterns that were named, not proposed


@dataclass(frozen=True, slots=True)
class Arrival:
    """A pattern that is to be trained.

    Args:
        strategy: its strategy as the ledger records it.
        template: the name of its template, or None.
    """

    pattern: ConnectionPattern
    strategy: str
    template: str | None = None


class Stratum:
    """The patterns of one budget: first the named ones, then proposals.

    A proposal uses the outcomes of the patterns that came `lookahead` or more places before it, with halving of none in
    its own bracket. So it does not depend on the order in which trainings end, the number of workers, or a kill.
    """

    def __init__(self, budget: Budget, config: SearchConfig) -> None:
        self.budget = budget
        self._config = config
        self._strategy = None
        if config.strategy != TEMPLATES:
            self._strategy = create_strategy(config.strategy, budget, config.seed)
        self._halving = Halving(config.epochs, config.trials, config.seeds) if config.halving else None
        self._proposed: list[ConnectionPattern] = []  # those in the ledger
        self._named: set[str] | None = None
        self._known: set[str] = set()
        self._order: list[ConnectionPattern] = []
        self._n_named = 0
        self._n_told = 0
        self._outcomes: dict[str, dict[int, float | None]] = {}  # key -> seed -> accuracy; None: failed

    def load(self, entries: Iterable[Trial]) -> None:
        """Bring the stratum to where the run was: proposals stay, and halving repeats its decisions."""
        entries = list(entries)
        proposals = [entry for entry in entries if entry.strategy != TEMPLATES]
        self._proposed = list(dict.fromkeys(entry.pattern for entry in proposals))
        self._known = {entry.pattern.key for entry in entries}
        for entry in entries:
            if not entry.running:
                self.note(entry.pattern.key, entry.seed, _measured_accuracy(entry))
        if self._halving is not None:
            _replay_rungs(self._halving, proposals)

    def asks_for(self, pattern: ConnectionPattern, strategy: str) -> bool:
        """Return whether the settings ask for a pattern of the ledger."""
        if strategy != TEMPLATES:
            return pattern in self._proposed[: self._config.trials]
        if self._named is None:
            self._named = {named.key for _, named in iterate_named(self.budget, self._config)}
        return pattern.key in self._named

    def arrivals(self) -> Iterator[Arrival | None]:
        """Give every pattern in order; None while the next proposal waits for outcomes that it uses."""
        for name, pattern in iterate_named(self.budget, self._config):
            self._n_named += 1
            yield self._arrive(Arrival(pattern, TEMPLATES, name))
        if self._strategy is None:
            return
        # Patterns that survive halving are no random sample of the space, and statistics must not use them as one.
        label = self._config.strategy + (" halved" if self._halving else "")
        for number in range(self._config.trials):
            if number < len(self._proposed):
                proposal: ConnectionPattern | None = self._proposed[number]
            else:
                while not self._tell_all_but_latest(number):
                    yield None
                proposal = self._strategy.ask(number, self._known)
            if proposal is None:
                break
            if self._halving is not None:
                self._halving.place(proposal.key)
            yield self._arrive(Arrival(proposal, label))
        if self._halving is not None:
            self._halving.close()

    def _arrive(self, arrival: Arrival) -> Arrival:
        self._order.append(arrival.pattern)
        self._known.add(arrival.pattern.key)
        return arrival

    def _tell_all_but_latest(self, number: int) -> bool:
        """Tell the strategy the outcomes that proposal `number` uses; return False while one is missing."""
        if self._strategy is None or not self._strategy.learns:
            return True
        n_known = len(self._order) - self._config.lookahead + 1
        if self._halving is not None:
            n_known = min(n_known, self._n_named + number - number % self._halving.bracket_size)
        while self._n_told < n_known:
            pattern = self._order[self._n_told]
            by_seed = self._outcomes.get(pattern.key, {})
            if any(seed not in by_seed for seed in range(self._config.seeds)):
                return False
            accuracies = [accuracy for accuracy in by_seed.values() if accuracy is not None]
            self._strategy.tell(pattern, sum(accuracies) / len(accuracies) if accuracies else None)
            self._n_told += 1
        return True

    def note(self, key: str, seed: int, accuracy: float | None) -> None:
        """Take a training's last accuracy, at a rung if it was dropped there; None: it failed."""
        self._outcomes.setdefault(key, {})[seed] = accuracy

    def halving_of(self, strategy: str) -> Halving | None:
        """Return the halving of a strategy's patterns; None for named ones, which are trained to the end."""
        return None if strategy == TEMPLATES else self._halving


def _measured_accuracy(entry: Trial) -> float | None:
    return None if entry.outcome is None else entry.outcome.validation_accuracy


def _replay_rungs(halving: Halving, entries: list[Trial]) -> None:
    for entry in entries:
        halving.place(entry.pattern.key)
    for rung in halving.rungs:
        for entry in entries:
            if rung in entry.rungs:
                halving.report(entry.pattern.key, entry.seed, rung, entry.rungs[rung])
            elif not entry.running and entry.validation_accuracy is None:
                halving.fail(entry.pattern.key, entry.seed)


def iterate_named(budget: Budget, config: SearchConfig) -> Iterator[tuple[str, ConnectionPattern]]:
    """List the patterns that a search trains in addition to its proposals, each once, by name.

    These are the templates that spend the budget, with several budgets also the families fitted to each, so that
    budgets can be compared, and the patterns of files, by the file's name. Only templates can have `rule` transitions.

    Raises:
        InputError: a file cannot be read.
    """
    named = dict(iterate_templates(budget)) if config.templates else {}
    if config.templates and len(config.budgets) > 1 and config.transition != "rule":
        named |= dict(iterate_families(budget))
    files = ((Path(path).name, read_pattern(Path(path))) for path in config.pattern or ())
    named |= {name: pattern for name, pattern in files if budget.is_met_by(pattern)}
    first_names: dict[str, str] = {}
    for name, pattern in named.items():
        if first_names.setdefault(pattern.key, name) == name:
            yield name, pattern


def check_patterns(config: SearchConfig) -> None:
    """Check that the run would train every pattern file.

    Raises:
        InputError: a file cannot be read, spends none of the run's budgets, or has another one's name.
    """
    budgets = list_budgets(config)
    names = [Path(path).name for path in config.pattern or ()]
    for path, name in zip(config.pattern or (), names, strict=True):
        pattern = read_pattern(Path(path))
        if not any(budget.is_met_by(pattern) for budget in budgets):
            raise InputError(
                f"{path} has {pattern.depth} layers and {pattern.n_connections} connections, and spends no budget of "
                f"the run, {' or '.join(map(str, budgets))} over {budgets[0].depth} layers: give --budget "
                f"total:{pattern.n_connections}"
            )
        if names.count(name) > 1:
            raise InputError(f"two pattern files are called {name}, which the report could not tell apart: rename one")


def list_budgets(config: SearchConfig) -> list[Budget]:
    """Return the budgets of a run."""
    return [parse_budget(text, config.pattern_depth) for text in config.budgets]


def count_arrivals(budget: Budget, config: SearchConfig) -> int:
    """Return the number of patterns of a budget that a run of these settings trains.

    Raises:
        InputError: there is none, or the budget has fewer patterns than named ones and trials together.
    """
    n_named = len(list(iterate_named(budget, config)))
    if config.strategy == TEMPLATES:
        if n_named == 0:
            raise InputError(f"no named template spends budget {budget} at {budget.depth} layers: use another strategy")
        return n_named
    n_left = budget.count_up_to(n_named + config.trials) - n_named
    if config.trials > n_left:
        raise InputError(
            f"budget {budget} has {n_left} patterns of {budget.depth} layers besides the named templates, fewer than "
            f"the {config.trials} trials asked for: give --trials {n_left} or less"
        )
    return n_named + config.trials
