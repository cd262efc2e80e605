"""Measure time and memory of a training step against layers, and speed against workers; write docs/growth-layers.*.

python scripts/layer_growth.py, with nothing else running
"""

import statistics
import time

import torch
from shared import DOCS, MIB, fit_exponent, format_csv, format_range, format_row

from nas.bench.contestants import CHANNELS_LAST, FUSED, Shape, prepare
from nas.bench.memory import measure_kept_bytes
from nas.bench.workers import start_workers
from nas.model.network import build_network
from nas.records.environment import describe_versions
from nas.records.safe_files import write_atomic

LAYERS = (12, 24, 50, 100)
ENGINES = (CHANNELS_LAST, FUSED)  # the faster of eager's forms, and ours
WORKERS = (1, 2)
N_ROUNDS = 8  # the first is dropped
STEPS_SECONDS = 0.5


def make_shape(layers: int) -> Shape:
    """Return a network of budget log, as `bench` has."""
    return Shape("digits", (1, 8, 8), layers, growth=8)


def count_kept_bytes(shape: Shape, engine: str) -> int:
    """Return the bytes that autograd keeps of a step for its backward pass."""
    network = build_network(shape.candidate(0)).train()
    if engine == FUSED:
        network.fuse_layers()
    return measure_kept_bytes(
        network, torch.zeros(shape.batch, *shape.image), torch.zeros(shape.batch, dtype=torch.int64)
    )


def time_steps() -> dict[tuple[str, int], list[float]]:
    """Return the seconds of a step by engine and layers, round by round; all take turns, on one thread."""
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
    """Return the steps a second of some single-thread processes together, round by round."""
    shape = make_shape(24)
    with start_workers(n_workers, "cpu") as workers:
        workers.ask(FUSED, "prepare", shape)
        return [sum(30 / seconds for seconds in workers.ask(FUSED, "run", 30)) for _ in range(N_ROUNDS)][1:]


def format_tables(rows: list[dict[str, object]], speeds: dict[int, list[float]]) -> str:
    """Return the page: milliseconds and MiB of a step by layers with exponents, then steps a second by workers."""
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
        slope = fit_exponent(LAYERS, [statistics.median(rounds) for rounds in times])
        lines.append(format_row("time (ms)", engine, *map(format_range, times), f"{slope:.2f}"))
    for engine in ENGINES:
        kept = [int(str(row["kept_bytes"])) / MIB for row in rows if row["engine"] == engine]
        cells = [f"{n:.1f}" for n in kept]
        lines.append(format_row("memory (MiB)", engine, *cells, f"{fit_exponent(LAYERS, kept):.2f}"))
    connections = [float(str(row["connections"])) for row in rows if row["engine"] == FUSED]
    cells = [f"{n:.0f}" for n in connections]
    lines.append(format_row("connections", "", *cells, f"{fit_exponent(LAYERS, connections):.2f}"))
    lines += ["", f"| workers, {FUSED}, L = 24 | steps/s of all together |", "|---|---|"]
    lines += [format_row(n, format_range(rates)) for n, rates in speeds.items()]
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
            "step_milliseconds": " ".join(f"{1000 * step:.3f}" for step in seconds[engine, layers]),
        }
        for engine in ENGINES
        for layers in LAYERS
    ]
    write_atomic(DOCS / "growth-layers.csv", format_csv(rows))
    write_atomic(DOCS / "growth-layers.md", format_tables(rows, {n: count_steps(n) for n in WORKERS}))


if __name__ == "__main__":
    main()
