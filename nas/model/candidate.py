"""One thing to train: a pattern, the network around it, a seed, and how it is trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator

from nas.records.checked import Conflict, Settings
from nas.records.template import MAX_LAYERS
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import TEMPLATES, find_template
from search_spaces.wiring.blocks import Widths, Wiring, transition_inputs, wire_across, wire_summaries, wire_within

# Limits beyond all use, and short of what would fill the memory, or never end, before anything is said.
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
Channels = Annotated[int, Field(ge=1, le=10_000)]
Side = Annotated[int, Field(ge=1, le=2**14)]  # of an image, in pixels
Epochs = Annotated[int, Field(ge=1, le=10**5)]
MAX_BLOCKS = 15  # of an image's largest side, halved, one pixel is left


class ShapeConfig(Settings):
    """The network around a pattern, but for what the data decides.

    Args:
        layers: L, layers in a block.
        blocks: blocks, each at half the resolution of the one before.
        growth: output channels of a layer.
        bottleneck: whether a layer is preceded by a 1x1 convolution to 4 x growth channels.
        transition: what passes between blocks: their pattern is the same, and a transition and the classifier read
            log, all, last or rule of it; or the pattern is over all blocks' layers (v1); or it is the same in all of
            them, and node 0 is a summary of the blocks before (v2). See search_spaces/wiring/blocks.py.
        stem_channels: channels of the first block's node 0; unset: growth.
        compression: a transition writes floor(compression x channels read); unset: growth.
        block_layers: layers of each block where they differ, `layers` the most of them; unset: `layers` each.
        large_stem: whether the stem is ImageNet's: 7x7 convolution of stride 2, BN-ReLU, 3x3 max-pooling of stride 2.
    """

    layers: Layers = 24
    blocks: Annotated[int, Field(ge=1, le=MAX_BLOCKS)] = 1
    growth: Channels = 4
    bottleneck: bool = False
    transition: Literal["log", "all", "last", "rule", "v1", "v2"] = "log"
    stem_channels: Channels | None = None
    compression: Annotated[float, Field(gt=0, le=1)] | None = None
    block_layers: tuple[Layers, ...] | None = None
    large_stem: bool = False

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        """See Settings."""
        yield {"layers", "blocks", "block_layers"}, _check_block_layers
        yield {"transition", "compression"}, _check_compression
        yield {"layers", "blocks", "block_layers", "transition"}, _check_pattern_depth

    @property
    def block_depths(self) -> tuple[int, ...]:
        """Layers of each block."""
        return self.block_layers or (self.layers,) * self.blocks

    @property
    def pattern_depth(self) -> int:
        """Layers of the pattern: those of the deepest block, or with transitions v1 those of all blocks together."""
        return sum(self.block_depths) if self.transition == "v1" else self.layers

    def with_pattern_depth(self, depth: int) -> Self:
        """The same around patterns of that depth: a study may have several."""
        return self if depth == self.pattern_depth else self.model_copy(update={"layers": depth})

    @property
    def stem(self) -> int:
        """Channels of the first block's node 0."""
        return self.stem_channels or self.growth

    @property
    def has_equal_cost(self) -> bool:
        """Whether params and FLOPs depend on the number of connections alone: every node has `growth` channels."""
        is_plain = self.transition not in ("rule", "v1", "v2") and self.block_layers is None
        return is_plain and self.stem == self.growth and self.compression is None


class NetworkConfig(ShapeConfig):
    """The network around a pattern, complete.

    Args:
        classes: outputs of the classifier.
        image: channels, height, width of one image.
    """

    classes: Annotated[int, Field(ge=2, le=10**5)] = 10
    image: tuple[Side, Side, Side] = (1, 8, 8)

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        """See Settings."""
        yield from super().conflicts()
        yield {"blocks", "image", "large_stem"}, _check_resolution

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the first block's nodes."""
        height, width = self.image[1:]
        return (-(-height // 4), -(-width // 4)) if self.large_stem else (height, width)


class TrainingConfig(Settings):
    """One training, but for its seed and data.

    Args:
        epochs: passes over the training set.
        lr: the largest learning rate.
        batch_size: images a step.
        weight_decay: L2 penalty on all weights.
        lr_drops: shares of the training, ascending, at each of which the learning rate falls to a tenth (SGD as in
            DenseNet's paper); unset: a linear warm-up, then a cosine descent to 0.
    """

    epochs: Epochs = 9
    lr: Annotated[float, Field(gt=0, le=1000)] = 0.15
    batch_size: Annotated[int, Field(ge=2, le=10**6)] = 16
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 1e-4
    lr_drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None

    @field_validator("lr_drops")
    @classmethod
    def _check_drops(cls, given: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if given is not None and list(given) != sorted(set(given)):
            raise ValueError("the shares must ascend")
        return given


def _check_block_layers(config: ShapeConfig) -> str | None:
    given = config.block_layers
    if given is None or (len(given) == config.blocks and max(given) == config.layers):
        return None
    return (
        f"block-layers {list(given)} are of {len(given)} blocks, the deepest of {max(given, default=0)} layers, and "
        f"blocks is {config.blocks}, layers {config.layers}: they must agree"
    )


def _check_compression(config: ShapeConfig) -> str | None:
    is_wrong = config.compression is not None and config.transition in ("v1", "v2")
    return f"transitions {config.transition} have widths of their own: drop compression" if is_wrong else None


def _check_pattern_depth(config: ShapeConfig) -> str | None:
    depth = config.pattern_depth
    return None if depth <= MAX_LAYERS else f"a pattern over {depth} layers is too deep: {MAX_LAYERS} are the most"


def _check_resolution(config: NetworkConfig) -> str | None:
    height, width = config.resolution
    if min(height, width) >> (config.blocks - 1) >= 1:
        return None
    most = min(height, width).bit_length()
    after = " after the large stem" if config.large_stem else ""
    return f"{config.blocks} blocks halve an image of {height}x{width}{after} away: give at most {most} blocks"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing to train: a pattern, the network around it and the seed of its training.

    Args:
        pattern: of every block.
        network: the rest of the network.
        seed: fixes split, initial weights and data order.
        template: the name of the rule that gave the pattern, or None.
        training: how, where that differs from the run's own settings; None: as the run says.
    """

    pattern: ConnectionPattern
    network: NetworkConfig
    seed: int
    template: str | None = None
    training: TrainingConfig | None = None

    @property
    def patterns(self) -> tuple[ConnectionPattern, ...]:
        """The pattern of each block; with transitions v1 the one of them all."""
        network = self.network
        if network.transition == "v1":
            return (self.pattern,)
        return tuple(_fit(self.pattern, depth, self.template) for depth in network.block_depths)

    @property
    def wiring(self) -> Wiring:
        """What every layer, transition and the classifier read and write.

        Raises:
            InputError: the pattern is of another depth than the network, or has no rule where one is needed.
        """
        return _wire(self.pattern, self.network, self.template)


def check_depth(pattern: ConnectionPattern, network: NetworkConfig) -> None:
    """Refuse a pattern of another depth than a network's.

    Raises:
        InputError: with both depths.
    """
    if pattern.depth != network.pattern_depth:
        where = "in all its blocks" if network.transition == "v1" else "a block"
        raise InputError(
            f"a pattern of {pattern.depth} layers does not fit a network of {network.pattern_depth} layers {where}"
        )


def _fit(pattern: ConnectionPattern, depth: int, template: str | None) -> ConnectionPattern:
    """A pattern in a block of fewer layers: what its named rule gives there, or its first layers."""
    if depth == pattern.depth:
        return pattern
    if template is not None and (template in TEMPLATES or template.startswith("log:")):
        return find_template(template).build(depth)
    return ConnectionPattern(depth, pattern.sources[:depth])


@lru_cache(maxsize=256)  # cost, network and distances ask for the same one
def _wire(pattern: ConnectionPattern, network: NetworkConfig, template: str | None) -> Wiring:
    check_depth(pattern, network)
    compression = None if network.compression is None else Fraction(str(network.compression))  # 0.29 of 100 is 29
    widths = Widths(network.stem, network.growth, compression)
    if network.transition == "v1":
        return wire_across(pattern, network.block_depths, widths)
    patterns = [_fit(pattern, depth, template) for depth in network.block_depths]
    if network.transition == "v2":
        return wire_summaries(patterns, widths)
    reads = [transition_inputs(network.transition, depth, template) for depth in network.block_depths]
    return wire_within(patterns, reads, widths)
