"""The rules by which a declared measure is judged, in their order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.data.protocol import ALPHA, MIN_PATTERNS, UNDERTRAINED
from analysis.stats.correlations import adjust_holm
from analysis.stats.guessing import Learning
from analysis.verdict.controls import ControlledEffect, Resampled, measure_effects
from analysis.verdict.noise import Resolution, measure_resolution
from analysis.verdict.pooled import Pooled, PooledEffect, pool_effects
from analysis.verdict.sample import Sample
from analysis.verdict.shape import Shape, measure_shape


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one stratum says of one declared measure.

    Args:
        measure: column of the measure.
        status: one of protocol.STATUSES.
        outcome: outcome that it is judged by; None without any.
        n_patterns, n_seeds: patterns in the sample, and seeds that any of them was trained at.
        resolution: whether the seeds tell patterns apart; None with one seed, or where outcomes do not vary.
        effects: one for each control; empty below MIN_PATTERNS.
        shape: the slopes on both sides of a turning point; None where there is no such point.
    """

    measure: str
    status: str
    outcome: str | None
    n_patterns: int
    n_seeds: int
    resolution: Resolution | None
    effects: tuple[ControlledEffect, ...]
    shape: Shape | None

    def find(self, *given: str) -> ControlledEffect | None:
        """Return the effect with these measures held, or None."""
        return next((effect for effect in self.effects if effect.given == given), None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the judgements of one stratum rest on, before p-values are adjusted over all strata.

    Args:
        judgements: one a declared measure, without a status.
        resampled: the effects with their resamples, by measure.
        learning: accuracy next to that of guessing; None where it is not known.
        lower_is_better: whether a lower outcome is the better one.
    """

    judgements: tuple[Judgement, ...]
    resampled: Mapping[str, Resampled]
    learning: Learning | None
    lower_is_better: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """The judgements of all strata together.

    Args:
        strata: by name, the judgements of a stratum, one a declared measure.
        pooled: one a declared measure; empty where fewer than two strata can be pooled.
        n_tests: number of declared tests that Holm's adjustment is over.
    """

    strata: Mapping[str, tuple[Judgement, ...]]
    pooled: tuple[Pooled, ...]
    n_tests: int


def gather_evidence(
    sample: Sample | None, measures: Sequence[str], learning: Learning | None, generator: np.random.Generator
) -> Evidence:
    """Compute all that judging one stratum takes, which does not depend on other strata.

    Args:
        sample: None where no sampled pattern has an outcome.
        measures: the declared measures.
        generator: for the permutations.
    """
    if sample is None:
        nothing = tuple(Judgement(measure, "", None, 0, 0, None, (), None) for measure in measures)
        return Evidence(nothing, {}, learning, lower_is_better=True)
    n_patterns, n_seeds = sample.values.shape
    usable = [name for name in measures if name in sample.columns] if n_patterns >= MIN_PATTERNS else []
    resampled = {each.measure: each for each in measure_effects(sample, usable, generator)}
    resolution = measure_resolution(sample.values)
    judgements = tuple(
        Judgement(
            measure=measure,
            status="",
            outcome=sample.outcome,
            n_patterns=n_patterns,
            n_seeds=n_seeds,
            resolution=resolution,
            effects=resampled[measure].effects if measure in resampled else (),
            shape=measure_shape(sample, measure) if measure in resampled else None,
        )
        for measure in measures
    )
    return Evidence(judgements, resampled, learning, sample.lower_is_better)


def judge_strata(strata: Mapping[str, Evidence]) -> Judged:
    """Adjust all declared tests of all strata together, by Holm, and judge each measure everywhere and pooled.

    A test that is not defined counts as one with p = 1, for the family was declared before.
    """
    measures = [each.measure for each in next(iter(strata.values())).judgements] if strata else []
    pooled = [each for measure in measures if (each := _pool(measure, strata)) is not None]
    p_values: list[float | None] = []
    for judgement in (judgement for evidence in strata.values() for judgement in evidence.judgements):
        p_values += [effect.partial.p_value for effect in judgement.effects]
        p_values.append(None if judgement.shape is None else judgement.shape.p_value)
    p_values += [own.p_value for each in pooled for own in each.effects]
    adjusted = iter(adjust_holm([1.0 if p_value is None else p_value for p_value in p_values]))
    judged = {
        name: tuple(_adjust(each, evidence, adjusted) for each in evidence.judgements)
        for name, evidence in strata.items()
    }
    pooled = [
        replace(each, effects=tuple(replace(effect, p_holm=next(adjusted)) for effect in each.effects))
        for each in pooled
    ]
    return Judged(judged, tuple(_judge_pooled(each, strata, judged) for each in pooled), len(p_values))


def judge(judgement: Judgement, learning: Learning | None, lower_is_better: bool) -> str:
    """Return the status of a measure in one stratum: the first rule of protocol.RULES that holds.

    Args:
        judgement: adjusted tests, with any status.
        learning: accuracy next to that of guessing; None where it is not known, and the first rule not asked.
        lower_is_better: whether a lower outcome is the better one.
    """
    if learning is not None and not learning.is_better:
        return "not_trained"
    if not judgement.effects:
        return "inconclusive"
    if judgement.resolution is not None and judgement.resolution.p_value > ALPHA:
        return "unresolved"
    if judgement.shape is not None and judgement.shape.is_u:
        return "u_shaped"
    is_detected = any(effect.is_detected for effect in judgement.effects)
    if not is_detected and any(effect.has_nothing_left for effect in judgement.effects):
        return "nothing_left"
    return _weigh(judgement.effects, lower_is_better)


def is_undertrained(rate: float, best_rate: float) -> bool:
    """Return whether a learning rate is so far from the best one that its networks are undertrained.

    >>> is_undertrained(0.05, 0.28), is_undertrained(0.1, 0.28)
    (True, False)
    """
    return max(rate, best_rate) > UNDERTRAINED * min(rate, best_rate)


def _weigh(effects: Sequence[ControlledEffect] | Sequence[PooledEffect], lower_is_better: bool) -> str:
    """Return supported, reversed, depends, negligible or inconclusive."""
    signs = {effect.sign for effect in effects if effect.is_detected}
    if all(effect.is_detected for effect in effects) and len(signs) == 1:
        # A positive correlation means that a lower measure goes with a lower outcome.
        return "supported" if (signs == {1}) == lower_is_better else "reversed"
    if signs:
        return "depends"
    if all(effect.equivalence is not None and effect.equivalence.is_negligible for effect in effects):
        return "negligible"
    return "inconclusive"


def _adjust(judgement: Judgement, evidence: Evidence, adjusted: Iterator[float | None]) -> Judgement:
    """Take a judgement's adjusted p-values from all of them, in their order, and judge it."""
    effects = tuple(replace(effect, p_holm=next(adjusted)) for effect in judgement.effects)
    p_holm = next(adjusted)
    shape = None if judgement.shape is None else replace(judgement.shape, p_holm=p_holm)
    tested = replace(judgement, effects=effects, shape=shape)
    return replace(tested, status=judge(tested, evidence.learning, evidence.lower_is_better))


def _pool(measure: str, strata: Mapping[str, Evidence]) -> Pooled | None:
    """Pool a measure over the strata that learned something, not yet adjusted; None for fewer than two."""
    chosen = {
        name: evidence.resampled[measure]
        for name, evidence in strata.items()
        if measure in evidence.resampled and (evidence.learning is None or evidence.learning.is_better)
    }
    if len(chosen) < 2 or len({strata[name].lower_is_better for name in chosen}) > 1:
        return None
    effects = pool_effects(tuple(chosen.values()))
    return Pooled(measure, "", tuple(chosen), effects, differs=False) if effects else None


def _judge_pooled(
    pooled: Pooled, strata: Mapping[str, Evidence], judged: Mapping[str, tuple[Judgement, ...]]
) -> Pooled:
    """Judge a pooled measure as a stratum; where some stratum shows the opposite, it depends on the stratum."""
    own = [each for name in pooled.strata for each in judged[name] if each.measure == pooled.measure]
    if all(each.status == "unresolved" for each in own):
        return replace(pooled, status="unresolved")
    status = _weigh(pooled.effects, strata[pooled.strata[0]].lower_is_better)
    statuses = {each.status for each in own}
    opposite = {"supported": "reversed", "reversed": "supported"}.get(status)
    differs = opposite in statuses or {"supported", "reversed"} <= statuses
    return replace(pooled, status="depends" if differs else status, differs=differs)
