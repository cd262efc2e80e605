"""Commands that look for patterns, without training: recommend, optimize and sample."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.flags import SPACE, Budget, Json, Layers, Seed, Wide, flag, list_measures
from commands.scores import print_scores
from commands.terminal import make_console, print_next, print_table, print_written

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.recommend.options import Options
    from search_spaces.budget import Budget as Spent
    from search_spaces.pattern import ConnectionPattern
    from search_spaces.sampling.optimal import Extreme


def _read_budget(budget: str | None, layers: int | None) -> "Spent":
    from nas.model.config import NetworkConfig
    from nas.records.checked import validate
    from search_spaces.budget import parse_budget

    depth = validate(NetworkConfig, {} if layers is None else {"layers": layers}).layers
    return parse_budget(budget or "log", depth)


def score_pattern(pattern: "ConnectionPattern", budget: "Spent", name: str | None = None) -> dict[str, Any]:
    """Return a pattern's scores in a network of default sizes, under its template's name, and its sources."""
    from nas.model.candidate import Candidate
    from nas.model.config import NetworkConfig
    from nas.model.score import score_candidate

    candidate = Candidate(pattern, NetworkConfig(layers=pattern.depth), 0)
    return {**score_candidate(candidate, budget, name), "sources": [list(inputs) for inputs in pattern.sources]}


def write_template(path: Path, pattern: "ConnectionPattern", budget: "Spent", provenance: dict[str, Any]) -> None:
    """Write a pattern as a template file."""
    from nas.export.export import describe_export
    from nas.model.config import NetworkConfig
    from nas.records.safe_files import write_atomic
    from nas.records.template import format_template

    template = describe_export(pattern, NetworkConfig(layers=pattern.depth), str(budget), {"name": None, **provenance})
    write_atomic(path, format_template(template))


N_TOLD = 3  # rows of recommend whose reasons are printed without --wide


def recommend(
    budget: Budget = None,
    layers: Layers = None,
    to: Annotated[Path | None, flag("Template file to write the first of the list to.")] = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Say which pattern to take for a depth and budget, and why; 5 seconds at 40 layers, under a minute at 256."""
    from analysis.recommend.options import find_options
    from analysis.recommend.reasons import LEGEND, list_caveats, recommend_first
    from nas.records.shown import show
    from nas.records.template import check_replaceable

    if to is not None:
        check_replaceable(to)
    spent = _read_budget(budget, layers)
    options = find_options(spent)
    rows = list_rows(options)
    best = options.options[0]
    if to is not None:
        write_template(to, best.pattern, spent, {"name": best.name, "origin": "recommend"})
    if as_json:
        print(json.dumps(rows))  # noqa: T201
        return
    console = make_console(wide=wide)
    console.print(recommend_first(options))
    console.print()
    _print_rows(console, options, rows)
    console.print(LEGEND)
    n_told = len(rows) if wide else N_TOLD
    for option, row in zip(options.options[:n_told], rows[:n_told], strict=True):
        console.print(f"- {show(option.label)}: {row['reason']}")
    if n_told < len(rows):
        console.print("- the others: --wide says why")
    console.print()
    for caveat in list_caveats():
        console.print(caveat)
    console.print(f"\n{write_snippet(spent, best.name)}\n", soft_wrap=True)
    if to is not None:
        print_written(console, [to], ["export", "--pattern", to, "--to", to.stem])
    elif best.name is None:
        print_next(console, "recommend", "--layers", spent.depth, "--budget", spent, "--to", "best.json")
    else:
        place = ["--layers", spent.depth, "--to", best.name.partition(":")[0]]
        print_next(console, "export", "--template", best.name, "--budget", spent, *place)


def list_rows(options: "Options") -> list[dict[str, Any]]:
    """Return what --json prints: each pattern's scores, in a network of default sizes, its sources and the reason."""
    from analysis.recommend.reasons import give_reason

    return [
        {**score_pattern(option.pattern, options.budget, option.name), "reason": give_reason(option, options)}
        for option in options.options
    ]


def _print_rows(console: "Console", options: "Options", rows: list[dict[str, Any]]) -> None:
    from analysis.page.wording import count_nouns, format_signed
    from nas.records.shown import show

    names = ("walk_length", "visit_evenness", "mean_bd")
    cells = [
        [
            show(option.label),
            format_signed(option.expected),
            *(f"{row[name]:.3f}" for name in names),
            f"{100 * row['gap']:.0f} %",
        ]
        for option, row in zip(options.options, rows, strict=True)
    ]
    spent = options.budget
    counts = f"{count_nouns(spent.depth, 'layer')}, {count_nouns(spent.n_connections, 'connection')}"
    title = f"{counts} (budget {spent}), best first"
    headings = ["pattern", "expected", "walk", "evenness", "mean BD", "gap"]
    print_table(console, title, headings, cells)


def write_snippet(budget: "Spent", name: str | None) -> str:
    """Return a program that builds a network around the first of the list, and wires it into one of your own."""
    fitted = "" if str(budget) == "log" else f', budget="{budget}"'
    pattern = f'skipsearch.template("{name}", {budget.depth}{fitted})'
    if name is None:
        pattern = (
            "skipsearch.ConnectionPattern.from_sources(\n"
            f'    skipsearch.recommend({budget.depth}{fitted})[0]["sources"]\n)'
        )
    return f"""\
import skipsearch
import torch

pattern = {pattern}
network = skipsearch.build_network(pattern, image=(3, 32, 32), classes=10)

# or in a network of your own: layer i reads the nodes pattern.sources[i - 1]
nodes = [torch.zeros(1, 16, 32, 32)]  # node 0 is what enters the block
for inputs in pattern.sources:
    layer = torch.nn.Conv2d(16 * len(inputs), 16, 3, padding=1)
    read = torch.cat([nodes[node] for node in inputs], 1)
    nodes.append(torch.relu(layer(read)))
# what comes next reads these, as the scores assume
outputs = torch.cat([nodes[-(2**k)] for k in range({(budget.depth + 1).bit_length()})], 1)"""


def optimize(
    budget: Budget = None,
    layers: Layers = None,
    measure: Annotated[
        str,
        flag("Measure to optimize; `score --measures all` lists them. [default: mean_bd]", SPACE, values=list_measures),
    ] = "mean_bd",
    maximize: Annotated[
        bool, typer.Option("--maximize", help="Look for the largest value, not the least.", rich_help_panel=SPACE)
    ] = False,
    seconds: Annotated[float, typer.Option(help="Time limit.")] = 20.0,
    seed: Seed = 0,
    to: Annotated[Path | None, flag("Template file to write.")] = None,
    wide: Wide = False,
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
        ended = "the bound is met" if row["gap"] == 0 else "time was up" if optimum.by_clock else "the search ended"
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
    console = make_console(wide=wide)
    print_scores(console, [row], title)
    console.print(said)
    if to is None:
        console.print("next: the same with --to FILE keeps it")
    else:
        print_written(console, [to], ["verify", to])


def _describe_extreme(extreme: "Extreme", maximize: bool) -> str:
    if extreme.is_proven:
        return f"proven: no pattern of this budget has a {'larger' if maximize else 'smaller'} one"
    ended = "time was up" if extreme.by_clock else "the last of them found nothing better"
    return (
        f"the {'largest' if maximize else 'least'} that {extreme.n_rounds} rounds of annealing found, and {ended}; "
        "nothing is proven of it, for the certificate is that of mean BD"
    )


CROSS, BINS, PER_CELL = "walk_length,visit_evenness,mean_bd", "3,3,2", 4  # of sample, where nothing is said


def sample(
    to: Annotated[Path, flag("Folder for the template files.")],
    budget: Budget = None,
    layers: Layers = None,
    cross: Annotated[
        str | None,
        flag(
            f"One to three measures, separated by commas; `score --measures all` lists them. [default: {CROSS}]",
            SPACE,
        ),
    ] = None,
    bins: Annotated[
        str | None,
        flag(
            f"Bins of each measure: N, LO:HI or LO:HI:N, separated by commas. [default: {BINS}, or the first of these]",
            SPACE,
        ),
    ] = None,
    per_cell: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help=f"Number of patterns in each cell of the crossing. [default: {PER_CELL}]"),
    ] = None,
    wide_draws: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Number of patterns to draw from the whole budget, in place of cells. Their skips' lengths and places "
            "vary far more than those of uniform draws.",
            rich_help_panel=SPACE,
        ),
    ] = None,
    seed: Seed = 0,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Draw patterns from the cells of crossed measures, or wide ones from the whole budget, at an exact budget."""
    from analysis.page.wording import count_nouns
    from nas.export.export import export_pattern
    from nas.model.config import NetworkConfig
    from nas.records.shown import show
    from search_spaces.errors import InputError
    from search_spaces.measures.registry import list_brought, measure

    spent = _read_budget(budget, layers)
    console = make_console(stderr=as_json, wide=wide)
    if wide_draws is None:
        drawn = _draw_cells(spent, cross or CROSS, bins, per_cell or PER_CELL, seed, console)
    elif (cross, bins, per_cell) == (None, None, None):
        drawn = _draw_wide(spent, wide_draws, seed, console)
    else:
        raise InputError(
            f"--wide-draws {wide_draws} draws from the whole budget, and has no cells: leave out --cross, --bins and "
            "--per-cell, or --wide-draws"
        )
    provenance = {"name": None, "origin": "sample", "seed": seed} | ({} if wide_draws is None else {"wide": True})
    rows, paths = [], []
    for pattern, cell in zip(drawn.patterns, drawn.cells, strict=True):
        paths += export_pattern(pattern, NetworkConfig(layers=spent.depth), str(spent), provenance, to)
        own = ({} if cell is None else {"cell": list(cell)}) | measure(pattern, drawn.measures)
        rows.append({**score_pattern(pattern, spent), **own})
    if as_json:
        print(json.dumps(rows))  # noqa: T201
        return
    names = dict.fromkeys([*drawn.measures, "span", *(each.name for each in list_brought())])
    cells = [[",".join(map(str, row.get("cell", ()))), *(f"{row[name]:.5g}" for name in names)] for row in rows]
    title = f"{spent.depth} layers at budget {spent}"
    if wide_draws is None:
        print_table(console, f"{title}; a cell is the bin of each measure, from 0", ["cell", *names], cells)
    else:
        print_table(console, f"{title}, wide draws", [*names], [row[1:] for row in cells])
    console.print(f"wrote {count_nouns(len(rows), 'folder')} in {show(to)}")
    print_next(console, "verify", paths[0])


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Patterns, the cell of each or None, and the measures to show of them."""

    patterns: "list[ConnectionPattern]"
    cells: list[tuple[int, ...] | None]
    measures: tuple[str, ...]


def _draw_cells(spent: "Spent", cross: str, bins: str | None, per_cell: int, seed: int, console: "Console") -> _Drawn:
    from search_spaces.errors import NothingUsableError
    from search_spaces.sampling.cells import find_reach
    from search_spaces.sampling.design import Layout, choose_numbers, lay_out, parse_crossing

    layout = Layout(parse_crossing(cross, bins or choose_numbers(cross)), per_cell, optima=0, uniform=0, seed=seed)
    design = lay_out(spent, layout, [])
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
    members = design.members
    return _Drawn([member.pattern for member in members], [member.cell for member in members], design.measures)


def _draw_wide(spent: "Spent", count: int, seed: int, console: "Console") -> _Drawn:
    from nas.search.space import OpenSpace

    patterns = OpenSpace(spent).draw_several(count, seed)
    if len(patterns) < count:
        console.print(f"not found: {count - len(patterns)} of {count} patterns, for this budget has no more")
    return _Drawn(patterns, [None] * len(patterns), tuple(CROSS.split(",")))
