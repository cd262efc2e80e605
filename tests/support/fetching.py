"""A second Log-DenseNet for segmentation, which moves a map when a layer asks for it, and weights of comparisons."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.model.candidate import Candidate


def randomize(network: torch.nn.Module) -> dict[str, Tensor]:
    """Give a network weights under which no part of it is idle, in double precision; return its state."""
    generator = torch.Generator().manual_seed(0)
    network.double().eval()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            fan_in = value[0].numel() if value.ndim > 1 else 1
            value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn * (2 / fan_in) ** 0.5)
    return network.state_dict()


class Fetching:
    """A Log-DenseNet FCN that makes a map at a resolution when a layer asks for it, and keeps it.

    Args:
        candidate: its network.
        state: weights, by the names of the layout's network.
    """

    def __init__(self, candidate: Candidate, state: dict[str, Tensor]) -> None:
        self.candidate, self.state = candidate, state
        self.middle = len(candidate.network.block_depths) // 2
        self.block_of = [0, *(b for b, depth in enumerate(candidate.network.block_depths) for _ in range(depth))]
        self.made: dict[str, Tensor] = {}

    def scale(self, block: int) -> int:
        return min(block, 2 * self.middle - block)

    def work(self, node: str, x: Tensor, is_up: bool = False) -> Tensor:
        """BN-ReLU-convolution."""
        mean, variance = (self.state[f"nodes.{node}.operations.0.running_{name}"] for name in ("mean", "var"))
        scale, shift = (self.state[f"nodes.{node}.operations.0.{name}"] for name in ("weight", "bias"))
        x = F.relu(F.batch_norm(x, mean, variance, scale, shift))
        weight = self.state[f"nodes.{node}.operations.2.weight"]
        if is_up:
            return F.conv_transpose2d(x, weight, stride=2)
        return F.conv2d(x, weight, self.state.get(f"nodes.{node}.operations.2.bias"), padding=weight.shape[2] // 2)

    def fetch(self, each: int, block: int) -> Tensor:
        """Return a map as a layer of a block reads it."""
        born, scale = self.block_of[each], self.scale(block)
        if born <= self.middle and self.scale(born) <= scale:  # on the way down it was there
            block = scale
        if born == block:
            return self.made[f"block{born}_{each}"]
        going_down = block <= self.middle
        name = f"{'down' if going_down else 'up'}{block}_map{each}"
        if name not in self.made:
            x = self.work(name, self.fetch(each, block - 1), not going_down)
            size = self.sizes[scale]
            self.made[name] = (
                F.avg_pool2d(x, 2, ceil_mode=True) if going_down else F.interpolate(x, size, mode="bilinear")
            )
        return self.made[name]

    def __call__(self, images: Tensor) -> Tensor:
        self.sizes = [tuple(images.shape[2:])]
        for _ in range(self.middle):
            self.sizes.append(tuple(-(-side // 2) for side in self.sizes[-1]))
        self.made["block0_0"] = F.conv2d(images, self.state["nodes.stem.operations.0.weight"], padding=1)
        indices = [0] * len(self.candidate.network.block_depths)
        for place, sources in enumerate(self.candidate.pattern.sources, start=1):
            block = self.block_of[place]
            read = torch.cat([self.fetch(each, block) for each in sources], dim=1)
            self.made[f"block{block}_{place}"] = self.work(f"block{block}_layer{indices[block]}", read)
            indices[block] += 1
        return self.work("head", torch.cat([self.fetch(each, block) for each in self.candidate.reads], dim=1))
