"""Race layers with bottlenecks on one core: ours against eager PyTorch, channels-last and, if asked, torch.compile.

`OMP_NUM_THREADS=1 python scripts/bottlenecks.py [compile]` prints each form's times of a step, and as multiples of
ours, paired in rounds. The forms' gradients are compared by `tests/nas/engines/test_fused_layers.py`.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import build_skip_network
from search_spaces.templates import find_template

FORMS = ("eager", "channels last", "fused", "fused, memory-efficient")
COMPILED = "torch.compile"
OURS = FORMS[2]
N_ROUNDS = 8  # the first is dropped
STEPS = 2  # of a form in a round


class Shape(NamedTuple):
    """A network to train; see a run's settings."""

    template: str
    layers: int
    blocks: int
    growth: int
    image: tuple[int, int, int]
    batch: int


SHAPES = (
    Shape("dense", 12, 3, 12, (3, 32, 32), 64),
    Shape("log", 12, 3, 12, (3, 32, 32), 64),
    Shape("log", 24, 1, 12, (1, 8, 8), 64),
    Shape("log", 12, 1, 32, (3, 16, 16), 32),
)


def prepare(shape: Shape, form: str) -> Callable[[], object]:
    """Return a training step on a fixed batch of random images."""
    layers, blocks, growth = shape.layers, shape.blocks, shape.growth
    network = NetworkConfig(layers=layers, blocks=blocks, growth=growth, image=shape.image, layer="bottleneck")
    pattern = find_template(shape.template).build(network.pattern_depth)
    built = build_skip_network(Candidate(pattern, network, 0, shape.template)).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape.batch, *shape.image, generator=generator)
    labels = torch.randint(0, 10, (shape.batch,), generator=generator)
    module: nn.Module = built
    if form.startswith("fused"):
        built.fuse_layers()
        built.recompute_activations(form != OURS)
    elif form == "channels last":
        module = built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(memory_format=torch.channels_last)
    elif form == COMPILED:
        module = cast(nn.Module, torch.compile(built, dynamic=False))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True, fused=True)

    def step() -> None:
        loss = F.cross_entropy(module(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def main() -> None:
    """Race all forms at each shape."""
    torch.set_num_threads(1)
    forms = (*FORMS, *[COMPILED] * ("compile" in sys.argv[1:]))
    for shape in SHAPES:
        steps = {form: prepare(shape, form) for form in forms}
        seconds: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}  # of the processor, of the clock
        for _ in range(N_ROUNDS):
            for form, step in steps.items():
                of_processor, of_clock = time.process_time(), time.perf_counter()
                for _ in range(STEPS):
                    step()
                seconds[form].append((time.process_time() - of_processor, time.perf_counter() - of_clock))
        sys.stdout.write(f"{shape}\n")
        for form in forms:
            words = []
            for place, name in enumerate(("processor", "clock")):
                pairs = [(own[place], ours[place]) for own, ours in zip(seconds[form], seconds[OURS], strict=True)][1:]
                ratios = [own / ours for own, ours in pairs]
                own = 1000 * statistics.median(own for own, _ in pairs) / STEPS
                middle = statistics.median(ratios)
                words.append(f"{name} {own:.0f} ms, {middle:.2f} times ours ({min(ratios):.2f} to {max(ratios):.2f})")
            sys.stdout.write(f"  {form}: {'; '.join(words)}\n")


if __name__ == "__main__":
    main()
