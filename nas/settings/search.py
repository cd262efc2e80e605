"""Settings of a search."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from nas.data.readers import DATA_SETS, load_readers
from nas.layouts.pyramid import PYRAMIDS
from nas.model.config import TRAINING, NetworkConfig, ShapeConfig, TrainingConfig
from nas.records.checked import Conflict, flag, validate
from nas.records.database import Kind
from nas.tasks.reference import IMAGES
from search_spaces.budget import FORMS, Budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.plugins import Plugins, check_name, load_plugins, require_callable

SPACE, DATA, MACHINE = "Space and strategy", "Data", "Machine"  # headings of flags

ETA = 3  # one pattern in three is trained longer, the choice of arXiv:1603.06560

# Limits beyond all use, as in nas/model/config.py.
MAX_SEED = 2**63 - 1  # the largest whole number that TOML holds
MAX_TRAININGS = 10**6  # of a run
N_TRAININGS = 60  # at each budget, unless the settings say otherwise
Examples = Annotated[int, Field(ge=1, le=10**9)]
Count = Annotated[int, Field(ge=1, le=4096)]
STRATEGY_NAMES = ("model", "random", "random:wide", "evolve", "templates")
ALL = "all"  # of the training images, as flags and files say it; the settings have None
DIGITS = "digits"
DIGITS_EXAMPLES = 300  # of 958, as in the committed studies: accuracies differ more, and a training takes a third
DESIGNED = ("design", "optimum", "control", "reversal")  # parts of a study, as the ledger has them
OPTUNA = "optuna:"  # begins the name of a strategy that is a sampler of Optuna
# How a run is run: another value changes none of its results, a cohort only by rounding.
RUNNING = frozenset(
    {"workers", "attempts", "trial_timeout", "checkpoint_seconds", "gpus_per_worker", "ray_address"}
    | {"memory_efficient", "cohort", "hours", "log"}
)
SEARCH_ONLY = frozenset(  # fields that other kinds of run share but offer no flags for
    {"strategy", "objective", "trainings", "hours", "patience", "lookahead", "pattern", "halving"}
    | {"transition", "stem_channels", "compression", "from_table", "table_sha256"}
)
# Settings of our image networks and their data: another task has none of them.
IMAGE_ONLY = frozenset(ShapeConfig.model_fields) - {"layers", "transition"} | {
    *("dataset", "data", "train_examples", "validation_examples", "proxies"),
    *("cohort", "engine", "memory_efficient", "precision"),
}
TASK_ONLY = frozenset({"task", "set"})


class SearchConfig(ShapeConfig, TrainingConfig):
    """All settings of a search, by the flags' names with _ for -."""

    kind: ClassVar[Kind] = "search"  # of run
    # A run can be asked for more of the same, or run otherwise; anything else would make it another experiment.
    # Its table is known by its hash.
    changeable: ClassVar[frozenset[str]] = RUNNING | {"trainings", "trials", "seeds", "patience", "from_table"}
    # Fields that the kind's command does not offer.
    without_flags: ClassVar[frozenset[str]] = frozenset({"table_sha256"})

    task: str = flag(
        IMAGES,
        "What is trained: images, text, segmentation, or a task of your own as FILE.py:NAME or package.module:NAME; "
        "docs/tutorials/own-network.md.",
        DATA,
    )
    set: tuple[str, ...] = flag((), "NAME=VALUE: a setting of the task. May be repeated.", DATA, form="<NAME=VALUE>")
    budget: str | tuple[str, ...] = flag(
        "log",
        "Connections to place: log, total:E or layers:d1,d2,... May be repeated: each budget is a stratum of its own.",
        SPACE,
    )
    dataset: str = flag(
        DIGITS,
        "Data set to train on; NAME: one that an installed package reads. A --data file that ends in .npz needs no "
        "--dataset.",
        DATA,
        form=f"<{'|'.join(DATA_SETS)}|NAME>",
    )
    data: str | None = flag(None, "File or folder of the data set. Digits takes none.", DATA, form="<path>")
    trainings: Annotated[int, Field(ge=1, le=MAX_TRAININGS)] | None = flag(
        None,
        "Number of trainings at each budget; those of named templates and further seeds count too. "
        f"[default: {N_TRAININGS}]",
        SPACE,
    )
    trials: Annotated[int, Field(ge=1, le=MAX_TRAININGS)] | None = flag(
        None,
        "Instead of --trainings, for all strategies but model: number of patterns to propose at each budget, in "
        "addition to the named templates. [default: none]",
        SPACE,
    )
    seeds: Annotated[int, Field(ge=1, le=1000)] = flag(
        3, "Trainings of each pattern. Strategy model decides itself how often to train one.", SPACE
    )
    train_examples: Examples | None = flag(
        None,
        f"Number of images to train on. [default: {DIGITS_EXAMPLES} of {DIGITS}, all of other data]",
        DATA,
        form=f"<{ALL}|int>",
    )
    validation_examples: Examples | None = flag(None, "How many of the validation images to use. [default: all]", DATA)
    strategy: str = flag(
        "model",
        "How patterns are proposed: by a model of loss that learns from every training, uniformly at random, at random "
        "from a wider distribution, or by evolution; templates proposes none and trains the named ones only. "
        "optuna:NAME lets a sampler of Optuna (tpe, gp, cmaes, random or package.module:Class) suggest values of walk "
        "length, visit evenness and mean BD, and trains the pattern nearest to them: it is there for comparisons. "
        "NAME: a strategy that an installed package brings.",
        SPACE,
        form=f"<{'|'.join(STRATEGY_NAMES)}|optuna:NAME|NAME>",
    )
    objective: str = flag(
        "loss",
        "Validation outcome that the search improves: loss, which has less noise, or accuracy; with --task a metric of "
        "the task, where none is given its first.",
        SPACE,
        form="<loss|accuracy|METRIC>",
    )
    lookahead: Annotated[int, Field(ge=1, le=MAX_TRAININGS)] | None = flag(
        None,
        "For strategies that learn: number of trainings at a time. A proposal does not wait for the latest outcomes, "
        "so that it does not depend on the order in which they end. [default: number of workers, at least 2]",
        SPACE,
    )
    hours: Annotated[float, Field(gt=0, le=10**5)] | None = flag(
        None, "Begin no training later than this many hours after the command started. [default: no limit]", MACHINE
    )
    patience: Annotated[int, Field(ge=1, le=MAX_TRAININGS)] | None = flag(
        None,
        "End the search at a budget when this many proposed patterns in a row are no better than the best before them. "
        "[default: no limit]",
        SPACE,
    )
    templates: bool = flag(True, "Also train the named templates that meet the budget.", SPACE)
    pattern: Annotated[tuple[str, ...], Field(min_length=1)] | None = flag(
        None,
        "Template file, or name of a template, to train too; it must meet a budget of the run. May be repeated.",
        SPACE,
        form="<path|NAME>",
    )
    from_table: str | None = flag(
        None,
        "For model: CSV of earlier trainings that it learns from before it has any of its own, such as a run's "
        "report/candidates.csv, or the name of a table of ours. They may be of other settings, are never counted as "
        "trainings of this run, and their best patterns are trained first. [default: none]",
        SPACE,
        form="<path|NAME>",
    )
    table_sha256: str | None = None  # of that file, by which a changed one is refused
    workers: Literal["auto"] | Count = flag(
        "auto", "Number of trainings at a time; auto is one for each core or GPU.", MACHINE
    )
    attempts: Annotated[int, Field(ge=1, le=1000)] = flag(
        3,
        "Number of times that a candidate's worker may die before the candidate has failed. More attempts also resume "
        "candidates that were given up.",
        MACHINE,
    )
    trial_timeout: Annotated[float, Field(gt=0, le=10**8)] | None = flag(
        None, "Stop a training that takes longer than this many seconds. [default: no limit]", MACHINE
    )
    checkpoint_seconds: Annotated[float, Field(ge=0, le=10**8)] = flag(
        10.0, "Least seconds of training between two checkpoints.", MACHINE
    )
    halving: bool = flag(
        False, "Train three patterns for a third of the epochs, and the best of them to the end.", SPACE
    )
    deterministic: bool = flag(
        False, "Let torch use deterministic algorithms only; an operation that has none is an error.", MACHINE
    )
    gpus_per_worker: Annotated[float, Field(ge=0.001, le=1024)] | None = flag(
        None, "GPUs for one training on cuda, such as 0.25 or 2. [default: 1]", MACHINE
    )
    ray_address: str | None = flag(
        None, "Ray cluster to train on, such as 10.0.0.1:6379. [default: this machine]", MACHINE
    )
    cohort: Literal["auto"] | Count = flag(
        1,
        "Number of candidates trained together as one network, to fill a GPU. Results differ by rounding only. auto "
        "is what bench advised.",
        MACHINE,
    )
    memory_efficient: bool = flag(
        False,
        "Recompute concatenations, BN-ReLU and, in fused layers, bottlenecks in the backward pass: less memory, more "
        "time, the same results.",
        MACHINE,
    )
    # graph: what older versions called eager captured as a CUDA graph; their runs and files still say it.
    engine: Literal["auto", "eager", "fused", "graph"] = flag(
        "auto",
        "How layers are computed: eager by torch's operations, fused by our own, which are faster and differ by "
        "rounding only. auto is what bench advised, else fused on a CPU and eager on a GPU.",
        MACHINE,
        form="<auto|eager|fused>",
    )
    log: tuple[str, ...] = flag(
        (),
        "Tracker that is shown every training: tensorboard, mlflow, wandb, trackio or another package's; "
        "docs/howto/trackers.md. May be repeated. [default: none]",
        MACHINE,
        form="<NAME>",
    )
    proxies: bool = flag(
        False,
        "Record zero-cost proxies of every candidate, from its untrained network: about 0.3 s each at 24 layers, spent "
        "on a CPU before its training. A study measures a pattern and seed once for all regimes.",
        TRAINING,
    )
    precision: Literal["float32", "bfloat16"] = flag(
        "float32",
        "Precision of convolutions; weights, statistics and sums stay in float32. On a CPU fused layers have bfloat16 "
        "where its instructions do (AVX512_BF16); elsewhere it is torch's autocast, which is slower.",
        TRAINING,
    )
    device: Literal["auto", "cpu", "cuda"] = flag(
        "auto", "Device to train on; auto takes a GPU if there is one.", MACHINE
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = flag(
        0, "Seed of the command's own draws; a training has a seed of its own.", SPACE
    )

    @classmethod
    def infer(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take older spellings for what they are now, a file that ends in .npz for npz, and a part of digits."""
        known = super().infer(given)
        if str(known.get("data") or "").lower().endswith(".npz"):
            known.setdefault("dataset", "npz")
        if known.get("task", IMAGES) == IMAGES and known.get("dataset", DIGITS) == DIGITS:
            known.setdefault("train_examples", DIGITS_EXAMPLES)
        return known

    @field_validator("train_examples", mode="before")
    @classmethod
    def _read_examples(cls, given: Any) -> Any:
        if isinstance(given, str) and given != ALL:
            raise ValueError(f"expected {ALL} or a whole number of at least 1")
        return None if given == ALL else given

    @field_validator("budget", mode="before")
    @classmethod
    def _read_budgets(cls, given: Any) -> Any:
        """Take a list of one budget for that budget."""
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

    @field_validator("strategy")
    @classmethod
    def _check_strategy_name(cls, name: str) -> str:
        return name if name.startswith(OPTUNA) else check_name(name, STRATEGY_NAMES, load_strategies)

    @field_validator("dataset")
    @classmethod
    def _check_data_set_name(cls, name: str) -> str:
        return check_name(name, DATA_SETS, load_readers)

    @field_validator("log")
    @classmethod
    def _read_log(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """Leave out what is given twice, and `none`, which takes the place of a run's trackers."""
        return tuple(dict.fromkeys(name for name in given if name != "none"))

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what a run of this task does not have."""
        absent = TASK_ONLY if self.task == IMAGES else IMAGE_ONLY
        return {name: value for name, value in serialize(self).items() if name not in absent}

    @property
    def budgets(self) -> tuple[str, ...]:
        """Return all budgets, in the order given."""
        return (self.budget,) if isinstance(self.budget, str) else self.budget

    @property
    def deepest(self) -> int:
        """Return the number of layers of the run's largest patterns."""
        return self.pattern_depth

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        yield from super().conflicts()
        yield {"budget", "layers", "blocks", "transition", "strategy", "trials"}, check_enough_patterns
        yield {"budget", "trainings", "trials", "seeds"}, _check_n_trainings
        yield {"strategy", "trainings", "trials"}, _check_count
        yield {"dataset", "data"}, _check_data_given
        yield {"transition", "strategy", "pattern"}, _check_rule_has_templates
        yield {"strategy", "templates", "pattern"}, _check_something_to_train
        yield {"strategy", "from_table"}, _check_table_has_model
        yield {"strategy", "halving", "epochs"}, _check_halving
        yield {"device", "gpus_per_worker", "ray_address"}, _check_resources
        alone = {"drop_layers", "drop_path", "merge", "exits", "surroundings"}
        yield {"cohort", "memory_efficient", *alone}, _check_cohort
        yield {"surroundings", "exits", "memory_efficient", "proxies"}, _check_layout
        yield {"surroundings", "task"}, _check_pixels
        yield {"task", "set"}, _check_set
        yield {"task", "objective"}, _check_objective
        yield {"task", "transition"}, _check_transition

    def network(self, classes: int, image: tuple[int, int, int]) -> NetworkConfig:
        """Return the candidates' network for data of so many classes and images of this shape.

        Raises:
            InputError: more blocks than the image can be halved.
        """
        shape = {name: getattr(self, name) for name in ShapeConfig.model_fields}
        return validate(NetworkConfig, {**shape, "classes": classes, "image": image})


def load_strategies() -> Plugins:
    """Load the strategies of other packages, without a warning of those that cannot be used."""
    return load_plugins("strategies", frozenset({*STRATEGY_NAMES, *DESIGNED}), require_callable)


def check_enough_patterns(config: SearchConfig) -> str | None:
    """Say what is wrong if a budget cannot be met or has fewer patterns than trials, else None."""
    seen: set[Budget] = set()
    for text in config.budgets:
        try:
            budget = parse_budget(text, config.pattern_depth)
        except InputError as error:
            return str(error)
        if budget in seen:
            return f"budget {text} is given twice, perhaps in two forms: give each budget once"
        seen.add(budget)
        if config.trials is None or config.strategy in ("templates", "model"):
            continue
        n_patterns = budget.count_up_to(config.trials)
        if n_patterns < config.trials:
            return (
                f"budget {text} has only {n_patterns} patterns of {budget.depth} layers, fewer than the "
                f"{config.trials} trials asked for"
            )
    return None


def _check_n_trainings(config: SearchConfig) -> str | None:
    n_trainings = (config.trainings or (config.trials or 0) * config.seeds) * len(config.budgets)
    if n_trainings <= MAX_TRAININGS:
        return None
    given = "" if config.trainings else f"trials {config.trials} and seeds {config.seeds} make "
    return f"{given}{n_trainings:,} trainings, and a run has at most {MAX_TRAININGS:,}: give fewer of them"


def _check_count(config: SearchConfig) -> str | None:
    if config.trials is None:
        return None
    if config.trainings is not None:
        return "trainings and trials both say how long the search is: drop one of them"
    if config.strategy == "model":
        return "trials counts patterns, and strategy model decides itself how often to train one: give trainings"
    return None


def _check_data_given(config: SearchConfig) -> str | None:
    if config.dataset == "digits" and config.data is not None:
        return (
            f"data {config.data!r:.200} is given, and dataset digits comes with the program and reads no file: give "
            "dataset npz, fashion-mnist, cifar-10, cifar-100 or svhn too, or drop data"
        )
    if config.data is not None or config.dataset not in DATA_SETS or config.dataset in ("digits", "fashion-mnist"):
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
    if config.strategy == "model":
        return "halving compares patterns trained for a third, and strategy model whole trainings: drop one of them"
    return None if list_rungs(config.epochs) else "halving needs at least 3 epochs: there is no rung before the last"


def _check_resources(config: SearchConfig) -> str | None:
    share = config.gpus_per_worker
    if share is not None and config.device == "cpu":
        return "gpus-per-worker is for cuda: drop it, or give device cuda"
    if share is not None and share > 1 and share != int(share):
        return f"gpus-per-worker {share:g}: give a part of one GPU, or whole ones"
    if config.ray_address in ("", "auto", "local"):
        return (
            f"ray-address {config.ray_address!r}: give an address such as 10.0.0.1:6379; without one, trainings run "
            "on a Ray of their own on this machine"
        )
    return None


def _check_cohort(config: SearchConfig) -> str | None:
    if config.cohort == "auto" or config.cohort == 1:
        return None
    given = ["memory-efficient"] if config.memory_efficient else []
    given += ["drop-layers"] if config.drop_layers else []
    given += ["drop-path"] if config.drop_path else []
    given += [f"merge {config.merge}"] if config.has_brought_merge else []
    given += [f"exits {config.exits}"] if config.exit_step else []
    given += ["a network that is more than blocks in a row"] if config.surroundings is not None else []
    wrong = " and ".join(given)
    return f"{wrong}: for one candidate at a time only; drop the flag, or give cohort 1" if given else None


def _check_layout(config: SearchConfig) -> str | None:
    if not config.has_layout:
        return None
    given = ["memory-efficient"] if config.memory_efficient else []
    given += ["proxies"] if config.proxies else []
    wrong = " and ".join(given)
    return f"{wrong}: cannot be had with {config.layout_cause}; drop {wrong}" if given else None


def _check_pixels(config: SearchConfig) -> str | None:
    if config.task != IMAGES or not isinstance(config.surroundings, PYRAMIDS):
        return None
    return (
        f"surroundings {config.surroundings.kind}: this network gives every pixel a class, and here each image has "
        "one: give --task segmentation, which builds its own network"
    )


def _check_set(config: SearchConfig) -> str | None:
    has_none = config.task == IMAGES and config.set
    return (
        "set gives settings of a task of your own: give task too, or the flags of the image networks"
        if has_none
        else None
    )


def _check_objective(config: SearchConfig) -> str | None:
    if config.task != IMAGES or config.objective in ("loss", "accuracy"):
        return None
    return f"objective: expected loss or accuracy, got {config.objective!r:.100}"


def _check_transition(config: SearchConfig) -> str | None:
    if config.task == IMAGES or config.transition in ("log", "all", "last"):
        return None
    return (
        f"transition {config.transition} is of the image networks: with a task of your own it says what "
        "pattern.reads has: log, all or last"
    )


def _check_something_to_train(config: SearchConfig) -> str | None:
    nothing = config.strategy == "templates" and not config.templates and config.pattern is None
    return "strategy templates with --no-templates leaves nothing to train: drop one of them" if nothing else None


def _check_table_has_model(config: SearchConfig) -> str | None:
    if config.from_table is None or config.strategy == "model":
        return None
    return (
        f"from-table is what strategy model learns from, and {config.strategy} learns from no table: drop one of them"
    )


def list_rungs(epochs: int) -> tuple[int, ...]:
    """Return the epochs at whose end patterns are measured and the worse ones dropped.

    Earlier rungs rank patterns too badly: at epoch 1 of 9 the rank correlation with the end is .2, at epoch 3 it is .8.

    >>> list_rungs(9), list_rungs(4), list_rungs(2)
    ((3,), (1,), ())
    """
    return (epochs // ETA,) if epochs >= ETA else ()
