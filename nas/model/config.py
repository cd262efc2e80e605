"""Settings of the network around a pattern, and of its training."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, field_validator

from nas.layouts.condensed import CondenseNet
from nas.layouts.fractal import FractalNet
from nas.layouts.merges import CONCAT, MERGE_NAMES, SUM, load_merges
from nas.layouts.multiscale import MsdNet
from nas.layouts.pyramid import FcDenseNet, LogDenseNetFcn
from nas.layouts.residual import HighwayNet, ResNet
from nas.records.checked import Conflict, Settings, flag, validate
from nas.records.template import MAX_LAYERS
from search_spaces.errors import InputError
from search_spaces.plugins import check_name

# Limits beyond all use, but below what would fill the memory or never end.
Depth = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
Channels = Annotated[int, Field(ge=1, le=10_000)]
Side = Annotated[int, Field(ge=1, le=2**14)]  # of an image, in pixels
Epochs = Annotated[int, Field(ge=1, le=10**5)]
MAX_BLOCKS = 15  # an image of the largest side is one pixel after so many halvings

NETWORK, TRAINING = "Network", "Training"  # headings of flags
LAYER: Final = "bn-relu-conv"
BOTTLENECK: Final = "bottleneck"
DEPTHWISE: Final = "depthwise"
Probability = Annotated[float, Field(ge=0, lt=1)]
LAST: Final = "last"  # of exits: the only one is the last
_EXITS = re.compile(r"every:([1-9]\d{0,5})")


# Told apart by their `kind`.
AnySurroundings = FcDenseNet | LogDenseNetFcn | ResNet | HighwayNet | FractalNet | MsdNet | CondenseNet


_KINDS: dict[str, type[Settings]] = {each.model_fields["kind"].default: each for each in get_args(AnySurroundings)}


class ShapeConfig(Settings):
    """The network around a pattern, except for what the data decides."""

    layers: Depth = flag(24, "Number of layers in a block.", NETWORK)
    blocks: Annotated[int, Field(ge=1, le=MAX_BLOCKS)] = flag(
        1, "Number of blocks, each at half the resolution of the one before.", NETWORK
    )
    growth: Channels = flag(4, "Output channels of a layer.", NETWORK)
    layer: Literal["bn-relu-conv", "bottleneck", "depthwise"] = flag(
        LAYER,
        "What a layer is: BN-ReLU-3x3 convolution; bottleneck, the same after BN-ReLU-1x1 convolution to 4 x growth "
        "channels; depthwise, BN-ReLU-3x3 convolution of each channel-1x1 convolution.",
        NETWORK,
    )
    merge: str = flag(
        CONCAT,
        "What a layer makes of what it reads: the concatenation, the sum, or a sum with a learned factor for each "
        "connection: the sigmoid of a number (gated), or a number that starts at 1 for the layer before and at 0 for "
        "the others (dwa). NAME: a merge that an installed package brings.",
        NETWORK,
        form=f"<{'|'.join(MERGE_NAMES)}|NAME>",
    )
    drop_layers: Probability = flag(
        0.0,
        "Stochastic depth: largest probability that a layer's output is 0 in a training step. Layer l of N is dropped "
        "with l/N of it; when the network is measured, the output is multiplied by the chance that it is kept.",
        NETWORK,
    )
    drop_path: Probability = flag(
        0.0,
        "Probability that a layer does without an input in a training step. Of its inputs, at least one always stays.",
        NETWORK,
    )
    transition: Literal["log", "all", "last", "rule", "v1", "v2"] = flag(
        "log",
        "What a transition and the classifier read of a block: as many layers as Log-DenseNet's rule says (log), all, "
        "the last, or what the template's own rule says (rule). v1: one pattern spans all blocks. v2: each block "
        "begins with a summary of the blocks before.",
        NETWORK,
    )
    stem_channels: Channels | None = flag(None, "Channels of the stem. [default: growth]", NETWORK)
    compression: Annotated[float, Field(gt=0, le=1)] | None = flag(
        None,
        "Channels that a transition writes, as a share of those it reads. [default: it writes growth channels]",
        NETWORK,
    )
    exits: str = flag(
        LAST,
        "Where the network predicts: after the last layer only; every:S, after each S-th layer of all blocks too, from "
        "that layer and its inputs. All exits are trained; the outcomes that count are the last one's.",
        NETWORK,
        form="<last|every:S>",
    )
    exit_loss: Literal["sum", "adaloss"] = flag(
        "sum",
        "What is trained of several exits: the sum of their cross-entropies, or their sum with weights that fall with "
        "each exit's mean loss so far (adaloss).",
        NETWORK,
    )
    # Without flags, for the papers' networks: layers of each block where they differ (`layers` is the most of them),
    # and ImageNet's stem: a 7x7 convolution of stride 2, BN-ReLU, 3x3 max-pooling of stride 2.
    block_layers: tuple[Depth, ...] | None = None
    large_stem: bool = False
    surroundings: AnySurroundings | None = None  # None: blocks in a row with one classifier, see SkipNetwork

    @field_validator("surroundings", mode="before")
    @classmethod
    def _read_surroundings(cls, given: Any) -> Any:
        """Read a table by its kind, so that a problem is said of that kind only."""
        if given is None or isinstance(given, Settings):
            return given
        name = given.get("kind") if isinstance(given, Mapping) else None
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            raise ValueError(f"expected a table that says its kind: {', '.join(_KINDS)}")
        try:
            return validate(kind, given)
        except InputError as error:
            problems = [line.strip(" -") for line in str(error).splitlines()[1:]]
            raise ValueError(f"{name} cannot have {'; '.join(problems)}") from None

    @field_validator("merge")
    @classmethod
    def _check_merge_name(cls, name: str) -> str:
        return check_name(name, MERGE_NAMES, load_merges)

    @field_validator("exits")
    @classmethod
    def _check_exits_form(cls, given: str) -> str:
        if given != LAST and _EXITS.fullmatch(given) is None:
            raise ValueError("expected last or every:S, S layers from one exit to the next")
        return given

    @classmethod
    def infer(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take an older spelling for what it is now: bottleneck, true or false, was all that a layer could be."""
        known = dict(super().infer(given))
        if isinstance(known.get("bottleneck"), bool):
            is_bottleneck = known.pop("bottleneck")
            known.setdefault("layer", BOTTLENECK if is_bottleneck else LAYER)
        return known

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        yield {"merge", "growth", "stem_channels", "compression"}, _check_merge
        yield {"layers", "blocks", "block_layers"}, _check_block_layers
        yield {"transition", "compression"}, _check_compression
        yield {"layers", "blocks", "block_layers", "transition"}, _check_pattern_depth
        yield {"layers", "blocks", "block_layers", "exits", "exit_loss", "surroundings"}, _check_exits
        sizes = {"layers", "blocks", "block_layers", "growth", "stem_channels", "compression", "large_stem"}
        yield {*sizes, "surroundings", "transition", "layer", "merge", "drop_layers", "drop_path"}, _check_surroundings

    @property
    def block_depths(self) -> tuple[int, ...]:
        """Return the number of layers of each block."""
        return self.block_layers or (self.layers,) * self.blocks

    @property
    def pattern_depth(self) -> int:
        """Return the layers of the pattern: those of the deepest block, with transitions v1 those of all blocks."""
        return sum(self.block_depths) if self.spans_blocks else self.layers

    @property
    def spans_blocks(self) -> bool:
        """Return whether one pattern spans the layers of all blocks."""
        return self.transition == "v1" if self.surroundings is None else self.surroundings.spans_blocks

    @property
    def has_layout(self) -> bool:
        """Return whether the network is built from a layout, node by node, and not as a SkipNetwork."""
        return self.surroundings is not None or self.exits != LAST

    @property
    def layout_cause(self) -> str:
        """Return the setting because of which the network is built from a layout, for messages."""
        return f"exits {self.exits}" if self.surroundings is None else f"the {self.surroundings.kind} network"

    @property
    def exit_step(self) -> int | None:
        """Return the layers from one exit to the next; None where the only exit is the last."""
        return None if self.exits == LAST else int(self.exits.partition(":")[2])

    @property
    def has_inner_paths(self) -> bool:
        """Return whether a layer has an identity path of its own, so that no distance in layers is the gradient's."""
        return isinstance(self.surroundings, HighwayNet)

    @property
    def has_several_exits(self) -> bool:
        """Return whether the network predicts on the way too."""
        return self.exits != LAST or isinstance(self.surroundings, MsdNet)

    def with_pattern_depth(self, depth: int) -> Self:
        """Return the same settings for patterns of another depth: a study may have several."""
        return self if depth == self.pattern_depth else self.model_copy(update={"layers": depth})

    @property
    def stem(self) -> int:
        """Return the channels of the first block's node 0."""
        return self.stem_channels or self.growth

    @property
    def is_concat(self) -> bool:
        """Return whether layers read concatenations; if not, every node has growth channels."""
        return self.merge == CONCAT

    @property
    def has_scalars(self) -> bool:
        """Return whether every connection has a learned factor, or for a merge of another package, may have one."""
        return self.merge not in (CONCAT, SUM)

    @property
    def has_brought_merge(self) -> bool:
        """Return whether layers merge by another package's module, whose parameters only itself knows."""
        return self.merge not in MERGE_NAMES

    @property
    def has_drops(self) -> bool:
        """Return whether training steps leave out layers or inputs at random."""
        return self.drop_layers > 0 or self.drop_path > 0

    @property
    def trains_alone(self) -> bool:
        """Return whether no two candidates can be trained together as one network."""
        return self.has_drops or self.has_brought_merge or self.has_layout

    @property
    def can_fuse(self) -> bool:
        """Return whether a block's layers are of the form that runs as one operation; see nas/engines."""
        return self.is_concat and self.layer != DEPTHWISE and not self.has_drops and not self.has_layout

    def identify(self) -> dict[str, Any]:
        """Return the settings as plain values, those of networks that older versions knew as these wrote them."""
        values = self.model_dump(mode="json")
        if "layer" not in values:  # of a task with networks of its own
            return values
        for name in ("merge", "drop_layers", "drop_path", "surroundings", "exits", "exit_loss"):
            if values[name] == type(self).model_fields[name].default:
                del values[name]
        if self.layer != DEPTHWISE:
            values["bottleneck"] = values.pop("layer") == BOTTLENECK
        return values

    @property
    def has_equal_cost(self) -> bool:
        """Return whether params and FLOPs depend on the number of connections only: all nodes have growth channels.

        Another package's merge may have parameters in any number, which is not ours to promise. An exit reads a layer's
        inputs, so it costs what that layer's in-degree says, except in a sum.
        """
        return self.has_equal_cost_by_degree and (self.exits == LAST or self.merge == SUM)

    @property
    def has_equal_cost_by_degree(self) -> bool:
        """Return whether params and FLOPs depend on the layers' in-degrees only."""
        if self.surroundings is not None:
            # By `rule` the pattern decides how many nodes leave a block, each with a factor of its own.
            has_even_factors = not (self.has_scalars and self.transition == "rule")
            return self.surroundings.has_equal_cost and has_even_factors and not self.has_brought_merge
        is_plain = self.transition not in ("rule", "v1", "v2") and self.block_layers is None
        return is_plain and self.stem == self.growth and self.compression is None and not self.has_brought_merge


class NetworkConfig(ShapeConfig):
    """The whole network around a pattern."""

    classes: Annotated[int, Field(ge=2, le=10**5)] = flag(10, "Outputs of the classifier.", NETWORK)
    image: tuple[Side, Side, Side] = flag(
        (1, 8, 8), "Channels, height and width of an image.", NETWORK, form="<CxHxW>", separator="x"
    )

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        yield from super().conflicts()
        yield {"blocks", "image", "large_stem"}, _check_resolution

    @property
    def resolution(self) -> tuple[int, int]:
        """Return height and width of the first block's nodes."""
        height, width = self.image[1:]
        return (-(-height // 4), -(-width // 4)) if self.large_stem else (height, width)


class TrainingConfig(Settings):
    """One training, except for its seed and data."""

    epochs: Epochs = flag(9, "Passes over the training set.", TRAINING)
    lr: Annotated[float, Field(gt=0, le=1000)] = flag(0.15, "Largest learning rate.", TRAINING)
    batch_size: Annotated[int, Field(ge=2, le=10**6)] = flag(16, "Images in a step.", TRAINING)
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = flag(1e-4, "L2 penalty on all weights.", TRAINING)
    lr_drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = flag(
        None,
        "Shares of the training at which the learning rate falls to a tenth, such as 0.5,0.75. [default: a linear "
        "warm-up, then a cosine descent to 0]",
        TRAINING,
        form="<float,...>",
        separator=",",
    )
    warm_up: Annotated[float, Field(ge=0, lt=1)] | None = flag(
        None,
        "Share of the training in which the learning rate rises linearly to the largest. [default: 0.1 before a cosine "
        "descent, 0 before drops; in task text, some 30 steps before a cosine]",
        TRAINING,
    )

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


def _check_merge(config: ShapeConfig) -> str | None:
    if config.is_concat or config.surroundings is not None:
        return None
    given = [] if config.compression is None else ["compression"]
    given += [] if config.stem == config.growth else ["stem-channels"]
    if not given:
        return None
    return f"merge {config.merge} needs nodes of one width, growth channels: drop {' and '.join(given)}"


def _check_compression(config: ShapeConfig) -> str | None:
    is_wrong = config.compression is not None and config.transition in ("v1", "v2")
    return f"transitions {config.transition} have widths of their own: drop compression" if is_wrong else None


def _check_surroundings(config: ShapeConfig) -> str | None:
    return None if config.surroundings is None else config.surroundings.find_problem(config)


def _check_pattern_depth(config: ShapeConfig) -> str | None:
    depth = config.pattern_depth
    return None if depth <= MAX_LAYERS else f"a pattern over {depth} layers is too deep: {MAX_LAYERS} are the most"


def _check_exits(config: ShapeConfig) -> str | None:
    surroundings, n_layers = config.surroundings, sum(config.block_depths)
    if surroundings is not None and config.exits != LAST:
        return f"exits {config.exits} are of blocks in a row, not of {surroundings.kind}: drop exits"
    if config.exit_step is not None and config.exit_step >= n_layers:
        return f"exits {config.exits}: there are {n_layers} layers, so the last exit would be the only one; give less"
    if config.exit_loss != "sum" and not config.has_several_exits:
        return f"exit-loss {config.exit_loss} weighs several exits, and there is only the last: give exits every:S too"
    return None


def _check_resolution(config: NetworkConfig) -> str | None:
    if config.surroundings is not None:  # which know better how often it halves an image
        return None
    height, width = config.resolution
    if min(height, width) >> (config.blocks - 1) >= 1:
        return None
    most = min(height, width).bit_length()
    after = " after the large stem" if config.large_stem else ""
    return f"{config.blocks} blocks halve an image of {height}x{width}{after} away: give at most {most} blocks"
