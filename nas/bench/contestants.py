"""A training step of a standard network, by each engine that `bench` compares: ours and PyTorch's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.layouts.merges import CONCAT, SUM
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig, TrainingConfig
from nas.model.cost import predict_cost
from nas.model.network import Block, SkipNetwork, build_skip_network
from nas.records.checked import validate
from nas.tasks.candidate import TaskPattern
from nas.tasks.text.task import TextTask
from nas.training.stepping import MOMENTUM, Engine, Stepper
from search_spaces.templates import find_template

ONE_PROCESS = "eager, one process"  # with torch's default threads; all others have one thread a process
EAGER = "eager"
CHANNELS_LAST = "eager, channels last"
COMPILED = "torch.compile"
CHARGED = "torch.compile, compilation charged"  # the same steps, with the time of compilation
GROUPED = "grouped fusion"
FUSED = "skipsearch-fused"
CAPTURED = "eager, CUDA graph"
COHORTS = {f"skipsearch-fused-cohort-{n}": n for n in (1, 4, 16, 64)}  # on a GPU: trained together, as a CUDA graph
N_GROUPED = 4  # candidates trained as one network by grouped convolutions
LR, WEIGHT_DECAY = 0.05, 1e-4


@dataclass(frozen=True, slots=True)
class Shape:
    """A standard network to train: pattern log, one block.

    Args:
        name: name of its images.
        image: channels, height, width.
        layers, growth, batch, merge: see a run's settings.
    """

    name: str
    image: tuple[int, int, int]
    layers: int
    growth: int
    batch: int = 64
    merge: Literal["concat", "sum"] = CONCAT

    def __str__(self) -> str:
        merge = "" if self.merge == CONCAT else f" merge={self.merge}"
        return f"{self.name} L={self.layers} growth={self.growth} batch={self.batch}{merge}"

    def candidate(self, seed: int) -> Candidate:
        """Return the network as a candidate of a seed."""
        network = NetworkConfig(layers=self.layers, growth=self.growth, image=self.image, merge=self.merge)
        return Candidate(find_template("log").build(self.layers), network, seed, "log")

    @property
    def flops(self) -> int:
        """FLOPs of a forward pass over one image."""
        return predict_cost(self.candidate(0)).flops


@dataclass(frozen=True, slots=True)
class TextShape:
    """The decoder of the text task to train: pattern log, layers of the task's own.

    Args:
        layers, batch: see a run's settings.
    """

    layers: int
    batch: int = 8
    merge: Literal["sum"] = SUM

    def __str__(self) -> str:
        return f"text L={self.layers} batch={self.batch} merge={self.merge}"

    @property
    def pattern(self) -> TaskPattern:
        """The pattern, with what the output reads."""
        return TaskPattern.of(find_template("log").build(self.layers))

    @property
    def flops(self) -> int:
        """FLOPs of a forward pass over one context."""
        return TextTask().cost(self.pattern).flops


Step = Callable[[], Tensor]  # takes one step and returns each candidate's loss before it


def count_members(engine: str) -> int:
    """Return the number of candidates that an engine trains together."""
    return N_GROUPED if engine == GROUPED else COHORTS.get(engine, 1)


def choose_engines(shape: Shape | TextShape, engines: Sequence[str]) -> list[str]:
    """Return the engines that can train a shape: fused layers and grouped fusion are for concatenations only."""
    if isinstance(shape, TextShape):
        return [engine for engine in engines if engine in (ONE_PROCESS, EAGER, COMPILED, CHARGED)]
    is_concat = shape.merge == CONCAT
    return [engine for engine in engines if is_concat or engine not in (GROUPED, FUSED, *COHORTS)]


def prepare(shape: Shape, engine: str, device: str, seed: int = 0, is_bfloat16: bool = False) -> Step:
    """Return a training step on a fixed batch of random images, for a seed's network or several seeds'."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape.batch, *shape.image, generator=generator).to(device)
    labels = torch.randint(0, 10, (shape.batch,), generator=generator).to(device)
    n_members = count_members(engine)
    candidates = [shape.candidate(seed + k) for k in range(n_members)]
    if engine in COHORTS or engine == CAPTURED:
        settings = Engine(is_fused=engine in COHORTS, is_captured=device == "cuda", is_bfloat16=is_bfloat16)
        return prepare_cohort(candidates, images, labels, settings)
    networks = [build_skip_network(candidate).to(device).train() for candidate in candidates]
    network: nn.Module = networks[0]
    if engine == FUSED:
        networks[0].fuse_layers()
    elif engine == CHANNELS_LAST:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(memory_format=torch.channels_last)
    elif engine == COMPILED:
        mode = "reduce-overhead" if device == "cuda" else None  # with CUDA graphs
        torch.compiler.reset()  # a second instance would share the first's code, and its graphs with other weights
        network = cast(nn.Module, torch.compile(network, dynamic=False, mode=mode))
    elif engine == GROUPED:
        network = GroupedNetworks(networks).to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True, fused=True
    )
    targets = labels.repeat(n_members)

    def step() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=is_bfloat16):
            logits = network(images).to(images.dtype)  # (candidates * batch, classes)
        losses = F.cross_entropy(logits, targets, reduction="none").reshape(n_members, -1).mean(dim=1)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return losses.detach()

    return step


def prepare_text(shape: TextShape, engine: str, device: str, seed: int = 0) -> Step:
    """Return a training step of the text task, as its own loop takes them, on a fixed batch."""
    task = TextTask(windows=shape.batch)
    network = task.build(shape.pattern, seed).to(device).train()
    windows, _ = task.data(0)
    batch = [part.to(device) for part in windows]
    optimizer, _ = task.optimizer(network, validate(TrainingConfig, task.defaults), n_steps=1)
    for group in optimizer.param_groups:
        group["lr"] = task.defaults["lr"]  # which the warm-up would reach later
    if engine == COMPILED:
        torch.compiler.reset()  # see prepare
        network.compile(dynamic=False, mode="reduce-overhead" if device == "cuda" else None)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()[None]

    return step


def prepare_cohort(candidates: Sequence[Candidate], images: Tensor, labels: Tensor, engine: Engine) -> Step:
    """Return the training loop's own step on one batch for all candidates."""
    n_members = len(candidates)
    stepper = Stepper(candidates, WEIGHT_DECAY, images.device, engine)
    stepper.trainee.module().train()
    batch = images.expand(n_members, *images.shape), labels.expand(n_members, *labels.shape)
    return lambda: stepper.step(*batch, LR)


class GroupedNetworks(nn.Module):
    """Several candidates of one pattern as one network: channels side by side, convolutions in groups (HFTA, 2021).

    Args:
        networks: networks that differ only in their weights, of one block without bottlenecks.
    """

    def __init__(self, networks: list[SkipNetwork]) -> None:
        super().__init__()
        self.n_members = len(networks)
        self.stem = _group_convs([cast(nn.Conv2d, network.stem) for network in networks])
        by_layer = list(zip(*(cast(Block, network.blocks[0]).readers for network in networks), strict=True))
        self.reads = [readers[0].nodes for readers in by_layer]
        self.norms = nn.ModuleList(_join_norms([reader.norm for reader in readers]) for readers in by_layer)
        self.convs = nn.ModuleList(_group_convs([reader.conv for reader in readers]) for readers in by_layer)
        self.read = networks[0].head.nodes
        self.head_norm = _join_norms([network.head.norm for network in networks])
        self.weight = nn.Parameter(torch.stack([network.classifier.weight.detach() for network in networks]))
        self.bias = nn.Parameter(torch.stack([network.classifier.bias.detach() for network in networks]))

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> logits (candidates * batch, classes), candidate by candidate."""
        nodes = [self.stem(images.repeat(1, self.n_members, 1, 1))]  # (batch, candidates * growth, height, width)
        for nodes_read, norm, conv in zip(self.reads, self.norms, self.convs, strict=True):
            nodes.append(conv(F.relu(norm(self._gather(nodes, nodes_read)))))
        features = F.relu(self.head_norm(self._gather(nodes, self.read))).mean(dim=(2, 3))
        by_member = features.reshape(len(images), self.n_members, -1).transpose(0, 1)
        return torch.baddbmm(self.bias[:, None], by_member, self.weight.transpose(1, 2)).flatten(0, 1)

    def _gather(self, nodes: list[Tensor], read: tuple[int, ...]) -> Tensor:
        """Concatenate some nodes for each candidate separately."""
        batch, _, height, width = nodes[0].shape
        shape = (batch, self.n_members, -1, height, width)
        return torch.cat([nodes[node].reshape(shape) for node in read], dim=2).flatten(1, 2)


def _group_convs(convs: list[nn.Conv2d]) -> nn.Conv2d:
    n, first = len(convs), convs[0]
    joined = nn.Conv2d(n * first.in_channels, n * first.out_channels, 3, padding=1, groups=n, bias=False)
    joined.weight = nn.Parameter(torch.cat([conv.weight.detach() for conv in convs]))
    return joined


def _join_norms(norms: list[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    joined = nn.BatchNorm2d(sum(norm.num_features for norm in norms))
    joined.weight = nn.Parameter(torch.cat([norm.weight.detach() for norm in norms]))
    joined.bias = nn.Parameter(torch.cat([norm.bias.detach() for norm in norms]))
    return joined
