"""Clocks: interleaved repeats and their quantiles."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["interleaved", "median", "quantile", "seconds_of", "uncollected"]


def seconds_of(action: Callable[[], object]) -> float:
    """Return the wall seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    before: Callable[[str], None] = lambda _: None,
    warm: bool = True,
) -> dict[str, list[float]]:
    """Time several actions in turns, so that a change of the machine meets all of them.

    Args:
        actions: What to time, by name.
        repeats: Turns.
        before: Called with the name before each timed call, untimed.
        warm: Whether one untimed turn comes first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(repeats + warm):
        for name, action in actions.items():
            before(name)
            with uncollected():
                spent = seconds_of(action)
            if turn >= warm:
                seconds[name].append(spent)
    return seconds


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python's garbage collector out of a timing."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value at a share of the sorted values (nearest rank)."""
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return quantile(values, 0.5)
