"""What a published network is here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
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
        own_options: options that the surroundings of its own pattern have and those of other patterns have not: the
            publication's network may lack connections that any pattern has.
    """

    name: str
    paper: str
    network: NetworkConfig
    pattern: ConnectionPattern
    template: str | None
    differs: str = ""
    own_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def candidate(self) -> Candidate:
        """The network itself; its seed plays no part."""
        return Candidate(self.pattern, self.surround(self.network), seed=0, template=self.template)

    def surround(self, network: NetworkConfig) -> NetworkConfig:
        """Return a network around its own pattern, given that around any pattern, which may have other sizes."""
        if not self.own_options or network.surroundings is None:
            return network
        own = network.surroundings.model_copy(update=self.own_options)
        return network.model_copy(update={"surroundings": own})
