"""Measure every engine of `bench` at all its shapes; write docs/speed.csv and docs/speed.md.

python scripts/speed.py, with nothing else running
"""

import statistics
from collections.abc import Mapping

from shared import DOCS, format_csv, format_range, format_row

from nas.bench.benchmark import CHARGED_STEPS, GATE, Row, compare_engines, list_contests
from nas.bench.contestants import N_GROUPED
from nas.bench.workers import N_EPOCHS, N_TRAINED, Ceilings, measure_ceilings, start_workers
from nas.records.safe_files import write_atomic
from nas.settings.environment import describe_versions
from nas.settings.machine import resolve_workers

# Neither measured by this script nor on the machines here: replace it once the measurements are repeated.
OUTSIDE = (
    "*The strongest of PyTorch's* is so in float32. On a processor with AMX, PyTorch's own bfloat16 autocast beats the "
    "float32 engine at growth 16: on 32x32 images the engine reaches 0.78 of its speed. Patterns are scored in batches "
    "401 times as fast as by networkx, which is written in Python, but 2.6 to 5 times as fast as by rustworkx, which "
    "is compiled. The figures with AMX and rustworkx are outside measurements and have not been repeated here yet."
)


def format_page(rows: list[Row], ceilings: Ceilings, n_workers: int, versions: Mapping[str, str]) -> str:
    """Return the page: one table a shape."""
    lines = [
        "# How fast each engine trains",
        "",
        f"Training steps a second, {n_workers} single-thread processes together (*one process*: one with torch's own "
        "threads), float32, pattern log, one block, a step of SGD on one batch. Rounds take the engines in turn, and "
        f"ratios are paired in each: medians of {len(rows[0].rates)} rounds, with ranges. First each engine's losses "
        f"of three steps were held to eager's, to {GATE:g} nats; no speed is given otherwise. Grouped fusion trains "
        f"{N_GROUPED} candidates as one network; compilation is charged to a training of {CHARGED_STEPS} steps. "
        f"GFLOP/s are of three forward passes; all cores together reach {ceilings.matrix_flops / 1e9:.0f} in a large "
        f"matrix product, and copy {ceilings.copy_bytes / 1e9:.0f} GB/s. Candidates are whole trainings of "
        f"{N_TRAINED} images for {N_EPOCHS} epochs, from building the network to its validation accuracy. CPU with "
        f"AVX-512, Python {versions['python']}, torch {versions['torch']}, commit {versions['commit']}; by "
        "`scripts/speed.py`.",
        "",
        OUTSIDE,
    ]
    for shape in dict.fromkeys(row.shape for row in rows):
        lines += [
            "",
            f"## {shape}",
            "",
            "| engine | steps/s | to eager, one process | to the strongest of PyTorch's | GFLOP/s | candidates/h |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            speed = row.steps_per_second
            if row.shape != shape:
                continue
            if speed is None:
                lines.append(f"| {row.engine} | other losses than eager's | | | | |")
                continue
            candidates = f"{statistics.median(row.candidates):,.0f}" if row.candidates else ""
            ratios = (format_range(row.to_one_process, 2), format_range(row.to_strongest, 2))
            lines.append(format_row(row.engine, f"{speed:.1f}", *ratios, f"{speed * row.flops / 1e9:.0f}", candidates))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write both files after each shape."""
    shapes, engines = list_contests("cpu", is_quick=False)
    n_workers = resolve_workers("auto", "cpu")
    rows: list[Row] = []
    versions = describe_versions(("torch",))  # before writing, which makes the tree dirty
    with start_workers(n_workers, "cpu") as workers:
        ceilings = measure_ceilings(workers)
        for shape in shapes:
            rows += compare_engines(workers, shape, engines, "cpu")
            write_atomic(DOCS / "speed.csv", format_csv([row.to_dict() for row in rows]))
            write_atomic(DOCS / "speed.md", format_page(rows, ceilings, n_workers, versions))


if __name__ == "__main__":
    main()
