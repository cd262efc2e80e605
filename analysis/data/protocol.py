"""The hypotheses, tests and rules that a study declares before it trains anything, as data."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.data.outcomes import OUTCOMES, OutcomeName, is_lower_better, name_outcomes
from nas.records.metrics import IMAGE_METRICS, Metrics
from search_spaces.surrogate.target import is_loss

VERSION = 2  # of the rules; plans of version 1 do not say it
ALPHA = 0.05  # two-sided, after Holm's adjustment
CONFIDENCE = 0.95
POWER = 0.80
MARGIN = 0.2  # |partial rank correlation over its ceiling| below which a measure hardly matters: 4 % of the ranks
SEEDS_RANDOM = 0.10  # p-value of Q up to which seeds count as a sample of seeds
UNDERTRAINED = 3.0  # how many times off its best learning rate a regime is undertrained
N_RESAMPLES = 2000  # of every bootstrap and of every permutation test
MIN_PATTERNS = 12  # the fullest test fits 6 coefficients: below twice that it says nothing
MIN_BAND = 5  # patterns in a quantile band
MAX_BANDS = 5
SAMPLED = ("random", "design")  # drawn without looking at outcomes; an optimiser's proposals are no sample
UNSTEERED = (*SAMPLED, "random:wide", "templates", "optimum", "control", "reversal")  # whatever came out earlier
DISTANCES = ("mean_bd", "max_bd", "from_output_mean", "to_input_mean")
MEASURES = (
    *DISTANCES,
    "span",
    "random_walk_depth",
    "out_degree_sd",
    "mean_inverse_bd",
    "walk_length",
    "visit_evenness",
    "ntk_trace",
    "params",
    "flops",
    "nn_mass",
)
STAND_IN = "mean_bd"  # held in the place of a measure that would otherwise be held given itself
CONTROL_SETS = (("span",), ("walk_length",), ("span", "walk_length"), ("walk_length", "visit_evenness"))
CONTROLS = ("span", "walk_length", "visit_evenness", STAND_IN)
N_HELD = 4  # columns of the fullest control: two measures and their squares
TOP_SHARE, TOP_LEAST = 0.10, 5  # precision at the top: k = max(TOP_LEAST, ceil(TOP_SHARE n))
RULES = {
    "not_trained": "the median accuracy is within two standard errors of chance or of the largest class",
    "unresolved": f"F test of the patterns on seed-centred outcomes: p > {ALPHA:g}",
    "u_shaped": f"slopes on both sides of the turning point are opposite, both detected (Holm p <= {ALPHA:g}) under "
    "every control",
    "nothing_left": f"not detected under any control, and after one of them the F test of the patterns has p > "
    f"{ALPHA:g}",
    "supported": f"detected (Holm p <= {ALPHA:g}, interval without 0) under every control, lower measure with better "
    "outcome",
    "reversed": "the same, lower measure with worse outcome",
    "depends": "detected under some controls only, or with opposite signs",
    "negligible": f"under every control the 90 % interval of the correlation over its ceiling lies inside +-{MARGIN:g}",
    "inconclusive": f"otherwise, or fewer than {MIN_PATTERNS} patterns, or a correlation that is not defined",
}
STATUSES = tuple(RULES)


def describe_protocol(measures: Sequence[str] = ("mean_bd",), metrics: Metrics = IMAGE_METRICS) -> dict[str, Any]:
    """Return all that is fixed before training, as plain JSON values; the same call gives the same value.

    Args:
        measures: the declared measures, which the design crosses.
        metrics: metrics of the task.

    >>> sorted(describe_protocol())
    ['alpha', 'hypotheses', 'measures', 'primary', 'resampling', 'sample', 'secondary', 'verdict', 'version']
    """
    outcomes = name_outcomes(metrics)
    return {
        "version": VERSION,
        "measures": list(measures),
        "alpha": ALPHA,
        "hypotheses": _hypotheses(measures, outcomes[0]),
        "sample": {
            "strategies": list(SAMPLED),
            "unit": "a pattern: the mean over its seeds of its outcomes, each seed's own mean subtracted",
            "least_patterns": MIN_PATTERNS,
            "strata": "budget, layers and training regime; estimates of strata are pooled, patterns never are",
        },
        "primary": _primary_family(outcomes),
        "secondary": _secondary_family(outcomes),
        "verdict": {"rules": list_rules(metrics), "margin": MARGIN, "undertrained": UNDERTRAINED},
        "resampling": _resampling(),
    }


def list_rules(metrics: Metrics = IMAGE_METRICS) -> dict[str, str]:
    """Return the rules of the verdict by status: only of images it is known how well guessing does."""
    return {status: rule for status, rule in RULES.items() if metrics == IMAGE_METRICS or status != "not_trained"}


def read_version(protocol: Mapping[str, Any]) -> int:
    """Return the version of the rules that a plan was made under: 1 where it does not say.

    >>> read_version({}), read_version(describe_protocol())
    (1, 2)
    """
    version = protocol.get("version", 1)
    return version if isinstance(version, int) else 1


def list_declared(plan: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the measures that a plan declared, the main one first: mean BD where there is no plan.

    A plan of version 1 declared the distance that its cells cross.
    """
    if plan is None or "measures" in plan["protocol"]:
        return tuple(plan["protocol"]["measures"]) if plan else (STAND_IN,)
    cells = plan["cells"]
    return (cells[0].get("distance", STAND_IN) if cells else STAND_IN,)


def _hypotheses(measures: Sequence[str], outcome: OutcomeName) -> list[str]:
    side = "a lower" if is_lower_better(outcome) else "a higher"
    return [
        *(
            f"H{number}: at a fixed number of connections, patterns of lower {measure} reach {side} "
            f"{outcome.replace('_', ' ')}, whichever other measures are held"
            for number, measure in enumerate(measures, start=1)
        ),
        "The test of each is two-sided; a failure to detect is reported with the correlations it excludes",
    ]


def _primary_family(outcomes: Sequence[OutcomeName]) -> dict[str, Any]:
    primary, *others = map(str, outcomes)
    is_log = is_loss(primary) and tuple(outcomes) != OUTCOMES and is_lower_better(outcomes[0])
    scale = {"scale": "the logarithm, where all are above 0"} if is_log else {}
    return {
        "outcome": primary,
        **({"outcome_where_absent": others[0]} if others else {}),
        **scale,
        "controls": [list(names) for names in CONTROL_SETS],
        "stand_in": STAND_IN,
        "held": "rank of a measure and its square",
        "tests": {
            "effect": "rank(measure) given each control",
            "shape": "opposite slopes on both sides of where a parabola turns, largest p of the two under any control",
            "pooled": "Fisher's z of the strata's correlations given each control, by inverse variance",
        },
        "statistic": "Wald statistic of the least squares fit to rank(outcome), covariance HC3",
        "p_value": "Freedman-Lane permutation of the residuals of the nuisance fit, two-sided; Student's t where no "
        f"permutation comes as far; where seeds' slopes differ (Q, p <= {SEEDS_RANDOM:g}) Student's t, whose variance "
        "has the spread between seeds added, with one degree of freedom less than there are seeds (Satterthwaite)",
        "interval": f"{CONFIDENCE:g} percentile bootstrap of the partial rank correlation, re-ranked in each resample",
        "adjustment": "Holm over all tests of all declared measures and all main strata together, pooled ones among "
        "them; a test that is not defined counts as one with p = 1",
        "ceiling": "sqrt(1 - MSE / MSR), MSR of the pattern means beyond what is held; interval from F quantiles",
    }


def _secondary_family(outcomes: Sequence[OutcomeName]) -> dict[str, Any]:
    return {
        "measures": list(MEASURES),
        "outcomes": [*map(str, outcomes)],
        "methods": ["spearman", "kendall"],
        "adjustment": "Holm over all measures and outcomes of one stratum and one method; constant measures untested",
        "without_tests": [
            "R2 of linear and quadratic fits to distance and to span",
            f"precision at the top, k = max({TOP_LEAST}, {TOP_SHARE:g} of the patterns)",
            "leave-one-pattern-out ridge from the distances and from all measures",
            "optima against controls of equal span, and reversals against originals, paired by seed",
        ],
    }


def _resampling() -> dict[str, Any]:
    return {
        "n_resamples": N_RESAMPLES,
        "bootstrap": "over patterns inside design cells, or inside a strategy for patterns "
        "without a cell, single ones pooled; n_h - 1 of n_h drawn with replacement, counts times n_h / (n_h - 1) "
        "(Rao, Wu and Yue 1992)",
        "seeds": "drawn too where their slopes differ (pigeonhole, Owen 2007), scaled in the same way",
        "permutation": "of secondary measures inside the design's bands, patterns without one being their own band; in "
        f"a sample without any design inside at most {MAX_BANDS} quantile bands of at least {MIN_BAND} patterns",
        "seed": "SHA-256 of the run's seed, and of budget and depth, whose strata draw shared patterns together",
    }
