"""The one seam at which a backend is chosen."""

from __future__ import annotations

import importlib.util
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from mld_pipelines.compute._contract import PoolPolicy
from mld_pipelines.compute._inline import InlinePool
from mld_pipelines.exceptions import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.compute._contract import WorkerPool, WorkerSpec

__all__ = ["choose_backend", "open_pool"]

_log = logging.getLogger(__name__)


def choose_backend(policy: PoolPolicy, *, n_batches: int | None = None) -> Literal["inline", "local"]:
    """Return the backend a policy means for an input of `n_batches` batches (None: unknown, taken as many).

    `auto` is inline for at most one batch (a Ray start costs seconds), local Ray above. Without Ray installed `auto`
    runs inline and logs it.

    Raises:
        ConfigurationError: The policy, or `RAY_ADDRESS` under `auto`, asks for a cluster.
        MissingDependencyError: `local` was asked for and Ray is not installed.
    """
    installed = importlib.util.find_spec("ray") is not None
    if policy.backend == "inline" or (policy.backend == "auto" and n_batches is not None and n_batches <= 1):
        return "inline"
    if policy.backend == "cluster" or (policy.backend == "auto" and os.environ.get("RAY_ADDRESS")):
        raise ConfigurationError(
            f"a Ray cluster (RAY_ADDRESS={os.environ.get('RAY_ADDRESS')!r}) cannot be joined by this version; nothing "
            "was run. Use backend='local' for Ray on this machine, or 'inline'."
        )
    if installed:
        return "local"
    if policy.backend == "local":
        raise MissingDependencyError("backend='local' needs Ray: pip install 'mld-pipelines[platform]'.")
    _log.warning("Ray is not installed: batches run inline, one after the other (mld-pipelines[platform] brings Ray).")
    return "inline"


@contextmanager
def open_pool(
    worker: WorkerSpec, policy: PoolPolicy | None = None, *, n_batches: int | None = None
) -> Iterator[WorkerPool]:
    """Open workers for the length of a `with` block.

    Args:
        worker: What each worker is built from; its module must be importable from the working directory or `sys.path`.
        policy: How to run; the default is `auto`.
        n_batches: Size of the input, where it is known, for `auto`.

    Raises:
        ConfigurationError: A cluster was asked for.
        WorkerPoolError: A worker cannot be built, or the machine has no room for one.
    """
    policy = PoolPolicy() if policy is None else policy
    if choose_backend(policy, n_batches=n_batches) == "inline":
        yield InlinePool(worker, policy)
        return
    from mld_pipelines.compute._actors import ActorPool
    from mld_pipelines.compute._session import ray_session

    with ray_session(policy) as ray:
        pool = ActorPool(ray, worker, policy, at_most=n_batches)
        try:
            yield pool
        finally:
            pool.close()
