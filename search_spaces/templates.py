"""The named rules, each with its source."""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

Sources = tuple[tuple[int, ...], ...]
LayerRule = Callable[[int, int], Iterable[int]]  # (layer, depth) -> candidate sources, those below 0 dropped


@dataclass(frozen=True, slots=True)
class Template:
    """A named rule that gives a pattern for every depth.

    Args:
        name: as on the command line.
        origin: where the rule comes from.
        sources_at: depth -> the inputs of layers 1..depth.
        inputs_after: depth -> what layer depth + 1 would read; the transition policy `rule` reads it.
        max_depth: the deepest it exists for, None for no limit.
    """

    name: str
    origin: str
    sources_at: Callable[[int], Sources]
    inputs_after: Callable[[int], tuple[int, ...]]
    max_depth: int | None = None

    def build(self, depth: int) -> ConnectionPattern:
        """The template's pattern over `depth` layers.

        Raises:
            InputError: it does not exist for that depth.
        """
        if self.max_depth is not None and depth > self.max_depth:
            raise InputError(f"template {self.name} exists up to {self.max_depth} layers, not for {depth}")
        return ConnectionPattern(depth, self.sources_at(depth))


# --- the number of inputs of a layer -----------------------------------------------------------------------------


def log_in_degree(layer: int) -> int:
    """floor(log2 layer) + 1: how many sources i - 2^k >= 0 a layer i has.

    >>> [log_in_degree(i) for i in (1, 2, 3, 4, 8)]
    [1, 2, 2, 3, 4]
    """
    return layer.bit_length()


def _log_depth(layer: int, depth: int) -> int:
    """floor(log2(L + 1)) + 1 inputs for every layer: what the Log-DenseNet authors' code runs."""
    return (depth + 1).bit_length()


# --- rules that decide layer by layer ----------------------------------------------------------------------------


def _dense(layer: int, depth: int) -> Iterable[int]:
    return range(layer)


def _chain(layer: int, depth: int) -> Iterable[int]:
    return (layer - 1,)


def _log(layer: int, depth: int) -> Iterable[int]:
    return (layer - 2**k for k in range(layer.bit_length()))


def _nearest(n_inputs: Callable[[int, int], int]) -> LayerRule:
    return lambda layer, depth: range(layer - n_inputs(layer, depth), layer)


def _evenly(n_inputs: Callable[[int, int], int]) -> LayerRule:
    def rule(layer: int, depth: int) -> Iterable[int]:
        m = n_inputs(layer, depth)
        return (layer - 1 - (k * layer) // m for k in range(m))

    return rule


def _odd_even(layer: int, depth: int) -> Iterable[int]:
    return range(layer - 1, -1, -2)


def _half(layer: int, depth: int) -> int:
    return (layer - 1) // 2 + 1


def _half_and_log(layer: int, depth: int) -> Iterable[int]:
    start = layer - _half(layer, depth)
    sources = list(range(start, layer))
    while start > 0:
        start = (start - 1) // 2
        sources.append(start)
    return sources


def _harmonic(layer: int, depth: int) -> Iterable[int]:
    return (layer - 2**k for k in range(layer.bit_length()) if layer % 2**k == 0)


def _log_base(base: Fraction, coefficient: Fraction) -> LayerRule:
    def rule(layer: int, depth: int) -> Iterable[int]:
        power = Fraction(1)
        # max: layer L+1, which a transition stands for, is read as in a block that holds it.
        while power <= max(depth, layer) * coefficient:
            yield layer - 1 - math.floor((power - 1) / coefficient)
            power *= base

    return rule


# --- rules that decide for the whole block -----------------------------------------------------------------------


def _midpoint(depth: int) -> Sources:
    """Minimal connections at maximum distance 2: all below a middle hub feed it, all above read it; recurse."""
    sources: list[set[int]] = [set() for _ in range(depth + 1)]

    def connect(first: int, last: int) -> None:
        if first >= last:
            return
        hub = (first + last) // 2
        for layer in range(hub + 1, last + 1):
            sources[layer].add(hub)
        sources[hub].update(range(first, hub))
        connect(first, hub - 1)
        connect(hub + 1, last)

    connect(0, depth)
    return _as_sources(sources)


def _loglog(depth: int) -> Sources:
    return _as_sources(_connect_keys(depth, ()))


def _connect_keys(depth: int, more_keys: Iterable[int]) -> list[set[int]]:
    """Key layers every floor(sqrt(length)) layers read all earlier keys; recurse between neighbouring keys.

    Args:
        more_keys: layers that are keys of the whole, beside the usual ones.

    Returns:
        Inputs by layer; those of 0 mean nothing.
    """
    sources: list[set[int]] = [{layer - 1} for layer in range(depth + 1)]

    def connect(first: int, last: int, more_keys: Iterable[int] = ()) -> None:
        length = last - first + 1
        if length <= 2:
            return
        keys = sorted({first, *range(last, first - 1, -math.isqrt(length)), *more_keys})
        for n_earlier, layer in enumerate(keys):
            sources[layer].update(keys[:n_earlier])
        for key, next_key in itertools.pairwise(keys):
            for layer in range(key + 1, next_key):
                sources[layer].add(key)
            connect(key, next_key)

    connect(0, depth, more_keys)
    return sources


MIN_LOGLOG_INPUTS = 4  # as wide as a bottleneck is


def loglog_across(depths: Sequence[int]) -> ConnectionPattern:
    """LogLog-DenseNet's pattern over several blocks (arXiv:1711.00002, and its authors' code).

    The rule `loglog` over the layers of all blocks, with each block's last layer a key. A layer of fewer than
    MIN_LOGLOG_INPUTS inputs also reads the layers 1, 2, 4, 8, ... before it, nearest first, then the nearest others,
    until it has so many; the authors' code stops at the former, which layers 4 to 7 may run out of.

    Args:
        depths: layers of each block.

    >>> [len(inputs) for inputs in loglog_across((4, 4)).sources]
    [1, 2, 3, 4, 4, 4, 4, 6]
    """
    depth = sum(depths)
    sources = _connect_keys(depth, itertools.accumulate(depths))
    for layer, inputs in enumerate(sources):
        powers = [layer - 2**k for k in range(layer.bit_length())]
        for source in (*powers, *range(layer - 1, -1, -1)):
            if len(inputs) < MIN_LOGLOG_INPUTS:
                inputs.add(source)
    return ConnectionPattern(depth, _as_sources(sources))


def _greedy(depth: int) -> Sources:
    from search_spaces.budget import log_budget  # both import this module
    from search_spaces.optimal import row_greedy

    return row_greedy(log_budget(depth)).sources


def _annealed(depth: int) -> Sources:
    from search_spaces.optimal import anneal_template

    return anneal_template(depth).sources


def _as_sources(sets: list[set[int]]) -> Sources:
    return tuple(tuple(sorted(inputs)) for inputs in sets[1:])


# --- the registry ------------------------------------------------------------------------------------------------

MAX_SEARCHED_DEPTH = 256  # of templates that are searched for: under a second at 52 layers, some seconds there
LOG_DENSENET = "Log-DenseNet, arXiv:1711.00002"
LOG_DENSENET_CODE = "Log-DenseNet authors' code, arXiv:1711.00002"
DENSENET_INTERVIEW = "DenseNet authors' interview"


def _by_layer(name: str, origin: str, rule: LayerRule) -> Template:
    def inputs(layer: int, depth: int) -> tuple[int, ...]:
        return tuple(sorted({layer - 1, *(source for source in rule(layer, depth) if source >= 0)}))

    return Template(
        name,
        origin,
        sources_at=lambda depth: tuple(inputs(layer, depth) for layer in range(1, depth + 1)),
        inputs_after=lambda depth: inputs(depth + 1, depth),
    )


def _by_block(name: str, origin: str, rule: Callable[[int], Sources], max_depth: int | None = None) -> Template:
    return Template(name, origin, rule, inputs_after=lambda depth: rule(depth + 1)[-1], max_depth=max_depth)


TEMPLATES = {
    template.name: template
    for template in (
        _by_layer("chain", "plain network", _chain),
        _by_layer("dense", "DenseNet, arXiv:1608.06993", _dense),
        _by_layer("log", LOG_DENSENET + " (V1); SparseNet, arXiv:1801.05895", _log),
        _by_layer("nearest_log_i", LOG_DENSENET, _nearest(lambda layer, depth: log_in_degree(layer))),
        _by_layer("nearest_log_L", LOG_DENSENET_CODE, _nearest(_log_depth)),
        _by_layer("nearest_4", DENSENET_INTERVIEW, _nearest(lambda layer, depth: 4)),
        _by_layer("nearest_half", LOG_DENSENET_CODE, _nearest(_half)),
        _by_layer("evenly_log_i", LOG_DENSENET, _evenly(lambda layer, depth: log_in_degree(layer))),
        _by_layer("evenly_log_L", LOG_DENSENET_CODE, _evenly(_log_depth)),
        _by_layer("odd_even", DENSENET_INTERVIEW, _odd_even),
        _by_layer("half_and_log", LOG_DENSENET_CODE, _half_and_log),
        _by_block("loglog", LOG_DENSENET, _loglog),
        _by_layer("harmonic", "HarDNet, arXiv:1909.00948", _harmonic),
        _by_block("midpoint", "2-transitive-closure spanner of a line, SICOMP 41(6), 2012", _midpoint),
        _by_block("greedy", "ours, at budget log: optimal.row_greedy", _greedy, MAX_SEARCHED_DEPTH),
        _by_block("annealed", "ours, at budget log: optimal.anneal_template", _annealed, MAX_SEARCHED_DEPTH),
    )
}


def list_templates(depth: int) -> list[str]:
    """Names of the templates that exist for that depth."""
    return [name for name, template in TEMPLATES.items() if template.max_depth is None or depth <= template.max_depth]


def find_template(name: str) -> Template:
    """The template of that name; `log:b=B,c=C` gives the authors' log rule with base B and coefficient C.

    Raises:
        InputError: no such template, or B or C out of range.

    >>> find_template("log:b=2,c=1").build(24) == find_template("log").build(24)
    True
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name.startswith("log:"):
        base, coefficient = _parse_log(name)
        return _by_layer(name, LOG_DENSENET_CODE, _log_base(base, coefficient))
    raise InputError(
        f"no template is named {name!r}; there are {', '.join(TEMPLATES)}, log:b=B,c=C and, where a budget is known, "
        "random:SEED, nearest, evenly and geometric"
    )


def _parse_log(name: str) -> tuple[Fraction, Fraction]:
    parts = name.removeprefix("log:").replace(" ", "").split(",")
    found = [re.fullmatch(r"([bc])=(\d{1,4}(?:\.\d{1,6}|/\d{1,4})?)", part) for part in parts]
    try:
        values = {match[1]: Fraction(match[2]) for match in found if match}
    except ZeroDivisionError:
        values = {}
    base, coefficient = (values.get(letter, default) for letter, default in (("b", Fraction(2)), ("c", Fraction(1))))
    if len(values) < len(parts) or base < Fraction(101, 100) or coefficient <= 0:
        raise InputError(
            f"template {name!r}: expected b=B and c=C once each, as in log:b=2,c=1, B of at least 1.01 and C above 0, "
            "decimals or fractions of at most four digits before the point"
        )
    return base, coefficient
