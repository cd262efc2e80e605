"""The decoder: the usual transformer where the pattern is dense, costs, causality, and seeds that pair patterns."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nas.model.cost import Cost
from nas.tasks.text.decoder import CharacterDecoder, DecoderConfig, build_decoder, predict_decoder_cost
from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import build_named, find_template
from search_spaces.wiring.blocks import transition_inputs

DEPTH = 6
TINY: dict[str, Any] = {"vocabulary": 11, "width": 12, "heads": 3, "context": 7}
GRANULARITIES = ("block", "sublayer")


def build(
    pattern: ConnectionPattern, policy: str = "log", seed: int = 0, merge: str = "sum", granularity: str = "block"
) -> CharacterDecoder:
    config = DecoderConfig(**TINY, merge=merge, granularity=granularity)
    return build_decoder(config, pattern.sources, transition_inputs(policy, pattern.depth), seed).double()


def some_text(n_texts: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(TINY["vocabulary"], (n_texts, TINY["context"]), generator=generator)


# --- a transformer written by hand, on the decoder's weights ------------------------------------------------------


def by_hand_norm(x: Tensor, scale: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale


def by_hand_attention(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Attention head by head and place by place, with no mask: a place's keys end at itself."""
    y = by_hand_norm(x, weights["norm.weight"])
    n_heads, size = TINY["heads"], TINY["width"] // TINY["heads"]
    query, key, value = (y @ weights["query_key_value.weight"].T).chunk(3, dim=-1)
    out = torch.zeros_like(x)
    for head in range(n_heads):
        own = slice(head * size, (head + 1) * size)
        for place in range(x.shape[1]):
            scores = torch.einsum("bd,bkd->bk", query[:, place, own], key[:, : place + 1, own]) / size**0.5
            shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
            out[:, place, own] = torch.einsum("bk,bkd->bd", shares, value[:, : place + 1, own])
    return out @ weights["projection.weight"].T


def by_hand_perceptron(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    hidden = by_hand_norm(x, weights["norm.weight"]) @ weights["hidden.weight"].T
    return torch.where(hidden > 0, hidden, 0.0) @ weights["projection.weight"].T


def parts_of(decoder: CharacterDecoder) -> list[tuple[str, dict[str, Tensor]]]:
    """Every attention and perceptron in the order of the network, with its weights."""
    return [(name, part.state_dict()) for layer in decoder.layers for name, part in layer.parts.items()]  # type: ignore[union-attr, operator]


BY_HAND = {"attention": by_hand_attention, "perceptron": by_hand_perceptron}


def embed(decoder: CharacterDecoder, text: Tensor) -> Tensor:
    one_hot = F.one_hot(text, TINY["vocabulary"]).double()
    return one_hot @ decoder.characters.weight + decoder.places.weight


def read_out(decoder: CharacterDecoder, x: Tensor) -> Tensor:
    return by_hand_norm(x, decoder.norm.weight) @ decoder.output.weight.T


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_dense_with_sum_is_the_usual_pre_norm_transformer(granularity: str) -> None:
    decoder = build(find_template("dense").build(DEPTH), "all", granularity=granularity)
    text = some_text()
    x = embed(decoder, text)
    parts = parts_of(decoder)
    assert [name for name, _ in parts] == ["attention", "perceptron"] * (len(parts) // 2)
    assert len(parts) == (2 * DEPTH if granularity == "block" else DEPTH)
    for name, weights in parts:
        x = x + BY_HAND[name](x, weights)  # the residual stream
    assert torch.allclose(decoder(text), read_out(decoder, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_chain_with_sum_is_the_plain_network(granularity: str) -> None:
    decoder = build(find_template("chain").build(DEPTH), "last", granularity=granularity)
    text = some_text()
    x = embed(decoder, text)
    parts = parts_of(decoder)
    n_parts = 2 if granularity == "block" else 1
    for first in range(0, len(parts), n_parts):
        change = torch.zeros_like(x)  # no way around a layer; inside a block one around its perceptron
        for name, weights in parts[first : first + n_parts]:
            change = change + BY_HAND[name](x + change, weights)
        x = change
    assert torch.allclose(decoder(text), read_out(decoder, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_any_pattern_with_dwa_starts_as_the_transformer_of_its_chain(granularity: str) -> None:
    """DenseFormer's start: every layer reads the one before, to which it adds, and the output reads the last."""
    decoder = build(find_template("log").build(DEPTH), merge="dwa", granularity=granularity)
    text = some_text()
    x = embed(decoder, text)
    for name, weights in parts_of(decoder):
        x = x + BY_HAND[name](x, weights)
    assert torch.allclose(decoder(text), read_out(decoder, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("merge", ["sum", "gated", "dwa"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_nodes_are_weighted_as_the_pattern_says(merge: str, granularity: str) -> None:
    pattern = build_named("random:3", Budget(DEPTH, total=12))
    decoder = build(pattern, merge=merge, granularity=granularity)
    generator = torch.Generator().manual_seed(1)
    merges = [*decoder.merges, decoder.merge]
    for module in merges:
        for weight in module.parameters():
            weight.data = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    text = some_text()
    with torch.no_grad():
        nodes = [embed(decoder, text)]
        for layer, sources in zip(decoder.layers, (*pattern.sources, transition_inputs("log", DEPTH)), strict=False):
            nodes.append(layer(weigh(merge, merges, len(nodes), sources, nodes)))
        x = weigh(merge, merges, len(nodes), transition_inputs("log", DEPTH), nodes)
    assert torch.allclose(decoder(text), read_out(decoder, x), rtol=0, atol=1e-12)


def weigh(merge: str, merges: list[nn.Module], layer: int, sources: tuple[int, ...], nodes: list[Tensor]) -> Tensor:
    if layer == 1:
        return nodes[0]
    if merge == "sum":
        factors = torch.ones(len(sources))
    else:
        (weight,) = merges[layer - 2].parameters()
        factors = weight if merge == "dwa" else 1 / (1 + (-weight).exp())
    merged: Tensor = torch.einsum("k,k...->...", factors.double(), torch.stack([nodes[source] for source in sources]))
    return merged


# --- cost -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", ["sum", "gated", "dwa"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_predicted_cost_is_the_counted_one(merge: str, granularity: str) -> None:
    config = DecoderConfig(**TINY, merge=merge, granularity=granularity)
    for name in ("chain", "log", "dense"):
        pattern, reads = find_template(name).build(5), transition_inputs("log", 5)
        decoder = build_decoder(config, pattern.sources, reads, 0)
        with (
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            decoder(some_text(1))
        cost = predict_decoder_cost(config, pattern.sources, reads)
        assert cost.params == sum(parameter.numel() for parameter in decoder.parameters())
        assert cost.flops == counter.get_total_flops()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_with_sum_every_pattern_of_a_depth_costs_the_same(granularity: str) -> None:
    config = DecoderConfig(103, granularity=granularity)
    names = ("chain", "log", "dense", "midpoint", "denseformer:k=4,p=2")
    patterns = [find_template(name).build(12) for name in names]
    assert len({predict_decoder_cost(config, pattern.sources, (5, 9, 11, 12)) for pattern in patterns}) == 1
    assert len({pattern.n_connections for pattern in patterns}) == len(patterns)


def test_with_dwa_the_cost_is_that_of_the_number_of_connections() -> None:
    config = DecoderConfig(103, merge="dwa")
    costs: dict[int, set[Cost]] = {}
    for seed in range(20):
        for total in (30, 37):
            pattern = build_named(f"random:{seed}", Budget(12, total=total))
            costs.setdefault(total, set()).add(predict_decoder_cost(config, pattern.sources, (5, 9, 11, 12)))
    (small,), (large,) = costs[30], costs[37]
    assert (large.params - small.params, large.flops - small.flops) == (7, 0)


@pytest.mark.parametrize("depth", [1, 2, 12, 48])
def test_dwa_on_the_dense_pattern_has_the_scalars_of_denseformer(depth: int) -> None:
    decoder = build(find_template("dense").build(depth), "all", merge="dwa")
    scalars = [weight for name, weight in decoder.named_parameters() if name.startswith("merge")]
    assert sum(weight.numel() for weight in scalars) == depth * (depth + 3) // 2


# --- causality, seeds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", ["sum", "gated", "dwa"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_prediction_depends_on_no_later_character(merge: str, granularity: str) -> None:
    decoder = build(find_template("log").build(DEPTH), merge=merge, granularity=granularity)
    text = some_text()
    for place in range(1, TINY["context"]):
        changed = text.clone()
        changed[:, place:] = (changed[:, place:] + 1) % TINY["vocabulary"]
        before, after = decoder(text), decoder(changed)
        assert torch.equal(before[:, :place], after[:, :place])
        assert not torch.isclose(before[:, place:], after[:, place:]).all(dim=-1).any()


def test_a_prediction_depends_on_every_earlier_character() -> None:
    decoder = build(find_template("log").build(DEPTH))
    text = some_text()
    for place in range(TINY["context"]):
        changed = text.clone()
        changed[:, place] = (changed[:, place] + 1) % TINY["vocabulary"]
        assert not torch.isclose(decoder(text)[:, -1], decoder(changed)[:, -1]).all(dim=-1).any()


def test_a_shorter_text_has_the_predictions_of_its_places() -> None:
    decoder = build(find_template("log").build(DEPTH))
    text = some_text()
    assert torch.allclose(decoder(text[:, :4]), decoder(text)[:, :4], rtol=0, atol=1e-12)


def test_patterns_of_one_seed_start_alike_and_seeds_do_not() -> None:
    chain, dense = (build(find_template(name).build(DEPTH), "all").state_dict() for name in ("chain", "dense"))
    other = build(find_template("dense").build(DEPTH), "all", seed=1).state_dict()
    assert chain.keys() == dense.keys() == other.keys()
    for name, weight in dense.items():
        assert torch.equal(weight, chain[name])
        assert torch.equal(weight, other[name]) == ("norm" in name)  # scales of norms are 1 at the start


def test_no_two_modules_draw_the_same_weights() -> None:
    state = build(find_template("chain").build(DEPTH)).state_dict()
    firsts = [weight.flatten()[:5].tolist() for name, weight in state.items() if "norm" not in name]
    assert len({tuple(first) for first in firsts}) == len(firsts)


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build(find_template("log").build(3), merge="dwa")
    assert torch.equal(torch.get_rng_state(), before)
