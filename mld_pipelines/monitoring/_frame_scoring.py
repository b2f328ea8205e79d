"""Score logged frames of a detector by a stored result, in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.capture import Lists, can_use_frames, from_frame, to_frame
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.monitoring._scoring import ResultScorers
from mld_pipelines.records import Detections3D
from mld_pipelines.tables import LANDING_INFERENCES

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from mld_pipelines.capture import Columns
    from mld_pipelines.diagnosis import DetectionScorer, ScoredFrames
    from mld_pipelines.lake import Lake

__all__ = ["FrameScoring"]


class FrameScoring(ResultScorers["DetectionScorer"]):
    """Adds error probabilities, codes and expected misses to captured frames; silent where it cannot."""

    def load(self, lake: Lake, n_epoch: int | None) -> DetectionScorer:
        """See `ResultScorers`."""
        from mld_pipelines.evaluation import load_detection_scorer

        return load_detection_scorer(lake, self._result_name, n_epoch=n_epoch)

    def __call__(self, columns: Columns, rows: int) -> Columns:
        """Return the score columns of frames, none where they cannot be scored; see `ScoreFrames`."""
        try:
            scorer = self.scorer(columns["fingerprint"])
            if scorer is None:
                return {}
            if scorer.estimator.scorer.has_suppressed and "suppressed_labels" not in columns:
                self.say(
                    "candidates",
                    f"frames come without suppressed candidates, which the reference of {self._result_name!r} has: "
                    "risk scores made of them contribute nothing, and misses are assumed as in the reference. Trace "
                    "and evaluate the detector as it runs here.",
                )
            try:
                batch = _batch(scorer, columns)
                if batch is not None:
                    return _columns(scorer, scorer.score(**batch))
            except InvalidInputError:  # numbers that are none, or frames that do not fit: told apart one by one
                pass
            return self._one_by_one(scorer, columns, rows) if can_use_frames() else {}
        except Exception as error:
            self.failed(error)
            return {}

    def _one_by_one(self, scorer: DetectionScorer, columns: Columns, rows: int) -> Columns:
        import polars as pl

        from mld_pipelines.evaluation import FRAME_INPUT_COLUMNS, FRAME_SCORE_COLUMNS

        given = columns | {"fingerprint": scorer.fingerprint}  # other weights were accepted
        frames = to_frame(LANDING_INFERENCES, rows, given, only=FRAME_INPUT_COLUMNS)
        parts = [self._scored(frame, scorer) for frame in frames.iter_slices(1)]
        scores = pl.concat([part for part, _ in parts]).select(FRAME_SCORE_COLUMNS)
        refused, unscored = sum(failed for _, failed in parts), scores["scored_by"].null_count()
        if unscored > refused:
            self.say(
                "incomplete",
                f"frames land unscored: result {self._result_name!r} was made with features or class scores that this "
                f"detector does not give ({unscored - refused} of {rows} frames at first). Trace and evaluate it as it "
                "runs here.",
            )
        return from_frame(scores) if unscored < rows else {}

    def _scored(self, frame: pl.DataFrame, scorer: DetectionScorer) -> tuple[pl.DataFrame, bool]:
        """Return one frame with its score columns, and whether it was refused."""
        import polars as pl

        from mld_pipelines.evaluation import FRAME_SCORE_COLUMNS, score_frames

        try:
            return score_frames(frame, scorer), False
        except InvalidInputError as error:
            self.failed(error)
            nothing = {name: LANDING_INFERENCES.column(name).data_type for name in FRAME_SCORE_COLUMNS}
            return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in nothing.items()), True


def _batch(scorer: DetectionScorer, columns: Columns) -> dict[str, Any] | None:
    """Return the arguments of `DetectionScorer.score` without a detour through a frame, which takes 5 times as long.

    None where frames differ in what belongs to their boxes, or lack what the estimator needs.
    """
    from mld_pipelines.evaluation import PRODUCTION

    labels: Lists = columns["labels"]
    counts = np.diff(labels.offsets)
    spaces = {space for space, count in zip(columns["class_space"], counts.tolist(), strict=True) if count}
    wanted = scorer.estimator.scorer
    class_scores = _vectors(columns.get("class_scores"), counts)
    features = _vectors(columns.get("features"), counts)
    if not counts.sum():
        features = np.empty((0, wanted.feature_dim), np.float32) if wanted.feature_dim else None
    else:
        lacks_scores = wanted.has_class_scores and class_scores is None
        if len(spaces) > 1 or lacks_scores or (wanted.feature_dim and features is None):
            return None
    return {
        "recorded": _boxes(columns, ""),
        "suppressed": _boxes(columns, "suppressed_") if "suppressed_labels" in columns else None,
        "class_scores": class_scores,
        "class_space": None if class_scores is None else next(iter(spaces)),
        "features": features,
        "keys": [f"{PRODUCTION}/{request}" for request in columns["request_id"]],
    }


def _boxes(columns: Columns, prefix: str) -> Detections3D:
    labels: Lists = columns[f"{prefix}labels"]
    velocities: Any = None if prefix else columns["velocities"].values.reshape(-1, 2)
    return Detections3D(
        offsets=labels.offsets,
        boxes=columns[f"{prefix}boxes_3d"].values.reshape(-1, 7),
        labels=labels.values,
        velocities=velocities,
        scores=columns[f"{prefix}scores"].values,
    )


def _vectors(lists: Lists | None, counts: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return one vector per box, as it is stored; None where some box has none or widths differ."""
    boxes = int(counts.sum())
    if lists is None or not boxes or not len(lists.values) or len(lists.values) % boxes:
        return None
    width = len(lists.values) // boxes
    if not np.array_equal(np.diff(lists.offsets), counts * width):
        return None
    with np.errstate(over="ignore"):  # beyond float32 is infinite, as it would be stored
        return np.asarray(lists.values, np.float32).reshape(boxes, width)


def _columns(scorer: DetectionScorer, scored: ScoredFrames) -> Columns:
    misses, offsets = scored.misses, scored.offsets
    aleatoric = [None if code is None else scorer.issues.get(code, ("", False))[1] for code in scored.error_code]
    return {
        "error_proba": scored.error_proba,
        "error_code": scored.error_code,
        "category": scored.category,
        "is_aleatoric": aleatoric,
        "scored_by": [scorer.scored_by] * scored.frames,
        "expected_errors": scored.expected_errors,
        "expected_misses": scored.expected_misses,
        "box_error_proba": Lists(np.ma.masked_invalid(scored.box_error_proba), offsets),
        "box_error_codes": Lists(scored.box_error_codes, offsets),
        "box_categories": Lists(scored.box_categories, offsets),
        "missed_boxes_3d": Lists(misses.boxes.ravel(), 7 * misses.offsets),
        "missed_labels": Lists(misses.labels, misses.offsets),
        "missed_proba": Lists(misses.proba.astype(np.float32), misses.offsets),
        "missed_codes": Lists(list(scored.miss_codes), misses.offsets),
        "missed_categories": Lists(list(scored.miss_categories), misses.offsets),
    }
