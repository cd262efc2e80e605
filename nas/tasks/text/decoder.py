"""A character-level decoder around a pattern: every layer reads what the pattern says, by one merge."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.model.cost import Cost
from nas.modules.merges import Weighted, count_parameters, create_merge, start_brought
from nas.modules.start import make_tensors
from search_spaces.seeds import derive_seed

EXPANSION = 4  # hidden width of a perceptron, in widths of the network
PROJECTION_GAIN = 0.1  # of what a part writes at the start; of 14 starts tried, this one learned most in 200 steps


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """The decoder, except for its pattern.

    Args:
        vocabulary: number of distinct characters.
        width: channels of every node.
        heads: attention heads, which divide the width.
        context: most characters that a prediction sees.
        merge: name of a merge of equal shapes; under `dwa` a layer adds its input to what it makes of it.
        granularity: `block`, a layer is attention and then a perceptron; `sublayer`, it is one of the two, in turn.
    """

    vocabulary: int
    width: int = 48
    heads: int = 3
    context: int = 48
    merge: str = "sum"
    granularity: str = "block"

    @property
    def keeps_input(self) -> bool:
        """Whether a layer adds its input to what it makes of it: with `sum` that would be a second identity path."""
        return self.merge == "dwa"

    def parts(self, layer: int) -> tuple[str, ...]:
        """Return the parts of a layer, counted from 1, in the order in which they run."""
        both = ("attention", "perceptron")
        return both if self.granularity == "block" else (both[(layer - 1) % 2],)


class Attention(nn.Module):
    """Layer norm and causal self-attention."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.query_key_value = nn.Linear(config.width, 3 * config.width, bias=False)
        self.projection = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) -> (batch, time, width)."""
        n_batch, n_time, width = x.shape
        heads = self.query_key_value(self.norm(x)).view(n_batch, n_time, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        projected: Tensor = self.projection(mixed.transpose(1, 2).reshape(n_batch, n_time, width))
        return projected


class Perceptron(nn.Module):
    """Layer norm and a perceptron of one hidden layer, of ReLUs: GELU takes three times their time on a CPU."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.hidden = nn.Linear(config.width, EXPANSION * config.width, bias=False)
        self.projection = nn.Linear(EXPANSION * config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) -> (batch, time, width)."""
        projected: Tensor = self.projection(F.relu(self.hidden(self.norm(x))))
        return projected


_PARTS = {"attention": Attention, "perceptron": Perceptron}


class Layer(nn.Module):
    """One layer of a pattern: what its parts, each with a residual inside the layer, add to the merged input."""

    def __init__(self, config: DecoderConfig, number: int) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: _PARTS[name](config) for name in config.parts(number)})
        self.keeps_input = config.keeps_input

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) -> (batch, time, width)."""
        first, *others = self.parts.values()
        change: Tensor = first(x)
        for part in others:
            change = change + part(x + change)
        return x + change if self.keeps_input else change


class CharacterDecoder(nn.Module):
    """Embeddings of characters and places as node 0, layers, a layer norm and a linear map to the next character.

    A layer of several sources merges them. Layer 1 has only node 0 to read, in every pattern, and so no merge: `dwa` on
    the dense pattern, all nodes read at the end, has the d (d + 3) / 2 scalars of DenseFormer (arXiv:2402.02622).

    Args:
        config: settings.
        sources: nodes that each layer 1, 2, ... reads, ascending.
        reads: nodes that the output reads, ascending.
    """

    def __init__(self, config: DecoderConfig, sources: Sequence[Sequence[int]], reads: Sequence[int]) -> None:
        super().__init__()
        self.sources, self.reads = tuple(map(tuple, sources)), tuple(reads)
        self.characters = nn.Embedding(config.vocabulary, config.width)
        self.places = nn.Embedding(config.context, config.width)
        self.merges = nn.ModuleList(create_merge(config.merge, len(inputs)) for inputs in self.sources[1:])
        self.layers = nn.ModuleList(Layer(config, number) for number, _ in enumerate(self.sources, start=1))
        self.merge = create_merge(config.merge, len(self.reads))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.output = nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        """Characters (batch, time), int64 -> logits of the next character (batch, time, vocabulary)."""
        nodes = [self.characters(text) + self.places.weight[: text.shape[1]]]
        nodes.append(self.layers[0](nodes[0]))
        for layer, merge, sources in zip(self.layers[1:], self.merges, self.sources[1:], strict=True):
            nodes.append(layer(merge([nodes[source] for source in sources])))
        logits: Tensor = self.output(self.norm(self.merge([nodes[node] for node in self.reads])))
        return logits


def build_decoder(
    config: DecoderConfig, sources: Sequence[Sequence[int]], reads: Sequence[int], seed: int
) -> CharacterDecoder:
    """Build the decoder on the CPU, with the initial weights that a seed fixes.

    Every module draws from its own random stream, named by its place, so that all patterns of one seed start alike.
    Embeddings: standard normal. Linear maps: normal with standard deviation sqrt(1 / fan_in), times PROJECTION_GAIN
    where a layer writes.

    Args:
        config, sources, reads: see CharacterDecoder.
        seed: seed of the weights.
    """
    with torch.device("meta"):  # no draws from the global generator
        decoder = CharacterDecoder(config, sources, reads)
    make_tensors(decoder)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
            std = 1.0 if isinstance(module, nn.Embedding) else module.in_features**-0.5
            std *= PROJECTION_GAIN if name.endswith("projection") else 1.0
            nn.init.normal_(module.weight, std=std, generator=generator)
        elif isinstance(module, nn.LayerNorm | Weighted):
            module.reset_parameters()  # no draw
    start_brought(decoder, seed)
    return decoder


def predict_decoder_cost(config: DecoderConfig, sources: Sequence[Sequence[int]], reads: Sequence[int]) -> Cost:
    """Return parameters, and FLOPs of one text of `context` characters, without building the decoder.

    Both depend on the depth and, with merges that have scalars, on the number of connections, never on their place. Of
    a merge of another package only the parameters are counted.
    """
    width, n_time = config.width, config.context
    linear = {"attention": 4 * width**2, "perceptron": 2 * EXPANSION * width**2}
    parts = [part for layer, _ in enumerate(sources, start=1) for part in config.parts(layer)]
    weights = sum(linear[part] for part in parts) + width * config.vocabulary
    norms = width * (len(parts) + 1)
    merged = [*map(len, sources[1:]), len(reads)]
    of_merges = sum(count_parameters(config.merge, n_sources) for n_sources in merged)
    params = weights + norms + of_merges + width * (config.vocabulary + config.context)
    # Attention: every character with every other, twice, whether or not a mask hides the product.
    return Cost(params, 2 * n_time * weights + 4 * n_time**2 * width * parts.count("attention"))
