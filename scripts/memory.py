"""Measure the memory of a training step against depth; write docs/memory.csv and docs/memory.md.

On a CPU what autograd keeps for the backward pass, on CUDA the allocator's peak: `python scripts/memory.py [cuda]`.
"""

import sys

import torch
from shared import DOCS, MIB, fit_exponent, format_csv, format_row

from nas.bench.memory import measure_kept_bytes, measure_peak_bytes
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_activation_bytes
from nas.model.network import build_skip_network
from nas.records.safe_files import write_atomic
from nas.settings.environment import describe_versions
from search_spaces.templates import find_template

LAYERS = (8, 16, 32, 64)  # of each of three blocks
BATCH = 8
# name -> template, transition
NETWORKS = {
    "dense": ("dense", "all"),
    "Log-DenseNet V1": ("log", "v1"),
    "Log-DenseNet V2": ("log", "v2"),
    "log": ("log", "log"),
    "midpoint": ("midpoint", "log"),
}


def make_candidate(name: str, layers: int) -> Candidate:
    """Return a network of three blocks for 32x32 images, growth 16, no bottleneck, so that only layers matter."""
    template, transition = NETWORKS[name]
    network = NetworkConfig.model_validate(
        {"layers": layers, "blocks": 3, "growth": 16, "transition": transition, "image": (3, 32, 32)}
    )
    return Candidate(find_template(template).build(network.pattern_depth), network, 0, template)


def measure(candidate: Candidate, device: str, efficient: bool) -> int:
    """Return the bytes of one training step on a batch of BATCH images."""
    network = build_skip_network(candidate).to(device).train()
    network.recompute_activations(efficient)
    images = torch.zeros(BATCH, *candidate.network.image, device=device)
    labels = torch.zeros(BATCH, dtype=torch.int64, device=device)
    count = measure_peak_bytes if device == "cuda" else measure_kept_bytes
    return count(network, images, labels)


def measure_all(device: str) -> list[dict[str, object]]:
    """Return one row a network, depth and mode."""
    return [
        {
            "network": name,
            "layers_of_a_block": layers,
            "connections": sum(len(nodes) for block in candidate.wiring.blocks for nodes in block.sources),
            "mode": "efficient" if efficient else "naive",
            "measured_bytes": measure(candidate, device, efficient),
            "predicted_bytes": BATCH * predict_activation_bytes(candidate, efficient),
        }
        for name in NETWORKS
        for layers in LAYERS
        for candidate in [make_candidate(name, layers)]
        for efficient in (False, True)
    ]


def format_table(rows: list[dict[str, object]], device: str) -> str:
    """Return the page: MiB by depth, and the slope of log memory on log layers over the deepest two."""
    what = "the allocator's peak" if device == "cuda" else "what autograd keeps for the backward pass"
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    versions = describe_versions(("torch",))
    lines = [
        "# Memory of a training step against depth",
        "",
        f"MiB, {what}, of one step on {BATCH} images of 3x32x32 in float32: three blocks, growth 16, no bottleneck; "
        f"{where}, torch {versions['torch']}; by `scripts/memory.py`. In brackets what `nas/model/cost.py` predicts. "
        "The "
        "last column is the slope of log memory on log layers, 32 to 64 layers a block: 2 is quadratic, 1 linear.",
        "",
        "| network | mode | " + " | ".join(f"3 x {layers}" for layers in LAYERS) + " | slope |",
        "|---|---|" + "---|" * (len(LAYERS) + 1),
    ]
    for name in NETWORKS:
        for mode in ("naive", "efficient"):
            own = [row for row in rows if (row["network"], row["mode"]) == (name, mode)]
            kept = [int(str(row["measured_bytes"])) for row in own]
            cells = [
                f"{n / MIB:.1f} ({int(str(row['predicted_bytes'])) / MIB:.1f})"
                for n, row in zip(kept, own, strict=True)
            ]
            lines.append(format_row(name, mode, *cells, f"{fit_exponent(LAYERS[-2:], kept[-2:]):.2f}"))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write both files."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    rows = measure_all(device)
    suffix = "" if device == "cpu" else f"-{device}"
    write_atomic(DOCS / f"memory{suffix}.csv", format_csv(rows))
    write_atomic(DOCS / f"memory{suffix}.md", format_table(rows, device))


if __name__ == "__main__":
    main()
