"""The plan of a study: what it trains and how it is judged, laid out before the first training."""

from collections.abc import Callable, Mapping
from typing import Any

from nas.model.config import TrainingConfig
from nas.records.plan import SCHEMA, VERSION, read_cell
from nas.run.directory import find_task
from nas.run.source import Assignment
from nas.settings.resume import shorten_task
from nas.settings.study import Regime, StudyConfig
from nas.workers.trainer import Material
from search_spaces.distance import backprop_distance
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.design import Design, lay_out
from search_spaces.seeds import derive_generator
from search_spaces.templates import iterate_templates


def make_plan(
    config: StudyConfig, protocol: Mapping[str, Any], check_stop: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Lay out a study: patterns, strata, order, and the protocol by which it is judged.

    A pattern is trained with every seed in every stratum of its depth. The trainings of one seed are shuffled and come
    before those of the next, so that an interrupted run is balanced; the checks come last.

    Args:
        protocol: hypotheses and tests, as plain values.
        check_stop: see lay_out.

    Returns:
        Plain values, the same for the same settings unless a time limit ended the search for an optimum.

    Raises:
        InputError: see lay_out.
    """
    designs = [_lay_out_depth(config, depth, check_stop) for depth in config.depths]
    patterns = [pattern for design in designs for pattern in _list_patterns(design)]
    strata = [_describe_stratum(depth, config, regime) for depth in config.depths for regime in config.regimes()]
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "protocol": dict(protocol),
        "settings": describe_settings(config),
        "strata": strata,
        "cells": [_describe_cells(design) for design in designs],
        "patterns": patterns,
        "order": _order(config, strata, patterns),
    }


def describe_settings(config: StudyConfig) -> dict[str, Any]:
    """Return the settings that a plan depends on: all except where and how often it is trained."""
    left_out = {*config.changeable, "device", "data"}
    return shorten_task({name: value for name, value in config.identify().items() if name not in left_out})


def _lay_out_depth(config: StudyConfig, depth: int, check_stop: Callable[[], None]) -> Design:
    budget = config.budget_at(depth)
    named = list(iterate_templates(budget)) if config.templates else []
    return lay_out(budget, config.layout(depth), named, check_stop)


def _list_patterns(design: Design) -> list[dict[str, Any]]:
    return [
        {
            "layers": design.budget.depth,
            "key": member.pattern.key,
            "strategy": member.strategy,
            "template": member.template,
            "cell": None if member.cell is None else list(member.cell),
            "matched": member.matched,
            "sources": [list(inputs) for inputs in member.pattern.sources],
        }
        for member in design.members
    ]


def _describe_stratum(depth: int, config: StudyConfig, regime: Regime) -> dict[str, Any]:
    return {
        "layers": depth,
        "budget": str(config.budget_at(depth)),
        "regime": regime.name,
        "checks": regime.checks,
        "training": describe_training(regime.training),
        **({"tuned": True} if config.tune_lr is not None and regime.checks is None else {}),
    }


def describe_training(training: TrainingConfig) -> dict[str, Any]:
    """Return a training's settings as a plan records them, without unset ones, which older plans do not have."""
    return training.model_dump(mode="json", exclude_none=True)


def _describe_cells(design: Design) -> dict[str, Any]:
    return {
        "layers": design.budget.depth,
        "measures": list(design.measures),
        "bins": [[list(band) for band in bins] for bins in design.bins],
        "lacking": [{"cell": list(lack.cell), "n": lack.n} for lack in design.lacking],
    }


def _order(config: StudyConfig, strata: list[dict[str, Any]], patterns: list[dict[str, Any]]) -> list[list[int]]:
    """Return the trainings in order, each as [place in strata, place in patterns, seed]."""
    order: list[list[int]] = []
    for is_check in (False, True):
        pairs = [
            (place, number)
            for place, stratum in enumerate(strata)
            if (stratum["checks"] is not None) == is_check
            for number in _members_of(config, stratum, patterns)
        ]
        for seed in range(config.seeds):
            shuffled = derive_generator(config.seed, "order", str(is_check), seed).permutation(len(pairs))
            order += [[*pairs[place], seed] for place in shuffled.tolist()]
    return order


def _members_of(config: StudyConfig, stratum: dict[str, Any], patterns: list[dict[str, Any]]) -> list[int]:
    """Return the places of a stratum's patterns: all of its depth, or for a check some, evenly spread over mean BD."""
    places = [place for place, pattern in enumerate(patterns) if pattern["layers"] == stratum["layers"]]
    if stratum["checks"] is None or len(places) <= config.check_patterns:
        return places
    places.sort(key=lambda place: backprop_distance(_pattern(patterns[place])).mean)
    step = (len(places) - 1) / (config.check_patterns - 1)
    return [places[round(k * step)] for k in range(config.check_patterns)]


def _pattern(described: Mapping[str, Any]) -> ConnectionPattern:
    return ConnectionPattern.from_sources(described["sources"], described["layers"])


def list_assignments(plan: Mapping[str, Any], config: StudyConfig, data: Material) -> list[Assignment]:
    """Return a plan's trainings in order."""
    task = find_task(config, data)
    patterns = [_pattern(described) for described in plan["patterns"]]
    budgets = {depth: config.budget_at(depth) for depth in config.depths}
    trainings = [TrainingConfig(**stratum["training"]) for stratum in plan["strata"]]
    names = [name_stratum(stratum) for stratum in plan["strata"]]
    assignments = []
    for place, number, seed in plan["order"]:
        stratum, described, depth = plan["strata"][place], plan["patterns"][number], patterns[number].depth
        candidate = task.candidate(patterns[number], seed, described["template"], trainings[place])
        details = {"cell": read_cell(described), "matched": described["matched"], "regime": stratum["regime"]}
        strata = (names[place], *names[:place], *names[place + 1 :]) if len(names) > 1 else ()
        assignments.append(Assignment(candidate, described["strategy"], budgets[depth], details, strata))
    return assignments


def name_stratum(stratum: Mapping[str, Any]) -> str:
    """Return the name of a stratum of a plan.

    >>> name_stratum({"layers": 24, "regime": "high-lr"})
    '24 layers, high-lr'
    """
    return f"{stratum['layers']} layers, {stratum['regime']}"
