from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Softmax(nn.Module):
    """A mean of what a layer reads, with learned shares."""

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_sources))

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        shares = self.weight.softmax(0)
        return torch.stack([share * x for share, x in zip(shares, sources, strict=True)]).sum(0)
