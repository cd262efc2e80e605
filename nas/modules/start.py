"""Initial weights that a seed fixes, whatever pattern a network has."""

from typing import Any

import torch
from torch import nn

from search_spaces.seeds import derive_seed


def make_tensors(network: nn.Module, device: torch.device | str = "cpu") -> None:
    """Give a network that was built on the meta device tensors on a device; their values are undefined.

    So does nn.Module.to_empty, which loads sympy for it, a third of a second.
    """
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            tensor = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
            setattr(module, name, nn.Parameter(tensor, parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))


@torch.no_grad()
def start_weights(network: nn.Module, seed: int, drawless: tuple[Any, ...] = ()) -> None:
    """Give a network its initial weights.

    Every module draws from its own random stream, named by its place. So two patterns of one seed start from the same
    weights wherever their shapes agree: a paired design. Convolutions: normal with standard deviation
    sqrt(2 / fan_in) (arXiv:1502.01852); linear maps: sqrt(1 / fan_in); biases 0, or a module's own `start_bias`.

    Args:
        network: the network, its tensors on the CPU.
        seed: seed of the weights.
        drawless: further modules, next to BN, whose reset_parameters draws nothing.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
            gain = 1.0 if isinstance(module, nn.Linear) else 2.0
            nn.init.normal_(module.weight, std=(gain / _fan_in(module)) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.constant_(module.bias, getattr(module, "start_bias", 0.0))
        elif isinstance(module, (nn.BatchNorm2d, *drawless)):
            module.reset_parameters()  # type: ignore[attr-defined]  # scale 1, shift 0, and a merge's factors


def _fan_in(module: nn.Conv2d | nn.Linear | nn.ConvTranspose2d) -> float:
    """Return the number of values that one value written is made of."""
    if isinstance(module, nn.ConvTranspose2d):  # each value read goes to kernel^2 places, stride^2 times as many
        return module.weight[:, 0].numel() / (module.stride[0] * module.stride[1])
    return module.weight[0].numel()
