"""Row blocks of one fixed size, so that a row's numbers do not depend on the batch it came in.

A matrix product may round a row differently when the number of rows changes (another kernel is chosen); with every
product taken over the same number of rows, padded with zeros, that cause is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["BLOCK_ROWS", "map_blocks", "padded_blocks"]

BLOCK_ROWS = 256
"""Rows per product: a single padded row costs 2 ms at 512 codes x 266 columns, and longer blocks gain nothing."""


def padded_blocks(
    *arrays: NDArray[np.generic], rows: int = BLOCK_ROWS
) -> Iterator[tuple[slice, list[NDArray[np.generic]]]]:
    """Yield `(slice, blocks)`: the rows covered and each array's block, zero-padded to exactly `rows` rows."""
    for start in range(0, len(arrays[0]), rows):
        covered = slice(start, min(start + rows, len(arrays[0])))
        yield covered, [_pad(array[covered], rows) for array in arrays]


def map_blocks(
    function: Callable[..., NDArray[np.float64]], *arrays: NDArray[np.generic], width: int
) -> NDArray[np.float64]:
    """Return `function` applied block by block, shape (N, width), float64."""
    out = np.empty((len(arrays[0]), width), dtype=np.float64)
    for covered, blocks in padded_blocks(*arrays):
        out[covered] = function(*blocks)[: covered.stop - covered.start]
    return out


def _pad(block: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
    if len(block) == rows:
        return np.ascontiguousarray(block)
    padded = np.zeros((rows, *block.shape[1:]), dtype=block.dtype)
    padded[: len(block)] = block
    return padded
