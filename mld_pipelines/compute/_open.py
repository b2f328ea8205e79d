"""The one seam at which a backend is chosen."""

from __future__ import annotations

import importlib.util
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from mld_pipelines.compute._cluster import cluster_address, names_cluster
from mld_pipelines.compute._contract import PoolPolicy, StageSpec
from mld_pipelines.compute._inline import InlinePipeline
from mld_pipelines.exceptions import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mld_pipelines.compute._contract import Pipeline, WorkerPool, WorkerSpec

__all__ = ["choose_backend", "open_pipeline", "open_pool"]

_log = logging.getLogger(__name__)


def choose_backend(policy: PoolPolicy, *, n_batches: int | None = None) -> Literal["inline", "local", "cluster"]:
    """Return the backend a policy means for an input of `n_batches` batches (None: unknown, taken as many).

    `auto` is inline for at most one batch (a Ray start costs seconds); above, it is the cluster where `RAY_ADDRESS` is
    set and local Ray elsewhere. Without Ray installed `auto` runs inline and logs it, unless `RAY_ADDRESS` is set.

    Raises:
        ConfigurationError: `cluster` was asked for and `RAY_ADDRESS` names none, or is malformed.
        MissingDependencyError: Ray is needed and not installed.
    """
    if policy.backend == "inline" or (policy.backend == "auto" and n_batches is not None and n_batches <= 1):
        return "inline"
    wants_cluster = policy.backend == "cluster" or (policy.backend == "auto" and names_cluster())
    if wants_cluster:
        cluster_address()
    if importlib.util.find_spec("ray") is None:
        if policy.backend == "auto" and not wants_cluster:
            _log.warning(
                "Ray is not installed: batches run inline, one after the other (mld-pipelines[platform] brings Ray)."
            )
            return "inline"
        asked = "RAY_ADDRESS" if policy.backend == "auto" else f"backend={policy.backend!r}"
        raise MissingDependencyError(f"{asked} needs Ray: pip install 'mld-pipelines[platform]'.")
    return "cluster" if wants_cluster else "local"


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
        ConfigurationError: A cluster was asked for and `RAY_ADDRESS` names none.
        WorkerPoolError: A worker cannot be built, nothing has room for one, or the cluster cannot be joined.
    """
    policy = PoolPolicy() if policy is None else policy
    stage = StageSpec(worker.target, worker, size=policy.size, num_cpus=policy.num_cpus, num_gpus=policy.num_gpus)
    with open_pipeline([stage], policy, n_batches=n_batches) as pipeline:
        yield pipeline


@contextmanager
def open_pipeline(
    stages: Sequence[StageSpec], policy: PoolPolicy | None = None, *, n_batches: int | None = None
) -> Iterator[Pipeline]:
    """Open several stages of workers for the length of a `with` block; each gets what the one before it made.

    On Ray what a stage makes stays in shared memory: the next stage reads it there without a copy, read-only, and the
    caller sees what the last stage makes. A batch that fails is tried again in the stage where it failed, at most
    `max_attempts` times, then reported with the name of the stage.

    Args:
        stages: At least one, with different names.
        policy: How to run; `size`, `num_cpus` and `num_gpus` are those of each stage.
        n_batches: Size of the input, where it is known, for `auto`.

    Raises:
        ConfigurationError: No stages, two of the same name, or a cluster without `RAY_ADDRESS`.
        WorkerPoolError: A worker cannot be built, one worker of each stage does not fit into what there is, or the
            cluster cannot be joined.
    """
    policy = PoolPolicy() if policy is None else policy
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(f"the stages are {names}; give at least one, each under a name of its own.")
    backend = choose_backend(policy, n_batches=n_batches)
    if backend == "inline":
        yield InlinePipeline(stages, policy)
        return
    from mld_pipelines.compute._flow import ActorPipeline
    from mld_pipelines.compute._session import ray_session

    with ray_session(policy, backend=backend) as ray:
        pipeline = ActorPipeline(ray, stages, policy, backend=backend, at_most=n_batches)
        try:
            yield pipeline
        finally:
            pipeline.close()
