"""Fixed histogram bins of the window states, and the numbers read back from them.

All edges are constants of the format: histograms of any two windows add up without looking at the data again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BATCH_BINS",
    "BOX_COUNT_BINS",
    "BOX_COUNT_EDGES",
    "LATENCY_BINS",
    "LATENCY_EDGES_MS",
    "LATENCY_RELATIVE_ERROR",
    "RANGE_BINS",
    "RANGE_EDGES_M",
    "UNIT_BINS",
    "UNIT_EDGES",
    "batch_bin",
    "box_count_bin",
    "box_count_quantiles",
    "latency_bin",
    "latency_quantiles",
    "range_bin",
    "range_quantiles",
    "unit_bin",
    "unit_quantiles",
]

#: Latency bins: 64, three per doubling, inner edges 2^-6 ms (16 microseconds, below any useful model call) to
#: 2^(-6 + 62/3) ms (26 seconds). Bin 0 is everything below, bin 63 everything above.
LATENCY_BINS = 64
_PER_DOUBLING = 3
_LOWEST_LOG2 = -6
LATENCY_EDGES_MS: tuple[float, ...] = tuple(2.0 ** (_LOWEST_LOG2 + i / _PER_DOUBLING) for i in range(LATENCY_BINS - 1))
#: A quantile read from the histogram is the geometric middle of its bin: within 2^(1/6) - 1 = 12.2 % of the exact one
#: for latencies between the inner edges.
LATENCY_RELATIVE_ERROR = 2.0 ** (0.5 / _PER_DOUBLING) - 1.0

#: Probabilities (confidence, error_proba): 20 equal bins of [0, 1], the last one closed.
UNIT_BINS = 20
UNIT_EDGES: tuple[float, ...] = tuple(i / UNIT_BINS for i in range(UNIT_BINS + 1))

#: Batch sizes: bin i holds sizes 2^i .. 2^(i+1) - 1; the last one everything from 32,768.
BATCH_BINS = 16

#: Boxes in a frame: lower edges of the bins. One by one below 16, then four per doubling, the last one from 512.
BOX_COUNT_EDGES: tuple[int, ...] = (
    *range(16),
    *(size + step * size // 4 for size in (16, 32, 64, 128, 256) for step in range(4)),
    512,
)
BOX_COUNT_BINS = len(BOX_COUNT_EDGES)

#: Distance of a box from the sensor: 24 bins of 5 m, the last one everything from 115 m.
RANGE_BINS = 24
_RANGE_STEP_M = 5.0
RANGE_EDGES_M: tuple[float, ...] = tuple(_RANGE_STEP_M * i for i in range(RANGE_BINS + 1))


def latency_bin(column: str) -> pl.Expr:
    """Return the latency bin (0..63, Int16) of a column in milliseconds; null stays null, NaN becomes null."""
    value = _finite(column)
    index = (value.log(2) - _LOWEST_LOG2) * _PER_DOUBLING + 1
    return (
        pl.when(value <= LATENCY_EDGES_MS[0] / 2)  # also zero and negative clocks, whose logarithm is not finite
        .then(0)
        .otherwise(index.floor().clip(0, LATENCY_BINS - 1))
        .cast(pl.Int16)
    )


def unit_bin(column: str) -> pl.Expr:
    """Return the bin (0..19, Int16) of a probability column; null stays null, NaN becomes null."""
    return (_finite(column) * UNIT_BINS).floor().clip(0, UNIT_BINS - 1).cast(pl.Int16)


def batch_bin(column: str) -> pl.Expr:
    """Return the bin (0..15, Int16) of a batch size; sizes below one are null."""
    size = pl.col(column).cast(pl.Float64)
    return pl.when(size >= 1).then(size.log(2).floor().clip(0, BATCH_BINS - 1)).cast(pl.Int16)


def box_count_bin(column: str) -> pl.Expr:
    """Return the bin (0..36, Int16) of a number of boxes; null stays null."""
    size = pl.col(column).cast(pl.Int64)
    doublings = (size.clip(16, 512).cast(pl.Float64).log(2) + 1e-9).floor()
    quarter = size.clip(16, 512) * 4 // (2**doublings).cast(pl.Int64) - 4
    above = (16 + 4 * (doublings.cast(pl.Int64) - 4) + quarter).clip(16, BOX_COUNT_BINS - 1)
    return pl.when(size < 16).then(size).otherwise(above).cast(pl.Int16)


def range_bin(column: str) -> pl.Expr:
    """Return the bin (0..23, Int16) of a distance in metres; null stays null, NaN becomes null."""
    return (_finite(column) / _RANGE_STEP_M).floor().clip(0, RANGE_BINS - 1).cast(pl.Int16)


def latency_quantiles(
    histogram: Sequence[int], levels: Sequence[float], *, largest: float | None
) -> list[float | None]:
    """Return latency quantiles in ms from a 64-bin histogram (nearest rank, geometric middle of the bin).

    Args:
        histogram: 64 counts.
        levels: Levels in (0, 1].
        largest: Largest latency of the window; no quantile exceeds it, and it stands for the open last bin.
    """
    edges = np.asarray(LATENCY_EDGES_MS)
    middles = np.concatenate(([edges[0]], np.sqrt(edges[:-1] * edges[1:]), [edges[-1]]))
    if largest is not None:
        middles[-1] = max(largest, edges[-1])
        middles = np.minimum(middles, largest)
    bins = _rank_bins(np.asarray(histogram, np.int64), levels)
    return [None if b is None else float(middles[b]) for b in bins]


def unit_quantiles(histogram: Sequence[int], levels: Sequence[float]) -> list[float | None]:
    """Return quantiles of a probability from its 20-bin histogram (middle of the bin: within 0.025)."""
    bins = _rank_bins(np.asarray(histogram, np.int64), levels)
    return [None if b is None else (b + 0.5) / UNIT_BINS for b in bins]


def range_quantiles(histogram: Sequence[int], levels: Sequence[float]) -> list[float | None]:
    """Return quantiles of a distance in metres (middle of the bin: within 2.5 m up to 120 m)."""
    bins = _rank_bins(np.asarray(histogram, np.int64), levels)
    return [None if b is None else (b + 0.5) * _RANGE_STEP_M for b in bins]


def box_count_quantiles(histogram: Sequence[int], levels: Sequence[float]) -> list[float | None]:
    """Return quantiles of the number of boxes in a frame (middle of the bin: exact below 16, within 13 % above)."""
    upper = (*BOX_COUNT_EDGES[1:], BOX_COUNT_EDGES[-1] + 1)
    bins = _rank_bins(np.asarray(histogram, np.int64), levels)
    return [None if b is None else (BOX_COUNT_EDGES[b] + upper[b] - 1) / 2 for b in bins]


def _rank_bins(counts: np.ndarray, levels: Sequence[float]) -> list[int | None]:
    cumulative = np.cumsum(counts)
    if cumulative.size == 0 or cumulative[-1] == 0:
        return [None] * len(levels)
    ranks = np.ceil(np.asarray(levels) * cumulative[-1]).clip(1)
    return [int(b) for b in np.searchsorted(cumulative, ranks, side="left")]


def _finite(column: str) -> pl.Expr:
    value = pl.col(column).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)
