"""Settings of a study."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from nas.model.config import NETWORK, TRAINING, Depth, Epochs, TrainingConfig
from nas.records.checked import Conflict, flag, validate
from nas.records.database import Kind
from nas.settings.search import RUNNING, SEARCH_ONLY, SPACE, SearchConfig, check_enough_patterns
from nas.tasks.reference import IMAGES
from search_spaces.budget import Budget, parse_budget
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from search_spaces.sampling.design import Layout

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")  # of a regime: a column's entry and a figure's label
MAX_RATES = 100


@dataclass(frozen=True, slots=True)
class Regime:
    """A way of training that all patterns of a stratum share.

    Args:
        name: letters, digits, spaces, dots, dashes and underscores.
        training: the run's settings with the regime's own learning rate and epochs.
        checks: name of the regime whose patterns this one trains for longer, or None.
    """

    name: str
    training: TrainingConfig
    checks: str | None = None


class StudyConfig(SearchConfig):
    """All settings of a study: those of a search, some of them without a flag, and its design."""

    kind: ClassVar[Kind] = "study"
    changeable: ClassVar[frozenset[str]] = RUNNING  # all else is in the plan, and the plan is hashed
    without_flags: ClassVar[frozenset[str]] = SEARCH_ONLY

    strategy: str = "random"  # the design says what is trained
    # One budget: a study's strata are depths and regimes.
    budget: str = flag("log", "Connections to place: log, total:E or layers:d1,d2,...", SPACE)
    trials: Annotated[int, Field(ge=0, le=10_000)] = flag(  # never None here
        12, "Patterns drawn uniformly, in addition to the crossed ones.", SPACE
    )
    also_layers: tuple[Depth, ...] = flag(
        (), "Another depth to study, as a stratum of its own. May be repeated.", NETWORK
    )
    cross: str = flag(
        "walk_length,visit_evenness,mean_bd",
        "One to three measures that the design crosses, by name, separated by commas.",
        SPACE,
    )
    bins: str = flag("3,3,2", "Bins of each crossed measure: N or LO:HI:N, separated by commas.", SPACE)
    per_cell: Annotated[int, Field(ge=1, le=100)] = flag(4, "Patterns in each cell of the design.", SPACE)
    optima: Annotated[int, Field(ge=0, le=100)] = flag(
        6, "Number of shortest patterns, each with a control of equal span and visit evenness.", SPACE
    )
    regime: tuple[str, ...] = flag(
        (),
        "NAME=lr:F,epochs:N: a way of training, as a stratum of its own. May be repeated. [default: --lr, and a third "
        "of it]",
        TRAINING,
    )
    tune_lr: str | None = flag(
        None,
        "LO:HI:K, such as .05:.8:5: train every pattern at K learning rates in equal ratios, each a regime, and judge "
        "it at its own best rate. Instead of --regime and --lr. [default: none]",
        TRAINING,
        form="<LO:HI:K>",
    )
    check_epochs: Epochs | None = flag(
        None, "Train a selection spread over the patterns once more, for this many epochs. [default: none]", TRAINING
    )
    check_patterns: Annotated[int, Field(ge=5, le=10_000)] = flag(
        12, "Number of patterns that --check-epochs trains once more.", TRAINING
    )

    @classmethod
    def infer(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take as many bins as there are measures where only the measures are given."""
        known = super().infer(given)
        cross = known.get("cross")
        if isinstance(cross, str) and "bins" not in known:
            from search_spaces.sampling.design import choose_numbers  # loads numba, which the flags do without

            known["bins"] = choose_numbers(cross)
        return known

    @field_validator("tune_lr")
    @classmethod
    def _check_rates(cls, text: str | None) -> str | None:
        if text is not None:
            list_rates(text)
        return text

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        for needed, check in super().conflicts():
            if check is not check_enough_patterns:  # a design takes as many patterns as there are
                yield needed, check
        yield {"budget", "layers", "also_layers"}, _check_budgets
        yield {"strategy", "halving", "pattern"}, _check_strategy
        shape = {"stem_channels", "compression", "transition", "growth", "block_layers", "merge", "exits"}
        yield {*shape, "surroundings", "budget"}, _check_equal_cost
        yield {"regime", "tune_lr", "check_epochs", *TrainingConfig.model_fields}, _check_regimes
        yield {"task", "tune_lr"}, _check_tuning
        yield {"cross", "bins", "also_layers"}, _check_crossing

    @property
    def depths(self) -> tuple[int, ...]:
        """Return all numbers of layers, in the order given."""
        return tuple(dict.fromkeys((self.layers, *self.also_layers)))

    @property
    def deepest(self) -> int:
        """Return the largest number of layers."""
        return max(self.depths)

    @property
    def measures(self) -> tuple[str, ...]:
        """Return the names of the crossed measures, which are those that the study declares."""
        return tuple(self.cross.split(","))

    def regimes(self) -> tuple[Regime, ...]:
        """Return the regimes, and after them those that check them."""
        texts = self.regime or (f"high-lr=lr:{self.lr:g}", f"low-lr=lr:{self.lr / 3:.3g}")
        if self.tune_lr is not None:
            texts = tuple(f"lr {rate:g}=lr:{rate!r}" for rate in list_rates(self.tune_lr))
        own = TrainingConfig(**{name: getattr(self, name) for name in TrainingConfig.model_fields})
        main = tuple(_parse_regime(text, own) for text in texts)
        if self.check_epochs is None:
            return main
        longer = {"epochs": self.check_epochs}
        return main + tuple(
            Regime(f"{regime.name} {self.check_epochs} epochs", regime.training.model_copy(update=longer), regime.name)
            for regime in main
        )

    def budget_at(self, depth: int) -> Budget:
        """Return the budget of one depth."""
        return parse_budget(self.budget, depth)

    def layout(self, depth: int) -> "Layout":
        """Return what the design of one number of layers contains."""
        from search_spaces.sampling.design import Layout, parse_crossing

        return Layout(
            crossed=parse_crossing(self.cross, self.bins),
            per_cell=self.per_cell,
            optima=self.optima,
            uniform=self.trials,
            reversals=self.budget_at(depth).per_layer is None,
            seed=self.seed,
        )


def list_rates(text: str) -> tuple[float, ...]:
    """Return the K learning rates in equal ratios of a text LO:HI:K; those between the ends have three digits.

    >>> list_rates(".05:.8:5")
    (0.05, 0.1, 0.2, 0.4, 0.8)

    Raises:
        ValueError: the text is not of that form, or two of its rates would be the same.
    """
    try:
        low, high, count = (kind(part) for kind, part in zip((float, float, int), text.split(":"), strict=True))
    except ValueError:
        raise ValueError(f"expected LO:HI:K, as .05:.8:5, not {text!r}") from None
    if not 3 <= count <= MAX_RATES or not 0 < low < high <= 1000:
        raise ValueError(
            f"expected 3 to {MAX_RATES} learning rates, from LO above 0 to a larger HI of at most 1000, not {text!r}"
        )
    between = (low * (high / low) ** (k / (count - 1)) for k in range(1, count - 1))
    rates = (low, *(float(f"{rate:.3g}") for rate in between), high)
    if any(float(f"{rate:g}") >= float(f"{following:g}") for rate, following in pairwise(rates)):
        raise ValueError(f"expected rates that differ in three digits: give a wider range or fewer than {text!r}")
    return rates


def _parse_regime(text: str, own: TrainingConfig) -> Regime:
    """Read a regime in the command line's form; what it leaves out is as in the run.

    Raises:
        InputError: the text is not of that form, or a value is out of range.
    """
    name, equals, rest = text.partition("=")
    values: dict[str, Any] = {}
    for part in rest.split(","):
        key, colon, number = part.strip().partition(":")
        kinds = {"lr": float, "epochs": int}
        try:
            if not equals or not colon or key not in kinds or key in values:
                raise ValueError(part)
            values[key] = kinds[key](number)
        except ValueError:
            raise InputError(f"regime {text!r}: expected NAME=lr:F,epochs:N, as gentle=lr:0.05,epochs:9") from None
    if not NAME.fullmatch(name):
        raise InputError(
            f"regime {text!r}: a name is up to 40 letters, digits, spaces, dots, dashes and underscores, and begins "
            "with a letter or digit"
        )
    return Regime(name, validate(TrainingConfig, {**own.model_dump(), **values}))


def _check_tuning(config: StudyConfig) -> str | None:
    if config.tune_lr is None or config.task == IMAGES:
        return None
    return "tune-lr judges image networks only: name the learning rates of another task by --regime NAME=lr:F"


def _check_regimes(config: StudyConfig) -> str | None:
    if config.tune_lr is not None and config.regime:
        return "tune-lr makes a regime of each learning rate: drop regime, or drop tune-lr"
    try:
        regimes = config.regimes()
    except InputError as error:
        return str(error)
    names = [regime.name for regime in regimes]
    if len(set(names)) < len(names):
        return "two regimes have one name: name each differently"
    longest = max(regime.training.epochs for regime in regimes if regime.checks is None)
    if config.check_epochs is not None and config.check_epochs <= longest:
        return f"check-epochs {config.check_epochs} is not longer than every regime: give more epochs"
    return None


def _check_budgets(config: StudyConfig) -> str | None:
    for depth in config.depths:
        try:
            config.budget_at(depth)
        except InputError as error:
            return str(error)
    return None


def _check_strategy(config: StudyConfig) -> str | None:
    if config.pattern is not None:
        return "a study's design says which patterns are trained: drop pattern"
    if config.halving:
        return "a study trains every pattern to the end, or it could not compare them: drop halving"
    return None if config.strategy == "random" else "a study has no strategy: its design says what is trained"


def _check_equal_cost(config: StudyConfig) -> str | None:
    is_by_layer = not config.budget.startswith("total")  # which fixes the in-degree of each layer
    if config.has_equal_cost or (is_by_layer and config.has_equal_cost_by_degree):
        return None
    if config.has_equal_cost_by_degree:
        return (
            f"exits {config.exits} read what single layers read, so patterns of budget {config.budget} would differ in "
            "cost, and a study compares patterns of equal cost only: give budget log or layers:..., or merge sum"
        )
    if config.surroundings is not None:
        return (
            f"in surroundings {config.surroundings.kind} patterns of one budget differ in cost, and a study compares "
            "patterns of equal cost only: a search takes them"
        )
    return (
        "stem-channels, compression, block-layers, another package's merge or transitions rule, v1 and v2 would give "
        "patterns of one budget different costs, and a study compares patterns of equal cost only: drop them"
    )


def _check_crossing(config: StudyConfig) -> str | None:
    from search_spaces.sampling.design import parse_crossing  # see infer

    try:
        parse_crossing(config.cross, config.bins)
    except InputError as error:
        return str(error)
    if ":" in config.bins and config.also_layers:
        return "bins LO:HI:N fit one number of layers: give only numbers of bins with also-layers"
    return None
