"""The kernels of `_edges` with whole arrays: for NumPy without numba, and for tensors on a GPU."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.geometry._boxes import is_tensor, module_of
from mld_pipelines.geometry._edges import RADIUS, ROWS, X, Y, Z, make_iou, make_length, make_overlap

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

__all__ = ["aligned", "pairwise", "suppress"]

#: Pairs whose circles are compared at once; some 100 MB of intermediates.
_PAIRS = 1 << 22
#: Rows of a prepared batch that the formula takes for each box besides its position.
_SHAPE = tuple(row for row in ROWS if row not in (X, Y, Z, RADIUS))


@cache
def _formula(xp: ModuleType) -> Any:
    return make_iou(xp, make_overlap(xp, make_length(xp)))


def aligned(a: Any, b: Any) -> Any:
    """Return (N,) IoU of each column of prepared (10, N) with the same column of the other."""
    return _formula(module_of(a))(
        b[X] - a[X], b[Y] - a[Y], b[Z] - a[Z], *(a[row] for row in _SHAPE), *(b[row] for row in _SHAPE)
    )


def pairwise(a: Any, b: Any) -> Any:
    """Return (N, M) IoU of prepared (10, N) with (10, M); computed where circumscribed circles meet."""
    out = 0.0 * (a[X][:, None] + b[X][None, :])
    step = max(1, _PAIRS // max(1, b.shape[1]))
    for begin in range(0, a.shape[1], step):
        rows = slice(begin, begin + step)
        i, j = _near(a[:, rows], b)
        out[rows][i, j] = aligned(a[:, rows][:, i], b[:, j])
    return out


def _near(a: Any, b: Any) -> tuple[Any, Any]:
    """Return the indices of pairs whose circles meet."""
    dx, dy = b[X][None, :] - a[X][:, None], b[Y][None, :] - a[Y][:, None]
    apart = b[RADIUS][None, :] + a[RADIUS][:, None]
    met = dx * dx + dy * dy <= apart * apart
    found = met.nonzero(as_tuple=True) if is_tensor(met) else met.nonzero()
    return found[0], found[1]


def suppress(
    boxes: NDArray[np.float64], group: NDArray[np.int64], limit: NDArray[np.float64], kept: NDArray[np.int64]
) -> int:
    """Keep boxes greedily in their order, as the kernel of the same name does."""
    count = boxes.shape[1]
    alive, total = np.ones(count, np.bool_), 0
    step = max(1, _PAIRS // count)
    for begin in range(0, count, step):
        i, j = _near(boxes[:, begin : begin + step], boxes)
        i = i + begin
        later = (j > i) & (group[i] == group[j])
        i, j = i[later], j[later]
        hit = aligned(boxes[:, i], boxes[:, j]) > limit[i]
        i, j = i[hit], j[hit]
        start = np.searchsorted(i, np.arange(begin, min(begin + step, count) + 1))
        for turn in range(begin, min(begin + step, count)):
            if not alive[turn]:
                continue
            if total == len(kept):
                return total
            kept[total] = turn
            total += 1
            alive[j[start[turn - begin] : start[turn - begin + 1]]] = False
    return total
