from __future__ import annotations

import polars as pl
import pytest

from mld_pipelines.evaluation import filter_expression
from mld_pipelines.exceptions import InvalidInputError

FRAME = pl.DataFrame({"label": [0, 1, 2, 3], "category": ["a", "b", "a", None], "p": [0.1, 0.5, 0.9, 0.7]})


def kept(filters: object) -> list[int]:
    expression = filter_expression(filters, FRAME.columns)  # type: ignore[arg-type]
    assert expression is not None
    return FRAME.filter(expression)["label"].to_list()


@pytest.mark.feature("H25")
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"category": ["a"]}, [0, 2]),
        ({"category": "b"}, [1]),
        ({"category": None}, [3]),
        ({"category": ["a"], "label": [2, 3]}, [2]),
        ("p > 0.5", [2, 3]),
        ("p >= 0.5 and category == 'b'", [1]),
        ("label in [0, 3] or p == 0.5", [0, 1, 3]),
        ("not (p < 0.6)", [2, 3]),
        ("label not in (0, 1)", [2, 3]),
        (["p > 0.3", "label < 3"], [1, 2]),
        (pl.col("p").is_between(0.4, 0.8) & pl.col("category").is_not_null(), [1]),
        (pl.col("category").str.starts_with("a"), [0, 2]),
        (~pl.col("label").is_in([0, 1]), [2, 3]),
    ],
)
def test_filters_keep_the_rows_they_describe(filters: object, expected: list[int]) -> None:
    assert kept(filters) == expected


def test_no_filters_keep_everything() -> None:
    assert filter_expression(None, FRAME.columns) is None
    assert filter_expression({}, FRAME.columns) is None


@pytest.mark.parametrize("filters", [{"nope": 1}, "nope == 1", pl.col("nope") == 1])
def test_an_unknown_column_names_those_that_exist(filters: object) -> None:
    with pytest.raises(InvalidInputError, match=r"'nope'.*category, label, p"):
        kept(filters)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "p.__class__",
        "(lambda: 1)()",
        "p > [x for x in (1,)]",
        "1 < p < 2",
        "p > label",
        "p if label else p",
        "p >",
        "f'{p}' == '1'",
    ],
)
def test_text_outside_the_grammar_is_refused_and_never_run(text: str) -> None:
    with pytest.raises(InvalidInputError):
        kept(text)


@pytest.mark.parametrize(
    "expression",
    [
        pl.col("label").map_batches(lambda column: column > 1, return_dtype=pl.Boolean),
        pl.col("label").cum_sum() > 1,
        pl.col("label") + 1 > 2,
    ],
)
def test_polars_expressions_outside_the_allow_list_are_refused(expression: pl.Expr) -> None:
    with pytest.raises(InvalidInputError, match="polars filter"):
        kept(expression)
