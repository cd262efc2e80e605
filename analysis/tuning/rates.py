"""The learning rates that a study crosses with its patterns, and how much training each of them is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.data.results import Run

TUNED = "tuned"  # the regime of a pattern's outcome at its own best rate: no run may declare it
# Settings that decide, with the training's own, which learning rate is best.
NETWORK_AND_DATA = (
    "budget", "growth", "blocks", "bottleneck", "layer", "transition", "stem_channels", "compression", "merge",
    "drop_layers", "drop_path", "dataset", "train_examples",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rates:
    """The learning rates at which a study trains all patterns of one depth.

    Args:
        regimes: names of the regimes, by rising rate.
        rates: learning rate of each.
        steps: number of weight updates of a training; None where the run does not record its number of images.
        setting: all that the best rate depends on besides the pattern, as plain values.
    """

    layers: int
    budget: str
    regimes: tuple[str, ...]
    rates: tuple[float, ...]
    steps: int | None
    setting: Mapping[str, Any]


def list_rates(run: Run) -> tuple[Rates, ...]:
    """Return the learning rates of each depth at which a study tunes them; empty where it does not."""
    planned = [stratum for stratum in run.plan["strata"] if stratum.get("tuned")] if run.plan else []
    groups: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for stratum in planned:
        groups.setdefault((stratum["layers"], stratum["budget"]), []).append(stratum)
    return tuple(_describe(run, strata) for strata in groups.values())


def list_exploratory(run: Run) -> tuple[str, ...]:
    """Return the regimes of single learning rates of a study that declares only the outcome at the best one."""
    return tuple(dict.fromkeys(regime for rates in list_rates(run) for regime in rates.regimes))


def _describe(run: Run, strata: list[Mapping[str, Any]]) -> Rates:
    strata = sorted(strata, key=lambda stratum: stratum["training"]["lr"])
    first = strata[0]
    return Rates(
        layers=first["layers"],
        budget=first["budget"],
        regimes=tuple(stratum["regime"] for stratum in strata),
        rates=tuple(stratum["training"]["lr"] for stratum in strata),
        steps=count_steps(first["training"], run.data.get("n_train")),
        setting=describe_setting(run, first),
    )


def count_steps(training: Mapping[str, Any], n_train: object) -> int | None:
    """Return the number of weight updates of a training, which drops an incomplete last batch.

    Args:
        training: settings as a plan records them, with epochs and batch_size.
        n_train: number of training images; None where it is not recorded.

    >>> count_steps({"epochs": 9, "batch_size": 16}, 300)
    162
    """
    if not isinstance(n_train, int) or n_train < 1:
        return None
    return int(training["epochs"]) * max(1, n_train // int(training["batch_size"]))


def describe_setting(run: Run, stratum: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the best learning rate of a stratum's patterns depends on, except for the rate."""
    assert run.plan is not None
    settings = run.plan["settings"]
    own = {name: settings.get(name) for name in NETWORK_AND_DATA}
    training = {name: value for name, value in stratum["training"].items() if name != "lr"}
    return {**own, **training, "layers": stratum["layers"], "budget": stratum["budget"], "data": run.data.get("name")}
