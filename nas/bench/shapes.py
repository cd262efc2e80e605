"""The standard networks that `bench` trains."""

from dataclasses import dataclass
from typing import Literal

from nas.layouts.merges import CONCAT, SUM
from nas.model.candidate import Candidate
from nas.model.config import BOTTLENECK, LAYER, NetworkConfig
from nas.model.cost import predict_cost
from nas.tasks.candidate import TaskPattern
from nas.tasks.text.task import TextTask
from search_spaces.templates import find_template


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole trainings that are timed besides single steps.

    Args:
        train_examples, validation_examples: numbers of images.
        epochs: passes over the images to train on.
    """

    train_examples: int
    validation_examples: int
    epochs: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A standard network to train: pattern log.

    Args:
        name: name of its images.
        image: channels, height, width.
        layers, growth, batch, merge, blocks, layer: see a run's settings.
        whole: whole trainings to time; None: steps only.
    """

    name: str
    image: tuple[int, int, int]
    layers: int
    growth: int
    batch: int = 64
    merge: Literal["concat", "sum"] = CONCAT
    blocks: int = 1
    layer: Literal["bn-relu-conv", "bottleneck"] = LAYER
    whole: Whole | None = None

    def __str__(self) -> str:
        blocks = "" if self.blocks == 1 else f" blocks={self.blocks}"
        merge = "" if self.merge == CONCAT else f" merge={self.merge}"
        layer = "" if self.layer == LAYER else f" {self.layer}"
        return f"{self.name} L={self.layers}{blocks} growth={self.growth} batch={self.batch}{merge}{layer}"

    @property
    def network(self) -> NetworkConfig:
        """The network's settings."""
        return NetworkConfig(
            layers=self.layers,
            growth=self.growth,
            image=self.image,
            merge=self.merge,
            blocks=self.blocks,
            layer=self.layer,
        )

    def candidate(self, seed: int) -> Candidate:
        """Return the network as a candidate of a seed."""
        return Candidate(find_template("log").build(self.layers), self.network, seed, "log")

    @property
    def can_group(self) -> bool:
        """Whether several such networks run as one of grouped convolutions; see GroupedNetworks."""
        return self.merge == CONCAT and self.blocks == 1 and self.layer == LAYER

    @property
    def flops(self) -> int:
        """FLOPs of a forward pass over one image."""
        return predict_cost(self.candidate(0)).flops


@dataclass(frozen=True, slots=True)
class TextShape:
    """The decoder of the text task to train: pattern log, layers of the task's own.

    Args:
        layers, batch: see a run's settings.
    """

    layers: int
    batch: int = 8
    merge: Literal["sum"] = SUM

    def __str__(self) -> str:
        return f"text L={self.layers} batch={self.batch} merge={self.merge}"

    @property
    def pattern(self) -> TaskPattern:
        """The pattern, with what the output reads."""
        return TaskPattern.of(find_template("log").build(self.layers))

    @property
    def flops(self) -> int:
        """FLOPs of a forward pass over one context."""
        return TextTask().cost(self.pattern).flops


DIGITS, LARGE = ("digits", (1, 8, 8)), ("32x32", (3, 32, 32))
SUMS = Shape(*DIGITS, layers=24, growth=8, merge=SUM)
TEXT = TextShape(layers=12)
# A search without flags: growth, batch and epochs are the settings' defaults, the images those of digits.
DEFAULT_SEARCH = Shape(*DIGITS, layers=24, growth=4, batch=16, whole=Whole(300, 479, epochs=9))
BOTTLENECKS = Shape(*LARGE, layers=12, growth=12, blocks=3, layer=BOTTLENECK)  # as in densenet-bc-100-12
QUICK: tuple[Shape | TextShape, ...] = (Shape(*DIGITS, layers=24, growth=8), SUMS, TEXT)
SHAPES: tuple[Shape | TextShape, ...] = (
    *(
        Shape(*images, layers=layers, growth=growth)
        for images in (DIGITS, LARGE)
        for layers in (12, 24)
        for growth in (8, 16)
    ),
    DEFAULT_SEARCH,
    BOTTLENECKS,
    SUMS,
    TEXT,
)
