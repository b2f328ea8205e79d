"""Landing rows of a made-up classifier, for tests that start behind the tracer."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.lake import Batch
from mld_pipelines.tables import (
    LANDING_FEEDBACK,
    LANDING_INFERENCES,
    LANDING_RECEIPTS,
    LANDING_STRESS,
    LANDING_TRACES,
    TIMESTAMP,
    VECTOR,
)

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake

START = datetime(2026, 1, 5, tzinfo=UTC)
CLASSES, WIDTH = 4, 6
FINGERPRINT = "a" * 64
MODEL = "toy@v1"


def toy_outputs(n: int, *, seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels (n,), features (n, 6) and logits (n, 4) of a linear model on overlapping blobs."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    features = (_centres()[labels] + noise * rng.normal(size=(n, WIDTH))).astype(np.float32)
    return labels, features, toy_logits(features)


def toy_logits(features: np.ndarray) -> np.ndarray:
    """Return what the model makes of features (n, 6)."""
    centres = _centres()
    return (features @ centres.T - 0.5 * (centres**2).sum(axis=1)).astype(np.float32)


def _centres() -> np.ndarray:
    return np.random.default_rng(99).normal(size=(CLASSES, WIDTH)) * 1.5


def vectors(matrix: np.ndarray) -> pl.Series:
    """Return a matrix as a list column."""
    return pl.Series(matrix.astype(np.float32)).cast(VECTOR)


def _common(n: int, stream: str, seq: int, at: datetime, model_key: str, fingerprint: str) -> pl.DataFrame:
    name, version = model_key.split("@")
    return pl.DataFrame({"row": np.arange(n, dtype=np.int32)}).with_columns(
        pl.lit(stream).alias("stream_id"),
        pl.lit(seq, dtype=pl.Int64).alias("seq"),
        pl.lit(at).cast(TIMESTAMP).alias("ingested_at"),
        pl.lit(at.date()).alias("ingest_day"),
        pl.lit("test").alias("sdk_version"),
        pl.lit(name).alias("model_name"),
        pl.lit(version).alias("version_name"),
        pl.lit(model_key).alias("model_key"),
        pl.lit("classification").alias("task"),
        pl.lit("torch").alias("framework"),
        pl.lit(fingerprint).alias("fingerprint"),
        pl.lit("logits").alias("output_kind"),
        pl.lit("fc").alias("feature_layer"),
    )


def write_trace(
    lake: Lake,
    dataset: str,
    n: int,
    *,
    seed: int = 0,
    epoch: int | None = None,
    stream: str | None = None,
    model_key: str = MODEL,
    fingerprint: str = FINGERPRINT,
    at: datetime = START,
    seq: int = 0,
    receipt: bool = True,
    weights_changed: bool = False,
    features: bool = True,
    noise: float = 1.0,
    metadata: list[str | None] | None = None,
    labels: np.ndarray | None = None,
    order: np.ndarray | None = None,
    logits: np.ndarray | None = None,
    hashes: list[str | None] | None = None,
    uris: list[str | None] | None = None,
) -> str:
    """Commit one traced dataset (and its receipt) to landing and return the stream."""
    stream = stream or f"{model_key}-{dataset}-{epoch}-{seed}"
    truth, h, z = toy_outputs(n, seed=seed, noise=noise)
    content = zlib.crc32(dataset.encode())  # no input is in two datasets
    frame = _common(n, stream, seq, at, model_key, fingerprint).with_columns(
        pl.lit(dataset).alias("dataset_type"),
        pl.lit(epoch, dtype=pl.Int64).alias("n_epoch"),
        pl.Series("input_id", [f"{dataset}-{i}" for i in range(n)]),
        pl.Series("input_hash", hashes or [f"{content:08x}{i:056x}" for i in range(n)], dtype=pl.String),
        pl.Series("input_uri", uris or [None] * n, dtype=pl.String),
        pl.lit(at).cast(TIMESTAMP).alias("captured_at"),
        pl.Series("label", truth if labels is None else labels, dtype=pl.Int64),
        pl.Series("metadata", metadata or [None] * n, dtype=pl.String),
        vectors(z if logits is None else logits).alias("logits"),
    )
    if features:
        frame = frame.with_columns(vectors(h).alias("feature"))
    if order is not None:
        frame = frame[order].with_columns(pl.Series("row", np.arange(n, dtype=np.int32)))
    lake.commit_once(LANDING_TRACES, [Batch(stream, seq, frame)])
    if receipt:
        write_receipt(
            lake, stream, dataset, n, epoch=epoch, model_key=model_key, at=at + timedelta(seconds=1), last_seq=seq,
            fingerprint=fingerprint, weights_changed=weights_changed,
        )  # fmt: skip
    return stream


def write_receipt(
    lake: Lake,
    stream: str,
    dataset: str,
    rows: int,
    *,
    epoch: int | None = None,
    model_key: str = MODEL,
    at: datetime = START,
    last_seq: int = 0,
    state: str = "complete",
    fingerprint: str = FINGERPRINT,
    weights_changed: bool = False,
    purpose: str = "trace",
) -> None:
    """Commit the receipt of one traced dataset, or of a stress pass over it."""
    values = {
        "stream_id": stream, "seq": last_seq + 1, "row": 0, "ingested_at": at, "ingest_day": at.date(),
        "sdk_version": "test", "model_key": model_key, "dataset_type": dataset, "n_epoch": epoch, "purpose": purpose,
        "state": state, "last_seq": last_seq, "rows": rows, "dropped": 0, "fingerprint": fingerprint,
        "weights_changed": weights_changed, "completed_at": at,
    }  # fmt: skip
    schema = {name: LANDING_RECEIPTS.column(name).data_type for name in values}
    lake.commit_once(LANDING_RECEIPTS, [Batch(stream, last_seq + 1, pl.DataFrame([values], schema=schema))])


#: Family → features at a severity; in the space that the toy model sees.
STRESS_FAMILIES = {
    "noise": lambda h, s, rng: h + 0.35 * s * rng.normal(size=h.shape),
    "shift": lambda h, s, rng: h + 0.3 * s * np.sign(np.arange(h.shape[1]) % 3 - 1),
    "scale": lambda h, s, rng: h * (1.0 - 0.18 * s),
}


def write_stress(
    lake: Lake,
    dataset: str,
    n: int,
    *,
    seed: int = 0,
    noise: float = 1.0,
    epoch: int | None = None,
    families: tuple[str, ...] = tuple(STRESS_FAMILIES),
    severities: tuple[int, ...] = (1, 3, 5),
    stream: str = "stress",
    model_key: str = MODEL,
    fingerprint: str = FINGERPRINT,
    at: datetime = START + timedelta(hours=2),
    receipt: bool = True,
    features: bool = True,
    width: int = WIDTH,
) -> str:
    """Commit stressed copies of the first `n` inputs of `write_trace(lake, dataset, …, seed=seed, noise=noise)`."""
    truth, h, _ = toy_outputs(n, seed=seed, noise=noise)
    rng = np.random.default_rng(1000 + seed)
    sets = [(family, severity) for family in families for severity in severities]
    for seq, (family, severity) in enumerate(sets):
        changed = STRESS_FAMILIES[family](h, severity, rng).astype(np.float32)
        frame = _common(n, stream, seq, at, model_key, fingerprint).with_columns(
            pl.lit(dataset).alias("source_dataset"),
            pl.lit(epoch, dtype=pl.Int64).alias("n_epoch"),
            pl.Series("input_id", [f"{dataset}-{i}" for i in range(n)]),
            pl.lit(family).alias("family"),
            pl.lit(f"{family}_kind").alias("kind"),
            pl.lit(severity, dtype=pl.Int32).alias("severity"),
            pl.lit(0, dtype=pl.Int64).alias("seed"),
            pl.lit("1").alias("family_version"),
            pl.lit(at).cast(TIMESTAMP).alias("captured_at"),
            pl.Series("label", truth, dtype=pl.Int64),
            vectors(toy_logits(changed)).alias("logits"),
        )
        if features:
            frame = frame.with_columns(vectors(changed[:, :width]).alias("feature"))
        lake.commit_once(LANDING_STRESS, [Batch(stream, seq, frame)])
    if receipt:
        write_receipt(
            lake, stream, dataset, n * len(sets), epoch=epoch, model_key=model_key, at=at + timedelta(seconds=1),
            last_seq=len(sets) - 1, fingerprint=fingerprint, purpose="stress",
        )  # fmt: skip
    return stream


def write_inferences(
    lake: Lake,
    n: int,
    *,
    seed: int = 7,
    stream: str = "logger",
    seq: int = 0,
    at: datetime = START + timedelta(days=1),
    model_key: str = MODEL,
    fingerprint: str = FINGERPRINT,
    result_name: str | None = None,
    noise: float = 1.0,
    requests: list[str] | None = None,
    features: bool = True,
) -> tuple[list[str], np.ndarray]:
    """Commit logged inferences, one second apart; return their request ids and true labels."""
    truth, h, z = toy_outputs(n, seed=seed, noise=noise)
    requests = requests or [f"{stream}-{seq}-{i}" for i in range(n)]
    events = pl.Series("event_at", [at + timedelta(seconds=i) for i in range(n)]).cast(TIMESTAMP)
    frame = _common(n, stream, seq, at, model_key, fingerprint).with_columns(
        pl.Series("request_id", requests),
        pl.lit(result_name, dtype=pl.String).alias("result_name"),
        events,
        events.dt.date().alias("event_day"),
        pl.lit(value=False).alias("clock_skewed"),
        pl.lit(5.0).alias("latency_ms"),
        pl.lit(1, dtype=pl.Int32).alias("batch_size"),
        pl.Series("prediction", z.argmax(axis=1), dtype=pl.Int64),
        vectors(z).alias("logits"),
    )
    if features:
        frame = frame.with_columns(vectors(h).alias("feature"))
    lake.commit_once(LANDING_INFERENCES, [Batch(stream, seq, frame)])
    return requests, truth


def write_feedback(
    lake: Lake, requests: list[str], labels: np.ndarray, *, at: datetime, stream: str = "labels"
) -> None:
    """Commit labels for logged inferences."""
    n = len(requests)
    seq = int(at.timestamp())
    frame = pl.DataFrame({"request_id": requests, "label": pl.Series(labels, dtype=pl.Int64)}).with_columns(
        pl.lit(stream).alias("stream_id"),
        pl.lit(seq, dtype=pl.Int64).alias("seq"),
        pl.Series("row", np.arange(n, dtype=np.int32)),
        pl.lit(at).cast(TIMESTAMP).alias("ingested_at"),
        pl.lit(at.date()).alias("ingest_day"),
        pl.lit("test").alias("sdk_version"),
        pl.lit("expert").alias("source"),
        pl.lit(at).cast(TIMESTAMP).alias("labelled_at"),
    )
    lake.commit_once(LANDING_FEEDBACK, [Batch(stream, seq, frame)])
