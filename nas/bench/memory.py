"""What a training step keeps in memory: measured on a network, to hold cost.py's prediction to."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def measure_kept_bytes(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Bytes of all tensors that autograd keeps between the forward and the backward pass of one step.

    Each piece of memory counts once, however many operations keep it; weights do not count.

    Args:
        network: in the mode to be measured.
        images: (batch, channels, height, width), on its device.
        labels: (batch,).
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in _list_weights(network)}
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # so that no address comes twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        F.cross_entropy(network(images), labels)
    return sum(kept.values())


def _list_weights(network: nn.Module) -> Iterable[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


def measure_peak_bytes(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    """The most that the allocator of a CUDA device held at once in one training step, beyond what it held before.

    Args:
        network, images, labels: on that device.
    """
    device = images.device
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
