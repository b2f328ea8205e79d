"""`TableSpec`: the one declaration of a table, from which everything else is derived."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import polars as pl

from mld_pipelines.exceptions import ContractError

if TYPE_CHECKING:
    from datetime import timedelta

    from mld_pipelines.tables._rules import ColumnRule, Unique

__all__ = ["SCHEMA_VERSION", "TIMESTAMP", "VECTOR", "Column", "Layer", "TableSpec"]

SCHEMA_VERSION = 1
"""Version of the whole catalogue; a breaking change of any table raises it (`mld lake migrate`)."""

TIMESTAMP = pl.Datetime("us", "UTC")
"""Every instant: delta-rs refuses naive datetimes in a UTC column."""

VECTOR = pl.List(pl.Float32)
"""Feature and score vectors: `pl.Array` can be written to Delta but not read back (polars#27866)."""

Layer = Literal["landing", "silver", "gold", "ops"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: The name users see in frames, tables and pages alike.
        dtype: polars dtype; Delta's types are a subset (no unsigned, categorical, array, duration).
        description: One phrase with the unit.
        required: Null is refused.
        rules: Statements that every non-null value obeys.
        vector: A long list: kept last, without statistics and dictionaries.
    """

    name: str
    dtype: pl.DataType | type[pl.DataType]
    description: str
    required: bool = False
    rules: tuple[ColumnRule, ...] = ()
    vector: bool = False

    @property
    def data_type(self) -> pl.DataType:
        """The dtype as an instance."""
        return self.dtype() if isinstance(self.dtype, type) else self.dtype


@dataclass(frozen=True, slots=True)
class TableSpec:
    """Declaration of one Delta table.

    Attributes:
        name: `group/table`, also the folder below the lake's root.
        layer: landing (as received) → silver (deduplicated) → gold (derived); ops is the platform's own.
        description: What one row is.
        columns: In storage order.
        key: Columns that identify a row.
        partition_by: Only where a writer replaces or a reader prunes.
        rules: Table-level rules.
        append_only: Delta refuses deletes and overwrites (compaction stays allowed).
        writer: Who writes, for the catalogue page.
        retention: How long rows are kept; None keeps them.
        zorder: Columns that compaction clusters by.
    """

    name: str
    layer: Layer
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    rules: tuple[Unique, ...] = ()
    append_only: bool = False
    writer: str = ""
    retention: timedelta | None = None
    zorder: tuple[str, ...] = ()
    _by_name: dict[str, Column] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Index the columns and refuse a declaration that contradicts itself."""
        self._by_name.update({column.name: column for column in self.columns})
        if len(self._by_name) != len(self.columns):
            raise ContractError(f"table {self.name} declares a column twice.")
        unknown = {*self.key, *self.partition_by, *self.zorder} - set(self._by_name)
        if unknown:
            raise ContractError(f"table {self.name} refers to undeclared columns {sorted(unknown)}.")

    def __hash__(self) -> int:
        """Tables are identified by name."""
        return hash(self.name)

    @property
    def group(self) -> str:
        """First part of the name, e.g. `landing`."""
        return self.name.split("/", 1)[0]

    @property
    def column_names(self) -> list[str]:
        """Names in storage order."""
        return [column.name for column in self.columns]

    @property
    def polars_schema(self) -> pl.Schema:
        """Exact polars schema in storage order."""
        return pl.Schema({column.name: column.data_type for column in self.columns})

    @property
    def constraints(self) -> dict[str, str]:
        """Delta CHECK constraints by stable name; lists have none, SQL cannot look into them."""
        scalars = [column for column in self.columns if not column.data_type.is_nested()]
        named = {f"{c.name}_{r.name}": r.constraint(c.name) for c in scalars for r in c.rules}
        return {name: sql for name, sql in named.items() if sql is not None}

    def column(self, name: str) -> Column:
        """Return a column by name.

        Raises:
            ContractError: The table has no such column.
        """
        if name not in self._by_name:
            raise ContractError(f"table {self.name} has no column {name!r}; it has {self.column_names}.")
        return self._by_name[name]

    def empty(self) -> pl.DataFrame:
        """Return a frame with this schema and no rows."""
        return pl.DataFrame(schema=self.polars_schema)

    def align(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the frame in storage order with typed nulls for missing optional columns.

        No value is converted: delta-rs would cast 1.7 to 1 silently, so a wrong dtype is refused here.

        Args:
            frame: Rows; `schema_version` is filled in when absent. An untyped null column takes the declared dtype.

        Raises:
            ContractError: A required column is missing, a column is unknown, or a dtype differs.
        """
        problems = self._problems(frame)
        if problems:
            raise ContractError(f"frame does not fit table {self.name}; nothing was written: " + "; ".join(problems))
        return frame.select(self._aligned(column, frame) for column in self.columns)

    def _problems(self, frame: pl.DataFrame) -> list[str]:
        present = frame.schema
        unknown = [f"unknown column {name!r}" for name in present if name not in self._by_name]
        missing = [
            f"required column {c.name!r} is missing"
            for c in self.columns
            if c.required and c.name not in present and c.name != "schema_version"
        ]
        wrong = [
            f"{name!r} is {dtype}, declared {self._by_name[name].data_type}"
            for name, dtype in present.items()
            if name in self._by_name and dtype not in (self._by_name[name].data_type, pl.Null())
        ]
        return unknown + missing + wrong

    def _aligned(self, column: Column, frame: pl.DataFrame) -> pl.Expr:
        if column.name in frame.columns:
            expression = pl.col(column.name)
            return expression.cast(column.data_type) if frame.schema[column.name] == pl.Null() else expression
        value = SCHEMA_VERSION if column.name == "schema_version" else None
        return pl.lit(value, dtype=column.data_type).alias(column.name)
