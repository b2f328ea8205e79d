"""Rows as tracer and logger leave them, made of Gaussian classes under a linear head."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.lake import Batch
from mld_pipelines.tables import (
    CATEGORIES,
    LANDING_FEEDBACK,
    LANDING_RECEIPTS,
    LANDING_TRACES,
    TIMESTAMP,
    VECTOR,
)

if TYPE_CHECKING:
    from datetime import date

    import numpy.typing as npt

    from mld_pipelines.lake import Lake
    from mld_pipelines.tables import TableSpec

__all__ = ["MODEL", "RESULT", "Classes", "feedback", "inferences", "scored_rows", "write_receipt", "write_trace"]

MODEL = "bench@v1"
RESULT = "bench_v1"
_FINGERPRINT = "b" * 64
_NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
_CHUNK = 20_000
"""Traced rows per commit: 40 MB of features."""


class Classes:
    """K Gaussian classes of d features; the head is the matched filter, so about one unit in ten is wrong.

    Args:
        n_classes: K.
        width: d.
    """

    def __init__(self, n_classes: int, width: int) -> None:
        rng = np.random.default_rng(0)
        self.means = (rng.normal(size=(n_classes, width)) * 2.7 / np.sqrt(width)).astype(np.float32)
        self.bias = -0.5 * (self.means**2).sum(axis=1)

    def draw(
        self, n: int, *, seed: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return labels (n,), features (n, d) and logits (n, K)."""
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, len(self.means), n)
        features = self.means[labels] + rng.standard_normal((n, self.means.shape[1]), dtype=np.float32)
        return labels, features, features @ self.means.T + self.bias


def write_trace(lake: Lake, classes: Classes, dataset: str, n: int, *, seed: int) -> None:
    """Commit a finished trace of n units."""
    stream = f"bench-{dataset}"
    for seq, start in enumerate(range(0, n, _CHUNK)):
        rows = min(_CHUNK, n - start)
        labels, features, logits = classes.draw(rows, seed=seed * 1_000 + seq)
        frame = _delivery(rows, stream, seq, LANDING_TRACES).with_columns(
            pl.lit(dataset).alias("dataset_type"),
            pl.Series("input_id", [f"{dataset}-{start + row}" for row in range(rows)]),
            pl.lit(_NOW).cast(TIMESTAMP).alias("captured_at"),
            pl.Series("label", labels, dtype=pl.Int64),
            pl.Series("logits", logits).cast(VECTOR),
            pl.Series("feature", features).cast(VECTOR),
        )
        lake.commit_once(LANDING_TRACES, [Batch(stream, seq, frame)])
    write_receipt(lake, stream, dataset, n, last_seq=seq)


def write_receipt(lake: Lake, stream: str, dataset: str, n: int, *, last_seq: int) -> None:
    """Commit the receipt of a trace."""
    frame = _delivery(1, stream, last_seq + 1, LANDING_RECEIPTS).with_columns(
        pl.lit(dataset).alias("dataset_type"),
        pl.lit("trace").alias("purpose"),
        pl.lit("complete").alias("state"),
        pl.lit(last_seq, dtype=pl.Int64).alias("last_seq"),
        pl.lit(n, dtype=pl.Int64).alias("rows"),
        pl.lit(0, dtype=pl.Int64).alias("dropped"),
        pl.lit(value=False).alias("weights_changed"),
        pl.lit(_NOW).cast(TIMESTAMP).alias("completed_at"),
    )
    lake.commit_once(LANDING_RECEIPTS, [Batch(stream, last_seq + 1, frame)])


def inferences(n: int, day: date, *, seq: int, spec: TableSpec, first_id: int) -> pl.DataFrame:
    """Return n logged inferences of one day without vectors, evenly spread over its hours.

    Args:
        n: Rows.
        day: Event day, and ingest day.
        seq: Number of the batch in its stream.
        spec: `landing/inferences`.
        first_id: Number of the first request.
    """
    rng = np.random.default_rng(seq)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    at = int(midnight.timestamp() * 1e6) + np.arange(n, dtype=np.int64) * 86_400_000_000 // n
    return _delivery(n, "bench-logger", seq, spec, at=midnight).with_columns(
        ("r" + pl.int_range(first_id, first_id + n).cast(pl.String)).alias("request_id"),
        pl.lit(RESULT).alias("result_name"),
        pl.Series("event_at", at).cast(TIMESTAMP),
        pl.lit(day).alias("event_day"),
        pl.lit(value=False).alias("clock_skewed"),
        pl.Series("latency_ms", rng.gamma(9.0, 3.0, n)),
        pl.lit(8, dtype=pl.Int32).alias("batch_size"),
        pl.Series("prediction", rng.integers(0, 10, n)),
        pl.Series("confidence", rng.beta(6, 1, n).astype(np.float32)),
    )


def scored_rows(landed: pl.DataFrame, *, n_codes: int, spec: TableSpec) -> pl.DataFrame:
    """Return the rows of `monitoring/scored` that belong to logged inferences."""
    n = landed.height
    rng = np.random.default_rng(n + int(landed["seq"][0]))
    code = rng.integers(0, n_codes, n)
    names = pl.Series("error_code", [f"E{number + 1:03d}" for number in range(n_codes)])
    kinds = pl.Series("category", [CATEGORIES[number % len(CATEGORIES)] for number in range(n_codes)])
    frame = landed.with_columns(
        pl.Series("error_proba", rng.beta(1, 9, n).astype(np.float32)),
        names.gather(code),
        kinds.gather(code),
        pl.col("confidence").alias("confidence_t"),
        pl.lit(value=False).alias("is_aleatoric"),
        pl.lit(value=False).alias("is_invalid"),
        pl.lit(f"{RESULT}#bench").alias("scored_by"),
    )
    return frame.select(name for name in spec.column_names if name in frame.columns)


def feedback(landed: pl.DataFrame, *, every: int) -> pl.DataFrame:
    """Return a label for every so many inferences."""
    chosen = landed.gather_every(every)
    day = landed["event_day"][0]
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return _delivery(chosen.height, "bench-labels", int(landed["seq"][0]), LANDING_FEEDBACK, at=midnight).with_columns(
        chosen["request_id"],
        chosen["prediction"].alias("label"),
        pl.lit("bench").alias("source"),
        pl.lit(midnight + timedelta(days=1)).cast(TIMESTAMP).alias("labelled_at"),
    )


def _delivery(n: int, stream: str, seq: int, spec: TableSpec, *, at: datetime = _NOW) -> pl.DataFrame:
    """Return the columns that say how rows arrived and which model made them, as far as the table has them."""
    name, version = MODEL.split("@")
    constants = {
        "stream_id": pl.lit(stream),
        "seq": pl.lit(seq, dtype=pl.Int64),
        "ingested_at": pl.lit(at).cast(TIMESTAMP),
        "ingest_day": pl.lit(at.date()),
        "sdk_version": pl.lit("bench"),
        "model_name": pl.lit(name),
        "version_name": pl.lit(version),
        "model_key": pl.lit(MODEL),
        "task": pl.lit("classification"),
        "framework": pl.lit("torch"),
        "fingerprint": pl.lit(_FINGERPRINT),
        "output_kind": pl.lit("logits"),
        "feature_layer": pl.lit("head"),
    }
    known = {column: value for column, value in constants.items() if column in spec.column_names}
    return pl.DataFrame({"row": np.arange(n, dtype=np.int32)}).with_columns(**known)
