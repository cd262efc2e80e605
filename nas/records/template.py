"""Template files: patterns as checked JSON, with GraphML, DOT and a diagram for other programs."""

import io
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import networkx as nx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.records.checked import describe_problem
from nas.records.safe_files import check_place, format_json, read_json, write_atomic
from search_spaces.budget import Budget, parse_budget
from search_spaces.distance import describe
from search_spaces.errors import ConflictError, InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import certify
from search_spaces.wiring.arcs import draw_arcs

SCHEMA: Literal["skipsearch/template"] = "skipsearch/template"
VERSION: Literal[1] = 1
MAX_BYTES = 10**6  # of a template file
MAX_LAYERS = 4096  # beyond all use, and short of what would fill the memory before anything is said
N_PROBLEMS_NAMED = 5
COMPANIONS = ("template.graphml", "template.dot", "template.svg")
HOW_TO_MAKE_ONE = '`export` writes template files; {"layers": 2, "sources": [[0], [0, 1]]} is enough for one'


class TemplateFile(BaseModel):
    """A connection template as JSON, with all that is needed to check it.

    Args:
        schema: SCHEMA; version: VERSION.
        key: the pattern's key.
        layers: number of layers L.
        sources: the sorted inputs of layers 1..L.
        budget: the budget that it spends, in the command line's form.
        network: sizes of the network that costs are for, by the names of their flags.
        distances: connections, distances, span and degrees within a block.
        costs: `params` of the whole network, and `flops` of its forward pass for one image.
        certificate: what is proven at that budget: `status`, `bound_mean_bd` and `gap`; see bounds.Certificate.
        provenance: origin of the template: a rule, a file, or a run with its measurements.
        graph: node-link data of NetworkX: nodes 0..L, edges from source to target.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["skipsearch/template"] = Field(SCHEMA, alias="schema")
    version: Literal[1] = VERSION
    key: str
    layers: int = Field(ge=1, le=MAX_LAYERS)
    sources: list[list[int]]
    budget: str
    network: dict[str, Any]
    distances: dict[str, int | float]
    costs: dict[str, int]
    certificate: dict[str, str | float] = Field(default_factory=dict)
    provenance: dict[str, Any]
    graph: dict[str, Any]


class _BarePattern(BaseModel):
    """The least that a pattern file may contain: what a person writes by hand."""

    model_config = ConfigDict(extra="forbid")

    layers: int = Field(ge=1, le=MAX_LAYERS)
    sources: list[list[int]]


def describe_template(
    pattern: ConnectionPattern,
    budget: str,
    network: dict[str, Any],
    costs: dict[str, int],
    provenance: dict[str, Any],
) -> TemplateFile:
    """Return the template file of a pattern; see TemplateFile for the parts."""
    distances = describe(pattern)
    return TemplateFile(
        schema=SCHEMA,
        key=pattern.key,
        layers=int(distances.pop("layers")),
        sources=[list(inputs) for inputs in pattern.sources],
        budget=budget,
        network=network,
        distances=distances,
        costs=costs,
        certificate=_claim_certificate(pattern, parse_budget(budget, pattern.depth)),
        provenance=provenance,
        graph=nx.node_link_data(pattern.graph(), edges="edges"),
    )


def _claim_certificate(pattern: ConnectionPattern, budget: Budget) -> dict[str, str | float]:
    proven = certify(pattern, budget)
    return {"status": proven.status, "bound_mean_bd": proven.bound, "gap": proven.gap}


def describe_certificate(pattern: ConnectionPattern, budget: Budget) -> dict[str, Any]:
    """Return what is proven of a pattern, by the names of files and tables; None where it spends another budget.

    >>> describe_certificate(ConnectionPattern(1, ((0,),)), Budget(1, total=1))
    {'bound_mean_bd': 1.0, 'certificate': 'optimal', 'gap': 0.0}
    """
    if not budget.is_met_by(pattern):
        return {"bound_mean_bd": None, "certificate": None, "gap": None}
    claim = _claim_certificate(pattern, budget)
    return {"bound_mean_bd": claim["bound_mean_bd"], "certificate": claim["status"], "gap": claim["gap"]}


def write_template(template: TemplateFile, folder: Path) -> list[Path]:
    """Write template.json and its companions .graphml, .dot and .svg into the folder, made if missing.

    Returns:
        The four paths, the JSON first. The companions are for other programs and for people: only JSON is read back.

    Raises:
        InputError: see format_template.
        ConflictError: a file in the way differs from what is written for a template of this pattern.
    """
    check_place(folder)
    _check_companions(folder)
    contents = {"template.json": format_template(template), **format_companions(template)}
    for name, text in contents.items():
        write_atomic(folder / name, text, synced=name == "template.json")  # the companions can be made again from it
    return [folder / name for name in contents]


def _check_companions(folder: Path) -> None:
    """Check that write_template overwrites only files that it wrote."""
    path = folder / "template.json"
    check_replaceable(path)
    existing = [folder / name for name in COMPANIONS if os.path.lexists(folder / name)]
    expected = format_companions(read_claims(path)[0]) if existing and path.exists() else {}
    for path in existing:
        if path.is_symlink() or not path.is_file() or path.read_bytes() != expected.get(path.name, "").encode():
            raise ConflictError(
                f"{path} is in the way, and it was not written here: move it away, or give another --to"
            )


def format_companions(template: TemplateFile) -> dict[str, str]:
    """Return the texts of the files next to template.json by name."""
    pattern = ConnectionPattern.from_sources(template.sources, template.layers)
    graphml = io.BytesIO()
    nx.write_graphml_xml(pattern.graph(), graphml)  # write_graphml's text depends on whether lxml is installed
    return {
        "template.graphml": graphml.getvalue().decode(),
        "template.dot": format_dot(pattern),
        "template.svg": draw_arcs(pattern, title=template.provenance.get("name")),
    }


def format_template(template: TemplateFile) -> str:
    """Return the JSON text of a template file.

    Raises:
        InputError: it would be larger than what is read back.
    """
    text = format_json(template.model_dump(by_alias=True))
    n_bytes = len(text.encode())
    if n_bytes > MAX_BYTES:
        raise InputError(
            f"the template file of {sum(map(len, template.sources)):,} connections would have {n_bytes:,} bytes, and "
            f"at most {MAX_BYTES:,} are read back: export a pattern of fewer connections"
        )
    return text


def check_replaceable(path: Path) -> None:
    """Check that only a true template file is overwritten.

    Raises:
        ConflictError: something else has the path, or see check_place.
    """
    check_place(path.parent)
    if not os.path.lexists(path):
        return
    try:
        false = read_claims(path)[2]
    except InputError:
        false = {"schema": "not a template file"}
    if false or path.is_symlink():
        raise ConflictError(
            f"{path} is there, and it is no unchanged template file: move it away, or give another --to"
        )


def read_pattern(path: Path) -> ConnectionPattern:
    """Return the pattern in a template file, or in one with only `layers` and `sources`.

    Whatever else the file says of the pattern (key, graph, distances) is recomputed and must agree.

    Raises:
        InputError: the file is missing, no JSON, of no known form, contains no pattern, or contradicts itself.
    """
    file, pattern = _read_checked(path)
    if isinstance(file, TemplateFile):
        false = list(find_false_claims(file, pattern).values())
        if false:
            problems = "; ".join(false[:N_PROBLEMS_NAMED])
            raise InputError(
                f"{path} contradicts itself, so it was edited or damaged: {problems}; if its sources are right, "
                "remove all but them and layers"
            )
    return pattern


def read_claims(path: Path) -> tuple[TemplateFile, ConnectionPattern, dict[str, str]]:
    """Return a template file, its pattern, and its false claims; see find_false_claims.

    Raises:
        InputError: the file is missing, no template file, or contains no pattern.
    """
    file, pattern = _read_checked(path)
    if not isinstance(file, TemplateFile):
        raise InputError(
            f"{path} contains a pattern and claims nothing of it; `export --pattern` makes it a template file"
        )
    return file, pattern, find_false_claims(file, pattern)


def _read_checked(path: Path) -> tuple["TemplateFile | _BarePattern", ConnectionPattern]:
    raw = _read_object(path)
    model = TemplateFile if "schema" in raw else _BarePattern
    try:
        file = model.model_validate(raw, strict=True)
    except ValidationError as error:
        named = error.errors(include_url=False, include_input=False)[:N_PROBLEMS_NAMED]
        problems = [f"{'.'.join(map(str, e['loc'])) or 'file':.80}: {describe_problem(model, e)}" for e in named]
        raise InputError(f"{path} is not a template file: {'; '.join(problems)}; {HOW_TO_MAKE_ONE}") from None
    try:
        return file, ConnectionPattern.from_sources(file.sources, file.layers)
    except InputError as error:
        raise InputError(f"{path}: {error!s:.500}; {HOW_TO_MAKE_ONE}") from None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        raw = read_json(path, MAX_BYTES)
    except FileNotFoundError:
        raise InputError(f"no pattern file at {path}; `export` writes them") from None
    except InputError as error:
        raise InputError(f"{error}; {HOW_TO_MAKE_ONE}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(raw, dict):
        kind = type(raw).__name__
        raise InputError(
            f"{path} contains a JSON {kind}, expected an object with layers and sources; {HOW_TO_MAKE_ONE}"
        )
    return raw


def list_claims(file: TemplateFile) -> list[str]:
    """Return the names of all claims of a template file, by which read_claims and verify_template call false ones."""
    parts: dict[str, Mapping[str, Any]] = {
        "distances": file.distances,
        "certificate": file.certificate or {},
        "costs": file.costs,
    }
    named = [f"{part}.{name}" for part, claims in parts.items() for name in claims]
    return ["key", "graph", "budget", *named, "network"]


def find_false_claims(file: TemplateFile, pattern: ConnectionPattern) -> dict[str, str]:
    """Return by name what is wrong with claims that a file's connections do not confirm, its costs excepted."""
    return dict(_iterate_false_claims(file, pattern))


def _iterate_false_claims(file: TemplateFile, pattern: ConnectionPattern) -> Iterator[tuple[str, str]]:
    if file.key != pattern.key:
        yield "key", f"key is {file.key[:12]}..., its sources give {pattern.key[:12]}..."
    if _simplify_graph(file.graph) != _simplify_graph(nx.node_link_data(pattern.graph(), edges="edges")):
        yield "graph", "graph's nodes and edges are not those that sources gives"
    yield from _compare("distances", file.distances, dict(describe(pattern)), "networkx gives")
    try:
        budget = parse_budget(file.budget, pattern.depth)
    except ValueError as error:  # InputError, or a number of more digits than Python reads
        yield "budget", f"budget: {error!s:.500}"
        return
    if not budget.is_met_by(pattern):
        yield "budget", f"budget is {file.budget:.80}, its sources spend another"
    elif file.certificate:
        yield from _compare("certificate", file.certificate, _claim_certificate(pattern, budget), "proven is")


def _compare(
    part: str, claimed: Mapping[str, str | float], expected: Mapping[str, str | float], source: str
) -> Iterator[tuple[str, str]]:
    for name, value in claimed.items():
        if name not in expected or not _agrees(value, expected[name]):
            yield f"{part}.{name:.40}", f"{part}.{name:.40} is {value!r:.40}, {source} {expected.get(name)}"


def _agrees(value: str | float, expected: str | float) -> bool:
    if isinstance(value, str) or isinstance(expected, str):
        return value == expected
    return math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)


def _simplify_graph(data: dict[str, Any]) -> object:
    """Return the content of node-link data, whatever its order; None where it has another form."""
    try:
        nodes = sorted(node["id"] for node in data["nodes"])
        edges = sorted((edge["source"], edge["target"]) for edge in data["edges"])
        return data["directed"], data["multigraph"], nodes, edges
    except (KeyError, TypeError):
        return None


def format_dot(pattern: ConnectionPattern) -> str:
    """Return the pattern in Graphviz's language, nodes 0..L, edges in the direction of the data.

    >>> print(format_dot(ConnectionPattern(2, ((0,), (0, 1)))), end="")
    digraph pattern {
      rankdir=LR;
      0 -> 1;
      0 -> 2;
      1 -> 2;
    }
    """
    edges = "".join(f"  {source} -> {target};\n" for source, target in pattern.connections)
    return f"digraph pattern {{\n  rankdir=LR;\n{edges}}}\n"
