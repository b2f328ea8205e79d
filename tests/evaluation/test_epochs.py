from __future__ import annotations

import numpy as np
import pytest

from mld_pipelines.evaluation import format_spec, parse_spec, resolve_epochs
from mld_pipelines.exceptions import InvalidInputError, UnknownEpochError


@pytest.mark.feature("G6")
def test_latest_is_the_largest_number() -> None:
    assert resolve_epochs("latest", [0, 10, 9]).epochs == (10,)


def test_latest_without_numbers_is_the_rows_without_epoch() -> None:
    assert resolve_epochs("latest", [None]).epochs == (None,)


def test_latest_prefers_numbers_and_names_what_it_ignores() -> None:
    choice = resolve_epochs("latest", [None, 3])
    assert choice.epochs == (3,)
    assert "without n_epoch" in choice.warnings[0]


@pytest.mark.feature("G8")
def test_a_numpy_integer_is_an_epoch_as_it_is_for_the_tracer() -> None:
    chosen = resolve_epochs(np.int64(2), [None, 2]).epochs
    assert chosen == (2,)
    assert type(chosen[0]) is int


def test_none_keeps_every_epoch_apart() -> None:
    assert resolve_epochs(None, [5, None, 3]).epochs == (None, 3, 5)


@pytest.mark.feature("G7")
def test_an_epoch_that_was_not_traced_is_an_error_that_lists_those_that_were() -> None:
    with pytest.raises(UnknownEpochError, match=r"epoch 4 was not traced; traced epochs: 3, 5"):
        resolve_epochs(4, [3, 5])


@pytest.mark.parametrize("spec", [-1, 1.0, True, "newest"])
def test_a_specification_that_is_no_epoch_is_refused(spec: object) -> None:
    with pytest.raises(InvalidInputError, match="n_epoch must be"):
        resolve_epochs(spec, [0, 1])  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ["latest", None, 0, 17])
def test_a_specification_survives_storage(spec: object) -> None:
    assert parse_spec(format_spec(spec)) == spec  # type: ignore[arg-type]


def test_unknown_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'last'"):
        parse_spec("last")
