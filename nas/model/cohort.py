"""Candidates -> one fused torch.nn.Module."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.engines.fused_layers import FusedLayers, can_fuse
from nas.model.candidate import Candidate
from nas.model.network import Block, Reader, SkipNetwork, build_network

State = dict[str, Tensor]


def describe_structure(candidate: Candidate) -> Hashable:
    """What candidates of one cohort must share: all but the patterns, as far as they leave no mark on widths."""
    blocks = candidate.wiring.blocks
    return candidate.network, tuple((one.inputs, tuple(t.channels for t in one.transitions)) for one in blocks)


class Trainee(Protocol):
    """What the training loop trains: some candidates, of which each can be taken out and put back."""

    def predict(self, images: Tensor) -> Tensor:
        """Images (cohort, batch, channels, height, width) -> logits (cohort, batch, classes)."""

    def module(self) -> nn.Module:
        """All that is trained."""

    def take_out(self, member: int, optimizer: torch.optim.Optimizer) -> tuple[State, dict[str, Any]]:
        """The state_dict of a member's network, and of its optimiser, as if it were trained alone."""

    def put_back(self, states: Sequence[tuple[State, dict[str, Any]]], optimizer: torch.optim.Optimizer) -> None:
        """The inverse of take_out, of all members."""

    def take_on(self, candidates: Sequence[Candidate]) -> bool:
        """Become other candidates in the same tensors, as a captured graph asks for; whether it could."""

    def network_of(self, member: int) -> SkipNetwork:
        """A member's network as it stands."""


class Single:
    """One candidate as a trainee.

    Args:
        candidate: what to train.
        device: where.
        is_fused: see SkipNetwork.fuse_layers.
        memory_efficient: see SkipNetwork.recompute_activations.
    """

    def __init__(
        self, candidate: Candidate, device: torch.device, is_fused: bool = False, memory_efficient: bool = False
    ) -> None:
        self._network = build_network(candidate).to(device)
        self._network.recompute_activations(memory_efficient)
        if is_fused:
            self._network.fuse_layers()

    def predict(self, images: Tensor) -> Tensor:
        """See Trainee."""
        return cast(Tensor, self._network(images[0]))[None]

    def module(self) -> nn.Module:
        """See Trainee."""
        return self._network

    def take_out(self, member: int, optimizer: torch.optim.Optimizer) -> tuple[State, dict[str, Any]]:  # noqa: ARG002
        """See Trainee."""
        return self._network.state_dict(), optimizer.state_dict()

    def put_back(self, states: Sequence[tuple[State, dict[str, Any]]], optimizer: torch.optim.Optimizer) -> None:
        """See Trainee."""
        ((network, own),) = states
        self._network.load_state_dict(network)
        optimizer.load_state_dict(own)

    def take_on(self, candidates: Sequence[Candidate]) -> bool:  # noqa: ARG002
        """See Trainee: its pattern is in its modules."""
        return False

    def network_of(self, member: int) -> SkipNetwork:  # noqa: ARG002  Trainee's form
        """See Trainee."""
        return self._network


class CohortNetwork(nn.Module):
    """Several candidates of one stratum as one network (HFTA, MLSys 2021), which patterns of their own tell apart.

    Every parameter and statistic has a leading cohort axis; convolutions run in groups, or whole blocks as one
    operation. A member that reads fewer channels than another is filled up by weights of zero, which stay zero: what
    they read is scaled by 0, and ReLU passes no gradient at 0. Members share no number, so that what is not finite in
    one leaves the others as they are.

    Args:
        candidates: of equal structure: see describe_structure.
        device: where they are trained.
        is_fused: whether blocks without bottlenecks run as one operation: see FusedLayers.

    Raises:
        ValueError: their structures differ.
    """

    def __init__(self, candidates: Sequence[Candidate], device: torch.device, is_fused: bool = False) -> None:
        super().__init__()
        if len({describe_structure(one) for one in candidates}) != 1:
            raise ValueError("candidates of a cohort must share the network around their patterns, and its widths")
        self.n_members = len(candidates)
        networks = [build_network(one) for one in candidates]
        self._note(candidates, networks)
        self._names = [name for name, _ in networks[0].named_parameters()]
        self.network = _stack_networks(networks).to(device)
        self._fused: list[FusedLayers | None] = [
            self._fuse(number) if is_fused else None for number in range(len(self._sources))
        ]

    def _note(self, candidates: Sequence[Candidate], networks: Sequence[SkipNetwork]) -> None:
        """Keep what tells the members apart."""
        self._candidates = list(candidates)
        self._shapes = [{name: one.shape for name, one in network.state_dict().items()} for network in networks]
        wirings = [one.wiring for one in candidates]
        self._sources = [[one.blocks[b].sources for one in wirings] for b in range(len(wirings[0].blocks))]
        self._transition_reads = [
            list(zip(*([t.reads for t in one.blocks[b].transitions] for one in wirings), strict=True))
            for b in range(len(self._sources))
        ]
        self._read = [one.read for one in wirings]

    def _fuse(self, number: int) -> FusedLayers | None:
        """A block's layers as one operation, where they are of a form that it takes."""
        layers = [cast(Reader, one) for one in cast(Block, self.network.blocks[number]).layers]
        wirings = [one.wiring for one in self._candidates]
        if len(layers[0]) > Reader.N_RECOMPUTED:
            return None
        if not self._can_fuse(number, self._sources[number]):
            return None
        wanted = sorted(set().union(*(one.read_after(number) for one in wirings)))
        normalisations = [cast(nn.BatchNorm2d, layer[1]) for layer in layers]
        convolutions = [cast(nn.Conv2d, layer[3]) for layer in layers]
        return FusedLayers(
            wirings[0].blocks[number].inputs, self._sources[number], wanted, normalisations, convolutions
        )

    def _can_fuse(self, number: int, sources: Sequence[Sequence[tuple[int, ...]]]) -> bool:
        """Whether a block's layers of one convolution each can run as one operation, reading these nodes."""
        first = self._candidates[0]
        widths, map_width = first.wiring.blocks[number].inputs, first.network.resolution[1] >> number
        return can_fuse(sources, widths, first.network.growth, map_width, self.network.classifier.weight.device)

    def module(self) -> nn.Module:
        """See Trainee."""
        return self.network

    def predict(self, images: Tensor) -> Tensor:
        """See Trainee."""
        return cast(Tensor, self(images))

    def forward(self, images: Tensor) -> Tensor:
        """See predict. On the way members lie side by side: (batch, cohort * channels, height, width)."""
        x = images.transpose(0, 1).flatten(1, 2)
        inputs = [self._run(self.network.stem, x)]
        transitions = iter(self.network.transitions)
        for number, block in enumerate(self.network.blocks):
            features = self._run_layers(number, cast(Block, block), inputs)
            inputs = [
                self._run_reader(features, reads, cast(Reader, next(transitions)))
                for reads in self._transition_reads[number]
            ]
        features_read = self._run_reader(features, self._read, self.network.head).mean(dim=(2, 3))
        classifier = self.network.classifier
        by_member = self._part(features_read).transpose(0, 1)  # (cohort, batch, channels)
        return torch.baddbmm(classifier.bias[:, None], by_member, classifier.weight.transpose(1, 2))

    def _part(self, x: Tensor) -> Tensor:
        """(batch, cohort * channels, ...) -> (batch, cohort, channels, ...)."""
        return x.reshape(len(x), self.n_members, -1, *x.shape[2:])

    def _run_layers(self, number: int, block: Block, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
        """A block's inputs -> its nodes, or those of them that are read later."""
        fused = self._fused[number]
        if fused is not None:
            apart = [self._part(x).transpose(0, 1) for x in inputs]
            return {node: x.transpose(0, 1).flatten(1, 2) for node, x in fused(apart, self.network.training).items()}
        features = dict(enumerate(inputs))
        for k, layer in enumerate(block.layers):
            reads = [own[k] for own in self._sources[number]]
            features[len(features)] = self._run_reader(features, reads, cast(Reader, layer))
        return features

    def _run_reader(self, features: Mapping[int, Tensor], reads: Sequence[tuple[int, ...]], reader: Reader) -> Tensor:
        """Concatenate what each member reads, filled up to equal channels, and run what follows."""
        # unbind: the gradient of a slice by itself would be as large as all members' together.
        apart = {node: self._part(features[node]).unbind(1) for node in set().union(*reads)}
        n_read = cast(nn.BatchNorm2d, reader[1]).weight.shape[1]
        parts = []
        for member, nodes in enumerate(reads):
            own = [apart[node][member] for node in nodes]
            n_missing = n_read - sum(part.shape[1] for part in own)
            parts += [*own, own[0].new_zeros(len(own[0]), n_missing, *own[0].shape[2:])] if n_missing else own
        x = torch.cat(parts, dim=1)
        for module in list(reader)[1:]:
            x = self._run(module, x)
        return x

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        """A module of the network on all members side by side."""
        if isinstance(module, nn.Sequential):
            for one in module:
                x = self._run(one, x)
            return x
        if isinstance(module, nn.Conv2d):
            weight = module.weight.flatten(0, 1)
            return F.conv2d(x, weight, None, module.stride, cast(Any, module.padding), groups=self.n_members)
        if isinstance(module, nn.BatchNorm2d):
            return self._normalise(module, x)
        return cast(Tensor, module(x))  # ReLU and pooling take each channel by itself

    def _normalise(self, module: nn.BatchNorm2d, x: Tensor) -> Tensor:
        """As nn.BatchNorm2d does, its running statistics included."""
        mean, variance, count = (
            cast(Tensor, one) for one in (module.running_mean, module.running_var, module.num_batches_tracked)
        )
        factor = module.momentum or 0.0
        if module.training:
            count.add_(1)
            factor = 1 / float(count) if module.momentum is None else module.momentum
        weight, bias = module.weight.flatten(), module.bias.flatten()
        return F.batch_norm(x, mean.view(-1), variance.view(-1), weight, bias, module.training, factor, module.eps)

    def take_out(self, member: int, optimizer: torch.optim.Optimizer) -> tuple[State, dict[str, Any]]:
        """See Trainee."""
        shapes = self._shapes[member]
        network = {name: _cut(one, member, shapes[name]) for name, one in self.network.state_dict().items()}
        held = optimizer.state_dict()
        states = {
            k: {name: None if one is None else _cut(one, member, shapes[self._names[k]]) for name, one in own.items()}
            for k, own in held["state"].items()
        }
        return network, {**held, "state": states}

    def put_back(self, states: Sequence[tuple[State, dict[str, Any]]], optimizer: torch.optim.Optimizer) -> None:
        """See Trainee."""
        self.network.load_state_dict({name: _stack([own[name] for own, _ in states]) for name in states[0][0]})
        held = [own for _, own in states]
        joined = {
            k: {
                name: None if one is None else _stack([other["state"][k][name] for other in held])
                for name, one in own.items()
            }
            for k, own in held[0]["state"].items()
        }
        if not optimizer.state:
            optimizer.load_state_dict({**held[0], "state": joined})
            return
        for parameter, own in zip(self.network.parameters(), joined.values(), strict=True):
            for name, one in own.items():
                if one is not None:
                    optimizer.state[parameter][name].copy_(one)

    def take_on(self, candidates: Sequence[Candidate]) -> bool:
        """See Trainee. It can where fused blocks alone change, and each of their layers reads as much as before."""
        if len(candidates) != self.n_members or self._describe(candidates) != self._describe(self._candidates):
            return False
        networks = [build_network(one) for one in candidates]
        self._note(candidates, networks)
        self.network.load_state_dict(_stack_networks(networks).state_dict())
        for fused, sources in zip(self._fused, self._sources, strict=True):
            if fused is not None:
                fused.read_others(sources)
        return True

    def _describe(self, candidates: Sequence[Candidate]) -> object:
        """What a network of candidates computes, but for what lies in its tensors."""
        wirings = [one.wiring for one in candidates]
        layers: list[object] = []
        for number, fused in enumerate(self._fused):
            sources = [one.blocks[number].sources for one in wirings]
            if fused is None:
                layers.append(sources)
            else:
                by_layer = list(zip(*sources, strict=True))
                degrees = [max(map(len, reads)) for reads in by_layer]
                n_read = [max(wirings[0].channels(number, nodes) for nodes in reads) for reads in by_layer]
                layers.append((self._can_fuse(number, sources), degrees, n_read))
        behind = [(one.read, [[t.reads for t in block.transitions] for block in one.blocks]) for one in wirings]
        return [describe_structure(one) for one in candidates], layers, behind

    def network_of(self, member: int) -> SkipNetwork:
        """See Trainee."""
        network = build_network(self._candidates[member])
        shapes = self._shapes[member]
        held = self.network.state_dict()
        network.load_state_dict({name: _cut(one, member, shapes[name]) for name, one in held.items()})
        return network.to(self.network.classifier.weight.device)


def _stack_networks(networks: Sequence[SkipNetwork]) -> SkipNetwork:
    """The first network, its parameters and statistics in the place of its own all networks' together."""
    for modules in zip(*(network.modules() for network in networks), strict=True):
        first = modules[0]
        for name in first._parameters:
            if first._parameters[name] is not None:
                first._parameters[name] = nn.Parameter(_stack([one._parameters[name] for one in modules]))
        for name in first._buffers:
            first._buffers[name] = _stack([cast(Tensor, one._buffers[name]) for one in modules])
    return networks[0]


def _stack(tensors: Sequence[Tensor | None]) -> Tensor:
    """Side by side along a new first axis, each filled up by zeros to the largest; a count that all share as it is."""
    given = [cast(Tensor, one).detach() for one in tensors]
    if given[0].dim() == 0:
        return given[0].clone()
    shape = [max(sizes) for sizes in zip(*(one.shape for one in given), strict=True)]
    stacked = given[0].new_zeros(len(given), *shape)
    for place, one in zip(stacked, given, strict=True):
        place[tuple(slice(size) for size in one.shape)] = one
    return stacked


def _cut(stacked: Tensor, member: int, shape: torch.Size) -> Tensor:
    """The inverse of _stack, a copy."""
    if stacked.dim() == 0:
        return stacked.clone()
    return stacked[member][tuple(slice(size) for size in shape)].clone()
