"""The exact contract of a table, judged by polars on every row before a commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from mld_pipelines.tables._spec import Column, TableSpec

__all__ = ["Checked", "check"]


@dataclass(frozen=True, slots=True)
class Checked:
    """Outcome of a contract check.

    Attributes:
        valid: Rows that obey every rule, in their order.
        invalid: Rows that break at least one rule, plus `_rule` (the first broken one) and `_reason`.
        counts: Broken rows by rule name `column|rule`.
    """

    valid: pl.DataFrame
    invalid: pl.DataFrame
    counts: dict[str, int]


def check(spec: TableSpec, frame: pl.DataFrame) -> Checked:
    """Separate the rows that obey the column rules of a table from those that do not.

    Args:
        spec: The table.
        frame: Rows that `spec.align` accepted.
    """
    verdicts = {name: holds for column in spec.columns for name, holds in _verdicts(column).items()}
    if frame.is_empty() or not verdicts:
        return Checked(frame, _with_reasons(frame.clear(), []), {})
    broken = frame.select((~holds.fill_null(value=True)).alias(name) for name, holds in verdicts.items())
    counts = {name: int(total) for name, total in broken.sum().row(0, named=True).items() if total}
    if not counts:
        return Checked(frame, _with_reasons(frame.clear(), []), {})
    any_broken = broken.select(pl.any_horizontal(pl.all())).to_series()
    first = [next(name for name, hit in row.items() if hit) for row in broken.filter(any_broken).iter_rows(named=True)]
    return Checked(frame.filter(~any_broken), _with_reasons(frame.filter(any_broken), first), counts)


def _verdicts(column: Column) -> dict[str, pl.Expr]:
    verdicts = {f"{column.name}|{rule.name}": rule.holds(column.name, column.data_type) for rule in column.rules}
    if column.required:
        verdicts = {f"{column.name}|required": pl.col(column.name).is_not_null()} | verdicts
    return verdicts


def _with_reasons(frame: pl.DataFrame, rules: list[str]) -> pl.DataFrame:
    reasons = [f"value of column {rule.split('|')[0]!r} breaks the rule {rule.split('|')[1]!r}" for rule in rules]
    return frame.with_columns(
        pl.Series("_rule", rules, dtype=pl.String), pl.Series("_reason", reasons, dtype=pl.String)
    )
