"""torch's SGD without torch's compiler, and the same for parameters that are views of a few packed tensors."""

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

MOMENTUM = "momentum_buffer"  # as torch names it
SETTINGS = ("lr", "momentum", "weight_decay", "dampening", "nesterov", "maximize", "fused")


class SGD(torch.optim.SGD):
    """torch's SGD, whose methods do not load torch.compile: that takes a second, before the first step.

    torch wraps them for programs that compile their optimiser. Under the wraps are the methods themselves.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))  # the wrap is what turned gradients off


class PackedSGD(SGD):
    """SGD whose own share of a step is small; its numbers and its state_dict are those of torch's SGD, bit for bit.

    It updates each parameter by itself: torch rounds the last values of a tensor in another way than the others.

    Args:
        parameters: the parameters; views of a packed tensor have as gradients views of its gradient.
        packed: the packed tensors, each all of its storage.
        settings: see torch.optim.SGD.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], packed: Sequence[Tensor], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        places = {tensor.untyped_storage().data_ptr() for tensor in packed}
        self._views = [each for each in parameters if each.untyped_storage().data_ptr() in places]
        self._others = [each for each in parameters if each.untyped_storage().data_ptr() not in places]
        self._gradients = [cast(Tensor, tensor.grad) for tensor in packed]
        self._view_gradients = [cast(Tensor, each.grad) for each in self._views]
        self._view_momenta: list[Tensor | None] = [None] * len(self._views)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set packed gradients to 0, and the others to None or 0."""
        torch._foreach_zero_(self._gradients)
        for parameter in self._others:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of torch's SGD on the parameters."""
        super().load_state_dict(state_dict)
        self._view_momenta = [self._find_momentum(each) for each in self._views]

    def _find_momentum(self, parameter: nn.Parameter) -> Tensor | None:
        return self.state[parameter].get(MOMENTUM) if parameter in self.state else None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Take one step."""
        (group,) = self.param_groups
        others = [each for each in self._others if each.grad is not None]
        parameters: list[Tensor] = [*self._views, *others]
        gradients = [*self._view_gradients, *(cast(Tensor, each.grad) for each in others)]
        momenta = [*self._view_momenta, *map(self._find_momentum, others)]
        is_first = self._view_momenta[0] is None
        sgd(parameters, gradients, momenta, **{name: group[name] for name in SETTINGS})  # makes missing momenta
        if is_first:
            self._view_momenta = momenta[: len(self._views)]
            made = dict(zip(parameters, momenta, strict=True))
            self.state.update({each: {MOMENTUM: made[each]} for each in group["params"] if each in made})
