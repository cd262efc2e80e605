"""The segmentation task by the protocol of tasks: settings, data, crops, metrics, and that it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas.data.pixel_labels import VOID
from nas.model.config import TrainingConfig
from nas.records.metrics import list_ious, mean_iou
from nas.records.safe_files import unpack_bytes
from nas.records.trial import Outcome
from nas.settings.own_task import settle_task
from nas.settings.search import SearchConfig
from nas.tasks.candidate import TaskCandidate, TaskPattern
from nas.tasks.loaded import LoadedTask, load_task
from nas.tasks.segmentation.task import SegmentationTask, load_pixels, share_layers
from nas.training.checkpoints import Slot
from search_spaces.errors import ConflictError, InputError
from search_spaces.templates import find_template

PATTERN = TaskPattern.of(find_template("log").build(5))
TRAINING = TrainingConfig(epochs=2, batch_size=10, lr=0.1)


class Small(nn.Module):
    """A network without a pattern: the task's own part is what is tested."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(8, classes, 3, padding=1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) -> (n, classes, height, width)."""
        logits: torch.Tensor = self.layers(images)
        return logits


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(self: SegmentationTask, pattern: Any, seed: int) -> nn.Module:  # noqa: ARG001
        torch.manual_seed(seed)
        return Small(self.pixels.image[0], len(self.pixels.classes))

    monkeypatch.setattr(SegmentationTask, "build", build)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A file of 23 colour images whose class is their brightest channel, and one void row."""
    arrays: dict[str, Any] = {}
    for part, n in (("train", 10), ("val", 6), ("test", 7)):
        images = np.random.default_rng([*part.encode()]).integers(0, 256, (n, 3, 10, 12), dtype=np.uint8)
        masks = images.argmax(axis=1).astype(np.uint8)
        masks[:, 0] = VOID
        arrays |= {f"x_{part}": images, f"y_{part}": masks}
    np.savez(tmp_path / "photos.npz", **arrays)
    return tmp_path / "photos.npz"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"blocks": 4}, "blocks is 4"),
        ({"blocks": 1}, "blocks is 1"),
        ({"growth": 0}, "growth is 0"),
        ({"stem": -1}, "stem is -1"),
        ({"scenes": 10**6}, "scenes is 1000000"),
        ({"dropout": 1.0, "surroundings": "fc-densenet"}, "dropout is 1.0"),
        ({"dropout": 0.2}, "layers of log-densenet have none"),
        ({"classes": 1}, "classes is 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        SegmentationTask(**settings)


def test_layers_are_shared_among_blocks() -> None:
    for depth in range(5, 40):
        shared = share_layers(depth, 5)
        assert sum(shared) == depth
        assert max(shared) - min(shared) <= 1
    with pytest.raises(InputError, match="4 layers"):
        share_layers(4, 5)


def test_images_are_scaled_by_the_training_images_and_test_images_stay_out(photos: Path) -> None:
    task = SegmentationTask(file=photos)
    (images, masks), (validation, _) = task.data(0)
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-6
    assert images.var(dim=(0, 2, 3), correction=0).sub(1).abs().max() < 1e-5
    raw = task.pixels
    mean = raw.training.images[:, 1].mean()
    deviation = raw.training.images[:, 1].std()
    assert float(validation[2, 1, 3, 4]) == pytest.approx((raw.validation.images[2, 1, 3, 4] - mean) / deviation, 1e-5)
    assert (len(images), len(validation)) == (10, 6)
    assert masks.dtype == torch.uint8


def test_an_image_and_its_mask_are_cropped_and_mirrored_together_and_the_new_edge_is_void() -> None:
    task = SegmentationTask(scenes=1)
    masks = torch.arange(120, dtype=torch.uint8).reshape(1, 10, 12).repeat(40, 1, 1)
    images = torch.stack([masks.float() + 1, -masks.float() - 1], dim=1)
    images[:, :, 4, 5], masks[:, 4, 5] = 300.0, VOID
    cropping = SegmentationTask.augment_batch.__get__(_Augmenting(task))
    new_images, new_masks = cropping((images, masks), torch.Generator().manual_seed(0))
    assert new_images.shape == images.shape
    is_edge = new_images[:, 0] == 0
    was_void = new_images[:, 0] == 300
    assert (new_masks[is_edge | was_void] == VOID).all()
    assert torch.equal(new_images[:, 0][~is_edge & ~was_void], new_masks[~is_edge & ~was_void].float() + 1)
    first = [mask[5, 5].item() - mask[5, 6].item() for mask in new_masks]
    assert {1, -1} <= set(first)
    assert len({tuple(mask.flatten().tolist()) for mask in new_masks}) > 20


class _Augmenting:
    """A task whose data may be cropped."""

    def __init__(self, task: SegmentationTask) -> None:
        self.augment = True
        self.pixels = type("Pixels", (), {"can_augment": True, "task": task})


def test_scenes_of_digits_are_never_mirrored(photos: Path) -> None:
    generator = torch.Generator()
    for task, is_same in (
        (SegmentationTask(scenes=20), True),
        (SegmentationTask(file=photos), False),
        (SegmentationTask(file=photos, augment=False), True),
    ):
        batch = task.data(0)[0]
        assert torch.equal(task.augment_batch(batch, generator)[0], batch[0]) == is_same


def test_a_batch_that_is_void_everywhere_has_no_loss_and_no_gradient(photos: Path) -> None:
    task = SegmentationTask(file=photos)
    network = task.build(PATTERN, 0)
    images = task.data(0)[0][0][:2]
    loss = task.loss(network, (images, torch.full((2, 10, 12), VOID, dtype=torch.uint8)))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert all(not parameter.grad.any() for parameter in network.parameters() if parameter.grad is not None)


def test_the_metrics_are_of_all_pixels_whatever_the_batches(photos: Path) -> None:
    task = SegmentationTask(file=photos)
    network = task.build(PATTERN, 0).eval()
    images, masks = task.data(0)[1]
    with torch.no_grad():
        whole = task.evaluate(network, [(images, masks)])
        parts = task.evaluate(network, [(images[:4], masks[:4]), (images[4:], masks[4:])])
        assert whole == pytest.approx(parts, rel=1e-6)
        assert whole["loss"] == pytest.approx(float(task.loss(network, (images, masks))), rel=1e-6)
    assert set(whole) == set(SegmentationTask.metrics)


def test_without_weights_every_pixel_counts_alike(photos: Path) -> None:
    task = SegmentationTask(file=photos, weights="none")
    network = task.build(PATTERN, 0).eval()
    images, masks = task.data(0)[1]
    with torch.no_grad():
        chances = network(images).log_softmax(1).gather(1, masks.long().where(masks != VOID, 0)[:, None])[:, 0]
        loss = float(task.loss(network, (images, masks)))
    assert loss == pytest.approx(-float(chances[masks != VOID].mean()), rel=1e-5)


def load_small(photos: Path) -> LoadedTask:
    return load_task("segmentation", [f"file={photos}"])


def train(task: LoadedTask, slot: Slot | None = None, pause_after: int | None = None) -> Outcome:
    return task.train(TaskCandidate.of(PATTERN, "log", 0), TRAINING, "cpu", pause_after, slot)


class Stopped(BaseException):
    """The training was ended from outside."""


def test_an_interrupted_training_goes_on_to_the_same_numbers(photos: Path, tmp_path: Path) -> None:
    task = load_small(photos)
    candidate, training = TaskCandidate.of(PATTERN, "log", 0), TRAINING.model_copy(update={"batch_size": 3})
    whole = task.train(candidate, training, "cpu")
    slot, n_calls = Slot(tmp_path / "checkpoints" / "000000.pt", "identity", 0.0), [0]

    def stop() -> None:
        n_calls[0] += 1
        if n_calls[0] > 5:  # three steps and the end of an epoch, then within the next
            raise Stopped

    with pytest.raises(Stopped):
        task.train(candidate, training, "cpu", None, slot, stop)
    resumed = task.train(candidate, training, "cpu", None, slot)
    assert resumed.resumed_epoch == 1
    assert (resumed.metrics, resumed.details) == (whole.metrics, whole.details)
    assert resumed.curve == whole.curve


def test_the_same_seed_gives_the_same_numbers_whether_paused_or_not(photos: Path, tmp_path: Path) -> None:
    task = load_small(photos)
    whole, again = train(task), train(task)
    assert whole.error is None
    assert (again.metrics, again.details) == (whole.metrics, whole.details)
    slot = Slot(tmp_path / "checkpoints" / "000000.pt", "identity", 0.0)
    assert train(task, slot, pause_after=1).paused
    resumed = train(task, slot)
    assert resumed.resumed_epoch == 1
    assert (resumed.metrics, resumed.details) == (whole.metrics, whole.details)


def test_what_is_kept_of_a_training_is_its_confusion_and_a_few_answers(photos: Path) -> None:
    task = load_small(photos)
    outcome = train(task)
    assert mean_iou(outcome.details["confusion"]) == outcome.metrics["miou"]
    assert len(list_ious(outcome.details["confusion"])) == 3
    assert sum(map(sum, outcome.details["confusion"])) == 6 * 9 * 12
    answers = [unpack_bytes(answer, 10**4) for answer in outcome.details["answers"]]
    assert [shape for _, shape in answers] == [(10, 12)] * 4
    examples = task.target.describe_examples()
    (images, image_shape), (mask, _) = (unpack_bytes(examples[name][0], 10**4) for name in ("images", "masks"))
    assert image_shape == (10, 12, 3)
    data = load_pixels(photos, 400, None)
    assert images == data.validation.images[0].transpose(1, 2, 0).tobytes()
    assert mask == data.validation.masks[0].tobytes()
    assert examples["classes"] == ["class 0", "class 1", "class 2"]
    assert examples["data"] == "photos.npz"


def test_pictures_of_large_images_are_small_and_show_the_same_places(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        masks = np.zeros((2, 150, 200), np.uint8)
        masks[:, 75:, 100:] = 1
        images = np.where(masks == 1, 200, 40).astype(np.uint8)
        images[:, -1, -1] = {"train": 41, "val": 42, "test": 43}[part]
        arrays |= {f"x_{part}": images, f"y_{part}": masks}
    np.savez(tmp_path / "large.npz", **arrays)
    examples = SegmentationTask(file=tmp_path / "large.npz").describe_examples()
    content, shape = unpack_bytes(examples["images"][1], 10**4)
    image = np.frombuffer(content, np.uint8).reshape(shape)[..., 0]
    mask = np.frombuffer(unpack_bytes(examples["masks"][1], 10**4)[0], np.uint8).reshape(shape[:2])
    assert max(shape) <= 64
    assert ((image > 120) == (mask == 1))[:, :-1].mean() > 0.99
    assert mask.mean() == pytest.approx(0.25, abs=0.02)


def test_it_learns(photos: Path) -> None:
    outcome = load_small(photos).train(
        TaskCandidate.of(PATTERN, "log", 0), TrainingConfig(epochs=20, batch_size=5, lr=0.1), "cpu"
    )
    assert outcome.metrics["miou"] > 0.5
    assert outcome.metrics["global_accuracy"] > outcome.metrics["miou"]


def test_a_run_is_refused_with_other_masks(photos: Path, tmp_path: Path) -> None:
    recorded = load_small(photos).describe()
    assert recorded["data"]["name"] == "photos.npz"
    asked = {"task": "segmentation", "set": [f"file={photos}"]}
    assert settle_task(tmp_path, recorded, asked, {}, SearchConfig)["lr"] == SegmentationTask.defaults["lr"]
    arrays = dict(np.load(photos))
    arrays["y_test"] = 2 - np.minimum(arrays["y_test"], 2)
    np.savez(photos, **arrays)
    load_pixels.cache_clear()
    with pytest.raises(ConflictError, match="other data"):
        settle_task(tmp_path, recorded, asked, {}, SearchConfig)


def test_its_first_line_says_what_is_read(photos: Path) -> None:
    told = SegmentationTask(file=photos).tell_data()
    assert told == "photos.npz, images of 3 x 10 x 12, 3 classes; 10 to train on, 6 for validation, 7 for the test"
    assert "synthetic scenes of real digits" in SegmentationTask().tell_data()
