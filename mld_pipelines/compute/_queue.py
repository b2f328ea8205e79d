"""The batches one pool of actors has still to run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Queue", "Task"]


@dataclass(slots=True, eq=False)
class Task:
    """One batch on its way.

    Attributes:
        index: Position of the batch in the input.
        batch: What the first worker gets.
        limit: Times it may fail in one stage before it is given up.
        attempts: Times it was charged with an attempt, over all stages.
        failures: Times it failed in the stage it is in.
        output: Reference of what the stage before made of it; None in the first stage.
    """

    index: int
    batch: Mapping[str, Any]
    limit: int
    attempts: int = 0
    failures: int = 0
    output: Any = None

    @property
    def argument(self) -> Any:
        """What the worker of its stage is called with: Ray puts the value in the place of a reference."""
        return self.batch if self.output is None else self.output


class Queue:
    """Tasks still to be submitted: those handed back first, then fresh ones, drawn lazily.

    Args:
        batches: The caller's input; nothing for the later stages of a pipeline, which are handed theirs.
        limit: Times a batch may fail in one stage; needed where there is an input.
        gate: Fresh ones are drawn only while it says True (what comes after has room).
    """

    def __init__(
        self,
        batches: Iterable[Mapping[str, Any]] = (),
        *,
        limit: Callable[[Mapping[str, Any]], int] = lambda _: 1,
        gate: Callable[[], bool] | None = None,
    ) -> None:
        self._fresh = enumerate(batches)
        self._limit = limit
        self._returned: deque[Task] = deque()
        self._handed: deque[Task] = deque()
        self._gate = gate
        self._drained = False

    def __len__(self) -> int:
        """Return the number of tasks that wait, apart from the caller's input."""
        return len(self._returned) + len(self._handed)

    @property
    def exhausted(self) -> bool:
        """Whether nothing waits and the input has come to its end."""
        return self._drained and not len(self)

    @property
    def is_suspect(self) -> bool:
        """Whether the next task has failed before."""
        return bool(self._returned) and self._returned[0].failures > 0

    def next(self) -> Task | None:
        """Return the next task, or None when there is none at this moment."""
        if self._returned:
            return self._returned.popleft()
        if self._handed:
            return self._handed.popleft()
        if self._drained or (self._gate is not None and not self._gate()):
            return None
        entry = next(self._fresh, None)
        self._drained = entry is None
        return None if entry is None else Task(*entry, limit=self._limit(entry[1]))

    def put_back(self, task: Task) -> None:
        """Queue a task again, before the fresh ones."""
        self._returned.appendleft(task)

    def hand(self, task: Task) -> None:
        """Queue a task that the stage before is done with."""
        self._handed.append(task)
