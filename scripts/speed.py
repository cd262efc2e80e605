"""Measure all contestants of `bench`; write docs/speed.csv, docs/speed.md and the table in docs/howto/gpu.md.

python scripts/speed.py [--shape TEXT ...] [--to FOLDER], with nothing else running
"""

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared import DOCS, format_csv, format_range, format_row

from nas.bench.benchmark import CHARGED_STEPS, Row, compare_contestants, list_contests
from nas.bench.contestants import FUSED, N_GROUPED, Contestant
from nas.bench.gates import GATE, GATE_BFLOAT16, N_ROUNDINGS
from nas.bench.shapes import Shape
from nas.bench.workers import Ceilings, measure_ceilings, start_workers
from nas.records.safe_files import write_atomic
from nas.settings.environment import describe_versions
from nas.settings.machine import resolve_workers

PAGE = DOCS / "howto" / "gpu.md"  # which shows the table of all shapes too
INSTRUCTIONS = {"avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}  # by their flag
SHORT_HEADINGS = (
    "network", "strongest of PyTorch's", "our float32 to it", "to the strongest in float32", "our bfloat16 to it",
    "to the strongest in bfloat16", "our bfloat16 to our float32",
)  # fmt: skip
HEADINGS = (
    "contestant", "steps/s", "CPU ms a step", "to eager, one process", "to the strongest of PyTorch's",
    "to the strongest in its precision", "GFLOP/s",
)  # fmt: skip


def format_page(rows: Sequence[Row], machine: str, n_workers: int, ceilings: Ceilings) -> str:
    """Return the page: what was measured, one table of all shapes, then one a shape."""
    lines = [
        "# How fast each engine trains",
        "",
        f"Training steps a second of {n_workers} single-thread processes together (*one process*: one with torch's own "
        "threads), pattern log, a step of SGD on one batch. Rounds take the contestants in turn, and ratios are paired "
        f"in each: medians of {max(len(row.rates) for row in rows)} rounds, with ranges. CPU time is that of one "
        "process for one candidate's step.",
        "",
        "PyTorch's contestants are eager, eager with maps in channels-last order, `torch.compile`, and grouped fusion, "
        f"which trains {N_GROUPED} candidates as one network; each in float32 and in bfloat16, which is its autocast. "
        "*The strongest of PyTorch's* is the fastest of all of these, in either precision: who needs float32 must know "
        "what bfloat16 would give, and who takes bfloat16 could also take float32. The column after it compares "
        f"with the fastest in the same precision only. Compilation is charged to a training of {CHARGED_STEPS} steps "
        "where that is said, and does not count elsewhere.",
        "",
        "No speed is given unless the first steps are right. In float32 the losses of three steps are held to "
        f"eager's, to {GATE:g} nats, or {N_ROUNDINGS} times what eager itself differs by with the same images in the "
        f"opposite order; in bfloat16 to {GATE_BFLOAT16:g} nats of eager's in float32. Our bfloat16 must also have "
        "first gradients whose relative error, with those of eager in float64 as the truth and all parameters "
        "together, is not above that of autocast.",
        "",
        f"GFLOP/s are of three forward passes; all processes together reach {ceilings.matrix_flops / 1e9:.0f} in a "
        f"large float32 matrix product, and copy {ceilings.copy_bytes / 1e9:.0f} GB/s. {machine}; by "
        "`scripts/speed.py`. [Scoring patterns](distance-speed.md) is measured by itself.",
        "",
        *format_short_table(rows),
    ]
    for shape in dict.fromkeys(row.shape for row in rows):
        own = [row for row in rows if row.shape == shape]
        lines += ["", f"## {shape}", "", format_row(*HEADINGS), "|---" * len(HEADINGS) + "|"]
        lines += [_format_row(row) for row in own if row.rates]
        trained = [row for row in own if row.trainings]
        if isinstance(shape, Shape) and shape.whole is not None:
            whole = shape.whole
            lines += [
                "",
                f"Whole trainings, as a search without flags makes them ({whole.train_examples} images, "
                f"{whole.epochs} epochs, from building the network to its validation accuracy), a second: "
                + "; ".join(f"{row.contestant} {format_range(row.trainings, 2)}" for row in trained)
                + ".",
            ]
        lines += ["", f"Losses in float32 were held to {own[0].tolerance:.1g} nats."]
        lines += [f"\n*{row.contestant}* has no speed: {row.problem}." for row in own if row.problem]
    return "\n".join(lines) + "\n"


def format_short_table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table with one line for each shape that ours can train; ratios are medians."""
    by_place = {(row.shape, row.contestant): row for row in rows}
    lines = [format_row(*SHORT_HEADINGS), "|---" * len(SHORT_HEADINGS) + "|"]
    for shape in dict.fromkeys(row.shape for row in rows):
        full, half = (by_place.get((shape, Contestant(FUSED, each))) for each in ("float32", "bfloat16"))
        if full is None or half is None or not full.rates:
            continue
        strongest = next(row for row in rows if row.shape == shape and set(row.to_strongest) == {1.0})
        own = [row / other for row, other in zip(half.rates, full.rates, strict=True)] if half.rates else []
        ratios = (full.to_strongest, full.to_strongest_alike, half.to_strongest, half.to_strongest_alike, own)
        cells = [f"{statistics.median(each):.2f}" if each else "-" for each in ratios]
        lines.append(format_row(shape, strongest.contestant, *cells))
    return lines


def _format_row(row: Row) -> str:
    speed = row.steps_per_second
    assert speed is not None, "a row with a speed"
    computing = f"{1000 * statistics.median(row.computing):.1f}" if row.computing else ""
    ratios = [format_range(each, 2) for each in (row.to_one_process, row.to_strongest, row.to_strongest_alike)]
    return format_row(row.contestant, f"{speed:.1f}", computing, *ratios, f"{speed * row.flops / 1e9:.0f}")


def describe_machine(versions: Mapping[str, str]) -> str:
    """Return processor, its instructions for these computations, versions, and what else ran before."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    known = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    flags = known.get("flags", "").split()
    has = ", ".join(name for flag, name in INSTRUCTIONS.items() if flag in flags)
    lacks = ", ".join(name for flag, name in INSTRUCTIONS.items() if flag not in flags)
    without = f", without {lacks}" if lacks else ""
    return (
        f"{known.get('model name', 'CPU')} with {has or 'none of them'}{without}; load before "
        f"{os.getloadavg()[0]:.1f}; Python {versions['python']}, torch {versions['torch']}, commit {versions['commit']}"
    )


def replace_table(page: str, table: Sequence[str]) -> str:
    """Return a page with another table in place of that with the same first line."""
    before, heading, after = page.partition(table[0] + "\n")
    assert heading, "the page has the table"
    _, gap, rest = after.partition("\n\n")
    return before + "\n".join(table) + gap + rest


def main() -> None:
    """Measure, and write all files after each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", help="only shapes whose names contain this; may be repeated")
    parser.add_argument("--to", type=Path, default=DOCS, help="folder of speed.csv and speed.md")
    arguments = parser.parse_args()
    shapes, contestants = list_contests("cpu", is_quick=False)
    chosen = [shape for shape in shapes if any(text in str(shape) for text in arguments.shape or [""])]
    if not chosen:
        parser.error(f"--shape {arguments.shape}: expected a part of {', '.join(map(str, shapes))}")
    n_workers = resolve_workers("auto", "cpu")
    rows: list[Row] = []
    machine = describe_machine(describe_versions(("torch",)))  # before writing, which makes the tree dirty
    arguments.to.mkdir(parents=True, exist_ok=True)
    with start_workers(n_workers, "cpu") as workers:
        ceilings = measure_ceilings(workers)
        for shape in chosen:
            rows += compare_contestants(workers, shape, contestants, "cpu")
            write_atomic(arguments.to / "speed.csv", format_csv([row.to_dict() for row in rows]))
            write_atomic(arguments.to / "speed.md", format_page(rows, machine, n_workers, ceilings))
    if arguments.to == DOCS:
        write_atomic(PAGE, replace_table(PAGE.read_text(encoding="utf-8"), format_short_table(rows)))


if __name__ == "__main__":
    main()
