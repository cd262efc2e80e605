"""Commands that read a table: correlate and compare-strategies."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.flags import SPACE, Json, Seed, flag
from commands.terminal import count_up, make_console, print_table, print_written

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.replays.regret import Regrets
    from nas.search.replay import ReplayPlan


class Proposing(StrEnum):
    """Strategies that propose patterns."""

    RANDOM = "random"
    TPE = "tpe"
    EVOLVE = "evolve"


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
    headings = ("measure", "rows", "patterns", "Spearman", "95 % interval", "Kendall", "p", "quadratic R2", "ceiling")
    cells = []
    for row in rows:
        by_three = ("spearman", "kendall", "quadratic_r2", "ceiling")
        rho, tau, fit, ceiling = ("-" if row[name] is None else f"{row[name]:z.3f}" for name in by_three)
        interval = format_interval(row["spearman_low"], row["spearman_high"])
        counts = [show(row["measure"]), str(row["n"]), str(row["patterns"])]
        cells.append([*counts, rho, interval, tau, format_p(row["p_permutation"]), fit, ceiling])
    console = make_console()
    inside = f", inside groups by {show(group)}" if group else ""
    print_table(console, f"rank correlations with {show(outcome)}{inside}", headings, cells)
    for note in dict.fromkeys(row["note"] for row in rows if row["note"]):
        console.print(show(note))


def compare_strategies(
    table: Annotated[Path, flag("CSV of all patterns of a budget, each trained with the same seeds.")],
    strategy: Annotated[
        list[Proposing] | None,
        flag(
            "Strategy to replay, always next to random. May be repeated. [default: all]",
            SPACE,
            form="<random|tpe|evolve>",
        ),
    ] = None,
    replays: Annotated[int, typer.Option(min=1, max=100_000, help="Searches of each strategy.")] = 200,
    trials: Annotated[
        int | None, flag("Patterns that each search proposes. [default: 120, or all there are]", SPACE)
    ] = None,
    lookahead: Annotated[
        int,
        typer.Option(min=1, max=10**6, help="A search does not wait for this many last patterns, the next included."),
    ] = 1,
    seed: Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Replays at a time. [default: one for each core]", show_default=False),
    ] = None,
    to: Annotated[Path | None, flag("Folder for regret.csv, regret.svg and regret.png.")] = None,
    as_json: Json = False,
) -> None:
    """Replay search strategies on a table of trainings: regret against trainings, next to random search."""
    from analysis.replays.regret import measure_regret
    from analysis.replays.searches import Searches
    from analysis.replays.table import OUTCOME, describe_provenance, read_exhaustive
    from analysis.stats.reliability import measure_reliability
    from nas.records.shown import show

    patterns = read_exhaustive(table)
    console = make_console(stderr=as_json)
    if patterns.provenance is not None:
        console.print(f"{show(table)}: {describe_provenance(patterns.provenance)}")

    from nas.search.replay import ReplayPlan, choose_n_visible, replay

    n_seeds = len(patterns.seeds)
    plan = ReplayPlan(
        budget=patterns.budget,
        strategies=tuple(dict.fromkeys((Proposing.RANDOM.value, *(name.value for name in strategy or Proposing)))),
        n_replays=replays,
        n_patterns=min(120, len(patterns.keys)) if trials is None else trials,
        n_visible=choose_n_visible(n_seeds),
        lookahead=lookahead,
        run_seed=seed,
    )
    with count_up(console, "replaying", replays) as listen:
        replayed = replay(plan, patterns.keys, patterns.accuracies, workers or os.cpu_count() or 1, listen)
    searches = Searches(plan.strategies, patterns.accuracies, replayed.is_visible, replayed.proposed)
    regrets = measure_regret(searches, measure_reliability(patterns.complete, OUTCOME), seed)
    caption = (
        f"{len(patterns.keys)} patterns of {patterns.budget.depth} layers at budget {patterns.budget}; {replays} "
        f"replays of {plan.n_patterns} proposals, visible seeds {plan.n_visible}, judging seeds "
        f"{n_seeds - plan.n_visible}, lookahead {lookahead}; 95 % intervals"
    )
    _print_regret(console, regrets, caption, plan, n_seeds, as_json)
    if to is not None:
        paths = _write_regret(regrets, caption, to)
        print_written(console, paths, ["open", to / "regret.svg"])


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


def _print_regret(
    console: "Console", regrets: "Regrets", caption: str, plan: "ReplayPlan", n_seeds: int, as_json: bool
) -> None:
    """Print the curves at some numbers of trainings, how much noise hides, and each strategy's verdict."""
    from analysis.replays.regret import describe_comparison, describe_noise, tabulate_regret

    rows = tabulate_regret(regrets)
    if as_json:
        print(json.dumps(rows, allow_nan=False))  # noqa: T201
        return
    cells = []
    for row in rows:
        estimates = [_format_estimate(row, name, "") for name in ("regret", "gain")]
        difference = _format_estimate(row, "difference_to_random", "+")
        cells.append([row["strategy"], str(row["patterns"]), str(row["trainings"]), *estimates, difference])
    headings = ("strategy", "patterns", "trainings", "regret", "gain", "regret less random's")
    print_table(console, caption, headings, cells)
    console.print(f"noise: {describe_noise(regrets.noise, plan.n_visible, n_seeds - plan.n_visible)}")
    for comparison in regrets.comparisons:
        console.print(describe_comparison(comparison, rows[-1]["trainings"]))
    console.print(
        "gain: over a random pattern. regret: to the best of noisy means, so all of them are too large by one offset; "
        "gain and differences are free of it. Intervals: 95 %, of this table only"
    )


def _format_estimate(row: dict[str, Any], name: str, sign: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return "-" if value is None else f"{value:{sign}z.4f} ({low:{sign}z.4f} to {high:{sign}z.4f})"  # z: no -0.0000
