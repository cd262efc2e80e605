"""The Ray of a run, which is one a process: started or joined once, and ended."""

import importlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

# Ray reads these when it is imported or later.
# A Ray that a run starts then listens on the loopback interface only; a cluster keeps its own addresses.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "(?s)."  # deaths of workers are reported in our own words
# Workers have this process's priority: at Ray's own, 15 below it, they wait for all else on a busy machine.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray starts workers with itself. They load what they train with at once, and not when they get their first job;
# Ray would replace them if they had none within a second.
os.environ.setdefault("RAY_preload_python_modules", "nas.workers.ray_executor")
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")

import ray

from nas.settings.search import SearchConfig
from nas.workers.cluster import start_ray
from nas.workers.ray_folder import own_ray_folder
from nas.workers.stop import StopFlag
from search_spaces.errors import Interrupted
from search_spaces.templates import is_template_name

_held: list[int] = []  # how many workers the running Ray holds; empty if none runs


@contextmanager
def running_ray(
    config: SearchConfig, run: Path | None, n_workers: int | Literal["auto"], check_stop: StopFlag
) -> Iterator[int]:
    """Start or join a Ray for the block, or use the one of a block around it.

    Args:
        run: the run directory, for a note of the Ray's folder; or None.
        n_workers: number of workers; auto: as many as a cluster can hold.
        check_stop: the flag that a signal sets while Ray starts.

    Yields:
        Number of workers that train at a time.

    Raises:
        MachineError: Ray does not start, or the cluster does not answer or cannot hold so many workers.
        Interrupted: a signal came while Ray started.
    """
    if _held:
        assert n_workers != "auto", "workers of this machine are resolved"
        yield min(n_workers, _held[0])
        return
    with own_ray_folder(run) if config.ray_address is None else nullcontext():
        check_stop()
        try:
            try:
                # The handlers of before come back: ray.init replaces that of SIGTERM by its own.
                with check_stop.installed(), check_stop.overheard():
                    n_held = start_ray(config, n_workers)
            except SystemExit:  # raised by Ray's handler
                raise Interrupted(signal.SIGTERM) from None
            check_stop()
            _held.append(n_held)
            yield n_held
        finally:
            _held.clear()
            ray.shutdown()


@contextmanager
def start_while_loading(run: Path, config: SearchConfig, modules: Sequence[str]) -> Iterator[None]:
    """Start the Ray that a new run on this machine will need, while a thread loads modules that the block needs.

    A run that was begun before may have little left to train: it starts its Ray when it knows. Where a file is missing,
    the block says so without a wait for Ray.

    Args:
        run: the run directory, locked.
        config: the run's settings, resolved.
        modules: names of modules; none of Ray's, which are not made to be loaded while Ray starts.
    """
    n_workers = config.workers
    files = [config.data, *(text for text in config.pattern or () if not is_template_name(text))]
    is_missing = any(file is not None and not Path(file).exists() for file in files)
    if n_workers in ("auto", 1) or config.ray_address is not None or (run / "study.db").exists() or is_missing:
        yield
        return
    loading = threading.Thread(target=lambda: [importlib.import_module(name) for name in modules], daemon=True)
    loading.start()
    with running_ray(config, run, n_workers, StopFlag()):
        loading.join()
        yield
