"""How well a detector's estimates hold: estimated against true precision and recall of labelled windows of frames.

Windows are drawn from datasets that the estimator was neither fitted on nor looks for neighbours in; where there is
none, there is no evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import (
    UNSEEN,
    ExpectedMisses,
    detection_window_state,
    estimate_detection_window,
    with_candidate_badge,
)
from mld_pipelines.evaluation._artifacts import load_detection_scorer
from mld_pipelines.evaluation._datasets import PRODUCTION, TRAIN
from mld_pipelines.evaluation.detection._frame_boxes import BOX_COLUMNS
from mld_pipelines.evaluation.detection._frame_scores import score_frames
from mld_pipelines.exceptions import LakeError
from mld_pipelines.tables import TRACES_INPUTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.diagnosis import DetectionEstimate, DetectionScorer
    from mld_pipelines.evaluation._load import StoredResult

__all__ = ["DETECTION_EVIDENCE_SCHEMA", "detection_window_evidence", "estimate_frames"]

_POOL = 2_000
"""Frames of a dataset that windows are drawn from, at random where there are more: scoring them stays cheap."""
_SMALLEST, _LARGEST, _WINDOWS = 20, 100, 24
"""Frames of a window, and windows of a dataset."""

#: Columns of `detection_window_evidence`: `kind` is `all` or `random`; `*_score` says what mean scores would say.
DETECTION_EVIDENCE_SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "kind": pl.String(),
        "name": pl.String(),
        "frames": pl.Int64(),
        "boxes": pl.Int64(),
        **{
            f"{rate}{suffix}": pl.Float64()
            for rate in ("precision", "recall")
            for suffix in ("_true", "", "_low", "_high", "_reference")
        },
        "precision_score": pl.Float64(),
        "badges": pl.List(pl.String()),
    }
)


def estimate_frames(scored: pl.DataFrame, scorer: DetectionScorer, *, level: float = 0.9) -> DetectionEstimate:
    """Estimate precision and recall of scored frames.

    Args:
        scored: Rows with the columns that `score_frames` fills; those it left null are in no sum.
        scorer: The scorer they were scored by.
        level: 0.8, 0.9 or 0.95.

    Raises:
        InvalidInputError: Another level was asked for.
    """
    rows = scored.filter(pl.col("scored_by").is_not_null())
    misses = _flat(rows, "missed_proba").cast(pl.Float64).to_numpy()
    counts = rows["missed_proba"].list.len().fill_null(0).to_numpy()
    shown = rows["missed_proba"].list.eval(pl.element().cast(pl.Float64)).list.sum().fill_null(0.0).to_numpy()
    expected = ExpectedMisses(
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        boxes=np.ones((len(misses), 7)),
        labels=np.zeros(len(misses), np.int64),
        proba=misses,
        without_candidate=np.maximum(rows["expected_misses"].to_numpy() - shown, 0.0),
    )
    proba = _flat(rows, "box_error_proba").cast(pl.Float64).fill_null(float("nan")).to_numpy()
    unseen = (_flat(rows, "box_error_codes") == UNSEEN).fill_null(value=False).to_numpy()
    state = detection_window_state(scorer.window_reference, proba, expected, is_unseen=unseen)
    estimate = estimate_detection_window(state, scorer.window_reference, level=level)
    return with_candidate_badge(estimate, state, scorer.window_reference)


def detection_window_evidence(stored: StoredResult) -> pl.DataFrame:
    """Return estimated and true precision and recall of windows of a detector's labelled frames.

    Per dataset that is neither the reference nor training data: all its frames, and random windows of 20 to 100. The
    sample is the same every time.

    Args:
        stored: The result.

    Returns:
        Columns of `DETECTION_EVIDENCE_SCHEMA`; no row where only the reference and training data were traced, or where
        the traces are gone.
    """
    epoch = stored.row["epochs"][-1]
    units = stored.units().filter(pl.col("n_epoch").eq_missing(pl.lit(epoch, dtype=pl.Int64))).collect()
    rows: list[dict[str, Any]] = []
    scorer = load_detection_scorer(stored.lake, stored.result_name, n_epoch=epoch)
    for dataset in units["dataset_type"].unique().sort():
        if dataset in (stored.row["decision_dataset"], PRODUCTION) or dataset.lower() == TRAIN:
            continue
        frames = score_frames(_frames(stored, dataset, epoch), scorer)
        scored = frames.filter(pl.col("scored_by").is_not_null())
        truth = _truth(units.filter(pl.col("dataset_type") == dataset))
        for kind, name, window in _windows(scored):
            estimate = estimate_frames(window, scorer)
            rows.append({"dataset": dataset, "kind": kind, "name": name} | _row(window, truth, estimate, scorer))
    return pl.DataFrame(rows, schema=DETECTION_EVIDENCE_SCHEMA)


def _flat(rows: pl.DataFrame, name: str) -> pl.Series:
    lists = rows[name]
    return lists.filter(lists.list.len().fill_null(0) > 0).explode()


def _frames(stored: StoredResult, dataset: str, epoch: int | None) -> pl.DataFrame:
    """Return labelled frames of a dataset as they were traced, in random order; none where the version is gone."""
    version = stored.inputs["table_versions"].get(TRACES_INPUTS.name)
    names = ["input_id", "fingerprint", *BOX_COLUMNS]
    try:
        traced = (
            stored.lake.scan(TRACES_INPUTS, version=version, model_key=stored.model_key)
            .filter(pl.col("n_epoch").eq_missing(pl.lit(epoch, dtype=pl.Int64)))
            .filter((pl.col("dataset_type") == dataset) & pl.col("truth_labels").is_not_null())
            .select(names)
            .sort("input_id")
            .collect()
        )
    except LakeError:  # the version was vacuumed
        traced = pl.DataFrame(schema={name: TRACES_INPUTS.column(name).data_type for name in names})
    order = np.random.default_rng(0).permutation(traced.height)[:_POOL]
    return traced[order].with_columns(pl.col("input_id").alias("request_id"))


def _truth(units: pl.DataFrame) -> pl.DataFrame:
    """Return, by frame, predictions and objects with how many of each were right."""
    is_object = pl.col("unit_kind") == "object"
    return units.group_by("input_id").agg(
        (~is_object).sum().alias("predictions"),
        (~is_object & ~pl.col("is_error")).sum().alias("hits"),
        is_object.sum().alias("objects"),
        (is_object & (pl.col("outcome") == "tp")).sum().alias("found"),
        pl.col("confidence").filter(~is_object).cast(pl.Float64).sum().alias("score"),
    )


def _windows(frames: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    n = frames.height
    if n == 0:
        return
    yield "all", "all frames", frames
    size = min(max(n // 12, _SMALLEST), _LARGEST)
    for number in range(min(n // size, _WINDOWS)):
        yield "random", f"random window {number + 1}", frames.slice(number * size, size)


def _row(
    window: pl.DataFrame, truth: pl.DataFrame, estimate: DetectionEstimate, scorer: DetectionScorer
) -> dict[str, Any]:
    sums = window.select("input_id").join(truth, on="input_id", how="left").sum().row(0, named=True)
    reference = scorer.window_reference
    return {
        "frames": estimate.frames,
        "boxes": estimate.boxes,
        "precision_true": _share(sums["hits"], sums["predictions"]),
        "recall_true": _share(sums["found"], sums["objects"]),
        "precision_score": _share(sums["score"], sums["predictions"]),
        "precision_reference": reference.precision,
        "recall_reference": reference.recall,
        **{
            f"{rate}{end}": getattr(estimate, f"{rate}{end}")
            for rate in ("precision", "recall")
            for end in ("", "_low", "_high")
        },
        "badges": list(estimate.badges),
    }


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
