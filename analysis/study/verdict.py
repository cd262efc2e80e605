"""The verdict on a stratum in words, by rules that were written down before the first training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.data.protocol import CONFIDENCE, LOWER_IS_BETTER, MARGIN, MIN_PATTERNS
from analysis.page.wording import format_interval, format_p, format_signed, name_measure
from analysis.stats.guessing import Learning, explain_unlearned
from analysis.verdict.controls import ControlledEffect
from analysis.verdict.pooled import Pooled, PooledEffect
from analysis.verdict.rules import Judgement

SCOPE = "at this schedule and one shared learning rate"
IN_WORDS = {
    "not_trained": "not trained",
    "unresolved": "unresolved",
    "u_shaped": "u-shaped",
    "nothing_left": "nothing left to explain",
    "supported": "supported",
    "reversed": "reversed",
    "depends": "depends on what is held",
    "negligible": "negligible",
    "inconclusive": "inconclusive",
    "mixed": "mixed",
    "explained_by_span": "explained by span",  # of the first protocol
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a stratum, or on all of them.

    Args:
        status: one of protocol.STATUSES, or mixed for strata that differ.
        sentence: the verdict for a reader, without its full stop.
        reason: short detail to add to the status; usually empty.
    """

    status: str
    sentence: str
    reason: str = ""

    @property
    def words(self) -> str:
        """The status in words, followed by its reason."""
        return IN_WORDS[self.status] + (f" ({self.reason})" if self.reason else "")


def word_judgement(judgement: Judgement, learning: Learning | None = None) -> Verdict:
    """Return a judgement in words.

    Args:
        learning: accuracy next to what guessing reaches, which the status not_trained rests on.
    """
    status = judgement.status
    return Verdict(status, f"{IN_WORDS[status]}: {_explain(judgement, learning)}, {SCOPE}")


def _explain(judgement: Judgement, learning: Learning | None) -> str:
    name, outcome = name_measure(judgement.measure), (judgement.outcome or "the outcome").replace("_", " ")
    if judgement.status == "not_trained" and learning is not None:
        return f"{explain_unlearned(learning)}; so nothing is known about where connections go"
    if judgement.n_patterns < MIN_PATTERNS:
        return f"too few patterns to say: {judgement.n_patterns} sampled, at least {MIN_PATTERNS} are needed"
    if not judgement.effects:
        return f"not defined: {name} or its controls are not known of every pattern"
    if judgement.resolution is not None and judgement.status == "unresolved":
        return (
            f"the seeds cannot tell these {judgement.n_patterns} patterns apart, F test p "
            f"{format_p(judgement.resolution.p_value)}"
        )
    if all(effect.partial.value is None for effect in judgement.effects):
        return f"not defined: {name} or {outcome} does not vary beyond what is held"
    return f"{_relate(judgement, name, outcome)} ({list_effects(judgement.effects)}), n={judgement.n_patterns} patterns"


def _relate(judgement: Judgement, name: str, outcome: str) -> str:
    status, shape = judgement.status, judgement.shape
    if status in ("supported", "reversed"):
        is_low = (status == "supported") == LOWER_IS_BETTER[judgement.outcome or "validation_loss"]
        return f"lower {name} goes with {'lower' if is_low else 'higher'} {outcome} under every control"
    if status == "u_shaped" and shape is not None:
        middle = "best" if shape.middle_is_best else "worst"
        return f"{outcome} is {middle} at a middling {name}, turning at {shape.turning_point:.2f}"
    return {
        "depends": f"{name} goes with {outcome} under some controls only",
        "nothing_left": f"once other measures are held, the seeds see no difference left for {name} to explain",
        "negligible": f"what {name} adds lies within \u00b1{MARGIN:g} of what can be explained",
    }.get(status, f"a relation of {name} with {outcome} was not detected")


def list_effects(effects: Sequence[ControlledEffect] | Sequence[PooledEffect]) -> str:
    """List the partial correlations of a measure, one for each control."""
    return "; ".join(map(_format_effect, effects))


def _format_effect(effect: ControlledEffect | PooledEffect) -> str:
    own = effect.partial if isinstance(effect, ControlledEffect) else effect
    return (
        f"given {' and '.join(map(name_measure, effect.given))}: {format_signed(own.value)}, "
        f"{100 * CONFIDENCE:.0f} % interval {format_interval(own.low, own.high)}, p (Holm) {format_p(effect.p_holm)}"
    )


def summarise_verdicts(verdicts: Mapping[str, Verdict], pooled: Pooled | None = None) -> Verdict:
    """Return one verdict over several strata: the pooled one where there is one, with each stratum's.

    Args:
        verdicts: name of a stratum -> its verdict.
        pooled: the first declared measure over all strata.

    Raises:
        ValueError: no stratum.
    """
    if not verdicts:
        raise ValueError("there is no stratum to summarise; give at least one")
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))
    by_status: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        by_status.setdefault(verdict.status, []).append(name)
    parts = [f"{IN_WORDS[status]} in {len(names)} ({'; '.join(names)})" for status, names in by_status.items()]
    strata = f"over {len(verdicts)} strata: {', '.join(parts)}, {SCOPE} in each"
    if pooled is not None:
        text = f"{IN_WORDS[pooled.status]} pooled ({list_effects(pooled.effects)}); {strata}"
        return Verdict(pooled.status, text)
    status = next(iter(by_status)) if len(by_status) == 1 else "mixed"
    return Verdict(status, f"{IN_WORDS[status]} {strata}")
