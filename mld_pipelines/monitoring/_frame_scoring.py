"""Score logged frames of a detector by a stored result, in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.capture import from_frame, to_frame
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.monitoring._scoring import ResultScorers
from mld_pipelines.tables import LANDING_INFERENCES

if TYPE_CHECKING:
    import polars as pl

    from mld_pipelines.capture import Columns
    from mld_pipelines.diagnosis import DetectionScorer
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
            return {} if scorer is None else self._scores(scorer, columns, rows)
        except Exception as error:
            self.failed(error)
            return {}

    def _scores(self, scorer: DetectionScorer, columns: Columns, rows: int) -> Columns:
        from mld_pipelines.evaluation import FRAME_INPUT_COLUMNS, FRAME_SCORE_COLUMNS

        given = columns | {"fingerprint": scorer.fingerprint}  # other weights were accepted
        frames = to_frame(LANDING_INFERENCES, rows, given, only=FRAME_INPUT_COLUMNS)
        scores = self._scored(frames, scorer).select(FRAME_SCORE_COLUMNS)
        if scores["scored_by"].null_count() < rows:
            return from_frame(scores)
        if not self.has_failed:
            self.say(
                "incomplete",
                f"frames land unscored: result {self._result_name!r} was made with features or class scores that this "
                "detector does not give. Trace and evaluate it as it runs here.",
            )
        return {}

    def _scored(self, frames: pl.DataFrame, scorer: DetectionScorer) -> pl.DataFrame:
        """Score frames; where one of them has numbers that are none, the others by themselves."""
        import polars as pl

        from mld_pipelines.evaluation import FRAME_SCORE_COLUMNS, score_frames

        try:
            return score_frames(frames, scorer)
        except InvalidInputError as error:
            if frames.height == 1:
                self.failed(error)
                nothing = {name: LANDING_INFERENCES.column(name).data_type for name in FRAME_SCORE_COLUMNS}
                return frames.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in nothing.items())
        return pl.concat([self._scored(frames.slice(index, 1), scorer) for index in range(frames.height)])
