"""SGD is torch's, step by step, and what trains loads neither a compiler nor a computer algebra."""

import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from nas.training.sgd import SGD
from tests.support.small import ROOT

SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}


def train(optimizer: torch.optim.Optimizer, network: nn.Module, n_steps: int) -> None:
    for step in range(n_steps):
        optimizer.zero_grad(set_to_none=True)
        network(torch.arange(6.0).reshape(2, 3) + step).square().sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (step + 1)
        optimizer.step()


def make_network() -> nn.Linear:
    network = nn.Linear(3, 2)
    nn.init.constant_(network.weight, 0.5)
    nn.init.constant_(network.bias, -0.25)
    return network


@pytest.mark.parametrize("fused", [None, True])
def test_steps_are_those_of_torch_bit_for_bit_also_from_a_checkpoint(fused: bool | None) -> None:
    networks = make_network(), make_network()
    ours, theirs = (
        kind(network.parameters(), fused=fused, **SETTINGS)  # type: ignore[arg-type]
        for kind, network in zip((SGD, torch.optim.SGD), networks, strict=True)
    )
    for _ in range(2):
        for optimizer, network in zip((ours, theirs), networks, strict=True):
            train(optimizer, network, 3)
        assert torch.equal(networks[0].weight, networks[1].weight)
        assert torch.equal(networks[0].bias, networks[1].bias)
        assert str(ours.state_dict()) == str(theirs.state_dict())
        network = make_network()
        network.load_state_dict(networks[0].state_dict())
        resumed = SGD(network.parameters(), fused=fused, **SETTINGS)  # type: ignore[arg-type]
        resumed.load_state_dict(deepcopy(theirs.state_dict()))
        ours, networks = resumed, (network, networks[1])
    assert not torch.equal(networks[0].weight, make_network().weight)
    assert all(parameter.requires_grad for parameter in networks[0].parameters())


def test_a_step_takes_the_loss_of_a_closure_with_gradients_on() -> None:
    network = make_network()
    optimizer = SGD(network.parameters(), **SETTINGS)  # type: ignore[arg-type]

    def find_loss() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = network(torch.ones(1, 3)).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    assert optimizer.step(find_loss) == 3.125  # (3 x 0.5 - 0.25) squared, twice, and gradients were on


def test_a_training_loads_no_compiler_no_computer_algebra_and_no_scikit_learn() -> None:
    code = """
import sys, torch
from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.templates import TEMPLATES

config = SearchConfig(layers=3, growth=1, epochs=1, train_examples=32, device="cpu", workers=1)
data = load_data("digits", None)
candidate = Candidate(TEMPLATES["log"].build(3), config.network(data.n_classes, data.image), seed=0)
assert Trainer(data, config).train(Job(0, candidate)).epochs == 1
print({"torch._dynamo", "sympy", "sklearn", "pandas", "ray", "triton"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
