"""FractalNet: its graph and logits by the paper's recursion, any other pattern in its surroundings, means and drops."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.layouts.fractal import FractalNet, expand_fractal
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.model.layout_network import LayoutNetwork, build_layout_network
from nas.modules.drops import Drop
from nas.records.checked import validate
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template

pytestmark = pytest.mark.usefixtures("one_thread")
FRACTAL = expand_fractal(3)


def make_candidate(pattern: ConnectionPattern, leaves_chain_out: bool = False, **values: Any) -> Candidate:
    surroundings = FractalNet(factors=(1, 2, 2), leaves_chain_out=leaves_chain_out)
    given = {"layers": pattern.depth, "blocks": 3, "growth": 4, "merge": "sum", "image": (3, 16, 16)}
    network = validate(NetworkConfig, {**given, "surroundings": surroundings, **values})
    return Candidate(pattern, network, 0)


def draw_images(candidate: Candidate) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, *candidate.network.image, dtype=torch.float64, generator=generator)


def run_fractal(network: LayoutNetwork, images: Tensor) -> Tensor:
    """FractalNet by the paper's recursion: each f_C returns its columns' outputs, whose mean a join gives on."""
    modules: dict[str, Any] = dict(network.named_modules())
    n_used = 0

    def join(columns: list[Tensor]) -> Tensor:
        return torch.stack(columns).mean(dim=0)

    def convolve(x: Tensor, block: int) -> Tensor:
        nonlocal n_used
        parts = list(modules[f"nodes.block{block}_layer{n_used}.operations"])
        n_used += 1
        conv = next(part for part in parts if isinstance(part, torch.nn.Conv2d))
        norm = next(part for part in parts if isinstance(part, torch.nn.BatchNorm2d))
        return norm(F.conv2d(x, conv.weight, padding=1)).relu()  # type: ignore[no-any-return]

    def fractal(columns: int, x: Tensor, block: int) -> list[Tensor]:
        if columns == 1:
            return [convolve(x, block)]
        deep = fractal(columns - 1, join(fractal(columns - 1, x, block)), block)
        return [*deep, convolve(x, block)]

    x = images
    for block in range(3):
        n_used = 0
        x = F.max_pool2d(join(fractal(3, x, block)), 2 if block < 2 else x.shape[2])
    classifier = modules["nodes.head.operations.2"]
    return F.linear(x.flatten(1), classifier.weight, classifier.bias)


def test_the_network_is_the_papers_recursion() -> None:
    candidate = make_candidate(FRACTAL.pattern, leaves_chain_out=True)
    network = build_layout_network(candidate).double().eval()
    images = draw_images(candidate)
    with torch.no_grad():
        found, expected = network(images), run_fractal(network, images)
        with_chain = build_layout_network(make_candidate(FRACTAL.pattern)).double().eval()
        other = with_chain(images)
    assert expected.std() > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert float((other - expected).abs().max()) > 1e-3


def test_the_graph_has_the_papers_depths_and_columns() -> None:
    for columns in range(1, 6):
        fractal = expand_fractal(columns)
        depths = [0]
        for reads in fractal.sources:
            depths.append(1 + max(depths[source] for source in reads))
        assert len(fractal.sources) == 2**columns - 1
        assert max(depths) == 2 ** (columns - 1)  # the paper's longest path
        assert len(fractal.leaves) == columns


def count_fractalnet(widths: tuple[int, ...], channels: int, classes: int) -> int:
    """Parameters of FractalNet with three columns: four, two and one convolution, three of which read the input."""
    n = 0
    for width in widths:
        n += 3 * 9 * channels * width + 4 * 9 * width * width + 7 * 2 * width
        channels = width
    return n + (channels + 1) * classes


def test_parameters_are_those_of_the_paper_s_widths() -> None:
    candidate = make_candidate(FRACTAL.pattern, leaves_chain_out=True)
    assert predict_cost(candidate).params == count_fractalnet((4, 8, 8), 3, 10)
    assert count_fractalnet((64, 128, 256, 512, 512), 3, 10) == 33_724_618


def test_other_patterns_have_their_chain_and_cost_the_same() -> None:
    names = ("chain", "log", "midpoint", "dense")
    patterns = [FRACTAL.pattern, *(find_template(name).build(7) for name in names)]
    for leaves_chain_out in (False, True):
        candidates = [make_candidate(pattern, leaves_chain_out) for pattern in patterns]
        assert len({predict_cost(candidate) for candidate in candidates[1:]}) == 1
        assert (predict_cost(candidates[0]) == predict_cost(candidates[1])) is not leaves_chain_out
        assert candidates[0].network.has_equal_cost is not leaves_chain_out
        for candidate, pattern in zip(candidates[1:], patterns[1:], strict=True):
            layers = [node for node in candidate.layout.nodes if node.name.startswith("block0")]
            assert [node.reads for node in layers] == [
                tuple(1 + source for source in reads) for reads in pattern.sources
            ]


def test_a_join_is_the_mean_over_the_paths_that_are_left() -> None:
    candidate = make_candidate(FRACTAL.pattern, leaves_chain_out=True)
    network = build_layout_network(candidate).double().eval()
    layer: Any = network.nodes["block1_layer3"]
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 8, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2))

    def run(sources: list[Tensor], drop: Drop | None) -> Tensor:
        layer.drop = drop
        return layer(sources, None, None)  # type: ignore[no-any-return]

    torch.testing.assert_close(run([first, second], Drop(True, (False, True))), run([second, second], None))
    assert not torch.equal(run([first, second], None), run([second, second], None))


def test_a_step_drops_paths_of_every_join() -> None:
    candidate = make_candidate(FRACTAL.pattern, leaves_chain_out=True, drop_path=0.15)
    network = build_layout_network(candidate)
    modules: list[Any] = list(network.nodes.values())
    joins = [module for module in modules if len(module.nodes) > 1]
    assert len(joins) == 3 * 3  # two inside each block, one after it
    n_draws, lost = 300, 0
    for step in range(n_draws):
        network.draw_drops(0, step)
        keeps = [module.drop.keeps_inputs for module in joins]
        assert all(map(any, keeps))
        lost += sum(not kept for inputs in keeps for kept in inputs)
    rates = [0.15 - 0.15**n / n for n in (2, 2, 3) for _ in range(n)]  # where all would go, one of n stays
    expected = 3 * n_draws * sum(rates)
    assert abs(lost - expected) < 5 * expected**0.5


def test_dropout_rises_from_none_in_the_first_block_to_the_whole_in_the_last() -> None:
    network = build_layout_network(make_candidate(FRACTAL.pattern))
    rates = [module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [0.0] * 7 + [0.2] * 7 + [0.4] * 7


@pytest.mark.parametrize(
    ("values", "offending"),
    [({"growth": 2}, "2 channels reads 3"), ({"blocks": 4}, "4 blocks"), ({"merge": "concat"}, "c")],
)
def test_what_cannot_be_added_is_refused(values: dict[str, Any], offending: str) -> None:
    with pytest.raises(InputError, match=offending):
        predict_cost(make_candidate(FRACTAL.pattern, **values))


def test_small_images_work_as_long_as_a_pixel_is_left() -> None:
    candidate = make_candidate(FRACTAL.pattern, image=(1, 7, 4))
    assert build_layout_network(candidate).eval()(torch.zeros(2, 1, 7, 4)).shape == (2, 10)
    with pytest.raises(InputError, match="3x4"):
        predict_cost(make_candidate(FRACTAL.pattern, image=(1, 3, 4)))
