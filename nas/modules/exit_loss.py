"""The loss of a network with several exits."""

import torch
from torch import Tensor, nn

DECAY = 0.99  # of the running means
LEAST_WEIGHT = 0.3  # of any exit


class ExitLoss(nn.Module):
    """The sum of all exits' mean losses, plain or with weights that balance them (AdaLoss, arXiv:1708.06832).

    With weights, an exit of small loss counts more, so that a late and accurate one is not drowned by the early ones.
    The running means are buffers: a training that is resumed goes on with the same weights.

    Args:
        n_exits: number of exits.
        is_balanced: whether they have weights.
    """

    means: Tensor  # running mean of each exit's loss, (exits,); 0 before the first step

    def __init__(self, n_exits: int, is_balanced: bool) -> None:
        super().__init__()
        self.is_balanced = is_balanced
        if is_balanced:
            self.register_buffer("means", torch.zeros(n_exits))

    def forward(self, losses: Tensor) -> Tensor:
        """Mean losses of a training step, (exits,) -> what is trained, (); the step enters the running means."""
        if not self.is_balanced:
            return losses.sum()
        new = losses.detach()
        self.means.copy_(torch.where(self.means > 0, DECAY * self.means + (1 - DECAY) * new, new))
        # w_k = (1 - g) (1 / mean_k) / max_j (1 / mean_j) + g; the quotient is the least mean over the own.
        means = self.means.clamp_min(torch.finfo(self.means.dtype).tiny)
        return ((1 - LEAST_WEIGHT) * means.min() / means + LEAST_WEIGHT) @ losses
