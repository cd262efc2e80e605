"""Time and memory of a training step against layers, and speed against workers: docs/growth-layers.csv and .md.

python scripts/layer_growth.py, with nothing else running
"""

import csv
import io
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from nas.bench.contestants import CHANNELS_LAST, FUSED, Shape, prepare
from nas.bench.memory import measure_kept_bytes
from nas.bench.workers import start_workers
from nas.model.network import build_network
from nas.records.environment import describe_versions
from nas.records.safe_files import write_atomic

DOCS = Path(__file__).parents[1] / "docs"
LAYERS = (12, 24, 50, 100)
ENGINES = (CHANNELS_LAST, FUSED)  # the faster of eager's forms, and ours
WORKERS = (1, 2)
N_ROUNDS = 8  # the first is dropped
STEPS_SECONDS = 0.5
MIB = 2**20


def make_shape(layers: int) -> Shape:
    """Networks of budget log, as `bench` has them."""
    return Shape("digits", (1, 8, 8), layers, growth=8)


def count_kept_bytes(shape: Shape, engine: str) -> int:
    """What autograd keeps of a step for its backward pass."""
    network = build_network(shape.candidate(0)).train()
    if engine == FUSED:
        network.fuse_layers()
    return measure_kept_bytes(
        network, torch.zeros(shape.batch, *shape.image), torch.zeros(shape.batch, dtype=torch.int64)
    )


def time_steps() -> dict[tuple[str, int], list[float]]:
    """Seconds of a step by engine and layers, round by round; all in turn, on one thread."""
    steps = {(engine, layers): prepare(make_shape(layers), engine, "cpu") for engine in ENGINES for layers in LAYERS}
    seconds: dict[tuple[str, int], list[float]] = {name: [] for name in steps}
    for _ in range(N_ROUNDS):
        for name, step in steps.items():
            n, started = 0, time.perf_counter()
            while time.perf_counter() - started < STEPS_SECONDS:
                step()
                n += 1
            seconds[name].append((time.perf_counter() - started) / n)
    return {name: rounds[1:] for name, rounds in seconds.items()}


def count_steps(n_workers: int) -> list[float]:
    """Steps a second of so many single-thread processes together, round by round."""
    shape = make_shape(24)
    with start_workers(n_workers, "cpu") as workers:
        workers.ask(FUSED, "prepare", shape)
        return [sum(30 / seconds for seconds in workers.ask(FUSED, "run", 30)) for _ in range(N_ROUNDS)][1:]


def fit_exponent(values: list[float]) -> float:
    """Slope of log value on log layers."""
    return float(np.polyfit(np.log(LAYERS), np.log(values), 1)[0])


def format_tables(rows: list[dict[str, object]], speeds: dict[int, list[float]]) -> str:
    """Markdown: milliseconds and MiB of a step by layers with their exponents, then steps a second by workers."""
    shape, versions = make_shape(24), describe_versions(("torch",))
    lines = [
        "# What a training step costs, by layers and by workers",
        "",
        f"Images of 1x8x8, growth {shape.growth}, batch {shape.batch}, one block, pattern log, whose connections grow "
        f"as L log2 L; one thread, float32, torch {versions['torch']}, commit {versions['commit']}; by "
        f"`scripts/layer_growth.py`. Milliseconds are medians of {N_ROUNDS - 1} rounds that take all in turn, with "
        "their ranges; MiB is what autograd keeps for the backward pass. The last column is the slope of its logarithm "
        "on that of the layers, over all depths: 1 is linear.",
        "",
        "| of a step | engine | " + " | ".join(f"L = {layers}" for layers in LAYERS) + " | exponent |",
        "|---|---|" + "---|" * (len(LAYERS) + 1),
    ]
    for engine in ENGINES:
        own = [row for row in rows if row["engine"] == engine]
        times = [[float(text) for text in str(row["step_milliseconds"]).split()] for row in own]
        cells = [f"{statistics.median(one):.1f} ({min(one):.1f} to {max(one):.1f})" for one in times]
        slope = fit_exponent([statistics.median(one) for one in times])
        lines.append(f"| time (ms) | {engine} | {' | '.join(cells)} | {slope:.2f} |")
    for engine in ENGINES:
        kept = [int(str(row["kept_bytes"])) / MIB for row in rows if row["engine"] == engine]
        lines.append(
            f"| memory (MiB) | {engine} | {' | '.join(f'{one:.1f}' for one in kept)} | {fit_exponent(kept):.2f} |"
        )
    connections = [float(str(row["connections"])) for row in rows if row["engine"] == FUSED]
    lines.append(f"| connections | | {' | '.join(f'{n:.0f}' for n in connections)} | {fit_exponent(connections):.2f} |")
    lines += ["", f"| workers, {FUSED}, L = 24 | steps/s of all together |", "|---|---|"]
    lines += [f"| {n} | {statistics.median(one):.1f} ({min(one):.1f} to {max(one):.1f}) |" for n, one in speeds.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write both files."""
    torch.set_num_threads(1)
    seconds = time_steps()
    rows: list[dict[str, object]] = [
        {
            "engine": engine,
            "layers": layers,
            "connections": make_shape(layers).candidate(0).pattern.n_connections,
            "kept_bytes": count_kept_bytes(make_shape(layers), engine),
            "step_milliseconds": " ".join(f"{1000 * one:.3f}" for one in seconds[engine, layers]),
        }
        for engine in ENGINES
        for layers in LAYERS
    ]
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(DOCS / "growth-layers.csv", table.getvalue())
    write_atomic(DOCS / "growth-layers.md", format_tables(rows, {n: count_steps(n) for n in WORKERS}))


if __name__ == "__main__":
    main()
