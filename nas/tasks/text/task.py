"""The text task: a class by the protocol of tasks, which says what its network, data and training are."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from nas.layouts.merges import CONCAT, MERGE_NAMES, load_merges
from nas.model.config import TrainingConfig
from nas.model.cost import Cost
from nas.tasks.candidate import TaskPattern
from nas.tasks.text.characters import Text, check_length, cut_windows, draw_starts, load_text, spread_starts
from nas.tasks.text.decoder import CharacterDecoder, DecoderConfig, build_decoder, predict_decoder_cost
from nas.training.train import find_rate
from search_spaces.errors import InputError
from search_spaces.plugins import check_name
from search_spaces.seeds import derive_generator

BETAS = 0.9, 0.95  # of AdamW
WARM_UP_STEPS = 30
N_VALIDATION = 800  # windows; without a file all there are: docs/text says how little their choice adds to the noise

Windows = tuple[Tensor, Tensor]  # characters, and the character after each, (windows, context) both


@dataclass(frozen=True)
class TextTask:
    """Prediction of the next character, given up to `context` characters before it.

    Args:
        merge: what a layer makes of what it reads. `sum` and `gated`: a layer's output is only what it makes of its
            input, so that `sum` on the dense pattern is the usual transformer. `dwa`: it adds its input. Or the name of
            a merge that an installed package brings.
        granularity: what one layer of the pattern is. `block`: attention, then a perceptron. `sublayer`: one of the
            two, attention first.
        width: channels of every node.
        heads: attention heads, which divide the width.
        context: most characters that a prediction sees.
        windows: number of contexts in an epoch, drawn from the training part by the seed.
        file: path of a text file in UTF-8; empty for the help pages of the Python language.

    Raises:
        InputError: a number is too small or too large, the heads do not divide the width, or the text is too short.
    """

    merge: str = "sum"
    granularity: Literal["block", "sublayer"] = "block"
    width: int = 48
    heads: int = 3
    context: int = 48
    windows: int = 3200
    file: Literal[""] | Path = ""

    metrics: ClassVar = {"loss": "min", "bits": "min"}  # nats and bits a character
    defaults: ClassVar = {"epochs": 1, "batch_size": 8, "lr": 3e-3, "weight_decay": 0.1}

    def __post_init__(self) -> None:
        for name, most in (("width", 4096), ("heads", 256), ("context", 4096), ("windows", 10**7)):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}: expected 1 to {most}")
        try:
            check_name(self.merge, [name for name in MERGE_NAMES if name != CONCAT], load_merges)
        except InputError as error:
            raise InputError(f"merge is {self.merge!r:.80}: {error}") from None
        if self.width % self.heads:
            raise InputError(f"{self.heads} heads do not divide a width of {self.width}")

    @property
    def text(self) -> Text:
        """The text.

        Raises:
            InputError: see load_text and check_length.
        """
        text = load_text(self.file or None)
        check_length(text, self.context)
        return text

    @property
    def decoder(self) -> DecoderConfig:
        """Settings of the network."""
        n_characters = len(self.text.vocabulary)
        return DecoderConfig(n_characters, self.width, self.heads, self.context, self.merge, self.granularity)

    def describe_data(self) -> dict[str, str]:
        """Return where the text comes from, and its hash."""
        return {"name": self.text.name, "sha256": self.text.sha256}

    def tell_data(self) -> str:
        """Return which text is read, and how many characters it has, for a run's first line."""
        text = self.text
        n_train, n_validation = len(text.training), len(text.validation)
        return (
            f"{text.name}, {n_train + n_validation:,} characters, {len(text.vocabulary)} different; {n_train:,} to "
            f"train on, {n_validation:,} for validation"
        )

    def build(self, pattern: TaskPattern, seed: int) -> CharacterDecoder:
        """Build the network: patterns of one seed start alike."""
        return build_decoder(self.decoder, pattern.sources, pattern.reads, seed)

    def cost(self, pattern: TaskPattern) -> Cost:
        """Return parameters, and FLOPs of one context."""
        return predict_decoder_cost(self.decoder, pattern.sources, pattern.reads)

    def data(self, seed: int) -> tuple[Windows, Windows]:
        """Return windows of the training part, drawn by the seed, and of the validation part, always the same."""
        text, context = self.text, self.context
        drawn = draw_starts(text.training, self.windows, context, derive_generator(seed, "windows"))
        spread = spread_starts(text.validation, N_VALIDATION, context)
        training, validation = cut_windows(text.training, drawn, context), cut_windows(text.validation, spread, context)
        return _pair(torch.from_numpy(training)), _pair(torch.from_numpy(validation))

    def loss(self, network: CharacterDecoder, batch: Sequence[Tensor]) -> Tensor:
        """Return the mean cross-entropy of the next character, in nats."""
        characters, following = batch
        return F.cross_entropy(network(characters).flatten(0, 1), following.flatten())

    def evaluate(self, network: CharacterDecoder, batches: Iterable[Sequence[Tensor]]) -> dict[str, float]:
        """Return the mean loss over all characters, in nats and in bits."""
        total, n_windows = 0.0, 0
        for batch in batches:
            total += float(self.loss(network, batch)) * len(batch[0])
            n_windows += len(batch[0])
        return {"loss": total / n_windows, "bits": total / n_windows / math.log(2)}

    def optimizer(
        self, network: CharacterDecoder, training: TrainingConfig, n_steps: int
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return AdamW, which decays matrices only, and the run's drops of the rate or a warm-up and half a cosine."""
        parameters = list(network.parameters())
        groups = [
            {"params": [each for each in parameters if each.ndim >= 2], "weight_decay": training.weight_decay},
            {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=training.lr, betas=BETAS, fused=True)
        drops, warm_up = training.lr_drops, training.warm_up
        if drops is None and warm_up is None:
            return optimizer, LambdaLR(optimizer, lambda step: _rate(step, n_steps))
        return optimizer, LambdaLR(optimizer, lambda step: find_rate(step, n_steps, drops, warm_up))


def _pair(windows: Tensor) -> Windows:
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def _rate(step: int, n_steps: int) -> float:
    """Return the share of the largest learning rate at a step; it is 0 after the last."""
    n_warm_up = min(WARM_UP_STEPS, n_steps)
    if step < n_warm_up:
        return (step + 1) / n_warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm_up) / max(1, n_steps - n_warm_up)))
