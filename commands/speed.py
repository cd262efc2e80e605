"""The command that measures this machine: bench."""

import json
import os
import statistics
from typing import TYPE_CHECKING, Annotated

import typer

from commands.flags import Json, Wide
from commands.terminal import make_console, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from nas.bench.benchmark import Row
    from nas.bench.workers import Ceilings


def bench(
    ctx: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Only digits, 24 layers, growth 8, batch 64.")] = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Measure how fast this machine trains, our engine against what PyTorch offers; --engine auto follows its advice.

    Takes half an hour or more, with --quick about a minute. Nothing else should run meanwhile.
    """
    console = make_console(stderr=as_json, wide=wide)
    with console.status("loading"):
        from nas.bench.benchmark import advise, compare_contestants, list_contests
        from nas.bench.workers import measure_ceilings, start_workers
        from nas.engines.native import write_advice
        from nas.records.checked import validate
        from nas.settings.machine import resolve_device, resolve_workers
        from nas.settings.search import SearchConfig
    device = resolve_device(validate(SearchConfig, ctx.obj).device)
    n_workers = 1 if device == "cuda" else resolve_workers("auto", device)
    shapes, contestants = list_contests(device, quick)
    rows = []
    with start_workers(n_workers, device) as workers:
        ceilings = measure_ceilings(workers)
        _print_machine(console, device, n_workers, ceilings)
        for shape in shapes:
            with console.status(f"{shape}: {len(contestants)} contestants in turn"):
                measured = compare_contestants(workers, shape, contestants, device)
            rows += measured
            _print_rows(console, measured, ceilings)
    engine, cohort = advise(rows)
    write_advice(device, engine, cohort)
    console.print(
        f"advice for this machine: --engine {engine} --cohort {cohort} --workers {n_workers}, which auto now means"
    )
    if as_json:
        print(json.dumps([row.to_dict() for row in rows]))  # noqa: T201


def _print_machine(console: "Console", device: str, n_workers: int, ceilings: "Ceilings") -> None:
    from nas.run.directory import name_device
    from nas.settings.environment import describe_versions

    versions = describe_versions(("torch",))
    console.print(
        f"{name_device(device)}, {n_workers} at a time; Python {versions['python']}, torch {versions['torch']}, "
        f"skipsearch {versions['skipsearch']} at {versions['commit']}; load before {os.getloadavg()[0]:.2f}; ceilings "
        f"of all together: matrix product {ceilings.matrix_flops / 1e9:.0f} GFLOP/s, copy "
        f"{ceilings.copy_bytes / 1e9:.1f} GB/s"
    )


def _print_rows(console: "Console", rows: "Sequence[Row]", ceilings: "Ceilings") -> None:
    def ratio(values: tuple[float, ...]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "-"

    cells = []
    for row in rows:
        speed = row.steps_per_second
        if speed is None:
            cells.append([str(row.contestant), "-"])
            continue
        flops = speed * row.flops
        ratios = [ratio(row.to_one_process), ratio(row.to_strongest), ratio(row.to_strongest_alike)]
        trainings = f"{statistics.median(row.trainings):.2f}" if row.trainings else ""
        share = f"{100 * flops / ceilings.matrix_flops:.0f} %"
        cells.append([str(row.contestant), f"{speed:.1f}", *ratios, trainings, f"{flops / 1e9:.1f}", share])
    headings = ["engine", "steps/s", "to eager, one process", "to the strongest of PyTorch's", "in its precision"]
    headings += ["trainings/s", "GFLOP/s", "of matrix product"]
    n_rounds = max(len(row.rates) for row in rows)
    print_table(console, f"{rows[0].shape}; medians of {n_rounds} rounds, ranges", headings, cells)
    for row in rows:
        if row.problem:
            console.print(f"{row.contestant} has no speed: {row.problem}")
