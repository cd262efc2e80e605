"""Commands about patterns that need no training: score, networks, optimize and sample."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.flags import SPACE, Budget, Json, Layers, Network, Seed, flag
from commands.terminal import OURSELVES, make_console, print_next, print_table, print_written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.model.candidate import NetworkConfig
    from nas.run.proxies import ProxyRecorder
    from search_spaces.budget import Budget as Spent
    from search_spaces.measures.registry import Measure
    from search_spaces.pattern import ConnectionPattern
    from search_spaces.sampling.optimal import Extreme

BATCH_FLAGS = frozenset({"dataset", "data", "train_examples", "batch_size"})  # of a search: what its first batch holds
# Columns of a table that must fit 80 columns: those that take labels, and those that do not.
PROXY_TABLES = (("grad_norm", "snip", "grasp", "fisher"), ("synflow", "jacob_cov", "naswot", "zen"))


def score(
    ctx: typer.Context,
    template: Annotated[
        list[str] | None,
        flag(
            "Template by name, log:b=B,c=C, random:SEED, or nearest, evenly or geometric, fitted to the budget. May be "
            "repeated. [default: all]",
            SPACE,
            form="<str>",
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
    as_json: Json = False,
) -> None:
    """Show distances and costs of templates and patterns, without training."""
    from nas.model.candidate import Candidate, check_depth
    from nas.model.presets import find_preset
    from nas.model.score import score_candidate
    from nas.records.template import read_pattern
    from search_spaces.budget import parse_budget
    from search_spaces.measures.registry import measure, measure_all
    from search_spaces.templates import build_named, list_templates

    shown = _choose_measures(measures)
    own = None if pattern is None else read_pattern(pattern)
    values, recorder = _open_proxies(ctx.obj, seed, proxies)
    config = surround(own, network, values)
    chosen: list[tuple[str, str | None, ConnectionPattern]] = [] if own is None else [(str(pattern), None, own)]
    if network is not None and own is None and "layers" not in ctx.obj and not template:
        preset = find_preset(network)
        check_depth(preset.pattern, config)
        chosen = [(preset.template or network, preset.template, preset.pattern)]
        spent = parse_budget(budget or f"total:{preset.pattern.n_connections}", config.pattern_depth)
    else:
        spent = parse_budget(budget or "log", config.pattern_depth)
        names = template or (list_templates(spent.depth) if own is None else [])
        chosen += [(name, name, build_named(name, spent)) for name in names]
    candidates = [Candidate(scored, config, seed or 0, name) for _, name, scored in chosen]
    rows = [score_candidate(each, spent, label) for each, (label, _, _) in zip(candidates, chosen, strict=True)]
    if shown:
        for row, each in zip(rows, candidates, strict=True):
            every = measures == "all"
            names = [entry.name for entry in shown]
            row["measures"] = (
                measure_all(each.pattern, each.reads) if every else measure(each.pattern, names, each.reads)
            )
    if recorder is not None:
        for row, each in zip(rows, candidates, strict=True):
            row |= {f"proxy_{proxy}": value for proxy, value in recorder.measure(each).items()}
    if as_json:
        print(json.dumps([({} if network is None else {"network": network}) | row for row in rows]))  # noqa: T201
        return
    around = "" if network is None else f"in the surroundings of {network}, "
    title = f"{around}{config.pattern_depth} layers; distances in hops, within a pattern; certificate at budget {spent}"
    if shown:
        print_measures(rows, shown)
    else:
        print_scores(rows, title)
    if proxies:
        _print_proxies(rows)


def _open_proxies(
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


def _print_proxies(rows: list[dict[str, Any]]) -> None:
    from nas.records.shown import show

    for title, names in zip(("proxies from the loss of a batch", "proxies without labels"), PROXY_TABLES, strict=True):
        cells = []
        for row in rows:
            values = [row[f"proxy_{name}"] for name in names]
            shown = ["-" if value is None else f"{value:.4g}" for value in values]
            cells.append([show(row["template"] or "-"), *shown])
        print_table(make_console(), title, ["template", *names], cells)


def surround(pattern: "ConnectionPattern | None", network: str | None, values: Mapping[str, Any]) -> "NetworkConfig":
    """Return the network that flags and a published network's name describe, around a pattern if there is one.

    Raises:
        InputError: there is no such network, or the pattern does not fit it.
    """
    from nas.model.candidate import NetworkConfig, check_depth
    from nas.model.presets import find_preset
    from nas.records.checked import validate

    if network is not None:
        published = find_preset(network).network
        values = {name: getattr(published, name) for name in NetworkConfig.model_fields} | dict(values)
    elif pattern is not None and "layers" not in values:
        n_blocks = values.get("blocks", 1) if values.get("transition") == "v1" else 1
        values = {**values, "layers": pattern.depth // n_blocks}
    config = validate(NetworkConfig, values)
    if pattern is not None:
        check_depth(pattern, config)
    return config


def _choose_measures(text: str | None) -> "tuple[Measure, ...]":
    """Return the measures that --measures names.

    Raises:
        InputError: nothing has one of the names.
    """
    from search_spaces.measures.registry import find_measure, list_measures

    if text is None:
        return ()
    return list_measures() if text == "all" else tuple(find_measure(name.strip()) for name in text.split(","))


def print_measures(rows: list[dict[str, Any]], measures: "Sequence[Measure]") -> None:
    """Print measures: with their definitions for one pattern, otherwise side by side in tables of 80 columns."""
    from nas.records.shown import show

    def form(row: dict[str, Any], name: str) -> str:
        return f"{row['measures'][name]:.5g}" if name in row["measures"] else "-"

    console = make_console()
    if len(rows) == 1:
        title = f"{show(rows[0]['template'] or '-')}, {rows[0]['layers']} layers"
        cells = [[each.name, form(rows[0], each.name), f"{each.definition} ({each.unit})"] for each in measures]
        print_table(console, title, ["measure", "value", "definition (unit)"], cells, left=["definition (unit)"])
        return
    labels = [show(row["template"] or "-") for row in rows]
    width = 80 - max(map(len, labels)) - 4
    tables: list[list[str]] = [[]]
    for each in measures:
        taken = sum(max(len(name), 10) + 3 for name in (*tables[-1], each.name))
        if tables[-1] and taken > width:
            tables.append([])
        tables[-1].append(each.name)
    for number, names in enumerate(tables):
        cells = [[label, *(form(row, name) for name in names)] for label, row in zip(labels, rows, strict=True)]
        title = "" if number else f"{rows[0]['layers']} layers; with one --template, definitions too"
        print_table(console, title, ["template", *names], cells)


def print_scores(rows: list[dict[str, Any]], title: str) -> None:
    """Print the rows of score_candidate as a table."""
    from nas.records.shown import show
    from search_spaces.measures.registry import list_brought

    headings = "template connections mean_BD MBD walk evenness span max_in max_out params FLOPs certificate"
    brought = [each.name for each in list_brought() if all(each.name in row for row in rows)]
    cells = []
    for row in rows:
        distances = [f"{row[name]:.3f}" for name in ("walk_length", "visit_evenness", "span")]
        others = [f"{row[name]:.5g}" for name in brought]
        sizes = [f"{row[name]:,}" for name in ("max_in_degree", "max_out_degree", "params", "flops")]
        proven = "" if row["certificate"] is None else f"{row['certificate']}, gap {100 * row['gap']:.1f} %"
        first = [show(row["template"] or "-"), f"{row['connections']:,}", f"{row['mean_bd']:.4f}", f"{row['max_bd']}"]
        cells.append([*first, *distances, *sizes, proven, *others])
    names = [*(heading.replace("_", " ") for heading in headings.split()), *brought]
    print_table(make_console(), title, names, cells, left=["certificate"])


def networks(as_json: Json = False) -> None:
    """List the papers' networks, which --network NAME takes."""
    from nas.model.cost import predict_cost
    from nas.model.presets import PRESETS

    rows = [(preset, predict_cost(preset.candidate)) for preset in PRESETS.values()]
    if as_json:
        described = [
            {"name": preset.name, "paper": preset.paper, "params": cost.params, "flops": cost.flops}
            | {"differs": preset.differs}
            for preset, cost in rows
        ]
        print(json.dumps(described))  # noqa: T201
        return
    console = make_console()
    cells = []
    differing: dict[str, list[str]] = {}
    for preset, cost in rows:
        layers = ", ".join(map(str, preset.network.block_depths))
        sizes = [str(preset.network.growth), f"{cost.params:,}", f"{cost.flops:,}"]
        cells.append([preset.name, preset.paper, layers, *sizes])
        if preset.differs:
            differing.setdefault(preset.differs, []).append(preset.name)
    headings = ("name", "paper", "layers of blocks", "growth", "params", "FLOPs")
    print_table(console, "published networks, as --network NAME", headings, cells, left=["paper"])
    for differs, names in differing.items():
        console.print(f"{names[0]} to {names[-1]}: {differs}")
    print_next(console, *OURSELVES, "score", "--network", "densenet-bc-100-12")


def _read_budget(budget: str | None, layers: int | None) -> "Spent":
    from nas.model.candidate import NetworkConfig
    from nas.records.checked import validate
    from search_spaces.budget import parse_budget

    depth = validate(NetworkConfig, {} if layers is None else {"layers": layers}).layers
    return parse_budget(budget or "log", depth)


def score_pattern(pattern: "ConnectionPattern", budget: "Spent") -> dict[str, Any]:
    """Return a pattern's scores in a network of default sizes, and its sources."""
    from nas.model.candidate import Candidate, NetworkConfig
    from nas.model.score import score_candidate

    candidate = Candidate(pattern, NetworkConfig(layers=pattern.depth), 0)
    return {**score_candidate(candidate, budget, None), "sources": [list(inputs) for inputs in pattern.sources]}


def write_template(path: Path, pattern: "ConnectionPattern", budget: "Spent", provenance: dict[str, Any]) -> None:
    """Write a pattern as a template file."""
    from nas.export.export import describe_export
    from nas.model.candidate import NetworkConfig
    from nas.records.safe_files import write_atomic
    from nas.records.template import format_template

    template = describe_export(pattern, NetworkConfig(layers=pattern.depth), str(budget), {"name": None, **provenance})
    write_atomic(path, format_template(template))


def optimize(
    budget: Budget = None,
    layers: Layers = None,
    measure: Annotated[
        str, flag("Measure to optimize; `score --measures all` lists them. [default: mean_bd]", SPACE)
    ] = "mean_bd",
    maximize: Annotated[
        bool, typer.Option("--maximize", help="Look for the largest value, not the least.", rich_help_panel=SPACE)
    ] = False,
    seconds: Annotated[float, typer.Option(help="Time limit.")] = 20.0,
    seed: Seed = 0,
    to: Annotated[Path | None, flag("Template file to write.")] = None,
    as_json: Json = False,
) -> None:
    """Find the pattern of least mean backprop distance for a budget, with a certificate; or that of any measure."""
    from nas.records.template import check_replaceable
    from search_spaces.sampling.optimal import optimize as find_optimum
    from search_spaces.sampling.optimal import optimize_measure

    if to is not None:
        check_replaceable(to)
    spent = _read_budget(budget, layers)
    title = f"{spent.depth} layers at budget {spent}"
    provenance: dict[str, Any] = {"origin": "optimize", "seed": seed}
    if measure == "mean_bd" and not maximize:
        optimum = find_optimum(spent, seed, seconds)
        pattern, row = optimum.pattern, score_pattern(optimum.pattern, spent)
        provenance["n_moves"] = optimum.n_moves
        title += f", {optimum.n_moves:,} moves tried"
        ended = "time was up" if optimum.by_clock else "the bound is met" if row["gap"] == 0 else "the search ended"
        said = f"{row['certificate']}: mean BD {row['mean_bd']:.4f}, proven bound {row['bound_mean_bd']:.4f}; {ended}"
    else:
        extreme = optimize_measure(spent, measure, 1 if maximize else -1, seed, seconds)
        pattern = extreme.pattern
        row = score_pattern(pattern, spent) | {measure: extreme.value, "proven": extreme.is_proven}
        provenance |= {"measure": measure, "maximized": maximize}
        said = f"{measure} {extreme.value:.6g}: {_describe_extreme(extreme, maximize)}"
    if to is not None:
        write_template(to, pattern, spent, provenance)
    if as_json:
        print(json.dumps(row))  # noqa: T201
        return
    print_scores([row], title)
    console = make_console()
    console.print(said)
    if to is None:
        console.print("next: the same with --to FILE keeps it")
    else:
        print_written(console, [to], [*OURSELVES, "verify", to])


def _describe_extreme(extreme: "Extreme", maximize: bool) -> str:
    if extreme.is_proven:
        return f"proven: no pattern of this budget has a {'larger' if maximize else 'smaller'} one"
    ended = "time was up" if extreme.by_clock else "the last of them found nothing better"
    return (
        f"the {'largest' if maximize else 'least'} that {extreme.n_rounds} rounds of annealing found, and {ended}; "
        "nothing is proven of it, for the certificate is that of mean BD"
    )


def sample(
    to: Annotated[Path, flag("Folder for the template files.")],
    budget: Budget = None,
    layers: Layers = None,
    cross: Annotated[
        str,
        flag(
            "One to three measures, separated by commas; `score --measures all` lists them. "
            "[default: walk_length,visit_evenness,mean_bd]",
            SPACE,
        ),
    ] = "walk_length,visit_evenness,mean_bd",
    bins: Annotated[
        str, flag("Bins of each measure: N, LO:HI or LO:HI:N, separated by commas. [default: 3,3,2]", SPACE)
    ] = "3,3,2",
    per_cell: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of patterns in each cell of the crossing.")
    ] = 4,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw patterns from the cells of crossed measures, at an exact budget."""
    from nas.export.export import export_pattern
    from nas.model.candidate import NetworkConfig
    from nas.records.shown import show
    from search_spaces.errors import NothingUsableError
    from search_spaces.measures.registry import list_brought, measure
    from search_spaces.sampling.cells import find_reach
    from search_spaces.sampling.design import Layout, lay_out, parse_crossing

    spent = _read_budget(budget, layers)
    crossing = parse_crossing(cross, bins)
    design = lay_out(spent, Layout(crossing, per_cell, optima=0, uniform=0, seed=seed), [])
    console = make_console(stderr=as_json)
    for name, (low, high) in find_reach(spent, design.measures).items():
        console.print(f"{name}: {low:.4g} to {high:.4g} are reached at this budget")
    if not design.members:
        raise NothingUsableError(
            "not found: no pattern of this budget was met in these cells. Give wider bins, or bins inside the ranges "
            "above"
        )
    for lack in design.lacking:
        bands = ", ".join(
            f"{name} {own[place].low:.4g} to {own[place].high:.4g}"
            for name, own, place in zip(design.measures, design.bins, lack.cell, strict=True)
        )
        console.print(f"not found: {lack.n} of {per_cell} patterns with {bands}")
    provenance = {"name": None, "origin": "sample", "seed": seed}
    network = NetworkConfig(layers=spent.depth)
    rows, paths = [], []
    for member in design.members:
        assert member.cell is not None
        paths += export_pattern(member.pattern, network, str(spent), provenance, to)
        cell = {"cell": list(member.cell), **measure(member.pattern, design.measures)}
        rows.append({**score_pattern(member.pattern, spent), **cell})
    if as_json:
        print(json.dumps(rows))  # noqa: T201
        return
    names = dict.fromkeys([*design.measures, "span", *(each.name for each in list_brought())])
    cells = [[",".join(map(str, row["cell"])), *(f"{row[name]:.5g}" for name in names)] for row in rows]
    title = f"{spent.depth} layers at budget {spent}; a cell is the bin of each measure"
    print_table(console, title, ["cell", *(name.replace("_", " ") for name in names)], cells)
    console.print(f"wrote {len(rows)} folders in {show(to)}")
    print_next(console, *OURSELVES, "verify", paths[0])
