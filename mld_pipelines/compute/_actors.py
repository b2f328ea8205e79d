"""The Ray actors of one stage: bounded submission, attempts per batch, replacement of dead workers."""

from __future__ import annotations

import gc
import os
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mld_pipelines.compute._contract import call_worker, describe
from mld_pipelines.compute._resolve import resolve
from mld_pipelines.compute._resources import what_is_free
from mld_pipelines.compute._session import worker_environment
from mld_pipelines.exceptions import WorkerPoolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from numpy.typing import NDArray

    from mld_pipelines.compute._contract import PoolPolicy, StageSpec
    from mld_pipelines.compute._queue import Queue, Task

__all__ = ["ActorStage", "Done"]

_MAX_RESTARTS = 3
"""Restarts Ray makes by itself; afterwards the stage makes a new actor."""

_RETRY_READY_S = 0.1


class _Actor:
    """Runs inside the worker process: builds the worker from its name and calls it."""

    def __init__(self, target: str, params: dict[str, Any], folder: str) -> None:
        # Errors travel as text: a user's exception need not survive pickling, nor be importable by the driver.
        self._failure: tuple[str, str] | None = None
        try:
            if folder and Path(folder).is_dir():  # relative paths mean what they mean to the driver
                os.chdir(folder)
            self._worker: Any = resolve(target)(**params)
            # 100,000 objects of modules and models stay for ever: looking through them again and again took 4 % of a
            # worker that makes rows (measured)
            gc.collect()
            gc.freeze()
        except (Exception, SystemExit) as error:
            self._failure = (describe(error), traceback.format_exc())

    def ready(self) -> tuple[str, str] | None:
        return self._failure

    def run(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]] | str:
        try:
            return call_worker(self._worker, batch)
        except (Exception, SystemExit) as error:
            return describe(error)

    def run_and_keep(self, batch: Mapping[str, Any]) -> tuple[str | None, dict[str, NDArray[Any]]]:
        """Return the reason of a failure and the columns apart: the driver reads only the reason."""
        outcome = self.run(batch)
        return (outcome, {}) if isinstance(outcome, str) else (None, outcome)


@dataclass(slots=True)
class Done:
    """What became of a task in a stage.

    Attributes:
        task: The task.
        columns: What the worker made, or the reference to it where the stage keeps it; None if the task is given up.
        reason: Why it is given up.
        is_input_lost: What the stage before made is gone with its machine; the task must start over.
    """

    task: Task
    columns: Any = None
    reason: str | None = None
    is_input_lost: bool = False


@dataclass(slots=True)
class _Slot:
    """One worker: its actor, and its calls in the order of submission (actors run them in that order)."""

    actor: Any
    probe: Any  # pending `ready` call; None once the worker is up
    probe_since: float = field(default_factory=time.monotonic)
    calls: deque[_Call] = field(default_factory=deque)
    head_since: float = 0.0
    was_ready: bool = False


@dataclass(slots=True)
class _Call:
    task: Task
    answer: Any  # reference of the columns or the reason; of the reason alone where the columns are kept
    kept: Any = None


class ActorStage:
    """Ray actors that run the same worker.

    A Python exception costs its batch one attempt. A worker that dies, or is killed for exceeding `batch_timeout_s`,
    costs an attempt only to the batch it was working on (the oldest one submitted); those queued behind it are
    submitted again for free, so that a poisonous batch cannot drag innocent ones into quarantine.

    Args:
        ray: The connected module.
        spec: What runs.
        policy: How; its shares are those of `spec`.
        size: Number of workers, known to fit.
        keeps: Whether columns stay in shared memory for the next stage.
    """

    def __init__(self, ray: ModuleType, spec: StageSpec, policy: PoolPolicy, *, size: int, keeps: bool) -> None:
        self.name = spec.name
        self._ray = ray
        self._spec = spec.worker
        self._policy = policy
        self._keeps = keeps
        self._folder = "" if policy.working_dir is not None else str(Path.cwd())
        self._actor_class = ray.remote(_Actor).options(
            num_cpus=spec.num_cpus,
            num_gpus=spec.num_gpus,
            max_restarts=_MAX_RESTARTS,
            max_task_retries=0,
            runtime_env={"env_vars": worker_environment()},
        )
        self._slots: list[_Slot] = []
        for _ in range(size):  # one by one: `close` ends those that came up if one cannot
            self._slots.append(self._new_slot())

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._slots)

    @property
    def is_ready(self) -> bool:
        """Whether a worker is up; the others join as they come up."""
        return any(slot.probe is None for slot in self._slots)

    @property
    def is_busy(self) -> bool:
        """Whether a call is on its way."""
        return any(slot.calls for slot in self._slots)

    def close(self) -> None:
        """End the workers."""
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._slots = []

    def abandon(self) -> None:
        """Forget what is on its way: what still runs must not delay or kill the next input."""
        for slot in self._slots:
            if slot.calls:
                slot.calls.clear()
                self._replace(slot)

    # -- starting ------------------------------------------------------------------------------------------------

    def check_stuck(self) -> None:
        """Raise if no worker came up in time.

        Raises:
            WorkerPoolError: None did within `start_timeout_s`.
        """
        oldest = time.monotonic() - self._policy.start_timeout_s
        if all(slot.probe is not None and slot.probe_since < oldest for slot in self._slots):
            raise WorkerPoolError(
                f"no worker {self._spec.target!r} was ready after {self._policy.start_timeout_s:g} s "
                f"({len(self._slots)} started; Ray has {what_is_free(self._ray)} free). Batches without a result were "
                "not run; raise start_timeout_s if building a worker takes longer, or see what its constructor waits "
                "for."
            )

    def _new_slot(self) -> _Slot:
        actor = self._actor_class.remote(self._spec.target, dict(self._spec.params), self._folder)
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
                problem = WorkerPoolError(f"worker {self._spec.target!r} could not be built: {reason.rstrip('.')}.")
                problem.add_note(f"In the worker process:\n{trace}")
                raise problem
            slot.probe, slot.was_ready = None, True

    # -- running -------------------------------------------------------------------------------------------------

    def fill(self, queue: Queue) -> None:
        """Submit what the workers have room for."""
        for _ in range(self._policy.in_flight_per_actor):  # breadth first: every worker gets one before any gets two
            for slot in self._slots:
                if slot.probe is None and self._has_room(slot, queue):
                    task = queue.next()
                    if task is None:
                        return
                    if not slot.calls:
                        slot.head_since = time.monotonic()
                    slot.calls.append(self._submit(slot, task))

    def _submit(self, slot: _Slot, task: Task) -> _Call:
        if not self._keeps:
            return _Call(task, slot.actor.run.remote(task.argument))
        reason, columns = slot.actor.run_and_keep.options(num_returns=2).remote(task.argument)
        return _Call(task, reason, columns)

    def _has_room(self, slot: _Slot, queue: Queue) -> bool:
        """Return whether a worker may be given the next task.

        A task that failed before has its worker to itself: the answer of the task before it can be lost in the crash,
        which then looks like that one's fault, but only once.
        """
        if not slot.calls:
            return True
        is_suspect = queue.is_suspect or slot.calls[-1].task.failures > 0
        return not is_suspect and len(slot.calls) < self._policy.in_flight_per_actor

    def references(self) -> list[Any]:
        """Return what a change in this stage would show in."""
        probes = [slot.probe for slot in self._slots if slot.probe is not None]
        return probes + [slot.calls[0].answer for slot in self._slots if slot.calls]

    def notice(self, arrived: list[Any]) -> None:
        """Settle the workers that came up, or failed to.

        Raises:
            WorkerPoolError: A worker cannot be built.
        """
        for slot in self._slots:
            if slot.probe is not None and slot.probe in arrived:
                self._check_probe(slot)

    def harvest(self, queue: Queue) -> Iterator[Done]:
        """Yield what is done; hand back to the queue what must be tried again."""
        self.check_stuck()
        for slot in self._slots:
            while slot.calls and self._has_arrived(slot.calls[0].answer):
                yield from self._settle(slot, queue)
            if slot.calls and time.monotonic() - slot.head_since > self._policy.batch_timeout_s:
                reason = f"no result after {self._policy.batch_timeout_s:g} s (batch_timeout_s); its worker was killed"
                self._replace(slot)
                yield from self._lose(slot, queue, reason)

    def _has_arrived(self, reference: object) -> bool:
        arrived, _ = self._ray.wait([reference], num_returns=1, timeout=0)
        return bool(arrived)

    def _settle(self, slot: _Slot, queue: Queue) -> Iterator[Done]:
        call = slot.calls[0]
        exceptions = self._ray.exceptions
        is_input_lost = False
        try:
            outcome = self._ray.get(call.answer)
        except exceptions.RayTaskError as error:  # the batch did not survive the way to the worker
            outcome, is_input_lost = describe(error), isinstance(error.cause, exceptions.ObjectLostError)
        except exceptions.ObjectLostError as error:
            outcome, is_input_lost = describe(error), True
        except exceptions.RayError as error:
            slot.probe, slot.probe_since = slot.actor.ready.remote(), time.monotonic()
            yield from self._lose(slot, queue, f"the worker process died ({type(error).__name__})")
            return
        slot.calls.popleft()
        slot.head_since = time.monotonic()
        if isinstance(outcome, str):
            yield from self._charge(call.task, queue, outcome, is_input_lost=is_input_lost)
        else:
            yield Done(call.task, call.kept if self._keeps else outcome)

    def _lose(self, slot: _Slot, queue: Queue, reason: str) -> Iterator[Done]:
        """Charge the batch the lost worker was at; hand those behind it back."""
        head, *behind = slot.calls
        slot.calls.clear()
        for call in reversed(behind):
            queue.put_back(call.task)
        yield from self._charge(head.task, queue, reason)

    def _charge(self, task: Task, queue: Queue, reason: str, *, is_input_lost: bool = False) -> Iterator[Done]:
        task.attempts += 1
        task.failures += 1
        if task.failures >= task.limit:
            yield Done(task, reason=reason)
        elif is_input_lost and task.output is not None:
            yield Done(task, reason=reason, is_input_lost=True)
        else:
            queue.put_back(task)
