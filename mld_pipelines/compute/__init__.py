"""Run many batches on isolated workers: in this process, on local Ray actors or on a Ray cluster.

A worker is *named*, never pickled: `WorkerSpec("package.module:Class", {"weights": "model.pt"})` is built inside each
worker process and called once per batch. Arguments and results are mappings of numpy arrays. A batch that raises,
hangs or kills its worker is retried, then reported as failed; the others complete. Stages in a row (`open_pipeline`)
hand each other their arrays through shared memory.
"""

from __future__ import annotations

from mld_pipelines.compute._contract import BatchResult, Pipeline, PoolPolicy, StageSpec, WorkerPool, WorkerSpec
from mld_pipelines.compute._open import choose_backend, open_pipeline, open_pool
from mld_pipelines.compute._resolve import resolve

__all__ = [
    "BatchResult",
    "Pipeline",
    "PoolPolicy",
    "StageSpec",
    "WorkerPool",
    "WorkerSpec",
    "choose_backend",
    "open_pipeline",
    "open_pool",
    "resolve",
]
