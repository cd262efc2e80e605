"""Settings: defaults, every refusal at once under the flag's name, TOML and flags, what a candidate derives."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nas.layouts.condensed import CondenseNet
from nas.layouts.fractal import FractalNet
from nas.layouts.multiscale import MsdNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig, ShapeConfig
from nas.records.checked import describe_field, validate
from nas.settings.search import RUNNING, TASK_ONLY, SearchConfig
from nas.settings.study import StudyConfig
from nas.settings.toml import format_toml, merge_settings, read_toml
from search_spaces.errors import InputError
from search_spaces.templates import find_template


def _resolve(file: Path | None, flags: Mapping[str, Any]) -> SearchConfig:
    return validate(SearchConfig, merge_settings(file, flags))


def refusal(**values: Any) -> str:
    """The message with which a search of these settings is refused."""
    with pytest.raises(InputError) as caught:
        validate(SearchConfig, values)
    return str(caught.value)


def lines_of(message: str) -> list[str]:
    """The problems of a refusal, one an entry."""
    head, *rest = message.split("\n")
    assert head == "these settings cannot be used:"
    assert all(line.startswith("  - ") for line in rest)
    return [line.removeprefix("  - ") for line in rest]


def write_config(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_valid_and_of_equal_cost() -> None:
    config = _resolve(None, {})
    assert config == SearchConfig()
    assert (config.dataset, config.budget, config.transition, config.workers) == ("digits", "log", "log", "auto")
    assert config.stem_channels is None
    assert config.compression is None
    assert config.network(10, (1, 8, 8)).has_equal_cost


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", 0),
        ("layers", "twelve"),
        ("layers", 3.5),
        ("blocks", -1),
        ("growth", 0),
        ("layer", "perhaps"),
        ("merge", "median"),
        ("drop_layers", 1.0),
        ("drop_path", -0.1),
        ("exits", "every:0"),
        ("exits", "first"),
        ("transition", "first"),
        ("stem_channels", 0),
        ("compression", 0.0),
        ("compression", 1.01),
        ("epochs", 0),
        ("lr", 0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("batch_size", 1),
        ("weight_decay", -1e-9),
        ("weight_decay", float("inf")),
        ("budget", "logs"),
        ("budget", 94),
        ("dataset", "cifar"),
        ("data", 3),
        ("trainings", 0),
        ("trials", 0),
        ("seeds", 0),
        ("train_examples", 0),
        ("strategy", "annealed"),
        ("strategy", "tpe"),
        ("objective", "error"),
        ("lookahead", 0),
        ("hours", 0),
        ("hours", float("inf")),
        ("patience", 0),
        ("workers", 0),
        ("workers", "many"),
        ("trial_timeout", 0),
        ("trial_timeout", -1.5),
        ("trial_timeout", float("nan")),
        ("trial_timeout", float("inf")),
        ("trial_timeout", "an hour"),
        ("checkpoint_seconds", -1),
        ("checkpoint_seconds", float("nan")),
        ("halving", "perhaps"),
        ("deterministic", 1),
        ("gpus_per_worker", 0),
        ("gpus_per_worker", -0.5),
        ("gpus_per_worker", float("nan")),
        ("ray_address", 6379),
        ("engine", "compiled"),
        ("engine", True),
        ("device", "tpu"),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_or_type_is_refused_under_its_flag_with_the_value(name: str, value: object) -> None:
    lines = lines_of(refusal(**{name: value}))
    assert lines
    for line in lines:
        assert line.startswith(name.replace("_", "-") + ": ")
        assert line.endswith(f", got {value!r}")


NUMBERS = sorted(
    {
        name
        for model in (SearchConfig, StudyConfig, NetworkConfig)
        for name, field in model.model_fields.items()
        if re.search(r"number", describe_field(field)) and name not in ("lr_drops", "compression")
    }
)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_an_upper_limit(name: str) -> None:
    model = next(model for model in (SearchConfig, StudyConfig, NetworkConfig) if name in model.model_fields)
    is_list = "list" in describe_field(model.model_fields[name]) or name == "image"
    for absurd in (10**10, 10**30):
        if name == "seed" and absurd == 10**10:
            continue
        with pytest.raises(InputError) as caught:
            validate(model, {name: (absurd,) * 3 if is_list else absurd})
        assert f"{name.replace('_', '-')}: expected" in str(caught.value)
        assert str(absurd) in str(caught.value)


@pytest.mark.parametrize("model", [SearchConfig, StudyConfig, NetworkConfig])
@pytest.mark.parametrize("given", [None, True, -3, 0.5, "text", [], ["a", 1], {}, {"a": 1}, float("nan")])
def test_no_setting_is_refused_in_the_words_of_a_library(model: Any, given: Any) -> None:
    for name in model.model_fields:
        try:
            validate(model, {name: given})
        except InputError as refusal:
            assert not re.search(r"[Ii]nput should|valid (integer|number|string|tuple|boolean)", str(refusal))


@pytest.mark.parametrize(
    ("given", "dataset"), [({"data": "a.npz"}, "npz"), ({"data": "A.NPZ", "dataset": "svhn"}, "svhn"), ({}, "digits")]
)
def test_a_file_of_arrays_names_its_data_set(given: dict[str, Any], dataset: str) -> None:
    assert validate(SearchConfig, given).dataset == SearchConfig(**given).dataset == dataset
    assert validate(StudyConfig, given).dataset == dataset


@pytest.mark.parametrize("given", [{"data": "folder"}, {"data": "a.npz", "dataset": "digits"}, {"data": "/nowhere"}])
def test_data_that_would_not_be_read_are_refused(given: dict[str, Any]) -> None:
    assert repr(given["data"]) in refusal(**given)


def test_so_many_trainings_are_refused() -> None:
    assert "1,000,000,000 trainings" in refusal(strategy="random", trials=10**6, seeds=1000)
    assert "2,000,000 trainings" in refusal(trainings=10**6, budget=("log", "total:30"))


@pytest.mark.parametrize("name", ["layers", "epochs", "seeds", "seed", "train_examples", "workers"])
def test_a_truth_value_is_no_number(name: str) -> None:
    assert f"{name.replace('_', '-')}: " in refusal(**{name: True, "trials": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", 1),
        ("compression", 1.0),
        ("batch_size", 2),
        ("weight_decay", 0),
        ("seed", 0),
        ("workers", 3),
        ("workers", "auto"),
        ("stem_channels", 8),
        ("train_examples", 1),
        ("lookahead", 1),
        ("hours", 1e-9),
        ("patience", 1),
        ("trial_timeout", 1e-9),
        ("checkpoint_seconds", 0),
        ("gpus_per_worker", 0.001),
    ],
)
def test_the_ends_of_the_ranges_are_accepted(name: str, value: object) -> None:
    assert getattr(_resolve(None, {"trials": 1, "strategy": "random", name: value}), name) == value


def test_all_problems_of_single_settings_are_reported_at_once() -> None:
    lines = lines_of(refusal(layers=0, lr=-1, batch_size=1, weight_decay=-1, epochz=3, dataset="mnist"))
    assert {line.partition(":")[0] for line in lines} == {
        "layers",
        "lr",
        "batch-size",
        "weight-decay",
        "epochz",
        "dataset",
    }


@pytest.mark.parametrize(
    ("conflict", "part"),
    [
        ({"budget": "total:3"}, "total:3"),
        ({"dataset": "npz"}, "--data"),
        ({"transition": "rule"}, "--strategy templates"),
        ({"strategy": "templates", "templates": False}, "--no-templates"),
    ],
)
def test_problems_between_settings_are_reported_beside_those_of_single_ones(
    conflict: dict[str, Any], part: str
) -> None:
    first, second = lines_of(refusal(lr=-1, **conflict))
    assert first.startswith("lr: ")
    assert part in second


@pytest.mark.parametrize(
    "values",
    [{"strategy": "annealed", "transition": "rule"}, {"layers": 0, "budget": "total:3"}, {"trials": 0, "layers": 3}],
)
def test_a_wrong_setting_is_not_blamed_for_a_conflict_as_well(values: dict[str, Any]) -> None:
    (line,) = lines_of(refusal(**values))
    assert line.startswith(f"{next(iter(values))}: ")


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("epoch", "epochs"),
        ("train_example", "train-examples"),
        ("batchsize", "batch-size"),
        ("grwth", "growth"),
        ("no_templates", "templates"),
        ("zzz", None),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(given: str, nearest: str | None) -> None:
    hint = f"; did you mean {nearest}?" if nearest else ""
    assert lines_of(refusal(**{given: 1})) == [f"{given.replace('_', '-')}: no such setting{hint}"]


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"budget": "total:23"}, ["total:23", "24 layers", "total:24 to total:300"]),
        ({"budget": "total:x"}, ["total:x", "whole number"]),
        ({"budget": "log:4"}, ["'log:4'", "known form"]),
        ({"budget": "layers:1,2"}, ["needs 24 in-degrees, not 2"]),
        ({"layers": 3, "budget": "layers:1,2,4", "trials": 1}, ["layer 3 cannot have 4 inputs"]),
        ({"layers": 4, "trials": 7, "strategy": "random"}, ["only 6 patterns of 4 layers", "7 trials"]),
        (
            {"layers": 4, "budget": "total:6", "trials": 16, "strategy": "evolve"},
            ["only 15 patterns of 4 layers", "16 trials"],
        ),
        ({"trials": 5}, ["strategy model", "give trainings"]),
        ({"trials": 5, "trainings": 15, "strategy": "random"}, ["trainings and trials", "drop one"]),
        ({"dataset": "npz"}, ["--data", "x_train, y_train, x_test and y_test"]),
        ({"transition": "rule"}, ["named templates only", "--strategy templates"]),
        ({"strategy": "templates", "templates": False}, ["--no-templates"]),
        ({"halving": True, "epochs": 2, "strategy": "random"}, ["halving needs at least 3 epochs"]),
        ({"halving": True, "epochs": 1, "strategy": "random"}, ["halving needs at least 3 epochs"]),
        ({"halving": True, "strategy": "templates"}, ["halving drops proposed patterns", "strategy templates"]),
        ({"halving": True}, ["halving compares patterns trained for a third", "strategy model"]),
        ({"gpus_per_worker": 0.5, "device": "cpu"}, ["gpus-per-worker is for cuda"]),
        ({"gpus_per_worker": 1, "device": "cpu"}, ["gpus-per-worker is for cuda"]),
        ({"cohort": 2, "memory_efficient": True}, ["memory-efficient: for one candidate at a time"]),
        ({"cohort": 2, "exits": "every:4"}, ["exits every:4: for one candidate"]),
        (
            {"exits": "every:24"},
            ["exits every:24: there are 24 layers", "only one; give less"],
        ),
        (
            {"exits": "every:4", "memory_efficient": True},
            ["memory-efficient: cannot be had with exits every:4; drop memory-efficient"],
        ),
        (
            {"surroundings": {"kind": "resnet"}, "merge": "sum", "proxies": True, "memory_efficient": True},
            ["memory-efficient and proxies: cannot be had with the resnet network"],
        ),
        (
            {"surroundings": {"kind": "condensenet", "groups": 3}, "growth": 8, "transition": "all"},
            ["CondenseNet's 3 groups", "a growth that is a multiple of 3"],
        ),
        ({"exit_loss": "adaloss", "surroundings": {"kind": "resnet"}}, ["exit-loss adaloss weighs several exits"]),
        ({"exit_loss": "adaloss"}, ["exit-loss adaloss weighs several exits, and there is only the last"]),
        ({"cohort": 2, "drop_layers": 0.5, "drop_path": 0.1}, ["drop-layers and drop-path: for one candidate"]),
        ({"merge": "sum", "compression": 0.5}, ["merge sum needs nodes of one width", "compression"]),
        ({"merge": "dwa", "stem_channels": 5, "growth": 4}, ["merge dwa needs nodes of one width", "stem-channels"]),
        ({"surroundings": {"kind": "fc-densenet"}}, ["surroundings fc-densenet", "every pixel", "--task segmentation"]),
        ({"gpus_per_worker": 1.5}, ["gpus-per-worker 1.5", "a part of one GPU, or whole ones"]),
        ({"gpus_per_worker": 2.25, "device": "cuda"}, ["gpus-per-worker 2.25"]),
        ({"ray_address": "auto"}, ["ray-address 'auto'", "10.0.0.1:6379"]),
        ({"ray_address": "local"}, ["ray-address 'local'", "10.0.0.1:6379"]),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, Any], parts: list[str]) -> None:
    message = refusal(**values)
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    "values",
    [
        {"layers": 4, "trials": 6, "strategy": "random"},
        {"layers": 4, "budget": "total:6", "trials": 15, "strategy": "random:wide"},
        {"layers": 4, "trainings": 100, "strategy": "model"},
        {"layers": 4, "trials": 100, "strategy": "templates"},
        {"dataset": "npz", "data": "a.npz"},
        {"dataset": "fashion-mnist"},
        {"transition": "rule", "strategy": "templates"},
        {"templates": False},
        {"trainings": 1, "templates": False, "patience": 1},
        {"halving": True, "epochs": 3, "strategy": "random"},
        {"halving": True, "epochs": 9, "templates": False, "strategy": "evolve"},
        {"epochs": 2, "halving": False},
        {"gpus_per_worker": 0.25, "device": "cuda"},
        {"gpus_per_worker": 1.0},
        {"gpus_per_worker": 2.0, "device": "cuda"},
        {"ray_address": "10.0.0.1:6379", "workers": "auto"},
        {"device": "cpu", "ray_address": "ray://head:10001"},
    ],
)
def test_settings_that_just_go_together_are_accepted(values: dict[str, Any]) -> None:
    config = _resolve(None, values)
    assert {name: getattr(config, name) for name in values} == values


def test_every_conflict_between_settings_is_reported_at_once() -> None:
    message = refusal(dataset="npz", budget="total:3", strategy="templates", templates=False)
    assert all(part in message for part in ("total:3", "--data", "--no-templates"))
    assert "--strategy templates" in refusal(dataset="npz", transition="rule")


@pytest.mark.parametrize("epochs", [2, 9])
def test_a_study_is_never_halved(epochs: int) -> None:
    with pytest.raises(InputError, match="a study trains every pattern to the end"):
        validate(StudyConfig, {"halving": True, "epochs": epochs})
    assert validate(StudyConfig, {"epochs": epochs}).halving is False


def test_what_may_be_changed_of_a_run_is_a_setting() -> None:
    assert RUNNING < SearchConfig.changeable < set(SearchConfig.model_fields)
    assert StudyConfig.changeable == RUNNING


OLDER = {  # what versions without merges wrote of a network, for checkpoints and plans
    "layers": 24, "blocks": 1, "growth": 4, "bottleneck": False, "transition": "log", "stem_channels": None,
    "compression": None, "block_layers": None, "large_stem": False, "classes": 10, "image": [1, 8, 8],
}  # fmt: skip


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_network_that_older_versions_knew_is_identified_as_they_wrote_it(bottleneck: bool) -> None:
    older = {**OLDER, "bottleneck": bottleneck}
    network = validate(NetworkConfig, older)
    assert network.layer == ("bottleneck" if bottleneck else "bn-relu-conv")
    assert network.identify() == older


def test_a_network_of_another_merge_layer_or_drop_is_identified_by_it() -> None:
    for values in (
        {"merge": "sum"},
        {"layer": "depthwise"},
        {"drop_layers": 0.5},
        {"drop_path": 0.15},
        {"exits": "every:7", "exit_loss": "adaloss"},
    ):
        identity = validate(NetworkConfig, values).identify()
        assert identity != OLDER
        assert values.items() <= identity.items()
        assert validate(NetworkConfig, identity) == validate(NetworkConfig, values)


def test_the_older_spelling_is_a_truth_value_and_gives_way_to_the_layer() -> None:
    assert validate(SearchConfig, {"bottleneck": True, "layer": "depthwise"}).layer == "depthwise"
    with pytest.raises(InputError, match="bottleneck: no such setting"):
        validate(SearchConfig, {"bottleneck": "perhaps"})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SearchConfig().layers = 3


SEEDED = {"from_table": "/before.csv", "table_sha256": "0" * 64}
FULL = {
    "layers": 6,
    "blocks": 2,
    "growth": 8,
    "layer": "bottleneck",
    "merge": "concat",
    "drop_layers": 0.5,
    "drop_path": 0.15,
    "transition": "last",
    "stem_channels": 12,
    "compression": 0.5,
    "block_layers": (6, 4),
    "large_stem": True,
    "exits": "last",
    "exit_loss": "sum",
    "surroundings": None,
    "epochs": 3,
    "lr": 1e-3,
    "batch_size": 32,
    "weight_decay": 0.0,
    "lr_drops": (0.5, 0.75),
    "warm_up": 0.05,
    "budget": "layers:1,2,1,3,2,4",
    "dataset": "npz",
    "data": 'a "quoted" \\ näme.npz',
    "trainings": None,
    "trials": 5,
    "seeds": 2,
    "train_examples": 64,
    "validation_examples": 500,
    "strategy": "evolve",
    "objective": "accuracy",
    "lookahead": 2,
    "hours": 1.5,
    "patience": 7,
    "templates": False,
    "pattern": ("mine.json", "other.json"),
    "attempts": 5,
    "workers": 2,
    "trial_timeout": 90.5,
    "checkpoint_seconds": 2.5,
    "halving": True,
    "deterministic": True,
    "gpus_per_worker": 0.25,
    "ray_address": "10.0.0.1:6379",
    "memory_efficient": True,
    "cohort": 1,
    "engine": "eager",
    "log": ("tensorboard", "noting"),
    "proxies": True,
    "precision": "bfloat16",
    "device": "cuda",
    "seed": 11,
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        FULL,
        {"compression": 1 / 3, "cohort": 8, "trainings": 7},
        {"merge": "dwa"},
        {"surroundings": MsdNet(widths=(1, 2), first_exit=3)},
        {"surroundings": CondenseNet(groups=2, lasso=1e-5), "transition": "all", "blocks": 2},
        SEEDED,
    ],
)
def test_toml_gives_back_the_same_settings(values: dict[str, Any], tmp_path: Path) -> None:
    config = validate(SearchConfig, values)
    text = format_toml(config)
    assert _resolve(write_config(tmp_path, text), {}) == config
    assert all("_" not in name for name in tomllib.loads(text))
    # What is unset is left out, everything else is there.
    unset = {name for name in SearchConfig.model_fields if getattr(config, name) is None}
    assert {name.replace("-", "_") for name in tomllib.loads(text)} == set(
        SearchConfig.model_fields
    ) - unset - TASK_ONLY


def test_every_setting_takes_part_in_the_full_round_trip() -> None:
    assert set(FULL) | set(SEEDED) == set(SearchConfig.model_fields) - TASK_ONLY
    defaults = SearchConfig()
    # A cohort, surroundings and exits exclude memory_efficient, trainings trials, sums compression, and a table the
    # other strategies: they have cases of their own.
    same = [name for name in FULL if FULL[name] == getattr(defaults, name)]
    assert same == ["merge", "exits", "exit_loss", "surroundings", "trainings", "cohort"]


@pytest.mark.parametrize("flag", ["memory_efficient", "proxies", "cohort"])
def test_a_network_with_a_layout_goes_through_settings_and_refuses_what_it_lacks(flag: str) -> None:
    values = {"layers": 4, "blocks": 3, "merge": "sum", "surroundings": {"kind": "fractal", "dropout": 0.1}}
    config = validate(SearchConfig, values)
    assert config.surroundings == FractalNet(dropout=0.1)
    network = config.network(7, (3, 16, 16))
    assert validate(NetworkConfig, json.loads(json.dumps(network.identify()))) == network
    with pytest.raises(InputError, match=flag.replace("_", "-")):
        validate(SearchConfig, {**values, flag: 2 if flag == "cohort" else True})


@pytest.mark.parametrize(
    "given",
    [{"kind": "no such"}, {"kind": ["fractal"]}, {}, True, "fc-densenet", {"kind": "fc-densenet", "dropout": 2}],
)
def test_surroundings_of_another_form_are_refused(given: object) -> None:
    with pytest.raises(InputError, match="surroundings: "):
        validate(NetworkConfig, {"surroundings": given})


def test_a_wrong_option_is_said_of_the_kind_that_was_given() -> None:
    with pytest.raises(InputError) as caught:
        validate(NetworkConfig, {"surroundings": {"kind": "msdnet", "first_exit": "x", "widths": [1, 2]}})
    said = str(caught.value)
    assert "surroundings: msdnet cannot have first-exit: expected" in said
    assert "fc-densenet" not in said


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = write_config(tmp_path, "layers = 12\ntrain-examples = 300\nbatch_size = 8\ntemplates = true\n")
    config = _resolve(path, {"layers": 6, "seeds": None, "train_examples": None, "templates": False})
    assert (config.layers, config.train_examples, config.batch_size, config.seeds) == (6, 300, 8, SearchConfig().seeds)
    assert config.templates is False


def test_a_wrong_setting_next_to_a_table_of_surroundings_is_reported_with_what_the_table_excludes(
    tmp_path: Path,
) -> None:
    table = '[surroundings]\nkind = "condensenet"\ngroups = 3\n'
    with pytest.raises(InputError, match="epochs: expected") as caught:
        _resolve(write_config(tmp_path, f"epochs = 0\ngrowth = 4\n{table}"), {})
    assert "growth 4" in str(caught.value)


def test_a_flag_can_repair_a_bad_value_of_the_file(tmp_path: Path) -> None:
    path = write_config(tmp_path, "lr = -1\n")
    assert _resolve(path, {"lr": 0.5}).lr == 0.5
    with pytest.raises(InputError, match=r"lr: .*got -1"):
        _resolve(path, {})


def test_a_table_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="search: no such setting"):
        _resolve(write_config(tmp_path, "[search]\nlayers = 3\n"), {})


@pytest.mark.parametrize(
    "content", [b"layers: 3\n", b"layers = \n", b"layers = 3\nlayers = 4\n", b"data = '\xff\xfe'\n"]
)
def test_a_file_that_is_not_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path} is not TOML: ")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_toml(tmp_path / "none.toml")
    assert str(tmp_path / "none.toml") in str(caught.value)
    with pytest.raises(InputError) as caught:
        read_toml(tmp_path)
    assert str(caught.value) == f"{tmp_path} cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("blocks", "height", "width", "allowed"),
    [(1, 1, 1, True), (2, 1, 1, False), (4, 8, 8, True), (5, 8, 8, False), (3, 7, 9, True), (4, 9, 7, False)],
)
def test_blocks_are_refused_where_halving_leaves_no_pixel(blocks: int, height: int, width: int, allowed: bool) -> None:
    side = min(height, width)
    halvings = 0
    while side > 1:
        side, halvings = side // 2, halvings + 1
    assert allowed == (blocks - 1 <= halvings)
    config = SearchConfig(blocks=blocks)
    if allowed:
        assert config.network(10, (3, height, width)).image == (3, height, width)
        return
    with pytest.raises(InputError) as caught:
        config.network(10, (3, height, width))
    assert f"{blocks} blocks halve an image of {height}x{width} away: give at most {halvings + 1} blocks" in str(
        caught.value
    )


def test_a_network_takes_its_shape_from_the_settings_and_the_rest_from_the_data() -> None:
    config = validate(SearchConfig, FULL)
    network = config.network(7, (3, 32, 16))
    assert (network.classes, network.image) == (7, (3, 32, 16))
    assert all(getattr(network, name) == FULL.get(name) for name in ShapeConfig.model_fields)


@pytest.mark.parametrize(("values", "flag"), [({"classes": 1}, "classes"), ({"image": (0, 8, 8)}, "image")])
def test_data_that_no_network_can_take_are_refused(values: dict[str, Any], flag: str) -> None:
    with pytest.raises(InputError, match=f"{flag}: expected"):
        validate(NetworkConfig, values)


@pytest.mark.parametrize(
    ("values", "stem", "equal"),
    [
        ({}, 4, True),
        ({"stem_channels": 4}, 4, True),
        ({"stem_channels": 8}, 8, False),
        ({"growth": 6}, 6, True),
        ({"growth": 6, "stem_channels": 4}, 4, False),
        ({"compression": 0.5}, 4, False),
        ({"transition": "rule"}, 4, False),
        ({"transition": "all"}, 4, True),
        ({"transition": "last", "bottleneck": True}, 4, True),
    ],
)
def test_equal_cost_needs_growth_channels_at_every_node(values: dict[str, Any], stem: int, equal: bool) -> None:
    network = NetworkConfig(**values)
    assert (network.stem, network.has_equal_cost) == (stem, equal)


@pytest.mark.parametrize(
    ("transition", "template", "expected"),
    [
        ("log", None, (5, 9, 11, 12)),
        ("all", None, tuple(range(13))),
        ("last", None, (12,)),
        ("rule", "chain", (12,)),
        ("rule", "odd_even", (0, 2, 4, 6, 8, 10, 12)),
    ],
)
def test_a_candidate_knows_what_its_transition_reads(
    transition: str, template: str | None, expected: tuple[int, ...]
) -> None:
    network = validate(NetworkConfig, {"transition": transition, "layers": 12})
    candidate = Candidate(find_template("dense").build(12), network, seed=0, template=template)
    assert candidate.wiring.read == expected


def test_a_candidate_of_no_template_has_no_rule_to_read_by() -> None:
    candidate = Candidate(find_template("log").build(5), NetworkConfig(layers=5, transition="rule"), seed=0)
    with pytest.raises(InputError, match="no named template; use log, all or last"):
        _ = candidate.wiring.read


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"block_layers": (3, 5), "blocks": 2, "layers": 6}, "the deepest of 5 layers, and blocks is 2, layers 6"),
        ({"block_layers": (3, 5, 4), "blocks": 2, "layers": 5}, r"\[3, 5, 4\] are of 3 blocks"),
        ({"block_layers": (), "layers": 5}, "must agree"),
        ({"transition": "v1", "compression": 0.5}, "transitions v1 have widths of their own: drop compression"),
        ({"transition": "v2", "compression": 0.5}, "transitions v2 have widths of their own: drop compression"),
        ({"lr_drops": (0.75, 0.5)}, "lr-drops: the shares must ascend"),
        ({"lr_drops": (0.5, 0.5)}, "lr-drops: the shares must ascend"),
        ({"lr_drops": (0.5, 1.0)}, "lr-drops: "),
        ({"dataset": "cifar-10"}, "dataset cifar-10 needs --data FOLDER"),
        ({"dataset": "svhn"}, "dataset svhn needs --data FOLDER"),
        # The pattern of V1 has the layers of both blocks, so that one of three layers is none of its budgets.
        (
            {"layers": 3, "blocks": 2, "transition": "v1", "budget": "layers:1,2,2"},
            "for 6 layers needs 6 in-degrees, not 3",
        ),
    ],
)
def test_settings_of_whole_networks_that_cannot_be(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        validate(SearchConfig, values)


def test_v1_s_budget_is_of_all_blocks() -> None:
    config = validate(SearchConfig, {"layers": 4, "blocks": 3, "transition": "v1", "budget": "total:30"})
    assert (config.pattern_depth, config.deepest, config.block_depths) == (12, 12, (4, 4, 4))
    assert validate(SearchConfig, {"layers": 4, "blocks": 3, "budget": "total:9"}).pattern_depth == 4


@pytest.mark.parametrize("transition", ["v1", "v2"])
def test_networks_across_blocks_differ_in_cost(transition: str) -> None:
    assert not NetworkConfig.model_validate({"transition": transition}).has_equal_cost
    assert not NetworkConfig(block_layers=(24, 12), blocks=2).has_equal_cost


@pytest.mark.parametrize(("size", "blocks", "fits"), [(13, 3, True), (13, 4, False), (16, 3, True), (12, 3, False)])
def test_a_large_stem_leaves_a_quarter_of_the_image_to_halve(size: int, blocks: int, fits: bool) -> None:
    values = {"blocks": blocks, "large_stem": True, "image": (3, size, 40)}
    if fits:
        assert validate(NetworkConfig, values).resolution == (-(-size // 4), 10)
        return
    with pytest.raises(InputError, match=f"{-(-size // 4)}x10 after the large stem away: give at most"):
        validate(NetworkConfig, values)


def test_a_file_may_name_network_and_recipe(tmp_path: Path) -> None:
    path = write_config(tmp_path, 'network = "log-densenet-v2-12-24"\nrecipe = "log-densenet"\nepochs = 30\n')
    config = _resolve(path, {"growth": 8})
    assert (config.layers, config.blocks, config.growth, config.stem_channels) == (12, 3, 8, 48)
    assert config.transition == "v2"
    assert (config.epochs, config.lr, config.lr_drops) == (30, 0.1, (140 / 300, 210 / 300, 250 / 300))
    with pytest.raises(InputError, match="there is no network '5'"):
        _resolve(write_config(tmp_path, "network = 5\n"), {})
