"""One 64-bit number per detection: its place in the order by falling score.

Sorted ascending, the upper half rises as the score falls; the lower half rises as the row falls, since of equal scores
the devkit takes the later one first. Sorting plain numbers is what a processor does fastest, and rows, scores and ranks
can be read back from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["check_rows", "rows_of", "score_bits", "scores_of", "shifted", "sorted_keys"]

_HALF = np.uint64(32)
_ROWS = 1 << 32
_LOW = np.uint64(_ROWS - 1)
_SIGN, _REST = np.uint32(1 << 31), np.uint32((1 << 31) - 1)


def score_bits(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the bits of the scores, −0.0 as 0.0.

    Args:
        scores: (N,) finite.
    """
    return (scores + np.float32(0)).view(np.uint32)


def sorted_keys(
    scores: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """Yield the keys and rows of each class, best first.

    Args:
        scores: (N,) finite.
        labels: (N,) 0 … n_classes − 1.
        n_classes: Classes.
    """
    bits = score_bits(scores)
    falling = np.where(bits & _SIGN, bits, bits ^ _REST)
    keys = (falling.astype(np.uint64) << _HALF) | (_LOW - np.arange(len(scores), dtype=np.uint64))
    for label in range(n_classes):
        own = np.sort(keys[labels == label])
        yield own, rows_of(own)


def check_rows(rows: int) -> None:
    """Check that a key can hold the row.

    Raises:
        InvalidInputError: It cannot.
    """
    if rows > _ROWS:
        raise InvalidInputError(f"{rows} detections are more than the {_ROWS} that one evaluation holds.")


def rows_of(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the rows of detections.

    Args:
        keys: From `sorted_keys`.
    """
    return (_LOW - (keys & _LOW)).astype(np.int64)


def scores_of(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the scores, −0.0 as 0.0.

    Args:
        keys: From `sorted_keys`.
    """
    falling = (keys >> _HALF).astype(np.uint32)
    bits = np.where(falling & _SIGN, falling, falling ^ _REST)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def shifted(keys: NDArray[np.uint64], rows: int) -> NDArray[np.uint64]:
    """Return the keys of the same detections with rows counted from another start.

    Args:
        keys: From `sorted_keys`.
        rows: How many rows come before.
    """
    return keys - np.uint64(rows)
