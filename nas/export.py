"""Best candidate -> files that prove themselves."""

from pathlib import Path
from typing import Any

from nas.config import Candidate, NetworkConfig
from nas.cost import predict_cost
from search_spaces.files import describe_template, write_template
from search_spaces.pattern import ConnectionPattern


def export_pattern(
    pattern: ConnectionPattern,
    network: NetworkConfig,
    budget: str,
    provenance: dict[str, Any],
    folder: Path,
) -> list[Path]:
    """Write a pattern as template.json with its companions; see files.TemplateFile for the parts.

    Args:
        pattern: what to export.
        network: the surroundings that its costs are of.
        budget: in the command line's form.
        provenance: `name` (of a template, or None) and whatever else tells where the pattern comes from.
        folder: gets a folder of its own, named by the first 12 digits of the pattern's key.

    Returns:
        The paths written, the JSON first.
    """
    cost = predict_cost(Candidate(pattern, network, seed=0, template=provenance.get("name")))
    template = describe_template(
        pattern,
        budget,
        network.model_dump(mode="json"),
        {"params": cost.params, "flops": cost.flops},
        provenance,
    )
    return write_template(template, folder / pattern.key[:12])
