"""Result names: automatic ones, and the check of those a user gives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import DuplicateResultError, InvalidInputError
from mld_pipelines.records import split_model_key

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

__all__ = ["automatic_name", "checked_name"]

_ILLEGAL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_LENGTH = 300


def automatic_name(model_key: str, task: str, created_at: datetime, *, taken: Collection[str]) -> str:
    """Return `{model}_{version}_{task}_v{k}_{YYYYMMDD}` with the smallest free k of the UTC day.

    Args:
        model_key: `model_name@version_name`.
        task: `classification`, `od` or `od3d`.
        created_at: An aware instant in UTC.
        taken: Names that exist already.
    """
    name, version = split_model_key(model_key)
    k = 1
    while (candidate := f"{name}_{version}_{task}_v{k}_{created_at:%Y%m%d}") in taken:
        k += 1
    return candidate


def checked_name(result_name: str, *, taken: Collection[str]) -> str:
    """Return a name given by the user if it is usable and free; names are data, never paths.

    Raises:
        InvalidInputError: Empty, padded, too long, or with control characters.
        DuplicateResultError: A result of this name exists.
    """
    if not isinstance(result_name, str) or not result_name or result_name != result_name.strip():
        raise InvalidInputError(f"result_name must be a non-empty string without outer spaces, got {result_name!r}.")
    if len(result_name) > _MAX_LENGTH or _ILLEGAL.search(result_name):
        raise InvalidInputError(f"result_name {result_name!r} is too long or holds control characters.")
    if result_name in taken:
        raise DuplicateResultError(
            f"a result named {result_name!r} exists already and results are immutable; nothing was evaluated. "
            "Choose another name, or read it with get_result()."
        )
    return result_name
