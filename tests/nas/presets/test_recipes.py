"""The papers' training schedules."""

import pytest

from nas.presets.recipes import RECIPES


@pytest.mark.parametrize(("name", "drops"), [("densenet", (150, 225)), ("log-densenet", (140, 210, 250))])
def test_the_papers_recipes_drop_the_learning_rate_at_the_papers_epochs(name: str, drops: tuple[int, ...]) -> None:
    from nas.training.train import find_rate

    recipe, n_steps = RECIPES[name], 781  # of an epoch of CIFAR-10 at 64 a batch
    assert (recipe.epochs, recipe.lr, recipe.batch_size) == (300, 0.1, 64)
    for epoch in range(300):
        expected = 0.1 ** sum(epoch >= drop for drop in drops)
        for step in (epoch * n_steps, (epoch + 1) * n_steps - 1):
            assert find_rate(step, 300 * n_steps, recipe.lr_drops) == pytest.approx(expected)
