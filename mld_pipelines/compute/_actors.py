"""The pool of Ray actors: bounded submission, attempts per batch, replacement of dead workers."""

from __future__ import annotations

import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mld_pipelines.compute._contract import BatchResult, call_worker, describe
from mld_pipelines.compute._resolve import resolve
from mld_pipelines.compute._session import count_workers, worker_environment
from mld_pipelines.exceptions import WorkerPoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from numpy.typing import NDArray

    from mld_pipelines.compute._contract import PoolPolicy, WorkerSpec

__all__ = ["ActorPool"]

_MAX_RESTARTS = 3
"""Restarts Ray makes by itself; afterwards the pool makes a new actor."""

_TICK_S = 0.5
"""Longest wait of one `ray.wait`, so that time limits are looked at."""

_RETRY_READY_S = 0.1


class _Actor:
    """Runs inside the worker process: builds the worker from its name and calls it."""

    def __init__(self, target: str, params: dict[str, Any]) -> None:
        # Errors travel as text: a user's exception need not survive pickling, nor be importable by the driver.
        self._failure: tuple[str, str] | None = None
        try:
            self._worker: Any = resolve(target)(**params)
        except (Exception, SystemExit) as error:
            self._failure = (describe(error), traceback.format_exc())

    def ready(self) -> tuple[str, str] | None:
        return self._failure

    def run(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]] | str:
        try:
            return call_worker(self._worker, batch)
        except (Exception, SystemExit) as error:
            return describe(error)


@dataclass(slots=True)
class _Task:
    index: int
    batch: Mapping[str, Any]
    attempts: int = 0


@dataclass(slots=True)
class _Slot:
    """One worker: its actor, and its tasks in the order of submission (actors run them in that order)."""

    actor: Any
    probe: Any  # pending `ready` call; None once the worker is up
    probe_since: float = field(default_factory=time.monotonic)
    tasks: deque[tuple[Any, _Task]] = field(default_factory=deque)
    head_since: float = 0.0
    was_ready: bool = False


class ActorPool:
    """Ray actors on this machine.

    A Python exception costs its batch one attempt. A worker that dies, or is killed for exceeding `batch_timeout_s`,
    costs an attempt only to the batch it was working on (the oldest one submitted); those queued behind it are
    submitted again for free, so that a poisonous batch cannot drag innocent ones into quarantine.
    """

    backend: Literal["local"] = "local"

    def __init__(self, ray: ModuleType, worker: WorkerSpec, policy: PoolPolicy, *, at_most: int | None = None) -> None:
        self._ray = ray
        self._spec = worker
        self._policy = policy
        self._busy = False
        self._slots: list[_Slot] = []
        self._actor_class = ray.remote(_Actor).options(
            num_cpus=policy.num_cpus,
            num_gpus=policy.num_gpus,
            max_restarts=_MAX_RESTARTS,
            max_task_retries=0,
            runtime_env={"env_vars": worker_environment()},
        )
        try:
            self._start(count_workers(ray, policy, at_most=at_most))
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._slots)

    def close(self) -> None:
        """End the workers."""
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._slots = []

    def map(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[BatchResult]:
        """Yield results as workers complete them; one `map` at a time."""
        if self._busy:
            raise WorkerPoolError("this pool is already mapping; exhaust or close that iterator first.")
        self._busy = True
        try:
            yield from self._map(_Source(batches))
        finally:
            self._busy = False
            for slot in self._slots:
                if slot.tasks:  # abandoned half-way: what is still running must not delay or kill the next map
                    slot.tasks.clear()
                    self._replace(slot)

    def _map(self, source: _Source) -> Iterator[BatchResult]:
        while True:
            self._fill(source)
            if not any(slot.tasks for slot in self._slots) and source.exhausted:
                return
            yield from self._collect(source)

    # -- starting ------------------------------------------------------------------------------------------------

    def _start(self, size: int) -> None:
        """Start the workers and wait for the first; the others join as they come up."""
        self._slots = [self._new_slot() for _ in range(size)]
        while all(slot.probe is not None for slot in self._slots):
            self._wait([slot.probe for slot in self._slots])
            self._check_stuck()

    def _check_stuck(self) -> None:
        oldest = time.monotonic() - self._policy.start_timeout_s
        if all(slot.probe is not None and slot.probe_since < oldest for slot in self._slots):
            raise WorkerPoolError(
                f"no worker {self._spec.target!r} was ready after {self._policy.start_timeout_s:g} s "
                f"({len(self._slots)} started). Batches without a result were not run; raise start_timeout_s if "
                "building a worker takes longer, or see what its constructor waits for."
            )

    def _new_slot(self) -> _Slot:
        actor = self._actor_class.remote(self._spec.target, dict(self._spec.params))
        return _Slot(actor, actor.ready.remote())

    def _replace(self, slot: _Slot) -> None:
        self._ray.kill(slot.actor)
        fresh = self._new_slot()
        slot.actor, slot.probe, slot.probe_since = fresh.actor, fresh.probe, fresh.probe_since
        slot.was_ready = False

    def _check_probe(self, slot: _Slot) -> None:
        exceptions = self._ray.exceptions
        try:
            failure = self._ray.get(slot.probe)
        except exceptions.ActorUnavailableError:
            time.sleep(_RETRY_READY_S)  # Ray is restarting it
            slot.probe = slot.actor.ready.remote()
        except exceptions.RayError as error:
            if not slot.was_ready:  # Ray has tried it 1 + _MAX_RESTARTS times
                raise WorkerPoolError(
                    f"the process of worker {self._spec.target!r} dies while it is being built: {describe(error)}"
                ) from error
            self._replace(slot)
        else:
            if failure is not None:
                reason, trace = failure
                problem = WorkerPoolError(f"worker {self._spec.target!r} could not be built: {reason}.")
                problem.add_note(f"In the worker process:\n{trace}")
                raise problem
            slot.probe, slot.was_ready = None, True

    # -- running -------------------------------------------------------------------------------------------------

    def _fill(self, source: _Source) -> None:
        for _ in range(self._policy.in_flight_per_actor):  # breadth first: every worker gets one before any gets two
            for slot in self._slots:
                if slot.probe is None and self._has_room(slot, source):
                    task = source.next()
                    if task is None:
                        return
                    if not slot.tasks:
                        slot.head_since = time.monotonic()
                    slot.tasks.append((slot.actor.run.remote(task.batch), task))

    def _has_room(self, slot: _Slot, source: _Source) -> bool:
        """Return whether a worker may be given the next task.

        A task that failed before has its worker to itself: the answer of the task before it can be lost in the crash,
        which then looks like that one's fault, but only once.
        """
        if not slot.tasks:
            return True
        is_suspect = source.is_suspect or slot.tasks[-1][1].attempts > 0
        return not is_suspect and len(slot.tasks) < self._policy.in_flight_per_actor

    def _wait(self, references: list[Any]) -> None:
        """Wait a tick for any reference and settle the probes that are done."""
        done, _ = self._ray.wait(references, num_returns=1, timeout=_TICK_S)
        for slot in self._slots:
            if slot.probe is not None and slot.probe in done:
                self._check_probe(slot)

    def _collect(self, source: _Source) -> Iterator[BatchResult]:
        references = [slot.probe for slot in self._slots if slot.probe is not None]
        references += [slot.tasks[0][0] for slot in self._slots if slot.tasks]
        self._wait(references)
        self._check_stuck()
        for slot in self._slots:
            while slot.tasks and self._is_done(slot.tasks[0][0]):
                yield from self._settle(slot, source)
            if slot.tasks and time.monotonic() - slot.head_since > self._policy.batch_timeout_s:
                reason = f"no result after {self._policy.batch_timeout_s:g} s (batch_timeout_s); its worker was killed"
                self._replace(slot)
                yield from self._lose(slot, source, reason)

    def _is_done(self, reference: object) -> bool:
        done, _ = self._ray.wait([reference], num_returns=1, timeout=0)
        return bool(done)

    def _settle(self, slot: _Slot, source: _Source) -> Iterator[BatchResult]:
        reference, task = slot.tasks[0]
        exceptions = self._ray.exceptions
        try:
            outcome = self._ray.get(reference)
        except exceptions.RayTaskError as error:  # the batch did not survive the way to the worker
            outcome = describe(error)
        except exceptions.RayError as error:
            slot.probe, slot.probe_since = slot.actor.ready.remote(), time.monotonic()
            yield from self._lose(slot, source, f"the worker process died ({type(error).__name__})")
            return
        slot.tasks.popleft()
        slot.head_since = time.monotonic()
        if isinstance(outcome, str):
            yield from self._charge(task, source, outcome)
        else:
            yield BatchResult(task.index, outcome, attempts=task.attempts + 1)

    def _lose(self, slot: _Slot, source: _Source, reason: str) -> Iterator[BatchResult]:
        """Charge the batch the lost worker was at; hand those behind it back."""
        (_, head), *behind = slot.tasks
        slot.tasks.clear()
        for _, task in reversed(behind):
            source.put_back(task)
        yield from self._charge(head, source, reason)

    def _charge(self, task: _Task, source: _Source, reason: str) -> Iterator[BatchResult]:
        task.attempts += 1
        if task.attempts < self._policy.max_attempts:
            source.put_back(task)
        else:
            yield BatchResult(task.index, {}, reason=reason, attempts=task.attempts)


class _Source:
    """Batches still to be submitted: those handed back first, then the caller's, drawn lazily."""

    def __init__(self, batches: Iterable[Mapping[str, Any]]) -> None:
        self._fresh = enumerate(batches)
        self._returned: deque[_Task] = deque()
        self.exhausted = False

    @property
    def is_suspect(self) -> bool:
        """Whether the next task has failed before."""
        return bool(self._returned) and self._returned[0].attempts > 0

    def next(self) -> _Task | None:
        """Return the next task, or None when there is none at this moment."""
        if self._returned:
            return self._returned.popleft()
        entry = next(self._fresh, None)
        if entry is None:
            self.exhausted = True
            return None
        return _Task(*entry)

    def put_back(self, task: _Task) -> None:
        """Queue a task again, before the fresh ones."""
        self.exhausted = False
        self._returned.appendleft(task)
