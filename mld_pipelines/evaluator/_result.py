"""`Result`: what an evaluation found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.evaluation import (
    ALEATORIC,
    CATEGORY_RATIOS,
    DETECTION_EXTRAS,
    METRIC_COLUMNS,
    METRIC_EXTRAS,
    Filters,
    filtered,
    view,
)
from mld_pipelines.evaluator._comparison import Comparison, compare_sides
from mld_pipelines.evaluator._detection_comparison import compare_detectors
from mld_pipelines.evaluator._display import ResultFrame, Summary
from mld_pipelines.evaluator._frames import select_frames
from mld_pipelines.evaluator._result_scores import ResultScores
from mld_pipelines.evaluator._samples import order_units, sample_frame, select_units
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Result"]


class Result(ResultScores):
    """An immutable evaluation result.

    Attributes are read from the lake once and kept.

    Example:
        >>> result = evaluator.request_evaluation()  # doctest: +SKIP
        >>> print(result.metrics_summary())  # doctest: +SKIP
    """

    def __repr__(self) -> str:
        return f"Result({self.result_name!r})"

    @property
    def inputs(self) -> dict[str, Any]:
        """What the result was computed from: Delta versions, code version, policy, seed, codebooks, Dagster run."""
        return self._stored.inputs

    @property
    def run_id(self) -> str | None:
        """Dagster run that made the result; None when it was made in this process's own way."""
        run_id: str | None = self._stored.row["run_id"]
        return run_id

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers should know."""
        return tuple(self._stored.row["warnings"])

    @property
    def decision_dataset(self) -> str:
        """Dataset whose counts decide the categories."""
        name: str = self._stored.row["decision_dataset"]
        return name

    def metrics_summary(self) -> ResultFrame:
        """Return one row per dataset (and epoch): counts, accuracy, ranking, entropies, error-probability ranking.

        `net_entropy` and `net_entropy_loss` are sums over the units in nats; `auroc` and `auprc` are macro
        one-vs-rest; `error_proba_auprc` has "error" as its positive class.

        Of a detector `counts` are kept predictions and missed objects, `accuracy` the share of them that is right,
        `auroc` ranks true above false positives by score over all recorded boxes, `auprc` is mAP as nuScenes has it,
        and entropies are those of predictions. Behind stand n_inputs (frames), n_missed, precision, recall and f1 at
        the operating point, map, nds_like, and the errors of matched boxes: mate (m), mase, maoe (rad), mave (m/s).
        """
        extras = DETECTION_EXTRAS if self._detects else ()
        names = ("dataset", *METRIC_COLUMNS, *METRIC_EXTRAS, *extras, *self._epoch_column())
        return ResultFrame(self._metric_table().select(names))

    def issue_category_summary(self) -> ResultFrame:
        """Return one row per dataset with the share of its units in each category; aleatoric overlays the others."""
        return ResultFrame(self._wide("category_ratio").select("dataset", *CATEGORY_RATIOS, *self._epoch_column()))

    def class_summary(self) -> ResultFrame:
        """Return, of a detector, one row per dataset and class: operating point, AP, precision, recall, errors by type.

        `ap` is the mean over 0.5, 1, 2 and 4 m of all recorded boxes, null where the class has no true box or the
        traces were removed; ate, ase, aoe and ave are nuScenes' errors of matched boxes. Everything else counts
        predictions at or above `threshold`, and true objects.

        Raises:
            InvalidInputError: The result is of a classifier.
        """
        if not self._detects:
            raise InvalidInputError(
                f"{self.result_name!r} is of a classifier; nothing was computed. Group its units by class: "
                'get_view(["label", "prediction"]).'
            )
        frame = self._class_table
        return ResultFrame(frame if self._epoch_column() else frame.drop("n_epoch"))

    def get_summary(self) -> Summary:
        """Print and return metrics, issue categories and the error codes of each category."""
        by_code = self.get_view(["category", "error_code"], adjustby="category", sort="counts")
        codes = by_code.sort("dataset", "category", "counts", descending=[False, False, True], maintain_order=True)
        classes = self.class_summary() if self._detects else None
        summary = Summary(
            self.result_name, self.metrics_summary(), self.issue_category_summary(), ResultFrame(codes), self.warnings,
            classes,
        )  # fmt: skip
        print(summary)  # noqa: T201 - the guides show that it prints
        return summary

    def get_issues(
        self,
        dataset: str | None = None,
        category: str | Sequence[str] | None = None,
        filters: Filters | None = None,
        *,
        unit_kind: str | None = None,
    ) -> ResultFrame:
        """Return one row per error code and dataset, the deciding dataset first, its worst codes first.

        The worst is the code with most errors beyond those that as many units have at the rate of its dataset.

        Args:
            dataset: Only this dataset.
            category: Only these categories; `aleatoric_hotspot`, which overlays the others, means the flagged codes.
            filters: Mapping, strings or a polars expression over the columns.
            unit_kind: Of a detector only codes of predictions (`"prediction"`) or of objects (`"object"`).

        Raises:
            InvalidInputError: An unknown dataset, category or kind, or a filter that names an unknown column or a
                construct that is not allowed.
        """
        frame = self._of_kind(self._issues, unit_kind)
        if dataset is not None:
            _check_known("dataset", [dataset], self._stored.row["datasets"])
            frame = frame.filter(pl.col("dataset") == dataset)
        if category is not None:
            wanted = [category] if isinstance(category, str) else list(category)
            _check_known("category", wanted, (*CATEGORIES, ALEATORIC))
            overlay = pl.col("is_aleatoric").fill_null(value=False) & pl.lit(ALEATORIC in wanted)
            frame = frame.filter(pl.col("category").is_in(wanted) | overlay)
        return ResultFrame(filtered(frame, filters))

    def get_view(
        self,
        groupby: Sequence[str] | str,
        adjustby: Sequence[str] | str | None = None,
        filters: Filters | None = None,
        *,
        exclusive: bool = False,
        sort: str = "counts",
    ) -> ResultFrame:
        """Group units, count them, and divide by the counts of the `adjustby` group.

        Args:
            groupby: Any of dataset, n_epoch, category, error_code, error_type, label, prediction, confidence_bin and
                the metadata keys; of a detector also unit_kind, outcome, error_sub_type and range_bin.
            adjustby: Groups whose counts are the denominator of `ratio`; None divides by the dataset.
            filters: Mapping, strings or a polars expression over the unit columns, of a detector also score, range_m,
                points, match_distance, ate, ase, aoe and ave.
            exclusive: Count aleatoric units in their primary category only.
            sort: Column to sort by.

        Raises:
            InvalidInputError: An unknown name; the message lists the valid ones.
        """
        return ResultFrame(
            view(self._units.lazy(), groupby, adjustby=adjustby, filters=filters, exclusive=exclusive, sort=sort)
        )

    def get_samples(
        self,
        error_code: str | Sequence[str] | None = None,
        category: str | Sequence[str] | None = None,
        *,
        dataset: str | None = None,
        n_epoch: int | None = None,
        filters: Filters | None = None,
        limit: int | None = None,
        order: str = "typical",
        reasons: bool = True,
    ) -> ResultFrame:
        """Return single units, one row each, in an order that does not depend on how they were stored.

        Args:
            error_code: Only units of these codes.
            category: Only units of these categories; `aleatoric_hotspot` means the flagged units.
            dataset: Only this dataset.
            n_epoch: Only this epoch; None takes all of the result.
            filters: Mapping, strings or a polars expression over the columns and the metadata keys.
            limit: Most rows; None returns all.
            order: `"typical"` (nearest the code's centroid first), `"atypical"`, `"error_proba"`, `"confidence"`,
                `"loss"` (largest first) or `"input_id"`; ties go by dataset, epoch and input.
            reasons: Whether to add the up to three largest reasons of the error probability.

        Returns:
            dataset, n_epoch, input_id, input_uri (null where none was recorded), label, prediction, is_error,
            confidence, error_proba (cross-fitted on the deciding dataset), error_code, category, is_aleatoric,
            support_distance, loss, reasons, then the metadata keys; a key named like one of these columns stands as
            `metadata_<key>`. Of a detector unit_kind, unit_index (place in the frame's recorded or true boxes),
            outcome, error_type, error_sub_type (of `loc`, where boxes match by BEV IoU), box_3d, range_m, points,
            match_distance, ate, ase, aoe, ave and truth_box_3d (the true box that a prediction matches or is mistaken
            about) stand before the metadata.

        Raises:
            InvalidInputError: An unknown code, category, dataset, order, or filter; the message names what exists.
            UnknownEpochError: The result has no such epoch.
        """
        self._epoch(n_epoch)
        _check_known("dataset", [] if dataset is None else [dataset], self._stored.row["datasets"])
        _check_known("category", _listed(category), (*CATEGORIES, ALEATORIC))
        _check_known("error_code", _listed(error_code), sorted(self._codes))
        found = select_units(
            self._units, error_code=error_code, category=category, dataset=dataset, n_epoch=n_epoch, filters=filters
        )
        return sample_frame(self._stored, order_units(found, order, limit), self._estimator, reasons=reasons)

    def get_frames(
        self,
        dataset: str | None = None,
        n_epoch: int | None = None,
        filters: Filters | None = None,
        *,
        order: str = "errors",
        limit: int | None = None,
    ) -> ResultFrame:
        """Return, of a detector, one row per evaluated frame; also frames without a box or an object.

        Args:
            dataset: Only this dataset.
            n_epoch: Only this epoch; None takes all of the result.
            filters: Mapping, strings or a polars expression over the columns and the metadata keys.
            order: `"errors"` (most false positives and missed objects first, then expected errors),
                `"false_positives"`, `"missed"`, `"expected_errors"`, `"error_proba"` or `"input_id"`; ties go by
                dataset, epoch and input.
            limit: Most rows; None returns all.

        Returns:
            dataset, n_epoch, input_id, input_uri; predictions (at or above the operating point), objects,
            true_positives, false_positives, missed (objects that no prediction found or is mistaken about); is_error
            (any false positive or missed object); expected_errors (Σ `error_proba` of the predictions, cross-fitted on
            the deciding dataset), error_proba (P(any of them is wrong), errors taken as independent, which boxes of
            one frame are not quite); error_code (of the wrong prediction with the largest `error_proba`, else of a
            missed object, else of the most doubtful prediction); then the metadata keys.

        Raises:
            InvalidInputError: The result is of a classifier, or an unknown dataset, order or filter.
            UnknownEpochError: The result has no such epoch.
        """
        if not self._detects:
            raise InvalidInputError(
                f"{self.result_name!r} is of a classifier, whose units are its inputs; no frames were listed. Call "
                "get_samples()."
            )
        self._epoch(n_epoch)
        _check_known("dataset", [] if dataset is None else [dataset], self._stored.row["datasets"])
        return select_frames(self._frames, dataset=dataset, n_epoch=n_epoch, filters=filters, order=order, limit=limit)

    def compare(
        self,
        other: Result,
        *,
        dataset: str | None = None,
        n_boot: int = 1000,
        seed: int = 0,
        level: float = 0.95,
        n_epoch: int | None = None,
        other_epoch: int | None = None,
    ) -> Comparison:
        """Compare another result with this one, the baseline, on the inputs that both have.

        Common are inputs of equal dataset and id whose input_hash and label agree; what is not common is counted.
        Accuracy is tested by McNemar, everything else by a paired bootstrap. Of detectors McNemar tests which objects
        were found, and the bootstrap draws whole frames.

        Args:
            other: The result to compare with this one, of any model of the same task.
            dataset: Only this dataset; None compares each that both have, never pooled.
            n_boot: Resamples, at least 100.
            seed: Their seed.
            level: Level of the intervals and of the verdicts.
            n_epoch: Epoch of this result; None takes its latest.
            other_epoch: Epoch of the other; None takes its latest.

        Raises:
            InvalidInputError: `other` is no result or of another task, nothing is common, or a number is out of range.
            UnknownEpochError: A result has no such epoch.
        """
        if not isinstance(other, Result):
            raise InvalidInputError(
                f"other is a {type(other).__name__}, not a Result; nothing was compared. Load it by "
                "Evaluator(...).get_result(name)."
            )
        tasks = self._stored.row["task"], other._stored.row["task"]
        if tasks[0] != tasks[1]:
            raise InvalidInputError(
                f"{self.result_name!r} is of task {tasks[0]!r} and {other.result_name!r} of {tasks[1]!r}; nothing was "
                "compared. Compare results of one task."
            )
        mine, theirs = self._epoch(n_epoch), other._epoch(other_epoch)
        same = self._fingerprint(mine) == other._fingerprint(theirs)
        notes = ("both results are of the same weights: differences come from the evaluation.",) if same else ()
        options: dict[str, Any] = {"dataset": dataset, "n_boot": n_boot, "seed": seed, "level": level, "notes": notes}
        if self._detects:
            self._require_same_matching(other)
            return compare_detectors(self._frame_side(mine), other._frame_side(theirs), **options)
        return compare_sides(self._side(mine), other._side(theirs), **options)


def _listed(names: str | Sequence[str] | None) -> list[str]:
    if names is None:
        return []
    if isinstance(names, str):
        return [names]
    if isinstance(names, Iterable):
        return list(names)
    raise InvalidInputError(f"expected a name or several, got {names!r}; nothing was looked up.")


def _check_known(what: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in wanted if name not in known]:
        raise InvalidInputError(f"unknown {what} {unknown[0]!r}; these exist: {', '.join(known)}.")
