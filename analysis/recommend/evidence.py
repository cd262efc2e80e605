"""What the committed studies say of ways to choose a pattern, as scripts/recommend.py wrote it down."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from analysis.data.protocol import ALPHA

FILE = Path(__file__).parent / "evidence.json"
WALK, DISTANCE, MODEL = (
    "shortest walk",
    "shortest distance",
    "model's choice",
)  # ways to choose; others are names of templates


@dataclass(frozen=True, slots=True)
class Setting:
    """What patterns of one budget were trained on.

    Args:
        name: data, number of layers and budget.
        data: name of the data set.
        n_draws: number of drawn or designed patterns, which a choice is compared with.
        p_value: of the F test that all of these are equally good.
        rho: rank correlation of their walk length with the loss.
    """

    name: str
    data: str
    layers: int
    budget: str
    n_draws: int
    n_seeds: int
    p_value: float
    rho: float

    @property
    def is_resolved(self) -> bool:
        """Whether the seeds tell the patterns apart; if not, the setting says nothing either way."""
        return self.p_value <= ALPHA


@dataclass(frozen=True, slots=True)
class LossChange:
    """A difference of log losses with its 95 % interval over seeds: -0.1 is a loss 10 % lower."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Merit:
    """How a choice did in a setting.

    Args:
        choice: WALK, DISTANCE, MODEL or the name of a template.
        setting: name of the setting.
        key: key of the pattern that was chosen.
        share: share of the draws that lost less.
        from_draws: its loss compared with the mean of the draws.
        from_log: its loss compared with the template log's, where that was trained.
    """

    choice: str
    setting: str
    key: str
    share: float
    from_draws: LossChange
    from_log: LossChange | None


@dataclass(frozen=True, slots=True)
class MeanOverData:
    """A mean over the data sets of resolved settings, each the mean over its settings.

    Args:
        n_settings, n_data: how many there are of either.
        low, high: 95 % interval over data sets, by Student's t.
    """

    n_settings: int
    n_data: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Lessons:
    """All that the committed studies say.

    Args:
        settings: the studies' settings, by name.
        merits: of every choice in every setting where it could be made.
        shares: by choice, the share of draws that lost less.
        model_less_walk: share of draws that beat the model's choice, less that of the shortest walk's.
        rho: rank correlation of walk length with the loss.
        checked: settings of trainings made later, of what `recommend` itself offers there; they are in no mean.
        checks: how its rows did there: MODEL, WALK, DISTANCE or the name of a template.
        undertrained: settings at the lowest learning rate of the studies, of which no merit is.
        weights: of the model that learned from all resolved settings, by measure.
    """

    settings: dict[str, Setting]
    merits: tuple[Merit, ...]
    shares: dict[str, MeanOverData]
    model_less_walk: MeanOverData
    rho: MeanOverData
    checked: dict[str, Setting]
    checks: tuple[Merit, ...]
    undertrained: tuple[Setting, ...]
    weights: dict[str, float]

    def list_merits(self, choice: str) -> list[Merit]:
        """Return how a choice did in the settings that say anything."""
        return [each for each in self.merits if each.choice == choice and self.settings[each.setting].is_resolved]


@cache
def read_lessons() -> Lessons:
    """Read the committed evidence."""
    read = json.loads(FILE.read_text(encoding="utf-8"))
    settings, checked = ([Setting(**each) for each in read[name]] for name in ("settings", "checked"))
    return Lessons(
        {setting.name: setting for setting in settings},
        tuple(_read_merit(each) for each in read["merits"]),
        {choice: MeanOverData(**each) for choice, each in read["shares"].items()},
        MeanOverData(**read["model_less_walk"]),
        MeanOverData(**read["rho"]),
        {setting.name: setting for setting in checked},
        tuple(_read_merit(each) for each in read["checks"]),
        tuple(Setting(**each) for each in read["undertrained"]),
        read["weights"],
    )


def _read_merit(read: dict[str, Any]) -> Merit:
    changes = {name: read[name] and LossChange(**read[name]) for name in ("from_draws", "from_log")}
    return Merit(**(read | changes))
