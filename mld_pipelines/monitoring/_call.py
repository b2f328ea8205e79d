"""What a caller says about a call, in a form it cannot change any more."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from mld_pipelines.adapters import CompiledTap, FeatureTap
    from mld_pipelines.monitoring._background import Background

__all__ = ["NO_TIME", "CallEnd", "CallStart", "batch_size", "combined", "frozen", "rows_of", "stated_time"]

NO_TIME = 2**62
"""ns since 1970, the year 2116: ahead of every clock, so the row is flagged and carries the time of ingest."""


class CallStart(NamedTuple):
    """What a call needs before the forward pass, side by side: each attribute of the logger costs 1 to 3 µs of 50.

    Attributes:
        model: The wrapped model.
        tap: Its hook.
        is_attached: Whether the hook is on the head; until then calls are watched.
        hashes_inputs: Whether inputs are hashed.
    """

    model: Any
    tap: FeatureTap | CompiledTap
    is_attached: bool
    hashes_inputs: bool


class CallEnd(NamedTuple):
    """What a call needs behind the forward pass, which has emptied the caches.

    Attributes:
        put: Appends to the buffer.
        background: Knows what calls share.
        next_number: Counts the calls of the stream.
        clock: The caller's clock, or None.
        metadata: Metadata of every call, or None.
        plain: Type of an output that is the scores themselves, or None.
        row_bytes: Bytes of a row, 0 until one was seen.
    """

    put: Callable[[Any, int, int], None]
    background: Background
    next_number: Callable[[], int]
    clock: Callable[[], datetime | float] | None
    metadata: dict[str, Any] | None
    plain: type | None = None
    row_bytes: int = 0


def batch_size(args: Any) -> int:
    """Return the number of inputs where the output does not tell."""
    first = args[0] if args else None
    if isinstance(first, dict):
        first = next(iter(first.values()), None)
    shape = getattr(first, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else 1
    return len(first) if isinstance(first, (list, tuple)) else 1


def frozen(request_ids: Any) -> Any:
    """Return request ids that the caller cannot change any more."""
    if hasattr(request_ids, "clone"):
        return request_ids.clone()
    if hasattr(request_ids, "copy"):
        return request_ids.copy()
    if request_ids is None or isinstance(request_ids, (str, bytes, int)):
        return request_ids
    return tuple(request_ids)  # an iterator can be read once, but the ids are wanted twice


def combined(constant: dict[str, Any] | None, metadata: Any) -> Any:
    """Return the metadata of a call on top of the logger's own."""
    if metadata is None or constant is None:
        return constant if metadata is None else metadata
    return {**constant, **metadata} if isinstance(metadata, dict) else metadata


def rows_of(args: Any) -> int:
    """Return the number of inputs of a call that could not be logged; 1 where even that cannot be told."""
    try:
        return batch_size(args)
    except Exception:
        return 1


def stated_time(clock: Callable[[], datetime | float] | None) -> int:
    """Return what a caller's clock says, in ns since 1970, within what 64 bits hold."""
    stated = time.time() if clock is None else clock()
    if isinstance(stated, datetime):
        stated = (stated if stated.tzinfo is not None else stated.replace(tzinfo=UTC)).timestamp()
    return max(-NO_TIME, min(round(stated * 1e9), NO_TIME))
