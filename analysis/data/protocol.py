"""The hypotheses, tests and rules that a study declares before it trains anything, as data."""

from typing import Any

from search_spaces.errors import InputError

ALPHA = 0.05  # two-sided, after Holm's adjustment
CONFIDENCE = 0.95
MARGIN = 0.2  # |partial rank correlation| below which distance hardly matters: it explains less than 4 % of the ranks
N_RESAMPLES = 2000  # of every bootstrap and of every permutation test
MIN_PATTERNS = 10  # the fullest primary test fits 5 coefficients: below twice that it says nothing
MIN_BAND = 5  # patterns in a quantile band
MAX_BANDS = 5
SETTLED = 0.80  # chance that an interval around a true 0 lies wholly inside +-MARGIN, at the number of patterns named
ADVISED = "40 patterns x 3 seeds"
SAMPLED = ("random", "design")  # drawn without looking at outcomes; an optimiser's proposals are no sample
OUTCOMES = ("validation_loss", "validation_accuracy")  # primary first: one seed's loss says more than its accuracy
LOWER_IS_BETTER = {"validation_loss": True, "validation_accuracy": False}
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
PRIMARY_DISTANCES = {"mean_bd": "mean BD", "from_output_mean": "mean distance from the output"}
TESTS = ("distance", "curvature", "span")  # the primary family of one stratum
TOP_SHARE, TOP_LEAST = 0.10, 5  # precision at the top: k = max(TOP_LEAST, ceil(TOP_SHARE n))
STATUSES = ("supported", "reversed", "explained_by_span", "u_shaped", "negligible", "inconclusive")


def describe_protocol(distance: str = "mean_bd") -> dict[str, Any]:
    """Return all that is fixed before training, as plain JSON values; the same call gives the same value.

    Args:
        distance: the primary distance, one of PRIMARY_DISTANCES.

    Raises:
        InputError: the distance is another.

    >>> sorted(describe_protocol())
    ['alpha', 'hypotheses', 'primary', 'resampling', 'sample', 'secondary', 'verdict']
    """
    name = name_distance(distance)
    return {
        "alpha": ALPHA,
        "hypotheses": _hypotheses(name),
        "sample": {
            "strategies": list(SAMPLED),
            "unit": "a pattern: the mean over its seeds of its outcomes, each seed's own mean subtracted",
            "least_patterns": MIN_PATTERNS,
            "strata": "budget, layers and training regime; none is pooled with another",
        },
        "primary": _primary_family(distance),
        "secondary": _secondary_family(),
        "verdict": {"statuses": list(STATUSES), "margin": MARGIN, "settled": SETTLED, "rules": _rules(name)},
        "resampling": _resampling(),
    }


def name_distance(distance: str) -> str:
    """Return the words for a primary distance.

    Raises:
        InputError: it is not one of PRIMARY_DISTANCES.
    """
    if distance not in PRIMARY_DISTANCES:
        raise InputError(f"the primary distance is one of {', '.join(PRIMARY_DISTANCES)}, not {distance!r}")
    return PRIMARY_DISTANCES[distance]


def _hypotheses(name: str) -> list[str]:
    return [
        f"H1: at a fixed number of connections, patterns with shorter {name} reach a lower validation loss, span and "
        "span squared held",
        f"H2: the loss is lowest or highest at a middling {name} (curvature), span and span squared held",
        f"H3: span, linear and squared, goes with validation loss, {name} linear and squared held",
        "The test of each is two-sided; a failure to detect is reported with the correlations it excludes",
    ]


def _primary_family(distance: str) -> dict[str, Any]:
    tests = {
        "distance": f"rank({distance}) given rank(span) and its centred square",
        "curvature": f"centred rank({distance}) squared given rank(span), its centred square and rank({distance})",
        "span": f"rank(span) and its centred square, jointly, given rank({distance}) and its centred square",
    }
    assert tuple(tests) == TESTS
    return {
        "distance": distance,
        "outcome": OUTCOMES[0],
        "outcome_where_absent": OUTCOMES[1],
        "tests": tests,
        "statistic": "Wald statistic of the least squares fit to rank(outcome), covariance HC3",
        "p_value": "Freedman-Lane permutation of the residuals of the nuisance fit, inside bands of span (distance and "
        "curvature) or of distance (span); two-sided",
        "interval": f"{CONFIDENCE:g} percentile bootstrap of the partial rank correlation, re-ranked in each resample",
        "adjustment": f"Holm over all tests of all main strata together: {len(TESTS)} x the number of strata; a test "
        "that is not defined counts as one with p = 1",
    }


def _secondary_family() -> dict[str, Any]:
    return {
        "measures": list(MEASURES),
        "outcomes": list(OUTCOMES),
        "methods": ["spearman", "kendall"],
        "adjustment": "Holm over all measures and outcomes of one stratum and one method; constant measures untested",
        "without_tests": [
            "least squares slopes per hop in each span band and pooled, HC3 intervals",
            "R2 of linear and quadratic fits to distance and to span",
            f"precision at the top, k = max({TOP_LEAST}, {TOP_SHARE:g} of the patterns)",
            "leave-one-pattern-out ridge from the distances and from all measures",
            "optima against controls of equal span, and reversals against originals, paired by seed",
            "reliability of the outcomes and the ceiling that seed noise puts on a correlation",
        ],
    }


def _rules(name: str) -> list[str]:
    return [
        f"fewer than {MIN_PATTERNS} patterns, or a correlation that is not defined: inconclusive",
        f"curvature detected (Holm p <= {ALPHA:g}) with the turning point between the 10 % and 90 % quantiles of "
        f"{name}: u_shaped",
        f"distance detected (Holm p <= {ALPHA:g}, interval without 0) and the interval not wholly inside +-{MARGIN:g}: "
        "supported where shorter goes with the better outcome, otherwise reversed",
        f"span detected (Holm p <= {ALPHA:g}): explained_by_span",
        f"interval wholly inside +-{MARGIN:g}: negligible",
        "otherwise: inconclusive, with the number of patterns at which an interval around a true 0 would lie inside "
        f"+-{MARGIN:g} with {100 * SETTLED:.0f} % chance",
    ]


def _resampling() -> dict[str, Any]:
    return {
        "n_resamples": N_RESAMPLES,
        "bootstrap": "over patterns inside design cells (distance_bin x span_bin), or inside a strategy for patterns "
        "without a cell, single ones pooled; n_h - 1 of n_h drawn with replacement, counts times n_h / (n_h - 1) "
        "(Rao, Wu and Yue 1992)",
        "permutation": "inside the design's bands, patterns without one being their own band; in a sample without any "
        f"design inside at most {MAX_BANDS} quantile bands of at least {MIN_BAND} patterns",
        "seed": "SHA-256 of the run's seed and the stratum's name",
    }
