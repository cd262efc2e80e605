"""torch's SGD without torch's compiler."""

import inspect

import torch


class SGD(torch.optim.SGD):
    """torch's SGD, whose methods do not load torch.compile: that takes a second, before the first step.

    torch wraps them for programs that compile their optimiser. Under the wraps are the methods themselves.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))  # the wrap is what turned gradients off
