"""Names and identifiers: models, inputs, streams."""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["model_key", "normalise_input_ids", "split_model_key", "uuid7"]

#: Dagster partition keys refuse control characters and "..."; "@" separates the two halves of a model key.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f@]|\.\.\.")
_MAX_NAME = 200


def model_key(model_name: str, version_name: str) -> str:
    """Return `"{model_name}@{version_name}"`, the key of a model everywhere in the platform.

    Raises:
        InvalidInputError: A name is not a string, empty, padded, too long, or holds "@", "..." or a control character.
    """
    return f"{_checked_name('model_name', model_name)}@{_checked_name('version_name', version_name)}"


def split_model_key(key: str) -> tuple[str, str]:
    """Return `(model_name, version_name)` of a model key.

    Raises:
        InvalidInputError: The key does not hold exactly one "@".
    """
    name, separator, version = key.partition("@")
    if not separator or not name or not version or "@" in version:
        raise InvalidInputError(f"model key {key!r} is not of the form 'model_name@version_name'.")
    return name, version


def _checked_name(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be a string, not {type(value).__name__} ({value!r}).")
    if not value or value != value.strip():
        raise InvalidInputError(f"{what} must not be empty or padded with spaces, got {value!r}.")
    if len(value) > _MAX_NAME:
        raise InvalidInputError(f"{what} has {len(value)} characters; at most {_MAX_NAME} are allowed.")
    if found := _FORBIDDEN.search(value):
        raise InvalidInputError(f"{what} {value!r} holds {found.group()!r}, which model keys reserve; rename it.")
    return value


def normalise_input_ids(input_ids: Any, n: int, *, what: str = "input_ids") -> list[str]:
    """Return `n` input ids as strings; an int and its decimal string are the same id.

    Args:
        input_ids: Sequence, numpy array or tensor of `n` ints or strings.
        n: Number of inputs in the batch.
        what: Name of the caller's argument, for messages.

    Raises:
        InvalidInputError: Wrong length, or an id that is neither int nor non-empty string (floats are refused,
            because 1.0 and 1 would silently be two inputs).
    """
    if input_ids is None:
        raise InvalidInputError(f"{what} is required: one int or string per input, stable across runs.")
    values = _as_list(input_ids)
    if len(values) != n:
        raise InvalidInputError(
            f"{what} has {len(values)} entries but the batch has {n}: every input takes one id and one label."
        )
    return [_one_id(value) for value in values]


def _as_list(input_ids: Any) -> list[Any]:
    if isinstance(input_ids, (str, bytes)):
        return [input_ids]
    if hasattr(input_ids, "tolist"):  # numpy arrays and tensors of any device
        values = input_ids.tolist()
        return values if isinstance(values, list) else [values]
    if isinstance(input_ids, (int, float)):
        return [input_ids]
    try:
        iterable: Iterable[Any] = input_ids
        return list(iterable)
    except TypeError:
        raise InvalidInputError(f"ids are a {type(input_ids).__name__}; give one int or string per input.") from None


def _one_id(value: Any) -> str:
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise InvalidInputError(f"input id {value!r} is a {type(value).__name__}; use an int or a non-empty string.")
    return str(value)


_uuid_lock = threading.Lock()
_last_uuid7 = 0


def uuid7() -> str:
    """Return a UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, then random bits.

    Ids made by one process sort by the moment of their making.
    """
    global _last_uuid7  # noqa: PLW0603 - the monotonic guard of RFC 9562, section 6.2
    random_bits = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80 | random_bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    with _uuid_lock:
        if value <= _last_uuid7:
            value = _last_uuid7 + 1
        _last_uuid7 = value
    return str(uuid.UUID(int=value))


def _renew_lock_after_fork() -> None:
    global _uuid_lock  # noqa: PLW0603 - a lock held by another thread at fork time would never be released
    _uuid_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock_after_fork)
