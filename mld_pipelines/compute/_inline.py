"""The pool without processes: for unit tests and inputs of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mld_pipelines.compute._contract import BatchResult, call_worker, describe
from mld_pipelines.compute._resolve import resolve
from mld_pipelines.exceptions import WorkerPoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mld_pipelines.compute._contract import PoolPolicy, WorkerSpec

__all__ = ["InlinePool"]


class InlinePool:
    """Runs every batch in the calling thread.

    Exceptions and `sys.exit` are isolated, retried and reported as on Ray. What ends or freezes the process itself
    (`os._exit`, a segmentation fault, an endless loop) is not: use the `local` backend where a batch may do that.
    """

    backend: Literal["inline"] = "inline"
    size = 1

    def __init__(self, worker: WorkerSpec, policy: PoolPolicy) -> None:
        self._max_attempts = policy.max_attempts
        try:
            self._worker: Any = resolve(worker.target)(**worker.params)
        except (Exception, SystemExit) as error:
            raise WorkerPoolError(f"worker {worker.target!r} could not be built: {describe(error)}.") from error

    def map(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[BatchResult]:
        """Yield the result of each batch, in order."""
        for index, batch in enumerate(batches):
            yield self._run(index, batch)

    def _run(self, index: int, batch: Mapping[str, Any]) -> BatchResult:
        reason = None
        for attempt in range(1, self._max_attempts + 1):
            try:
                columns = call_worker(self._worker, batch)
            except (Exception, SystemExit) as error:
                reason = describe(error)
            else:
                # On Ray results are read-only views of shared memory; the same here, so that nobody relies on more.
                views = {name: values.view() for name, values in columns.items()}
                for view in views.values():
                    view.flags.writeable = False
                return BatchResult(index, views, attempts=attempt)
        return BatchResult(index, {}, reason=reason, attempts=self._max_attempts)
