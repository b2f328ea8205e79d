"""Progress of a run: to a callable (a Dagster log) or as a bar on a terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Progress", "reporting"]

Progress: TypeAlias = "Callable[[int, int], object] | bool | None"


@contextmanager
def reporting(progress: Progress, *, total: int, done: int, title: str) -> Iterator[Callable[[], None]]:
    """Yield a function to call after every batch.

    Args:
        progress: Called with (finished, total); True draws a bar on standard error; None or False is silent.
        total: Batches in all.
        done: Batches finished before.
        title: Text before the bar.
    """
    finished = done

    def advance() -> None:
        nonlocal finished
        finished += 1
        show(finished, total)

    if callable(progress):
        show = progress
        yield advance
    elif progress:
        with _bar(title, total, done) as show:
            yield advance
    else:
        yield lambda: None


@contextmanager
def _bar(title: str, total: int, done: int) -> Iterator[Callable[[int, int], object]]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda finished, _total: bar.update(task, completed=finished)
