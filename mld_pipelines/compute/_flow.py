"""Stages of Ray actors in a row: what one makes goes to the next as a reference, never through the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mld_pipelines.compute._actors import ActorStage
from mld_pipelines.compute._contract import BatchResult, in_stage
from mld_pipelines.compute._queue import Queue
from mld_pipelines.compute._resources import Demand, count_workers
from mld_pipelines.exceptions import WorkerPoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

    from mld_pipelines.compute._actors import Done
    from mld_pipelines.compute._contract import Attempts, PoolPolicy, StageSpec

__all__ = ["ActorPipeline"]

_TICK_S = 0.5
"""Longest wait of one `ray.wait`, so that time limits are looked at."""


class ActorPipeline:
    """Stages of actors on this machine or on a cluster.

    Batches are drawn while fewer than `in_flight_per_actor` per worker, over all stages, are on their way: a slow stage
    holds back those before it, and what waits between two stages is bounded.
    """

    def __init__(
        self,
        ray: ModuleType,
        stages: Sequence[StageSpec],
        policy: PoolPolicy,
        *,
        backend: Literal["local", "cluster"],
        at_most: int | None = None,
    ) -> None:
        self.backend = backend
        self._ray = ray
        self._max_attempts = policy.max_attempts
        self._is_mapping = False
        self._stages: list[ActorStage] = []
        demands = [Demand(stage.num_cpus, stage.num_gpus, stage.size) for stage in stages]
        sizes = count_workers(ray, demands, timeout_s=policy.start_timeout_s, at_most=at_most)
        try:
            for spec, size in zip(stages, sizes, strict=True):
                self._stages.append(ActorStage(ray, spec, policy, size=size, keeps=spec is not stages[-1]))
            self._start()
        except BaseException:
            self.close()
            raise
        self._room = policy.in_flight_per_actor * self.size

    def _start(self) -> None:
        """Wait for the first worker of every stage; the others join as they come up."""
        while not all(stage.is_ready for stage in self._stages):
            self._wait()
            for stage in self._stages:
                stage.check_stuck()

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of workers by stage."""
        return {stage.name: stage.size for stage in self._stages}

    @property
    def size(self) -> int:
        """Number of workers."""
        return sum(stage.size for stage in self._stages)

    def close(self) -> None:
        """End the workers."""
        for stage in self._stages:
            stage.close()

    def map(self, batches: Iterable[Mapping[str, Any]], *, attempts: Attempts | None = None) -> Iterator[BatchResult]:
        """Yield results as workers complete them; one `map` at a time."""
        if self._is_mapping:
            raise WorkerPoolError("this pool is already mapping; exhaust or close that iterator first.")
        self._is_mapping = True
        try:
            yield from self._map(batches, (lambda _: self._max_attempts) if attempts is None else attempts)
        finally:
            self._is_mapping = False
            for stage in self._stages:
                stage.abandon()

    def _map(self, batches: Iterable[Mapping[str, Any]], limit: Attempts) -> Iterator[BatchResult]:
        on_the_way: set[int] = set()
        first = Queue(_noting(batches, on_the_way), limit=limit, gate=lambda: len(on_the_way) < self._room)
        queues = [first, *(Queue() for _ in self._stages[1:])]
        rows = list(enumerate(zip(self._stages, queues, strict=True)))
        while True:
            for _, (stage, queue) in reversed(rows):  # what is furthest goes first: it frees memory
                stage.fill(queue)
            if not on_the_way and first.exhausted:
                return
            self._wait()
            for position, (stage, queue) in rows:
                for done in stage.harvest(queue):
                    result = self._pass_on(done, position, queues)
                    if result is not None:
                        on_the_way.discard(result.index)
                        yield result

    def _pass_on(self, done: Done, position: int, queues: Sequence[Queue]) -> BatchResult | None:
        """Give a task to where it goes next; return the result of one that is at its end."""
        task, is_last = done.task, position == len(queues) - 1
        if done.is_input_lost:
            task.output = None  # `failures` stays: a batch that loses its input again and again is given up
            queues[0].put_back(task)
        elif done.reason is not None:
            name = self._stages[position].name if len(queues) > 1 else None
            return BatchResult(task.index, {}, reason=in_stage(name, done.reason), attempts=task.attempts)
        elif is_last:
            return BatchResult(task.index, done.columns, attempts=task.attempts + 1)
        else:
            task.output, task.failures = done.columns, 0
            queues[position + 1].hand(task)
        return None

    def _wait(self) -> None:
        """Wait a tick for anything to happen; settle the workers that came up."""
        references = [reference for stage in self._stages for reference in stage.references()]
        arrived, _ = self._ray.wait(references, num_returns=1, timeout=_TICK_S)
        for stage in self._stages:
            stage.notice(arrived)


def _noting(batches: Iterable[Mapping[str, Any]], indices: set[int]) -> Iterator[Mapping[str, Any]]:
    for index, batch in enumerate(batches):
        indices.add(index)
        yield batch
