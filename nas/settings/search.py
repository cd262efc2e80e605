"""The run's settings, validated; TOML + flags."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from nas.model.candidate import NetworkConfig, ShapeConfig, TrainingConfig
from nas.records.checked import Conflict, validate
from nas.records.database import Kind
from search_spaces.budget import FORMS, Budget, parse_budget
from search_spaces.errors import InputError

ETA = 3  # one in so many patterns goes on; 3 is the choice of arXiv:1603.06560
_MAX_RUNGS = 2

# Limits beyond all use: see candidate.py.
MAX_SEED = 2**63 - 1  # the largest whole number that TOML holds
MAX_TRAININGS = 10**6  # of a run
Examples = Annotated[int, Field(ge=1, le=10**9)]
Workers = Annotated[int, Field(ge=1, le=4096)]
# Settings of how a run is run, which change no figure of it, a cohort but for rounding.
RUNNING = frozenset(
    {
        "workers",
        "attempts",
        "trial_timeout",
        "checkpoint_seconds",
        "gpus_per_worker",
        "ray_address",
        "memory_efficient",
        "cohort",
    }
)


class SearchConfig(ShapeConfig, TrainingConfig):
    """All settings of a search, by flag name with _ for -.

    Args:
        budget: in the command line's form; or several, each a stratum of its own.
        dataset: digits, fashion-mnist, cifar-10, cifar-100, svhn or npz.
        data: the data set's file or folder; digits takes none. A file whose name ends in .npz is of dataset npz.
        trials: patterns of each budget proposed by the strategy; the named templates of the budget come extra.
        seeds: trainings of each pattern, seeds 0..seeds-1.
        train_examples: size of the training set, stratified; unset: all there are.
        validation_examples: of those set aside for validation, how many are used; unset: all.
        strategy: random, tpe or evolve, or templates for the named ones alone.
        lookahead: tpe and evolve propose a pattern without the outcomes of so many, itself included, that came last:
            so many can be in training at a time.
        templates: whether the named templates that meet the budget are trained too.
        pattern: template files whose patterns are trained beside them; each spends a budget of the run.
        workers: trainings at a time; auto: one a core or GPU.
        attempts: trainings of a candidate that may be lost, as by a dead worker, before it has failed; the death of the
            run itself is none, and more attempts take up again what was given up.
        trial_timeout: seconds that one training may take in its worker, which is ended then, a cohort's as many
            times as it has members; unset: no limit.
        checkpoint_seconds: of training, at least, between two checkpoints; they are taken at the end of epochs.
        halving: whether proposed patterns are halved at rungs: see halving.py.
        deterministic: torch's deterministic algorithms alone, and an error where it has none.
        gpus_per_worker: GPUs of one training on cuda, a part of one or whole ones; unset: 1.
        ray_address: of a Ray cluster to train on; unset: this machine.
        cohort: candidates of one stratum that are trained together as one network: for a GPU, which one small network
            leaves idle; the figures are those of each alone but for rounding. auto: as many as `bench` advised for
            this machine, else 1.
        memory_efficient: concatenations and BN-ReLU are made anew in the backward pass: less memory, more time, the
            same figures.
        engine: eager, torch's own operations; fused, a block's layers as one operation of ours, several times as fast
            on a CPU and equal but for rounding; graph, torch's own, captured as a CUDA graph, as fused is on cuda;
            auto: what `bench` advised for this machine, else fused on a CPU, eager on cuda.
        precision: of convolutions; with bfloat16 weights, statistics and sums stay float32, and so does measuring.
        device: cpu, cuda, or auto: cuda where there is one.
        seed: of the search's own draws; a training's seed is another.
    """

    kind: ClassVar[Kind] = "search"  # of run
    # A run can be asked for more of the same, or run otherwise; anything else would make it another experiment.
    changeable: ClassVar[frozenset[str]] = RUNNING | {"trials", "seeds"}

    budget: str | tuple[str, ...] = "log"
    dataset: Literal["digits", "fashion-mnist", "cifar-10", "cifar-100", "svhn", "npz"] = "digits"
    data: str | None = None
    trials: Annotated[int, Field(ge=1, le=MAX_TRAININGS)] = 20
    seeds: Annotated[int, Field(ge=1, le=1000)] = 3
    train_examples: Examples | None = None
    validation_examples: Examples | None = None
    strategy: Literal["random", "tpe", "evolve", "templates"] = "random"
    lookahead: Annotated[int, Field(ge=1, le=MAX_TRAININGS)] = 4
    templates: bool = True
    pattern: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    workers: Literal["auto"] | Workers = "auto"
    attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    trial_timeout: Annotated[float, Field(gt=0, le=10**8)] | None = None
    checkpoint_seconds: Annotated[float, Field(ge=0, le=10**8)] = 10.0
    halving: bool = False
    deterministic: bool = False
    gpus_per_worker: Annotated[float, Field(ge=0.001, le=1024)] | None = None
    ray_address: str | None = None
    cohort: Literal["auto"] | Workers = 1
    memory_efficient: bool = False
    engine: Literal["auto", "eager", "fused", "graph"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0

    @classmethod
    def infer(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """A file of arrays is named by its suffix, where no data set is: see Settings."""
        is_npz = str(given.get("data") or "").lower().endswith(".npz")
        return {"dataset": "npz", **given} if is_npz else dict(given)

    @field_validator("budget", mode="before")
    @classmethod
    def _read_budgets(cls, given: Any) -> Any:
        """One budget is its text, whether it came in a list or not."""
        if isinstance(given, list | tuple):
            return given[0] if len(given) == 1 else tuple(given)
        return given

    @field_validator("budget")
    @classmethod
    def _check_budget_form(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (given,) if isinstance(given, str) else given:
            if text.partition(";")[0].partition(":")[0] not in ("log", "total", "layers"):
                raise ValueError(f"not of a known form: {FORMS}")
        if not given:
            raise ValueError(f"none is given; the forms are {FORMS}")
        return given

    @property
    def budgets(self) -> tuple[str, ...]:
        """All budgets, in the order given."""
        return (self.budget,) if isinstance(self.budget, str) else self.budget

    @property
    def deepest(self) -> int:
        """The largest number of layers that the run has."""
        return self.pattern_depth

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        """See Settings."""
        yield from super().conflicts()
        yield {"budget", "layers", "blocks", "transition", "strategy", "trials"}, check_enough_patterns
        yield {"budget", "trials", "seeds"}, _check_n_trainings
        yield {"dataset", "data"}, _check_data_given
        yield {"transition", "strategy", "pattern"}, _check_rule_has_templates
        yield {"strategy", "templates", "pattern"}, _check_something_to_train
        yield {"strategy", "halving", "epochs"}, _check_halving
        yield {"device", "gpus_per_worker", "ray_address"}, _check_resources
        yield {"cohort", "memory_efficient"}, _check_cohort

    def network(self, classes: int, image: tuple[int, int, int]) -> NetworkConfig:
        """The candidates' network on data of that many classes and that image shape.

        Raises:
            InputError: more blocks than the image can be halved.
        """
        shape = {name: getattr(self, name) for name in ShapeConfig.model_fields}
        return validate(NetworkConfig, {**shape, "classes": classes, "image": image})


def check_enough_patterns(config: SearchConfig) -> str | None:
    """What is wrong where a budget has fewer patterns than trials, or cannot be met; None where nothing is."""
    seen: set[Budget] = set()
    for text in config.budgets:
        try:
            budget = parse_budget(text, config.pattern_depth)
        except InputError as error:
            return str(error)
        if budget in seen:
            return f"budget {text} is given twice, in whatever form: give each budget once"
        seen.add(budget)
        n_patterns = budget.count_up_to(config.trials)
        if config.strategy != "templates" and n_patterns < config.trials:
            return (
                f"budget {text} has only {n_patterns} patterns of {budget.depth} layers, fewer than the "
                f"{config.trials} trials asked for"
            )
    return None


def _check_n_trainings(config: SearchConfig) -> str | None:
    n_trainings = config.trials * config.seeds * len(config.budgets)
    if n_trainings <= MAX_TRAININGS:
        return None
    return (
        f"{config.trials} trials of {config.seeds} seeds are {n_trainings:,} trainings, and a run has at most "
        f"{MAX_TRAININGS:,}: give fewer trials or seeds"
    )


def _check_data_given(config: SearchConfig) -> str | None:
    if config.dataset == "digits" and config.data is not None:
        return (
            f"data {config.data!r:.200} is given, and dataset digits comes with the program and reads no file: give "
            "dataset npz, fashion-mnist, cifar-10, cifar-100 or svhn too, or drop data"
        )
    if config.data is not None or config.dataset in ("digits", "fashion-mnist"):
        return None
    if config.dataset == "npz":
        return "dataset npz needs --data FILE.npz with x_train, y_train, x_test and y_test"
    return f"dataset {config.dataset} needs --data FOLDER with its files as their authors publish them"


def _check_rule_has_templates(config: SearchConfig) -> str | None:
    if config.transition != "rule" or (config.strategy == "templates" and config.pattern is None):
        return None
    return "transition rule exists for named templates only: use --strategy templates without --pattern, or log"


def _check_halving(config: SearchConfig) -> str | None:
    if not config.halving:
        return None
    if config.strategy == "templates":
        return "halving drops proposed patterns, and strategy templates proposes none: drop one of them"
    return None if list_rungs(config.epochs) else "halving needs at least 3 epochs: there is no rung before the last"


def _check_resources(config: SearchConfig) -> str | None:
    share = config.gpus_per_worker
    if share is not None and config.device == "cpu":
        return "gpus-per-worker is for cuda: drop it, or give device cuda"
    if share is not None and share > 1 and share != int(share):
        return f"gpus-per-worker {share:g}: a part of one GPU, or whole ones"
    if config.ray_address in ("", "auto", "local"):
        return (
            f"ray-address {config.ray_address!r}: give the address itself, as 10.0.0.1:6379; without it trainings run "
            "on a Ray of their own on this machine"
        )
    return None


def _check_cohort(config: SearchConfig) -> str | None:
    is_wrong = config.cohort != "auto" and config.cohort > 1 and config.memory_efficient
    return "memory-efficient is for one candidate at a time: drop it, or give cohort 1" if is_wrong else None


def _check_something_to_train(config: SearchConfig) -> str | None:
    nothing = config.strategy == "templates" and not config.templates and config.pattern is None
    return "strategy templates with --no-templates leaves nothing to train: drop one of them" if nothing else None


def list_rungs(epochs: int) -> tuple[int, ...]:
    """The epochs at whose end patterns are measured and the worse dropped.

    >>> list_rungs(9), list_rungs(4), list_rungs(2)
    ((1, 3), (1,), ())
    """
    return tuple(sorted({epochs // ETA**k for k in range(1, _MAX_RUNGS + 1)} - {0}))
