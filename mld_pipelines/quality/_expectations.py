"""What is expected of a table: one expectation per rule of its spec, plus two about the table as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from mld_pipelines.tables import AtLeast, Between, LengthIs, Matches, NotBefore, OneOf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.tables import Column, ColumnRule, TableSpec

__all__ = ["Engine", "Expectation", "Severity", "expectations", "is_scalar"]

_OFTEN_EMPTY = frozenset({"monitoring/alerts", "monitoring/codes", "monitoring/scored"})
"""Tables without a row when all is well, or when nothing was evaluated yet."""

Severity = Literal["critical", "warning", "info"]
Engine = Literal["polars", "gx"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One statement about a table.

    Attributes:
        name: Stable id, `column_rule`; also the name of the asset check.
        engine: Who judges: `polars` on every row, `gx` on the scalar columns of a sample.
        severity: `critical` blocks downstream work, `warning` is shown, `info` is only recorded.
        description: One phrase for people.
        column: The column it is about; None for the table.
        type: Great Expectations type; empty for polars.
        kwargs: Arguments of that type.
    """

    name: str
    engine: Engine
    severity: Severity
    description: str
    column: str | None = None
    type: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the expectation as Great Expectations stores it in a suite."""
        meta = {"name": self.name, "description": self.description}
        return {"type": self.type, "kwargs": dict(self.kwargs), "severity": self.severity, "meta": meta}


def is_scalar(column: Column) -> bool:
    """Return whether Great Expectations sees the column: lists and bytes are judged by polars alone."""
    return not column.data_type.is_nested() and column.data_type != pl.Binary()


def expectations(spec: TableSpec) -> tuple[Expectation, ...]:
    """Return what is expected of a table, in the order of its columns.

    The rules of the contract are critical: a commit refuses rows that break them, so a failure means that somebody
    wrote past the lake. An empty table is a warning where
    rows are to be expected.
    """
    by_column = [one for column in spec.columns for one in _of_column(column)]
    unique = Expectation("unique", "polars", "critical", "; ".join(rule.describe() for rule in spec.rules))
    return (*_of_table(spec), *([unique] if spec.rules else []), *by_column)


def _of_table(spec: TableSpec) -> list[Expectation]:
    scalars = [column.name for column in spec.columns if is_scalar(column)]
    return [
        Expectation(
            "column_set",
            "gx",
            "critical",
            f"the {len(scalars)} declared scalar columns",
            type="expect_table_columns_to_match_set",
            kwargs={"column_set": scalars, "exact_match": True},
        ),
        Expectation(
            "row_count",
            "gx",
            "info" if spec.name in _OFTEN_EMPTY else "warning",
            "at least one row",
            type="expect_table_row_count_to_be_between",
            kwargs={"min_value": 1},
        ),
    ]


def _of_column(column: Column) -> list[Expectation]:
    stated = [_of_rule(column, rule) for rule in column.rules]
    return [_required(column), *stated] if column.required else stated


def _required(column: Column) -> Expectation:
    name, words = f"{column.name}_required", f"`{column.name}` is never null"
    if not is_scalar(column):
        return Expectation(name, "polars", "critical", words, column.name)
    kwargs = {"column": column.name}
    return Expectation(name, "gx", "critical", words, column.name, "expect_column_values_to_not_be_null", kwargs)


def _of_rule(column: Column, rule: ColumnRule) -> Expectation:
    name, words = f"{column.name}_{rule.name}", f"`{column.name}`: {rule.describe()}"
    rendered = _rendered(rule) if is_scalar(column) else None
    if rendered is None:  # NaN and lists are invisible to pandas-based suites
        return Expectation(name, "polars", "critical", words, column.name)
    kind, kwargs = rendered
    return Expectation(name, "gx", "critical", words, column.name, kind, {"column": column.name, **kwargs})


def _rendered(rule: ColumnRule) -> tuple[str, dict[str, Any]] | None:
    if (bounds := _bounds(rule)) is not None:
        return "expect_column_values_to_be_between", bounds
    if isinstance(rule, OneOf):
        return "expect_column_values_to_be_in_set", {"value_set": list(rule.values)}
    if isinstance(rule, Matches):
        return "expect_column_values_to_match_regex", {"regex": rule.pattern}
    if isinstance(rule, LengthIs):
        return "expect_column_value_lengths_to_be_between", {"min_value": rule.low, "max_value": rule.high}
    return None


def _bounds(rule: ColumnRule) -> dict[str, Any] | None:
    if isinstance(rule, Between):
        return {"min_value": rule.low, "max_value": rule.high}
    if isinstance(rule, AtLeast):
        return {"min_value": rule.low}
    return {"min_value": rule.day.isoformat()} if isinstance(rule, NotBefore) else None
