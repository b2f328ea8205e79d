"""Run many batches on isolated workers: in this process or on local Ray actors.

A worker is *named*, never pickled: `WorkerSpec("package.module:Class", {"weights": "model.pt"})` is built inside each
worker process and called once per batch. Arguments and results are mappings of numpy arrays. A batch that raises,
hangs or kills its worker is retried, then reported as failed; the others complete.
"""

from __future__ import annotations

from mld_pipelines.compute._contract import BatchResult, PoolPolicy, WorkerPool, WorkerSpec
from mld_pipelines.compute._open import choose_backend, open_pool
from mld_pipelines.compute._resolve import resolve

__all__ = ["BatchResult", "PoolPolicy", "WorkerPool", "WorkerSpec", "choose_backend", "open_pool", "resolve"]
