"""What a result holds: its tables, read once and kept, and the scorers of its epochs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation import (
    detection_class_metrics,
    excess_errors,
    load_detection_scorer,
    load_model_facts,
    load_scorer,
    unit_columns,
)
from mld_pipelines.evaluator._classes import class_table
from mld_pipelines.evaluator._detection_comparison import FrameSide
from mld_pipelines.evaluator._frames import frame_table, traced_frames
from mld_pipelines.evaluator._pairing import Side
from mld_pipelines.evaluator._scoring import ScorerChoice
from mld_pipelines.exceptions import InvalidInputError, UnknownEpochError
from mld_pipelines.tables import ESTIMATORS_MODELS, ISSUE_COLUMNS

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import DetectionEstimator, DetectionScorer, ErrorEstimator, ProductionScorer
    from mld_pipelines.evaluation import StoredResult

__all__ = ["ResultContents"]


class ResultContents:
    """Lazy access to the rows and artifacts of one stored result.

    Args:
        stored: The result.
    """

    def __init__(self, stored: StoredResult) -> None:
        self._stored = stored

    @property
    def _detects(self) -> bool:
        """Whether units are boxes."""
        return bool(self._stored.row["task"] != "classification")

    @functools.cached_property
    def _metrics(self) -> pl.DataFrame:
        return self._stored.metrics()

    @functools.cached_property
    def _units(self) -> pl.DataFrame:
        return unit_columns(self._stored.units().drop("risk_scores").collect())

    @functools.cached_property
    def _issues(self) -> pl.DataFrame:
        rows = self._stored.issues()
        decides = pl.col("dataset") != self._stored.row["decision_dataset"]
        ordered = rows.sort(
            decides, "dataset", "n_epoch", excess_errors("dataset", "n_epoch", "unit_kind"), "errors", "error_code",
            descending=[False, False, False, True, True, False],
        )  # fmt: skip
        return ordered.select(*(column.name for column in ISSUE_COLUMNS), "n_epoch", "unit_kind")

    @functools.cached_property
    def _class_names(self) -> tuple[str, ...]:
        stored = self._stored
        return load_model_facts(stored.lake, stored.model_key, stored.row["fingerprint"]).class_names

    @functools.cached_property
    def _class_table(self) -> pl.DataFrame:
        names = self._class_names
        limits = {epoch: self._frame_scorer(epoch).estimator.thresholds for epoch in self._stored.row["epochs"]}
        n_classes = max(map(len, limits.values()))
        metrics = detection_class_metrics(self._stored, n_classes=n_classes, class_names=names)
        return class_table(self._units, metrics, thresholds=limits, class_names=names)

    @functools.cached_property
    def _frames(self) -> pl.DataFrame:
        """One row per evaluated frame of a detector."""
        return frame_table(self._stored, self._units)

    @functools.cached_property
    def _codes(self) -> frozenset[str]:
        return frozenset({*self._issues["error_code"], *self._units["error_code"]})

    @functools.cached_property
    def _loaded(self) -> dict[int | None, ProductionScorer]:
        return {}

    def _scorer(self, epoch: int | None) -> ProductionScorer:
        """Return the production scorer of an epoch, kept for the next call."""
        if epoch not in self._loaded:
            self._loaded[epoch] = load_scorer(self._stored.lake, self._stored.result_name, n_epoch=epoch)
        return self._loaded[epoch]

    @functools.cached_property
    def _frame_scorers_loaded(self) -> dict[int | None, DetectionScorer]:
        return {}

    def _frame_scorer(self, epoch: int | None) -> DetectionScorer:
        """Return the scorer of a detector's epoch, kept for the next call."""
        loaded, stored = self._frame_scorers_loaded, self._stored
        if epoch not in loaded:
            loaded[epoch] = load_detection_scorer(stored.lake, stored.result_name, n_epoch=epoch)
        return loaded[epoch]

    def _estimator(self, epoch: int | None) -> ErrorEstimator | DetectionEstimator:
        """Return what estimated the error probabilities of an epoch."""
        return self._frame_scorer(epoch).estimator if self._detects else self._scorer(epoch).estimator

    def _scorers(self, n_epoch: int | None) -> ScorerChoice[ProductionScorer]:
        return ScorerChoice(*self._weights(n_epoch), self._scorer)

    def _frame_scorers(self, n_epoch: int | None) -> ScorerChoice[DetectionScorer]:
        return ScorerChoice(*self._weights(n_epoch), self._frame_scorer)

    def _weights(self, n_epoch: int | None) -> tuple[str, dict[str, int | None], int | None]:
        """Return the name, the epoch by fingerprint and the epoch that is wanted."""
        row = self._stored.row
        epochs = dict(zip(row["fingerprints"], row["epochs"], strict=True))
        return self._stored.result_name, epochs, None if n_epoch is None else self._epoch(n_epoch)

    def _epoch(self, n_epoch: int | None) -> int | None:
        """Return an epoch of this result; None stands for the latest."""
        epochs = self._stored.row["epochs"]
        if n_epoch is None:
            latest: int | None = epochs[-1]
            return latest
        if n_epoch not in epochs:
            had = ", ".join("without epoch" if epoch is None else str(epoch) for epoch in epochs)
            raise UnknownEpochError(f"result {self._stored.result_name!r} has no epoch {n_epoch!r}; it has: {had}.")
        return n_epoch

    def _fingerprint(self, epoch: int | None) -> str:
        row = self._stored.row
        fingerprint: str = row["fingerprints"][row["epochs"].index(epoch)]
        return fingerprint

    def _frame_side(self, epoch: int | None) -> FrameSide:
        """Return what a comparison of detectors needs of one epoch: frames without a box are known to traces alone."""
        side, stored = self._side(epoch), self._stored
        names = ["dataset_type", "input_id", "input_hash"]
        frames, traced = side.units.select(names), traced_frames(stored, [*names, "n_epoch"])
        if traced is not None:  # else frames without a box are the same for both
            in_epoch = pl.col("n_epoch").eq_missing(pl.lit(epoch, dtype=pl.Int64))
            frames = pl.concat([traced.filter(in_epoch).select(names), frames])
        known = frames.rename({"dataset_type": "dataset"}).unique(["dataset", "input_id"], keep="first")
        return FrameSide(side, known.sort("dataset", "input_id"))

    def _side(self, epoch: int | None) -> Side:
        """Return what a comparison needs of one epoch."""
        stored, in_epoch = self._stored, pl.col("n_epoch").eq_missing(pl.lit(epoch, dtype=pl.Int64))
        kind = "object_codebook" if self._detects else "codebook"
        lineages = (
            stored.lake.scan(ESTIMATORS_MODELS, model_key=stored.model_key)
            .filter((pl.col("evaluation_id") == stored.evaluation_id) & in_epoch & (pl.col("kind") == kind))
            .select("lineage_id")
            .collect()["lineage_id"]
            .to_list()
        )
        name = stored.result_name
        if len(stored.row["epochs"]) > 1:
            name += " without epoch" if epoch is None else f" epoch {epoch}"
        lineage: str | None = next(iter(lineages), None)
        return Side(name, self._units.filter(in_epoch), lineage)

    @property
    def _matching(self) -> str:
        """How predictions of a detector were matched; results from before there was a choice: by distance."""
        policy = self._stored.inputs["policy"]
        return str(policy.get("matching", Policy().matching))

    def _require_same_matching(self, other: ResultContents) -> None:
        """Check that a box is right for both results by the same rule.

        Raises:
            InvalidInputError: It is not.
        """
        mine, theirs = self._matching, other._matching
        if mine != theirs:
            raise InvalidInputError(
                f"{self._stored.result_name!r} matches boxes by {mine!r} and {other._stored.result_name!r} by "
                f"{theirs!r}: what is right for one may be wrong for the other, so nothing was compared. Evaluate one "
                f"of them again with Policy(matching={theirs!r}) or Policy(matching={mine!r})."
            )

    def _of_kind(self, frame: pl.DataFrame, unit_kind: str | None) -> pl.DataFrame:
        """Return the rows of one kind of unit; None stands for all.

        Raises:
            InvalidInputError: This result has no such units.
        """
        known = ("prediction", "object") if self._detects else ("input",)
        if unit_kind is not None and unit_kind not in known:
            raise InvalidInputError(f"unknown unit_kind {unit_kind!r}; this result has: {', '.join(known)}.")
        return frame if unit_kind is None else frame.filter(pl.col("unit_kind") == unit_kind)

    def _metric_table(self) -> pl.DataFrame:
        """Return the metrics, one row per dataset and epoch; what counts is a whole number."""
        wide = self._wide("metric")
        counted = [name for name in ("counts", "n_inputs", "n_missed") if name in wide.columns]
        return wide.with_columns(pl.col(counted).cast(pl.Int64))

    def _wide(self, scope: str) -> pl.DataFrame:
        rows = self._metrics.filter(pl.col("scope") == scope).rename({"dataset_type": "dataset"})
        wide = rows.pivot("metric", index=["dataset", "n_epoch"], values="value")
        return wide.sort("dataset", "n_epoch")

    def _epoch_column(self) -> list[str]:
        return ["n_epoch"] if len(self._stored.row["epochs"]) > 1 or self._stored.row["n_epoch_spec"] == "all" else []
