"""What a result says about units without labels: scores, error rate, precision and recall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.evaluator._exporting import ResultExport
from mld_pipelines.evaluator._frame_scoring import estimate_given_frames, score_given_frames
from mld_pipelines.evaluator._scoring import ErrorRateEstimate, Given, estimate_given, score_given
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import DetectionEstimate
    from mld_pipelines.evaluator._display import ResultFrame

__all__ = ["ResultScores"]


class ResultScores(ResultExport):
    """Scores and estimates without labels; the base of `Result`."""

    @property
    def result_name(self) -> str:
        """Name of the result; give it to a Logger."""
        return self._stored.result_name

    def score(
        self,
        *,
        features: Any = None,
        logits: Any = None,
        probabilities: Any = None,
        rows: Any = None,
        n_epoch: int | None = None,
        accept_fingerprint: bool = False,
    ) -> ResultFrame:
        """Score units without their labels: what a Logger with this result would record of them.

        Args:
            features: `(N, d)` tensor, array or lists: the input of the layer that was traced. Not needed where the
                model was traced without features.
            logits: `(N, K)`; or `probabilities`.
            probabilities: `(N, K)`.
            rows: Instead of arrays, rows of logged inferences: a polars frame (as `landing/inferences`), a pandas
                frame or mappings with `logits` or `probs`, `feature` and `fingerprint`. Of a detector always rows, with
                the columns of its boxes.
            n_epoch: Epoch whose estimator is wanted; None takes that of the rows' weights, for arrays the latest.
            accept_fingerprint: Score rows of other weights, or of unknown ones, all the same.

        Returns:
            error_proba, error_code, category, is_aleatoric, reasons, prediction, confidence, support_distance,
            is_invalid; for rows, what names them first. A unit with NaN, infinity or missing values is null and
            `is_invalid`; empty input gives an empty frame. Of a detector one row per frame: error_proba (of any error),
            error_code, category, expected_errors, expected_misses, and lists with one entry per recorded box
            (box_error_proba, box_error_codes, box_categories) and per expected miss (missed_…).

        Raises:
            InvalidInputError: Other widths than the result was made with, rows of other weights, missing features.
            UnknownEpochError: The result has no such epoch.
        """
        given = Given(
            features=features, logits=logits, probabilities=probabilities, rows=rows,
            accept_fingerprint=accept_fingerprint,
        )  # fmt: skip
        if self._detects:
            return score_given_frames(given, self._frame_scorers(n_epoch))
        return score_given(given, self._scorers(n_epoch))

    def estimate_error_rate(
        self,
        *,
        features: Any = None,
        logits: Any = None,
        probabilities: Any = None,
        rows: Any = None,
        level: float = 0.9,
        n_epoch: int | None = None,
        accept_fingerprint: bool = False,
    ) -> ErrorRateEstimate:
        """Estimate the error rate of units without their labels, with an interval, the peers' values and badges.

        Args:
            features: As in `score`.
            logits: As in `score`.
            probabilities: As in `score`.
            rows: As in `score`.
            level: 0.8, 0.9 or 0.95.
            n_epoch: As in `score`.
            accept_fingerprint: As in `score`.

        Raises:
            InvalidInputError: As in `score`, another level, or rows of several epochs.
            UnknownEpochError: The result has no such epoch.
        """
        given = Given(
            features=features, logits=logits, probabilities=probabilities, rows=rows,
            accept_fingerprint=accept_fingerprint,
        )  # fmt: skip
        if self._detects:
            raise InvalidInputError(
                f"{self.result_name!r} is of a detector, which errs in two ways; nothing was estimated. Call "
                "estimate_precision_recall(rows=...)."
            )
        return estimate_given(given, self._scorers(n_epoch), level=level)

    def estimate_precision_recall(
        self, rows: Any, *, level: float = 0.9, n_epoch: int | None = None, accept_fingerprint: bool = False
    ) -> DetectionEstimate:
        """Estimate precision and recall of a detector's frames without their labels, with intervals and badges.

        Args:
            rows: Rows of logged inferences, as in `score`.
            level: 0.8, 0.9 or 0.95.
            n_epoch: As in `score`.
            accept_fingerprint: As in `score`.

        Raises:
            InvalidInputError: The result is of a classifier, as in `score`, another level, or rows of several epochs.
            UnknownEpochError: The result has no such epoch.
        """
        if not self._detects:
            raise InvalidInputError(
                f"{self.result_name!r} is of a classifier; nothing was estimated. Call estimate_error_rate."
            )
        given = Given(rows=rows, accept_fingerprint=accept_fingerprint)
        return estimate_given_frames(given, self._frame_scorers(n_epoch), level=level)
