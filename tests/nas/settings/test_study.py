"""A study's settings: every flag's form, and every problem told at once."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas.layouts.condensed import CondenseNet
from nas.model.config import TrainingConfig
from nas.records.checked import validate
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.settings.toml import format_toml
from search_spaces.errors import InputError
from search_spaces.sampling.cells import Crossed
from search_spaces.sampling.design import Layout


def settle(**values: Any) -> StudyConfig:
    return validate(StudyConfig, values)


def lines_of(**values: Any) -> list[str]:
    with pytest.raises(InputError) as refusal:
        settle(**values)
    return [line.removeprefix("  - ") for line in str(refusal.value).splitlines()[1:]]


def test_the_defaults_are_a_study_of_two_learning_rates() -> None:
    config = settle()
    high, low = config.regimes()
    assert (high.name, high.checks, low.name, low.checks) == ("high-lr", None, "low-lr", None)
    assert high.training == TrainingConfig(epochs=9, lr=0.15, batch_size=16, weight_decay=1e-4)
    assert low.training == high.training.model_copy(update={"lr": 0.05})
    assert (config.depths, config.deepest) == ((24,), 24)
    assert config.layout(24) == Layout(
        crossed=(Crossed("walk_length", 3), Crossed("visit_evenness", 3), Crossed("mean_bd", 2)),
        per_cell=4,
        optima=6,
        uniform=12,
        reversals=False,
        seed=0,
    )


def test_regimes_follow_the_runs_own_training() -> None:
    high, low = settle(lr=0.3, epochs=4, batch_size=8, weight_decay=0.0, lr_drops=(0.5, 0.75)).regimes()
    assert high.training == TrainingConfig(epochs=4, lr=0.3, batch_size=8, weight_decay=0.0, lr_drops=(0.5, 0.75))
    assert low.training == high.training.model_copy(update={"lr": 0.1})
    (named,) = settle(regime=("gentle=lr:0.05",), lr_drops=(0.5,)).regimes()
    assert named.training.lr_drops == (0.5,)


@pytest.mark.parametrize(
    ("text", "name", "lr", "epochs"),
    [
        ("gentle=lr:0.05,epochs:3", "gentle", 0.05, 3),
        ("gentle=epochs:3,lr:0.05", "gentle", 0.05, 3),
        ("gentle=lr:1e-3", "gentle", 0.001, 9),
        ("long 2.0_a-b=epochs:30", "long 2.0_a-b", 0.15, 30),
        ("a=lr:0.05, epochs:3", "a", 0.05, 3),
        ("a" * 40 + "=lr:0.05", "a" * 40, 0.05, 9),
    ],
)
def test_a_regime_gives_what_it_changes(text: str, name: str, lr: float, epochs: int) -> None:
    (regime,) = settle(regime=(text,)).regimes()
    assert (regime.name, regime.training.lr, regime.training.epochs) == (name, lr, epochs)
    assert regime.training.batch_size == 16


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected NAME=lr:F,epochs:N"),
        ("gentle", "expected NAME=lr:F,epochs:N"),
        ("gentle=", "expected NAME=lr:F,epochs:N"),
        ("gentle=0.05", "expected NAME=lr:F,epochs:N"),
        ("gentle=lr=0.05", "expected NAME=lr:F,epochs:N"),
        ("gentle=lr:fast", "expected NAME=lr:F,epochs:N"),
        ("gentle=lr:", "expected NAME=lr:F,epochs:N"),
        ("gentle=lr:0.05,", "expected NAME=lr:F,epochs:N"),
        ("gentle=epochs:2.5", "expected NAME=lr:F,epochs:N"),
        ("gentle=lr:0.1,lr:0.2", "expected NAME=lr:F,epochs:N"),
        ("gentle=batch_size:8", "expected NAME=lr:F,epochs:N"),
        ("=lr:0.05", "a name is up to 40 letters"),
        (" a=lr:0.05", "a name is up to 40 letters"),
        ("a\n=lr:0.05", "a name is up to 40 letters"),
        ("größer=lr:0.05", "a name is up to 40 letters"),
        ("a" * 41 + "=lr:0.05", "a name is up to 40 letters"),
        ("gentle=lr:0", "lr: expected a number above 0 and at most 1000, got 0.0"),
        ("gentle=lr:nan", "lr: "),
        ("gentle=lr:1e999", "lr: "),
        ("gentle=epochs:0", "epochs: expected a whole number from 1 to 100000, got 0"),
    ],
)
def test_a_regime_of_another_form_is_refused(text: str, said: str) -> None:
    assert said in "\n".join(lines_of(regime=(text,)))


@pytest.mark.parametrize(
    "values",
    [
        {"regime": ("a=lr:0.1", "a=lr:0.2")},
        {"regime": ("a=lr:0.1", "a 20 epochs=lr:0.2"), "check_epochs": 20},
    ],
)
def test_two_regimes_of_one_name_are_refused(values: dict[str, Any]) -> None:
    assert lines_of(**values) == ["two regimes have one name: name each differently"]


def test_checks_follow_all_regimes_and_are_longer() -> None:
    config = settle(regime=("a=lr:0.1,epochs:4", "b=lr:0.2"), check_epochs=10)
    regimes = config.regimes()
    assert [(one.name, one.checks) for one in regimes] == [
        ("a", None),
        ("b", None),
        ("a 10 epochs", "a"),
        ("b 10 epochs", "b"),
    ]
    for main, check in zip(regimes[:2], regimes[2:], strict=True):
        assert check.training == main.training.model_copy(update={"epochs": 10})


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        (".05:.8:5", [0.05, 0.1, 0.2, 0.4, 0.8]),
        ("0.1:1:4", [0.1, 0.215, 0.464, 1.0]),
        ("1e-5:1e-3:3", [1e-5, 1e-4, 1e-3]),
    ],
)
def test_tuned_rates_are_regimes_in_equal_ratios(text: str, rates: list[float]) -> None:
    config = settle(tune_lr=text, epochs=4, batch_size=8, lr=0.3)
    own = TrainingConfig(epochs=4, batch_size=8)
    assert [regime.training for regime in config.regimes()] == [own.model_copy(update={"lr": rate}) for rate in rates]
    assert [regime.name for regime in config.regimes()] == [f"lr {rate:g}" for rate in rates]
    n = len(rates)
    assert rates == pytest.approx([rates[0] ** (1 - k / (n - 1)) * rates[-1] ** (k / (n - 1)) for k in range(n)], 5e-3)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", ".05:.8", ".05:.8:", ".05:.8:2", ".05:.8:101", ".05:.8:3.5", ".05:.8:5:1", "slow:.8:5"),
        *("0:.8:5", "-1:.8:5", "nan:.8:5", ".05:nan:5", ".05:inf:5", ".05:1001:5", "1:1:3", ".8:.05:5"),
        *(".1:.101:5", ".1004:.1006:3"),
    ],
)
def test_tuned_rates_of_another_form_are_refused(text: str) -> None:
    (line,) = lines_of(tune_lr=text)
    assert line.startswith("tune-lr: expected ")
    assert repr(text) in line


def test_tuned_rates_and_regimes_exclude_each_other() -> None:
    said = ["tune-lr makes a regime of each learning rate: drop regime, or drop tune-lr"]
    assert lines_of(tune_lr=".05:.8:5", regime=("a=lr:0.1",)) == said


@pytest.mark.parametrize("check_epochs", [1, 8, 9])
def test_a_check_no_longer_than_its_regime_is_refused(check_epochs: int) -> None:
    said = f"check-epochs {check_epochs} is not longer than every regime: give more epochs"
    assert lines_of(check_epochs=check_epochs) == [said]
    assert lines_of(regime=("a=epochs:2", "b=epochs:9"), check_epochs=check_epochs) == [said]
    assert settle(epochs=check_epochs, check_epochs=check_epochs + 1)


@pytest.mark.parametrize(
    ("text", "n_bins", "window"),
    [("9", 9, None), ("1", 1, None), ("1.8:2.7:9", 9, (1.8, 2.7)), ("2:3:100", 100, (2, 3)), ("-1:5", 1, (-1, 5))],
)
def test_bins_are_a_number_or_a_window_with_one(text: str, n_bins: int, window: tuple[float, float] | None) -> None:
    first, second = settle(cross="mean_bd,span", bins=f"{text},2").layout(24).crossed
    assert (first.name, first.n_bins, first.window) == ("mean_bd", n_bins, window)
    assert second == Crossed("span", 2)
    assert settle(cross="span", bins=text).layout(24).crossed == (Crossed("span", n_bins, first.window),)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "-3", "101", "nine", "2.5", "1:", "1:2:", "1:2:3:4", "2:1:3", "2:2:3", "a:2:3", "1:2:0"),
        *("0:1:3:", "-inf:2:3", "nan:2:3", "1:nan:3", "1:inf:3"),
    ],
)
@pytest.mark.parametrize("bins", ["{},2", "2,{}"])
def test_bins_of_another_form_are_refused(bins: str, text: str) -> None:
    (line,) = lines_of(cross="mean_bd,span", bins=bins.format(text))
    assert f"bins {text!r} of {'mean_bd' if bins.startswith('{') else 'span'}: " in line


@pytest.mark.parametrize(
    ("cross", "bins", "said"),
    [
        ("mean_bd,span", "3", "'3' are for 1 measures, but cross names 2"),
        ("mean_bd", "3,2,2", "'3,2,2' are for 3 measures, but cross names 1"),
        ("mean_bd,mean_bd", "3,2", "'mean_bd,mean_bd': give one to 3 different measures"),
        ("mean_bd,span,walk_length,ntk_trace", "2,2,2,2", "give one to 3 different measures"),
        ("mean_bd,walk_lenght", "3,2", "walk_lenght"),
        ("", "3", "''"),
    ],
)
def test_a_crossing_that_cannot_be_is_refused(cross: str, bins: str, said: str) -> None:
    (line,) = lines_of(cross=cross, bins=bins)
    assert said in line


def test_windows_fit_one_depth() -> None:
    said = ["bins LO:HI:N fit one number of layers: give only numbers of bins with also-layers"]
    assert lines_of(bins="3,3,1.8:2.7:9", also_layers=(12,)) == said
    assert lines_of(cross="span", bins="3:6", also_layers=(12,)) == said
    assert settle(cross="mean_bd,span", bins="9,3", also_layers=(12, 24, 52, 12)).depths == (24, 12, 52)
    assert settle(also_layers=(12, 52)).deepest == 52


@pytest.mark.parametrize(
    "values", [{"stem_channels": 8}, {"compression": 0.5}, {"transition": "rule"}, {"transition": "rule", "trials": 0}]
)
def test_settings_of_unequal_cost_are_refused(values: dict[str, Any]) -> None:
    (line,) = [line for line in lines_of(**values) if "different costs" in line]
    assert line.endswith("drop them")
    assert settle(transition="all", stem_channels=4, blocks=2)


def test_exits_are_studied_where_each_layer_of_every_pattern_reads_as_much() -> None:
    assert settle(exits="every:6").exit_step == 6
    assert settle(exits="every:6", budget="total:60", merge="sum").has_equal_cost
    (line,) = lines_of(exits="every:6", budget="total:60")
    assert line.startswith("exits every:6 read what single layers read")
    assert len(lines_of(exits="every:6", stem_channels=8)) == 1, "the stem's width is wrong with or without exits"


def test_surroundings_in_which_patterns_of_one_budget_differ_in_cost_are_refused() -> None:
    (line,) = lines_of(surroundings=CondenseNet(), transition="all")
    assert "surroundings condensenet" in line
    assert "search" in line


@pytest.mark.parametrize(
    ("budget", "also_layers", "said"),
    [
        ("total:3", (), "total:3"),
        ("total:60", (8,), "total:60"),
        ("layers:1,2,2", (), "layers"),
    ],
)
def test_a_budget_must_fit_every_depth(budget: str, also_layers: tuple[int, ...], said: str) -> None:
    (line,) = lines_of(budget=budget, also_layers=also_layers)
    assert said in line
    assert settle(budget="total:60", also_layers=(12,)).depths == (24, 12)


def test_reversals_are_for_total_budgets() -> None:
    assert settle(budget="total:94").layout(24).reversals
    assert not settle(budget="log").layout(24).reversals


def test_the_crossed_distance_is_named_as_tables_name_it() -> None:
    config = settle(cross="from_output_mean,span", bins="9,3", seed=3, trials=0, per_cell=2, optima=0)
    assert config.measures == ("from_output_mean", "span")
    layout = config.layout(24)
    assert [crossed.name for crossed in layout.crossed] == ["from_output_mean", "span"]
    assert (layout.seed, layout.uniform) == (3, 0)
    assert (layout.per_cell, layout.optima) == (2, 0)


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"cross": 3}, "cross"),
        ({"per_cell": 0}, "per-cell"),
        ({"optima": -1}, "optima"),
        ({"trials": -1}, "trials"),
        ({"check_patterns": 4}, "check-patterns"),
        ({"check_epochs": 0}, "check-epochs"),
        ({"also_layers": (0,)}, "also-layers"),
        ({"also_layers": "12"}, "also-layers"),
        ({"also_layers": (12.0,)}, "also-layers"),
        ({"regime": "a=lr:0.1"}, "regime"),
        ({"regime": (1,)}, "regime"),
        ({"bins": 9}, "bins"),
        ({"seeds": True}, "seeds"),
        ({"perr_cell": 3}, "perr-cell"),
    ],
)
def test_a_value_out_of_range_or_type_is_refused_under_its_flag(values: dict[str, Any], flag: str) -> None:
    (line,) = lines_of(**values)
    assert line.startswith(f"{flag}: ")


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_study_asks_for_does_not_depend_on_the_workers_of_the_machine(workers: int, tmp_path: Path) -> None:
    config = settle_config(tmp_path / "run", None, {"device": "cpu", "workers": workers}, StudyConfig)
    assert (config.lookahead, config.strategy) == (None, "random")


def test_a_study_has_no_strategy() -> None:
    assert "a study has no strategy: its design says what is trained" in lines_of(strategy="templates")


def test_all_problems_are_told_at_once() -> None:
    lines = lines_of(
        layers=24,
        budget="total:3",
        stem_channels=8,
        regime=("a=lr:0.1", "a=lr:0.2"),
        per_cell=0,
        cross="span",
        bins="3,3,2",
        seeds=0,
    )
    assert len(lines) == 6
    for part in ("per-cell", "cross", "seeds", "total:3", "different costs", "two regimes have one name"):
        assert sum(part in line for line in lines) == 1


FULL: dict[str, Any] = {
    "layers": 12,
    "also_layers": (8, 10),
    "budget": "total:26",
    "cross": "from_output_mean,span",
    "bins": "4,2",
    "per_cell": 2,
    "optima": 0,
    "trials": 0,
    "seeds": 5,
    "templates": False,
    "regime": ("a b=lr:0.1,epochs:2", "c=epochs:3"),
    "check_epochs": 4,
    "check_patterns": 6,
    "workers": 2,
    "device": "cpu",
    "train_examples": 64,
}
TUNED: dict[str, Any] = {"tune_lr": ".05:.8:5", "check_epochs": 20}


@pytest.mark.parametrize("values", [{}, FULL, TUNED, {"cross": "mean_bd,span", "bins": "1.8:2.7:9,3:6:3"}], ids=str)
def test_settings_survive_toml(values: dict[str, Any]) -> None:
    config = settle(**values)
    held = tomllib.loads(format_toml(config))
    assert all("_" not in name for name in held)
    assert settle(**{name.replace("-", "_"): value for name, value in held.items()}) == config
    assert settle(**config.model_dump(mode="json")) == config


def test_a_study_takes_more_workers_but_no_more_patterns_or_seeds() -> None:
    assert "workers" in StudyConfig.changeable < SearchConfig.changeable
    assert not {"trials", "seeds"} & StudyConfig.changeable


texts = st.text(max_size=30) | st.text("abr=lrepochs:,.0123456789-+einfa _\n", max_size=30)
numbers = st.text("0123456789.e-+inf_ ", max_size=12)
regime_texts = texts | st.builds(
    "{}={}:{},{}:{}".format, texts, texts, numbers, st.sampled_from(["lr", "epochs"]), numbers
)
bin_texts = texts | st.builds("{}:{}:{}".format, numbers, numbers, numbers)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(regime_texts)
@example("a=lr:\N{ARABIC-INDIC DIGIT THREE}")
@example("a=epochs:" + "9" * 5000)
@example("a=lr:0.1\n")
@example("a=lr:5e-324")
def test_any_regime_is_read_or_refused(text: str) -> None:
    try:
        (regime,) = settle(regime=(text,)).regimes()
    except InputError as refusal:
        assert "regime" in str(refusal) or "lr: " in str(refusal) or "epochs: " in str(refusal)
        return
    assert text.startswith(regime.name + "=")
    assert regime.training.lr > 0
    assert regime.training.epochs >= 1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(bin_texts)
@example("1e-320:1e308:3")
def test_any_bins_are_read_or_refused(text: str) -> None:
    try:
        (crossed,) = settle(cross="span", bins=text).layout(12).crossed
    except InputError as refusal:
        assert "bins " in str(refusal)
        return
    assert 1 <= crossed.n_bins <= 100
    assert crossed.window is None or -math.inf < crossed.window.low < crossed.window.high < math.inf


json_values = (
    st.none() | st.booleans() | st.integers(-3, 30) | st.floats() | texts | st.lists(texts | st.integers(0, 9))
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(sorted(StudyConfig.model_fields)), json_values, max_size=6))
def test_any_values_are_settings_or_refused(values: dict[str, Any]) -> None:
    try:
        config = settle(**values)
    except InputError as refusal:
        assert "these settings cannot be used" in str(refusal)
        return
    assert len({one.name for one in config.regimes()}) == len(config.regimes())
    assert config.depths[0] == config.layers
