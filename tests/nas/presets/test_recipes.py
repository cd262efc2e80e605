"""The papers' training schedules: their rates epoch by epoch, and the table of them in the guide."""

import math

import pytest

from nas.model.config import TrainingConfig
from nas.presets.recipes import RECIPES, find_recipe
from nas.training.train import find_rate
from search_spaces.errors import InputError
from tests.support.small import ROOT, CommandLine

N_IMAGES = 50_000  # of CIFAR-10

# By recipe, as the papers and the authors' code say: epochs, batch, weight decay, and the rate from each epoch on.
SCHEDULES: dict[str, tuple[int, int, float, dict[int, float]]] = {
    "densenet": (300, 64, 1e-4, {0: 0.1, 150: 0.01, 225: 0.001}),
    "log-densenet": (300, 64, 1e-4, {0: 0.1, 140: 0.01, 210: 0.001, 250: 0.0001}),
    "sparsenet": (300, 64, 1e-4, {0: 0.1, 150: 0.01, 225: 0.001}),
    "resnet": (164, 128, 1e-4, {0: 0.1, 82: 0.01, 123: 0.001}),
    "stochastic-depth": (500, 128, 1e-4, {0: 0.1, 250: 0.01, 375: 0.001}),
    "fractalnet": (400, 100, 0, {0: 0.02, 200: 0.002, 300: 0.0002, 350: 0.00002, 375: 0.000002}),
    "highway": (400, 100, 1e-3, {0: 0.025, 200: 0.0025, 300: 0.00025, 350: 0.000025}),
    "msdnet": (300, 64, 1e-4, {0: 0.1, 150: 0.01, 225: 0.001}),
}
WITHOUT_DROPS = {"condensenet", "short"}


def rate_at(recipe: TrainingConfig, step: int) -> float:
    n_steps = recipe.epochs * (N_IMAGES // recipe.batch_size)
    return recipe.lr * find_rate(step, n_steps, recipe.lr_drops, recipe.warm_up)


def test_every_recipe_is_tested() -> None:
    assert RECIPES.keys() == SCHEDULES.keys() | WITHOUT_DROPS


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_falls_at_the_papers_epochs(name: str) -> None:
    recipe = find_recipe(name)
    epochs, batch_size, weight_decay, rates = SCHEDULES[name]
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay) == (epochs, batch_size, weight_decay)
    a_pass = N_IMAGES // batch_size
    for epoch in range(epochs):
        expected = rates[max(start for start in rates if start <= epoch)]
        for step in (epoch * a_pass, (epoch + 1) * a_pass - 1):
            assert rate_at(recipe, step) == pytest.approx(expected)


def test_resnet_takes_its_64_000_steps() -> None:
    recipe = find_recipe("resnet")
    n_steps = recipe.epochs * (N_IMAGES // recipe.batch_size)
    assert abs(n_steps - 64_000) < N_IMAGES // recipe.batch_size
    assert [share * 64_000 for share in recipe.lr_drops or ()] == [32_000, 48_000]


def test_condensenet_falls_as_half_a_cosine_from_the_first_step() -> None:
    recipe = find_recipe("condensenet")
    n_steps = 300 * (N_IMAGES // 64)
    for step in (0, 1, n_steps // 3, n_steps // 2, n_steps - 1):
        assert rate_at(recipe, step) == pytest.approx(0.1 * (1 + math.cos(math.pi * step / n_steps)) / 2)


def test_short_is_what_a_search_does_without_a_recipe() -> None:
    assert find_recipe("short") == TrainingConfig()


def test_another_name_is_refused() -> None:
    with pytest.raises(InputError, match="no recipe 'adam'"):
        find_recipe("adam")


def test_the_guide_has_every_recipe_as_it_is() -> None:
    page = (ROOT / "docs" / "howto" / "networks.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:2] == "| "]
    found = {row[0]: row for row in rows if row[0] in RECIPES and len(row) == 8}
    for name, recipe in RECIPES.items():
        training = recipe.training
        _, epochs, batch, rate, falls, decay, source, differs = found[name]
        assert (int(epochs), int(batch), float(rate)) == (training.epochs, training.batch_size, training.lr)
        assert (float(decay), source, differs) == (training.weight_decay, recipe.source, recipe.differs)
        drops = () if "cosine" in falls else tuple(float(share) for share in falls.split(","))
        assert drops == pytest.approx(training.lr_drops or (), abs=1e-4)
        assert ("after a warm-up" in falls) == (training.lr_drops is None and training.warm_up is None)


def test_the_help_names_every_recipe(command_line: CommandLine) -> None:
    said = " ".join(command_line("search", "--help").stdout.replace("│", " ").split())
    assert all(name in said for name in RECIPES)
