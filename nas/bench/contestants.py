"""A training step of a standard network, by each contestant of `bench`: ours and PyTorch's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.bench.shapes import Shape, TextShape
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.model.network import Block, SkipNetwork, build_skip_network
from nas.records.checked import validate
from nas.settings.machine import resolve_engine
from nas.tasks.text.task import TextTask
from nas.training.stepping import MOMENTUM, Engine, Stepper
from search_spaces.errors import InputError, MachineError

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
MAX_GROUPED_PIXELS = 16 * 16  # of an image, on a CPU
LR, WEIGHT_DECAY = 0.05, 1e-4
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """An engine in a precision: PyTorch's bfloat16 is its autocast."""

    engine: str
    precision: Precision = "float32"

    def __str__(self) -> str:
        return self.engine if self.precision == "float32" else f"{self.engine}, {self.precision}"

    @property
    def is_ours(self) -> bool:
        """Whether the engine is this project's."""
        return self.engine.startswith("skipsearch")

    @property
    def is_bfloat16(self) -> bool:
        """Whether convolutions and products run in bfloat16."""
        return self.precision == "bfloat16"

    @property
    def n_members(self) -> int:
        """Number of candidates that are trained together."""
        return N_GROUPED if self.engine == GROUPED else COHORTS.get(self.engine, 1)


Step = Callable[[], Tensor]  # takes one step and returns each candidate's loss before it


def choose_contestants(shape: Shape | TextShape, contestants: Sequence[Contestant], device: str) -> list[Contestant]:
    """Return the contestants that can train a shape, and all of ours, see find_obstacle.

    On a CPU grouped convolutions are left out where maps are large: there they were 0.3 to 0.6 times as fast as the
    strongest, and took most of the time.
    """
    if isinstance(shape, TextShape):
        left_out = {CHANNELS_LAST, CAPTURED, GROUPED}  # it has no maps, and a loop of its own
    else:
        is_slow = device == "cpu" and shape.image[1] * shape.image[2] > MAX_GROUPED_PIXELS
        left_out = {GROUPED} if is_slow or not shape.can_group else set()
    return [contestant for contestant in contestants if contestant.engine not in left_out]


def find_obstacle(shape: Shape | TextShape, contestant: Contestant, device: str) -> str | None:
    """Return why a contestant of ours cannot train a shape on this machine; None: it can."""
    if not contestant.is_ours:
        return None
    if isinstance(shape, TextShape) or not shape.network.can_fuse:
        return "layers of this form run eagerly: they have no fused form"
    try:
        resolve_engine("fused", device, can_fuse=True, precision=contestant.precision)
    except (InputError, MachineError) as error:
        return str(error)
    return None


def draw_batch(shape: Shape, device: str) -> tuple[Tensor, Tensor]:
    """Return the random images of all steps, (batch, channels, height, width), and their labels, (batch,)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape.batch, *shape.image, generator=generator)
    labels = torch.randint(0, 10, (shape.batch,), generator=generator)
    return images.to(device), labels.to(device)


def prepare(shape: Shape, contestant: Contestant, device: str, seed: int = 0, is_reversed: bool = False) -> Step:
    """Return a training step on a fixed batch of random images, for a seed's network or several seeds'.

    Ours is the training loop's own step; PyTorch's are written here as a user would write them.

    Args:
        is_reversed: whether the same images are in the opposite order, which changes nothing but rounding.
    """
    images, labels = draw_batch(shape, device)
    if is_reversed:
        images, labels = images.flip(0), labels.flip(0)
    engine, n_members = contestant.engine, contestant.n_members
    candidates = [shape.candidate(seed + k) for k in range(n_members)]
    if contestant.is_ours or engine == CAPTURED:
        settings = Engine(is_fused=contestant.is_ours, is_captured=device == "cuda", is_bfloat16=contestant.is_bfloat16)
        return prepare_cohort(candidates, images, labels, settings)
    networks = [build_skip_network(candidate).to(device).train() for candidate in candidates]
    network: nn.Module = networks[0]
    if engine == CHANNELS_LAST:
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

    def take() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=contestant.is_bfloat16):
            logits = network(images).to(images.dtype)  # (candidates * batch, classes)
        losses = F.cross_entropy(logits, targets, reduction="none").reshape(n_members, -1).mean(dim=1)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return losses.detach()

    return take


def prepare_text(
    shape: TextShape, contestant: Contestant, device: str, seed: int = 0, is_reversed: bool = False
) -> Step:
    """Return a training step of the text task, as its own loop takes them, on a fixed batch; see prepare."""
    task = TextTask(windows=shape.batch)
    network = task.build(shape.pattern, seed).to(device).train()
    windows, _ = task.data(0)
    batch = [(part.flip(0) if is_reversed else part).to(device) for part in windows]
    optimizer, _ = task.optimizer(network, validate(TrainingConfig, task.defaults), n_steps=1)
    for group in optimizer.param_groups:
        group["lr"] = task.defaults["lr"]  # which the warm-up would reach later
    if contestant.engine == COMPILED:
        torch.compiler.reset()  # see prepare
        network.compile(dynamic=False, mode="reduce-overhead" if device == "cuda" else None)

    def take() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=contestant.is_bfloat16):
            loss = task.loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()[None].float()

    return take


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
