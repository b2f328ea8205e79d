"""User columns: scalars per input, stored as one JSON object per row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mld_pipelines.exceptions import InvalidInputError

__all__ = ["metadata_rows"]


def metadata_rows(metadata: Any, n: int) -> list[str | None] | None:
    """Return one JSON object per input; None without metadata.

    Args:
        metadata: Mapping from names to a scalar (for all inputs) or a sequence of `n` scalars; or a sequence of `n`
            such mappings of scalars.
        n: Number of inputs in the batch.

    Raises:
        InvalidInputError: A length differs from `n`, a name is no string, or a value is no scalar.
    """
    if metadata is None:
        return None
    if isinstance(metadata, Mapping):
        columns = {_name(key): _spread(key, value, n) for key, value in metadata.items()}
        rows: list[Mapping[Any, Any]] = [{key: values[row] for key, values in columns.items()} for row in range(n)]
    elif isinstance(metadata, Sequence) and not isinstance(metadata, (str, bytes)) and len(metadata) == n:
        rows = [{} if item is None else item for item in metadata]
    else:
        raise InvalidInputError(
            f"metadata is a {type(metadata).__name__}; give a mapping of scalars or of sequences with {n} entries, or "
            f"a sequence of {n} mappings."
        )
    return [json.dumps({_name(key): _scalar(key, value) for key, value in row.items()}, sort_keys=True) for row in rows]


def _name(key: Any) -> str:
    if not isinstance(key, str) or not key:
        raise InvalidInputError(f"metadata name {key!r} is no non-empty string.")
    return key


def _spread(key: Any, value: Any, n: int) -> Sequence[Any]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return [value] * n
    if len(value) != n:
        raise InvalidInputError(f"metadata {key!r} has {len(value)} entries but the batch has {n} inputs.")
    return value


def _scalar(key: Any, value: Any) -> str | bool | int | float | None:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number, and a reader would lose the row's other values with it
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise InvalidInputError(f"metadata {key!r} holds a {type(value).__name__}; give a string, number, boolean or None.")
