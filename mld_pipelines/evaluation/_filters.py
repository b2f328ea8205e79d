"""Filters of views and issue lists: parsed to an allow-list, never evaluated as code."""

from __future__ import annotations

import ast
import functools
import json
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["Filters", "filter_expression", "filtered"]

Filters = Mapping[str, Any] | Sequence[str] | str | pl.Expr
"""`{"category": ["hotspot"]}`, strings that are AND-ed (`"confidence > 0.9"`), or a polars expression."""

_COMPARISONS: dict[type[ast.cmpop], Callable[[pl.Expr, Any], pl.Expr]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda column, value: column.is_in(value),
    ast.NotIn: lambda column, value: ~column.is_in(value),
}
_OPERATORS = {"Eq", "NotEq", "Lt", "LtEq", "Gt", "GtEq", "And", "Or", "LogicalAnd", "LogicalOr"}
_BOOLEAN_FUNCTIONS = {"IsIn", "IsNull", "IsNotNull", "Not", "IsBetween", "IsFinite", "AllHorizontal", "AnyHorizontal"}
_STRING_FUNCTIONS = {"StartsWith", "EndsWith", "Contains"}


def filtered(frame: pl.DataFrame, filters: Filters | None, columns: Collection[str] | None = None) -> pl.DataFrame:
    """Return the rows of a frame that filters describe.

    Args:
        frame: Rows.
        filters: See `Filters`.
        columns: Names that may be used; every column when None.

    Raises:
        InvalidInputError: An unknown column, a construct outside the allow-list, or a value of another type than the
            column's.
    """
    condition = filter_expression(filters, frame.columns if columns is None else columns)
    if condition is None:
        return frame
    try:
        return frame.filter(condition)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"filter {filters!r} does not fit its columns ({reason}); nothing was filtered."
        ) from error


def filter_expression(filters: Filters | None, columns: Collection[str]) -> pl.Expr | None:
    """Return one boolean polars expression, or None without filters.

    Args:
        filters: Mapping column → value or list of values; strings such as `"label in [1, 2]"` or
            `"category == 'hotspot' and confidence > 0.9"`; or a polars expression of comparisons.
        columns: Names that may be used.

    Raises:
        InvalidInputError: An unknown column, or a construct outside the allow-list.
    """
    if filters is None:
        return None
    if isinstance(filters, pl.Expr):
        return _checked_polars(filters, columns)
    if isinstance(filters, str):
        return _parse(filters, columns)
    if isinstance(filters, Mapping):
        parts = [_membership(_column(name, columns), values) for name, values in filters.items()]
    elif isinstance(filters, Sequence) and all(isinstance(text, str) for text in filters):
        parts = [_parse(text, columns) for text in filters]
    else:
        raise InvalidInputError(f"filters must be a mapping, strings or a polars expression, not {filters!r}.")
    return functools.reduce(operator.and_, parts) if parts else None


def _membership(column: pl.Expr, values: Any) -> pl.Expr:
    many = isinstance(values, (list, tuple, set, frozenset))
    return column.is_in(list(values)) if many else column.eq_missing(pl.lit(values))


def _column(name: str, columns: Collection[str]) -> pl.Expr:
    if name not in columns:
        raise InvalidInputError(f"unknown column {name!r} in filters; these exist: {', '.join(sorted(columns))}.")
    return pl.col(name)


def _parse(text: str, columns: Collection[str]) -> pl.Expr:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise InvalidInputError(f"filter {text!r} cannot be parsed: {error}.") from error
    return _from_node(tree.body, columns, text)


def _from_node(node: ast.expr, columns: Collection[str], text: str) -> pl.Expr:
    match node:
        case ast.BoolOp(op=op, values=values):
            combine = operator.and_ if isinstance(op, ast.And) else operator.or_
            return functools.reduce(combine, (_from_node(value, columns, text) for value in values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_from_node(operand, columns, text)
        case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return _COMPARISONS[type(op)](_column(name, columns), _literal(right, text))
        case ast.Name(id=name):
            return _column(name, columns)
    raise InvalidInputError(
        f"filter {text!r} is not of the form `column <op> value`, joined by `and`, `or`, `not`; nothing was filtered."
    )


def _literal(node: ast.expr, text: str) -> Any:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise InvalidInputError(f"the right side of filter {text!r} must be a literal value or a list.") from error
    return list(value) if isinstance(value, (tuple, set)) else value


def _checked_polars(expression: pl.Expr, columns: Collection[str]) -> pl.Expr:
    for name in expression.meta.root_names():
        _column(name, columns)
    _check_tree(json.loads(expression.meta.serialize(format="json")))
    return expression


def _check_tree(node: Any) -> None:
    """Refuse every polars node outside the allow-list; a Python function would run inside the query."""
    match node:
        case {"Column": str()} | {"Literal": _}:
            return
        case {"BinaryExpr": {"left": left, "op": str(op), "right": right}} if op in _OPERATORS:
            _check_tree(left)
            _check_tree(right)
        case {"Function": {"input": list(inputs), "function": function}} if _is_allowed(function):
            for child in inputs:
                _check_tree(child)
        case _:
            kind = next(iter(node), "?") if isinstance(node, dict) else type(node).__name__
            raise InvalidInputError(
                f"a polars filter may only compare, combine and test columns; {kind!r} is not allowed."
            )


def _is_allowed(function: Any) -> bool:
    for family, names in (("Boolean", _BOOLEAN_FUNCTIONS), ("StringExpr", _STRING_FUNCTIONS)):
        inner = function.get(family) if isinstance(function, dict) else None
        if inner is not None:
            return (inner if isinstance(inner, str) else next(iter(inner))) in names
    return False
