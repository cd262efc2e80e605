"""A candidate: a pattern, the network around it, a seed, and how it is trained."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from nas.layouts.layout import MAX_READS, Frame, Layout, Surroundings, measure_layout
from nas.layouts.rows import RowForm, lay_out_rows
from nas.model.config import NetworkConfig, TrainingConfig
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template, name_rule
from search_spaces.wiring.blocks import (
    GlobalDistance,
    Widths,
    Wiring,
    classifier_reads,
    global_distance,
    transition_inputs,
    wire_across,
    wire_summaries,
    wire_within,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing to train: a pattern, the network around it and the seed of its training.

    Args:
        pattern: the pattern of every block.
        network: the rest of the network.
        seed: seed of the split, the initial weights and the order of data.
        template: name of the rule that gave the pattern, or None.
        training: settings of the training; None for the run's own.
    """

    pattern: ConnectionPattern
    network: NetworkConfig
    seed: int
    template: str | None = None
    training: TrainingConfig | None = None

    @property
    def patterns(self) -> tuple[ConnectionPattern, ...]:
        """Return the pattern of each block, or with transitions v1 the one over all blocks."""
        network = self.network
        if network.spans_blocks:
            return (self.pattern,)
        return tuple(_fit(self.pattern, depth, self.template) for depth in network.block_depths)

    @property
    def reads(self) -> tuple[int, ...]:
        """Return the nodes of the pattern that the classifier reads.

        Raises:
            InputError: there is no rule where one is needed.
        """
        return classifier_reads(self.network.transition, self.pattern, self.template)

    @property
    def wiring(self) -> Wiring:
        """Return what every layer, every transition and the classifier read and write.

        Raises:
            InputError: the pattern has another depth than the network, or no rule where one is needed.
        """
        return _wire(self.pattern, self.network, self.template)

    @property
    def layout(self) -> Layout:
        """Return all nodes of a network that is built from a layout.

        Raises:
            InputError: the pattern has another depth than the network.
        """
        return _lay_out(self.pattern, self.network, self.template)

    @property
    def global_distance(self) -> GlobalDistance:
        """Return backprop distances through the whole network, a change of resolution one hop.

        Raises:
            InputError: some node does not reach back to an earlier one.
        """
        return measure_layout(self.layout) if self.network.has_layout else global_distance(self.wiring)


def check_depth(pattern: ConnectionPattern, network: NetworkConfig) -> None:
    """Refuse a pattern of another depth than a network's.

    Raises:
        InputError: with both depths.
    """
    if pattern.depth != network.pattern_depth:
        where = "in all its blocks" if network.spans_blocks else "a block"
        raise InputError(
            f"a pattern of {pattern.depth} layers does not fit a network of {network.pattern_depth} layers {where}"
        )


def _fit(pattern: ConnectionPattern, depth: int, template: str | None) -> ConnectionPattern:
    """Return the pattern of a block with fewer layers: what its rule gives there, or its first layers."""
    if depth == pattern.depth:
        return pattern
    if template is not None and name_rule(template) is not None:
        return find_template(template).build(depth)
    return ConnectionPattern(depth, pattern.sources[:depth])


@lru_cache(maxsize=256)  # cost, network and distances ask for the same wiring
def _wire(pattern: ConnectionPattern, network: NetworkConfig, template: str | None) -> Wiring:
    check_depth(pattern, network)
    compression = None if network.compression is None else Fraction(str(network.compression))  # 0.29 of 100 is 29
    widths = Widths(network.stem, network.growth, compression, network.is_concat)
    if network.transition == "v1":
        return wire_across(pattern, network.block_depths, widths)
    patterns = [_fit(pattern, depth, template) for depth in network.block_depths]
    if network.transition == "v2":
        return wire_summaries(patterns, widths)
    reads = [transition_inputs(network.transition, depth, template) for depth in network.block_depths]
    return wire_within(patterns, reads, widths)


def _check_reads(pattern: ConnectionPattern, network: NetworkConfig, template: str | None) -> None:
    """Check that a network is not too large to be laid out node by node.

    Raises:
        InputError: it is.
    """
    depths = (pattern.depth,) if network.spans_blocks else network.block_depths
    n_connections = sum(_fit(pattern, depth, template).n_connections for depth in depths)
    each = 1 if network.surroundings is None else network.surroundings.reads_per_connection
    if n_connections * each > MAX_READS:
        raise InputError(
            f"{n_connections:,} connections are too many for this network: it takes at most {MAX_READS // each:,}, all "
            "blocks together; give fewer layers, blocks or connections"
        )


@lru_cache(maxsize=256)
def _lay_out(pattern: ConnectionPattern, network: NetworkConfig, template: str | None) -> Layout:
    check_depth(pattern, network)
    surroundings: Surroundings | None = network.surroundings
    _check_reads(pattern, network, template)
    if surroundings is None:
        form = RowForm(
            layer=network.layer,
            classes=network.classes,
            merge=network.merge,
            drop_layers=network.drop_layers,
            drop_path=network.drop_path,
            large_stem=network.large_stem,
            exit_step=network.exit_step,
        )
        return lay_out_rows(_wire(pattern, network, template), form)
    frame = Frame(
        pattern=pattern,
        depths=network.block_depths,
        fit=lambda depth: _fit(pattern, depth, template),
        reads=classifier_reads(network.transition, pattern, template),
        leave=lambda block: classifier_reads(network.transition, block, template),
        growth=network.growth,
        stem=network.stem,
        classes=network.classes,
        channels=network.image[0],
        merge=network.merge,
        layer=network.layer,
        drop_layers=network.drop_layers,
        drop_path=network.drop_path,
    )
    return surroundings.lay_out(frame)
