"""Production rows and references that windows tests share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from mld_pipelines.windows import Baseline

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = "m_v1_classification_v1_20260501"
START = datetime(2026, 5, 1, tzinfo=UTC)
CATEGORIES = ("stable_coverage", "hotspot")


class Limits(NamedTuple):
    threshold_ep: float
    threshold_mc: float


def _rows(n: int, *, seed: int = 0, days: int = 1, result_name: str | None = RESULT, n_codes: int = 6) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_codes + 1, n)
    prediction = rng.integers(0, 4, n)
    label = np.where(rng.random(n) < 0.3, np.where(rng.random(n) < 0.8, prediction, (prediction + 1) % 4), -1)
    return pl.DataFrame(
        {
            "event_at": pl.Series(
                [START + timedelta(microseconds=int(t)) for t in rng.integers(0, days * 86_400_000_000, n)],
                dtype=pl.Datetime("us", "UTC"),
            ),
            "model_key": ["m@v1"] * n,
            "result_name": pl.Series([result_name] * n, dtype=pl.String),
            "latency_ms": rng.lognormal(2.0, 0.7, n),
            "batch_size": pl.Series(rng.integers(1, 65, n), dtype=pl.Int32),
            "prediction": prediction,
            "confidence": rng.random(n).astype(np.float32),
            "clock_skewed": rng.random(n) < 0.02,
            "is_invalid": rng.random(n) < 0.01,
            "error_proba": rng.random(n).astype(np.float32),
            "confidence_t": rng.random(n).astype(np.float32),
            "error_code": ["UNSEEN" if c == n_codes else f"E{c + 1:03d}" for c in codes],
            "category": ["recessive_hotspot" if c == n_codes else CATEGORIES[c % 2] for c in codes],
            "label": pl.Series([None if value < 0 else int(value) for value in label], dtype=pl.Int64),
        }
    )


@pytest.fixture
def make_rows() -> Callable[..., pl.DataFrame]:
    """`make_rows(n, seed=0, days=1, result_name=…)`: random inferences from 2026-05-01 on."""
    return _rows


@pytest.fixture
def result_name() -> str:
    return RESULT


@pytest.fixture
def limits() -> dict[str, Limits]:
    return {RESULT: Limits(0.7, 0.4)}


@pytest.fixture
def make_baseline() -> Callable[..., Baseline]:
    def make(codes: dict[str, int], **changes: Any) -> Baseline:
        n = sum(codes.values())
        values = {
            "model_key": "m@v1",
            "result_name": RESULT,
            "codes": codes,
            "classes": (n // 2, n - n // 2),
            "confidence": (0,) * 19 + (n,),
            "error_rate": 0.1,
        }
        return Baseline(**(values | changes))

    return make
