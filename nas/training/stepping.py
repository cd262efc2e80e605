"""Training steps, as torch runs them or, on a GPU, captured once as a CUDA graph."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.model.candidate import Candidate
from nas.model.cohort import CohortNetwork
from nas.training.sgd import SGD, PackedSGD
from nas.training.trainee import Single, Trainee

MOMENTUM = 0.9
# Parts of the messages of torch on a CPU and a GPU, of cuBLAS and of Triton, in small letters.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "alloc_failed")
N_WARM_UP = 3  # steps before the capture, while libraries choose algorithms and the optimiser makes its buffers


@dataclass(frozen=True, slots=True)
class Engine:
    """The way a training is computed; all ways except bfloat16 give the same figures up to rounding.

    Args:
        is_fused: whether a block's layers run as one operation, and the optimiser as another.
        is_captured: whether steps are a CUDA graph.
        is_bfloat16: whether convolutions run in bfloat16; weights, statistics and sums stay float32.
        memory_efficient: whether the backward pass repeats activations.
    """

    is_fused: bool = False
    is_captured: bool = False
    is_bfloat16: bool = False
    memory_efficient: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which torch chooses the precision of each operation."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.is_bfloat16)


class Stepper:
    """Takes the training steps of some candidates.

    Args:
        candidates: candidates of one cohort.
        weight_decay: L2 penalty.
        device: where they are trained.
        engine: the way they are computed.
    """

    def __init__(
        self, candidates: Sequence[Candidate], weight_decay: float, device: torch.device, engine: Engine
    ) -> None:
        network = candidates[0].network
        # A captured graph runs the same layers in every step, and fused SGD needs all gradients.
        if network.has_drops or network.has_layout:
            engine = replace(engine, is_fused=False, is_captured=False)
        self.trainee: Trainee
        if len(candidates) > 1 or engine.is_captured:  # a graph may serve other candidates
            self.trainee = CohortNetwork(candidates, device, engine.is_fused)
        else:
            self.trainee = Single(candidates[0], device, engine.is_fused, engine.memory_efficient)
        self._device = device
        self._engine = engine
        # A graph reads the rate from its tensor; a number would be captured.
        self._rate = torch.zeros((), device=device) if engine.is_captured else None
        settings: dict[str, Any] = {
            "lr": 0.0 if self._rate is None else self._rate,
            "momentum": MOMENTUM,
            "weight_decay": weight_decay,
            "nesterov": True,
            "fused": engine.is_fused or engine.is_captured or None,
        }
        parameters = list(self.trainee.module().parameters())
        packed = [] if engine.is_captured or engine.memory_efficient else self.trainee.pack()
        self.optimizer = PackedSGD(parameters, packed, **settings) if packed else SGD(parameters, **settings)
        self._n_taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: tuple[Tensor, Tensor] | None = None  # what the graph reads
        self._losses: Tensor | None = None  # what it writes

    def take_on(self, candidates: Sequence[Candidate]) -> bool:
        """Train other candidates from the start, by the existing graph if there is one; return whether it can."""
        if not self.trainee.take_on(candidates):
            return False
        for state in self.optimizer.state.values():
            state["momentum_buffer"].zero_()  # what the first step of SGD begins with
        return True

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """Take one step of SGD on a batch; return each member's loss before it, of its last exit, in nats, (cohort,).

        Args:
            images: (cohort, batch, channels, height, width).
            labels: (cohort, batch).
            rate: the learning rate.
        """
        if self._rate is not None:
            self._rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self._rate is None else self._rate  # a loaded checkpoint has replaced it
        if not self._engine.is_captured:
            return self._run(images, labels)
        self._n_taken += 1
        return self._warm_up(images, labels) if self._n_taken <= N_WARM_UP else self._replay(images, labels)

    def _run(self, images: Tensor, labels: Tensor) -> Tensor:
        known = None if self._engine.is_bfloat16 else self.trainee.take_gradients(images, labels)
        if known is not None:
            self.optimizer.step()
            return known
        with self._engine.autocast(self._device):
            logits = self.trainee.predict(images).flatten(0, 1)
        logits, exit_loss = logits.to(images.dtype), self.trainee.exit_loss
        if exit_loss is None:
            losses = F.cross_entropy(logits, labels.flatten(), reduction="none").reshape(labels.shape).mean(dim=1)
            total = losses.sum()
        else:
            by_exit = torch.stack([F.cross_entropy(own, labels.flatten()) for own in logits.unbind(dim=1)])
            losses, total = by_exit[-1:], exit_loss(by_exit)
        penalty = self.trainee.penalty()
        total = total if penalty is None else total + penalty
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses.detach()

    def _warm_up(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take an ordinary step on a stream that is not the default, as capturing requires."""
        stream, current = _side_stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            losses = self._run(images, labels)
        current.wait_stream(stream)
        return losses

    def _replay(self, images: Tensor, labels: Tensor) -> Tensor:
        if self._graph is None:
            self._batch = images.clone(), labels.clone()
            self._graph = torch.cuda.CUDAGraph()
            self.optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(self._graph, stream=_side_stream()):
                self._losses = self._run(*self._batch)
        assert self._batch is not None and self._losses is not None
        for captured, new in zip(self._batch, (images, labels), strict=True):
            captured.copy_(new)
        self._graph.replay()
        return self._losses.clone()  # the next step writes there again


@cache
def _side_stream() -> torch.cuda.Stream:
    """Return the one stream for warm-ups and captures: memory and libraries' workspaces are kept by stream."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


class KeptStepper:
    """Lends steppers, and keeps the last one with a CUDA graph for all later candidates that it can serve.

    While one is made or lent, no other is kept: the card's memory may not suffice for both.
    """

    def __init__(self) -> None:
        self._last: tuple[Stepper, object] | None = None  # with the settings that it was made for

    def __reduce__(self) -> tuple[type["KeptStepper"], tuple[()]]:
        return KeptStepper, ()  # another process keeps its own

    @contextmanager
    def lend(
        self, candidates: Sequence[Candidate], batch: int, weight_decay: float, device: torch.device, engine: Engine
    ) -> Iterator[Stepper]:
        """Lend a stepper that trains candidates from the start; keep it if the block ends without an exception.

        Args:
            batch: number of images a step.
        """
        settings = (batch, weight_decay, device, engine)
        last, self._last = self._last, None
        stepper = last[0] if last is not None and last[1] == settings and last[0].take_on(candidates) else None
        del last
        if stepper is None:
            stepper = Stepper(candidates, weight_decay, device, engine)
        yield stepper
        if engine.is_captured:
            self._last = stepper, settings
