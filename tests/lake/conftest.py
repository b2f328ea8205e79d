"""A lake in a temporary folder and rows that fit its tables."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_TRACES, OPS_MODELS, TIMESTAMP, VECTOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TODAY = NOW.date()


def trace_rows(
    n: int = 3, *, stream: str = "s", seq: int = 0, key: str = "m@v", day: date = TODAY, **columns: Any
) -> pl.DataFrame:
    """`n` valid rows of `landing/traces` and `traces/inputs`."""
    frame = pl.DataFrame(
        {
            "stream_id": [stream] * n,
            "seq": [seq] * n,
            "row": pl.Series(range(n), dtype=pl.Int32),
            "ingested_at": pl.Series([NOW] * n, dtype=TIMESTAMP),
            "ingest_day": pl.Series([day] * n, dtype=pl.Date),
            "sdk_version": ["1"] * n,
            "dataset_type": ["val"] * n,
            "input_id": [f"{stream}-{seq}-{row}" for row in range(n)],
            "captured_at": pl.Series([NOW] * n, dtype=TIMESTAMP),
            "model_name": ["m"] * n,
            "version_name": ["v"] * n,
            "model_key": [key] * n,
            "task": ["classification"] * n,
            "framework": ["torch"] * n,
            "fingerprint": ["f"] * n,
            "confidence": pl.Series([0.5] * n, dtype=pl.Float32),
            "feature": pl.Series([[0.25, -1.5]] * n, dtype=VECTOR),
        },
        schema_overrides={"stream_id": pl.String, "input_id": pl.String},
    )
    return LANDING_TRACES.align(frame.with_columns(**columns))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(str(tmp_path / "lake"), code_version="test")


@pytest.fixture
def rows() -> Callable[..., pl.DataFrame]:
    """The maker of valid rows."""
    return trace_rows


@pytest.fixture
def model_rows() -> Callable[..., pl.DataFrame]:
    """The maker of valid rows of `ops/models`."""
    return registrations


def registrations(*names: str, params: str = "{}") -> pl.DataFrame:
    """One row of `ops/models` per name."""
    n = len(names)
    return OPS_MODELS.align(
        pl.DataFrame(
            {
                "name": list(names),
                "kind": ["model"] * n,
                "factory": ["module:function"] * n,
                "params": [params] * n,
                "registered_at": pl.Series([NOW] * n, dtype=TIMESTAMP),
            }
        )
    )
