"""Best candidate -> files that prove themselves."""

from pathlib import Path
from typing import Any

from nas.config import Candidate, NetworkConfig, validate
from nas.cost import predict_cost
from search_spaces.errors import InputError
from search_spaces.files import TemplateFile, describe_template, read_claims, write_template
from search_spaces.pattern import ConnectionPattern


def describe_export(
    pattern: ConnectionPattern, network: NetworkConfig, budget: str, provenance: dict[str, Any]
) -> TemplateFile:
    """A pattern as a template file; see files.TemplateFile for the parts.

    Args:
        pattern: what to export.
        network: the surroundings that its costs are of.
        budget: in the command line's form; the pattern spends it.
        provenance: `name` (of a template, or None) and whatever else tells where the pattern comes from.

    Raises:
        InputError: the network is of another depth, or the pattern does not spend the budget.
    """
    if network.layers != pattern.depth:
        raise InputError(
            f"a pattern of {pattern.depth} layers does not fit a network of {network.layers} layers a block"
        )
    cost = predict_cost(Candidate(pattern, network, seed=0, template=provenance.get("name")))
    costs = {"params": cost.params, "flops": cost.flops}
    return describe_template(pattern, budget, network.model_dump(mode="json"), costs, provenance)


def export_pattern(
    pattern: ConnectionPattern, network: NetworkConfig, budget: str, provenance: dict[str, Any], folder: Path
) -> list[Path]:
    """Write a pattern as template.json with its companions; see describe_export.

    Args:
        folder: gets a folder of its own, named by the first 12 digits of the pattern's key.

    Returns:
        The paths written, the JSON first.
    """
    return write_template(describe_export(pattern, network, budget, provenance), folder / pattern.key[:12])


def verify_template(path: Path) -> dict[str, str]:
    """Recompute every claim of a template file from its connections and `network` alone.

    Returns:
        The false claims: name -> what is wrong. Empty where all holds.

    Raises:
        InputError: no such file, not a template file, or no pattern.
    """
    file, pattern, false = read_claims(path)
    try:
        network = validate(NetworkConfig, file.network)
        name = file.provenance.get("name")
        cost = predict_cost(Candidate(pattern, network, seed=0, template=name if isinstance(name, str) else None))
    except InputError as error:
        return {**false, "network": f"network: {error}"}
    if network.layers != pattern.depth:
        false["network"] = f"network.layers is {network.layers}, sources has {pattern.depth}"
    expected = {"params": cost.params, "flops": cost.flops}
    for claim, value in file.costs.items():
        if expected.get(claim) != value:
            false[f"costs.{claim}"] = f"costs.{claim} is {value!r:.40}, its network takes {expected.get(claim)}"
    return false
