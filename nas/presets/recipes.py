"""The papers' training schedules, by name."""

from dataclasses import dataclass
from typing import Any

from nas.model.config import TrainingConfig
from search_spaces.errors import InputError

ANY_MOMENTUM = "the paper only says momentum, here it is Nesterov's"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A published training schedule for 32x32 images. Here, SGD always has Nesterov's momentum of 0.9.

    Args:
        source: publication, or whose code says it.
        training: the schedule.
        differs: known differences from the source; empty if there are none.
    """

    source: str
    training: TrainingConfig
    differs: str = ""


def _halfway(epochs: int, batch_size: int, **others: Any) -> TrainingConfig:
    """Return the schedule of ResNet and its heirs: the rate falls from 0.1 after a half and three quarters."""
    values: dict[str, Any] = {"lr": 0.1, "weight_decay": 1e-4, "lr_drops": (0.5, 0.75)} | others
    return TrainingConfig(epochs=epochs, batch_size=batch_size, **values)


RECIPES: dict[str, Recipe] = {
    "densenet": Recipe("arXiv:1608.06993, section 4.2", _halfway(300, 64)),
    "log-densenet": Recipe(
        "arXiv:1711.00002", _halfway(300, 64, lr_drops=(140 / 300, 210 / 300, 250 / 300)), ANY_MOMENTUM
    ),
    "sparsenet": Recipe("the authors' code for arXiv:1801.05895", _halfway(300, 64)),
    # Without a warm-up, the rate falls as half a cosine from the first step.
    "condensenet": Recipe("arXiv:1711.09224", _halfway(300, 64, lr_drops=None, warm_up=0.0)),
    # 64,000 steps of 128 images are 163.8 passes over 50,000 images.
    "resnet": Recipe(
        "arXiv:1512.03385, section 4.2",
        _halfway(164, 128),
        f"{ANY_MOMENTUM}; its 64,000 steps are 182 epochs of the 45,000 images that it trains on with a validation "
        "set, and ResNet-110 begins at a rate of 0.01",
    ),
    "stochastic-depth": Recipe(
        "arXiv:1603.09382", _halfway(500, 128), "--drop-layers 0.5 belongs to it; network stochastic-depth-110 has it"
    ),
    # The rate falls whenever half of the remaining epochs have passed.
    "fractalnet": Recipe(
        "arXiv:1605.07648",
        _halfway(400, 100, lr=0.02, weight_decay=0.0, lr_drops=(0.5, 0.75, 0.875, 0.9375)),
        f"{ANY_MOMENTUM}; it names no weight decay, and how often the rate falls at the end is a choice; dropout and "
        "--drop-path 0.15 belong to it; network fractalnet has them",
    ),
    "highway": Recipe(
        "the authors' code for arXiv:1507.06228, 19 layers",
        _halfway(400, 100, lr=0.025, weight_decay=1e-3, lr_drops=(0.5, 0.75, 0.875)),
        "there, biases learn twice as fast and do not decay, and the classifier decays tenfold; dropout belongs to it; "
        "network highway-19 has it",
    ),
    "msdnet": Recipe("arXiv:1703.09844", _halfway(300, 64)),
    "short": Recipe("ours, for small data on a CPU", TrainingConfig()),
}


def find_recipe(name: str) -> TrainingConfig:
    """Return the training schedule of a name.

    Raises:
        InputError: there is none.
    """
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r:.100}; there are {', '.join(RECIPES)}")
    return RECIPES[name].training
