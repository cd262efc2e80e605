"""Commands that train: search, study and compare-networks."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.files import export_best
from commands.flags import Config, Json, Network, Run, Wide, flag, list_recipes
from commands.runs import annotate, print_end, print_status
from commands.terminal import (
    describe_workers,
    log_to,
    make_console,
    print_table,
    resumable,
    show_progress,
)

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.data.results import Run as Results
    from analysis.report.conclusion import Conclusion
    from nas.run.source import Listener
    from nas.settings.search import SearchConfig
    from nas.settings.study import StudyConfig

# What a search loads until its first training, except for Ray: the last is for Ray Tune.
SEARCH_MODULES = ("nas.search.loop", "search_spaces.sampling.optimal", "pandas")
Recipe = Annotated[
    str | None,
    flag(
        "Training schedule by name: short, or a paper's: densenet, log-densenet, sparsenet, condensenet, resnet, "
        "stochastic-depth, fractalnet, highway or msdnet. Other flags win. [default: short]",
        "Training",
        values=list_recipes,
    ),
]


def search(
    ctx: typer.Context,
    run: Run,
    config: Config = None,
    network: Network = None,
    recipe: Recipe = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Train patterns under a budget, then write the report and the best templates.

    The same command again continues an interrupted run; on a run directory, --run is enough.
    """
    from nas.run.lock import lock_run

    with lock_run(run):  # before the libraries are loaded, so that a second driver leaves at once
        from nas.settings.resume import settle_config
        from nas.settings.search import SearchConfig

        flags = {**ctx.obj, "network": network, "recipe": recipe}
        settings = settle_config(run, config, flags, SearchConfig, find_table)

        from nas.workers.ray_start import start_while_loading

        with start_while_loading(run, settings, SEARCH_MODULES):
            from nas.search.loop import run_search

            headline = f"searching {settings.strategy} patterns of {settings.layers} layers"
            console = make_console(stderr=as_json, wide=wide)
            results = _drive("search", run, settings, headline, console, lambda heard: run_search(run, settings, heard))
        if as_json:
            print_status(results, as_json=True)


def find_table(table: Path) -> Path:
    """Return the path of a table's file: the one given, or that of a table of ours by its name."""
    from analysis.replays import catalogue  # loads pandas

    return catalogue.find_table(table)


def study(
    ctx: typer.Context,
    run: Run,
    config: Config = None,
    network: Network = None,
    recipe: Recipe = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, time and power; train and write nothing.")
    ] = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Train a design that crosses measures of patterns, with controls, then report what they explain.

    The plan is laid out and hashed before the first training. The same command again continues an interrupted study;
    on its run directory, --run is enough.
    """
    from analysis.data.protocol import describe_protocol
    from nas.run.lock import lock_run

    with nullcontext() if dry_run else lock_run(run):  # see search
        from nas.settings.own_task import find_metrics
        from nas.settings.resume import settle_config
        from nas.settings.study import StudyConfig

        settings = settle_config(run, config, {**ctx.obj, "network": network, "recipe": recipe}, StudyConfig)

        from nas.studies.study import run_study

        protocol = describe_protocol(settings.measures, find_metrics(settings))
        if dry_run:
            print_plan(run, settings, protocol, as_json)
            return
        headline = f"studying patterns of {' and '.join(map(str, settings.depths))} layers"
        console = make_console(stderr=as_json, wide=wide)
        results = _drive(
            "study", run, settings, headline, console, lambda heard: run_study(run, settings, protocol, heard)
        )
        if as_json:
            print_status(results, as_json=True)


def compare_networks(
    ctx: typer.Context,
    run: Run,
    config: Config = None,
    recipe: Recipe = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Train the papers' networks, a shortest pattern and learned sparsity side by side at matched FLOPs.

    Growth is that of `log`; the others get the growth that brings their FLOPs nearest to those of `log`. `learned`
    keeps the strongest connections of the trained dense networks. The same command again continues an interrupted run.
    """
    from nas.run.lock import lock_run

    with lock_run(run):  # see search
        from nas.settings.comparison import LineupConfig
        from nas.settings.resume import settle_config

        settings = settle_config(run, config, {**ctx.obj, "recipe": recipe}, LineupConfig)

        from nas.records.shown import show
        from nas.run.following import follow
        from nas.studies.comparison import run_lineup

        headline = f"comparing {', '.join(settings.networks)} of {settings.blocks} x {settings.layers} layers"
        console = make_console(stderr=as_json, wide=wide)
        headline += f" on {settings.dataset}: {describe_workers(settings)}, into {show(run)}"
        with resumable(console, "compare-networks", run), follow(run, settings, console.print) as followers:
            with show_progress(console, headline) as listener:
                run_lineup(run, settings, followers.listen(listener))
            written = write_results(run)
            annotate(run, written.conclusion)
            followers.end(written.paths)
        _print_lineup(console, written, as_json)


def _drive(
    command: str,
    run: Path,
    settings: "SearchConfig",
    headline: str,
    console: "Console",
    train: "Callable[[Listener], None]",
) -> "Results":
    """Train all that a run asks for, write its report and templates, print its end, and return what it has."""
    from nas.records.shown import show
    from nas.run.following import follow
    from nas.tasks.reference import IMAGES, shorten_reference

    on = settings.dataset if settings.task == IMAGES else shorten_reference(settings.task)
    headline += f" at budget {' and '.join(settings.budgets)} on {on}: {describe_workers(settings)}"
    with resumable(console, command, run), follow(run, settings, console.print) as followers:
        with show_progress(console, f"{headline}, into {show(run)}") as listener:
            train(followers.listen(listener))
        written = write_results(run)
        annotate(run, written.conclusion)
        followers.end(written.paths)
    print_end(console, written.results, written.conclusion)
    return written.results


@dataclass(frozen=True, slots=True)
class Written:
    """A run that has trained, and the files written of it."""

    results: "Results"
    conclusion: "Conclusion"
    paths: tuple[Path, ...]


def write_results(run: Path) -> Written:
    """Write the report of a run that has trained, and the best templates of a search or a study."""
    from analysis.data.results import read_run
    from analysis.report.optuna_studies import find_database
    from analysis.report.report import compose_report, save_report

    results = read_run(run)
    report = compose_report(results)
    paths = [*save_report(results, report), find_database(run)]
    if results.kind != "comparison":
        for exported in export_best(results, 5, archives=False):
            paths += exported.paths
    return Written(results, report.conclusion, tuple(paths))


def print_plan(run: Path, settings: "StudyConfig", protocol: dict[str, Any], as_json: bool) -> None:
    """Print a study's plan, the time that it takes and its power."""
    from analysis.verdict.power import count_for_negligible, count_pattern_strata, describe_power
    from nas.records.plan import hash_plan, list_crossings, read_plan
    from nas.studies.plan import make_plan
    from nas.studies.study import estimate_seconds

    console = make_console(stderr=as_json)
    console.print("laying the design out and timing one training of each stratum")
    recorded = read_plan(run)
    plan = recorded[0] if recorded else make_plan(settings, protocol)
    power = describe_power(plan)
    with log_to(console):
        hours = estimate_seconds(plan, settings) / 3600
    sha256, n_trainings = hash_plan(plan), len(plan["order"])
    equivalence = {"pattern_strata": count_pattern_strata(plan), "negligible_from": count_for_negligible()}
    if as_json:
        summary = {"sha256": sha256, "trainings": n_trainings, "hours": hours, "strata": power, **equivalence}
        print(json.dumps(summary))  # noqa: T201
        return
    for crossing in list_crossings(plan):
        lacking = sum(missing.n for missing in crossing.lacking)
        console.print(
            f"{crossing.layers} layers: {crossing.describe()}" + (f"; {lacking} patterns not found" if lacking else "")
        )
    for stratum in power:
        parts = ", ".join(f"{n} {name}" for name, n in stratum["patterns"].items())
        console.print(f"{stratum['stratum']}: {stratum['trainings']} trainings; {parts}; {stratum['sentence']}")
    console.print(
        f"an effect of 0 is found negligible from about {equivalence['negligible_from']} patterns, summed over strata, "
        f"and more where seeds are noisy; this plan has {equivalence['pattern_strata']}"
    )
    console.print(
        f"{n_trainings:,} trainings, about {_format_hours(hours)}, {describe_workers(settings)}; plan {sha256[:12]}; "
        "nothing was written\nnext: the same without --dry-run"
    )


def _format_hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{max(60 * hours, 1):.0f} min"


def _print_lineup(console: "Console", written: Written, as_json: bool) -> None:
    from analysis.comparisons.networks import COSTS, format_cost
    from analysis.comparisons.standing import rank_networks

    standings = rank_networks(written.results)
    if not as_json:
        print_table(console, "what they cost", COSTS, map(format_cost, standings), left=["network"])
    print_end(console, written.results, written.conclusion)
    if as_json:
        rows = [asdict(standing) | {"pattern": list(map(list, standing.pattern.sources))} for standing in standings]
        print(json.dumps(rows, allow_nan=False), flush=True)  # noqa: T201
