"""What the settings of device, engine, cohort and workers mean on this machine."""

import logging
import os
import shutil
from importlib.util import find_spec
from typing import Literal, cast

import torch

from nas.engines.native import has_bfloat16, load_library, read_advice
from search_spaces.errors import InputError, MachineError

logger = logging.getLogger(__name__)


def resolve_device(name: str, on_cluster: bool = False) -> Literal["cpu", "cuda"]:
    """Return the device that a setting means on this machine; a cluster is trusted to have cuda.

    Raises:
        MachineError: cuda where there is none.
    """
    if name == "cuda" and not on_cluster and not torch.cuda.is_available():
        raise MachineError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    return "cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu"


def resolve_engine(
    engine: str, device: str, can_fuse: bool, precision: str = "float32"
) -> Literal["eager", "fused", "graph"]:
    """Return the engine that a setting means on this machine; auto is what `bench` advised, else fused on a CPU.

    Args:
        engine: as in the settings.
        device: cpu or cuda.
        can_fuse: whether layers are of the form that can be fused; if not, they run eagerly whatever the engine is.
        precision: precision of convolutions; auto takes eager, and says so, where fused layers lack it.

    Raises:
        InputError: graph without cuda.
        MachineError: fused on a GPU of this machine that has no Triton, or no C compiler for it; fused in bfloat16 on a
            CPU whose layers cannot be computed in it.
    """
    advised, _ = read_advice(device) or (None, 1)
    if device == "cuda":
        chosen = (advised or "eager") if engine == "auto" else engine
        # A cluster's workers may have what this machine lacks, and layers that cannot be fused need no kernels.
        if chosen == "fused" and can_fuse and torch.cuda.is_available():
            _check_triton()
        return cast(Literal["eager", "fused", "graph"], chosen)
    if engine == "graph":
        raise InputError("--engine graph is a CUDA graph and needs --device cuda: use --engine eager or auto")
    if engine == "eager" or (engine == "auto" and (not can_fuse or advised == "eager")):
        return "eager"
    if can_fuse and precision == "bfloat16" and not has_bfloat16():
        if engine == "fused":
            raise MachineError(
                "--engine fused with --precision bfloat16 needs a processor with AVX512_BF16 and a C++ compiler: use "
                "--engine auto, or --precision float32"
            )
        logger.warning(
            "warning: fused layers cannot multiply in bfloat16 on this machine, which needs AVX512_BF16: --precision "
            "bfloat16 runs as torch's autocast, which is slower"
        )
        return "eager"
    # Built here, once, rather than by every worker in its first training.
    return "fused" if load_library() or engine == "fused" else "eager"


def _check_triton() -> None:
    compilers = (os.environ["CC"],) if "CC" in os.environ else ("gcc", "clang")  # as Triton looks for one
    if not find_spec("triton"):
        missing = "torch came without it"
    elif not any(map(shutil.which, compilers)):
        missing = "it needs a C compiler: apt-get install gcc, or set CC"
    else:
        return
    raise MachineError(f"--engine fused on a GPU needs Triton, and {missing}; or use --engine eager")


def resolve_cohort(cohort: int | Literal["auto"], device: str, is_single: bool) -> int:
    """Return the number of candidates trained together; auto is what `bench` advised on this machine.

    Args:
        cohort: as in the settings.
        device: cpu or cuda.
        is_single: whether candidates can be trained one at a time only: memory-efficiently, or with drops.
    """
    if cohort != "auto":
        return cohort
    _, advised = read_advice(device) or (None, 1)
    return 1 if is_single else advised


def measure_memory(device: str) -> int | None:
    """Return the bytes of memory that this machine has for trainings; None where that is not known."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # no such name on this system
        return None


def resolve_workers(workers: int | Literal["auto"], device: str, gpus_per_worker: float | None = None) -> int:
    """Return the number of trainings at a time; auto is as many as this machine's GPUs or cores hold."""
    if workers != "auto":
        return workers
    if device == "cuda":
        share = gpus_per_worker or 1  # a part of one GPU, or whole ones, as Ray gives a worker
        n_gpus = torch.cuda.device_count()
        return max(1, n_gpus * int(1 / share) if share < 1 else int(n_gpus / share))
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
