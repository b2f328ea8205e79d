"""Row and table rules: one declaration, rendered as polars check, Delta constraint and expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import polars as pl

if TYPE_CHECKING:
    from datetime import date

__all__ = [
    "AtLeast", "Between", "ColumnRule", "Finite", "LengthIs", "Matches", "NotBefore",
    "NotInfinite", "OneOf", "Sizes3D", "Unique",
]  # fmt: skip


class ColumnRule(Protocol):
    """A statement about one column; null values always pass (`required` columns forbid them)."""

    @property
    def name(self) -> str:
        """Short stable name, part of `column|rule` in reports."""
        ...

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:
        """Boolean expression: true or null where the row obeys the rule."""
        ...

    def constraint(self, column: str) -> str | None:
        """SQL predicate of a Delta CHECK constraint, or None where SQL cannot state the rule."""
        ...

    def describe(self) -> str:
        """One phrase for the catalogue page."""
        ...


@dataclass(frozen=True, slots=True)
class Finite:
    """Neither NaN nor infinite, in a float column or in every element of a float list."""

    name = "finite"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:
        """See `ColumnRule.holds`."""
        if isinstance(dtype, pl.List):
            return pl.col(column).list.eval(pl.element().is_finite()).list.all()
        return pl.col(column).is_finite()

    def constraint(self, column: str) -> str | None:  # noqa: ARG002 - NaN passes every Delta comparison
        """None: Delta constraints let NaN pass, so only polars can judge."""
        return None

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return "finite"


@dataclass(frozen=True, slots=True)
class NotInfinite:
    """No element of a float list is infinite; NaN stands for unknown."""

    name = "not_infinite"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:  # noqa: ARG002
        """See `ColumnRule.holds`."""
        return pl.col(column).list.eval(~pl.element().is_infinite()).list.all()

    def constraint(self, column: str) -> str | None:  # noqa: ARG002
        """None: Delta SQL does not look into lists."""
        return None

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return "not infinite"


@dataclass(frozen=True, slots=True)
class Between:
    """`low ≤ value ≤ high`; in a list column every element."""

    low: float
    high: float
    name = "between"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:
        """See `ColumnRule.holds`."""
        if isinstance(dtype, pl.List):
            return pl.col(column).list.eval(pl.element().is_between(self.low, self.high)).list.all()
        return pl.col(column).is_between(self.low, self.high)

    def constraint(self, column: str) -> str | None:
        """See `ColumnRule.constraint`; null is spelled out because Delta fails it otherwise."""
        return f"{column} IS NULL OR ({column} >= {self.low} AND {column} <= {self.high})"

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return f"{self.low:g} … {self.high:g}"


@dataclass(frozen=True, slots=True)
class AtLeast:
    """`value ≥ low`; in a list column every element."""

    low: float
    name = "at_least"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:
        """See `ColumnRule.holds`."""
        if isinstance(dtype, pl.List):
            return pl.col(column).list.eval(pl.element() >= self.low).list.all()
        return pl.col(column) >= self.low

    def constraint(self, column: str) -> str | None:
        """See `ColumnRule.constraint`."""
        return f"{column} IS NULL OR {column} >= {self.low}"

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return f"≥ {self.low:g}"


@dataclass(frozen=True, slots=True)
class NotBefore:
    """The day or instant is not before the start of a UTC day."""

    day: date
    name = "not_before"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:
        """See `ColumnRule.holds`."""
        return pl.col(column) >= pl.lit(self.day).cast(dtype)

    def constraint(self, column: str) -> str | None:  # noqa: ARG002
        """None: a lake that got earlier rows before the rule came would refuse the constraint, and every write."""
        return None

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return f"not before {self.day.isoformat()}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of a closed set of strings."""

    values: tuple[str, ...]
    name = "one_of"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:  # noqa: ARG002
        """See `ColumnRule.holds`."""
        return pl.col(column).is_in(list(self.values))

    def constraint(self, column: str) -> str | None:
        """See `ColumnRule.constraint`."""
        members = ", ".join("'" + value.replace("'", "''") + "'" for value in self.values)
        return f"{column} IS NULL OR {column} IN ({members})"

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return "one of " + ", ".join(f"`{value}`" for value in self.values)


@dataclass(frozen=True, slots=True)
class Matches:
    """The whole string matches a regular expression (anchors are part of the pattern)."""

    pattern: str
    meaning: str
    name = "matches"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:  # noqa: ARG002
        """See `ColumnRule.holds`."""
        return pl.col(column).str.contains(self.pattern)

    def constraint(self, column: str) -> str | None:  # noqa: ARG002 - no portable regular expression in Delta SQL
        """None: judged by polars and by the expectation."""
        return None

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return self.meaning


@dataclass(frozen=True, slots=True)
class LengthIs:
    """A string of `low` to `high` characters, or a list of as many elements (`unit="elements"`)."""

    low: int
    high: int
    unit: Literal["characters", "elements"] = "characters"
    name = "length"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:
        """See `ColumnRule.holds`."""
        size = pl.col(column).list.len() if isinstance(dtype, pl.List) else pl.col(column).str.len_chars()
        return size.is_between(self.low, self.high)

    def constraint(self, column: str) -> str | None:  # noqa: ARG002
        """None: judged by polars and, for strings, by the expectation."""
        return None

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return f"{self.low} … {self.high} {self.unit}"


@dataclass(frozen=True, slots=True)
class Sizes3D:
    """A list of canonical 3D boxes, 7 values each, whose sizes (the 4th to 6th value) are above 0."""

    name = "sizes"

    def holds(self, column: str, dtype: pl.DataType) -> pl.Expr:  # noqa: ARG002
        """See `ColumnRule.holds`."""
        values = pl.col(column)
        whole = values.list.len() % 7 == 0
        sizes = [values.list.gather_every(7, offset).list.eval(pl.element() > 0).list.all() for offset in (3, 4, 5)]
        return pl.all_horizontal(whole, *sizes)

    def constraint(self, column: str) -> str | None:  # noqa: ARG002
        """None: Delta SQL does not look into lists."""
        return None

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return "7 values per box, sizes above 0"


@dataclass(frozen=True, slots=True)
class Unique:
    """The columns together identify a row of the table; a table-level rule."""

    columns: tuple[str, ...]
    name = "unique"

    def describe(self) -> str:
        """See `ColumnRule.describe`."""
        return "unique: " + ", ".join(f"`{column}`" for column in self.columns)
