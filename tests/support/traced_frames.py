"""Landing rows of a made-up 3D detector, for tests that start behind the tracer or the Logger.

Objects of three classes stand around the sensor. Each is found with a probability that falls with range; a found one
has a good score and a feature near the centre of its class. False boxes stand where nothing is, with lower scores and
features of their own. What is not found often leaves a candidate of low score.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.lake import Batch
from mld_pipelines.tables import LANDING_INFERENCES, LANDING_MODELS, LANDING_STRESS, LANDING_TRACES, TIMESTAMP
from tests.support.traced import write_receipt

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake
    from mld_pipelines.tables import TableSpec

START = datetime(2026, 1, 5, tzinfo=UTC)
MODEL, FINGERPRINT = "pillars@v1", "b" * 64
CLASS_NAMES = ("car", "pedestrian", "truck")
SIZES = np.array([[1.9, 4.5, 1.6], [0.7, 0.8, 1.75], [2.6, 8.5, 3.2]])
WIDTH = 8


def made_up_frame(
    rng: np.random.Generator, *, hardness: float = 1.0, objects: int = 12, original: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return one frame: what is there, what was found, and what was suppressed.

    Args:
        rng: Source of chance.
        hardness: 1 as on the reference; more of it hides objects and adds false boxes.
        objects: Mean number of objects.
        original: Frame whose objects are there again.
    """
    if original is None:
        n = int(rng.poisson(objects))
        truth = _places(rng, n)
        labels = rng.choice(3, n, p=[0.6, 0.25, 0.15])
        truth[:, 3:6] = SIZES[labels] * rng.uniform(0.9, 1.1, (n, 3))
    else:
        truth, labels = original["truth_boxes_3d"], original["truth_labels"]
        n = len(labels)
    distance = np.hypot(truth[:, 0], truth[:, 1])
    seen = rng.random(n) < 1.0 / (1.0 + np.exp((distance * hardness - 45.0) / 6.0))
    hit, score = truth[seen].copy(), rng.beta(6, 2, int(seen.sum()))
    hit[:, :2] += rng.normal(0, 0.25, (len(hit), 2))
    false = _places(rng, int(rng.poisson(3.0 * hardness)))
    false_labels = rng.choice(3, len(false), p=[0.4, 0.5, 0.1])
    false[:, 3:6] = SIZES[false_labels] * rng.uniform(0.7, 1.3, (len(false), 3))
    shown = ~seen & (rng.random(n) < 0.6)
    low, low_labels = truth[shown], labels[shown]
    boxes = np.concatenate([hit, false])
    classes = np.concatenate([labels[seen], false_labels])
    scores = np.concatenate([score, rng.beta(2, 4, len(false))]).astype(np.float32)
    features = np.eye(3, WIDTH)[classes] * 3.0 + rng.normal(0, 1.0, (len(boxes), WIDTH))
    features[len(hit) :, 4] += 2.5  # false boxes look like one another
    order = np.argsort(-scores, kind="stable")
    chance = (1.0 - scores)[:, None] / 2 * np.ones(3)
    chance[np.arange(len(boxes)), classes] = scores
    return {
        "truth_boxes_3d": truth, "truth_labels": labels, "truth_velocities": np.full((n, 2), np.nan),
        "truth_points": np.maximum(400 - 7 * distance, 0).astype(int),
        "boxes_3d": boxes[order], "labels": classes[order], "scores": scores[order],
        "velocities": np.full((len(boxes), 2), np.nan), "features": features[order], "class_scores": chance[order],
        "candidate_index": np.arange(len(boxes)),
        "suppressed_boxes_3d": low, "suppressed_labels": low_labels,
        "suppressed_scores": np.sort(rng.uniform(0.06, 0.2, len(low)))[::-1],
    }  # fmt: skip


def _places(rng: np.random.Generator, n: int) -> np.ndarray:
    distance, bearing = rng.uniform(5, 60, n), rng.uniform(-np.pi, np.pi, n)
    boxes = np.zeros((n, 7))
    boxes[:, 0], boxes[:, 1] = distance * np.cos(bearing), distance * np.sin(bearing)
    boxes[:, 2], boxes[:, 3:6], boxes[:, 6] = 0.8, 1.0, rng.uniform(-np.pi, np.pi - 1e-9, n)
    return boxes


def frame_lists(spec: TableSpec, frames: list[dict[str, Any]]) -> dict[str, pl.Series]:
    """Return the list columns of frames that a table has."""
    names = [name for name in frames[0] if name in spec.column_names]
    return {
        name: pl.Series(name, [np.ravel(frame[name]).tolist() for frame in frames], dtype=spec.column(name).data_type)
        for name in names
    }


def _common(n: int, stream: str, seq: int, at: datetime, model_key: str, fingerprint: str) -> pl.DataFrame:
    name, version = model_key.split("@")
    texts = {
        "stream_id": stream, "sdk_version": "test", "model_name": name, "version_name": version,
        "model_key": model_key, "task": "od3d", "framework": "torch", "fingerprint": fingerprint,
        "adapter": "plain canonical", "settings": "{}", "class_space": "sigmoid", "feature_layer": "head",
    }  # fmt: skip
    return pl.DataFrame({"row": np.arange(n, dtype=np.int32)}).with_columns(
        pl.lit(seq, dtype=pl.Int64).alias("seq"),
        pl.lit(at).cast(TIMESTAMP).alias("ingested_at"),
        pl.lit(at.date()).alias("ingest_day"),
        *(pl.lit(value).alias(key) for key, value in texts.items()),
    )


def write_frames(
    lake: Lake,
    dataset: str,
    n: int,
    *,
    seed: int = 0,
    epoch: int | None = None,
    hardness: float = 1.0,
    objects: int = 12,
    model_key: str = MODEL,
    fingerprint: str = FINGERPRINT,
    frames: list[dict[str, Any]] | None = None,
    drop: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """Commit one traced dataset with receipt and model row; return its frames.

    Args:
        lake: The lake.
        dataset: Dataset of the frames.
        n: Frames.
        seed: Of the frames.
        epoch: Epoch, or None.
        hardness: See `made_up_frame`.
        objects: See `made_up_frame`.
        model_key: Model.
        fingerprint: Its weights.
        frames: Frames to write instead of made-up ones.
        drop: Columns to leave out, e.g. `features`.
    """
    rng = np.random.default_rng(seed)
    made = frames or [made_up_frame(rng, hardness=hardness, objects=objects) for _ in range(n)]
    stream, content = f"{model_key}-{dataset}-{epoch}-{seed}", zlib.crc32(dataset.encode())
    lists = {key: one for key, one in frame_lists(LANDING_TRACES, made).items() if key not in drop}
    rows = _common(len(made), stream, 0, START, model_key, fingerprint).with_columns(
        pl.lit(dataset).alias("dataset_type"),
        pl.lit(epoch, dtype=pl.Int64).alias("n_epoch"),
        pl.Series("input_id", [f"{dataset}-{i:05d}" for i in range(len(made))]),
        pl.Series("input_hash", [f"{content:08x}{i:056x}" for i in range(len(made))]),
        pl.lit(START).cast(TIMESTAMP).alias("captured_at"),
        *lists.values(),
    )
    lake.commit_once(LANDING_TRACES, [Batch(stream, 0, rows)])
    write_receipt(
        lake, stream, dataset, len(made), epoch=epoch, model_key=model_key, at=START + timedelta(seconds=1),
        fingerprint=fingerprint,
    )  # fmt: skip
    write_detector(lake, model_key=model_key, fingerprint=fingerprint, stream=f"{stream}-model")
    return made


STRESS = {"density": 0.15, "coverage": 0.25, "noise": 0.2}
"""Families and what each severity adds to the hardness of a frame."""


def write_stressed_frames(
    lake: Lake,
    originals: list[dict[str, Any]],
    *,
    dataset: str = "val",
    seed: int = 5,
    n: int | None = None,
    families: tuple[str, ...] = tuple(STRESS),
    severities: tuple[int, ...] = (1, 3, 5),
    model_key: str = MODEL,
    fingerprint: str = FINGERPRINT,
    drop: tuple[str, ...] = (),
) -> int:
    """Commit a finished stress pass of the first frames of a traced dataset; return its number of copies.

    Args:
        lake: The lake.
        originals: What `write_frames` returned.
        dataset: Dataset of the frames.
        seed: Of the copies.
        n: Frames that are copied; None copies all.
        families: Some of `STRESS`, each with one kind.
        severities: Strengths.
        model_key: Model.
        fingerprint: Its weights.
        drop: Columns to leave out, e.g. `features`.
    """
    rng, stream = np.random.default_rng(seed), f"stress-{model_key}-{dataset}-{seed}"
    chosen = originals[:n]
    sets = [(family, severity) for family in families for severity in severities]
    for seq, (family, severity) in enumerate(sets):
        made = [made_up_frame(rng, hardness=1.0 + STRESS[family] * severity, original=one) for one in chosen]
        lists = {key: one for key, one in frame_lists(LANDING_STRESS, made).items() if key not in drop}
        rows = _common(len(made), stream, seq, START, model_key, fingerprint).with_columns(
            pl.lit(dataset).alias("source_dataset"),
            pl.lit(None, dtype=pl.Int64).alias("n_epoch"),
            pl.Series("input_id", [f"{dataset}-{i:05d}" for i in range(len(made))]),
            pl.lit(family).alias("family"),
            pl.lit(f"{family}_kind").alias("kind"),
            pl.lit(severity, dtype=pl.Int32).alias("severity"),
            pl.lit(0, dtype=pl.Int64).alias("seed"),
            pl.lit("1").alias("family_version"),
            pl.lit(START).cast(TIMESTAMP).alias("captured_at"),
            pl.lit(-1, dtype=pl.Int64).alias("label"),
            *lists.values(),
        )
        lake.commit_once(LANDING_STRESS, [Batch(stream, seq, rows)])
    write_receipt(
        lake, stream, dataset, len(chosen) * len(sets), model_key=model_key, at=START + timedelta(hours=1),
        last_seq=len(sets) - 1, fingerprint=fingerprint, purpose="stress",
    )  # fmt: skip
    return len(chosen) * len(sets)


def write_detector(
    lake: Lake, *, model_key: str = MODEL, fingerprint: str = FINGERPRINT, stream: str = "detector"
) -> None:
    """Commit the row of the detector in `landing/models`."""
    name, version = model_key.split("@")
    values = {
        "stream_id": stream, "seq": 0, "row": 0, "ingested_at": START, "ingest_day": START.date(),
        "sdk_version": "test", "model_key": f"{name}@{version}", "fingerprint": fingerprint, "task": "od3d",
        "architecture": "Pillars", "feature_layer": "head", "feature_dim": WIDTH, "n_classes": 3,
        "class_names": list(CLASS_NAMES), "first_seen": START,
    }  # fmt: skip
    schema = {key: LANDING_MODELS.column(key).data_type for key in values}
    lake.commit_once(LANDING_MODELS, [Batch(stream, 0, pl.DataFrame([values], schema=schema))])


def write_logged_frames(
    lake: Lake,
    n: int,
    *,
    seed: int = 7,
    hardness: float = 1.0,
    at: datetime = START + timedelta(days=1),
    every: timedelta = timedelta(minutes=5),
    stream: str = "logger",
    seq: int = 0,
    model_key: str = MODEL,
    fingerprint: str = FINGERPRINT,
    result_name: str | None = None,
    frames: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Commit logged frames, one after the other in time; return them with their truth."""
    rng = np.random.default_rng(seed)
    made = frames or [made_up_frame(rng, hardness=hardness) for _ in range(n)]
    times = [at + index * every for index in range(n)]
    rows = _common(n, stream, seq, at, model_key, fingerprint).with_columns(
        pl.Series("request_id", [f"{stream}-{seq}-{index}" for index in range(n)]),
        pl.lit(result_name, dtype=pl.String).alias("result_name"),
        pl.Series("event_at", times).cast(TIMESTAMP),
        pl.Series("event_day", [one.date() for one in times]),
        pl.lit(value=False).alias("clock_skewed"),
        pl.lit(20.0).alias("latency_ms"),
        pl.lit(1, dtype=pl.Int32).alias("batch_size"),
        *frame_lists(LANDING_INFERENCES, made).values(),
    )
    lake.commit_once(LANDING_INFERENCES, [Batch(stream, seq, rows)])
    return made
