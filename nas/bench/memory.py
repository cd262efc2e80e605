"""The memory of a training step, measured on a network to check cost.py's prediction."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def measure_kept_bytes(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Return the bytes that autograd keeps between the forward and the backward pass of one step.

    Each piece of memory counts once, however many operations keep it; weights do not count.

    Args:
        network: network in the mode to be measured.
        images: (batch, channels, height, width), on its device.
        labels: (batch,).
    """
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    n_bytes: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            n_bytes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        F.cross_entropy(network(images), labels)
    return sum(n_bytes.values())


def measure_peak_bytes(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Return the peak of a CUDA device's allocator in one training step, beyond what was allocated before.

    Args:
        network, images, labels: see measure_kept_bytes; on that device.
    """
    device = images.device
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
