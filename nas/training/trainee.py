"""What the training loop trains, one candidate or several, each of which can be taken out and put back."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from nas.model.candidate import Candidate
from nas.model.cohort import State
from nas.model.layout_network import LayoutNetwork
from nas.model.network import SkipNetwork, build_network
from nas.modules.exit_loss import ExitLoss

_EXIT_LOSS = "exit_loss."  # begins the names of its state in a checkpoint; the network has no part of that name


class Trainee(Protocol):
    """What the training loop trains: candidates, each of which can be taken out and put back."""

    exit_loss: ExitLoss | None  # what is trained of several exits; None: there is one

    def predict(self, images: Tensor) -> Tensor:
        """Images (cohort, batch, channels, height, width) -> logits (cohort, batch, classes).

        With exits, logits are (cohort, batch, exits, classes).
        """

    def module(self) -> nn.Module:
        """Return all that is trained."""

    def pack(self) -> list[Tensor]:
        """Let parameters be views of fewer tensors, as far as possible; return these; see FusedLayers.pack."""

    def begin_step(self, step: int, n_steps: int) -> None:
        """Prepare a training step: draw what it leaves out, and drop what is not read from it on.

        Args:
            step: number of the step, from 0.
            n_steps: number of steps of the whole training.
        """

    def penalty(self) -> Tensor | None:
        """Return what a training step adds to the loss; None: nothing."""

    def end_drops(self) -> None:
        """Drop nothing from now on."""

    def take_out(self, member: int, optimizer: torch.optim.Optimizer) -> tuple[State, dict[str, Any]]:
        """Return the state_dicts of a member's network and optimiser, as if it were trained separately."""

    def put_back(self, states: Sequence[tuple[State, dict[str, Any]]], optimizer: torch.optim.Optimizer) -> None:
        """Load the states of all members; the inverse of take_out."""

    def take_on(self, candidates: Sequence[Candidate]) -> bool:
        """Become other candidates in the same tensors, as a captured graph requires; return whether it could."""

    def network_of(self, member: int) -> SkipNetwork | LayoutNetwork:
        """Return a member's network with its current weights."""


class Single:
    """One candidate as a trainee.

    Args:
        candidate: what to train.
        device: where to train it.
        is_fused: see SkipNetwork.fuse_layers.
        memory_efficient: see SkipNetwork.recompute_activations.
    """

    def __init__(
        self, candidate: Candidate, device: torch.device, is_fused: bool = False, memory_efficient: bool = False
    ) -> None:
        self._seed, self._has_drops = candidate.seed, candidate.network.has_drops or candidate.network.has_layout
        self._network = build_network(candidate).to(device)
        if isinstance(self._network, SkipNetwork):
            self._network.recompute_activations(memory_efficient)
            if is_fused:
                self._network.fuse_layers()
        self.exit_loss: ExitLoss | None = None
        if isinstance(self._network, LayoutNetwork) and (n_exits := len(self._network.layout.outputs)) > 1:
            self.exit_loss = ExitLoss(n_exits, candidate.network.exit_loss == "adaloss").to(device)

    def predict(self, images: Tensor) -> Tensor:
        return cast(Tensor, self._network(images[0]))[None]

    def module(self) -> nn.Module:
        return self._network

    def pack(self) -> list[Tensor]:
        return self._network.pack() if isinstance(self._network, SkipNetwork) else []

    def begin_step(self, step: int, n_steps: int) -> None:
        if self._has_drops:
            self._network.draw_drops(self._seed, step)
        if isinstance(self._network, LayoutNetwork):
            self._network.begin_step(step, n_steps)

    def penalty(self) -> Tensor | None:
        return self._network.penalty() if isinstance(self._network, LayoutNetwork) else None

    def end_drops(self) -> None:
        self._network.end_drops()

    def take_out(self, member: int, optimizer: torch.optim.Optimizer) -> tuple[State, dict[str, Any]]:  # noqa: ARG002
        state = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}  # not views of others
        if self.exit_loss is not None:
            state |= self.exit_loss.state_dict(prefix=_EXIT_LOSS)
        return state, optimizer.state_dict()

    def put_back(self, states: Sequence[tuple[State, dict[str, Any]]], optimizer: torch.optim.Optimizer) -> None:
        ((network, optimizer_state),) = states
        if self.exit_loss is not None:
            state = {name.removeprefix(_EXIT_LOSS): x for name, x in network.items() if name.startswith(_EXIT_LOSS)}
            self.exit_loss.load_state_dict(state)
            network = {name: x for name, x in network.items() if not name.startswith(_EXIT_LOSS)}
        self._network.load_state_dict(network)
        optimizer.load_state_dict(optimizer_state)

    def take_on(self, candidates: Sequence[Candidate]) -> bool:  # noqa: ARG002
        return False  # its pattern is in its modules

    def network_of(self, member: int) -> SkipNetwork | LayoutNetwork:  # noqa: ARG002
        return self._network
