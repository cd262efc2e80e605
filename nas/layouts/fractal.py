"""FractalNet: blocks of a fractal graph or of any pattern, whose layers read means."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from nas.layouts.layout import Frame
from nas.layouts.operations import (
    BN_RELU,
    Convolution,
    Dropout,
    FirstChannels,
    GlobalMax,
    Linear,
    Operation,
    Pool,
    Shortcut,
)
from nas.layouts.residual import AddingNetwork, Factors, find_width
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern


class Fractal(NamedTuple):
    """The graph of a fractal: what each layer reads, and the layers that leave it, both as in a pattern."""

    sources: tuple[tuple[int, ...], ...]
    leaves: tuple[int, ...]

    @property
    def pattern(self) -> ConnectionPattern:
        """The pattern with these connections, and those of the chain that the fractal lacks."""
        return ConnectionPattern.from_sources(
            {*reads, layer}
            for layer, reads in enumerate(self.sources)  # layer + 1 reads them
        )


def expand_fractal(columns: int) -> Fractal:
    """Return the fractal of this many columns (FractalNet, arXiv:1605.07648, section 3).

    f_1 is one layer, and f_{C+1} is two f_C in a row, joined with one layer next to them. Joins that follow one another
    are one, so a layer reads all that was joined. The layers stand in the order of the expansion, the two f_C first.

    >>> expand_fractal(3)
    Fractal(sources=((0,), (1,), (0,), (2, 3), (4,), (2, 3), (0,)), leaves=(5, 6, 7))
    """
    sources: list[tuple[int, ...]] = []

    def expand(columns: int, reads: tuple[int, ...]) -> tuple[int, ...]:
        joined = expand(columns - 1, expand(columns - 1, reads)) if columns > 1 else ()
        sources.append(reads)
        return (*joined, len(sources))

    leaves = expand(columns, (0,))
    return Fractal(tuple(sources), leaves)


class FractalNet(AddingNetwork):
    """FractalNet for small images (arXiv:1605.07648), around any pattern.

    A layer is 3x3-dropout-BN-ReLU without biases, of the mean of what it reads where the merge is sum. There is no
    stem: node 0 of the first block is the image. Node 0 is padded with channels of zeros to the block's width, so that
    it can be added to layers; the first layer, which reads nothing else in any pattern, leaves these out. 2x2 max
    pooling follows each block, and after the last one the largest value of each channel goes to the classifier.

    Args:
        factors: width of each block, as a multiple of growth.
        dropout: probability of dropout in the last block's layers; it rises linearly from 0 in the first.
        leaves_chain_out: whether the fractal's own pattern is built without the chain's connections that the paper's
            graph lacks, as FractalNet itself. Other patterns always have their chain.
    """

    kind: Literal["fractal"] = "fractal"
    factors: Factors = (1, 2, 4, 8, 8)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    leaves_chain_out: bool = False

    @property
    def has_equal_cost(self) -> bool:
        """Whether cost depends on the number of connections only; FractalNet's own layers read fewer channels."""
        return not self.leaves_chain_out

    @property
    def drops_between(self) -> bool:
        return True

    @property
    def takes_means(self) -> bool:
        return True

    def enter(self, frame: Frame, number: int) -> tuple[Operation, ...]:
        width, entering = find_width(frame, self.factors, number), self._entering(frame, number)
        if entering > width:
            raise InputError(
                f"block {number + 1} of {width} channels reads {entering}: no block of this network may be narrower "
                "than the image or the block before; give more growth"
            )
        padding = (Shortcut(width),)
        return (Pool("max"), *padding) if number else padding

    def work(self, frame: Frame, number: int, index: int, reads: tuple[int, ...]) -> tuple[Operation, ...]:  # noqa: ARG002
        chosen = (FirstChannels(self._entering(frame, number)),) if reads == (0,) else ()
        share = number / max(1, len(frame.depths) - 1)
        convolution = Convolution(find_width(frame, self.factors, number))
        return (*chosen, convolution, Dropout(self.dropout * share), *BN_RELU)

    def finish(self, frame: Frame) -> tuple[Operation, ...]:
        return (GlobalMax(), Linear(frame.classes))

    def wire(self, pattern: ConnectionPattern) -> tuple[tuple[int, ...], ...]:
        own = self._find_own(pattern)
        return pattern.sources if own is None else own.sources

    def leave(self, frame: Frame, pattern: ConnectionPattern) -> tuple[int, ...]:
        own = self._find_own(pattern)
        return frame.leave(pattern) if own is None else own.leaves

    def _entering(self, frame: Frame, number: int) -> int:
        """Return the channels that enter a block, without those of padding."""
        return find_width(frame, self.factors, number - 1) if number else frame.channels

    def _find_own(self, pattern: ConnectionPattern) -> Fractal | None:
        """Return the fractal whose pattern this is, if it is to be built without its missing connections."""
        if not self.leaves_chain_out:
            return None
        fractal = expand_fractal((pattern.depth + 1).bit_length() - 1)
        return fractal if fractal.pattern == pattern else None
