"""What a published network is here."""

from dataclasses import dataclass
from typing import Any

from nas.layouts.layout import Surroundings
from nas.model.candidate import Candidate, NetworkConfig
from search_spaces.pattern import ConnectionPattern

CIFAR: dict[str, Any] = {"classes": 10, "image": (3, 32, 32)}
IMAGENET: dict[str, Any] = {"classes": 1000, "image": (3, 224, 224), "large_stem": True}
N_BLOCKS = 3  # of networks for 32x32 images


@dataclass(frozen=True, slots=True)
class Preset:
    """A published network.

    Args:
        name: its name on the command line.
        paper: publication.
        network: network around its pattern, which can take any pattern of the same depth.
        pattern: its own pattern.
        template: name of the rule that gives the pattern, or None.
        differs: known differences from the publication; empty if there are none.
        own_surroundings: surroundings of its own pattern, where the publication's network lacks connections that any
            pattern has; None: those of `network`.
    """

    name: str
    paper: str
    network: NetworkConfig
    pattern: ConnectionPattern
    template: str | None
    differs: str = ""
    own_surroundings: Surroundings | None = None

    @property
    def candidate(self) -> Candidate:
        """The network itself; its seed plays no part."""
        own = {} if self.own_surroundings is None else {"surroundings": self.own_surroundings}
        return Candidate(self.pattern, self.network.model_copy(update=own), seed=0, template=self.template)
