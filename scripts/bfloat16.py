"""Measure bfloat16 in the fused layers of a CPU: speed, error of gradients, accuracies; print a page of Markdown.

python scripts/bfloat16.py [speed|gradients|accuracies ...], with nothing else running; all parts take half an hour.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from gpu import compare_precisions
from shared import format_range, format_row
from torch.nn import functional as F

from nas.bench.contestants import EAGER, FUSED, Contestant, Step, draw_batch, prepare
from nas.bench.shapes import Shape
from nas.engines.native import has_bfloat16
from nas.model.network import build_skip_network

SHAPES = [
    Shape(name, image, layers=24, growth=growth)
    for name, image in (("digits", (1, 8, 8)), ("32x32", (3, 32, 32)))
    for growth in (4, 8, 16)
]
N_ROUNDS = 10  # the first is dropped
ROUND_SECONDS = 0.4  # CPU time of a contestant in a round, at least one step
CONTESTANTS = {
    "fused float32": Contestant(FUSED),
    "autocast": Contestant(EAGER, "bfloat16"),
    "fused bfloat16": Contestant(FUSED, "bfloat16"),
}


def measure_speed() -> list[str]:
    """Return a table of each shape's CPU times of a step, and of their ratios to that in fused bfloat16."""
    lines = ["| shape | fused bfloat16, ms | fused float32 to it | autocast to it |", "|---|---|---|---|"]
    for shape in SHAPES:
        steps = {name: prepare(shape, contestant, "cpu") for name, contestant in CONTESTANTS.items()}
        slowest = {name: max(_time(step, 1) for _ in range(3)) for name, step in steps.items()}
        n_steps = {name: max(1, round(ROUND_SECONDS / seconds)) for name, seconds in slowest.items()}
        times = [{name: _time(step, n_steps[name]) for name, step in steps.items()} for _ in range(N_ROUNDS)][1:]
        own = [1e3 * seconds["fused bfloat16"] for seconds in times]
        ratios = [[seconds[name] / seconds["fused bfloat16"] for seconds in times] for name in CONTESTANTS][:2]
        lines.append(format_row(shape, format_range(own), *(format_range(ratio, 2) for ratio in ratios)))
    return lines


def _time(step: Step, n_steps: int) -> float:
    """Return the CPU seconds of a step."""
    begin = time.process_time()
    for _ in range(n_steps):
        step()
    return (time.process_time() - begin) / n_steps


def measure_gradients() -> list[str]:
    """Return a table of the error of all parameters' gradients in bfloat16: the norm of it to that of the gradient."""
    lines = ["| shape | fused bfloat16 | autocast |", "|---|---|---|"]
    for shape in SHAPES:
        exact, *others = (_differentiate(shape, *form) for form in ((False, False), (True, True), (False, True)))
        errors = [float((other - exact).norm() / exact.norm()) for other in others]
        lines.append(format_row(shape, *(f"{error:.3f}" for error in errors)))
    return lines


def _differentiate(shape: Shape, is_fused: bool, is_bfloat16: bool) -> torch.Tensor:
    """Return the gradient of all parameters in one vector, on a batch of random images; in float64 if not bfloat16."""
    images, labels = draw_batch(shape, "cpu")
    network = build_skip_network(shape.candidate(0)).train()
    if not is_bfloat16:
        network, images = network.double(), images.double()
    if is_fused:
        network.fuse_layers()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
        logits = network(images).to(images.dtype)
    F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in network.parameters()]
    return torch.cat([gradient.flatten().double() for gradient in gradients if gradient is not None])


def compare_accuracies() -> list[str]:
    """Return a sentence about the accuracies of candidates in bfloat16, in float32, and in float32 in another order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        compare_precisions("cpu", 20, 600, 30, path)
        return [path.read_text()]


PARTS = {"speed": measure_speed, "gradients": measure_gradients, "accuracies": compare_accuracies}


def main(names: Sequence[str]) -> None:
    """Measure the parts of these names, all without any."""
    torch.set_num_threads(1)
    if not has_bfloat16():
        sys.exit("fused layers lack bfloat16 here: it needs a processor with AVX512_BF16 and a C++ compiler")
    for name in names or PARTS:
        sys.stdout.write("\n".join([f"## {name}", "", *PARTS[name](), "", ""]))
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
