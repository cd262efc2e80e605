"""One step of training, over and over: as torch runs it, or on a GPU captured once as a CUDA graph."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.cohort import Trainee

MOMENTUM = 0.9
N_WARM_UP = 3  # steps before the capture: libraries choose their algorithms, the optimiser makes its buffers


@dataclass(frozen=True, slots=True)
class Engine:
    """How a training is computed; all but bfloat16 gives the same figures but for rounding.

    Args:
        is_fused: whether a block's layers run as one operation, and the optimiser as one too.
        is_captured: whether steps are a CUDA graph.
        is_bfloat16: whether convolutions run in bfloat16; weights, statistics and sums stay float32.
        memory_efficient: whether activations are made anew in the backward pass.
    """

    is_fused: bool = False
    is_captured: bool = False
    is_bfloat16: bool = False
    memory_efficient: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Where torch chooses the precision of each operation."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.is_bfloat16)


class Stepper:
    """Takes the steps of a training.

    Args:
        trainee: what is trained.
        weight_decay: L2 penalty.
        device: where it lies.
    """

    def __init__(self, trainee: Trainee, weight_decay: float, device: torch.device, engine: Engine) -> None:
        self._trainee = trainee
        self._device = device
        self._engine = engine
        # A graph reads the rate where it lies; a number would be captured.
        self._rate = torch.zeros((), device=device) if engine.is_captured else None
        self.optimizer = torch.optim.SGD(
            trainee.module().parameters(),
            lr=0.0 if self._rate is None else self._rate,
            momentum=MOMENTUM,
            weight_decay=weight_decay,
            nesterov=True,
            fused=engine.is_fused or engine.is_captured or None,
        )
        self._n_taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: tuple[Tensor, Tensor] | None = None  # what the graph reads
        self._losses: Tensor | None = None  # what it writes

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """One step of SGD on a batch; gives each member's loss before it, in nats, (cohort,).

        Args:
            images: (cohort, batch, channels, height, width).
            labels: (cohort, batch).
            rate: the learning rate.
        """
        if self._rate is not None:
            self._rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self._rate is None else self._rate  # a checkpoint brings one of its own
        if not self._engine.is_captured:
            return self._run(images, labels)
        self._n_taken += 1
        return self._warm_up(images, labels) if self._n_taken <= N_WARM_UP else self._replay(images, labels)

    def _run(self, images: Tensor, labels: Tensor) -> Tensor:
        with self._engine.autocast(self._device):
            logits = self._trainee.predict(images).flatten(0, 1)
        losses = F.cross_entropy(logits.to(images.dtype), labels.flatten(), reduction="none")
        losses = losses.reshape(labels.shape).mean(dim=1)
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses.detach()

    def _warm_up(self, images: Tensor, labels: Tensor) -> Tensor:
        """A step like any other, on a stream that is not the default: as capturing asks for."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            losses = self._run(images, labels)
        current.wait_stream(stream)
        return losses

    def _replay(self, images: Tensor, labels: Tensor) -> Tensor:
        if self._graph is None:
            self._given = images.clone(), labels.clone()
            self._graph = torch.cuda.CUDAGraph()
            self.optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(self._graph):
                self._losses = self._run(*self._given)
        assert self._given is not None and self._losses is not None
        for held, new in zip(self._given, (images, labels), strict=True):
            held.copy_(new)
        self._graph.replay()
        return self._losses.clone()  # the next step writes there again
