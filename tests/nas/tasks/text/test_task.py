"""The text task by the protocol of tasks: settings, data, metrics, optimiser, and that it learns."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from nas.model.config import TrainingConfig
from nas.settings.own_task import settle_task
from nas.settings.search import SearchConfig
from nas.tasks.candidate import TaskCandidate, TaskPattern
from nas.tasks.loaded import load_task
from nas.tasks.text.characters import load_text
from nas.tasks.text.task import WARM_UP_STEPS, TextTask
from search_spaces.errors import ConflictError, InputError
from search_spaces.templates import find_template

SMALL: dict[str, Any] = {"width": 16, "heads": 2, "context": 16, "windows": 240}
PATTERN = TaskPattern.of(find_template("log").build(3))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"heads": 5}, "5 heads"),
        ({"width": 0}, "width is 0"),
        ({"windows": -1}, "windows is -1"),
        ({"context": 9999}, "context is 9999"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        TextTask(**settings)


def test_a_target_is_the_character_after() -> None:
    for characters, following in TextTask(**SMALL).data(0):
        assert torch.equal(characters[:, 1:], following[:, :-1])
        assert (characters.dtype, characters.shape) == (torch.int64, following.shape)


def test_the_seed_draws_the_training_windows_and_not_the_validation_windows() -> None:
    task = TextTask(**SMALL)
    (first, again, other) = (task.data(seed) for seed in (0, 0, 1))
    assert torch.equal(first[0][0], again[0][0])
    assert not torch.equal(first[0][0], other[0][0])
    assert torch.equal(first[1][0], other[1][0])
    assert len(first[0][0]) == SMALL["windows"]


def test_no_training_window_reaches_into_the_validation_part() -> None:
    task = TextTask(**SMALL)
    text = task.text
    joined = bytes(text.training.astype("uint8"))
    assert all(bytes(window.to(torch.uint8).tolist()) in joined for window in task.data(3)[0][1][:50])


def test_the_metrics_are_means_over_all_characters_whatever_the_batches() -> None:
    task = TextTask(**SMALL)
    network = task.build(PATTERN, 0)
    characters, following = (part[:10] for part in task.data(0)[1])
    with torch.no_grad():
        chances = network(characters).softmax(-1).gather(-1, following[..., None])
        measured = task.evaluate(network, [(characters[:7], following[:7]), (characters[7:], following[7:])])
    assert measured["loss"] == pytest.approx(-float(chances.log().mean()), rel=1e-5)
    assert measured["bits"] == pytest.approx(-float(chances.log2().mean()), rel=1e-5)
    assert set(measured) == set(TextTask.metrics)


def test_matrices_decay_and_scalars_do_not() -> None:
    task = TextTask(**SMALL, merge="dwa")
    network = task.build(PATTERN, 0)
    optimizer, _ = task.optimizer(network, TrainingConfig(lr=1e-3, weight_decay=0.5), 100)
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.5, 0.0)
    assert {each.ndim for each in decayed["params"]} == {2}
    assert {each.ndim for each in kept["params"]} == {1}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize("n_steps", [1, 20, 100])
def test_the_rate_warms_up_and_follows_a_cosine_to_zero(n_steps: int) -> None:
    task = TextTask(**SMALL)
    network = task.build(PATTERN, 0)
    optimizer, scheduler = task.optimizer(network, TrainingConfig(lr=0.01), n_steps)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    n_warm_up = min(n_steps, WARM_UP_STEPS)
    assert rates[:n_warm_up] == pytest.approx([0.01 * (step + 1) / n_warm_up for step in range(n_warm_up)])
    for step in range(n_warm_up, n_steps):
        share = (step - n_warm_up) / (n_steps - n_warm_up)
        assert rates[step] == pytest.approx(0.01 * math.cos(math.pi * share / 2) ** 2)


def test_the_rate_falls_where_the_run_says() -> None:
    task = TextTask(**SMALL)
    network = task.build(PATTERN, 0)
    optimizer, scheduler = task.optimizer(network, TrainingConfig(lr=0.01, lr_drops=(0.5,)), 4)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_a_warm_up_of_the_run_takes_the_place_of_its_own() -> None:
    task = TextTask(**SMALL)
    network = task.build(PATTERN, 0)
    optimizer, scheduler = task.optimizer(network, TrainingConfig(lr=0.01, warm_up=0.0), 4)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.01 * math.cos(math.pi * step / 8) ** 2 for step in range(4)])


def test_it_learns_in_a_few_steps() -> None:
    task = TextTask(**SMALL)
    network = task.build(PATTERN, 0)
    (characters, following), validation = task.data(0)
    optimizer, scheduler = task.optimizer(network, TrainingConfig(lr=0.01), 30)
    with torch.no_grad():
        before = task.evaluate(network, [validation])["loss"]
    for step in range(30):
        batch = slice(8 * step, 8 * step + 8)
        optimizer.zero_grad()
        task.loss(network, (characters[batch], following[batch])).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
    shares = torch.bincount(following.flatten(), minlength=len(task.text.vocabulary)) + 1.0
    guessing = float(F.cross_entropy(shares.log().expand(validation[1].numel(), -1), validation[1].flatten()))
    with torch.no_grad():
        after = task.evaluate(network, [validation])["loss"]
    assert after < min(before - 0.5, guessing)


def test_the_cost_is_that_of_the_network_it_builds() -> None:
    for merge in ("sum", "gated", "dwa"):
        task = TextTask(**SMALL, merge=merge)
        assert task.cost(PATTERN).params == sum(weight.numel() for weight in task.build(PATTERN, 0).parameters())


def test_it_is_trained_as_every_task_and_the_same_seed_gives_the_same_numbers() -> None:
    loaded = load_task("text", ["width=16", "heads=2", "context=16", "windows=80"])
    candidate = TaskCandidate.of(find_template("log").build(3), "log", 0)
    training = TrainingConfig(**loaded.defaults)
    first, again = (loaded.train(candidate, training, "cpu") for _ in range(2))
    assert first.error is None
    assert set(first.metrics) == {"loss", "bits"}
    assert first.metrics == again.metrics


def test_a_run_is_refused_with_another_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    texts = [f"file={path}", "context=8"]
    path.write_text("The first text. " * 90)
    recorded = load_task("text", texts).describe()
    assert recorded["data"]["name"] == "text.txt"
    asked = {"task": "text", "set": texts}
    assert settle_task(tmp_path, recorded, asked, {}, SearchConfig)["lr"] == TextTask.defaults["lr"]
    path.write_text("Quite another text. " * 90)
    load_text.cache_clear()
    with pytest.raises(ConflictError, match="other data"):
        settle_task(tmp_path, recorded, asked, {}, SearchConfig)


def test_its_first_line_says_what_the_text_has(tmp_path: Path) -> None:
    text = "".join(chr(97 + (7 * n * n + n) % 23) for n in range(2000))
    (tmp_path / "own.txt").write_text(text)
    told = TextTask(file=tmp_path / "own.txt", context=16).tell_data()
    assert told == f"own.txt, 2,000 characters, {len(set(text))} different; 1,800 to train on, 200 for validation"
