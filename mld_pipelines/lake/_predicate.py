"""Which rows a replacement or a deletion touches, as SQL for Delta and as a check of the frame."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from mld_pipelines.tables import TableSpec

__all__ = ["Where", "partition_predicate", "refuse_rows_outside", "row_predicate"]

Where = Mapping[str, str | date | list[str] | list[date]]
"""Values by column: a string or date, or a list of them."""


def partition_predicate(spec: TableSpec, where: Where) -> str | None:
    """Return the SQL predicate of a replacement, None for a whole table without partitions.

    Args:
        spec: The table.
        where: Partition values by column.

    Raises:
        InvalidInputError: A column is no partition column, or values have the wrong type.
    """
    if spec.append_only:
        raise InvalidInputError(f"table {spec.name} is append-only and cannot be replaced; nothing was written.")
    if foreign := sorted(set(where) - set(spec.partition_by)):
        raise InvalidInputError(
            f"{foreign} are not partition columns of table {spec.name} (they are {list(spec.partition_by)}); nothing "
            "was written. Only whole partitions can be replaced."
        )
    if not where and spec.partition_by:
        raise InvalidInputError(
            f"replacing all of table {spec.name} is not what a partition writer wants; nothing was written. Name the "
            f"partitions by {list(spec.partition_by)}."
        )
    return " AND ".join(_clause(spec, name, _members(value)) for name, value in where.items()) or None


def row_predicate(spec: TableSpec, where: Where) -> str:
    """Return the SQL predicate of a deletion.

    Args:
        spec: The table.
        where: Values by text or date column.

    Raises:
        InvalidInputError: The table is append-only, nothing is named, or a value does not fit its column.
    """
    if spec.append_only or not where:
        reason = "is append-only" if spec.append_only else "would lose all rows"
        raise InvalidInputError(f"table {spec.name} {reason}; nothing was deleted.")
    wrong = [name for name in where if spec.column(name).data_type not in (pl.String(), pl.Date())]
    if wrong:
        raise InvalidInputError(f"{wrong} of table {spec.name} are no text or date columns; nothing was deleted.")
    return " AND ".join(_clause(spec, name, _members(value)) for name, value in where.items())


def refuse_rows_outside(spec: TableSpec, frame: pl.DataFrame, where: Where) -> None:
    """Refuse rows that the predicate would not replace.

    Args:
        spec: The table.
        frame: Aligned rows.
        where: Partition values by column.

    Raises:
        InvalidInputError: A row lies outside.
    """
    for name, value in where.items():
        outside = frame.filter(~pl.col(name).is_in(_members(value)).fill_null(value=False))
        if outside.height:
            raise InvalidInputError(
                f"{outside.height} rows for table {spec.name} have {name} outside {_members(value)}, e.g. "
                f"{outside[name][0]!r}; nothing was written."
            )


def _members(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def _clause(spec: TableSpec, name: str, members: list[object]) -> str:
    expected = date if spec.column(name).data_type == pl.Date else str
    wrong = [member for member in members if type(member) is not expected]
    if wrong or not members:
        raise InvalidInputError(
            f"column {name} of table {spec.name} takes {expected.__name__} values, not {wrong or 'none'}; nothing was "
            "changed."
        )
    quoted = ", ".join("'" + str(member).replace("'", "''") + "'" for member in members)
    return f"{name} IN ({quoted})"
