"""Frames that print as the guides show them: three decimals, no index, values in full precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from mld_pipelines.exceptions import MissingDependencyError

__all__ = ["ResultFrame", "Summary"]

_DECIMALS = 3


class ResultFrame(pl.DataFrame):
    """A polars DataFrame that prints as a plain aligned table; every other behaviour is polars'.

    What narrows it down (`filter`, `select`, `sort`, `with_columns`, `drop`, `head`) gives a ResultFrame again.
    """

    def filter(self, *predicates: Any, **constraints: Any) -> ResultFrame:
        """Return the rows that polars' `filter` keeps."""
        return ResultFrame(super().filter(*predicates, **constraints))

    def select(self, *exprs: Any, **named_exprs: Any) -> ResultFrame:
        """Return the columns that polars' `select` makes."""
        return ResultFrame(super().select(*exprs, **named_exprs))

    def sort(self, by: Any, *more_by: Any, **options: Any) -> ResultFrame:
        """Return the rows in the order of polars' `sort`."""
        return ResultFrame(super().sort(by, *more_by, **options))

    def with_columns(self, *exprs: Any, **named_exprs: Any) -> ResultFrame:
        """Return the frame with the columns that polars' `with_columns` adds."""
        return ResultFrame(super().with_columns(*exprs, **named_exprs))

    def drop(self, *columns: Any, **options: Any) -> ResultFrame:
        """Return the frame without the columns that polars' `drop` removes."""
        return ResultFrame(super().drop(*columns, **options))

    def __str__(self) -> str:
        header = list(self.columns)
        cells = [[_cell(value) for value in row] for row in self.iter_rows()]
        widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
        lines = [
            " ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in [header, *cells]
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def to_pandas(self, *args: Any, **kwargs: Any) -> Any:
        """Return a pandas frame; works without pyarrow, which the base install does not bring.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        if args or kwargs:
            return super().to_pandas(*args, **kwargs)
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError(
                "to_pandas() needs pandas, which is not installed: `pip install pandas`. polars works without it."
            ) from error
        return pd.DataFrame({name: self[name].to_list() for name in self.columns}, columns=self.columns)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{_DECIMALS}f}"
    if isinstance(value, list) and value and isinstance(value[0], dict) and "meaning" in value[0]:
        return "; ".join(f"{reason['meaning']} {reason['contribution']:+.2f}" for reason in value)
    return "null" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Summary:
    """What `Result.get_summary()` prints and returns.

    Attributes:
        result_name: Name of the result.
        metrics: `metrics_summary()`.
        issue_categories: `issue_category_summary()`.
        error_codes: Distribution of error codes inside each category.
        notes: What a reader should know.
        classes: `class_summary()` of a detector; None for a classifier.
    """

    result_name: str
    metrics: ResultFrame
    issue_categories: ResultFrame
    error_codes: ResultFrame
    notes: tuple[str, ...] = ()
    classes: ResultFrame | None = None

    def __str__(self) -> str:
        """Return the tables under their headings."""
        parts = [
            f"Result {self.result_name}",
            f"Metrics\n{self.metrics}",
            *([] if self.classes is None else [f"Classes\n{self.classes}"]),
            f"Issue categories (share of units; aleatoric overlays the other five)\n{self.issue_categories}",
            f"Error codes by category\n{self.error_codes}",
        ]
        if self.notes:
            parts.append("Notes\n" + "\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)
