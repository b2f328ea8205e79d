"""The chosen items of a dataset: still those that were traced, and read once where they fit."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Original", "Originals", "held_bytes", "with_own_arrays"]

Item = TypeVar("Item")

_CACHE_BYTES = 256 * 2**20
"""Originals that a worker keeps instead of reading them once per set: 400 images of 224 × 224 × 3 bytes need 60 MB, 400
clouds of 35,000 points 220 MB."""

_SMALL = (str, bytes, bool, int, float, type(None))


class Original(NamedTuple, Generic[Item]):
    """One item as it was read.

    Attributes:
        item: What the dataset gave.
        input_id: Its name.
        size: Bytes it holds.
    """

    item: Item
    input_id: str
    size: float


class Originals(Generic[Item]):
    """Reads chosen items of a dataset by their position among the chosen.

    Args:
        read: From a place in the dataset to the item there.
        indices: Places of the chosen items, ascending.
        chosen_ids: Their input ids, as traced.
    """

    def __init__(
        self, read: Callable[[int], Original[Item]], *, indices: Sequence[int], chosen_ids: Sequence[str]
    ) -> None:
        self.ids = list(chosen_ids)
        self._read, self._indices = read, list(indices)
        self._kept: dict[int, Item] = {}
        self._size = 0.0

    def __len__(self) -> int:
        """Return the number of chosen items."""
        return len(self.ids)

    def __getitem__(self, position: int) -> Item:
        """Return an item.

        Raises:
            InvalidInputError: Another item is in its place now.
        """
        if position in self._kept:
            return self._kept[position]
        index, expected = self._indices[position], self.ids[position]
        found = self._read(index)
        if found.input_id != expected:
            raise InvalidInputError(
                f"item {index} of the dataset is {found.input_id!r}, but {expected!r} was traced there: the dataset "
                "has changed. Trace it again."
            )
        if self._size + found.size <= _CACHE_BYTES:
            self._kept[position] = found.item
            self._size += found.size
        return found.item


def held_bytes(value: Any) -> float:
    """Return the bytes of the arrays in a value, whatever they are nested in; infinite where an object hides them."""
    if hasattr(value, "nbytes"):
        return float(value.nbytes)
    if isinstance(value, Mapping):
        return sum(held_bytes(one) for one in value.values())
    if isinstance(value, (list, tuple)):
        return sum(held_bytes(one) for one in value)
    return 0.0 if isinstance(value, _SMALL) else math.inf


def with_own_arrays(value: Any) -> Any:
    """Return a value whose arrays are copies, in whatever dicts, lists and tuples they are; other objects are the same.

    A model that writes into what it is given would otherwise write into the original of every later copy.
    """
    if hasattr(value, "nbytes"):
        return value.clone() if hasattr(value, "clone") else copy.copy(value)
    if type(value) is dict:
        return {name: with_own_arrays(one) for name, one in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(with_own_arrays(one) for one in value)
    return value
