"""A local Ray for the length of a block: reused when there is one, otherwise started and shut down."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import WorkerPoolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from mld_pipelines.compute._contract import PoolPolicy

__all__ = ["count_workers", "ray_session", "worker_environment"]

_log = logging.getLogger(__name__)

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; unset, it warns on every start
}

_SETTLE_S = 3.0
"""Seconds to wait for the full size: CPUs of a pool just closed come back within about a second (measured)."""

_POLL_S = 0.1


@contextmanager
def ray_session(policy: PoolPolicy) -> Iterator[ModuleType]:
    """Yield the `ray` module, connected; shut Ray down at the end only if this call started it.

    Raises:
        WorkerPoolError: Ray could not start.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        # address="local" ignores RAY_ADDRESS; Ray makes and shares the token of a local cluster by itself.
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=policy.object_store_bytes,
        )
    except Exception as error:
        raise WorkerPoolError(
            f"Ray could not start on this machine ({type(error).__name__}: {error}). Nothing was run; free memory and "
            "disk under its temporary folder, or use backend='inline'."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def count_workers(ray: ModuleType, policy: PoolPolicy, *, at_most: int | None = None) -> int:
    """Return how many workers, at most `at_most`, fit into what Ray has free.

    Actors hold their CPUs for life: one too many would wait for ever without an error, so the number is computed first.

    Raises:
        WorkerPoolError: Not a single worker fits within `start_timeout_s`.
    """
    began = time.monotonic()
    wanted = policy.size or _fitting(ray.cluster_resources(), policy)
    wanted = wanted if at_most is None else min(wanted, at_most)
    while True:
        fitting = _fitting(ray.available_resources(), policy)
        waited = time.monotonic() - began
        if fitting >= max(wanted, 1) or (fitting and waited > _SETTLE_S):
            break
        if waited > policy.start_timeout_s or not _fitting(ray.cluster_resources(), policy):
            raise WorkerPoolError(_no_room(ray, policy, waited))
        time.sleep(_POLL_S)
    size = min(fitting, wanted)
    if size < wanted:
        _log.warning("%d workers were wanted, %d fit into what Ray has free.", wanted, size)
    return size


def _fitting(resources: dict[str, float], policy: PoolPolicy) -> int:
    fits = math.floor(resources.get("CPU", 0.0) / policy.num_cpus + 1e-9)
    if policy.num_gpus:
        fits = min(fits, math.floor(resources.get("GPU", 0.0) / policy.num_gpus + 1e-9))
    return fits


def _no_room(ray: ModuleType, policy: PoolPolicy, waited: float) -> str:
    free, total = ray.available_resources(), ray.cluster_resources()
    has = ", ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
    return (
        f"no worker fits: one needs {policy.num_cpus:g} CPU and {policy.num_gpus:g} GPU, Ray has {has} free after "
        f"{waited:.0f} s. Nothing was run; lower num_cpus or num_gpus, or end what holds them."
    )


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: one thread each, and the driver's import path.

    Without it every worker would start a thread per core, and modules beside the driver's script would be missing.
    """
    paths = [str(Path(entry or ".").absolute()) for entry in sys.path]
    unique = dict.fromkeys([*paths, str(Path.cwd())])
    threads = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(threads, "1"), "PYTHONPATH": os.pathsep.join(unique)}
