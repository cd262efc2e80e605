"""Networks for segmentation: published counts, distances, and a plain reference's logits under the public names."""

import json
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from nas.layouts.layout import measure_layout
from nas.layouts.pyramid import LogDenseNetFcn
from nas.model.candidate import Candidate
from nas.model.cost import predict_cost
from nas.model.layout_network import LayoutNetwork
from nas.model.network import build_network
from nas.presets.registry import find_preset
from nas.presets.segmentation import list_segmentation_networks, rename_fc_densenet
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.rules import nearest
from tests.support.fetching import Fetching, randomize
from tests.support.small import CommandLine

SIZES: dict[str, tuple[tuple[int, ...], int]] = {
    "fc-densenet-56": ((4,) * 11, 12),
    "fc-densenet-67": ((5,) * 11, 16),
    "fc-densenet-103": ((4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4), 16),
}
PARAMS = {"fc-densenet-56": 1_376_795, "fc-densenet-103": 9_322_091}
GIGAMACS = {"fc-densenet-56": "30.70", "fc-densenet-103": "69.07"}
LOG_FCN = "log-densenet-v1-fcn-103"


def test_the_networks_are_the_papers() -> None:
    assert {preset.name for preset in list_segmentation_networks()} == {*SIZES, LOG_FCN}


# --- FC-DenseNet ---------------------------------------------------------------------------------------------------


def count_fc_densenet(depths: tuple[int, ...], growth: int, classes: int) -> tuple[int, int]:
    """Parameters, and multiply-adds at 360x480, in one loop over the paper's figure 1."""
    height, width = 360, 480
    n_params, n_macs, channels = 0, 0, 48
    stored: list[tuple[int, int, int]] = []

    def convolve(n_read: int, n_written: int, kernel: int, has_norm: bool = True) -> None:
        nonlocal n_params, n_macs
        n_params += n_read * n_written * kernel**2 + n_written + (2 * n_read if has_norm else 0)
        n_macs += n_read * n_written * kernel**2 * height * width

    convolve(3, channels, 3, has_norm=False)
    middle = len(depths) // 2
    for block, layers in enumerate(depths):
        if block > middle:
            convolve(depths[block - 1] * growth, depths[block - 1] * growth, 3, has_norm=False)
            channels, height, width = stored.pop()
            channels += depths[block - 1] * growth
        for _ in range(layers):
            convolve(channels, growth, 3)
            channels += growth
        if block < middle:
            stored.append((channels, height, width))
            convolve(channels, channels, 1)
            height, width = height // 2, width // 2
    convolve(channels, classes, 1, has_norm=False)
    return n_params, n_macs


@pytest.mark.parametrize("name", SIZES)
def test_fc_densenets_have_the_counted_size(name: str) -> None:
    cost = predict_cost(find_preset(name).candidate)
    n_params, n_macs = count_fc_densenet(*SIZES[name], classes=11)
    assert (cost.params, cost.flops) == (n_params, 2 * n_macs)
    assert cost.params == PARAMS.get(name, cost.params)
    assert f"{cost.flops / 2e9:.2f}" == GIGAMACS.get(name, f"{cost.flops / 2e9:.2f}")


class PublicLayer(nn.Sequential):
    def __init__(self, n_read: int, growth: int) -> None:
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(n_read), nn.ReLU()
        self.conv, self.drop = nn.Conv2d(n_read, growth, 3, padding=1), nn.Dropout2d(0.2)


class PublicBlock(nn.Module):
    """Dense layers; on the way up, and in the bottleneck, only what they made leaves the block."""

    def __init__(self, n_read: int, growth: int, n_layers: int, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.layers = nn.ModuleList(PublicLayer(n_read + i * growth, growth) for i in range(n_layers))

    def forward(self, x: Tensor) -> Tensor:
        new = []
        for layer in self.layers:
            new.append(layer(x))
            x = torch.cat([x, new[-1]], 1)
        return torch.cat(new, 1) if self.upsample else x


class PublicDown(nn.Sequential):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm, self.relu, self.conv = nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, n, 1)
        self.drop, self.maxpool = nn.Dropout2d(0.2), nn.MaxPool2d(2)


class PublicUp(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.convTrans = nn.ConvTranspose2d(n, n, 3, 2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.convTrans(x)
        height, width = skip.shape[2:]
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        return torch.cat([x[:, :, top : top + height, left : left + width], skip], 1)


class PublicFcDenseNet(nn.Module):
    """The paper's network with the names of the public PyTorch implementation, without its LogSoftmax."""

    def __init__(self, depths: tuple[int, ...], growth: int, classes: int) -> None:
        super().__init__()
        middle = len(depths) // 2
        self.firstconv = nn.Conv2d(3, 48, 3, padding=1)
        n, skips = 48, []
        self.denseBlocksDown, self.transDownBlocks = nn.ModuleList(), nn.ModuleList()
        for n_layers in depths[:middle]:
            self.denseBlocksDown.append(PublicBlock(n, growth, n_layers, upsample=False))
            n += n_layers * growth
            skips.append(n)
            self.transDownBlocks.append(PublicDown(n))
        self.bottleneck = nn.Sequential()
        self.bottleneck.add_module("bottleneck", PublicBlock(n, growth, depths[middle], upsample=True))
        self.transUpBlocks, self.denseBlocksUp = nn.ModuleList(), nn.ModuleList()
        for number, n_layers in enumerate(depths[middle + 1 :], middle + 1):
            n_up = depths[number - 1] * growth
            self.transUpBlocks.append(PublicUp(n_up))
            n = n_up + skips.pop()
            self.denseBlocksUp.append(PublicBlock(n, growth, n_layers, upsample=number < len(depths) - 1))
        self.finalConv = nn.Conv2d(n + depths[-1] * growth, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.firstconv(x), []
        for block, transition in zip(self.denseBlocksDown, self.transDownBlocks, strict=True):
            skips.append(block(x))
            x = transition(skips[-1])
        x = self.bottleneck(x)
        for transition, block in zip(self.transUpBlocks, self.denseBlocksUp, strict=True):
            x = block(transition(x, skips.pop()))
        return cast(Tensor, self.finalConv(x))


LARGE = pytest.mark.slow


def choose_precision(size: tuple[int, int]) -> tuple[torch.dtype, float]:
    """Return how images of a size are computed, the large ones in half the time, and the largest relative error."""
    return (torch.float32, 1e-5) if min(size) > 200 else (torch.float64, 1e-10)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("fc-densenet-56", (37, 61)),
        ("fc-densenet-103", (32, 45)),
        pytest.param("fc-densenet-67", (77, 113), marks=LARGE),
        pytest.param("fc-densenet-103", (360, 480), marks=LARGE),
        pytest.param("fc-densenet-103", (225, 301), marks=LARGE),
    ],
)
def test_an_fc_densenet_takes_public_weights_and_gives_their_logits(name: str, size: tuple[int, int]) -> None:
    theirs = PublicFcDenseNet(*SIZES[name], classes=11)
    dtype, tolerance = choose_precision(size)
    randomize(theirs)
    state = theirs.to(dtype).state_dict()
    assert sum(weights.numel() for weights in theirs.parameters()) == predict_cost(find_preset(name).candidate).params
    candidate = find_preset(name).candidate
    with torch.device("meta"):
        ours = LayoutNetwork(candidate.layout, candidate.network.image)
    ours = ours.to_empty(device="cpu").to(dtype).eval()
    assert {rename_fc_densenet(there): value.shape for there, value in state.items()} == {
        here: value.shape for here, value in ours.state_dict().items()
    }
    ours.load_state_dict({rename_fc_densenet(there): value for there, value in state.items()})
    images = torch.randn(1, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = theirs(images), ours(images)
    assert expected.shape == (1, 11, *size)
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("name", ["firstconv2.weight", "finalConv", "transUpBlocks.0.conv.weight", "denseBlocks.0.x"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="has no parameter"):
        rename_fc_densenet(name)


# --- Log-DenseNet --------------------------------------------------------------------------------------------------


def test_log_densenet_s_pattern_is_that_of_its_authors_code() -> None:
    """Layer u, from 0, reads of [stem, layers] the indices u - d, and index 4 as soon as it is there."""
    pattern = find_preset(LOG_FCN).pattern
    for u, sources in enumerate(pattern.sources):
        assert set(sources) == {u - d for d in (0, 1, 3, 7, 15, 31, 63) if d <= u} | ({4} if u >= 4 else set())
    assert (pattern.depth, pattern.n_connections, max(pattern.in_degrees)) == (91, 597, 8)


def test_log_densenet_s_counts() -> None:
    candidate = find_preset(LOG_FCN).candidate
    cost = predict_cost(candidate)
    assert (cost.params, f"{cost.flops / 2e9:.2f}") == (4_035_755, "72.53")
    names = [node.name for node in candidate.layout.nodes if node.kind == "passage"]
    assert (sum(name.startswith("down") for name in names), sum(name.startswith("up") for name in names)) == (91, 145)


def test_log_densenet_s_parameters_follow_from_its_maps() -> None:
    """All maps have 24 channels but the stem's, which has 72.

    Layers 1, 2, 4, ..., 64 read the stem's. Layer 64 is in the seventh block, at a sixteenth of the image's size, where
    the way down has it after four moves.
    """
    read_channels = 24 * 597 + (72 - 24) * 7
    n_head = 9 * 24  # the last layer and its eight inputs
    params = 27 * 72 + read_channels * (2 + 9 * 24) + 2 * n_head + (n_head + 1) * 11
    params += 4 * (2 * 72 + 72 * 72) + (91 - 4) * (2 * 24 + 24 * 24) + 145 * (2 * 24 + 9 * 24 * 24)
    assert predict_cost(find_preset(LOG_FCN).candidate).params == params == 4_035_755


@pytest.mark.parametrize("size", [(35, 44), pytest.param((360, 480), marks=LARGE)])
def test_log_densenet_is_one_that_fetches_maps_when_they_are_asked_for(size: tuple[int, int]) -> None:
    candidate = find_preset(LOG_FCN).candidate
    network = build_network(candidate)
    dtype, tolerance = choose_precision(size)
    randomize(network)
    fetching = Fetching(candidate, network.to(dtype).state_dict())
    images = torch.randn(1, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = fetching(images), network(images)
    assert (found - expected).abs().max() < tolerance * expected.abs().max()
    moved = [name for name in fetching.made if "map" in name]
    assert (sum(name.startswith("down") for name in moved), len(moved)) == (91, 91 + 145)


# --- distances -----------------------------------------------------------------------------------------------------


def test_the_network_that_won_is_nearer_to_the_loss_not_between_layers() -> None:
    log = find_preset(LOG_FCN).candidate
    near = ConnectionPattern.from_sources([j for j in nearest(i, 7) if j >= 0] for i in range(1, 92))
    candidates = [find_preset("fc-densenet-103").candidate, log, Candidate(near, log.network, 0)]
    free = [measure_layout(candidate.layout, passage_hops=0) for candidate in candidates]
    assert [f"{each.mean:.3f}" for each in free] == ["1.571", "2.688", "4.870"]
    assert [f"{each.from_loss_mean:.3f}" for each in free] == ["3.391", "2.978", "6.935"]
    moving = log.network.model_copy(update={"surroundings": LogDenseNetFcn()})
    assert measure_layout(Candidate(log.pattern, moving, 0).layout, passage_hops=0) == free[1]


def test_score_shows_distances_with_free_changes_of_resolution(command_line: CommandLine) -> None:
    done = command_line("score", "--network", "fc-densenet-103", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    row: dict[str, Any] = json.loads(done.stdout)[0]
    assert [f"{row[key]:.3f}" for key in ("from_loss_mean_free", "global_mean_bd_free")] == ["3.391", "1.571"]
    assert row["from_loss_mean_free"] < row["from_loss_mean"]
    shown = command_line("score", "--network", "fc-densenet-103")
    assert "3.391" in shown.stdout
