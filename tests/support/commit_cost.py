"""How the cost of a commit grows with the number of commits; for the benchmarks, not run by the tests."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.lake import Batch, Lake
from mld_pipelines.tables import LANDING_FEEDBACK, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Sequence

_WINDOW = 50
"""Commits around a version whose median is reported; covers two checkpoints of a landing table."""


def feedback_rows(n: int, *, seq: int) -> pl.DataFrame:
    """`n` valid rows of `landing/feedback`."""
    now = datetime.now(UTC)
    moments = pl.Series([now] * n, dtype=TIMESTAMP)
    return LANDING_FEEDBACK.align(
        pl.DataFrame(
            {
                "stream_id": ["bench"] * n,
                "seq": [seq] * n,
                "row": pl.Series(range(n), dtype=pl.Int32),
                "ingested_at": moments,
                "ingest_day": [now.date()] * n,
                "sdk_version": ["bench"] * n,
                "request_id": [f"{seq}-{row}" for row in range(n)],
                "label": [row % 10 for row in range(n)],
                "source": ["bench"] * n,
                "labelled_at": moments,
            }
        )
    )


def commit_cost(root: str, *, versions: Sequence[int] = (100, 1000), rows: int = 100) -> dict[int, float]:
    """Return the median seconds of a commit around each table version.

    Args:
        root: An empty folder.
        versions: Table versions to report, rising.
        rows: Rows per commit.
    """
    lake = Lake(root, code_version="bench")
    seconds: list[float] = []
    for seq in range(max(versions)):
        batch = Batch("bench", seq, feedback_rows(rows, seq=seq))
        start = time.perf_counter()
        lake.commit_once(LANDING_FEEDBACK, [batch])
        seconds.append(time.perf_counter() - start)
    return {version: statistics.median(seconds[max(0, version - _WINDOW) : version]) for version in versions}
