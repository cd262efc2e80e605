"""The command line: parse, wire, call; no logic."""

import atexit
import gc
import json
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.data.results import Run
    from analysis.replays.regret import Regrets
    from nas.bench.benchmark import Row
    from nas.bench.workers import Ceilings
    from nas.export.export import Exported
    from nas.model.candidate import Candidate, NetworkConfig
    from nas.run.source import Listener
    from nas.settings.search import SearchConfig
    from nas.settings.study import StudyConfig
    from nas.training.train import Outcome
    from search_spaces.budget import Budget
    from search_spaces.pattern import ConnectionPattern


class Commands(TyperGroup):
    """The commands, whose arguments are refused in our words where typer has pydantic's."""

    def invoke(self, ctx: Any) -> Any:
        """See TyperGroup."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            list_problems = getattr(error.__cause__, "errors", None)
            if list_problems is not None:
                from nas.records.checked import describe_argument

                error.message = describe_argument(list_problems()[0])
            raise


app = typer.Typer(
    cls=Commands,
    name="skipsearch",
    help="Neural architecture search over where skip connections go.",
    epilog="--debug, anywhere on the line, shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Transition(StrEnum):
    """Which layers a transition and the classifier read."""

    LOG = "log"
    ALL = "all"
    LAST = "last"
    RULE = "rule"
    V1 = "v1"
    V2 = "v2"


class Dataset(StrEnum):
    """Data sets by name."""

    DIGITS = "digits"
    FASHION_MNIST = "fashion-mnist"
    CIFAR_10 = "cifar-10"
    CIFAR_100 = "cifar-100"
    SVHN = "svhn"
    NPZ = "npz"


class Proposing(StrEnum):
    """Strategies that propose patterns."""

    RANDOM = "random"
    TPE = "tpe"
    EVOLVE = "evolve"


class Engine(StrEnum):
    """How a network's layers run."""

    AUTO = "auto"
    EAGER = "eager"
    FUSED = "fused"
    GRAPH = "graph"


class Precision(StrEnum):
    """Of convolutions."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Device(StrEnum):
    """Where tensors live."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def _option(text: str, panel: str) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, show_default=False)


NETWORK, SPACE, DATA, TRAINING, RUNNING = "Network", "Space and strategy", "Data", "Training", "Running"

NetworkOption = Annotated[
    str | None, _option("A published network's surroundings, by name: see `networks`. Other flags win.", NETWORK)
]
Layers = Annotated[int | None, _option("Layers in a block. [default: 24]", NETWORK)]
Blocks = Annotated[
    int | None, _option("Blocks of the same pattern, each at half the resolution. [default: 1]", NETWORK)
]
Growth = Annotated[int | None, _option("Output channels of a layer. [default: 4]", NETWORK)]
Bottleneck = Annotated[
    bool | None,
    typer.Option(
        "--bottleneck/--no-bottleneck",
        help="A 1x1 convolution to 4 x growth channels in every layer. [default: no]",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
TransitionOption = Annotated[
    Transition | None, _option("What passes between blocks, and what the classifier reads. [default: log]", NETWORK)
]
StemChannels = Annotated[int | None, _option("Channels of the stem. [default: growth]", NETWORK)]
Compression = Annotated[
    float | None, _option("A transition writes this share of the channels it reads. [default: growth]", NETWORK)
]
BudgetOption = Annotated[
    str | None, _option("log, total:E or layers:d1,d2,...: the connections to place. [default: log]", SPACE)
]
RunOption = Annotated[Path, typer.Option("--run", help="The run directory.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def score(
    template: Annotated[
        list[str] | None,
        _option(
            "A template by name, log:b=B,c=C, random:SEED, or nearest, evenly, geometric fitted to the budget; may be "
            "repeated. [default: all]",
            SPACE,
        ),
    ] = None,
    pattern: Annotated[Path | None, _option("A template file.", SPACE)] = None,
    budget: BudgetOption = None,
    network: NetworkOption = None,
    layers: Layers = None,
    blocks: Blocks = None,
    growth: Growth = None,
    bottleneck: Bottleneck = None,
    transition: TransitionOption = None,
    stem_channels: StemChannels = None,
    compression: Compression = None,
    classes: Annotated[int | None, _option("Outputs of the classifier. [default: 10]", NETWORK)] = None,
    image: Annotated[str | None, _option("CxHxW of one image. [default: 1x8x8]", NETWORK)] = None,
    as_json: JsonOption = False,
) -> None:
    """Distances and costs of templates and patterns, without training."""
    from nas.model.candidate import Candidate, check_depth
    from nas.model.presets import find_preset
    from nas.model.score import score_candidate
    from nas.records.template import read_pattern
    from search_spaces.budget import parse_budget

    given = None if pattern is None else read_pattern(pattern)
    config = _network_config(given, locals())
    if network is not None and given is None and layers is None and not template:
        preset = find_preset(network)
        check_depth(preset.pattern, config)
        chosen: list[Any] = [(preset.template or network, preset.template, preset.pattern)]
        spent = parse_budget(budget or f"total:{preset.pattern.n_connections}", config.pattern_depth)
    else:
        chosen = [] if given is None else [(str(pattern), None, given)]
        spent = parse_budget(budget or "log", config.pattern_depth)
        chosen += [(name, name, found) for name, found in _named_patterns(template, given is None, spent)]
    rows = [score_candidate(Candidate(found, config, 0, name), spent, label) for label, name, found in chosen]
    if network is not None:
        rows = [{"network": network, **row} for row in rows]
    if as_json:
        print(json.dumps(rows))  # noqa: T201
    else:
        around = "" if network is None else f"in the surroundings of {network}, "
        title = f"{around}{config.pattern_depth} layers; distances in hops, within a pattern; "
        _print_scores(rows, f"{title}certificate at budget {spent}")


def _named_patterns(names: list[str] | None, default_all: bool, budget: "Budget") -> list[Any]:
    from search_spaces.templates import build_named, list_templates

    wanted = names or (list_templates(budget.depth) if default_all else [])
    return [(name, build_named(name, budget)) for name in wanted]


MAX_DIGITS = 10  # of a size; Python reads none of more than 4300


def _network_config(given: "ConnectionPattern | None", flags: dict[str, Any]) -> "NetworkConfig":
    """The network that size flags and a published one's name describe, around a pattern file's if there is one."""
    from nas.model.candidate import NetworkConfig, check_depth
    from nas.model.presets import find_preset
    from nas.records.checked import validate
    from search_spaces.errors import InputError

    values = {name: _plain(flags.get(name)) for name in NetworkConfig.model_fields if flags.get(name) is not None}
    if "image" in values:
        sizes = values["image"].lower().split("x")
        if len(sizes) != 3 or not all(size.isdecimal() and len(size) < MAX_DIGITS for size in sizes):
            raise InputError(f"--image {values['image']}: expected CxHxW, as 3x32x32")
        values["image"] = tuple(map(int, sizes))
    if flags["network"] is not None:
        around = find_preset(flags["network"]).network
        values = {name: getattr(around, name) for name in NetworkConfig.model_fields} | values
    elif given is not None and "layers" not in values:
        n_blocks = values.get("blocks", 1) if values.get("transition") == "v1" else 1
        values["layers"] = given.depth // n_blocks
    network = validate(NetworkConfig, values)
    if given is not None:
        check_depth(given, network)
    return network


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _print_scores(rows: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table

    from nas.records.shown import show

    table = Table(title=title, title_justify="left")
    headings = "template connections mean_BD MBD from_output to_input span max_in max_out params FLOPs certificate"
    for heading in headings.split():
        table.add_column(
            heading.replace("_", " "), justify="left" if heading in ("template", "certificate") else "right"
        )
    for row in rows:
        distances = [f"{row[name]:.3f}" for name in ("from_output_mean", "to_input_mean", "span")]
        sizes = [f"{row[name]:,}" for name in ("max_in_degree", "max_out_degree", "params", "flops")]
        proven = "" if row["certificate"] is None else f"{row['certificate']}, gap {100 * row['gap']:.1f} %"
        name = show(row["template"] or "-")
        table.add_row(
            name, f"{row['connections']:,}", f"{row['mean_bd']:.4f}", f"{row['max_bd']}", *distances, *sizes, proven
        )
    _console().print(table)


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    from nas.records.shown import show_lines

    class SafeConsole(Console):
        """Escapes what a terminal would act on in texts; rich's own control codes stay."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=show_lines(segment.text))

    stream = sys.stderr if stderr else sys.stdout
    # A file or pipe has no width of its own, and a table must not be cut to fit 80 columns.
    return SafeConsole(
        stderr=stderr, width=None if stream.isatty() else 160, highlight=False, soft_wrap=True, markup=False
    )


ConfigOption = Annotated[Path | None, _option("TOML file of settings, keys as these flags; flags win.", RUNNING)]
Seeds = Annotated[int | None, _option("Trainings of each pattern. [default: 3]", SPACE)]
Templates = Annotated[
    bool | None,
    typer.Option(
        "--templates/--no-templates",
        help="Train the named templates of the budget too. [default: yes]",
        rich_help_panel=SPACE,
        show_default=False,
    ),
]
RunSeed = Annotated[int | None, _option("Of the command's own draws. [default: 0]", SPACE)]
DatasetOption = Annotated[
    Dataset | None, _option("What to train on. [default: npz for --data FILE.npz, else digits]", DATA)
]
Data = Annotated[Path | None, _option("The data set's file or folder; digits takes none.", DATA)]
TrainExamples = Annotated[int | None, _option("Size of the training set. [default: all]", DATA)]
ValidationExamples = Annotated[
    int | None, _option("How many of the images set aside for validation are used. [default: all]", DATA)
]
Epochs = Annotated[int | None, _option("Passes over the training set. [default: 9]", TRAINING)]
LearningRate = Annotated[float | None, _option("Largest learning rate. [default: 0.15]", TRAINING)]
BatchSize = Annotated[int | None, _option("Images a step. [default: 16]", TRAINING)]
WeightDecay = Annotated[float | None, _option("L2 penalty. [default: 0.0001]", TRAINING)]
LearningRateDrops = Annotated[
    str | None,
    _option(
        "Shares of the training at which the rate falls to a tenth, as 0.5,0.75. [default: warm-up and cosine]",
        TRAINING,
    ),
]
RecipeOption = Annotated[
    str | None,
    _option("A schedule by name: densenet, log-densenet, short. Other flags win. [default: short]", TRAINING),
]
MemoryEfficient = Annotated[
    bool | None,
    typer.Option(
        "--memory-efficient/--no-memory-efficient",
        help="Make concatenations and BN-ReLU anew in the backward pass: less memory, more time. [default: no]",
        rich_help_panel=RUNNING,
        show_default=False,
    ),
]
Cohort = Annotated[
    str | None,
    _option(
        "Candidates trained together as one network, for a GPU; the same figures but for rounding: a number, or auto: "
        "what bench advised. [default: 1]",
        RUNNING,
    ),
]
EngineOption = Annotated[
    Engine | None,
    _option(
        "eager: torch's operations; fused: a block's layers as one of ours, faster on a CPU, the same figures but for "
        "rounding; graph: torch's as a CUDA graph. [default: auto]",
        RUNNING,
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    _option("Of convolutions; weights, statistics and sums stay float32. [default: float32]", TRAINING),
]
Workers = Annotated[str | None, _option("Trainings at a time: a number, or auto: one a core or GPU.", RUNNING)]
Attempts = Annotated[
    int | None,
    _option("Trainings of a candidate, when workers die, until it has failed. [default: 3]", RUNNING),
]
TrialTimeout = Annotated[
    float | None, _option("Seconds that one training may take before its worker is ended. [default: no limit]", RUNNING)
]
CheckpointSeconds = Annotated[
    float | None, _option("Seconds of training between two checkpoints, at least. [default: 10]", RUNNING)
]
GpusPerWorker = Annotated[float | None, _option("GPUs of one training on cuda, as 0.25 or 2. [default: 1]", RUNNING)]
RayAddress = Annotated[
    str | None, _option("Train on the Ray cluster there, as 10.0.0.1:6379. [default: this machine]", RUNNING)
]
Deterministic = Annotated[
    bool | None,
    typer.Option(
        "--deterministic/--no-deterministic",
        help="torch's deterministic algorithms alone. [default: no]",
        rich_help_panel=RUNNING,
        show_default=False,
    ),
]
DeviceOption = Annotated[Device | None, _option("auto takes a GPU where there is one. [default: auto]", RUNNING)]


@app.command()
def networks(as_json: JsonOption = False) -> None:
    """The papers' networks: what --network NAME can name."""
    from nas.model.cost import predict_cost
    from nas.model.presets import PRESETS

    rows = [(one, predict_cost(one.candidate)) for one in PRESETS.values()]
    if as_json:
        told = [
            {"name": one.name, "paper": one.paper, "params": cost.params, "flops": cost.flops, "differs": one.differs}
            for one, cost in rows
        ]
        print(json.dumps(told))  # noqa: T201
        return
    from rich.table import Table

    console = _console()
    table = Table(title="published networks, as --network NAME", title_justify="left")
    for heading in ("name", "paper", "layers of blocks", "growth", "params", "FLOPs"):
        table.add_column(heading, justify="left" if heading in ("name", "paper") else "right")
    for one, cost in rows:
        layers = ", ".join(map(str, one.network.block_depths))
        table.add_row(one.name, one.paper, layers, str(one.network.growth), f"{cost.params:,}", f"{cost.flops:,}")
    console.print(table)
    differing: dict[str, list[str]] = {}
    for one, _ in rows:
        if one.differs:
            differing.setdefault(one.differs, []).append(one.name)
    for differs, names in differing.items():
        console.print(f"{names[0]} to {names[-1]}: {differs}")
    console.print("next: python run_search.py score --network densenet-bc-100-12")


@app.command()
def search(
    run: RunOption,
    config: ConfigOption = None,
    budget: Annotated[
        list[str] | None,
        _option("log, total:E or layers:d1,d2,...; may be repeated, each a stratum of its own. [default: log]", SPACE),
    ] = None,
    strategy: Annotated[
        str | None, _option("random, tpe, evolve, or templates alone. [default: random]", SPACE)
    ] = None,
    lookahead: Annotated[
        int | None,
        _option("Of tpe and evolve: patterns that may be in training, the next included. [default: 4]", SPACE),
    ] = None,
    trials: Annotated[
        int | None, _option("Patterns of each budget to propose; named templates come extra. [default: 20]", SPACE)
    ] = None,
    seeds: Seeds = None,
    templates: Templates = None,
    pattern: Annotated[
        list[Path] | None, _option("A template file to train beside them, of the run's budget; may be repeated.", SPACE)
    ] = None,
    halving: Annotated[
        bool | None,
        typer.Option(
            "--halving/--no-halving",
            help="Of nine proposed patterns train the best three on, then the best one. [default: no]",
            rich_help_panel=SPACE,
            show_default=False,
        ),
    ] = None,
    seed: RunSeed = None,
    dataset: DatasetOption = None,
    data: Data = None,
    train_examples: TrainExamples = None,
    validation_examples: ValidationExamples = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    weight_decay: WeightDecay = None,
    lr_drops: LearningRateDrops = None,
    recipe: RecipeOption = None,
    memory_efficient: MemoryEfficient = None,
    cohort: Cohort = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    network: NetworkOption = None,
    layers: Layers = None,
    blocks: Blocks = None,
    growth: Growth = None,
    bottleneck: Bottleneck = None,
    transition: TransitionOption = None,
    stem_channels: StemChannels = None,
    compression: Compression = None,
    workers: Workers = None,
    attempts: Attempts = None,
    trial_timeout: TrialTimeout = None,
    checkpoint_seconds: CheckpointSeconds = None,
    device: DeviceOption = None,
    gpus_per_worker: GpusPerWorker = None,
    ray_address: RayAddress = None,
    deterministic: Deterministic = None,
    as_json: JsonOption = False,
) -> None:
    """Train patterns under a budget, then write the report and the best templates.

    The same command again goes on with an interrupted run; on a run directory, --run alone does.
    """
    flags = _settings_given(locals(), without=("run", "config", "as_json"))
    flags["budget"] = budget or None  # typer's empty list: not given
    flags["pattern"] = tuple(map(str, pattern)) if pattern else None

    from nas.run.lock import lock_run

    with lock_run(run):  # before the libraries are loaded, so that a second driver leaves at once
        from nas.settings.resume import settle_config
        from nas.settings.search import SearchConfig

        settings = settle_config(run, config, flags, SearchConfig)

        from nas.search.loop import run_search

        headline = f"searching {settings.strategy} patterns of {settings.layers} layers"
        _drive("search", run, settings, headline, as_json, lambda listener: run_search(run, settings, listener))


def _drive(
    command: str, run: Path, settings: "SearchConfig", headline: str, as_json: bool, train: "Callable[[Listener], None]"
) -> None:
    """Train all that a run asks for, then write its report and templates."""
    from nas.records.shown import show

    console = _console(stderr=as_json)
    budgets = " and ".join(settings.budgets)
    headline += f" at budget {budgets} on {settings.dataset}: {_describe_workers(settings)}, into {show(run)}"
    with _resumable(console, command, run):
        with _progress(console, headline) as listener:
            train(listener)
        results = _read(run)
        paths = _write_report(run)
        for exported in _export_best(results, 5, archives=False):
            paths += exported.paths
        _annotate(console, run)
    _print_end(console, results, paths, run)
    if as_json:
        _print_status(results, as_json=True)


def _describe_workers(settings: "SearchConfig") -> str:
    number = "as many at a time as fit" if settings.workers == "auto" else f"{settings.workers} at a time"
    most = settings.lookahead * settings.seeds * len(settings.budgets)
    if settings.strategy in ("tpe", "evolve") and settings.workers != "auto" and settings.workers > most:
        number += f" (a lookahead of {settings.lookahead} lets {settings.strategy} hand out {most} at most)"
    if settings.cohort != 1:
        number += f", in cohorts of {settings.cohort}"
    engine = "" if settings.engine == "eager" else f" with {settings.engine} layers"
    return f"{number} on {settings.device}{engine}" + (f" at {settings.ray_address}" if settings.ray_address else "")


def _settings_given(values: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """A command's settings by name, from its local variables; None where a flag was not given."""
    flags = {name: _plain(value) for name, value in values.items() if name not in without}
    flags["data"] = None if flags["data"] is None else str(flags["data"])
    flags |= {name: _parse_count(flags[name]) for name in ("workers", "cohort")}
    flags["lr_drops"] = None if flags["lr_drops"] is None else _parse_numbers("lr-drops", flags["lr_drops"])
    return flags


def _parse_count(text: str | None) -> int | str | None:
    """A flag that takes a whole number or auto: what is neither stays text, for the settings' check to refuse."""
    try:
        return text if text is None else int(text)
    except ValueError:
        return text


def _parse_numbers(name: str, text: str) -> tuple[float, ...]:
    from search_spaces.errors import InputError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--{name} {text}: expected numbers with commas between, as 0.5,0.75") from None


@contextmanager
def _resumable(console: "Console", command: str, run: Path) -> Iterator[None]:
    """Say how to go on where a run ends early for any other reason than its settings."""
    from nas.records.shown import quote
    from search_spaces.errors import ConflictError, InputError, NothingUsableError

    try:
        yield
    except BaseException as error:
        # Before the settings are written there is no run, and nothing to go on with.
        is_final = isinstance(error, InputError | ConflictError | NothingUsableError)
        if not is_final and (run / "config.toml").exists():
            console.print(f"what is finished is kept; to go on: python run_search.py {command} --run {quote(run)}")
        raise


@app.command()
def study(
    run: RunOption,
    config: ConfigOption = None,
    budget: BudgetOption = None,
    mean_bd_bins: Annotated[
        str | None, _option("Bins of mean BD (or what --cross names first): N or LO:HI:N. [default: 9]", SPACE)
    ] = None,
    span_bins: Annotated[str | None, _option("Bands of span: N or LO:HI:N. [default: 3]", SPACE)] = None,
    per_cell: Annotated[int | None, _option("Patterns of each cell. [default: 3]", SPACE)] = None,
    cross: Annotated[
        str | None, _option("The measures crossed: mean_bd,span or from_output,span. [default: mean_bd,span]", SPACE)
    ] = None,
    optima: Annotated[
        int | None, _option("Shortest patterns, each with a control of equal span. [default: 6]", SPACE)
    ] = None,
    trials: Annotated[
        int | None, _option("Patterns drawn uniformly, beside the crossed ones. [default: 12]", SPACE)
    ] = None,
    seeds: Seeds = None,
    templates: Templates = None,
    seed: RunSeed = None,
    regime: Annotated[
        list[str] | None,
        _option(
            "NAME=lr:F,epochs:N, a stratum of its own; may be repeated. [default: --lr, and a third of it]", TRAINING
        ),
    ] = None,
    check_epochs: Annotated[
        int | None, _option("Train a spread subset again for so many epochs. [default: none]", TRAINING)
    ] = None,
    check_patterns: Annotated[int | None, _option("Patterns of that subset. [default: 12]", TRAINING)] = None,
    dataset: DatasetOption = None,
    data: Data = None,
    train_examples: TrainExamples = None,
    validation_examples: ValidationExamples = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    weight_decay: WeightDecay = None,
    lr_drops: LearningRateDrops = None,
    recipe: RecipeOption = None,
    memory_efficient: MemoryEfficient = None,
    cohort: Cohort = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    layers: Layers = None,
    also_layers: Annotated[
        list[int] | None, _option("Another depth to study too, a stratum of its own; may be repeated.", NETWORK)
    ] = None,
    blocks: Blocks = None,
    growth: Growth = None,
    bottleneck: Bottleneck = None,
    workers: Workers = None,
    attempts: Attempts = None,
    trial_timeout: TrialTimeout = None,
    checkpoint_seconds: CheckpointSeconds = None,
    device: DeviceOption = None,
    gpus_per_worker: GpusPerWorker = None,
    ray_address: RayAddress = None,
    deterministic: Deterministic = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, time and power; train and write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a crossed design of distance and span with controls, then report what distance explains.

    The plan is laid out and hashed before the first training. The same command again goes on with an interrupted
    study; on its run directory, --run alone does.
    """
    flags = _settings_given(locals(), without=("run", "config", "dry_run", "as_json"))
    flags |= {name: flags[name] or None for name in ("regime", "also_layers")}  # typer's empty list: not given

    from analysis.data.protocol import describe_protocol
    from nas.run.lock import lock_run

    with nullcontext() if dry_run else lock_run(run):  # see search
        from nas.settings.resume import settle_config
        from nas.settings.study import StudyConfig

        settings = settle_config(run, config, flags, StudyConfig)

        from nas.studies.study import run_study

        protocol = describe_protocol(settings.distance)
        if dry_run:
            _print_plan(run, settings, protocol, as_json)
            return
        headline = f"studying patterns of {' and '.join(map(str, settings.depths))} layers"
        _drive("study", run, settings, headline, as_json, lambda listener: run_study(run, settings, protocol, listener))


def _print_plan(run: Path, settings: "StudyConfig", protocol: dict[str, Any], as_json: bool) -> None:
    """What `study --dry-run` shows."""
    from analysis.stats.reliability import describe_power
    from nas.records.plan import hash_plan, read_plan
    from nas.studies.plan import make_plan
    from nas.studies.study import estimate_seconds

    console = _console(stderr=as_json)
    console.print("laying the design out and timing one training of each stratum")
    held = read_plan(run)
    plan = held[0] if held else make_plan(settings, protocol)
    power = describe_power(plan)
    with _log_to(console):
        seconds = estimate_seconds(plan, settings)
    summary: dict[str, Any] = {
        "sha256": hash_plan(plan),
        "trainings": len(plan["order"]),
        "hours": seconds / 3600,
        "strata": power,
    }
    if as_json:
        print(json.dumps(summary))  # noqa: T201
        return
    for cells in plan["cells"]:
        lacking = sum(n for _, _, n in cells["lacking"])
        console.print(
            f"{cells['layers']} layers: {cells['distance']} in {len(cells['distance_bins'])} bins from "
            f"{cells['distance_bins'][0][0]:.3f} to {cells['distance_bins'][-1][1]:.3f}, span in bands about "
            + ", ".join(f"{sum(band) / 2:.2f}" for band in cells["span_bands"])
            + (f"; {lacking} patterns not found" if lacking else "")
        )
    for one in power:
        parts = ", ".join(f"{n} {name}" for name, n in one["patterns"].items())
        console.print(f"{one['stratum']}: {one['trainings']} trainings; {parts}; {one['sentence']}")
    console.print(
        f"{summary['trainings']:,} trainings, about {summary['hours']:.1f} h, {_describe_workers(settings)}; plan "
        f"{summary['sha256'][:12]}; nothing was written\nnext: the same without --dry-run"
    )


@contextmanager
def _log_to(console: "Console") -> "Iterator[None]":
    """Print what the library logs as the command's own lines."""
    import logging

    handler = logging.Handler()
    handler.emit = lambda record: console.print(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("nas")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def _progress(console: "Console", headline: str) -> "Iterator[Listener]":
    """What run_search reports to: a bar on a terminal, a line a candidate elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task("starting", rate="", total=None)

    def listen(candidate: "Candidate | None", outcome: "Outcome | None", n_finished: int, n_asked: int) -> None:
        if candidate is None or outcome is None:
            if n_finished == n_asked:
                console.print(f"nothing to train: all {n_asked} trainings are done")
            else:
                console.print(headline + (f"; {n_finished} of {n_asked} are done already" if n_finished else ""))
            bar.reset(task, total=n_asked, completed=n_finished, description="training")
            return
        line = _candidate_line(candidate, outcome)
        if console.is_terminal:
            speed = bar.tasks[0].speed
            rate = "" if speed is None else f"{3600 * speed:,.0f} candidates/h"
            bar.update(task, completed=n_finished, description=line, rate=rate)
        else:
            console.print(f"{n_finished}/{n_asked} {line}")

    with bar, _log_to(console):
        yield listen


def _candidate_line(candidate: "Candidate", outcome: "Outcome") -> str:
    from nas.records.shown import show

    name = f"{candidate.template or candidate.pattern.key[:12]} seed {candidate.seed}"
    if outcome.validation_accuracy is None:
        line = f"{name}: failed, {outcome.error}"
    elif outcome.paused:
        line = f"{name}: pruned after epoch {outcome.epochs} at accuracy {outcome.validation_accuracy:.4f}"
    else:
        line = f"{name}: accuracy {outcome.validation_accuracy:.4f}, loss {outcome.validation_loss:.4f}"
    return show(line + (f" (from the start: {outcome.checkpoint_error})" if outcome.checkpoint_error else ""))


def _read(run: Path) -> "Run":
    from analysis.data.results import read_run

    return read_run(run)


def _write_report(run: Path) -> list[Path]:
    from analysis.report.report import write_report

    return write_report(run)


def _export_best(results: "Run", top: int, archives: bool) -> "list[Exported]":
    """Export a run's best patterns, and those that were measured on the test images, to its templates folder."""
    from analysis.comparisons.accuracy import list_exports, measure_final
    from nas.export.export import RunPattern, export_run

    final = measure_final(results)
    sizes = {} if final is None else {"n_train": final.n_train, "n_test": final.n_test}
    chosen = [
        RunPattern(row, None if tested is None else asdict(tested) | sizes)
        for row, tested in list_exports(results, top, final)
    ]
    described = {"config": results.config, "data": results.data, "environment": results.environment}
    return export_run(results.path, described, chosen, archives)


def _measure_finally(console: "Console", results: "Run", top: int, changes: dict[str, Any]) -> None:
    """Train the best patterns and the named templates of each stratum again, and measure them on the test images."""
    from analysis.comparisons.accuracy import choose_patterns
    from nas.studies.final import plan_final, run_final

    run = results.path
    rows = [
        {str(name): value for name, value in row.items()} for row in choose_patterns(results, top).to_dict("records")
    ]
    settings, chosen = plan_final(run, results.config, results.plan, rows, changes)
    headline = f"training {len(chosen)} patterns with {settings.seeds} seeds each on all but the test images of "
    headline += f"{settings.dataset}, {_describe_workers(settings)}; what follows is test accuracy"
    command = f"export --final --top {top}"
    with _resumable(console, command, run), _progress(console, headline) as listener:
        run_final(run, settings, chosen, listener)


def _annotate(console: "Console", run: Path) -> None:
    """Show the head of the report as the study's note in optuna-dashboard, where that is installed."""
    from nas.run.ledger import annotate

    text = (run / "report" / "report.md").read_text(encoding="utf-8").partition("\n## ")[0]
    if not annotate(run, text):
        console.print("optuna-dashboard is not installed, so the study has no note: pip install -e '.[dashboard]'")


def _print_end(console: "Console", results: "Run", paths: list[Path], run: Path) -> None:
    from analysis.data.averages import average_patterns, summarise_status
    from analysis.stats.guessing import list_unlearned

    for sentence in list_unlearned(results):
        console.print(sentence)
    status = summarise_status(results)
    best = average_patterns(results.candidates).iloc[0]
    name = best["template"] if isinstance(best["template"], str) else best["key"][:12]
    console.print(
        f"{status['complete']} of {status['asked']} candidates complete, {status['failed']} failed; "
        f"best pattern {name}: mean accuracy {best['validation_accuracy']:.4f} over {best['n_seeds']} seeds "
        f"at mean BD {best['mean_bd']:.3f}"
    )
    _print_written(console, paths, ["open", run / "report" / "index.html"])


def _print_written(console: "Console", paths: list[Path], following: list[Any]) -> None:
    from nas.records.shown import show

    alike: dict[tuple[Path, str], list[Path]] = {}  # folders beside each other that hold files of the same names
    for folder in dict.fromkeys(path.parent for path in paths):
        names = ", ".join(path.name for path in paths if path.parent == folder)
        alike.setdefault((folder.parent, names), []).append(folder)
    for (parent, names), folders in alike.items():
        where = show(folders[0] if len(folders) == 1 else f"{len(folders)} folders in {parent}, each with")
        console.print(f"wrote {where}: {names}")
    _print_next(console, *following)


OURSELVES = ("python", "run_search.py")


def _print_next(console: "Console", *words: object) -> None:
    """Print a command that can be copied."""
    from nas.records.shown import quote

    console.print(f"next: {' '.join(map(quote, words))}")


@app.command()
def status(run: RunOption, as_json: JsonOption = False) -> None:
    """How far a run is, whether it is being driven, and its best pattern so far."""
    from nas.run.lock import find_driver

    driver = find_driver(run)  # first: what has ended when the ledger is read was told before
    results = _read(run)
    deaths = {str(number): n_deaths for number, n_deaths in results.driver_deaths.items()}
    _print_status(results, as_json, {"driver": driver, "driver_deaths": deaths})
    if not as_json:
        for number, n_deaths in deaths.items():
            times = "once" if n_deaths == 1 else f"{n_deaths} times"
            _console().print(f"the driver died {times} while candidate {number} was in training")
        _print_how_to_go_on(results, driver)


def _summarise_networks(results: "Run", summary: dict[str, Any]) -> dict[str, Any]:
    """The summary of a comparison of networks, whose best is that of its report: several may share a pattern."""
    from analysis.comparisons.standing import rank_networks

    standings = rank_networks(results)
    summary = {"networks" if name == "patterns" else name: value for name, value in summary.items()}
    summary["networks"] = len(standings)
    first = next((one for one in standings if one.accuracy is not None), None)
    if first is not None:
        best = {"network": first.name, "key": first.pattern.key, "mean_bd": first.mean_bd, "value": first.accuracy}
        summary["best"] = best
    return summary


def _print_how_to_go_on(results: "Run", driver: str | None) -> None:
    """What there is to do about a run, as the last line of its status."""
    from analysis.data.averages import summarise_status
    from nas.records.database import COMMANDS

    console, run = _console(), results.path
    summary = summarise_status(results)
    is_done = results.asked is None or summary["complete"] + summary["failed"] + summary["pruned"] >= results.asked
    if driver is not None or is_done:
        if driver is not None:
            console.print(f"driven by {driver}")
        _print_next(console, *OURSELVES, "report", "--run", run)
        return
    console.print("no driver is running")
    if results.kind == "final":
        _print_next(console, *OURSELVES, "export", "--final", "--run", run.parent)
    else:
        _print_next(console, *OURSELVES, COMMANDS[results.kind], "--run", run)


def _print_status(results: "Run", as_json: bool, told: dict[str, Any] | None = None) -> None:
    """How far a run is; `told`: what else JSON says of it, its driver among it."""
    from analysis.data.averages import summarise_status
    from analysis.stats.guessing import list_unlearned

    summary = summarise_status(results)
    told = told or {}
    if results.kind == "comparison":
        summary = _summarise_networks(results, summary)
    if as_json:
        print(json.dumps({**summary, **told}, allow_nan=False), flush=True)  # noqa: T201
        return
    if told.get("driver", "") is None and summary["running"]:
        summary = {"cut short" if name == "running" else name: value for name, value in summary.items()}
    best = summary.pop("best")
    _console().print(", ".join(f"{name} {value}" for name, value in summary.items()))
    if best:
        for sentence in list_unlearned(results):
            _console().print(sentence)
        name = best.get("network", best["key"][:12])
        _console().print(f"best {name}: accuracy {best['value']:.4f} at mean BD {best['mean_bd']:.3f}")


@app.command()
def report(run: RunOption) -> None:
    """Write a run's report: a page, Markdown, CSV, figures."""
    paths = _write_report(run)
    _print_written(_console(), paths, ["open", run / "report" / "index.html"])


FINAL_SETTINGS = ("seeds", "epochs", "train_examples", "workers", "device")
# What export takes beside --template, --pattern or --network: a run's patterns have the run's own.
OUTSIDE_A_RUN = (
    "to", "budget", "network", "layers", "blocks", "growth", "bottleneck", "transition", "stem_channels",
    "compression", "classes", "image",
)  # fmt: skip


@app.command()
def export(
    run: Annotated[
        Path | None, typer.Option("--run", help="Export this run's best patterns.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many of them.")] = 5,
    final: Annotated[
        bool,
        typer.Option(
            "--final",
            help="First train these and the named templates anew on all but the test images, and measure on those.",
        ),
    ] = False,
    seeds: Annotated[int | None, _option("Of --final: trainings of each pattern. [default: 5]", TRAINING)] = None,
    epochs: Annotated[int | None, _option("Of --final: passes. [default: as the run]", TRAINING)] = None,
    train_examples: Annotated[
        int | None, _option("Of --final: how many images are trained on. [default: all but the test images]", TRAINING)
    ] = None,
    workers: Annotated[str | None, _option("Of --final: trainings at a time. [default: as the run]", TRAINING)] = None,
    device: Annotated[Device | None, _option("Of --final. [default: as the run]", TRAINING)] = None,
    template: Annotated[str | None, _option("Export a template by name instead.", SPACE)] = None,
    pattern: Annotated[Path | None, _option("Export a pattern file instead.", SPACE)] = None,
    to: Annotated[Path | None, typer.Option(help="Folder for --template or --pattern.", show_default=False)] = None,
    budget: BudgetOption = None,
    network: NetworkOption = None,
    layers: Layers = None,
    blocks: Blocks = None,
    growth: Growth = None,
    bottleneck: Bottleneck = None,
    transition: TransitionOption = None,
    stem_channels: StemChannels = None,
    compression: Compression = None,
    classes: Annotated[int | None, _option("Outputs of the classifier. [default: 10]", NETWORK)] = None,
    image: Annotated[str | None, _option("CxHxW of one image. [default: 1x8x8]", NETWORK)] = None,
) -> None:
    """Write patterns as folders: template files, a program, ONNX, all compared with the network itself."""
    from search_spaces.errors import InputError

    n_chosen = sum(choice is not None for choice in (run, template, pattern))
    if n_chosen > 1 or (n_chosen == 0 and network is None):
        raise InputError(
            "export takes one of --run DIR, --template NAME and --pattern FILE, or --network NAME for that network"
        )
    unused = [name for name, value in locals().items() if name in OUTSIDE_A_RUN and value is not None]
    if run is not None and unused:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise InputError(
            f"a run's patterns are written into RUN/templates, with the run's own network: leave out {flags}"
        )
    if template is None and budget is not None:
        raise InputError(f"--budget {budget} places the connections of --template, and none is given: leave it out")
    changes = {name: _plain(value) for name, value in locals().items() if name in FINAL_SETTINGS}
    changes["workers"] = _parse_count(workers)
    if not final and any(value is not None for value in changes.values()):
        raise InputError("--seeds, --epochs, --train-examples, --workers and --device are of --final: give that too")
    if final and run is None:
        raise InputError("--final measures the patterns of a run: give --run DIR")
    console = _console()
    if run is not None:
        results = _read(run)
        if results.kind == "comparison":
            raise InputError(
                f"{run} compares networks of several kinds: export one by --network, or --pattern with its surroundings"
            )
        if final:
            from analysis.stats.guessing import list_unlearned
            from nas.records.database import FINAL

            _measure_finally(console, results, top, changes)
            results = _read(run)
            _write_report(run)
            for sentence in list_unlearned(_read(run / FINAL), "test images"):
                console.print(sentence)
        console.print("writing each network in several forms, reading them back and comparing: this takes a while")
        exported = _export_best(results, top, archives=True)
    elif to is None:
        raise InputError("--template, --pattern and --network need --to FOLDER")
    else:
        exported = [_export_one(template, pattern, to, locals())]
    for note in dict.fromkeys(note for one in exported for note in one.notes):
        console.print(note)
    paths = [path for one in exported for path in one.paths]
    _print_written(console, paths, [*OURSELVES, "verify", exported[0].folder])


def _export_one(template: str | None, file: Path | None, folder: Path, flags: dict[str, Any]) -> "Exported":
    from nas.export.export import export_folder
    from nas.model.presets import find_preset
    from nas.records.template import read_pattern
    from search_spaces.budget import Budget, log_budget, parse_budget

    given = None if file is None else read_pattern(file)
    network = _network_config(given, flags)
    if given is not None:
        provenance = {"name": None, "origin": f"pattern file {file.name if file else ''}"}
    elif template is not None:
        spent = parse_budget(flags["budget"] or "log", network.pattern_depth)
        ((name, given),) = _named_patterns([template], False, spent)
        provenance = {"name": name, "origin": "named template"}
    else:
        preset = find_preset(flags["network"])
        given, provenance = preset.pattern, {"name": preset.template, "origin": f"{preset.name}, {preset.paper}"}
    log = log_budget(given.depth)
    budget = log if log.is_met_by(given) else Budget(given.depth, total=given.n_connections)
    return export_folder(given, network, str(budget), provenance, folder)


MaxIn = Annotated[int | None, _option("Most inputs of a layer.", SPACE)]
MaxOut = Annotated[int | None, _option("Most readers of a node.", SPACE)]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the draws.")]


def _capped_budget(budget: str | None, layers: int | None, max_in: int | None, max_out: int | None) -> "Budget":
    from nas.model.candidate import NetworkConfig
    from nas.records.checked import validate
    from search_spaces.budget import parse_budget

    depth = validate(NetworkConfig, {} if layers is None else {"layers": layers}).layers
    caps = [f";max-{name}:{cap}" for name, cap in (("in", max_in), ("out", max_out)) if cap is not None]
    return parse_budget((budget or "log") + "".join(caps), depth)


def _score_found(pattern: "ConnectionPattern", budget: "Budget", label: str | None) -> dict[str, Any]:
    """Score's row of a pattern in a network of default sizes, and its sources."""
    from nas.model.candidate import Candidate, NetworkConfig
    from nas.model.score import score_candidate

    candidate = Candidate(pattern, NetworkConfig(layers=pattern.depth), 0)
    return {**score_candidate(candidate, budget, label), "sources": [list(inputs) for inputs in pattern.sources]}


@app.command()
def optimize(
    budget: BudgetOption = None,
    layers: Layers = None,
    max_in: MaxIn = None,
    max_out: MaxOut = None,
    seconds: Annotated[float, typer.Option(help="Time limit.")] = 20.0,
    seed: Seed = 0,
    to: Annotated[Path | None, typer.Option(help="Template file to write.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """The pattern of least mean backprop distance that a budget allows, with a certificate of how good it is."""
    from nas.export.export import describe_export
    from nas.model.candidate import NetworkConfig
    from nas.records.safe_files import write_atomic
    from nas.records.template import check_replaceable, format_template
    from search_spaces.sampling.optimal import optimize as find_optimum

    if to is not None:
        check_replaceable(to)
    spent = _capped_budget(budget, layers, max_in, max_out)
    optimum = find_optimum(spent, seed, seconds)
    pattern = optimum.pattern
    row = _score_found(pattern, spent, None)
    if to is not None:
        provenance = {"name": None, "origin": "optimize", "seed": seed, "n_moves": optimum.n_moves}
        template = describe_export(pattern, NetworkConfig(layers=pattern.depth), str(spent), provenance)
        write_atomic(to, format_template(template))
    if as_json:
        print(json.dumps(row))  # noqa: T201
        return
    _print_scores([row], f"{pattern.depth} layers at budget {spent}, {optimum.n_moves:,} moves tried")
    ended = "time was up" if optimum.by_clock else "the bound is met" if row["gap"] == 0 else "the search ended"
    console = _console()
    console.print(
        f"{row['certificate']}: mean BD {row['mean_bd']:.4f}, proven bound {row['bound_mean_bd']:.4f}; {ended}"
    )
    if to is None:
        console.print("next: the same with --to FILE keeps it")
    else:
        _print_written(console, [to], [*OURSELVES, "verify", to])


@app.command("pattern-from-strengths")
def pattern_from_strengths(
    run: RunOption,
    teacher: Annotated[
        str, typer.Option("--from", help="The trained pattern: a template's name, or a key's first digits.")
    ] = "dense",
    budget: BudgetOption = None,
    to: Annotated[Path | None, typer.Option(help="Template file to write.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """The chain and the strongest connections of a pattern that a run trained: learned sparsity at a budget."""
    from analysis.strengths.learning import learn_from_run
    from nas.export.export import describe_export
    from nas.model.candidate import NetworkConfig
    from nas.records.safe_files import write_atomic
    from nas.records.template import check_replaceable, format_template
    from search_spaces.budget import parse_budget

    if to is not None:
        check_replaceable(to)
    learned = learn_from_run(_read(run), teacher, budget or "log")
    pattern = learned.pattern
    spent = parse_budget(budget or "log", pattern.depth)
    if to is not None:
        provenance = {"name": None, "origin": "pattern-from-strengths", "taught_by": learned.taught_by}
        provenance["trainings"] = str(learned.n_trainings)
        template = describe_export(pattern, NetworkConfig(layers=pattern.depth), str(spent), provenance)
        write_atomic(to, format_template(template))
    row = _score_found(pattern, spent, None)
    if as_json:
        print(json.dumps(row))  # noqa: T201
        return
    title = f"the strongest connections of {teacher}, {learned.n_trainings} trainings, at budget {spent}"
    _print_scores([row], title)
    if to is None:
        _console().print("next: the same with --to FILE keeps it; compare-networks trains such a pattern")
    else:
        _print_written(_console(), [to], [*OURSELVES, "export", "--pattern", to, "--to", "FOLDER"])


@app.command()
def strengths(
    run: RunOption,
    to: Annotated[Path, typer.Option(help="Folder for the table and the pictures.", show_default=False)],
    pattern: Annotated[
        str, typer.Option("--of", help="A trained pattern: a template's name, or a key's first digits.")
    ] = "dense",
    seed: Annotated[int | None, _option("Of one training. [default: the mean over all]", SPACE)] = None,
) -> None:
    """Connection strengths of a trained pattern: a table, DenseNet's heat map, and the arc diagram."""
    from analysis.page.figure_style import draw_png, draw_svg
    from analysis.strengths.learning import select_trained
    from analysis.strengths.plot import plot_strengths
    from nas.records.written import write_files
    from search_spaces.wiring.arcs import draw_arcs

    trained = select_trained(_read(run), pattern, seed)
    relative = dict(zip(trained.pattern.connections, trained.strengths, strict=True))
    of = f"{len(trained.numbers)} training{'s' if len(trained.numbers) > 1 else ''}"
    figure = plot_strengths([(pattern, trained.pattern.depth, relative)], f"mean over blocks of {of} in {run.name}")
    rows = [f"{source},{target},{strength:.6g}" for (source, target), strength in relative.items()]
    files: dict[str, str | bytes] = {
        "strengths.csv": "\n".join(["source,target,relative_strength", *rows]) + "\n",
        "heat_map.svg": draw_svg(figure),
        "heat_map.png": draw_png(figure),
        "arcs.svg": draw_arcs(trained.pattern, pattern, strengths=relative),
    }
    write_files(to, files, "strengths")
    _print_written(_console(), [to / name for name in files], ["open", to / "heat_map.svg"])


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="An exported folder, or a template file.", show_default=False)],
    trust: Annotated[
        bool, typer.Option("--trust", help="Load what could run code, model.pt2, and networks of any size too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Recompute every claim of an exported folder, a template file or a folder of these; exit 2 if one is false."""
    from nas.export.export import verify_template
    from nas.records.shown import show

    notes: list[str] = []
    file = path
    if path.is_dir():
        from nas.export.apart import find_verifiable, verify_all

        places = find_verifiable(path)
        found = verify_all(path, places, trust)
        false, notes = found.false, found.notes
        file = places[0] / "template.json"
    else:
        false = verify_template(path)
    console = _console(stderr=as_json or bool(false))
    for note in notes:
        console.print(note)
    if as_json:
        print(json.dumps({"ok": not false, "false_claims": list(false)}))  # noqa: T201
    elif not false:
        console.print(f"{show(path)}: every claim holds")
        _print_next(console, *OURSELVES, "score", "--pattern", file)
    else:
        said = "\n".join(map(_show_message, [f"error: {path} makes false claims:", *false.values()]))
        print(said, file=sys.stderr)  # noqa: T201
    if false:
        raise typer.Exit(2)


@app.command()
def sample(
    to: Annotated[Path, typer.Option(help="Folder for the template files.", show_default=False)],
    budget: BudgetOption = None,
    layers: Layers = None,
    mean_bd: Annotated[str | None, _option("LO:HI, in hops. [default: any]", SPACE)] = None,
    span: Annotated[str | None, _option("LO:HI, in layers. [default: any]", SPACE)] = None,
    from_output: Annotated[str | None, _option("LO:HI, mean BD from the output. [default: any]", SPACE)] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many patterns.")] = 1,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Patterns drawn from a band of distance crossed with a band of span, at an exact budget."""
    from nas.export.export import export_pattern
    from nas.model.candidate import NetworkConfig
    from nas.records.shown import show
    from search_spaces.distance import backprop_distance
    from search_spaces.errors import NothingUsableError
    from search_spaces.sampling.bounds import bound_mean
    from search_spaces.sampling.draw import Cell, farthest_pattern, sample_distinct

    spent = _capped_budget(budget, layers, None, None)
    cell = Cell(_parse_band("mean-bd", mean_bd), _parse_band("span", span), _parse_band("from-output", from_output))
    patterns = sample_distinct(spent, cell, count, seed)
    if not patterns:
        largest = backprop_distance(farthest_pattern(spent)).mean
        raise NothingUsableError(
            "not found: no pattern of this budget was met in these bands; widen or move them. Its mean BD lies between "
            f"{bound_mean(spent):.3f} (proven) and {largest:.3f} (the largest known)"
        )
    network = NetworkConfig(layers=spent.depth)
    paths = []
    for pattern in patterns:
        provenance = {"name": None, "origin": "sample", "seed": seed}
        paths += export_pattern(pattern, network, str(spent), provenance, to)
    rows = [_score_found(pattern, spent, None) for pattern in patterns]
    console = _console(stderr=as_json)
    if len(patterns) < count:
        console.print(f"found {len(patterns)} of {count}: the cell is small, or hard to get to")
    if as_json:
        print(json.dumps(rows))  # noqa: T201
    else:
        _print_scores(rows, f"{spent.depth} layers at budget {spent}")
        console.print(f"wrote {len(patterns)} folders in {show(to)}")
        _print_next(console, *OURSELVES, "verify", paths[0])


def _parse_band(name: str, text: str | None) -> tuple[float, float] | None:
    from search_spaces.errors import InputError

    if text is None:
        return None
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InputError(f"--{name} {text}: expected LO:HI, as 1.8:1.9") from None


@app.command()
def correlate(
    file: Annotated[Path, typer.Argument(help="A CSV table, one row a measurement.", show_default=False)],
    measure: Annotated[str, typer.Option(help="COL[,COL...]: the columns to correlate.", show_default=False)],
    outcome: Annotated[str, typer.Option(help="COL: the column to correlate them with.", show_default=False)],
    group: Annotated[
        str | None,
        typer.Option(
            help="COL[,COL...]: split the table by these columns, correlate inside the groups and pool them.",
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="COL: tells repeats of one thing, which are averaged.", show_default=False)
    ] = None,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """The study's statistics on any table: rank correlations with intervals, permutation tests and noise ceiling."""
    from analysis.correlate.table import correlate_table
    from analysis.page.wording import format_interval, format_p
    from nas.records.shown import quote, show

    rows = correlate_table(file, [name.strip() for name in measure.split(",")], outcome, group, pattern, seed)
    strata = rows[0]["strata"]
    if strata:
        split = ",".join([*([group] if group else []), *strata])
        _console(stderr=True).print(
            f"warning: this table holds several strata ({', '.join(strata)}), and they are pooled: a difference "
            f"between strata looks like an effect. To correlate inside them, add --group {quote(split)}"
        )
    if as_json:
        print(json.dumps(rows, allow_nan=False))  # noqa: T201
        return
    from rich.table import Table

    inside = f", inside groups by {show(group)}" if group else ""
    table = Table(title=f"rank correlations with {show(outcome)}{inside}", title_justify="left")
    for heading in (
        "measure",
        "rows",
        "patterns",
        "Spearman",
        "95 % interval",
        "Kendall",
        "p",
        "quadratic R2",
        "ceiling",
    ):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for row in rows:
        shown_by_three = ("spearman", "kendall", "quadratic_r2", "ceiling")
        numbers = {name: "-" if row[name] is None else f"{row[name]:z.3f}" for name in shown_by_three}
        interval = format_interval(row["spearman_low"], row["spearman_high"])
        shown = [numbers["kendall"], format_p(row["p_permutation"]), numbers["quadratic_r2"], numbers["ceiling"]]
        table.add_row(show(row["measure"]), str(row["n"]), str(row["patterns"]), numbers["spearman"], interval, *shown)
    _console().print(table)
    for note in dict.fromkeys(row["note"] for row in rows if row["note"]):
        _console().print(show(note))


@app.command("compare-networks")
def compare_networks(
    run: RunOption,
    config: ConfigOption = None,
    network: Annotated[
        list[str] | None,
        _option(
            "dense, log-densenet-v1, log-densenet-v2, log, optimum or learned; may be repeated. [default: all]", NETWORK
        ),
    ] = None,
    seeds: Seeds = None,
    dataset: DatasetOption = None,
    data: Data = None,
    train_examples: TrainExamples = None,
    validation_examples: ValidationExamples = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    weight_decay: WeightDecay = None,
    lr_drops: LearningRateDrops = None,
    recipe: RecipeOption = None,
    memory_efficient: MemoryEfficient = None,
    cohort: Cohort = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    layers: Layers = None,
    blocks: Blocks = None,
    growth: Growth = None,
    bottleneck: Bottleneck = None,
    workers: Workers = None,
    attempts: Attempts = None,
    trial_timeout: TrialTimeout = None,
    checkpoint_seconds: CheckpointSeconds = None,
    device: DeviceOption = None,
    gpus_per_worker: GpusPerWorker = None,
    ray_address: RayAddress = None,
    deterministic: Deterministic = None,
    as_json: JsonOption = False,
) -> None:
    """Train the papers' networks, a shortest pattern and learned sparsity side by side at matched FLOPs.

    Growth is that of `log`; the others get the growth that brings their FLOPs nearest to it. `learned` keeps the
    strongest connections of the trained dense networks. The same command again goes on with an interrupted run.
    """
    flags = _settings_given(locals(), without=("run", "config", "network", "as_json"))
    flags["networks"] = tuple(network) if network else None

    from nas.run.lock import lock_run

    with lock_run(run):  # see search
        from nas.records.shown import show
        from nas.settings.comparison import LineupConfig
        from nas.settings.resume import settle_config
        from nas.studies.comparison import run_lineup

        settings = settle_config(run, config, flags, LineupConfig)
        headline = f"comparing {', '.join(settings.networks)} of {settings.blocks} x {settings.layers} layers"
        console = _console(stderr=as_json)
        headline += f" on {settings.dataset}: {_describe_workers(settings)}, into {show(run)}"
        with _resumable(console, "compare-networks", run):
            with _progress(console, headline) as listener:
                run_lineup(run, settings, listener)
            paths = _write_report(run)
        _print_lineup(console, run, as_json)
        _print_written(console, paths, ["open", run / "report" / "index.html"])


def _print_lineup(console: "Console", run: Path, as_json: bool) -> None:
    from analysis.comparisons.networks import (
        COSTS,
        RESULTS,
        describe_lineup,
        format_cost,
        format_result,
        learn_lineup,
        summarise_lineup,
    )
    from analysis.comparisons.standing import rank_networks

    results = _read(run)
    standings = rank_networks(results)
    if as_json:
        rows = [{**asdict(one), "pattern": [list(inputs) for inputs in one.pattern.sources]} for one in standings]
        print(json.dumps(rows, allow_nan=False), flush=True)  # noqa: T201
        return
    from rich.table import Table

    for header, describe, heading in (
        (RESULTS, format_result, describe_lineup(results)),
        (COSTS, format_cost, "what they cost"),
    ):
        table = Table(title=heading, title_justify="left")
        for name in header:
            table.add_column(name, justify="left" if name == "network" else "right")
        for one in standings:
            table.add_row(*describe(one))
        console.print(table)
    console.print(summarise_lineup(standings, learn_lineup(results)))


@app.command("compare-strategies")
def compare_strategies(
    table: Annotated[
        Path,
        typer.Option(help="CSV of all patterns of a budget, each trained with the same seeds.", show_default=False),
    ],
    strategy: Annotated[
        list[Proposing] | None, _option("May be repeated; random is always beside. [default: all]", SPACE)
    ] = None,
    replays: Annotated[int, typer.Option(min=1, max=100_000, help="Searches of each strategy.")] = 200,
    trials: Annotated[
        int | None, _option("Patterns that each search proposes. [default: 120, or all there are]", SPACE)
    ] = None,
    visible_seeds: Annotated[
        int | None,
        _option("Seeds of the table that a search sees; the others judge it. [default: 3 of 6 or more, else 1]", SPACE),
    ] = None,
    lookahead: Annotated[
        int,
        typer.Option(min=1, max=10**6, help="A search does not wait for the last so many patterns, itself included."),
    ] = 1,
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Replays at a time. [default: one a core]", show_default=False)
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder for regret.csv, regret.svg and regret.png.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay search strategies on a table of trainings: regret against trainings, beside random search."""
    from analysis.replays.regret import measure_regret
    from analysis.replays.searches import Searches
    from analysis.replays.table import OUTCOME, describe_provenance, read_exhaustive
    from analysis.stats.reliability import measure_reliability
    from nas.records.shown import show

    held = read_exhaustive(table)
    console = _console(stderr=as_json)
    if held.provenance is not None:
        console.print(f"{show(table)}: {describe_provenance(held.provenance)}")

    from nas.search.replay import ReplayPlan, choose_n_visible, replay

    n_seeds = len(held.seeds)
    plan = ReplayPlan(
        budget=held.budget,
        strategies=tuple(dict.fromkeys((Proposing.RANDOM.value, *(name.value for name in strategy or Proposing)))),
        n_replays=replays,
        n_patterns=min(120, len(held.keys)) if trials is None else trials,
        n_visible=choose_n_visible(n_seeds) if visible_seeds is None else visible_seeds,
        lookahead=lookahead,
        run_seed=seed,
    )
    with _counter(console, "replaying", replays) as listen:
        replays_done = replay(plan, held.keys, held.accuracies, workers or os.cpu_count() or 1, listen)
    searches = Searches(plan.strategies, held.accuracies, replays_done.is_visible, replays_done.proposed)
    regrets = measure_regret(searches, measure_reliability(held.complete, OUTCOME), seed)
    caption = (
        f"{len(held.keys)} patterns of {held.budget.depth} layers at budget {held.budget}; {replays} replays of "
        f"{plan.n_patterns} proposals, visible seeds {plan.n_visible}, judging seeds {n_seeds - plan.n_visible}, "
        f"lookahead {lookahead}; 95 % intervals"
    )
    _print_regret(console, regrets, caption, (plan.n_visible, n_seeds), as_json)
    if to is not None:
        paths = _write_regret(regrets, caption, to)
        _print_written(console, paths, ["open", to / "regret.svg"])


@contextmanager
def _counter(console: "Console", doing: str, total: int) -> "Iterator[Callable[[int], None]]":
    """A bar on a terminal, nothing elsewhere."""
    from rich.progress import Progress

    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda n_done: bar.update(task, completed=n_done)


def _write_regret(regrets: "Regrets", caption: str, folder: Path) -> list[Path]:
    from analysis.page.figure_style import draw_png, draw_svg
    from analysis.replays.plot import plot_regret
    from nas.records.written import write_files

    figure = plot_regret(regrets.curves, caption)
    files: dict[str, str | bytes] = {
        "regret.csv": regrets.curves.to_csv(index=False),
        "regret.svg": draw_svg(figure),
        "regret.png": draw_png(figure),
    }
    write_files(folder, files, "compare-strategies")
    return [folder / name for name in files]


def _print_regret(console: "Console", regrets: "Regrets", caption: str, seeds: tuple[int, int], as_json: bool) -> None:
    """The curves at some numbers of trainings; then what noise lets see, and each strategy's verdict."""
    from analysis.replays.regret import describe_comparison, describe_noise, tabulate_regret

    rows = tabulate_regret(regrets)
    if as_json:
        print(json.dumps(rows, allow_nan=False))  # noqa: T201
        return
    from rich.table import Table

    table = Table(title=caption, title_justify="left")
    for heading in ("strategy", "patterns", "trainings", "regret", "gain", "regret less random's"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    for row in rows:
        shown = [_format_estimate(row, name, "") for name in ("regret", "gain")]
        difference = _format_estimate(row, "difference_to_random", "+")
        table.add_row(row["strategy"], str(row["patterns"]), str(row["trainings"]), *shown, difference)
    console.print(table)
    n_visible, n_seeds = seeds
    console.print(f"noise: {describe_noise(regrets.noise, n_visible, n_seeds - n_visible)}")
    for comparison in regrets.comparisons:
        console.print(describe_comparison(comparison, rows[-1]["trainings"]))
    console.print(
        "gain: over a random pattern. regret: to the best of noisy means, so all of them are too large by one offset; "
        "gain and differences are free of it. Intervals: 95 %, of this table alone"
    )


def _format_estimate(row: dict[str, Any], name: str, sign: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return "-" if value is None else f"{value:{sign}z.4f} ({low:{sign}z.4f} to {high:{sign}z.4f})"  # z: no -0.0000


@app.command()
def bench(
    device: DeviceOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Digits, 24 layers, growth 8, batch 64 alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How fast this machine trains: our engine against what PyTorch offers; its advice is what --engine auto follows.

    A quarter of an hour and more; --quick takes less than a minute. Nothing else should run meanwhile.
    """
    console = _console(stderr=as_json)
    with console.status("loading"):
        from nas.bench.benchmark import advise, compare_engines, list_contests
        from nas.bench.workers import measure_ceilings, start_workers
        from nas.engines.native import write_advice
        from nas.settings.machine import resolve_device, resolve_workers
    resolved = resolve_device(_plain(device) or "auto")
    n_workers = 1 if resolved == "cuda" else resolve_workers("auto", resolved)
    shapes, engines = list_contests(resolved, quick)
    rows = []
    with start_workers(n_workers, resolved) as workers:
        ceilings = measure_ceilings(workers)
        _print_machine(console, resolved, n_workers, ceilings)
        for shape in shapes:
            with console.status(f"{shape}: {len(engines)} engines in turn"):
                found = compare_engines(workers, shape, engines, resolved)
            rows += found
            _print_engines(console, found, ceilings)
    engine, cohort = advise(rows)
    write_advice(resolved, engine, cohort)
    console.print(
        f"advice for this machine: --engine {engine} --cohort {cohort} --workers {n_workers}, which auto now means"
    )
    if as_json:
        print(json.dumps([row.to_dict() for row in rows]))  # noqa: T201


def _print_machine(console: "Console", device: str, n_workers: int, ceilings: "Ceilings") -> None:
    from nas.records.environment import describe_versions
    from nas.run.directory import name_device

    versions = describe_versions(("torch",))
    console.print(
        f"{name_device(device)}, {n_workers} at a time; Python {versions['python']}, torch {versions['torch']}, "
        f"skipsearch {versions['skipsearch']} at {versions['commit']}; load before {os.getloadavg()[0]:.2f}; ceilings "
        f"of all together: matrix product {ceilings.matrix_flops / 1e9:.0f} GFLOP/s, copy "
        f"{ceilings.copy_bytes / 1e9:.1f} GB/s"
    )


def _print_engines(console: "Console", rows: "list[Row]", ceilings: "Ceilings") -> None:
    from rich.table import Table

    def ratio(values: tuple[float, ...]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    table = Table(title=f"{rows[0].shape}; medians of {len(rows[0].rates)} rounds, ranges", title_justify="left")
    for heading in (
        "engine", "steps/s", "to eager, one process", "to the strongest of PyTorch's", "GFLOP/s", "of matrix product",
        "candidates/h",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for row in rows:
        speed = row.steps_per_second
        if speed is None:
            table.add_row(row.engine, "other losses than eager: no speed")
            continue
        flops = speed * row.flops
        table.add_row(
            row.engine,
            f"{speed:.1f}",
            ratio(row.to_one_process),
            ratio(row.to_strongest),
            f"{flops / 1e9:.1f}",
            f"{100 * flops / ceilings.matrix_flops:.0f} %",
            f"{statistics.median(row.candidates):,.0f}" if row.candidates else "",
        )
    console.print(table)


def main() -> None:
    """Run the command line; errors go to standard error, each class with its exit code."""
    from nas.records.shown import find_output_error, guard_outputs

    guard_outputs()
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # Cyclic garbage is looked for in all that was loaded, again and again: a quarter of the time of importing torch and
    # the others, and a second at the interpreter's end.
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app(arguments)
    except Exception as error:
        _fail(error, debug)
    except BaseException as reason:
        if not hasattr(reason, "exit_code"):
            lost = find_output_error()
            if lost is not None and isinstance(reason, SystemExit) and not reason.code:
                _fail(OSError(lost.errno, lost.strerror, "standard output"), debug)
            raise
        print("interrupted", file=sys.stderr, flush=True)  # noqa: T201
        sys.stdout.flush()
        os._exit(reason.exit_code)  # interrupted in its start, Ray may abort when the interpreter takes it down


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001  the signal module's form
    from search_spaces.errors import Interrupted

    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


def _show_message(text: str) -> str:
    """Return a message as shown: its list of settings has lines of its own, any other break of a line is a name's."""
    from nas.records.shown import show

    return "\n  - ".join(map(show, text.split("\n  - ")))


def _fail(error: Exception, debug: bool) -> None:
    if debug:
        raise error

    code, advice = getattr(error, "exit_code", None), ""
    if code is not None:
        text = str(error)
    elif isinstance(error, OSError):
        code = 3
        text = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    else:
        code = 1
        text = f"a bug of ours, {type(error).__name__}: {error}"
        advice = "\nrun again with --debug and report it"
    print(f"error: {_show_message(text)}{advice}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
