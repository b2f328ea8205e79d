"""`Result`: what an evaluation found."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.evaluation import (
    ALEATORIC,
    CATEGORY_RATIOS,
    METRIC_COLUMNS,
    METRIC_EXTRAS,
    Filters,
    StoredResult,
    filtered,
    view,
)
from mld_pipelines.evaluator._display import ResultFrame, Summary
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import CATEGORIES, ISSUE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Result"]


class Result:
    """An immutable evaluation result.

    Attributes are read from the lake once and kept.

    Example:
        >>> result = evaluator.request_evaluation()  # doctest: +SKIP
        >>> print(result.metrics_summary())  # doctest: +SKIP
    """

    def __init__(self, stored: StoredResult) -> None:
        self._stored = stored

    def __repr__(self) -> str:
        return f"Result({self.result_name!r})"

    @property
    def result_name(self) -> str:
        """Name of the result; give it to a Logger."""
        return self._stored.result_name

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
        """
        wide = self._wide("metric").with_columns(pl.col("counts").cast(pl.Int64))
        return ResultFrame(wide.select("dataset", *METRIC_COLUMNS, *METRIC_EXTRAS, *self._epoch_column()))

    def issue_category_summary(self) -> ResultFrame:
        """Return one row per dataset with the share of its units in each category; aleatoric overlays the others."""
        return ResultFrame(self._wide("category_ratio").select("dataset", *CATEGORY_RATIOS, *self._epoch_column()))

    def get_summary(self) -> Summary:
        """Print and return metrics, issue categories and the error codes of each category."""
        by_code = self.get_view(["category", "error_code"], adjustby="category", sort="counts")
        codes = by_code.sort("dataset", "category", "counts", descending=[False, False, True], maintain_order=True)
        summary = Summary(
            self.result_name, self.metrics_summary(), self.issue_category_summary(), ResultFrame(codes), self.warnings
        )
        print(summary)  # noqa: T201 - the guides show that it prints
        return summary

    def get_issues(
        self, dataset: str | None = None, category: str | Sequence[str] | None = None, filters: Filters | None = None
    ) -> ResultFrame:
        """Return one row per error code and dataset, worst verdicts of the deciding dataset first.

        Args:
            dataset: Only this dataset.
            category: Only these categories; `aleatoric_hotspot`, which overlays the others, means the flagged codes.
            filters: Mapping, strings or a polars expression over the columns.

        Raises:
            InvalidInputError: An unknown dataset or category, or a filter that names an unknown column or a construct
                that is not allowed.
        """
        frame = self._issues
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
                the metadata keys.
            adjustby: Groups whose counts are the denominator of `ratio`; None divides by the dataset.
            filters: Mapping, strings or a polars expression over the unit columns.
            exclusive: Count aleatoric units in their primary category only.
            sort: Column to sort by.

        Raises:
            InvalidInputError: An unknown name; the message lists the valid ones.
        """
        return ResultFrame(
            view(self._units.lazy(), groupby, adjustby=adjustby, filters=filters, exclusive=exclusive, sort=sort)
        )

    @functools.cached_property
    def _metrics(self) -> pl.DataFrame:
        return self._stored.metrics()

    @functools.cached_property
    def _units(self) -> pl.DataFrame:
        return self._stored.units().drop("risk_scores").collect()

    @functools.cached_property
    def _issues(self) -> pl.DataFrame:
        rows = self._stored.issues()
        decides = pl.col("dataset") != self.decision_dataset
        ordered = rows.sort(
            decides, "dataset", "n_epoch", "errors", "counts", "error_code",
            descending=[False, False, False, True, True, False],
        )  # fmt: skip
        return ordered.select(*(column.name for column in ISSUE_COLUMNS), "n_epoch", "unit_kind")

    def _wide(self, scope: str) -> pl.DataFrame:
        rows = self._metrics.filter(pl.col("scope") == scope).rename({"dataset_type": "dataset"})
        wide = rows.pivot("metric", index=["dataset", "n_epoch"], values="value")
        return wide.sort("dataset", "n_epoch")

    def _epoch_column(self) -> list[str]:
        return ["n_epoch"] if len(self._stored.row["epochs"]) > 1 or self._stored.row["n_epoch_spec"] == "all" else []


def _check_known(what: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in wanted if name not in known]:
        raise InvalidInputError(f"unknown {what} {unknown[0]!r}; these exist: {', '.join(known)}.")
