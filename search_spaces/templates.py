"""Templates: the named rules, each with its source, and the names that stand for patterns on the command line."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from search_spaces import rules
from search_spaces.budget import Budget, log_budget, log_in_degree
from search_spaces.errors import InputError
from search_spaces.families import FAMILIES, fit_family
from search_spaces.pattern import ConnectionPattern
from search_spaces.plugins import Origin, Plugins, load_plugins, warn_once
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator


@dataclass(frozen=True, slots=True)
class Template:
    """A named rule that gives a pattern for every depth."""

    name: str  # on the command line
    origin: str  # where the rule comes from
    pattern_at: Callable[[int], ConnectionPattern]  # by depth
    inputs_after: Callable[[int], tuple[int, ...]]  # by depth, what layer depth + 1 would read; policy `rule` reads it
    max_depth: int | None = None  # largest depth it exists for
    fit: Callable[[Budget], ConnectionPattern] | None = None  # by budget, where it fits any; pattern_at is at log

    def build(self, depth: int) -> ConnectionPattern:
        """Build the template's pattern over `depth` layers.

        Raises:
            InputError: it does not exist for that depth.
        """
        if self.max_depth is not None and depth > self.max_depth:
            raise InputError(f"template {self.name} exists up to {self.max_depth} layers, not for {depth}")
        return self.pattern_at(depth)


def _by_layer(name: str, origin: str, rule: rules.LayerRule) -> Template:
    def inputs(layer: int, depth: int) -> tuple[int, ...]:
        return tuple(sorted({layer - 1, *(source for source in rule(layer, depth) if source >= 0)}))

    def pattern_at(depth: int) -> ConnectionPattern:
        return ConnectionPattern.from_sources((inputs(layer, depth) for layer in range(1, depth + 1)), depth)

    return Template(name, origin, pattern_at, inputs_after=lambda depth: inputs(depth + 1, depth))


def _by_block(
    name: str, origin: str, rule: Callable[[int], ConnectionPattern], max_depth: int | None = None
) -> Template:
    return Template(name, origin, rule, lambda depth: rule(depth + 1).sources[-1], max_depth)


def _greedy(depth: int) -> ConnectionPattern:
    from search_spaces.sampling.optimal import row_greedy  # numba: 0.5 s

    return row_greedy(log_budget(depth))


def _annealed(depth: int) -> ConnectionPattern:
    from search_spaces.sampling.optimal import anneal_template  # numba: 0.5 s

    return anneal_template(depth)


def _shortest_walk(budget: Budget) -> ConnectionPattern:
    from search_spaces.sampling.optimal import shortest_walk  # numba: 0.5 s

    return shortest_walk(budget)


def _by_budget(name: str, origin: str, fit: Callable[[Budget], ConnectionPattern], max_depth: int) -> Template:
    at_log = _by_block(name, origin, lambda depth: fit(log_budget(depth)), max_depth)
    return replace(at_log, fit=fit)


LOG_DENSENET = "Log-DenseNet, arXiv:1711.00002"
LOG_DENSENET_CODE = "Log-DenseNet authors' code, arXiv:1711.00002"
DENSENET_INTERVIEW = "DenseNet authors' interview"
DENSEFORMER = "DenseFormer, arXiv:2402.02622"

TEMPLATES = {
    template.name: template
    for template in (
        _by_layer("chain", "plain network", rules.chain),
        _by_layer("dense", "DenseNet, arXiv:1608.06993", rules.dense),
        _by_layer("log", LOG_DENSENET + " (V1); SparseNet, arXiv:1801.05895", rules.log),
        _by_layer("nearest_log_i", LOG_DENSENET, lambda i, depth: rules.nearest(i, log_in_degree(i))),
        _by_layer("nearest_log_L", LOG_DENSENET_CODE, lambda i, depth: rules.nearest(i, log_in_degree(depth + 1))),
        _by_layer("nearest_4", DENSENET_INTERVIEW, lambda i, depth: rules.nearest(i, 4)),
        _by_layer("nearest_half", LOG_DENSENET_CODE, lambda i, depth: rules.nearest(i, (i + 1) // 2)),
        _by_layer("evenly_log_i", LOG_DENSENET, lambda i, depth: rules.evenly(i, log_in_degree(i))),
        _by_layer("evenly_log_L", LOG_DENSENET_CODE, lambda i, depth: rules.evenly(i, log_in_degree(depth + 1))),
        _by_layer("odd_even", DENSENET_INTERVIEW, rules.odd_even),
        _by_layer("half_and_log", LOG_DENSENET_CODE, rules.half_and_log),
        _by_layer("mini_dense", LOG_DENSENET_CODE, rules.mini_dense),
        _by_block("loglog", LOG_DENSENET, rules.loglog),
        _by_layer("harmonic", "HarDNet, arXiv:1909.00948", rules.harmonic),
        _by_block("midpoint", "2-transitive-closure spanner of a line, SICOMP 41(6), 2012", rules.midpoint),
        _by_block("greedy", "ours, at budget log: optimal.row_greedy", _greedy, rules.MAX_SEARCHED_DEPTH),
        _by_block("annealed", "ours, at budget log: optimal.anneal_template", _annealed, rules.MAX_SEARCHED_DEPTH),
        _by_budget(
            "shortest_walk", "ours, at any budget: optimal.shortest_walk", _shortest_walk, rules.MAX_SEARCHED_DEPTH
        ),
    )
}

PARAMETRIC = ("log:b=B,c=C", "denseformer:k=K,p=P")  # forms of the names with parameters


def list_templates(depth: int) -> list[str]:
    """Return the names of our templates that exist for that depth."""
    return [name for name, template in TEMPLATES.items() if template.max_depth is None or depth <= template.max_depth]


def list_brought_templates(depth: int) -> list[str]:
    """Return the names of the templates of other packages that exist for that depth; others are warned of."""
    plugins = load_templates()
    plugins.warn_of_problems()
    names = []
    for name, template in plugins.objects.items():
        try:
            template.build(depth)
        except InputError as error:
            warn_once(f"{error}: it is left out")
            continue
        names.append(name)
    return names


def load_templates() -> Plugins:
    """Load the templates of other packages, without a warning of those that cannot be used."""
    return load_plugins("templates", frozenset({*TEMPLATES, *FAMILIES, "random"}), make_template)


def make_template(name: str, loaded: Any, origin: Origin) -> Template:
    """Return the template of an entry point, whose errors name its package.

    Args:
        name: name of the entry point.
        loaded: a Template of that name, or a function of a depth that returns a pattern of so many layers.
        origin: package that brings it.

    Raises:
        InputError: it is neither, or has another name.
    """
    about = f"template {name!r} of {origin}"
    if not isinstance(loaded, Template):
        if not callable(loaded):
            raise InputError(f"it is {loaded!r:.80}, no Template and no function; repair the package")
        return _by_block(name, str(origin), _guard(loaded, lambda depth: depth, about))
    if loaded.name != name:
        raise InputError(f"it is called {loaded.name!r}; give the entry point and the template one name")
    fit = None if loaded.fit is None else _guard(loaded.fit, lambda budget: budget.depth, about)
    return replace(loaded, pattern_at=_guard(loaded.pattern_at, lambda depth: depth, about), fit=fit)


def _guard(
    rule: Callable[[Any], ConnectionPattern], find_depth: Callable[[Any], int], about: str
) -> Callable[[Any], ConnectionPattern]:
    """Return another package's rule with errors that name the package; it may give a pattern of the depth only."""

    def build(given: Any) -> ConnectionPattern:
        depth = find_depth(given)
        try:
            pattern = rule(given)
        except Exception as error:
            failed = f"{about} failed at {depth} layers: {type(error).__name__}: {error}"
            raise InputError(f"{failed}; repair the package, or uninstall it") from error
        if not isinstance(pattern, ConnectionPattern) or pattern.depth != depth:
            what = f"a pattern of {pattern.depth} layers" if isinstance(pattern, ConnectionPattern) else repr(pattern)
            raise InputError(f"{about} gave {what:.80} at {depth} layers: repair the package, or uninstall it")
        return pattern

    return build


def find_template(name: str) -> Template:
    """Return the template of a name; `log:b=B,c=C` is the authors' log rule with base B and coefficient C.

    `denseformer:k=K,p=P` is DenseFormer's rule with dilation K and period P.

    Raises:
        InputError: there is no such template, or a parameter is out of range.

    >>> find_template("log:b=2,c=1").build(24) == find_template("log").build(24)
    True
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    if name.startswith("log:"):
        base, coefficient = _parse_log(name)
        return _by_layer(name, LOG_DENSENET_CODE, rules.log_base(base, coefficient))
    if name.startswith("denseformer:"):
        return _by_layer(name, DENSEFORMER, rules.denseformer(*_parse_denseformer(name)))
    plugins = load_templates()
    brought: Template | None = plugins.find(name)
    if brought is not None:
        return brought
    known = ", ".join((*TEMPLATES, *plugins.objects, *PARAMETRIC))
    raise InputError(
        f"no template is named {name!r}; there are {known} and, where a budget is "
        "known, random:SEED, nearest, evenly and geometric"
    )


def name_rule(name: str) -> str | None:
    """Return the rule of ours that a template's name begins with, without its parameters; None if there is none.

    >>> name_rule("log:b=3"), name_rule("midpoint"), name_rule("random:7")
    ('log', 'midpoint', None)
    """
    rule, colon, _ = name.partition(":")
    known = {form.partition(":")[0] for form in PARAMETRIC} if colon else TEMPLATES
    return rule if rule in known else None


def read_parameters(text: str) -> dict[str, str] | None:
    """Return what a name has after its colon, `a=A,b=B`, by name; None where it is not of this form.

    >>> read_parameters("k=4, p=5"), read_parameters("k=4,k=5"), read_parameters("4")
    ({'k': '4', 'p': '5'}, None, None)
    """
    parts = text.replace(" ", "").split(",")
    matches = [re.fullmatch(r"([a-z_]+)=([^=]+)", part) for part in parts]
    values = {match[1]: match[2] for match in matches if match}
    return values if len(values) == len(parts) else None


def _parse_log(name: str) -> tuple[Fraction, Fraction]:
    given = read_parameters(name.removeprefix("log:")) or {}
    is_known = {*given} <= {"b", "c"} and all(
        re.fullmatch(r"\d{1,4}(?:\.\d{1,6}|/\d{1,4})?", text) for text in given.values()
    )
    try:
        values = {letter: Fraction(text) for letter, text in given.items()} if is_known else {}
    except ZeroDivisionError:
        values = {}
    base, coefficient = (values.get(letter, default) for letter, default in (("b", Fraction(2)), ("c", Fraction(1))))
    if not values or base < Fraction(101, 100) or coefficient <= 0:
        raise InputError(
            f"template {name!r}: expected b=B and c=C once each, as in log:b=2,c=1, B of at least 1.01 and C above 0, "
            "decimals or fractions of at most four digits before the point"
        )
    return base, coefficient


def _parse_denseformer(name: str) -> tuple[int, int]:
    """Return dilation and period, 1 each where they are not given."""
    given = read_parameters(name.removeprefix("denseformer:")) or {}
    is_known = given and all(letter in "kp" and re.fullmatch(r"\d{1,4}", text) for letter, text in given.items())
    values = {letter: int(text) for letter, text in given.items()} if is_known else {}
    if not values or 0 in values.values():
        raise InputError(
            f"template {name!r}: expected dilation k=K and period p=P once each, as in denseformer:k=4,p=5, whole "
            "numbers from 1 to 9999"
        )
    return values.get("k", 1), values.get("p", 1)


def build_named(name: str, budget: Budget) -> ConnectionPattern:
    """Build the pattern that a name on the command line stands for, at the budget's depth.

    Args:
        name: name of a template or a family, or `random:SEED` for a uniform draw; a template may not spend the budget.
        budget: what a family is fitted to and a draw spends.

    Raises:
        InputError: nothing has that name.

    >>> build_named("random:7", Budget(6, total=10)).n_connections
    10
    """
    if name in FAMILIES:
        return fit_family(name, budget)
    if not name.startswith("random:"):
        return _build_at(find_template(name), budget)
    try:
        seed = int(name.removeprefix("random:"))
    except ValueError:
        raise InputError(f"template {name!r}: the seed is a whole number, as in random:7") from None
    return sample_uniform(budget, derive_generator(seed, "random template"))


def _build_at(template: Template, budget: Budget) -> ConnectionPattern:
    pattern = template.build(budget.depth)
    return pattern if template.fit is None else template.fit(budget)


def is_template_name(text: str) -> bool:
    """Return whether a text has the form of a template's name, and no file is there.

    >>> is_template_name("log:b=3,c=1"), is_template_name("mine.json")
    (True, False)
    """
    return re.fullmatch(r"[a-zA-Z]\w*(:[\w=,./]+)?", text) is not None and not Path(text).exists()


def iterate_templates(budget: Budget) -> Iterator[tuple[str, ConnectionPattern]]:
    """Yield the templates that spend exactly this budget; where two give one pattern, only the first.

    >>> [name for name, _ in iterate_templates(Budget(24, total=94))]
    ['log', 'nearest_log_i', 'evenly_log_i', 'greedy', 'annealed', 'shortest_walk']
    """
    seen = set()
    for name in list_templates(budget.depth):
        pattern = _build_at(TEMPLATES[name], budget)
        if budget.is_met_by(pattern) and pattern.key not in seen:
            seen.add(pattern.key)
            yield name, pattern
