"""Settings as keyword arguments, for type checkers and editors: the fields of the settings, by their names.

A test compares this file with the fields; `python -m tests.support.face_settings` writes it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict


class NetworkSettings(TypedDict, total=False):
    """The network around a pattern."""

    layers: int | None
    blocks: int | None
    growth: int | None
    layer: Literal["bn-relu-conv", "bottleneck", "depthwise"] | None
    merge: str | None
    drop_layers: float | None
    drop_path: float | None
    transition: Literal["log", "all", "last", "rule", "v1", "v2"] | None
    stem_channels: int | None
    compression: float | None
    exits: str | None
    exit_loss: Literal["sum", "adaloss"] | None
    classes: int | None
    image: Sequence[int] | None


class ScoreSettings(NetworkSettings, total=False):
    """The network, and the data of a first batch."""

    batch_size: int | None
    dataset: str | None
    data: str | Path | None
    train_examples: Literal["all"] | int | None


class SharedSettings(TypedDict, total=False):
    """What a search and a study both have."""

    epochs: int | None
    lr: float | None
    batch_size: int | None
    weight_decay: float | None
    lr_drops: Sequence[float] | None
    warm_up: float | None
    layers: int | None
    blocks: int | None
    growth: int | None
    layer: Literal["bn-relu-conv", "bottleneck", "depthwise"] | None
    merge: str | None
    drop_layers: float | None
    drop_path: float | None
    exits: str | None
    exit_loss: Literal["sum", "adaloss"] | None
    set: Mapping[str, Any] | Sequence[str] | None
    dataset: str | None
    data: str | Path | None
    trials: int | None
    seeds: int | None
    train_examples: Literal["all"] | int | None
    validation_examples: int | None
    templates: bool | None
    workers: Literal["auto"] | int | None
    attempts: int | None
    trial_timeout: float | None
    checkpoint_seconds: float | None
    deterministic: bool | None
    gpus_per_worker: float | None
    ray_address: str | None
    cohort: Literal["auto"] | int | None
    memory_efficient: bool | None
    engine: Literal["auto", "eager", "fused", "graph"] | None
    log: Sequence[str] | None
    proxies: bool | None
    precision: Literal["float32", "bfloat16"] | None
    device: Literal["auto", "cpu", "cuda"] | None
    seed: int | None


class SearchSettings(SharedSettings, total=False):
    """Settings of a search; None counts as not given."""

    transition: Literal["log", "all", "last", "rule", "v1", "v2"] | None
    stem_channels: int | None
    compression: float | None
    budget: str | Sequence[str] | None
    trainings: int | None
    strategy: str | None
    objective: str | None
    lookahead: int | None
    hours: float | None
    patience: int | None
    pattern: Sequence[str | Path] | None
    from_table: str | Path | None
    halving: bool | None


class StudySettings(SharedSettings, total=False):
    """Settings of a study; None counts as not given."""

    budget: str | None
    also_layers: Sequence[int] | None
    cross: str | None
    bins: str | None
    per_cell: int | None
    optima: int | None
    regime: Sequence[str] | None
    tune_lr: str | None
    check_epochs: int | None
    check_patterns: int | None
