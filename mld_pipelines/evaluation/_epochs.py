"""Which epochs an evaluation is about (docs/storage.md#epochs)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mld_pipelines.exceptions import InvalidInputError, UnknownEpochError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EpochChoice", "EpochSpec", "format_spec", "parse_spec", "resolve_epochs"]

EpochSpec = Literal["latest"] | int | None


@dataclass(frozen=True, slots=True)
class EpochChoice:
    """The epochs of an evaluation; `None` among them stands for rows traced without an epoch."""

    epochs: tuple[int | None, ...]
    warnings: tuple[str, ...] = ()


def resolve_epochs(spec: EpochSpec, available: Sequence[int | None]) -> EpochChoice:
    """Return the epochs that a specification means, given those that were traced.

    Args:
        spec: `"latest"` (largest integer, else the rows without epoch), an integer, or None for every epoch apart.
        available: Traced epochs, None included where rows carry none.

    Raises:
        InvalidInputError: The specification is of another type or negative.
        UnknownEpochError: The integer was not traced.
    """
    numbers = sorted(epoch for epoch in available if epoch is not None)
    if spec is None:
        return EpochChoice((*([None] if None in available else []), *numbers))
    if spec == "latest":
        return _latest(numbers, has_null=None in available)
    if isinstance(spec, (bool, np.bool_)) or not isinstance(spec, (int, np.integer)) or spec < 0:
        raise InvalidInputError(f"n_epoch must be 'latest', a non-negative integer or None, got {spec!r}.")
    if spec not in numbers:
        traced = ", ".join("without epoch" if epoch is None else str(epoch) for epoch in available) or "none"
        raise UnknownEpochError(f"epoch {spec} was not traced; traced epochs: {traced}.")
    return EpochChoice((int(spec),))


def _latest(numbers: list[int], *, has_null: bool) -> EpochChoice:
    if not numbers:
        return EpochChoice((None,))
    if not has_null:
        return EpochChoice((numbers[-1],))
    return EpochChoice((numbers[-1],), (f"rows traced without n_epoch were ignored: epoch {numbers[-1]} is newer.",))


def format_spec(spec: EpochSpec) -> str:
    """Return the stored form: `latest`, `all` or the number."""
    return "all" if spec is None else str(spec)


def parse_spec(text: str) -> EpochSpec:
    """Return the specification behind its stored form.

    Raises:
        InvalidInputError: The text is none of `latest`, `all`, a non-negative integer.
    """
    if text == "latest":
        return "latest"
    if text == "all":
        return None
    if text.isdecimal():
        return int(text)
    raise InvalidInputError(f"n_epoch {text!r} is none of 'latest', 'all' or a non-negative integer.")
