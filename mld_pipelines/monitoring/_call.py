"""What a caller says about a call, in a form it cannot change any more."""

from __future__ import annotations

from typing import Any

__all__ = ["batch_size", "combined", "frozen"]


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
