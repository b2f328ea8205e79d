"""Which ranges of a dataset are run when: whole batches first, the items of a batch that failed alone.

One item that breaks a model, or kills its process, would otherwise take 63 good ones with it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mld_pipelines.compute import BatchResult, WorkerPool

__all__ = ["Part", "RangeWork"]

_ALONE_ATTEMPTS = 2
"""Least attempts of an item alone: the answer of the one before a crash can be lost in it, but only once."""

_FUTILE_SPLITS = 3
"""Batches in a row whose items all failed, too, after which batches are given up whole: the model is broken, not the
data, and a million items would each be tried alone."""


class Part(NamedTuple):
    """The outcome of a whole batch, or of one item of it.

    Attributes:
        position: Place of the first item in its batch.
        result: What became of it.
    """

    position: int
    result: BatchResult


@dataclass(slots=True)
class _Entry:
    seq: int
    start: int
    stop: int
    limit: int
    may_split: bool


@dataclass(slots=True)
class _Split:
    """A batch whose items run alone."""

    entry: _Entry
    parts: list[Part] = field(default_factory=list)


class RangeWork:
    """Hands out the batches of a run and takes their results.

    A batch that fails is split: each of its items is run again alone, before any fresh batch. With `max_attempts` n an
    item may fail once in its batch and n - 1 times alone (twice where n is less).

    Args:
        ranges: (start, stop) of every batch of the dataset.
        numbers: Batches to run, in this order.
        max_attempts: Times a batch of one item, or one that is not split, may fail before it is given up.
        splits: Whether the items of a batch that failed are run alone.
    """

    def __init__(
        self, ranges: Sequence[tuple[int, int]], *, numbers: Iterable[int], max_attempts: int, splits: bool = True
    ) -> None:
        self._fresh = deque((seq, *ranges[seq]) for seq in numbers)
        self._splits_at_all = splits
        self._alone: deque[_Entry] = deque()
        self._entries: list[_Entry] = []
        self._limits: dict[tuple[int, int], int] = {}
        self._splits: dict[int, _Split] = {}
        self._max_attempts = max_attempts
        self._futile = 0

    @property
    def is_left(self) -> bool:
        """Whether there is something to run."""
        return bool(self._fresh or self._alone)

    def run(self, pool: WorkerPool) -> Iterator[tuple[int, list[Part]]]:
        """Run everything; yield the number of a batch and its parts as they are complete."""
        while self.is_left:
            for result in pool.map(self.batches(), attempts=self.attempts):
                if (settled := self.settle(result)) is not None:
                    yield settled

    def batches(self) -> Iterator[Mapping[str, int]]:
        """Yield what a worker gets, for one `map`; what fails at its end is left for the next."""
        self._entries = []
        while self.is_left:
            entry = self._alone.popleft() if self._alone else self._next()
            self._entries.append(entry)
            self._limits[entry.start, entry.stop] = entry.limit
            yield {"start": entry.start, "stop": entry.stop}

    def attempts(self, batch: Mapping[str, int]) -> int:
        """Return how often a batch that was handed out may fail."""
        return self._limits.pop((batch["start"], batch["stop"]))

    def settle(self, result: BatchResult) -> tuple[int, list[Part]] | None:
        """Take a result; return the number of its batch and its parts once they are complete.

        Args:
            result: Of the `map` over `batches`.
        """
        entry = self._entries[result.index]
        split = self._splits.get(entry.seq)
        if split is None:
            return self._settle_whole(entry, result)
        split.parts.append(Part(entry.start - split.entry.start, replace(result, attempts=result.attempts + 1)))
        if len(split.parts) < split.entry.stop - split.entry.start:
            return None
        del self._splits[entry.seq]
        is_futile = all(part.result.failed for part in split.parts)
        self._futile = self._futile + 1 if is_futile else 0
        return entry.seq, sorted(split.parts, key=lambda part: part.position)

    def _settle_whole(self, entry: _Entry, result: BatchResult) -> tuple[int, list[Part]] | None:
        if not result.failed or not entry.may_split:
            self._futile = self._futile if result.failed else 0
            return entry.seq, [Part(0, result)]
        self._splits[entry.seq] = _Split(entry)
        limit = max(_ALONE_ATTEMPTS, self._max_attempts - 1)
        alone = (_Entry(entry.seq, item, item + 1, limit, may_split=False) for item in range(entry.start, entry.stop))
        self._alone.extend(alone)
        return None

    def _next(self) -> _Entry:
        seq, start, stop = self._fresh.popleft()
        may_split = self._splits_at_all and stop - start > 1 and self._futile < _FUTILE_SPLITS
        return _Entry(seq, start, stop, 1 if may_split else self._max_attempts, may_split)
