"""Numbers and names as the report writes them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.data.outcomes import is_lower_better
from analysis.stats.intervals import seed_error
from nas.records.metrics import ACCURACY, shorten
from search_spaces.surrogate.target import is_loss

NONE = "-"
MEASURE_NAMES = {
    "mean_bd": "mean BD",
    "max_bd": "MBD",
    "max_out_degree": "largest out-degree",
    "from_output_mean": "mean BD from the output",
    "to_input_mean": "mean BD to the input",
    "span": "span",
    "random_walk_depth": "random-walk depth",
    "out_degree_sd": "spread of out-degrees (sd)",
    "mean_inverse_bd": "mean of 1/BD",
    "walk_length": "walk length",
    "visit_evenness": "visit evenness",
    "ntk_trace": "NTK trace",
    "layer_walk": "walk length from every layer",
    "least_visit": "chance of the layer visited least",
    "from_loss_mean": "mean BD from the loss",
    "in_degree_sd": "spread of in-degrees (sd)",
    "mean_log_skip": "mean logarithm of skip lengths",
    "skip_length_sd": "spread of skip lengths (sd)",
    "short_skip_share": "share of short skips",
    "long_skip_share": "share of long skips",
    "skip_place_mean": "mean place of skips",
    "skip_place_sd": "spread of the places of skips (sd)",
    "bare_chain_share": "share of the chain that no skip passes",
    "longest_single_run": "longest run of layers with one input",
    "params": "parameters",
    "flops": "FLOPs",
    "nn_mass": "NN-Mass",
}


class Phrase(NamedTuple):
    """What a measure is called in a sentence, and little and much of it; these two take a verb in the plural."""

    noun: str
    less: str
    more: str


PHRASES = {
    "walk_length": Phrase(
        "walk length", "shorter walks from classifier to input", "longer walks from classifier to input"
    ),
    "visit_evenness": Phrase("visit evenness", "less even visits to the layers", "more even visits to the layers"),
    "mean_bd": Phrase("backprop distance", "shorter paths between layers", "longer paths between layers"),
    "from_output_mean": Phrase(
        "distance from the output", "shorter paths from the output", "longer paths from the output"
    ),
    "from_loss_mean": Phrase("distance from the loss", "shorter paths from the loss", "longer paths from the loss"),
    "to_input_mean": Phrase("distance to the input", "shorter paths to the input", "longer paths to the input"),
    "span": Phrase("span", "connections that reach less far back", "connections that reach farther back"),
}
LABELS = {
    "validation_accuracy": "validation accuracy",
    "validation_loss": "validation loss (nats)",
    "train_loss": "training loss (nats)",
}
UNITS = {"validation_loss": "nats", "validation_accuracy": "%"}


def name_measure(measure: str) -> str:
    """Return the words for a measure's column."""
    return MEASURE_NAMES.get(measure, measure.replace("_", " "))


def relate(measure: str, status: str, outcome: str) -> str:
    """Say which side of a measure goes with the better outcome; a clause without its full stop.

    >>> relate("walk_length", "supported", "validation_loss")
    'shorter walks from classifier to input go with a lower loss'
    >>> relate("nn_mass", "reversed", "validation_accuracy")
    'a higher NN-Mass goes with a higher accuracy'
    """
    phrase = PHRASES.get(measure)
    if phrase is None:
        side = "lower" if status == "supported" else "higher"
        return f"a {side} {name_measure(measure)} goes with {_name_better(outcome)}"
    return f"{phrase.less if status == 'supported' else phrase.more} go with {_name_better(outcome)}"


def name_outcome(outcome: str) -> str:
    """Return the words for an outcome's column.

    >>> name_outcome("validation_loss"), name_outcome("bits_per_character")
    ('validation loss', 'bits per character')
    """
    return outcome.replace("_", " ")


def label_outcome(outcome: str) -> str:
    """Return what the axis of an outcome is called.

    >>> label_outcome("validation_loss"), label_outcome("bits_per_character")
    ('validation loss (nats)', 'bits per character')
    """
    return LABELS.get(outcome, name_outcome(outcome))


def shorten_outcome(outcome: str) -> str:
    """Return an outcome's words without `validation`.

    >>> shorten_outcome("validation_loss"), shorten_outcome("bits_per_character")
    ('loss', 'bits per character')
    """
    return name_outcome(shorten(outcome))


def head_outcome(outcome: str) -> str:
    """Return an outcome's words as the head of a column, with its unit where it has one.

    >>> head_outcome("validation_accuracy"), head_outcome("bits_per_character")
    ('accuracy (%)', 'bits per character')
    """
    return shorten_outcome(outcome) + (f" ({UNITS[outcome]})" if outcome in UNITS else "")


def refer_to(name: str) -> str:
    """Return an outcome's words in a sentence, with an article only where these are known to be a noun that takes one.

    >>> refer_to("validation_loss"), refer_to("loss"), refer_to("f1")
    ('the validation loss', 'the loss', 'f1')
    """
    return f"the {name_outcome(name)}" if _takes_article(name) else name_outcome(name)


def name_side(side: str, outcome: str) -> str:
    """Return an outcome with `higher` or `lower` before it.

    >>> name_side("higher", "validation_accuracy"), name_side("lower", "bits_per_character")
    ('a higher validation accuracy', 'lower bits per character')
    """
    return f"{'a ' if _takes_article(outcome) else ''}{side} {name_outcome(outcome)}"


def _takes_article(outcome: str) -> bool:
    return outcome in (*UNITS, "accuracy", "outcome") or is_loss(outcome)


def _name_better(outcome: str) -> str:
    side = "lower" if is_lower_better(outcome) else "higher"
    return name_side(side, shorten(outcome) if outcome in UNITS else outcome)


def name_in_sentence(measure: str) -> str:
    """Return what a measure is called in a sentence.

    >>> name_in_sentence("mean_bd"), name_in_sentence("ntk_trace")
    ('backprop distance', 'NTK trace')
    """
    return PHRASES[measure].noun if measure in PHRASES else name_measure(measure)


def name_pattern(row: "pd.Series[Any]") -> str:
    """Return a pattern's key, after its template's name where it has one."""
    return row["key"][:12] if row["template"] is pd.NA else f"{row['template']} ({row['key'][:12]})"


def name_briefly(row: "pd.Series[Any]") -> str:
    """Return a pattern's template, or its key where it has none."""
    return str(row["key"][:12] if row["template"] is pd.NA else row["template"])


def capitalise(sentence: str) -> str:
    """Return a sentence with a capital at its start and the rest unchanged."""
    return sentence[:1].upper() + sentence[1:]


def format_value(value: object) -> str:
    """Return a table entry as text, NONE where it is missing."""
    return NONE if value is None or value is pd.NA else str(value)


def enumerate_words(words: Sequence[str]) -> str:
    """Return a list in words.

    >>> enumerate_words(["log"]), enumerate_words(["log", "total:40"]), enumerate_words(["a", "b", "c"])
    ('log', 'log and total:40', 'a, b and c')
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def name_budgets(budgets: Sequence[str]) -> str:
    """Return budgets in words, each once.

    >>> name_budgets(["log", "log"]), name_budgets(["total:36", "log"])
    ('budget log', 'budgets total:36 and log')
    """
    distinct = list(dict.fromkeys(budgets))
    return f"budget{'' if len(distinct) == 1 else 's'} {enumerate_words(distinct)}"


def count_nouns(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count_nouns(1, "seed"), count_nouns(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def format_count(number: int) -> str:
    """Return a number in full below ten thousand, otherwise as three digits and a letter.

    >>> format_count(94), format_count(9_999), format_count(12_345), format_count(999_600), format_count(4 * 10**9)
    ('94', '9,999', '12.3k', '1M', '4G')
    """
    if number < 10**4:
        return f"{number:,}"
    for letter, unit in (("k", 10**3), ("M", 10**6), ("G", 10**9)):
        text = f"{number / unit:.3g}"
        if "e" not in text and float(text) < 1000:
            return f"{text}{letter}"
    return f"{number / 10**12:.4g}T"


def format_signed(value: float | None, digits: int = 2) -> str:
    """Return a number with its sign, or without one where it rounds to 0.

    >>> format_signed(0.126), format_signed(-0.5, 1), format_signed(-0.001), format_signed(0.001), format_signed(None)
    ('+0.13', '-0.5', '0.00', '0.00', '-')
    """
    if value is None:
        return NONE
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def format_interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return an interval as its two signed ends.

    >>> format_interval(-0.123, 0.4), format_interval(-0.001, 0.4), format_interval(None, None)
    ('-0.12 to +0.40', '0.00 to +0.40', '-')
    """
    if low is None or high is None:
        return NONE
    return f"{format_signed(low, digits)} to {format_signed(high, digits)}"


def format_correlation(value: float | None, low: float | None, high: float | None) -> str:
    """Return a correlation and its interval, signed.

    >>> format_correlation(0.574, 0.41, 0.702), format_correlation(-0.2, None, None)
    ('+0.57 [+0.41, +0.70]', '-0.20')
    """
    if value is None or low is None or high is None:
        return format_signed(value)
    return f"{format_signed(value)} [{format_signed(low)}, {format_signed(high)}]"


def format_p(p_value: float | None, digits: int = 3) -> str:
    """Return a p-value as text, or its bound where it would round to 0, which no p-value is.

    >>> format_p(0.0314), format_p(0.0002), format_p(0.0002, digits=4), format_p(None)
    ('0.031', '<0.001', '0.0002', '-')
    """
    if p_value is None:
        return NONE
    least = 10.0**-digits
    return f"{p_value:.{digits}f}" if p_value >= least else f"<{least:.{digits}f}"


def format_mean(row: "pd.Series[Any]", outcome: str, digits: int | None = None) -> str:
    """Return a pattern's mean outcome with its standard error, in the unit of head_outcome.

    Args:
        digits: decimals of all rows of a column; by default as many as this error is worth.

    >>> format_mean(pd.Series({"bits": 1234.5678, "bits_sd": float("nan"), "n_seeds": 1}), "bits")
    '1235'
    """
    scale = 100 if outcome == ACCURACY.name else 1
    usual = 1 if outcome == ACCURACY.name else 3 if outcome in UNITS else choose_digits(row[outcome])
    error = scale * seed_error(row, f"{outcome}_sd")
    return format_with_error(
        scale * row[outcome], error, usual if digits is None else digits, is_shared=digits is not None
    )


def share_mean_digits(rows: "pd.DataFrame", outcome: str) -> int | None:
    """Return how many decimals the means of a column have; None where none has a standard error."""
    scale = 100 if outcome == ACCURACY.name else 1
    errors = [float(scale * seed_error(row, f"{outcome}_sd")) for _, row in rows.iterrows()]
    known = [(-error, error) for error in errors if math.isfinite(error) and error > 0]
    return share_digits(known) if known else None


def describe_mean(row: "pd.Series[Any]", outcome: str) -> str:
    """Return a pattern's mean outcome with its name and unit."""
    percent = " %" if outcome == ACCURACY.name else ""
    return f"{shorten_outcome(outcome)} {format_mean(row, outcome)}{percent}"


def format_difference(value: float, low: float | None, high: float | None, digits: int) -> str:
    """Return a difference and its interval, each with its sign.

    Args:
        digits: decimals, such as share_digits gives for all rows of a column.

    >>> format_difference(2.67, -2.9, 8.2, 0), format_difference(0.2, -4.4, 5.1, 0)
    ('+3 [-3, +8]', '0 [-4, +5]')
    """
    if low is None or high is None:
        return format_signed(value, digits)
    return f"{format_signed(value, digits)} [{format_signed(low, digits)}, {format_signed(high, digits)}]"


def choose_digits(value: float) -> int:
    """Return how many decimals show four digits of a number, at most six.

    >>> choose_digits(1234.5), choose_digits(0.0512), choose_digits(0.0)
    (0, 5, 3)
    """
    return 3 if value == 0 or not math.isfinite(value) else min(max(3 - math.floor(math.log10(abs(value))), 0), 6)


def count_digits(low: float, high: float) -> int:
    """Return how many decimals an interval is worth: the last one stands for a twentieth to a half of its half width.

    >>> count_digits(18.1, 39.2), count_digits(0.7, 1.76), count_digits(0.110, 0.134), count_digits(1, 1)
    (0, 1, 3, 0)
    """
    half = (high - low) / 2
    return min(max(math.ceil(-math.log10(half / 2)), 0), 6) if math.isfinite(half) and half > 0 else 0


def share_digits(intervals: Iterable[tuple[float | None, float | None]], digits: int = 3) -> int:
    """Return how many decimals all rows of a column have: as many as its middle interval, by width, is worth.

    Args:
        intervals: ends of each row's interval; None, or no width, where a row has none.
        digits: decimals of a column without an interval.

    >>> share_digits([(-2, 5), (-1.0, 2.9), (-4, 5)]), share_digits([(2.23, 2.30), (2.271, 2.294)]), share_digits([])
    (0, 2, 3)
    """
    widths = [high - low for low, high in intervals if low is not None and high is not None and high > low]
    return count_digits(0.0, statistics.median_high(widths)) if widths else digits


def format_with_error(value: float, error: float | None, digits: int, *, is_shared: bool = False) -> str:
    """Return a value and its standard error, with as many decimals as the error is worth: of it one digit, or two.

    An error of 0 is left out, for it only says that all seeds were equal.

    Args:
        digits: decimals of a value without an error.
        is_shared: whether they are those of all values, such as share_digits gives for a column.

    >>> format_with_error(0.5, 0.031, 4), format_with_error(0.5, 0.0123, 4), format_with_error(97.06, 0.43, 4)
    ('0.50 ± 0.03', '0.500 ± 0.012', '97.1 ± 0.4')
    >>> format_with_error(0.5, None, 1), format_with_error(0.5, 0.0, 2), format_with_error(math.nan, None, 1)
    ('0.5', '0.50', '-')
    """
    if not math.isfinite(value):
        return NONE
    if error is None or not math.isfinite(error) or error <= 1e-12 * max(1.0, abs(value)):
        return f"{value:z.{digits}f}"
    digits = digits if is_shared else count_digits(value - error, value + error)
    return f"{value:z.{digits}f} ± {error:.{digits}f}"


def format_estimate(value: float, low: float | None, high: float | None, digits: int | None = None) -> str:
    """Return a value and its interval.

    Args:
        digits: decimals, such as share_digits gives for all rows of a column; by default as many as this interval is
            worth.

    >>> format_estimate(0.12345, 0.1102, 0.1341), format_estimate(95.41, 93.7, 97.0), format_estimate(0.5, None, None)
    ('0.123 [0.110, 0.134]', '95.4 [93.7, 97.0]', '0.500')
    """
    digits = share_digits([(low, high)]) if digits is None else digits
    if low is None or high is None:
        return f"{value:z.{digits}f}"
    return f"{value:z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"
