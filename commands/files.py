"""Commands about exported files: export and verify."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.flags import FINAL, SPACE, Budget, Json, Network, flag
from commands.runs import annotate, print_end
from commands.terminal import (
    describe_workers,
    make_console,
    print_next,
    print_written,
    resumable,
    show_message,
    show_progress,
)

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.data.results import Run as Results
    from analysis.report.conclusion import Conclusion
    from nas.export.export import Exported


def export(
    ctx: typer.Context,
    run: Annotated[Path | None, typer.Option(help="Export the best patterns of this run.", show_default=False)] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Number of the run's patterns.")] = 5,
    final: Annotated[
        bool,
        typer.Option(
            "--final",
            help="First train these and the named templates again on all but the test images, and measure on those.",
        ),
    ] = False,
    seeds: Annotated[int | None, flag("Trainings of each pattern. [default: 5]", FINAL)] = None,
    epochs: Annotated[int | None, flag("Passes over the training set. [default: as the run]", FINAL)] = None,
    train_examples: Annotated[
        int | None, flag("Number of images to train on. [default: all but the test images]", FINAL)
    ] = None,
    workers: Annotated[str | None, flag("Trainings at a time. [default: as the run]", FINAL, form="<auto|int>")] = None,
    device: Annotated[
        str | None, flag("Device to train on. [default: as the run]", FINAL, form="<auto|cpu|cuda>")
    ] = None,
    log: Annotated[
        list[str] | None, flag("Tracker, as for search. [default: as the run]", FINAL, form="<NAME>")
    ] = None,
    template: Annotated[str | None, flag("Export a template by name instead.", SPACE)] = None,
    pattern: Annotated[Path | None, flag("Export a template file instead.", SPACE)] = None,
    to: Annotated[Path | None, flag("Folder to write to; a run's patterns go to RUN/templates.", SPACE)] = None,
    budget: Budget = None,
    network: Network = None,
) -> None:
    """Write patterns as folders: template files, a program, ONNX, all compared with the network itself."""
    from nas.export.manifest import MANIFEST
    from search_spaces.errors import InputError

    n_chosen = sum(choice is not None for choice in (run, template, pattern))
    if n_chosen > 1 or (n_chosen == 0 and network is None):
        raise InputError(
            "export takes one of --run DIR, --template NAME and --pattern FILE, or --network NAME for that network"
        )
    outside = [name for name, value in (("to", to), ("budget", budget), ("network", network)) if value is not None]
    outside += ctx.obj
    if run is not None and outside:
        raise InputError(
            "a run's patterns are written into RUN/templates, with the run's own network: leave out "
            + ", ".join(f"--{name.replace('_', '-')}" for name in outside)
        )
    if template is None and budget is not None:
        raise InputError(f"--budget {budget} places the connections of --template, and none is given: leave it out")
    changes = {"seeds": seeds, "epochs": epochs, "train_examples": train_examples, "device": device, "log": log or None}
    changes["workers"] = int(workers) if workers is not None and workers.isdecimal() else workers
    if not final and any(value is not None for value in changes.values()):
        raise InputError(
            "--seeds, --epochs, --train-examples, --workers, --device and --log are of --final: give that too"
        )
    if final and run is None:
        raise InputError("--final measures the patterns of a run: give --run DIR")
    console = make_console()
    if run is not None and final:
        _export_measured(console, run, top, changes)
        return
    if run is not None:
        exported = _export_run(console, _read_exportable(run), top)
    elif to is None:
        raise InputError("--template, --pattern and --network need --to FOLDER")
    else:
        exported = [_export_one(template, pattern, network, budget, to, ctx.obj)]
    _print_notes(console, exported)
    paths = [path for folder in exported for path in folder.paths]
    has_manifest = (exported[0].folder / MANIFEST).exists()
    print_written(console, paths, ["verify", exported[0].folder if has_manifest else paths[0]])


def _print_notes(console: "Console", exported: "Iterable[Exported]") -> None:
    for note in dict.fromkeys(note for folder in exported for note in folder.notes):
        console.print(note)


def _read_exportable(run: Path) -> "Results":
    """Return a run whose patterns can be exported.

    Raises:
        InputError: it is a comparison of networks.
    """
    from analysis.data.results import read_run
    from search_spaces.errors import InputError

    results = read_run(run)
    if results.kind == "comparison":
        raise InputError(
            f"{run} compares networks of several kinds: export one by --network, or --pattern with its surroundings"
        )
    return results


def _export_run(console: "Console", results: "Results", top: int) -> "list[Exported]":
    """Export a run's best patterns."""
    if "task" not in results.config:
        console.print("writing each network in several forms, reading them back and comparing: this takes a while")
    return export_best(results, top, archives=True)


def _export_measured(console: "Console", run: Path, top: int, changes: dict[str, Any]) -> None:
    """Measure a run's best patterns on the test images, write the report again, and export them."""
    from analysis.data.results import read_run
    from analysis.stats.guessing import list_unlearned
    from nas.records.database import FINAL
    from search_spaces.errors import InputError

    results = _read_exportable(run)
    if "task" in results.config:
        raise InputError(
            f"{run} was made with the task {results.config['task']}, which has no test data: leave out --final, or "
            "measure the patterns in templates/ by your own means"
        )
    conclusion = _measure_finally(console, results, top, changes)
    results = read_run(run)
    _print_notes(console, _export_run(console, results, top))
    for sentence in list_unlearned(read_run(run / FINAL), "test images"):
        console.print(sentence)
    print_end(console, results, conclusion)


def export_best(results: "Results", top: int, archives: bool) -> "list[Exported]":
    """Export a run's best patterns, and those that were measured on the test images, to its templates folder."""
    from analysis.comparisons.accuracy import list_exports, measure_final
    from nas.export.runs import export_run

    final = measure_final(results)
    sizes = {} if final is None else {"n_train": final.n_train, "n_test": final.n_test}
    chosen = [
        (row, None if tested is None else asdict(tested) | sizes) for row, tested in list_exports(results, top, final)
    ]
    described = {"config": results.config, "data": results.data, "environment": results.environment}
    return export_run(results.path, described, chosen, archives)


def _measure_finally(console: "Console", results: "Results", top: int, changes: dict[str, Any]) -> "Conclusion":
    """Train the best patterns and the named templates again, measure them on the test images, and write the report."""
    from analysis.comparisons.accuracy import choose_patterns
    from analysis.data.results import read_run
    from analysis.page.wording import count_nouns
    from analysis.report.report import compose_report, save_report
    from nas.records.database import FINAL
    from nas.run.following import follow
    from nas.studies.final import plan_final, run_final

    run = results.path
    rows = [
        {str(name): value for name, value in row.items()} for row in choose_patterns(results, top).to_dict("records")
    ]
    settings, chosen = plan_final(run, results.config, results.plan, rows, changes)
    headline = f"training {len(chosen)} patterns with {count_nouns(settings.seeds, 'seed')} each on all but the test "
    headline += f"images of {settings.dataset}, {describe_workers(settings)}; what follows is test accuracy"
    with (
        resumable(console, f"export --final --top {top}", run),
        follow(run / FINAL, settings, console.print) as followers,
    ):
        with show_progress(console, headline) as listener:
            run_final(run, settings, chosen, followers.listen(listener))
        measured = read_run(run)
        report = compose_report(measured)
        followers.end(save_report(measured, report))
    for folder in (run, run / FINAL):
        annotate(folder, report.conclusion)
    return report.conclusion


def _export_one(
    template: str | None,
    file: Path | None,
    network: str | None,
    budget: str | None,
    to: Path,
    values: Mapping[str, Any],
) -> "Exported":
    """Export a template, a template file's pattern or a published network."""
    from nas.export.export import export_folder
    from nas.presets.registry import find_preset, read_network
    from nas.records.template import read_pattern
    from search_spaces.budget import Budget, log_budget, parse_budget
    from search_spaces.templates import build_named

    pattern = None if file is None else read_pattern(file)
    config = read_network(pattern, network, values)
    if pattern is not None and file is not None:
        provenance = {"name": None, "origin": f"pattern file {file.name}"}
    elif template is not None:
        pattern = build_named(template, parse_budget(budget or "log", config.pattern_depth))
        provenance = {"name": template, "origin": "named template"}
    else:
        preset = find_preset(str(network))
        pattern, provenance = preset.pattern, {"name": preset.template, "origin": f"{preset.name}, {preset.paper}"}
    log = log_budget(pattern.depth)
    spent = log if log.is_met_by(pattern) else Budget(pattern.depth, total=pattern.n_connections)
    return export_folder(pattern, config, str(spent), provenance, to)


def verify(
    path: Annotated[Path, typer.Argument(help="An exported folder, or a template file.", show_default=False)],
    trust: Annotated[
        bool, typer.Option("--trust", help="Also load what could run code (model.pt2), and networks of any size.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recompute every claim of an exported folder, a template file or a folder of these; exit 2 if any is false."""
    from nas.export.apart import find_verifiable, verify_all
    from nas.export.verify import CHECKS, verify_file
    from nas.records.shown import show

    places = find_verifiable(path) if path.is_dir() else []
    checked = verify_all(path, places, trust) if places else verify_file(path)
    false = checked.false
    console = make_console(stderr=as_json or bool(false))
    for note in checked.notes:
        console.print(note)
    if as_json:
        counts = {kind: len(names) for kind, names in checked.checked.items()}
        print(json.dumps({"ok": not false, "false_claims": list(false), "checked": counts}))  # noqa: T201
    elif not false:
        of = f", in {len(places)} folders" if len(places) > 1 else ""
        console.print(f"{show(path)}: every claim holds{of}; checked:")
        for kind, names in checked.checked.items():
            briefly = (
                name.removeprefix("distances.").removeprefix("certificate.").removeprefix("costs.") for name in names
            )
            console.print(f"  {len(names)} {CHECKS[kind]}" + ("" if len(places) > 1 else f": {', '.join(briefly)}"))
        print_next(console, "score", "--pattern", places[0] / "template.json" if places else path)
    else:
        lines = [f"error: {path} makes false claims:", *false.values()]
        print("\n".join(map(show_message, lines)), file=sys.stderr)  # noqa: T201
    if false:
        raise typer.Exit(2)
