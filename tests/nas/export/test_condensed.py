"""Export of a CondenseNet: its files have plain convolutions only, and the logits of the trained network."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nas.export.agreement import infer, load_model, make_images, take_weights
from nas.export.archives import read_safetensors
from nas.export.export import format_source
from nas.export.verify import verify_folder
from nas.layouts.condensed import CondenseNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.layout_network import LayoutNetwork, build_layout_network, convert
from search_spaces.errors import InputError
from search_spaces.templates import find_template
from tests.support.exported import export, seal

NETWORK = NetworkConfig(
    layers=2, blocks=2, growth=4, transition="all", image=(2, 6, 4), classes=3, surroundings=CondenseNet()
)
CANDIDATE = Candidate(find_template("log").build(4), NETWORK, 0, "log")
IMAGES = make_images(5, (3, 2, 6, 4))


def train(network: LayoutNetwork, n_steps: int = 12) -> dict[str, Tensor]:
    """Condense a network as a training does, with statistics that are not those of the start; return its weights."""
    generator = torch.Generator().manual_seed(3)
    for step in range(n_steps):
        network.begin_step(step, n_steps)
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif value.is_floating_point():
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return network.state_dict()


@pytest.fixture(scope="module")
def trained() -> LayoutNetwork:
    network = build_layout_network(CANDIDATE)
    train(network)
    return network.eval()


def test_the_trained_weights_and_those_of_the_exported_file_give_the_trained_logits(trained: LayoutNetwork) -> None:
    taken = take_weights(CANDIDATE, trained.state_dict())
    again = take_weights(CANDIDATE, taken.state_dict())
    expected = infer(trained, IMAGES)
    for network in (taken, again):
        torch.testing.assert_close(infer(network, IMAGES), expected, rtol=0, atol=1e-5)
        assert not any(name.endswith("mask") for name in network.state_dict())


def test_the_program_is_of_plain_convolutions(trained: LayoutNetwork, tmp_path: Path) -> None:
    source = format_source(CANDIDATE)
    assert "IndexChannels(8, 8)" in source  # 4 groups of a quarter of the stem's 8 channels
    assert "nn.Conv2d(8, 16, 1, 1, 0, groups=4, bias=False)" in source.replace("\n            ", " ")
    assert "Learned" not in source
    model = load_model(source, tmp_path, convert(trained).state_dict())
    torch.testing.assert_close(infer(model, IMAGES), infer(trained, IMAGES), rtol=0, atol=1e-5)


def test_a_folder_with_trained_weights_makes_no_false_claim(trained: LayoutNetwork, tmp_path: Path) -> None:
    exported = export(tmp_path, CANDIDATE, weights=trained.state_dict(), archives=False)
    found = verify_folder(exported.folder)
    assert found.false == {}
    weights = exported.folder / "model.safetensors"
    state = read_safetensors(weights, take_weights(CANDIDATE, None).state_dict())
    torch.testing.assert_close(infer(take_weights(CANDIDATE, state), IMAGES), infer(trained, IMAGES), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_all_forms_agree(trained: LayoutNetwork, tmp_path: Path) -> None:
    exported = export(tmp_path, CANDIDATE, weights=trained.state_dict())
    assert {"model.onnx", "model.pt2"} <= {path.name for path in exported.paths}
    assert verify_folder(exported.folder, trust=True).false == {}


@pytest.mark.parametrize("number", [-1, 8])
def test_an_index_of_channels_that_there_are_not_is_refused(number: int) -> None:
    state = take_weights(CANDIDATE, None).state_dict()
    state["nodes.block0_layer0.operations.0.index"][0] = number
    with pytest.raises(InputError, match=r"nodes\.block0_layer0\.operations\.0\.index"):
        take_weights(CANDIDATE, state)


def test_weights_of_another_network_are_refused(trained: LayoutNetwork) -> None:
    other = NETWORK.model_copy(update={"surroundings": CondenseNet(groups=2)})
    with pytest.raises(InputError, match="belong to another network"):
        take_weights(Candidate(CANDIDATE.pattern, other, 0, "log"), trained.state_dict())


def test_weights_that_condensation_will_drop_count_for_what_a_stranger_may_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export(tmp_path, CANDIDATE, weights=None, archives=False)
    seal(exported.folder)
    n_params = sum(parameter.numel() for parameter in build_layout_network(CANDIDATE).parameters())
    monkeypatch.setattr("nas.export.verify.MAX_PARAMS", n_params)
    assert verify_folder(exported.folder).false == {}
    monkeypatch.setattr("nas.export.verify.MAX_PARAMS", n_params - 1)
    assert f"{n_params:,} parameters" in str(verify_folder(exported.folder).false)
