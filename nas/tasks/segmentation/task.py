"""The segmentation task: a class by the protocol of tasks, which says what its network, data and training are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.data.digit_scenes import draw_digit_scenes
from nas.data.pixel_labels import VOID, Bytes, PixelLabels, PixelPart, count_bytes
from nas.data.pixel_npz import read_pixel_npz
from nas.data.readers import MAX_BYTES
from nas.data.segnet_folders import read_segnet_folders
from nas.data.splits import augment_images
from nas.layouts.pyramid import FcDenseNet, LogDenseNetFcn
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import Cost, predict_cost
from nas.model.network import build_network
from nas.records.metrics import global_accuracy, mean_iou
from nas.tasks.candidate import TaskPattern, Transition
from nas.tasks.segmentation.examples import choose_examples, pack_examples, pack_masks
from nas.tasks.segmentation.scoring import balance_classes, count_confusion, sum_losses
from search_spaces.errors import InputError
from search_spaces.wiring.blocks import classifier_reads

PixelBatch = Sequence[Tensor]  # images (n, channels, height, width) float32, masks (n, height, width) uint8


@lru_cache(maxsize=4)  # every training of a process asks for the same data
def load_pixels(file: Path | None, n_scenes: int, n_classes: int | None) -> PixelLabels:
    """Load images with pixel labels: an .npz file, SegNet's folders, or without either scenes of digits.

    Args:
        file: the file or the folder.
        n_scenes: number of training scenes.
        n_classes: number of classes of a file or folder; None: as its labels say.

    Raises:
        InputError: see read_pixel_npz and read_segnet_folders.
    """
    if file is None:
        return draw_digit_scenes(n_scenes)
    read = read_segnet_folders if file.is_dir() else read_pixel_npz
    return read(file, MAX_BYTES, n_classes)


@dataclass(frozen=True)
class SegmentationTask:
    """A class for every pixel of an image.

    Args:
        surroundings: the network around the pattern. `log-densenet`: one pattern spans the layers of all blocks, and
            each map that a layer reads from another block is brought to that block's size. `fc-densenet`: every block
            has the pattern, and blocks are joined as in FC-DenseNet.
        blocks: number of blocks: as many up as down, and one in the middle.
        growth: channels that a layer writes.
        stem: channels that the stem writes; none: as many as a layer. With another number patterns of one budget differ
            in cost, for they read the stem more or less often.
        dropout: chance that a channel of a layer is 0 in a training step, under `fc-densenet`.
        weights: what a class weighs in the loss. `median`: median frequency over its own; `none`: 1.
        augment: whether training images are cropped and mirrored at random. Scenes of digits never are: a mirrored
            digit may be another one.
        scenes: number of training scenes, where no file is given.
        file: path of an .npz file, or of a folder as SegNet's authors lay one out; empty for scenes of digits.
        classes: number of classes of the file's labels; none: as the labels say.

    Raises:
        InputError: a number is too small or too large.
    """

    surroundings: Literal["log-densenet", "fc-densenet"] = "log-densenet"
    blocks: int = 5
    growth: int = 6
    stem: int | None = None
    dropout: float = 0.0
    weights: Literal["median", "none"] = "median"
    augment: bool = True
    scenes: int = 400
    file: Literal[""] | Path = ""
    classes: int | None = None

    metrics: ClassVar = {"miou": "max", "global_accuracy": "max", "loss": "min"}
    # A warm-up of 0.3 instead of 0.1 raised the mIoU of log on scenes by 0.03 and 0.02 (two seeds).
    defaults: ClassVar = {"epochs": 12, "batch_size": 16, "lr": 0.2, "weight_decay": 1e-4, "warm_up": 0.3}

    def __post_init__(self) -> None:
        for name, most in (("growth", 10**4), ("stem", 10**4), ("scenes", 10**5)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise InputError(f"{name} is {value}: expected 1 to {most}")
        if not 3 <= self.blocks <= 15 or self.blocks % 2 == 0:
            raise InputError(
                f"blocks is {self.blocks}: expected an odd number, 3 to 15, for as many blocks go up as down"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}: expected a chance, 0 or more and below 1")
        if self.dropout and self.surroundings != "fc-densenet":
            raise InputError(f"dropout is {self.dropout}, and layers of log-densenet have none: drop it")
        if self.classes is not None and not 2 <= self.classes <= VOID:
            raise InputError(f"classes is {self.classes}: expected 2 to {VOID}")

    @property
    def pixels(self) -> PixelLabels:
        """The images and their masks.

        Raises:
            InputError: see load_pixels.
        """
        return load_pixels(self.file or None, self.scenes, self.classes)

    def describe_data(self) -> dict[str, str]:
        """Return where the images come from, and the hash of all of them and their masks."""
        return {"name": self.pixels.name, "sha256": self.pixels.sha256}

    def tell_data(self) -> str:
        """Return what is read, for a run's first line."""
        return "; ".join([str(self.pixels), *self.pixels.remarks])

    def describe_examples(self) -> dict[str, Any]:
        """Return a few validation images and their masks, for the report."""
        return pack_examples(self.pixels)

    def network(self, pattern: TaskPattern) -> NetworkConfig:
        """Return the settings of the network around a pattern.

        Raises:
            InputError: the pattern has fewer layers than there are blocks, or the images are too small for so many.
        """
        data = self.pixels
        _, height, width = data.image
        if min(height, width) >> self.blocks // 2 < 1:
            most = 2 * min(height, width).bit_length() - 1
            raise InputError(
                f"{self.blocks} blocks halve images of {height} x {width} {self.blocks // 2} times, to nothing: give "
                f"at most --set blocks={most}"
            )
        given: dict[str, Any] = {"growth": self.growth, "stem_channels": self.stem, "image": data.image}
        given |= {"blocks": self.blocks, "classes": len(data.classes), "transition": _find_transition(pattern)}
        if self.surroundings == "fc-densenet":
            return NetworkConfig(**given, layers=pattern.depth, surroundings=FcDenseNet(dropout=self.dropout))
        depths = share_layers(pattern.depth, self.blocks)
        return NetworkConfig(**given, layers=max(depths), block_layers=depths, surroundings=LogDenseNetFcn())

    def build(self, pattern: TaskPattern, seed: int) -> nn.Module:
        """Build the network: patterns of one seed start alike."""
        network: nn.Module = build_network(Candidate(pattern, self.network(pattern), seed))
        return network

    def cost(self, pattern: TaskPattern) -> Cost:
        """Return parameters, and FLOPs of one image."""
        return predict_cost(Candidate(pattern, self.network(pattern), 0))

    def data(self, seed: int) -> tuple[PixelBatch, PixelBatch]:  # noqa: ARG002  the same images for every seed
        """Return training and validation images, scaled by the training images, and their masks."""
        training, validation = self.pixels.training, self.pixels.validation
        return self.scale(training), self.scale(validation)

    def scale(self, part: PixelPart) -> PixelBatch:
        """Return images scaled so that each channel of the training images has mean 0 and variance 1, and masks."""
        mean, deviation = self._scale
        images = part.images.astype(np.float32)
        images -= mean[:, None, None]
        images /= deviation[:, None, None]
        return torch.from_numpy(images), torch.from_numpy(np.ascontiguousarray(part.masks))

    @cached_property
    def _scale(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of each channel of the training images; 1 for a deviation of 0."""
        channels = self.pixels.training.images.swapaxes(0, 1)
        shares = np.stack([count_bytes(channel) / channel.size for channel in channels])  # (channels, 256)
        values = np.arange(VOID + 1)
        mean = shares @ values
        deviation = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
        return mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)

    @cached_property
    def _weights(self) -> Tensor:
        data = self.pixels
        if self.weights == "none":
            return torch.ones(len(data.classes))
        return torch.tensor(balance_classes(data.training.masks, len(data.classes)), dtype=torch.float32)

    def augment_batch(self, batch: PixelBatch, generator: torch.Generator) -> PixelBatch:
        """Crop and mirror images and their masks together; what a crop adds is void."""
        if not (self.augment and self.pixels.can_augment):
            return batch
        images, masks = batch
        away = (VOID - masks[:, None]).to(images.dtype)  # void is 0 there, as is what a crop adds
        both = augment_images(torch.cat([images, away], dim=1), generator)
        return both[:, :-1], VOID - both[:, -1].to(torch.uint8)

    def loss(self, network: nn.Module, batch: PixelBatch) -> Tensor:
        """Return the mean cross-entropy of the pixels that are not void, in nats, classes weighed."""
        images, masks = batch
        total, weight = sum_losses(network(images), masks, self._weights.to(images.device))
        return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)  # a batch may be void everywhere

    def evaluate(self, network: nn.Module, batches: Iterable[PixelBatch]) -> dict[str, float]:
        """Return the metrics over the pixels of all images together: one confusion matrix, one mean loss."""
        weights = self._weights
        total, weight = 0.0, 0.0
        confusion = torch.zeros(len(weights), len(weights), dtype=torch.int64)
        for images, masks in batches:
            logits = network(images)
            confusion += count_confusion(logits, masks)
            summed, weighed = sum_losses(logits, masks, weights.to(images.device))
            total, weight = total + float(summed), weight + float(weighed)
        counts = confusion.tolist()
        return {"miou": mean_iou(counts), "global_accuracy": global_accuracy(counts), "loss": total / weight}

    def describe_training(self, network: nn.Module, batches: Iterable[PixelBatch]) -> dict[str, Any]:
        """Return the confusion matrix of all images, and the answers for those that a report shows."""
        n_classes = len(self.pixels.classes)
        confusion = torch.zeros(n_classes, n_classes, dtype=torch.int64)
        answers = []
        for images, masks in batches:
            logits = network(images)
            confusion += count_confusion(logits, masks)
            answers.append(logits.argmax(dim=1).to(torch.uint8).cpu().numpy())
        answered: Bytes = np.concatenate(answers)
        return {"confusion": confusion.tolist(), "answers": pack_masks(answered[choose_examples(len(answered))])}


def _find_transition(pattern: TaskPattern) -> Transition:
    """Return the first policy by which those nodes are read at the end that the pattern names.

    Raises:
        InputError: no policy reads them.
    """
    known: tuple[Transition, ...] = ("log", "all", "last")
    for name in known:
        if classifier_reads(name, pattern) == pattern.reads:
            return name
    raise InputError(f"nodes {list(pattern.reads)} are to be read at the end: give those of {', '.join(known)}")


def share_layers(depth: int, n_blocks: int) -> tuple[int, ...]:
    """Return the layers of each block: equally many, and what is left over goes to blocks near the middle.

    >>> share_layers(20, 5), share_layers(22, 5)
    ((4, 4, 4, 4, 4), (4, 5, 5, 4, 4))

    Raises:
        InputError: there are fewer layers than blocks.
    """
    if depth < n_blocks:
        raise InputError(
            f"a pattern of {depth} layers spans {n_blocks} blocks, and each has a layer or more: give --layers "
            f"{4 * n_blocks}, or fewer blocks by --set blocks="
        )
    inner = sorted(range(n_blocks), key=lambda block: abs(block - n_blocks // 2))
    more = set(inner[: depth % n_blocks])
    return tuple(depth // n_blocks + (block in more) for block in range(n_blocks))
