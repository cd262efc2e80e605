"""Settings of a comparison of networks."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from nas.model.candidate import NETWORK, SUM
from nas.records.checked import Conflict, flag
from nas.records.database import Kind
from nas.settings.search import RUNNING, SEARCH_ONLY, SearchConfig, check_enough_patterns

DENSE, LOG, LEARNED = "dense", "log", "learned"
Name = Literal["dense", "log-densenet-v1", "log-densenet-v2", "log", "optimum", "learned"]
NETWORKS: tuple[Name, ...] = get_args(Name)  # in the order of training: learned needs dense first


class LineupConfig(SearchConfig):
    """All settings of a comparison of networks.

    Layers, blocks, growth, layer and merge are those of `log`, and the others' growth is chosen to match its FLOPs. All
    else follows from the network's name: see make_contender.
    """

    kind: ClassVar[Kind] = "comparison"
    changeable: ClassVar[frozenset[str]] = RUNNING | {"seeds"}
    without_flags: ClassVar[frozenset[str]] = SEARCH_ONLY | {
        "budget",
        "trials",
        "templates",
        "seed",
        "proxies",
        "task",
        "set",
        "exits",
        "exit_loss",
    }

    strategy: str = "random"  # nothing is proposed
    networks: Annotated[tuple[Name, ...], Field(min_length=1)] = flag(
        NETWORKS, "Network to train. May be repeated. [default: all]", NETWORK, flag="network"
    )

    @field_validator("networks", mode="before")
    @classmethod
    def _read_networks(cls, given: Any) -> Any:
        """Sort networks in the order of training; a name that is none comes last and is refused."""
        if not isinstance(given, list | tuple):
            return given
        return tuple(sorted(dict.fromkeys(map(str, given)), key=lambda name: [*NETWORKS, name].index(name)))

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        for needed, check in super().conflicts():
            if check is not check_enough_patterns:  # nothing is proposed
                yield needed, check
        yield {"networks", "merge"}, _check_learned
        own = {"transition", "stem_channels", "compression", "block_layers", "budget", "pattern", "exits"}
        yield own, _check_surroundings

    @property
    def deepest(self) -> int:
        """Return the number of layers of all blocks, which V1's pattern spans."""
        return self.layers * self.blocks


def _check_learned(config: LineupConfig) -> str | None:
    if LEARNED not in config.networks:
        return None
    if config.merge == SUM:
        return "a plain sum has no strength of a connection, which network learned goes by: leave it out"
    return (
        None if DENSE in config.networks else "learned keeps the strongest connections of dense: give network dense too"
    )


def _check_surroundings(config: LineupConfig) -> str | None:
    is_plain = config.has_equal_cost and config.transition == "log" and config.budget == "log"
    if is_plain and config.pattern is None and config.exit_step is None:
        return None
    return (
        "each network has a pattern and surroundings of its own: drop transition, stem-channels, compression, "
        "block-layers, budget, pattern, exits and another package's merge"
    )
