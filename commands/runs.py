"""Commands that read a run: status, report, strengths and pattern-from-strengths."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commands.flags import Budget, Json, Run, Wide, flag
from commands.patterns import score_pattern, write_template
from commands.scores import print_scores
from commands.terminal import make_console, print_next, print_table, print_written
from nas.records.shown import show

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.data.results import Run as Results
    from analysis.report.conclusion import Conclusion


def status(run: Run, as_json: Json = False) -> None:
    """Show how far a run is, whether a process is working on it, and its best pattern so far."""
    from analysis.data.results import read_run
    from nas.run.lock import find_driver

    driver = find_driver(run)  # first: a driver that ends in between has written all that is read then
    results = read_run(run)
    deaths = {str(number): n_deaths for number, n_deaths in results.driver_deaths.items()}
    print_status(results, as_json, {"driver": driver, "driver_deaths": deaths})
    if not as_json:
        for number, n_deaths in deaths.items():
            times = "once" if n_deaths == 1 else f"{n_deaths} times"
            make_console().print(f"the driver died {times} while candidate {number} was in training")
        _print_how_to_continue(results, driver)


def print_status(results: "Results", as_json: bool, driving: Mapping[str, Any] | None = None) -> None:
    """Print how far a run is.

    Args:
        results: the run.
        as_json: whether one line of JSON is printed.
        driving: what JSON says besides: the run's driver, None where it has none, and the deaths of its drivers.
    """
    from analysis.picks.order import summarise_status
    from analysis.report.conclusion import conclude
    from analysis.stats.guessing import list_unlearned

    summary = summarise_status(results)
    if results.kind == "comparison":
        summary = _summarise_networks(results, summary)
    driving = driving or {}
    if as_json:
        print(json.dumps({**summary, **driving}, allow_nan=False), flush=True)  # noqa: T201
        return
    if driving.get("driver", "") is None and summary["running"]:
        summary = {"cut short" if name == "running" else name: value for name, value in summary.items()}
    best = summary.pop("best")
    console = make_console()
    console.print(", ".join(f"{name} {value}" for name, value in summary.items()))
    if best:
        for sentence in list_unlearned(results):
            console.print(sentence)
        name = best.get("network", best["key"][:12])
        metric = best.get("metric", "accuracy")
        console.print(f"best {name}: {metric.replace('_', ' ')} {best['value']:.4f}")
        if results.kind in ("search", "comparison"):  # a study's verdict takes many resamples
            is_cut = summary["complete"] != summary["asked"]
            console.print(("so far: " if is_cut else "") + conclude(results).sentence)


def _summarise_networks(results: "Results", summary: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of a comparison of networks, several of which may share a pattern."""
    from analysis.comparisons.standing import rank_networks

    standings = rank_networks(results)
    summary = {"networks" if name == "patterns" else name: value for name, value in summary.items()}
    summary["networks"] = len(standings)
    best = next((standing for standing in standings if standing.accuracy is not None), None)
    if best is not None:
        described = {"network": best.name, "key": best.pattern.key, "mean_bd": best.mean_bd, "value": best.accuracy}
        summary["best"] = described
    return summary


def _print_how_to_continue(results: "Results", driver: str | None) -> None:
    from analysis.picks.order import summarise_status
    from nas.records.database import COMMANDS

    console, run = make_console(), results.path
    summary = summarise_status(results)
    is_done = results.asked is None or summary["complete"] + summary["failed"] + summary["pruned"] >= results.asked
    if driver is not None:
        console.print(f"driven by {driver}")
    if driver is not None or is_done:
        print_next(console, "report", "--run", run)
        return
    console.print("no driver is running")
    place = run.parent if results.kind == "final" else run
    print_next(console, *COMMANDS[results.kind].split(), "--run", place)


def report(run: Run, wide: Wide = False) -> None:
    """Write a run's report: a page, Markdown, CSV, figures."""
    from analysis.data.results import read_run
    from analysis.report.report import compose_report, save_report

    results = read_run(run)
    composed = compose_report(results)
    save_report(results, composed)
    print_end(make_console(wide=wide), results, composed.conclusion)


def annotate(run: Path, conclusion: "Conclusion") -> None:
    """Show a run's conclusion as the note of its study, where optuna-dashboard is installed."""
    from analysis.report.conclusion import write_study_note
    from nas.run.ledger import annotate as write_note

    write_note(run, write_study_note(conclusion))


def print_end(console: "Console", results: "Results", conclusion: "Conclusion") -> None:
    """Print what came out of a run: the verdict, the best five, what it cost, where its files are, what may follow."""
    from analysis.stats.guessing import list_unlearned

    console.print(f"\n{conclusion.sentence}")
    for sentence in list_unlearned(results):
        console.print(sentence)
    print_rows(console, results, conclusion)
    console.print(f"cost: {conclusion.cost}")
    places = {"report": results.path / "report" / "index.html", "templates": results.path / "templates"}
    for name, place in places.items():
        if place.exists():
            console.print(f"{name}: {show(place)}")
    following = _choose_next(results)
    if following:
        print_next(console, *following)


def print_rows(console: "Console", results: "Results", conclusion: "Conclusion") -> None:
    """Print the best rows of a conclusion as a table."""
    from analysis.report.conclusion import PICKED, format_amounts

    name = "network" if results.kind == "comparison" else "pattern"
    columns: dict[str, list[str]] = {name: [row.name for row in conclusion.rows]}
    if conclusion.gain:
        columns[conclusion.gain] = format_amounts([row.gain for row in conclusion.rows])
    columns[conclusion.outcome] = format_amounts([row.outcome for row in conclusion.rows])
    columns["trainings"] = [str(row.trainings) for row in conclusion.rows]
    print_table(console, "", [*columns], zip(*columns.values(), strict=True))
    if PICKED in conclusion.numbers:
        console.print(PICKED)


def _choose_next(results: "Results") -> list[object]:
    """Return the command that most people want after a run's end; nothing where none stands out."""
    from analysis.stats.guessing import list_unlearned

    run = results.path
    if list_unlearned(results):
        return []
    if results.kind == "comparison":
        has_dense = (results.candidates["regime"] == "dense").fillna(False).any() and results.strengths
        return ["strengths", "--run", run, "--to", run / "strengths"] if has_dense else []
    if results.tested_at is not None or "task" in results.config:
        return ["verify", run / "templates"] if (run / "templates").exists() else []
    return ["export", "--run", run, "--final"]


def strengths(
    run: Run,
    to: Annotated[Path, flag("Folder for the table and the pictures.")],
    pattern: Annotated[
        str, typer.Option("--of", help="Trained pattern: a template's name, or the first digits of its key.")
    ] = "dense",
) -> None:
    """Write a trained pattern's connection strengths: a table, DenseNet's heat map and the arc diagram."""
    from analysis.data.results import read_run
    from analysis.page.figure_style import draw_png, draw_svg
    from analysis.page.wording import count_nouns
    from analysis.strengths.learning import select_trained
    from analysis.strengths.plot import Panel, plot_strengths
    from nas.records.written import write_files
    from search_spaces.wiring.arcs import draw_arcs

    trained = select_trained(read_run(run), pattern)
    relative = dict(zip(trained.pattern.connections, trained.strengths, strict=True))
    panel = Panel(pattern, trained.pattern.depth, relative)
    figure = plot_strengths(
        [panel], f"mean over blocks of {count_nouns(len(trained.numbers), 'training')} in {run.name}"
    )
    rows = [f"{source},{target},{strength:.6g}" for (source, target), strength in relative.items()]
    files: dict[str, str | bytes] = {
        "strengths.csv": "\n".join(["source,target,relative_strength", *rows]) + "\n",
        "heat_map.svg": draw_svg(figure),
        "heat_map.png": draw_png(figure),
        "arcs.svg": draw_arcs(trained.pattern, pattern, strengths=relative),
    }
    write_files(to, files, "strengths")
    print_written(make_console(), [to / name for name in files], ["open", to / "heat_map.svg"])


def pattern_from_strengths(
    run: Run,
    teacher: Annotated[
        str, typer.Option("--of", help="Trained pattern: a template's name, or the first digits of its key.")
    ] = "dense",
    budget: Budget = None,
    by: Annotated[
        Literal["weights", "condensation"],
        typer.Option(
            help="What strength is: the mean absolute weight by which a connection is read, or of a CondenseNet the "
            "share of its channels that condensation kept."
        ),
    ] = "weights",
    to: Annotated[Path | None, flag("Template file to write.")] = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Keep the chain and the strongest connections of a trained pattern: learned sparsity at a budget."""
    from analysis.data.results import read_run
    from analysis.strengths.learning import learn_from_run
    from nas.records.template import check_replaceable
    from search_spaces.budget import parse_budget

    if to is not None:
        check_replaceable(to)
    learned = learn_from_run(read_run(run), teacher, budget or "log", by)
    spent = parse_budget(budget or "log", learned.pattern.depth)
    if to is not None:
        origin = {"origin": "pattern-from-strengths", "taught_by": learned.taught_by}
        origin |= {"by": by} if by != "weights" else {}
        write_template(to, learned.pattern, spent, {**origin, "trainings": str(learned.n_trainings)})
    row = score_pattern(learned.pattern, spent)
    if as_json:
        print(json.dumps(row))  # noqa: T201
        return
    console = make_console(wide=wide)
    print_scores(
        console, [row], f"the strongest connections of {teacher}, {learned.n_trainings} trainings, at budget {spent}"
    )
    if to is None:
        console.print("next: the same with --to FILE keeps it; compare-networks trains such a pattern")
    else:
        print_written(console, [to], ["export", "--pattern", to, "--to", "FOLDER"])
