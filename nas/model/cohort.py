"""Candidates trained together as one fused torch module."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.engines.fused_layers import FusedLayers, can_fuse
from nas.model.candidate import Candidate
from nas.model.config import BOTTLENECK
from nas.model.network import Block, DepthwiseConv, Reader, SkipNetwork, build_skip_network, list_operations
from nas.modules.exit_loss import ExitLoss
from nas.modules.merges import Concat, Weighted, weigh

State = dict[str, Tensor]


def describe_structure(candidate: Candidate) -> Hashable:
    """Return what candidates of one cohort must share: the network around the pattern and the widths of its parts."""
    if candidate.network.has_layout:
        return candidate.network, ()  # trained one at a time
    blocks = candidate.wiring.blocks
    return candidate.network, tuple((block.inputs, tuple(t.channels for t in block.transitions)) for block in blocks)


class CohortNetwork(nn.Module):
    """Several candidates of one stratum as one network (HFTA, MLSys 2021); only their patterns differ.

    Every parameter and statistic has a leading cohort axis; convolutions run in groups, or whole blocks as one
    operation. A member that reads fewer channels than another is padded with weights of zero, which stay zero: their
    input is scaled by 0, and ReLU passes no gradient at 0. Members share no number, so a value that is not finite in
    one leaves the others unchanged.

    Args:
        candidates: candidates of equal structure; see describe_structure.
        device: where they are trained.
        is_fused: whether blocks of plain layers run as one operation; see FusedLayers.

    Raises:
        ValueError: their structures differ, or they have drops, which members would have to share.
    """

    exit_loss: ExitLoss | None = None  # networks with exits are trained one at a time

    def __init__(self, candidates: Sequence[Candidate], device: torch.device, is_fused: bool = False) -> None:
        super().__init__()
        if len({describe_structure(candidate) for candidate in candidates}) != 1:
            raise ValueError("candidates of a cohort must share the network around their patterns, and its widths")
        if candidates[0].network.trains_alone:
            raise ValueError("candidates with drops or another package's merge are trained one at a time")
        self.n_members = len(candidates)
        networks = [build_skip_network(candidate) for candidate in candidates]
        self._note(candidates, networks)
        self._names = [name for name, _ in networks[0].named_parameters()]
        self.network = _stack_networks(networks).to(device)
        self._fused: list[FusedLayers | None] = [
            self._fuse(number) if is_fused else None for number in range(len(self._sources))
        ]

    def _note(self, candidates: Sequence[Candidate], networks: Sequence[SkipNetwork]) -> None:
        """Keep what distinguishes the members."""
        self._candidates = list(candidates)
        self._shapes = [{name: x.shape for name, x in network.state_dict().items()} for network in networks]
        wirings = [candidate.wiring for candidate in candidates]
        self._sources = [[wiring.blocks[b].sources for wiring in wirings] for b in range(len(wirings[0].blocks))]
        self._transition_reads = [
            list(zip(*([t.reads for t in wiring.blocks[b].transitions] for wiring in wirings), strict=True))
            for b in range(len(self._sources))
        ]
        self._head_reads = [wiring.read for wiring in wirings]

    def _block(self, number: int) -> Block:
        return cast(Block, self.network.blocks[number])

    def _fuse(self, number: int) -> FusedLayers | None:
        """Return a block's layers as one operation, or None if they are not of a form that it takes."""
        readers, sources = self._block(number).readers, self._sources[number]
        if not self._candidates[0].network.can_fuse or not self._can_fuse(number, sources):
            return None
        wirings = [candidate.wiring for candidate in self._candidates]
        read_later = sorted(set().union(*(wiring.read_after(number) for wiring in wirings)))
        return FusedLayers(wirings[0].blocks[number].inputs, sources, read_later, *list_operations(readers))

    def _can_fuse(self, number: int, sources: Sequence[Sequence[tuple[int, ...]]]) -> bool:
        """Return whether a block's layers, if of that form, can run as one operation with these sources."""
        first, device = self._candidates[0], self.network.classifier.weight.device
        widths, map_width = first.wiring.blocks[number].inputs, first.network.resolution[1] >> number
        has_bottlenecks = first.network.layer == BOTTLENECK
        return can_fuse(sources, widths, first.network.growth, map_width, device, has_bottlenecks)

    def module(self) -> nn.Module:
        return self.network

    def predict(self, images: Tensor) -> Tensor:
        return cast(Tensor, self(images))

    def pack(self) -> list[Tensor]:
        return [packed for fused in self._fused if fused is not None and (packed := fused.pack()) is not None]

    def begin_step(self, step: int, n_steps: int) -> None:
        """Change nothing: there are no drops, and nothing is condensed."""

    def penalty(self) -> None:
        """Return None: nothing is added to the loss."""

    def end_drops(self) -> None:
        """Change nothing: there are no drops."""

    def forward(self, images: Tensor) -> Tensor:
        """Compute `predict`; in between, members lie next to each other: (batch, cohort * channels, height, width)."""
        x = images.transpose(0, 1).flatten(1, 2)
        inputs = [self._run(self.network.stem, x)]
        transitions = iter(self.network.transitions)
        for number in range(len(self.network.blocks)):
            features = self._run_layers(number, inputs)
            inputs = [
                self._run_reader(features, reads, cast(Reader, next(transitions)))
                for reads in self._transition_reads[number]
            ]
        head = self._run_reader(features, self._head_reads, self.network.head).mean(dim=(2, 3))
        classifier = self.network.classifier
        by_member = self._part(head).transpose(0, 1)  # (cohort, batch, channels)
        return torch.baddbmm(classifier.bias[:, None], by_member, classifier.weight.transpose(1, 2))

    def _part(self, x: Tensor) -> Tensor:
        """(batch, cohort * channels, ...) -> (batch, cohort, channels, ...)."""
        return x.reshape(len(x), self.n_members, -1, *x.shape[2:])

    def _run_layers(self, number: int, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
        """A block's inputs -> its nodes, or those of them that are read later."""
        fused = self._fused[number]
        if fused is not None:
            by_member = [self._part(x).transpose(0, 1) for x in inputs]
            nodes = fused(by_member, self.network.training)
            return {node: x.transpose(0, 1).flatten(1, 2) for node, x in nodes.items()}
        features = dict(enumerate(inputs))
        for k, reader in enumerate(self._block(number).readers):
            reads = [sources[k] for sources in self._sources[number]]
            features[len(features)] = self._run_reader(features, reads, reader)
        return features

    def _run_reader(self, features: Mapping[int, Tensor], reads: Sequence[tuple[int, ...]], reader: Reader) -> Tensor:
        """Merge what each member reads, concatenations padded to equal channels, and run what follows."""
        # unbind: the gradient of a single slice would be as large as that of all members together.
        by_node = {node: self._part(features[node]).unbind(1) for node in set().union(*reads)}
        n_read = reader.norm.weight.shape[1]
        parts = []
        for member, nodes in enumerate(reads):
            own = [by_node[node][member] for node in nodes]
            if not isinstance(reader.merge, Concat):
                parts.append(_merge(reader.merge, own, member))
                continue
            n_missing = n_read - sum(part.shape[1] for part in own)
            parts += [*own, own[0].new_zeros(len(own[0]), n_missing, *own[0].shape[2:])] if n_missing else own
        x = torch.cat(parts, dim=1)
        for part in reader.operations:
            x = self._run(part, x)
        return x

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        """Run a module of the network on all members next to each other."""
        if isinstance(module, nn.Sequential):
            for part in module:
                x = self._run(part, x)
            return x
        if isinstance(module, nn.Conv2d):
            groups = self.n_members * (module.weight.shape[1] if isinstance(module, DepthwiseConv) else 1)
            weight = module.weight.flatten(0, 1)
            return F.conv2d(x, weight, None, module.stride, cast(Any, module.padding), groups=groups)
        if isinstance(module, nn.BatchNorm2d):
            return self._normalise(module, x)
        return cast(Tensor, module(x))  # ReLU and pooling treat each channel separately

    def _normalise(self, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        """Normalise as nn.BatchNorm2d does, running statistics included."""
        mean, variance, count = (
            cast(Tensor, buffer) for buffer in (norm.running_mean, norm.running_var, norm.num_batches_tracked)
        )
        factor = norm.momentum or 0.0
        if norm.training:
            count.add_(1)
            factor = 1 / float(count) if norm.momentum is None else norm.momentum
        weight, bias = norm.weight.flatten(), norm.bias.flatten()
        return F.batch_norm(x, mean.view(-1), variance.view(-1), weight, bias, norm.training, factor, norm.eps)

    def _take_out_network(self, member: int) -> State:
        shapes = self._shapes[member]
        return {name: _cut(x, member, shapes[name]) for name, x in self.network.state_dict().items()}

    def take_out(self, member: int, optimizer: torch.optim.Optimizer) -> tuple[State, dict[str, Any]]:
        shapes = [self._shapes[member][name] for name in self._names]
        joined = optimizer.state_dict()
        states = {
            k: {name: None if x is None else _cut(x, member, shapes[k]) for name, x in state.items()}
            for k, state in joined["state"].items()
        }
        return self._take_out_network(member), {**joined, "state": states}

    def put_back(self, states: Sequence[tuple[State, dict[str, Any]]], optimizer: torch.optim.Optimizer) -> None:
        networks, optimizers = zip(*states, strict=True)
        self.network.load_state_dict({name: _stack([network[name] for network in networks]) for name in networks[0]})
        joined = {
            k: {
                name: None if x is None else _stack([other["state"][k][name] for other in optimizers])
                for name, x in state.items()
            }
            for k, state in optimizers[0]["state"].items()
        }
        if not optimizer.state:
            optimizer.load_state_dict({**optimizers[0], "state": joined})
            return
        for parameter, state in zip(self.network.parameters(), joined.values(), strict=True):
            for name, x in state.items():
                if x is not None:
                    optimizer.state[parameter][name].copy_(x)

    def take_on(self, candidates: Sequence[Candidate]) -> bool:
        """Become other candidates, if only fused blocks change and each of their layers reads as much as before."""
        if len(candidates) != self.n_members or self._describe(candidates) != self._describe(self._candidates):
            return False
        networks = [build_skip_network(candidate) for candidate in candidates]
        self._note(candidates, networks)
        self.network.load_state_dict(_stack_networks(networks).state_dict())
        for fused, sources in zip(self._fused, self._sources, strict=True):
            if fused is not None:
                fused.read_others(sources)
        return True

    def _describe(self, candidates: Sequence[Candidate]) -> object:
        """Return what a network of candidates computes, except for the content of its tensors."""
        wirings = [candidate.wiring for candidate in candidates]
        layers: list[object] = []
        for number, fused in enumerate(self._fused):
            sources = [wiring.blocks[number].sources for wiring in wirings]
            if fused is None:
                layers.append(sources)
            else:
                by_layer = list(zip(*sources, strict=True))
                degrees = [max(map(len, reads)) for reads in by_layer]
                n_read = [max(wirings[0].channels(number, nodes) for nodes in reads) for reads in by_layer]
                layers.append((self._can_fuse(number, sources), degrees, n_read))
        behind = [
            (wiring.read, [[t.reads for t in block.transitions] for block in wiring.blocks]) for wiring in wirings
        ]
        return [describe_structure(candidate) for candidate in candidates], layers, behind

    def network_of(self, member: int) -> SkipNetwork:
        network = build_skip_network(self._candidates[member])
        network.load_state_dict(self._take_out_network(member))
        return network.to(self.network.classifier.weight.device)


def _merge(merge: nn.Module, sources: Sequence[Tensor], member: int) -> Tensor:
    """Merge what one member reads, by its own factors where the merge has any."""
    if isinstance(merge, Weighted):
        return weigh(sources, merge.factors[member, : len(sources)])
    return cast(Tensor, merge(sources))


def _stack_networks(networks: Sequence[SkipNetwork]) -> SkipNetwork:
    """Return the first network with the parameters and statistics of all networks, stacked, in place of its own."""
    for modules in zip(*(network.modules() for network in networks), strict=True):
        first = modules[0]
        for name in first._parameters:
            if first._parameters[name] is not None:
                first._parameters[name] = nn.Parameter(_stack([module._parameters[name] for module in modules]))
        for name in first._buffers:
            first._buffers[name] = _stack([cast(Tensor, module._buffers[name]) for module in modules])
    return networks[0]


def _stack(tensors: Sequence[Tensor | None]) -> Tensor:
    """Stack along a new first axis, each padded with zeros to the largest; a count shared by all stays a scalar."""
    parts = [cast(Tensor, tensor).detach() for tensor in tensors]
    if parts[0].dim() == 0:
        return parts[0].clone()
    shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    stacked = parts[0].new_zeros(len(parts), *shape)
    for place, part in zip(stacked, parts, strict=True):
        place[tuple(slice(size) for size in part.shape)] = part
    return stacked


def _cut(stacked: Tensor, member: int, shape: torch.Size) -> Tensor:
    """Return a copy of one member's part; the inverse of _stack."""
    if stacked.dim() == 0:
        return stacked.clone()
    return stacked[member][tuple(slice(size) for size in shape)].clone()
