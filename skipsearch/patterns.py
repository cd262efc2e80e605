"""Patterns without training: made by name, scored, recommended, optimized, drawn, and built into networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from search_spaces.errors import InputError
from skipsearch.words import in_python

if TYPE_CHECKING:
    from typing import Unpack

    from nas.model.layout_network import LayoutNetwork
    from nas.model.network import SkipNetwork
    from search_spaces.budget import Budget
    from search_spaces.pattern import ConnectionPattern
    from search_spaces.sampling.bounds import Certificate
    from skipsearch.settings import NetworkSettings, ScoreSettings

AnyPattern: TypeAlias = "ConnectionPattern | str | Path"  # a pattern, a template's name, or a template file
CROSS, PER_CELL = "walk_length,visit_evenness,mean_bd", 4  # of `sample`, as of its command


@dataclass(frozen=True)
class Figure:
    """A picture that shows itself in a notebook.

    Args:
        svg: the picture, an SVG document.
        description: what it shows.
    """

    svg: str
    description: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Figure({self.description!r})"

    def save(self, path: str | Path) -> Path:
        """Write the picture as an SVG file, and return its path."""
        Path(path).write_text(self.svg, encoding="utf-8")
        return Path(path)


@dataclass(frozen=True)
class Optimized:
    """The pattern that `optimize` found.

    Args:
        pattern: the pattern, which spends the budget.
        measure: name of what was optimized.
        value: its value.
        is_proven: whether no pattern of the budget has a better one.
        certificate: what is proven of the pattern's mean backprop distance: status, bound and gap.
        by_clock: whether the time limit ended the search; if not, the same call gives the same pattern.
    """

    pattern: "ConnectionPattern"
    measure: str
    value: float
    is_proven: bool
    certificate: "Certificate"
    by_clock: bool


def template(name: str, layers: int = 24, *, budget: str = "log") -> "ConnectionPattern":
    """Return the pattern that a template's name stands for.

    Args:
        name: a template, `log:b=B,c=C`, `denseformer:k=K,p=P`, `random:SEED`, or `nearest`, `evenly` or `geometric`.
        layers: number of layers in a block.
        budget: what the last four are fitted to: log, total:E or layers:d1,d2,...

    Raises:
        InputError: nothing has that name.

    >>> template("log", 4).sources
    ((0,), (0, 1), (1, 2), (0, 2, 3))
    """
    from search_spaces.templates import build_named

    with in_python():
        return build_named(name, _read_budget(budget, layers))


def draw(pattern: AnyPattern, title: str | None = None, *, layers: int = 24) -> Figure:
    """Draw a pattern's arc diagram: nodes are layers, arcs are skips, and a node's size shows its readers.

    Args:
        pattern: a pattern, a template's name or a template file.
        title: a few words above the picture.
        layers: number of layers of a template given by name.
    """
    from search_spaces.wiring.arcs import draw_arcs

    with in_python():
        found = _find_pattern(pattern, layers, "log")
        name = title or (pattern if isinstance(pattern, str) else None)
        return Figure(draw_arcs(found, name), f"{name or found.key[:12]}, {found.depth} layers")


def score(
    pattern: AnyPattern,
    *,
    budget: str = "log",
    network: str | None = None,
    measures: str | Sequence[str] | None = None,
    proxies: bool = False,
    seed: int | None = None,
    **settings: "Unpack[ScoreSettings]",
) -> dict[str, Any]:
    """Return distances and costs of a pattern, without training.

    Args:
        pattern: a pattern, a template's name or a template file.
        budget: budget of the certificate.
        network: name of a published network that the pattern stands in.
        measures: further measures to add under `measures`: all, or names.
        proxies: whether to add zero-cost proxies of the untrained network, on a training's first batch.
        seed: seed of that training.
        settings: the network around the pattern and, for the proxies, the data.

    Returns:
        The values of `score --json`, by name.

    Raises:
        InputError: the pattern does not fit the network, or a setting cannot be used.
    """
    from commands.scores import open_proxies
    from nas.model.candidate import Candidate
    from nas.model.score import score_candidate
    from nas.presets.registry import read_network
    from search_spaces.measures.registry import measure, measure_all
    from search_spaces.templates import build_named

    with in_python():
        values, recorder = open_proxies(_list_given(settings), seed, proxies)
        own = None if isinstance(pattern, str) else _find_pattern(pattern, 0, budget)
        around = read_network(own, network, values)
        spent = _read_budget(budget, around.pattern_depth)
        name = pattern if isinstance(pattern, str) else None
        scored = build_named(str(pattern), spent) if own is None else own
        candidate = Candidate(scored, around, seed or 0, name)
        row = score_candidate(candidate, spent, name)
        if measures == "all":
            row["measures"] = measure_all(scored, candidate.reads)
        elif measures is not None:
            names = measures.split(",") if isinstance(measures, str) else measures
            row["measures"] = measure(scored, [each.strip() for each in names], candidate.reads)
        if recorder is not None:
            row |= {f"proxy_{proxy}": value for proxy, value in recorder.measure(candidate).items()}
        return row


def recommend(layers: int = 24, budget: str = "log") -> list[dict[str, Any]]:
    """Return the patterns to take for a depth and budget, best first, and why: it takes seconds.

    Args:
        layers: number of layers in a block, at most 256.
        budget: connections to place: log, total:E or layers:d1,d2,...

    Returns:
        The rows of `recommend --json`: the values of `score`, `sources` and `reason`.

    Raises:
        InputError: the budget cannot be met.
    """
    from analysis.recommend.options import find_options
    from commands.patterns import list_rows

    with in_python():
        return list_rows(find_options(_read_budget(budget, layers)))


def optimize(
    budget: str = "log",
    layers: int = 24,
    *,
    measure: str = "mean_bd",
    maximize: bool = False,
    seconds: float = 20.0,
    seed: int = 0,
) -> Optimized:
    """Find the pattern of least mean backprop distance for a budget, or of the least or largest of any measure.

    Args:
        budget: connections to place: log, total:E or layers:d1,d2,...
        layers: number of layers in a block.
        measure: name of a measure.
        maximize: whether the largest value is looked for, not the least.
        seconds: time limit.
        seed: seed of the draws.

    Raises:
        InputError: there is no such measure, or the budget cannot be met.

    >>> optimize("total:28", 12).is_proven
    True
    """
    from search_spaces.distance import backprop_distance
    from search_spaces.sampling.bounds import certify
    from search_spaces.sampling.optimal import optimize as find_optimum
    from search_spaces.sampling.optimal import optimize_measure

    with in_python():
        spent = _read_budget(budget, layers)
        if measure == "mean_bd" and not maximize:
            found = find_optimum(spent, seed, seconds)
            value, proven = backprop_distance(found.pattern).mean, found.certificate.status == "optimal"
            return Optimized(found.pattern, measure, value, proven, found.certificate, found.by_clock)
        extreme = optimize_measure(spent, measure, 1 if maximize else -1, seed, seconds)
        certificate = certify(extreme.pattern, spent)
        return Optimized(extreme.pattern, measure, extreme.value, extreme.is_proven, certificate, extreme.by_clock)


def sample(
    budget: str = "log",
    layers: int = 24,
    *,
    cross: str | None = None,
    bins: str | None = None,
    per_cell: int | None = None,
    wide_draws: int | None = None,
    seed: int = 0,
) -> "list[ConnectionPattern]":
    """Draw patterns from the cells of crossed measures, or wide ones from the whole budget.

    Args:
        budget: connections to place: log, total:E or layers:d1,d2,...
        layers: number of layers in a block.
        cross: one to three measures, joined by commas; by default walk length, visit evenness and mean BD.
        bins: bins of each measure: N, LO:HI or LO:HI:N, joined by commas; by default 3,3,2, or the first of these.
        per_cell: number of patterns in each cell, by default 4.
        wide_draws: number of patterns to draw from the whole budget, in place of cells.
        seed: seed of the draws.

    Returns:
        The patterns, fewer where a cell or the budget has fewer.

    Raises:
        InputError: the measures cannot be crossed, or both cells and wide draws are asked for.
        NothingUsableError: no pattern was met in the cells.
    """
    from search_spaces.errors import NothingUsableError
    from search_spaces.sampling.design import Layout, choose_numbers, lay_out, parse_crossing

    with in_python():
        spent = _read_budget(budget, layers)
        if wide_draws is not None:
            from nas.search.space import OpenSpace

            if (cross, bins, per_cell) != (None, None, None):
                raise InputError(f"wide_draws={wide_draws} draws from the whole budget: leave out cross and bins")
            return OpenSpace(spent).draw_several(wide_draws, seed)
        cross = cross or CROSS
        crossed = parse_crossing(cross, bins or choose_numbers(cross))
        design = lay_out(spent, Layout(crossed, per_cell or PER_CELL, optima=0, uniform=0, seed=seed), [])
        if not design.members:
            raise NothingUsableError("no pattern of this budget was met in these cells: give wider bins")
        return [member.pattern for member in design.members]


def build_network(
    pattern: AnyPattern,
    *,
    network: str | None = None,
    seed: int = 0,
    **settings: "Unpack[NetworkSettings]",
) -> "SkipNetwork | LayoutNetwork":
    """Build the network around a pattern: a torch module, on the CPU, with initial weights that the seed fixes.

    Args:
        pattern: a pattern, a template's name or a template file.
        network: name of a published network whose stem, transitions and sizes are used.
        seed: seed of the initial weights.
        settings: the network around the pattern: growth, blocks, classes, image, ...

    Returns:
        A module: images (batch, channels, height, width) to logits (batch, classes).

    Raises:
        InputError: the pattern does not fit the network, or a setting cannot be used.
    """
    from nas.model.candidate import Candidate
    from nas.model.network import build_network as build
    from nas.presets.registry import read_network
    from search_spaces.budget import log_budget
    from search_spaces.templates import build_named

    with in_python():
        values = _list_given(settings)
        if isinstance(pattern, str):
            around = read_network(None, network, values)
            return build(Candidate(build_named(pattern, log_budget(around.pattern_depth)), around, seed, pattern))
        own = _find_pattern(pattern, 0, "log")
        return build(Candidate(own, read_network(own, network, values), seed))


def _list_given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else str(value) if isinstance(value, Path) else value
        for name, value in settings.items()
        if value is not None
    }


def _read_budget(budget: str, layers: int) -> "Budget":
    from nas.model.config import NetworkConfig
    from nas.records.checked import validate
    from search_spaces.budget import parse_budget

    if not isinstance(budget, str):
        raise InputError(f"budget {budget!r:.100}: give a text: log, total:E (as total:94) or layers:d1,d2,...")
    return parse_budget(budget, validate(NetworkConfig, {"layers": layers}).layers)


def _find_pattern(pattern: AnyPattern, layers: int, budget: str) -> "ConnectionPattern":
    from nas.records.template import read_pattern
    from search_spaces.pattern import ConnectionPattern

    if isinstance(pattern, str):
        return template(pattern, layers, budget=budget)
    if isinstance(pattern, Path):
        return read_pattern(pattern)
    if not isinstance(pattern, ConnectionPattern):
        raise InputError(
            f"pattern {pattern!r:.100}: give a ConnectionPattern (of a list of the sources of each layer by "
            "ConnectionPattern.from_sources), a template's name, or the Path of a template file"
        )
    return pattern
