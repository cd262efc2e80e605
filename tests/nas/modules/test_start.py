"""Tensors for a network built on the meta device are those of torch's to_empty."""

import torch
from torch import nn

from nas.modules.start import make_tensors


def build() -> nn.Module:
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(2, 3, 3, dtype=torch.float64), nn.Sequential(nn.BatchNorm2d(3)))
        network[0].bias.requires_grad_(False)
        network[1].register_buffer("scratch", torch.zeros(4, dtype=torch.int64), persistent=False)
    return network


def describe(network: nn.Module) -> dict[str, object]:
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {
        name: (type(tensor), tensor.shape, tensor.stride(), tensor.dtype, tensor.device.type, tensor.requires_grad)
        for name, tensor in tensors.items()
    }


def test_every_parameter_and_buffer_has_its_kind_shape_and_place() -> None:
    ours, theirs = build(), build().to_empty(device="cpu")
    make_tensors(ours)
    assert describe(ours) == describe(theirs)
    assert len(describe(ours)) == 8
    assert list(ours.state_dict()) == list(theirs.state_dict())  # without the buffer that is not persistent
    assert all(tensor.is_cpu for tensor in ours.state_dict().values())
