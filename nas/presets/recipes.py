"""The papers' training schedules, by name."""

from nas.model.candidate import TrainingConfig
from search_spaces.errors import InputError

# All with momentum 0.9 and Nesterov's correction, as DenseNet; Log-DenseNet's paper only mentions momentum.
RECIPES: dict[str, TrainingConfig] = {
    "densenet": TrainingConfig(epochs=300, lr=0.1, batch_size=64, weight_decay=1e-4, lr_drops=(0.5, 0.75)),
    "log-densenet": TrainingConfig(
        epochs=300, lr=0.1, batch_size=64, weight_decay=1e-4, lr_drops=(140 / 300, 210 / 300, 250 / 300)
    ),
    "short": TrainingConfig(),
}


def find_recipe(name: str) -> TrainingConfig:
    """Return the training schedule of a name.

    Raises:
        InputError: there is none.
    """
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r:.100}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
