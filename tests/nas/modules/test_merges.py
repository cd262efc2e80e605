"""Tests of merges, each against the formula written down once more."""

import math

import pytest
import torch

from nas.modules.merges import Weighted, create_merge
from search_spaces.errors import InputError


def _sources(n: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 4, 5, generator=generator, dtype=torch.float64) for _ in range(n)]


@pytest.mark.parametrize("name", ["sum", "gated", "dwa"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_merge_is_the_weighted_sum_of_its_formula(name: str, n: int) -> None:
    merge = create_merge(name, n).double()
    weights = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for parameter in merge.parameters():
        parameter.data.copy_(weights)
    factors = {
        "sum": [1.0] * n,
        "gated": [1 / (1 + math.exp(-w)) for w in weights.tolist()],
        "dwa": weights.tolist(),
    }[name]
    sources = _sources(n)
    expected = torch.einsum("s,s...->...", torch.tensor(factors, dtype=torch.float64), torch.stack(sources))
    torch.testing.assert_close(merge(sources), expected, rtol=0, atol=1e-12)


def test_concat_joins_channels_in_order() -> None:
    sources = _sources(3)
    torch.testing.assert_close(create_merge("concat", 3)(sources), torch.cat(sources, dim=1), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "n_parameters"), [("concat", 0), ("sum", 0), ("gated", 5), ("dwa", 5)])
def test_merge_has_a_scalar_a_source_or_none(name: str, n_parameters: int) -> None:
    assert sum(parameter.numel() for parameter in create_merge(name, 5).parameters()) == n_parameters


def test_start_values_are_the_documented_ones() -> None:
    sources = _sources(4)
    torch.testing.assert_close(create_merge("dwa", 4).double()(sources), sources[-1], rtol=0, atol=0)
    torch.testing.assert_close(create_merge("gated", 4).double()(sources), sum(sources) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gated", "dwa"])
def test_every_scalar_gets_a_gradient_at_the_start(name: str) -> None:
    merge = create_merge(name, 3).double()
    assert isinstance(merge, Weighted)
    merge(_sources(3)).square().sum().backward()
    assert merge.weight.grad is not None
    assert (merge.weight.grad != 0).all()


@pytest.mark.parametrize("name", ["gated", "dwa"])
def test_a_merge_made_without_memory_gets_its_start_values(name: str) -> None:
    with torch.device("meta"):
        merge = create_merge(name, 3)
    merge.to_empty(device="cpu")
    assert isinstance(merge, Weighted)
    merge.reset_parameters()
    assert merge.weight.tolist() == ([0.0, 0.0, 0.0] if name == "gated" else [0.0, 0.0, 1.0])


@pytest.mark.parametrize("name", ["gated", "dwa"])
def test_another_number_of_sources_than_scalars_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="zip"):
        create_merge(name, 3)(_sources(2))


def test_unknown_merge_and_no_sources_are_refused() -> None:
    with pytest.raises(InputError, match="median"):
        create_merge("median", 3)
    with pytest.raises(InputError, match="0"):
        create_merge("sum", 0)
