"""The overlap of two boxes as an edge integral, for NumPy, torch and numba from one source, and the kernels on it.

Green's theorem: the area of A ∩ B is half the sum, over the edges of A inside B and of B inside A, of the distance of
the edge from A's centre times its length. In the frame of A an edge is clipped by comparing crossings, so there is
no sort, no list of vertices and no branch.

The crossing of an edge of A with one of B ends a piece of both. It is computed once, as a position along B's edge, and
its position along A's edge follows from that point. The two pieces therefore meet to the last bit, however wrong the
point is along two nearly parallel edges, where it hardly matters for the area: no tolerance decides what is parallel.

Everything compiled on the formula stays in this file, because numba renews what it keeps when the file changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.geometry._jit import compiled, inlined

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ROWS", "aligned", "make_iou", "make_length", "make_overlap", "pairwise", "suppress"]

#: Rows of a prepared batch: see `prepare`. The last is the area, or the volume.
ROWS = X, Y, HALF_L, HALF_W, COS, SIN, RADIUS, Z, HALF_H, MEASURE = tuple(range(10))

#: Least sine and cosine of the relative yaw, so that their reciprocals, and positions ≤ 1e9 m times them, are finite.
_TURN = 1e-150
#: Smallest union that is divided by: two boxes without extent have IoU 0. Both are bounds and not addends, because LLVM
#: does not vectorise a sum with so small a constant (28 instead of 5.5 ns per pair, measured with llvmlite 0.50).
_EMPTY = 1e-300
#: Cells of the suppression grid per box, at most; more cost more to clear than they save.
_CELLS_PER_BOX = 4
#: Side of a grid cell in largest radii.
_CELL = 0.5


def make_length(xp: Any) -> Any:
    """Return the function that gives the length of an edge between two pairs of crossings.

    Args:
        xp: `numpy` or `torch`.
    """

    def length(p: Any, q: Any, r: Any, s: Any, half: Any) -> Any:
        """Length of [-half, half] between p and q and between r and s."""
        top = xp.minimum(xp.minimum(xp.maximum(p, q), xp.maximum(r, s)), half)
        bottom = xp.maximum(xp.maximum(xp.minimum(p, q), xp.minimum(r, s)), -half)
        return xp.maximum(top - bottom, 0.0 * half)

    return length


def make_overlap(xp: Any, length: Any) -> Any:
    """Return the function that gives the area of overlap of two rectangles.

    Args:
        xp: `numpy` or `torch`.
        length: What `make_length` returned, compiled or not.
    """

    def overlap(dx: Any, dy: Any, al: Any, aw: Any, ac: Any, as_: Any, bl: Any, bw: Any, bc: Any, bs: Any) -> Any:
        """Area of overlap of A at the origin and B at (dx, dy); half lengths, half widths, cosines and sines."""
        x, y = ac * dx + as_ * dy, ac * dy - as_ * dx  # B's centre in A's frame
        c, s = ac * bc + as_ * bs, ac * bs - as_ * bc  # B's heading in A's frame
        least = 0.0 * al + _TURN
        c, s = xp.copysign(xp.maximum(abs(c), least), c), xp.copysign(xp.maximum(abs(s), least), s)
        rc, rs = 1.0 / c, 1.0 / s
        # a point on each edge of B: left and right run along (c, s), front and back along (-s, c)
        left_x, left_y, right_x, right_y = x - s * bw, y + c * bw, x + s * bw, y - c * bw
        front_x, front_y, back_x, back_y = x + c * bl, y + s * bl, x - c * bl, y - s * bl
        # where they cross A's lines x = al, x = -al, y = aw, y = -aw, as positions along B's edges
        left_1, left_2, left_3, left_4 = (
            (al - left_x) * rc,
            (-al - left_x) * rc,
            (aw - left_y) * rs,
            (-aw - left_y) * rs,
        )
        right_1, right_2 = (al - right_x) * rc, (-al - right_x) * rc
        right_3, right_4 = (aw - right_y) * rs, (-aw - right_y) * rs
        front_1, front_2 = (front_x - al) * rs, (front_x + al) * rs
        front_3, front_4 = (aw - front_y) * rc, (-aw - front_y) * rc
        back_1, back_2, back_3, back_4 = (back_x - al) * rs, (back_x + al) * rs, (aw - back_y) * rc, (-aw - back_y) * rc
        # B's edges inside A, each times its distance from A's centre
        along, across = x * c + y * s, y * c - x * s
        total = (bw + across) * length(left_1, left_2, left_3, left_4, bl)
        total = total + (bw - across) * length(right_1, right_2, right_3, right_4, bl)
        total = total + (bl + along) * length(front_1, front_2, front_3, front_4, bw)
        total = total + (bl - along) * length(back_1, back_2, back_3, back_4, bw)
        # A's edges inside B, through the same crossings
        total = total + al * (
            length(left_y + left_1 * s, right_y + right_1 * s, front_y + front_1 * c, back_y + back_1 * c, aw)
            + length(left_y + left_2 * s, right_y + right_2 * s, front_y + front_2 * c, back_y + back_2 * c, aw)
        )
        total = total + aw * (
            length(left_x + left_3 * c, right_x + right_3 * c, front_x - front_3 * s, back_x - back_3 * s, al)
            + length(left_x + left_4 * c, right_x + right_4 * c, front_x - front_4 * s, back_x - back_4 * s, al)
        )
        return 0.5 * total

    return overlap


def make_iou(xp: Any, overlap: Any) -> Any:
    """Return the function that gives the IoU of two prepared boxes.

    Args:
        xp: `numpy` or `torch`.
        overlap: What `make_overlap` returned, compiled or not.
    """

    def iou(
        dx: Any, dy: Any, dz: Any,
        al: Any, aw: Any, ac: Any, as_: Any, ah: Any, a: Any,
        bl: Any, bw: Any, bc: Any, bs: Any, bh: Any, b: Any,
    ) -> Any:  # fmt: skip
        """IoU of A at the origin and B at (dx, dy, dz); the last of each is its area or volume."""
        height = xp.minimum(ah, dz + bh) - xp.maximum(-ah, dz - bh)
        shared = overlap(dx, dy, al, aw, ac, as_, bl, bw, bc, bs) * xp.maximum(height, 0.0 * ah)
        shared = xp.maximum(xp.minimum(shared, xp.minimum(a, b)), 0.0 * a)
        return shared / xp.maximum(a + b - shared, 0.0 * a + _EMPTY)

    return iou


_length = inlined(make_length(np))
_overlap = inlined(make_overlap(np, _length))
_iou = inlined(make_iou(np, _overlap))


@inlined
def _scratch(count: int) -> tuple[NDArray[np.uint32], NDArray[np.float64], NDArray[np.float64]]:
    """Return space for a list of boxes and one more, for their columns and for their IoUs."""
    return np.empty(count + 1, np.uint32), np.empty((len(ROWS), count)), np.empty(count)


@inlined
def _row(
    a: NDArray[np.float64],
    i: int,
    b: NDArray[np.float64],
    near: NDArray[np.uint32],
    found: int,
    other: NDArray[np.float64],
    shared: NDArray[np.float64],
) -> None:
    """Fill `shared` with the IoU of box i of `a` and the `found` boxes of `b` that `near` lists; `other` is scratch."""
    x, y, z = a[X, i], a[Y, i], a[Z, i]
    half_l, half_w, cos, sin = a[HALF_L, i], a[HALF_W, i], a[COS, i], a[SIN, i]
    half_h, measure = a[HALF_H, i], a[MEASURE, i]
    for row in range(len(b)):
        for k in range(found):
            other[row, k] = b[row, near[k]]
    for k in range(found):
        shared[k] = _iou(
            other[X, k] - x, other[Y, k] - y, other[Z, k] - z, half_l, half_w, cos, sin, half_h, measure,
            other[HALF_L, k], other[HALF_W, k], other[COS, k], other[SIN, k], other[HALF_H, k], other[MEASURE, k],
        )  # fmt: skip


@compiled
def pairwise(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Fill (N, M) zeros with the IoU of prepared (10, N) and (10, M).

    Most pairs of a scene are far apart. A row first marks the boxes whose circumscribed circles meet its own and lists
    them, both without a branch, then computes those side by side.
    """
    count = b.shape[1]
    near, other, shared = _scratch(count)
    meets = np.empty(count, np.uint8)
    for i in range(a.shape[1]):
        x, y, radius = a[X, i], a[Y, i], a[RADIUS, i]
        for j in range(count):
            dx, dy, apart = b[X, j] - x, b[Y, j] - y, b[RADIUS, j] + radius
            meets[j] = dx * dx + dy * dy <= apart * apart
        found = 0
        for j in range(count):
            near[found] = j
            found += meets[j]
        _row(a, i, b, near, found, other, shared)
        for k in range(found):
            out[i, near[k]] = shared[k]


@compiled
def aligned(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Fill (N,) with the IoU of each column of prepared (10, N) with the same column of the other."""
    for i in range(a.shape[1]):
        out[i] = _iou(
            b[X, i] - a[X, i], b[Y, i] - a[Y, i], b[Z, i] - a[Z, i],
            a[HALF_L, i], a[HALF_W, i], a[COS, i], a[SIN, i], a[HALF_H, i], a[MEASURE, i],
            b[HALF_L, i], b[HALF_W, i], b[COS, i], b[SIN, i], b[HALF_H, i], b[MEASURE, i],
        )  # fmt: skip


@compiled
def _grid(boxes: NDArray[np.float64]) -> tuple[float, float, float, float, int, int, float]:
    """Return a grid as left, low, cells per metre in x and y, columns, lines and the largest radius."""
    most, widest = np.sqrt(_CELLS_PER_BOX * boxes.shape[1]), boxes[RADIUS].max()
    reach = widest * _CELL
    left, right = boxes[X].min(), boxes[X].max()
    low, high = boxes[Y].min(), boxes[Y].max()
    columns = int(min((right - left) / (reach + _EMPTY), most)) + 1
    lines = int(min((high - low) / (reach + _EMPTY), most)) + 1
    return left, low, columns / max(right - left, _TURN), lines / max(high - low, _TURN), columns, lines, widest


@inlined
def _cell(offset: float, per_metre: float, cells: int) -> int:
    """Return the cell at a distance from the grid's origin; what lies outside belongs to the border."""
    return int(min(max(offset * per_metre, 0.0), cells - 1.0))


@compiled
def _arrange(boxes: NDArray[np.float64], grid: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the place of each box when sorted by cell, the box at each place, and the place where each cell starts."""
    left, low, per_x, per_y, columns, lines, _ = grid
    count = boxes.shape[1]
    cell, place, rank = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    start = np.zeros(columns * lines + 1, np.int64)
    for i in range(count):
        cell[i] = _cell(boxes[Y, i] - low, per_y, lines) * columns + _cell(boxes[X, i] - left, per_x, columns)
        start[cell[i] + 1] += 1
    start = np.cumsum(start)
    free = start.copy()
    for i in range(count):
        place[i] = free[cell[i]]
        rank[place[i]] = i
        free[cell[i]] += 1
    return place, rank, start


@inlined
def _list_near(
    i: int,
    boxes: NDArray[np.float64],
    groups: NDArray[np.int64],
    alive: NDArray[np.int64],
    rank: NDArray[np.int64],
    start: NDArray[np.int64],
    grid: Any,
    near: NDArray[np.uint32],
) -> int:
    """List the places of living later boxes of the group whose circles meet that of place `i`; return how many."""
    left, low, per_x, per_y, columns, lines, widest = grid
    x, y, radius, group, turn = boxes[X, i], boxes[Y, i], boxes[RADIUS, i], groups[i], rank[i]
    reach = radius + widest
    first, last = _cell(x - reach - left, per_x, columns), _cell(x + reach - left, per_x, columns)
    found = 0
    for line in range(_cell(y - reach - low, per_y, lines), _cell(y + reach - low, per_y, lines) + 1):
        for j in range(start[line * columns + first], start[line * columns + last + 1]):
            dx, dy, apart = boxes[X, j] - x, boxes[Y, j] - y, boxes[RADIUS, j] + radius
            near[found] = j
            found += alive[j] & (rank[j] > turn) & (groups[j] == group) & (dx * dx + dy * dy <= apart * apart)
    return found


@compiled
def suppress(
    boxes: NDArray[np.float64], group: NDArray[np.int64], limit: NDArray[np.float64], kept: NDArray[np.int64]
) -> int:
    """Keep boxes greedily in their order; fill `kept` until it is full and return how many there are.

    A kept box meets its surroundings in a grid only: first the list of those whose circles meet its own, without a
    branch, then their IoUs side by side.

    Args:
        boxes: Prepared (10, N), N ≥ 1, by falling score.
        group: (N,) boxes suppress each other within a group only.
        limit: (N,) IoU above which a kept box suppresses another.
        kept: Result, at most (N,).
    """
    count = boxes.shape[1]
    grid = _grid(boxes)
    place, rank, start = _arrange(boxes, grid)
    b, groups = boxes[:, rank], group[rank]
    alive = np.ones(count, np.int64)
    near, other, shared = _scratch(count)
    total = 0
    for turn in range(count):
        i = place[turn]
        if total == len(kept) or alive[i] == 0:
            continue
        kept[total] = turn
        total += 1
        found = _list_near(i, b, groups, alive, rank, start, grid, near)
        _row(b, i, b, near, found, other, shared)
        for k in range(found):
            alive[near[k]] = shared[k] <= limit[turn]
    return total
