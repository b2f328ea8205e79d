"""Pools and pipelines without processes: for unit tests and inputs of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mld_pipelines.compute._contract import BatchResult, call_worker, describe, in_stage, read_only
from mld_pipelines.compute._resolve import resolve
from mld_pipelines.exceptions import WorkerPoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.compute._contract import Attempts, PoolPolicy, StageSpec, WorkerSpec

__all__ = ["InlinePipeline"]


class InlinePipeline:
    """Runs every batch through all stages in the calling thread.

    Exceptions and `sys.exit` are isolated, retried and reported as on Ray. What ends or freezes the process itself
    (`os._exit`, a segmentation fault, an endless loop) is not: use the `local` backend where a batch may do that.
    """

    backend: Literal["inline"] = "inline"

    def __init__(self, stages: Sequence[StageSpec], policy: PoolPolicy) -> None:
        self._max_attempts = policy.max_attempts
        self._stages = [(stage.name if len(stages) > 1 else None, _build(stage.worker)) for stage in stages]
        self.sizes: Mapping[str, int] = {stage.name: 1 for stage in stages}
        self.size = len(stages)

    def map(self, batches: Iterable[Mapping[str, Any]], *, attempts: Attempts | None = None) -> Iterator[BatchResult]:
        """Yield the result of each batch, in order."""
        for index, batch in enumerate(batches):
            yield self._run(index, batch, self._max_attempts if attempts is None else attempts(batch))

    def _run(self, index: int, batch: Mapping[str, Any], limit: int) -> BatchResult:
        charged, columns = 0, batch
        for name, worker in self._stages:
            outcome, failures = _attempt(worker, columns, limit)
            charged += failures
            if isinstance(outcome, str):
                return BatchResult(index, {}, reason=in_stage(name, outcome), attempts=charged)
            columns = outcome
        return BatchResult(index, columns, attempts=charged + 1)


def _attempt(worker: Any, batch: Mapping[str, Any], limit: int) -> tuple[dict[str, NDArray[Any]] | str, int]:
    """Return columns, or the reason of the last failure; and the number of failures."""
    reason = ""
    for failures in range(limit):
        try:
            # On Ray results are read-only views of shared memory; the same here, so that nobody relies on more.
            return read_only(call_worker(worker, batch)), failures
        except (Exception, SystemExit) as error:
            reason = describe(error)
    return reason, limit


def _build(worker: WorkerSpec) -> Any:
    try:
        return resolve(worker.target)(**worker.params)
    except (Exception, SystemExit) as error:
        reason = describe(error).rstrip(".")
        raise WorkerPoolError(f"worker {worker.target!r} could not be built: {reason}.") from error
