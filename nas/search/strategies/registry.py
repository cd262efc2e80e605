"""The strategies by name: ours, samplers of Optuna, and those that other packages bring."""

from collections.abc import Sequence

from nas.search.space import Space
from nas.search.strategies.evolution import EvolveStrategy
from nas.search.strategy import Proposal, RandomStrategy, Strategy, Training
from nas.settings.search import OPTUNA, STRATEGY_NAMES, load_strategies
from search_spaces.errors import InputError
from search_spaces.surrogate.earlier import EarlierOutcome

STRATEGIES = tuple(name for name in STRATEGY_NAMES if name != "templates")  # our own that propose patterns


def create_strategy(
    name: str,
    space: Space,
    seed: int,
    seeds: int,
    seeds_at_most: int | None = None,
    earlier: Sequence[EarlierOutcome] = (),
) -> Strategy:
    """Return the strategy of that name for a space; the run's seed fixes its draws.

    Args:
        seeds: number of trainings of each pattern; the model decides itself.
        seeds_at_most: number of seeds that there are trainings with, in a table; None: any number.
        earlier: outcomes of earlier trainings, from which the strategy `model` learns; others have no use for them.

    Raises:
        InputError: there is no such strategy, or it is broken.
    """
    if name in ("random", "random:wide"):
        return RandomStrategy(space, seed, seeds, wide=name == "random:wide")
    if name == "evolve":
        return EvolveStrategy(space, seed, seeds, seeds_at_most)
    if name == "model":
        from nas.search.strategies.model import ModelStrategy  # numba: 0.5 s

        return ModelStrategy(space, seed, seeds_at_most=seeds_at_most, earlier=earlier)
    if name.startswith(OPTUNA):
        from nas.search.strategies.sampler import SamplerStrategy, find_sampler  # numba, Optuna

        return SamplerStrategy(space, seed, seeds, find_sampler(name.removeprefix(OPTUNA)))
    plugins = load_strategies()
    make = plugins.find(name)
    if make is None:
        known = ", ".join((*STRATEGIES, *plugins.objects))
        raise InputError(f"there is no strategy {name!r}; there are {known}, {OPTUNA}NAME and templates")
    about = f"strategy {name!r} of {plugins.origins[name]}"
    try:
        return BroughtStrategy(about, make(space, seed, seeds, seeds_at_most), space)
    except Exception as error:  # of a stranger's class: anything
        raise InputError(f"{about} cannot be made: {type(error).__name__}: {error}; repair the package") from error


class BroughtStrategy:
    """Another package's strategy, whose errors and wrong proposals name that package.

    Args:
        about: what it is and where it comes from.
        strategy: the strategy; without `learns`, costs change its proposals.
        space: the patterns that it may propose.
    """

    def __init__(self, about: str, strategy: Strategy, space: Space) -> None:
        self.learns = bool(getattr(strategy, "learns", True))
        self._about = about
        self._strategy = strategy
        self._space = space

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        """Return the next training.

        Raises:
            InputError: the strategy failed, or proposed what cannot be trained.
        """
        try:
            proposal = self._strategy.propose(tuple(history))
        except Exception as error:
            failed = f"{self._about} failed after {len(history)} trainings: {type(error).__name__}: {error}"
            raise InputError(f"{failed}; repair the package, and the same command continues the run") from error
        wrong = None if proposal is None else self._find_fault(proposal, history)
        if wrong is not None:
            raise InputError(
                f"{self._about} proposed {wrong}; repair the package, and the same command continues the run"
            )
        return proposal

    def _find_fault(self, proposal: object, history: Sequence[Training]) -> str | None:
        if not isinstance(proposal, Proposal):
            return f"{proposal!r:.80}, which is no Proposal"
        pattern, seed = proposal.pattern, proposal.seed
        if not self._space.budget.is_met_by(pattern):
            return f"a pattern of {pattern.n_connections} connections, which does not spend budget {self._space.budget}"
        if type(seed) is not int or seed < 0:
            return f"seed {seed!r:.40}, which is no whole number from 0"
        is_again = any(training.pattern == pattern and training.seed == seed for training in history)
        return f"pattern {pattern.key[:12]} with seed {seed} twice" if is_again else None
