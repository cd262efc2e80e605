"""Verification: exactly the false claims of a template file are named, by function and by command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.export.export import describe_export, verify_template
from nas.model.config import NetworkConfig
from nas.records.template import TemplateFile, format_template, list_claims, read_pattern
from search_spaces.budget import Budget, log_budget
from search_spaces.distance import describe
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import certify
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import TEMPLATES, find_template
from tests.support.command_line import run_command

NETWORK = NetworkConfig(layers=12, blocks=2, growth=6, image=(3, 16, 16), classes=5)
Raw = dict[str, Any]


def template_of(name: str, budget: str = "", network: NetworkConfig = NETWORK) -> Raw:
    """A true template file's content."""
    pattern = find_template(name).build(network.layers)
    spent = budget or f"total:{pattern.n_connections}"
    content: Raw = json.loads(format_template(describe_export(pattern, network, spent, {"name": name})))
    return content


@pytest.fixture
def raw() -> Raw:
    """Log's file over 12 layers at budget log, bounded and not optimal."""
    content = template_of("log", "log")
    assert content["certificate"]["status"] == "bounded"
    return content


def verify(raw: Raw, folder: Path) -> dict[str, str]:
    path = folder / "template.json"
    path.write_text(json.dumps(raw))
    return verify_template(path)


# --- what is true ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@pytest.mark.parametrize("transition", ["log", "rule"])
def test_a_true_file_makes_no_false_claim(name: str, transition: str, tmp_path: Path) -> None:
    network = NetworkConfig.model_validate({"layers": 12, "blocks": 2, "transition": transition})
    assert verify(template_of(name, network=network), tmp_path) == {}


@pytest.mark.parametrize(
    "budget", [log_budget(12), Budget(12, total=30), Budget(12, total=30, max_in=4, max_out=5)], ids=str
)
def test_true_files_of_other_budgets_make_no_false_claim(budget: Budget, tmp_path: Path) -> None:
    capped = budget.max_in is not None
    pattern = budget.example() if capped else sample_uniform(budget, derive_generator("verify"))
    content = json.loads(format_template(describe_export(pattern, NETWORK, str(budget), {"name": None})))
    assert content["budget"] == str(budget)
    found = certify(pattern, budget)
    assert content["certificate"] == {"status": found.status, "bound_mean_bd": found.bound, "gap": found.gap}
    assert verify(content, tmp_path) == {}


def test_a_file_that_claims_no_certificate_makes_no_false_claim(raw: Raw, tmp_path: Path) -> None:
    del raw["certificate"]
    assert verify(raw, tmp_path) == {}
    assert verify({**raw, "certificate": {}}, tmp_path) == {}


# --- what is false -----------------------------------------------------------------------------------------------


def edit_better_mean(raw: Raw) -> None:
    """The optimum's mean and a certificate that fits it."""
    raw["distances"]["mean_bd"] = raw["certificate"]["bound_mean_bd"]
    raw["certificate"].update(status="optimal", gap=0.0)


FALSE: dict[str, tuple[Callable[[Raw], object], set[str]]] = {
    "status optimal": (lambda raw: raw["certificate"].update(status="optimal"), {"certificate.status"}),
    "status max-optimal": (lambda raw: raw["certificate"].update(status="max-optimal"), {"certificate.status"}),
    "status unknown": (lambda raw: raw["certificate"].update(status="best"), {"certificate.status"}),
    "status a number": (lambda raw: raw["certificate"].update(status=1.0), {"certificate.status"}),
    "bound higher": (lambda raw: raw["certificate"].update(bound_mean_bd=1.6282), {"certificate.bound_mean_bd"}),
    "bound lower": (lambda raw: raw["certificate"].update(bound_mean_bd=1.5), {"certificate.bound_mean_bd"}),
    "bound a text": (lambda raw: raw["certificate"].update(bound_mean_bd="1.5"), {"certificate.bound_mean_bd"}),
    "gap none": (lambda raw: raw["certificate"].update(gap=0.0), {"certificate.gap"}),
    "gap a little less": (
        lambda raw: raw["certificate"].update(gap=raw["certificate"]["gap"] * (1 - 1e-6)),
        {"certificate.gap"},
    ),
    "proof of something else": (lambda raw: raw["certificate"].update(proof="mine"), {"certificate.proof"}),
    "better mean": (lambda raw: raw["distances"].update(mean_bd=1.5256), {"distances.mean_bd"}),
    "better mean, certified": (edit_better_mean, {"distances.mean_bd", "certificate.status", "certificate.gap"}),
    "better maximum": (lambda raw: raw["distances"].update(max_bd=2), {"distances.max_bd"}),
    "params": (lambda raw: raw["costs"].update(params=raw["costs"]["params"] - 1), {"costs.params"}),
    "flops": (lambda raw: raw["costs"].update(flops=raw["costs"]["flops"] + 1), {"costs.flops"}),
    "both costs": (lambda raw: raw["costs"].update(flops=0, params=0), {"costs.params", "costs.flops"}),
    "another cost": (lambda raw: raw["costs"].update(bytes=1), {"costs.bytes"}),
    "wider network": (lambda raw: raw["network"].update(growth=7), {"costs.params", "costs.flops"}),
    "more classes": (lambda raw: raw["network"].update(classes=6), {"costs.params", "costs.flops"}),
    "larger image": (lambda raw: raw["network"].update(image=[3, 32, 16]), {"costs.flops"}),
    "network of other depth": (lambda raw: raw["network"].update(layers=13), {"network"}),
    "network that is none": (lambda raw: raw["network"].update(growth=-1), {"network"}),
    "network with a stranger": (lambda raw: raw["network"].update(widht=3), {"network"}),
    "key": (lambda raw: raw.update(key=raw["key"][::-1]), {"key"}),
    "graph without an edge": (lambda raw: raw["graph"]["edges"].pop(), {"graph"}),
    "graph without a node": (lambda raw: raw["graph"]["nodes"].pop(), {"graph"}),
    "budget of another size": (lambda raw: raw.update(budget="total:36"), {"budget"}),
    "budget that is none": (lambda raw: raw.update(budget="all"), {"budget"}),
    "budget of another depth": (lambda raw: raw.update(budget="layers:1,2"), {"budget"}),
    "budget with a cap that nothing meets": (lambda raw: raw.update(budget="log;max-out:2"), {"budget"}),
    "several": (
        lambda raw: (
            raw.update(key="0" * 64),
            raw["certificate"].update(status="optimal"),
            raw["costs"].update(params=5),
            raw["distances"].update(span=1.0),
            raw["graph"]["edges"].clear(),
        ),
        {"key", "certificate.status", "costs.params", "distances.span", "graph"},
    ),
}


@pytest.mark.parametrize("edit", FALSE)
def test_exactly_the_false_claims_are_named(raw: Raw, edit: str, tmp_path: Path) -> None:
    change, expected = FALSE[edit]
    change(raw)
    false = verify(raw, tmp_path)
    assert set(false) == expected
    assert set(false) <= set(list_claims(TemplateFile.model_validate(raw)))
    for claim, said in false.items():
        assert said.startswith(claim.split(".")[0])


@pytest.mark.parametrize("name", [name for name in describe(find_template("log").build(3)) if name != "layers"])
@pytest.mark.parametrize("factor", [1 + 1e-6, 0, -1])
def test_every_distance_is_recomputed(raw: Raw, name: str, factor: float, tmp_path: Path) -> None:
    raw["distances"][name] *= factor
    assert set(verify(raw, tmp_path)) == {f"distances.{name}"}


@pytest.mark.parametrize("cap", ["max-in", "max-out"])
def test_a_cap_that_the_pattern_breaks_is_a_false_budget(cap: str, tmp_path: Path) -> None:
    content = template_of("midpoint", f"total:28;{cap}:6")
    assert verify(content, tmp_path) == {}
    content["budget"] = f"total:28;{cap}:5"
    assert set(verify(content, tmp_path)) == {"budget"}


def test_a_certificate_of_the_total_is_false_at_a_cap_that_proves_more(tmp_path: Path) -> None:
    pattern = Budget(30, total=59, max_in=2).example()
    free, capped = (certify(pattern, Budget(30, total=59, max_in=cap)) for cap in (None, 2))
    assert capped.bound > free.bound
    network = NetworkConfig(layers=30)
    content = json.loads(format_template(describe_export(pattern, network, "total:59", {"name": None})))
    assert verify(content, tmp_path) == {}
    content["budget"] = "total:59;max-in:2"
    assert {"certificate.bound_mean_bd", "certificate.gap"} <= set(verify(content, tmp_path))


def test_another_connection_makes_all_that_follows_from_it_false(raw: Raw, tmp_path: Path) -> None:
    before = ConnectionPattern.from_sources(raw["sources"])
    assert raw["sources"][11] == [4, 8, 10, 11]
    raw["sources"][11] = [3, 8, 10, 11]
    after = ConnectionPattern.from_sources(raw["sources"])
    old, new = describe(before), describe(after)
    expected = {"key", "graph", *(f"distances.{name}" for name in old if old[name] != new[name])}
    assert {"distances.mean_bd", "distances.span"} < expected
    if certify(before, log_budget(12)).gap != certify(after, log_budget(12)).gap:
        expected.add("certificate.gap")
    assert set(verify(raw, tmp_path)) == expected


def test_false_certificates_are_refused_by_the_reader_too(raw: Raw, tmp_path: Path) -> None:
    raw["certificate"]["status"] = "optimal"
    path = tmp_path / "template.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"certificate\.status is 'optimal', proven is bounded"):
        read_pattern(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"layers": 2, "sources": [[0], [1]]}', "claims nothing"),
        ('{"schema": "skipsearch/template"}', "not a template file"),
        ("[]", "JSON list"),
        ("{", "not JSON"),
    ],
)
def test_what_is_no_template_file_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        verify_template(path)


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_says_ok_of_a_true_file(raw: Raw, tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text(json.dumps(raw))
    done = run_command("verify", path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    n_claims = len(("key", "graph", "budget", "network")) + sum(
        len(raw[part]) for part in ("distances", "certificate", "costs")
    )
    assert json.loads(done.stdout) == {"ok": True, "false_claims": [], "checked": {"claims": n_claims}}
    plain = run_command("verify", path).stdout
    assert f"{n_claims} claims recomputed from the connections: key, graph, budget," in plain
    assert "mean_bd" in plain and "params" in plain


def test_the_command_names_false_claims_and_exits_with_2(raw: Raw, tmp_path: Path) -> None:
    edit_better_mean(raw)
    raw["costs"]["params"] -= 1
    path = tmp_path / "template.json"
    path.write_text(json.dumps(raw))
    done = run_command("verify", path, "--json")
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert set(said) == {"ok", "false_claims", "checked"}
    assert said["ok"] is False
    assert sorted(said["false_claims"]) == [
        "certificate.gap",
        "certificate.status",
        "costs.params",
        "distances.mean_bd",
    ]
    plain = run_command("verify", path)
    assert plain.returncode == 2
    for claim in said["false_claims"]:
        assert claim in plain.stderr
