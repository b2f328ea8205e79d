"""A Ray for the length of a block: the cluster of `RAY_ADDRESS`, one found running, or one started and shut down."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mld_pipelines.compute._cluster import CLIENT_TRIES, check_connected, check_reachable, cluster_address
from mld_pipelines.exceptions import WorkerPoolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from mld_pipelines.compute._contract import PoolPolicy

__all__ = ["ray_session", "worker_environment"]

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; unset, it warns on every start
}

_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20)}
"""What glibc gives back to the system: left alone it returned a batch's memory after every call and asked for it again,
1,800 page faults and 5 ms of 45 for 64 frames of a detector (measured)."""


@contextmanager
def ray_session(policy: PoolPolicy, *, backend: Literal["local", "cluster"] = "local") -> Iterator[ModuleType]:
    """Yield the `ray` module, connected; disconnect, or shut Ray down, only if this call connected or started it.

    Raises:
        ConfigurationError: `RAY_ADDRESS` is no address.
        WorkerPoolError: Ray could not start, or the cluster cannot be joined.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    address = cluster_address() if backend == "cluster" else None
    import ray

    if ray.is_initialized():
        if address is not None:
            check_connected(ray, address)
            if policy.working_dir is not None:
                raise WorkerPoolError(
                    f"working_dir {policy.working_dir!r} is copied when a process joins the cluster, and this one has "
                    "joined already; nothing was run. Call ray.shutdown() first."
                )
        yield ray
        return
    if address is None:
        _start(ray, policy)
    else:
        check_reachable(address)
        _join(ray, policy, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: ModuleType, policy: PoolPolicy) -> None:
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


def _join(ray: ModuleType, policy: PoolPolicy, address: str) -> None:
    environment: dict[str, Any] = {} if policy.working_dir is None else {"working_dir": policy.working_dir}
    try:
        _connect(ray, address, environment)
    except Exception as error:
        raise WorkerPoolError(
            f"the Ray cluster at RAY_ADDRESS={address} let a new process in and not this one ({type(error).__name__}: "
            f"{error}). Nothing was run. Ray keeps the first token a process used: run this where no other Ray was."
        ) from error


def _connect(ray: ModuleType, address: str, environment: dict[str, Any]) -> None:
    for number in range(CLIENT_TRIES):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
        except ConnectionError:  # of the client server only: it gave up the process it had started for this driver
            if number == CLIENT_TRIES - 1 or not address.startswith("ray://"):
                raise
        else:
            return


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: one thread each, and the driver's import path.

    Without it every worker would start a thread per core, and modules beside the driver's script would be missing.
    """
    paths = [str(Path(entry or ".").absolute()) for entry in sys.path]
    unique = dict.fromkeys([*paths, str(Path.cwd())])
    threads = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(threads, "1"), **_KEPT_MEMORY, "PYTHONPATH": os.pathsep.join(unique)}
