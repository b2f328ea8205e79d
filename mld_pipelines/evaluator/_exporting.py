"""What a result gives away: its codes as a frame, and everything as files."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.evaluation import ALEATORIC, excess_errors, unit_columns
from mld_pipelines.evaluator._contents import ResultContents
from mld_pipelines.evaluator._display import ResultFrame
from mld_pipelines.evaluator._export import Exported, export_files
from mld_pipelines.evaluator._frames import frames_in_order
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import CATEGORIES, CODE_COLUMNS

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["ResultExport"]

_KEY = ["n_epoch", "dataset", "input_id", "unit_kind"]
_ATTEMPT = ["schema_version", "evaluation_id", "result_name", "model_key"]


class ResultExport(ResultContents):
    """Codes and files of a result; the base of `Result`."""

    def get_codes(self, category: str | Sequence[str] | None = None, *, unit_kind: str | None = None) -> ResultFrame:
        """Return one row per error code that says what it is, in the order of `get_issues`.

        Args:
            category: Only codes of these categories; `aleatoric_hotspot`, which overlays the others, means the flagged.
            unit_kind: Of a detector only codes of predictions (`"prediction"`) or of objects (`"object"`).

        Returns:
            error_code, category, is_aleatoric, then counts, class mix, confusions, typical inputs, what distinguishes
            it, its place on the map and the code of the previous weights it continues; described by the units of the
            deciding dataset. A result made before codes described themselves has no rows.

        Raises:
            InvalidInputError: An unknown category or kind; the message lists those that exist.
        """
        frame = self._of_kind(self._described, unit_kind)
        if category is not None:
            wanted = [category] if isinstance(category, str) else list(category)
            known = (*CATEGORIES, ALEATORIC)
            if unknown := [name for name in wanted if name not in known]:
                raise InvalidInputError(f"unknown category {unknown[0]!r}; these exist: {', '.join(known)}.")
            overlay = pl.col("is_aleatoric").fill_null(value=False) & pl.lit(ALEATORIC in wanted)
            frame = frame.filter(pl.col("category").is_in(wanted) | overlay)
        return ResultFrame(frame)

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        table: str | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write the result to files and return their paths.

        `report.html` is a page with pictures that needs nothing else; `result.json` holds everything; `issues.csv`
        or `units.parquet` one table, named by the file or by `table`; a folder gets every table and `result.json`.
        The same result gives the same bytes.

        Args:
            path: A file whose suffix is the format, or a folder, which is made if need be.
            format: `"parquet"`, `"csv"`, `"json"` or `"html"`; None takes the suffix, and Parquet for a folder.
            table: `"units"`, `"metrics"`, `"issues"` or `"codes"`, for Parquet and CSV.
            overwrite: Replace files that exist.

        Raises:
            InvalidInputError: The format or table is unknown, or contradicts the suffix.
            ExportError: A file exists already, or cannot be written.
        """
        tables = {
            "units": self._all_units,
            "metrics": self._all_metrics,
            "issues": lambda: self._issues,
            "codes": lambda: self._described,
        }
        content = Exported(facts=self._facts, tables=tables, report=self._report)
        return export_files(content, path, format=format, table=table, overwrite=overwrite)

    @functools.cached_property
    def _described(self) -> pl.DataFrame:
        decisive = pl.col("dataset") == self._stored.row["decision_dataset"]
        keys = ["n_epoch", "unit_kind", "error_code"]
        verdicts = self._stored.issues().filter(decisive).select(*keys, "category", "is_aleatoric")
        rows = self._stored.codes().join(verdicts, on=keys, how="left", nulls_equal=True)
        ordered = rows.sort(
            "n_epoch", excess_errors("n_epoch", "unit_kind"), "errors", "error_code",
            descending=[False, True, True, False], nulls_last=False,
        )  # fmt: skip
        names = [column.name for column in CODE_COLUMNS]
        return ordered.select(names[0], "category", "is_aleatoric", *names[1:], "n_epoch", "unit_kind")

    def _all_units(self) -> pl.DataFrame:
        rows = unit_columns(self._stored.units().drop(_ATTEMPT).collect()).rename({"dataset_type": "dataset"})
        return rows.sort([*_KEY, *(["unit_index"] if "unit_index" in rows.columns else [])])

    def _all_metrics(self) -> pl.DataFrame:
        rows = self._stored.metrics().drop(_ATTEMPT).rename({"dataset_type": "dataset"})
        return rows.sort("n_epoch", "dataset", "scope", "metric")

    def _facts(self) -> dict[str, Any]:
        row = self._stored.row
        names = ("result_name", "model_key", "task", "created_at", "decision_dataset", "datasets", "epochs", "counts",
                 "warnings")  # fmt: skip
        return {name: row[name] for name in names} | {"inputs": self._stored.inputs}

    def _report(self) -> str:
        from mld_pipelines.evaluator._report import render_report
        from mld_pipelines.evaluator._report_facts import gather_facts

        facts = gather_facts(
            self._stored,
            metrics=self._metric_table(),
            issues=self._issues,
            codes=self._described,
            units=self._units,
            classes=self._class_table if self._detects else None,
            frames=frames_in_order(self._frames, "errors") if self._detects else None,
        )
        return render_report(facts)
