"""Commands that read a table: correlate and compare-strategies."""

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.flags import SPACE, Json, Seed, Wide, flag
from commands.terminal import count_up, make_console, print_table, print_written

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.replays.regret import Regrets
    from analysis.replays.table import JudgedBy, TrainedTable
    from nas.search.replay import ListedSpace, ReplayPlan

RANDOM = "random"  # what others are compared with


class Judging(StrEnum):
    """Outcomes that a search can be judged by."""

    LOSS = "loss"
    ACCURACY = "accuracy"


class Picking(StrEnum):
    """How replayed searches pick: the model's by its posterior and others by what they observed, or all alike."""

    OWN = "own"
    POSTERIOR = "posterior"
    OBSERVED = "observed"


def correlate(
    file: Annotated[Path, typer.Argument(help="CSV table with one row for each measurement.", show_default=False)],
    measure: Annotated[str, flag("COL[,COL...]: the columns to correlate.")],
    outcome: Annotated[str, flag("COL: the column to correlate them with.")],
    group: Annotated[
        str | None, flag("COL[,COL...]: split the table by these columns, correlate inside the groups and pool them.")
    ] = None,
    pattern: Annotated[
        str | None, flag("COL: the column that is the same for repeats of one thing, which are averaged.")
    ] = None,
    seed: Seed = 0,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Compute the study's statistics on any table: rank correlations, permutation tests and noise ceiling."""
    from analysis.correlate.table import correlate_table
    from analysis.page.wording import format_interval, format_p
    from nas.records.shown import quote, show

    rows = correlate_table(file, [name.strip() for name in measure.split(",")], outcome, group, pattern, seed)
    strata = rows[0]["strata"]
    if strata:
        split = ",".join([*([group] if group else []), *strata])
        make_console(stderr=True).print(
            f"warning: this table holds several strata ({', '.join(strata)}), and they are pooled: a difference "
            f"between strata looks like an effect. To correlate inside them, add --group {quote(split)}"
        )
    if as_json:
        print(json.dumps(rows, allow_nan=False))  # noqa: T201
        return
    headings = ("measure", "rows", "patterns", "Spearman", "95 % interval", "p", "ceiling", "Kendall", "quadratic R2")
    cells = []
    for row in rows:
        by_three = ("spearman", "kendall", "quadratic_r2", "ceiling")
        rho, tau, fit, ceiling = ("-" if row[name] is None else f"{row[name]:z.3f}" for name in by_three)
        interval = format_interval(row["spearman_low"], row["spearman_high"])
        counts = [show(row["measure"]), str(row["n"]), str(row["patterns"])]
        cells.append([*counts, rho, interval, format_p(row["p_permutation"]), ceiling, tau, fit])
    console = make_console(wide=wide)
    inside = f", inside groups by {show(group)}" if group else ""
    print_table(console, f"rank correlations with {show(outcome)}{inside}", headings, cells)
    for note in dict.fromkeys(row["note"] for row in rows if row["note"]):
        console.print(show(note))


def compare_strategies(
    table: Annotated[
        Path, flag("CSV of patterns of one budget, each trained with the same seeds; or the name of a table of ours.")
    ],
    strategy: Annotated[
        list[str] | None,
        flag(
            "Strategy to replay, always next to random; see `search --help`. May be repeated. [default: model, random, "
            "evolve and, where the table allows it, random:wide]",
            SPACE,
            form="<model|random|random:wide|evolve|optuna:NAME|NAME>",
        ),
    ] = None,
    draws: Annotated[
        list[str] | None,
        flag(
            "Strategy of the rows that random search draws from; all: every row. May be repeated. [default: random]",
            SPACE,
            form="<str>",
        ),
    ] = None,
    objective: Annotated[
        Judging, typer.Option(help="Outcome that searches go by and are judged by.", rich_help_panel=SPACE)
    ] = Judging.LOSS,
    replays: Annotated[int, typer.Option(min=1, max=100_000, help="Searches of each strategy.")] = 100,
    trainings: Annotated[
        int, typer.Option(min=1, max=10**6, help="Trainings in each search; every one counts.", rich_help_panel=SPACE)
    ] = 60,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            max=10**6,
            help="Trainings of each pattern. The strategy model decides itself.",
            rich_help_panel=SPACE,
        ),
    ] = 1,
    lookahead: Annotated[
        int,
        typer.Option(min=1, max=10**6, help="A search does not wait for this many last trainings, the next included."),
    ] = 1,
    pick: Annotated[
        Picking, typer.Option(help="What a search answers with: the best by the model, or the best mean it observed.")
    ] = Picking.OWN,
    seed: Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Replays at a time. [default: one for each core]", show_default=False),
    ] = None,
    to: Annotated[Path | None, flag("Folder for regret.csv, regret.json, regret.svg and regret.png.")] = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Replay search strategies on a table of trainings: regret against trainings, next to random search."""
    from analysis.replays.catalogue import find_table
    from analysis.replays.regret import measure_regret
    from analysis.replays.searches import Course, Searches
    from analysis.replays.table import describe_provenance, read_trained
    from analysis.replays.wording import REGRET_UNITS, tabulate_regret
    from nas.records.shown import show

    trained = read_trained(find_table(table), objective.value, tuple(draws or [RANDOM]))
    console = make_console(stderr=as_json, wide=wide)
    if trained.provenance is not None:
        console.print(f"{show(table)}: {describe_provenance(trained.provenance)}")

    from nas.search.replay import replay
    from nas.search.strategies.registry import create_strategy

    space = _list_space(trained)
    counts = _Counts(replays, trainings, seeds, lookahead)
    plan = _plan_replays(trained, space, strategy, pick, counts, seed)
    costs = trained.list_costs(objective.value)
    with count_up(console, "replaying", replays) as listen:
        done = replay(plan, space, costs, create_strategy, workers or os.cpu_count() or 1, listen)
    courses = {name: Course(one.trained, one.picked, one.n_named) for name, one in done.by_strategy.items()}
    judged = trained.list_judged(objective.value)
    regrets = measure_regret(Searches(judged, trained.is_uniform, done.is_visible, courses), seed)
    caption = f"{_describe_table(trained)}; {_describe_plan(plan, len(trained.seeds))}; 95 % intervals"
    if as_json:
        print(json.dumps(tabulate_regret(regrets), allow_nan=False))  # noqa: T201
    else:
        n_judges = len(trained.seeds) - plan.n_visible
        _print_regret(console, regrets, f"{caption}; in {REGRET_UNITS[objective.value]}", plan.n_visible, n_judges)
    if to is not None:
        paths = _write_regret(regrets, caption, objective.value, to)
        print_written(console, paths, ["open", to / "regret.svg"])


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many searches are replayed, and how much each trains."""

    replays: int
    trainings: int
    seeds: int
    lookahead: int


def _list_space(trained: "TrainedTable") -> "ListedSpace":
    from nas.search.replay import ListedSpace

    return ListedSpace(trained.budget, trained.patterns, trained.is_uniform, trained.is_wide, trained.list_named())


def _plan_replays(
    trained: "TrainedTable",
    space: "ListedSpace",
    strategy: list[str] | None,
    pick: Picking,
    counts: _Counts,
    seed: int,
) -> "ReplayPlan":
    """Return what is replayed: the strategies asked for, or all that the table allows, always with random."""
    from nas.search.replay import MAX_RANDOM, MODEL, WIDE, ReplayPlan, by_posterior, choose_n_visible
    from nas.search.strategies.registry import STRATEGIES

    allowed = [name for name in STRATEGIES if name != WIDE or space.wide]
    strategies = tuple(dict.fromkeys((RANDOM, *(strategy or allowed))))
    by_model = {Picking.OWN: (MODEL,), Picking.POSTERIOR: strategies, Picking.OBSERVED: ()}
    return ReplayPlan(
        strategies=strategies,
        n_replays=counts.replays,
        n_trainings=counts.trainings,
        n_visible=choose_n_visible(len(trained.seeds)),
        n_random=max(1, min(len(space.uniform) * counts.seeds, MAX_RANDOM * counts.trainings)),
        seeds=counts.seeds,
        lookahead=counts.lookahead,
        run_seed=seed,
        picks=dict.fromkeys(by_model[pick], by_posterior),
    )


def _describe_table(trained: "TrainedTable") -> str:
    drawn = "all there are" if trained.is_exhaustive else f"random draws from {trained.is_uniform.sum()}"
    layers = f"{trained.budget.depth} layers at budget {trained.budget}"
    return f"{len(trained.patterns)} patterns of {layers}, {drawn}"


def _describe_plan(plan: "ReplayPlan", n_seeds: int) -> str:
    return (
        f"{plan.n_replays} replays of {plan.n_trainings} trainings, visible seeds {plan.n_visible}, judging seeds "
        f"{n_seeds - plan.n_visible}, lookahead {plan.lookahead}"
    )


def _write_regret(regrets: "Regrets", caption: str, objective: "JudgedBy", folder: Path) -> list[Path]:
    from analysis.page.figure_style import draw_png, draw_svg
    from analysis.replays.plot import plot_regret
    from analysis.replays.wording import REGRET_UNITS, tabulate_regret
    from nas.records.safe_files import format_json
    from nas.records.written import write_files

    figure = plot_regret(regrets.curves, REGRET_UNITS[objective], caption)
    files: dict[str, str | bytes] = {
        "regret.csv": regrets.curves.to_csv(index=False),
        "regret.json": format_json(tabulate_regret(regrets)),
        "regret.svg": draw_svg(figure),
        "regret.png": draw_png(figure),
    }
    write_files(folder, files, "compare-strategies")
    return [folder / name for name in files]


def _print_regret(console: "Console", regrets: "Regrets", caption: str, n_visible: int, n_judges: int) -> None:
    """Print the curves at some numbers of trainings, how much noise hides, and each strategy's verdict."""
    from analysis.page.wording import share_digits
    from analysis.replays.wording import (
        describe_comparison,
        describe_need,
        describe_noise,
        describe_proposals,
        tabulate_regret,
    )

    cells, rows = [], [*tabulate_regret(regrets)]
    digits = {
        name: share_digits(((row[f"{name}_low"], row[f"{name}_high"]) for row in rows), 4)
        for name in ("regret", "gain", "difference_to_random")
    }
    for row in rows:
        estimates = [_format_estimate(row, name, f"z.{digits[name]}f") for name in ("regret", "gain")]
        difference = _format_estimate(row, "difference_to_random", f"+z.{digits['difference_to_random']}f")
        need = "-" if row["strategy"] == RANDOM else describe_need(row, regrets.n_random)
        cells.append([row["strategy"], str(row["trainings"]), *estimates, difference, need])
    headings = ("strategy", "trainings", "regret", "gain", "regret less random's", "random needs")
    print_table(console, caption, headings, cells)
    console.print(f"noise: {describe_noise(regrets.noise, n_visible, n_judges)}")
    for comparison in regrets.comparisons:
        console.print(describe_comparison(comparison))
    for strategy, proposals in regrets.proposals.items():
        console.print(describe_proposals(strategy, proposals))
    console.print(
        "gain: over a uniform draw. regret: to the best of noisy means, so all of them are too large by one offset; "
        "gain and differences are free of it. random needs: trainings until random's regret is as small. Intervals: "
        "95 %, of this table only"
    )


def _format_estimate(row: dict[str, Any], name: str, form: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return "-" if value is None else f"{value:{form}} ({low:{form}} to {high:{form}})"
