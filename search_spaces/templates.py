"""The named rules, each with its source."""

import re
from collections.abc import Iterator
from fractions import Fraction

from search_spaces.budget import Budget, log_in_degree
from search_spaces.errors import InputError
from search_spaces.families import FAMILIES, fit_family
from search_spaces.pattern import ConnectionPattern
from search_spaces.rules import (
    MAX_SEARCHED_DEPTH,
    Sources,
    Template,
    _by_block,
    _by_layer,
    _chain,
    _dense,
    _evenly,
    _half,
    _half_and_log,
    _harmonic,
    _log,
    _log_base,
    _log_depth,
    _loglog,
    _nearest,
    _odd_even,
    midpoint,
)
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

# --- the number of inputs of a layer -----------------------------------------------------------------------------


# --- rules that decide layer by layer ----------------------------------------------------------------------------


# --- rules that decide for the whole block -----------------------------------------------------------------------


def _greedy(depth: int) -> Sources:
    from search_spaces.budget import log_budget  # both import this module
    from search_spaces.sampling.optimal import row_greedy

    return row_greedy(log_budget(depth)).sources


def _annealed(depth: int) -> Sources:
    from search_spaces.sampling.optimal import anneal_template

    return anneal_template(depth).sources


# --- the registry ------------------------------------------------------------------------------------------------

LOG_DENSENET = "Log-DenseNet, arXiv:1711.00002"
LOG_DENSENET_CODE = "Log-DenseNet authors' code, arXiv:1711.00002"
DENSENET_INTERVIEW = "DenseNet authors' interview"


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
        _by_block("midpoint", "2-transitive-closure spanner of a line, SICOMP 41(6), 2012", midpoint),
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


def build_named(name: str, budget: Budget) -> ConnectionPattern:
    """The pattern that a name on the command line stands for, at the budget's depth.

    Args:
        name: a template's, a family's, or `random:SEED` for a uniform draw; only the latter two spend the budget.
        budget: of the draw, and what a family is fitted to.

    Raises:
        InputError: there is nothing of that name.

    >>> build_named("random:7", Budget(6, total=10)).n_connections
    10
    """
    if name in FAMILIES:
        return fit_family(name, budget)
    if not name.startswith("random:"):
        return find_template(name).build(budget.depth)
    try:
        seed = int(name.removeprefix("random:"))
    except ValueError:
        raise InputError(f"template {name!r}: the seed is a whole number, as in random:7") from None
    return sample_uniform(budget, derive_generator(seed, "random template"))


def iterate_templates(budget: Budget) -> Iterator[tuple[str, ConnectionPattern]]:
    """The named templates that spend exactly this budget; of two that give one pattern, the first name.

    >>> [name for name, _ in iterate_templates(Budget(24, total=94))]
    ['log', 'nearest_log_i', 'evenly_log_i', 'greedy', 'annealed']
    """
    seen = set()
    for name in list_templates(budget.depth):
        pattern = TEMPLATES[name].build(budget.depth)
        if budget.is_met_by(pattern) and pattern.key not in seen:
            seen.add(pattern.key)
            yield name, pattern
