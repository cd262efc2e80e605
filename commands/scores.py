"""Commands that describe patterns, networks and plug-ins without training them: score, networks and plugins."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.flags import SPACE, Budget, Json, Network, Wide, flag, list_measures, list_named
from commands.terminal import make_console, print_next, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from nas.model.candidate import Candidate
    from nas.model.config import NetworkConfig
    from nas.run.proxies import ProxyRecorder
    from search_spaces.budget import Budget as Spent
    from search_spaces.measures.registry import Measure
    from search_spaces.pattern import ConnectionPattern

BATCH_FLAGS = frozenset({"dataset", "data", "train_examples", "batch_size"})  # of a search: what its first batch holds


def score(
    ctx: typer.Context,
    template: Annotated[
        list[str] | None,
        flag(
            "Template by name, log:b=B,c=C, denseformer:k=K,p=P, random:SEED, or nearest, evenly or geometric, fitted "
            "to the budget. May be repeated. [default: all]",
            SPACE,
            form="<str>",
            values=list_named,
        ),
    ] = None,
    pattern: Annotated[Path | None, flag("Template file.", SPACE)] = None,
    budget: Budget = None,
    network: Network = None,
    measures: Annotated[
        str | None,
        flag(
            "Measures to show instead: all, or names joined by commas. They are of one block; from_loss_mean in --json "
            "without this is of the whole network.",
            form="<all|NAME,...>",
            values=lambda: ["all", *list_measures()],
        ),
    ] = None,
    proxies: Annotated[
        bool,
        flag(
            "Also compute zero-cost proxies of the untrained networks, on the batch that a training would begin with: "
            "about 0.3 s a pattern at 24 layers. Classes and image are those of the data.",
            "Data",
            "--proxies",
        ),
    ] = False,
    seed: Annotated[int | None, flag("For --proxies: a training's seed. [default: 0]", "Data")] = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Show distances and costs of templates and patterns, without training."""
    from nas.model.candidate import Candidate
    from nas.model.score import score_candidate
    from nas.presets.registry import find_preset, read_network
    from nas.records.template import read_pattern

    shown = _choose_measures(measures)
    own = None if pattern is None else read_pattern(pattern)
    values, recorder = open_proxies(ctx.obj, seed, proxies)
    config = read_network(own, network, values)
    if network is not None and own is None and "layers" not in ctx.obj and not template:
        chosen = _choose_published(network, budget, config)
        config = find_preset(network).surround(config)
    else:
        chosen = _choose_named(template, budget, config, [] if own is None else [_Labelled(str(pattern), None, own)])
    candidates = [Candidate(each.pattern, config, seed or 0, each.template) for each in chosen.patterns]
    labels = [each.label for each in chosen.patterns]
    rows = [score_candidate(each, chosen.budget, label) for each, label in zip(candidates, labels, strict=True)]
    for row, each in zip(rows, candidates, strict=True):
        if shown:
            row["measures"] = _measure(each, shown, is_all=measures == "all")
        if recorder is not None:
            row |= {f"proxy_{proxy}": value for proxy, value in recorder.measure(each).items()}
    if as_json:
        print(json.dumps([({} if network is None else {"network": network}) | row for row in rows]))  # noqa: T201
        return
    around = "" if network is None else f"in the surroundings of {network}:\n"
    depth, spent = config.pattern_depth, chosen.budget
    title = f"{around}{depth} layers; distances in hops, within a pattern; certificate at budget {spent}"
    console = make_console(wide=wide)
    if shown:
        print_measures(console, rows, shown)
    else:
        print_scores(console, rows, title)
        _print_through(console, rows, config.has_several_exits)
    if config.has_inner_paths:
        console.print(
            "A layer here passes on what it reads, next to what it makes of it: distances count layers, and the "
            "gradient may cross many at once."
        )
    if proxies:
        columns = {name[6:]: name for name in rows[0] if name.startswith("proxy_")}
        _print_values(console, "zero-cost proxies of the untrained networks", rows, columns, 4)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A pattern, what its row is called, and the template that gave it, or None."""

    label: str
    template: str | None
    pattern: "ConnectionPattern"


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Patterns to score, and the budget at which they are certified."""

    budget: "Spent"
    patterns: "Sequence[_Labelled]"


def _choose_published(network: str, budget: str | None, config: "NetworkConfig") -> _Chosen:
    """Return the pattern of a published network."""
    from nas.model.candidate import check_depth
    from nas.presets.registry import find_preset
    from search_spaces.budget import parse_budget

    preset = find_preset(network)
    check_depth(preset.pattern, config)
    spent = parse_budget(budget or f"total:{preset.pattern.n_connections}", config.pattern_depth)
    return _Chosen(spent, [_Labelled(preset.template or network, preset.template, preset.pattern)])


def _choose_named(
    names: "Sequence[str] | None", budget: str | None, config: "NetworkConfig", own: "Sequence[_Labelled]"
) -> _Chosen:
    """Return a pattern of the user's and templates by name: all of them where nothing is named."""
    from search_spaces.budget import parse_budget
    from search_spaces.templates import build_named, list_brought_templates, list_templates

    spent = parse_budget(budget or "log", config.pattern_depth)
    if not names and not own:
        names = [*list_templates(spent.depth), *list_brought_templates(spent.depth)]
    return _Chosen(spent, [*own, *(_Labelled(name, name, build_named(name, spent)) for name in names or ())])


def _measure(candidate: "Candidate", measures: "Sequence[Measure]", is_all: bool) -> dict[str, Any]:
    from search_spaces.measures.registry import measure, measure_all

    if is_all:
        return measure_all(candidate.pattern, candidate.reads)
    return measure(candidate.pattern, [each.name for each in measures], candidate.reads)


def open_proxies(
    values: Mapping[str, Any], seed: int | None, is_asked: bool
) -> tuple[dict[str, Any], "ProxyRecorder | None"]:
    """Return the flags of the network, and what measures proxies if that is asked for.

    Raises:
        InputError: the data cannot be used, contradict the network, or are not asked for.
    """
    from search_spaces.errors import InputError

    batch = {name: value for name, value in values.items() if name in BATCH_FLAGS}
    others = {name: value for name, value in values.items() if name not in BATCH_FLAGS}
    if not is_asked:
        given = ["seed"] * (seed is not None) + list(batch)
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} is for the proxies: add --proxies, or drop it")
        return others, None
    from nas.data.readers import load_data
    from nas.records.checked import validate
    from nas.run.proxies import ProxyRecorder
    from nas.settings.search import SearchConfig

    config = validate(SearchConfig, batch if seed is None else {**batch, "seed": seed})
    data = load_data(config.dataset, config.data)
    for name, own in (("classes", data.n_classes), ("image", data.image)):
        if others.setdefault(name, own) != own:
            raise InputError(f"--{name} contradicts the data, {data}: drop it")
    return others, ProxyRecorder(data, config)


def _choose_measures(text: str | None) -> "tuple[Measure, ...]":
    """Return the measures that --measures names.

    Raises:
        InputError: nothing has one of the names.
    """
    from search_spaces.measures.registry import find_measure, list_measures

    if text is None:
        return ()
    return list_measures() if text == "all" else tuple(find_measure(name.strip()) for name in text.split(","))


def print_measures(console: "Console", rows: list[dict[str, Any]], measures: "Sequence[Measure]") -> None:
    """Print measures: with their definitions for one pattern, otherwise side by side."""
    from nas.records.shown import show

    if len(rows) > 1:
        title = f"{rows[0]['layers']} layers; with one --template, definitions too"
        _print_values(
            console, title, [row | row["measures"] for row in rows], {each.name: each.name for each in measures}, 5
        )
        return
    (row,) = rows
    units = {each.name: f" ({each.unit})" if each.unit else "" for each in measures}  # a plug-in's may have none
    cells = [
        [each.name, _format_value(row["measures"].get(each.name), 5), each.definition + units[each.name]]
        for each in measures
    ]
    title = f"{show(row['template'] or '-')}, {row['layers']} layers"
    print_table(console, title, ["measure", "value", "definition (unit)"], cells, left=["definition (unit)"])


def _print_values(
    console: "Console", title: str, rows: list[dict[str, Any]], columns: Mapping[str, str], digits: int
) -> None:
    """Print numbers of patterns, to these digits.

    Args:
        columns: key of each number in a row, by its heading.
    """
    from nas.records.shown import show

    cells = [
        [show(row["template"] or "-"), *(_format_value(row.get(key), digits) for key in columns.values())]
        for row in rows
    ]
    print_table(console, title, ["template", *columns], cells)


def _print_through(console: "Console", rows: list[dict[str, Any]], has_several_exits: bool) -> None:
    """Print distances through networks that are laid out node by node; nothing of others."""
    if "from_loss_mean_free" not in rows[0]:
        return
    title = "through the whole network, in hops; free: a change of resolution is none, otherwise it is one"
    title += "; the loss is that of the nearest exit" if has_several_exits else ""
    columns = {"from the loss, free": "from_loss_mean_free", "mean BD, free": "global_mean_bd_free"}
    columns |= {"from the loss": "from_loss_mean", "mean BD": "global_mean_bd"}
    _print_values(console, title, rows, columns, 4)


def _format_value(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def print_scores(console: "Console", rows: list[dict[str, Any]], title: str) -> None:
    """Print the rows of score_candidate, except the columns that only --json and --measures all show."""
    from nas.records.shown import show
    from search_spaces.measures.registry import list_brought

    headings = "template connections mean_BD MBD walk evenness span params FLOPs certificate"
    brought = [each.name for each in list_brought() if all(each.name in row for row in rows)]
    cells = []
    for row in rows:
        distances = [f"{row[name]:.3f}" for name in ("walk_length", "visit_evenness", "span")]
        others = [f"{row[name]:.5g}" for name in brought]
        sizes = [f"{row[name]:,}" for name in ("params", "flops")]
        proven = "" if row["certificate"] is None else f"{row['certificate']}, gap {100 * row['gap']:.1f} %"
        first = [show(row["template"] or "-"), f"{row['connections']:,}", f"{row['mean_bd']:.4f}", f"{row['max_bd']}"]
        cells.append([*first, *distances, *sizes, proven, *others])
    names = [*(heading.replace("_", " ") for heading in headings.split()), *brought]
    print_table(console, title, names, cells, left=["certificate"])


def networks(wide: Wide = False, as_json: Json = False) -> None:
    """List the papers' networks, which --network NAME takes."""
    from nas.presets.registry import PRESETS, describe_preset

    rows = [describe_preset(preset) for preset in PRESETS.values()]
    if as_json:
        print(json.dumps(rows))  # noqa: T201
        return
    console = make_console(wide=wide)
    cells: list[list[str]] = []
    notes: dict[str, int] = {}  # number of each difference from a paper
    for paper, published in itertools.groupby(rows, key=lambda row: row["paper"]):
        cells.append([f"{paper}:"])
        for row in published:
            differs = row["differs"]
            mark = f" [{notes.setdefault(differs, len(notes) + 1)}]" if differs else ""
            sizes = [f"{row['params']:,}", f"{row['flops'] / 1e9:.2f} G", _format_depths(row["layers"])]
            cells.append([f"  {row['name']}{mark}", *sizes, f"{row['connections']:,}", str(row["growth"])])
    headings = ("name", "params", "FLOPs", "layers", "connections", "growth")
    title = "published networks, as --network NAME; FLOPs of one image, 2 a multiply-add"
    print_table(console, title, headings, cells, left=["layers"])
    for differs, number in notes.items():
        console.print(f"[{number}] {differs}")
    print_next(console, "score", "--network", "densenet-bc-100-12")


MAX_LISTED = 6  # blocks whose layers `networks` lists one by one


def _format_depths(depths: "Sequence[int]") -> str:
    """Return the layers of each block: as 3 x 12 where all have as many, and their sum where there are many blocks."""
    if len(set(depths)) == 1:
        return f"{len(depths)} x {depths[0]}"
    return ", ".join(map(str, depths)) if len(depths) <= MAX_LISTED else f"{sum(depths)} in {len(depths)}"


def plugins(wide: Wide = False, as_json: Json = False) -> None:
    """List what installed packages bring by entry points, and what of it cannot be used."""
    from nas.data.readers import load_readers
    from nas.layouts.merges import load_merges
    from nas.loggers.registry import load_loggers
    from nas.records.shown import show
    from nas.settings.search import load_strategies
    from nas.tasks.reference import load_tasks
    from search_spaces.measures.registry import load_measures
    from search_spaces.plugins import list_plugins, name_kind
    from search_spaces.templates import load_templates

    by_kind = {"tasks": load_tasks, "templates": load_templates, "measures": load_measures}
    by_kind |= {"strategies": load_strategies, "merges": load_merges, "readers": load_readers}
    by_kind |= {"loggers": load_loggers}
    rows = [
        {**plugin.describe(), "value": plugin.value, "problem": by_kind[plugin.kind]().problems.get(plugin.name)}
        for plugin in list_plugins()
    ]
    if as_json:
        print(json.dumps(rows))  # noqa: T201
        return
    console = make_console(wide=wide)
    if not rows:
        console.print("no installed package brings a plug-in; docs/howto/plugins.md says how to write one")
        return
    cells = [
        [name_kind(plugin.kind), *map(show, (plugin.name, plugin.origin.distribution, plugin.origin.version)), problem]
        for plugin, problem in zip(
            list_plugins(), ((row["problem"] or "").partition(" is left out: ")[2] for row in rows), strict=True
        )
    ]
    headings = ["kind", "name", "package", "version", "left out because"]
    print_table(console, "plug-ins of installed packages", headings, cells, left=headings)
