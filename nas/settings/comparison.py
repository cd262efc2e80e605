"""Settings of a comparison of networks."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from nas.layouts.merges import SUM
from nas.model.config import NETWORK
from nas.records.checked import Conflict, flag
from nas.records.database import Kind
from nas.settings.search import RUNNING, SEARCH_ONLY, SearchConfig, check_enough_patterns

DENSE, LOG, LEARNED, CONDENSENET, CONDENSED = "dense", "log", "learned", "condensenet", "condensed"
Name = Literal["dense", "log-densenet-v1", "log-densenet-v2", "log", "optimum", "learned", "condensenet", "condensed"]
ORDER: tuple[Name, ...] = get_args(Name)  # of training: who teaches comes first
NETWORKS: tuple[Name, ...] = ORDER[:6]  # without a --network
TEACHERS: dict[str, str] = {LEARNED: DENSE, CONDENSED: CONDENSENET}  # whose trainings the pattern is taken from


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
        NETWORKS,
        f"Network to train: {', '.join(ORDER)}. May be repeated. [default: all but {CONDENSENET} and {CONDENSED}]",
        NETWORK,
        flag="network",
        form="<NAME>",
    )

    @field_validator("networks", mode="before")
    @classmethod
    def _read_networks(cls, given: Any) -> Any:
        """Sort networks in the order of training; a name that is none comes last and is refused."""
        if not isinstance(given, list | tuple):
            return given
        return tuple(sorted(dict.fromkeys(map(str, given)), key=lambda name: [*ORDER, name].index(name)))

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
    for pupil, teacher in TEACHERS.items():
        if pupil in config.networks and teacher not in config.networks:
            return f"{pupil} keeps the strongest connections of {teacher}: give network {teacher} too"
    if LEARNED in config.networks and config.merge == SUM:
        return "a plain sum has no strength of a connection, which network learned goes by: leave it out"
    if CONDENSENET in config.networks and not config.is_concat:
        return f"merge {config.merge}: network condensenet concatenates, leave it out"
    return None


def _check_surroundings(config: LineupConfig) -> str | None:
    is_plain = config.has_equal_cost and config.transition == "log" and config.budget == "log"
    if is_plain and config.pattern is None and config.exit_step is None:
        return None
    return (
        "each network has a pattern and surroundings of its own: drop transition, stem-channels, compression, "
        "block-layers, budget, pattern, exits and another package's merge"
    )
