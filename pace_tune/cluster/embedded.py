"""The Ray that a sweep runs on: the cluster it is part of, or one of its own on this machine."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import utils as ray_utils

from pace_tune.cluster.dispatcher import NAMESPACE
from pace_tune.cluster.lean_ray import without_helpers
from pace_tune.cluster.resources import Request, refuse_infeasible
from pace_tune.cluster.tokens import prefer_token
from pace_tune.errors import PaceTuneError

STARTS = 2
"""A machine that is busy just then may be too slow for Ray's own limits."""
LEAVE_S = 3.0
"""How long Ray's own processes may take to end after it."""
OBJECT_STORE_BYTES = 150 * 1024**2
"""Nothing large goes through Ray here: configurations and reports."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Ctrl-C is ours: see pace_tune.search.interrupt.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class RayStartError(PaceTuneError):
    """Ray cannot be reached, or does not start on this machine."""


@contextmanager
def connected(
    request: Request, *, address: str | None = None, say: Callable[[str], None] = lambda _: None
) -> Iterator[list[dict[str, float]]]:
    """Be connected to Ray, and yield what each of its nodes has.

    A cluster that this process is in already is used and left alone; ``RAY_ADDRESS`` or `address` names one to join; otherwise
    one is started here and ended afterwards.

    Args:
        request: What it has to have room for.
        address: Of a cluster to join.
        say: Told what is waited for.

    Raises:
        ConfigError: A cluster of one's own would be too small for the request; nothing was started.
        RayStartError: There is no cluster at the address, or Ray did not start.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)
    address = address or os.environ.get("RAY_ADDRESS")
    with ExitStack() as stack:
        if not ray.is_initialized():
            if address:
                say(f"joining the Ray cluster at {address} ...")
                _start(_joining(address), what=f"no Ray cluster can be reached at {address}", starts=1)
            else:
                say("starting Ray ...")
                options = _embedded(request, folder=stack.enter_context(_short_folder()))
                with without_helpers():
                    _start(options, what="Ray did not start on this machine", starts=STARTS)
            stack.callback(ray.shutdown)
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _start(options: dict[str, Any], *, what: str, starts: int) -> None:
    before = _children()
    for left in reversed(range(starts)):
        try:
            with _sigterm_stays():
                ray.init(**options)
            return
        except KeyboardInterrupt:
            _end(_children() - before)
            raise
        except Exception as error:  # Ray raises bare ones when a process of its own is late
            ray.shutdown()
            if not left:
                first = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise RayStartError(f"{what}: {first}") from error


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _end(processes: set[psutil.Process]) -> None:
    """End a Ray that is half started. Agents whose raylet died while they came up would stay for a minute."""
    ray.shutdown()
    for process in psutil.wait_procs(processes, timeout=LEAVE_S)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def _sigterm_stays() -> Iterator[None]:
    """Keep SIGTERM as it is: Ray would take it, and wait up to a minute for its nodes to drain before it ends this process."""
    taking, handler = ray_utils.set_sigterm_handler, signal.getsignal(signal.SIGTERM)
    ray_utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = taking
        if handler is not None and threading.current_thread() is threading.main_thread():
            # Ray's C++ half put a handler of its own below Python's, which prints a stack.
            signal.signal(signal.SIGTERM, handler)


def _joining(address: str) -> dict[str, Any]:
    prefer_token()
    return {"address": address, "namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    # Ray's sockets lie in it, and the path of a Unix socket has at most 107 characters.
    short = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108  (only a name of its own is made in it)
    return tempfile.TemporaryDirectory(prefix="pace-", dir=short, ignore_cleanup_errors=True)


def _embedded(request: Request, *, folder: str) -> dict[str, Any]:
    cpus = os.cpu_count() or 1
    if request.gpus_per_worker == 0:
        # Only Ray itself knows the GPUs.
        refuse_infeasible(request, nodes=[{"CPU": cpus}])
    return {
        "address": "local",
        "namespace": NAMESPACE,
        "num_cpus": cpus,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": folder,
        # Processes that wait for a task: those of Ray Train have settings of their own, and start apart from them.
        "_system_config": {"prestart_worker_first_driver": False},
    }
