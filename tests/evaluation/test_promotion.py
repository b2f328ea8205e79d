from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mld_pipelines.evaluation import evaluate, promote, unfinished_streams
from mld_pipelines.exceptions import UnfinishedTraceError, UnknownModelError
from mld_pipelines.tables import TRACES_INPUTS
from tests.support.traced import MODEL, START, write_receipt, write_trace

if TYPE_CHECKING:
    import polars as pl

    from mld_pipelines.lake import Lake


def inputs(lake: Lake) -> pl.DataFrame:
    return lake.read(TRACES_INPUTS, model_key=MODEL)


@pytest.mark.feature("C14")
def test_the_last_write_of_an_input_wins(lake: Lake) -> None:
    write_trace(lake, "val", 20, seed=1)
    write_trace(lake, "val", 15, seed=2, at=START + timedelta(hours=1))
    promotion = promote(lake, MODEL)
    assert (promotion.rows, promotion.superseded) == (20, 15)
    streams = dict(inputs(lake).group_by("stream_id").len().iter_rows())
    assert streams == {f"{MODEL}-val-None-1": 5, f"{MODEL}-val-None-2": 15}


@pytest.mark.feature("B8", "B9")
def test_epochs_and_datasets_are_separate_populations(lake: Lake) -> None:
    for epoch in (None, 0, 3):
        write_trace(lake, "val", 10, seed=1, epoch=epoch)
    write_trace(lake, "train", 10, seed=1)
    promote(lake, MODEL)
    groups = inputs(lake).group_by("dataset_type", "n_epoch").len()
    assert sorted(groups.rows(), key=str) == sorted(
        [("val", None, 10), ("val", 0, 10), ("val", 3, 10), ("train", None, 10)], key=str
    )


def test_promoting_again_writes_nothing(lake: Lake) -> None:
    write_trace(lake, "val", 10)
    first = promote(lake, MODEL)
    again = promote(lake, MODEL)
    assert not again.promoted
    assert (again.version, again.rows) == (first.version, 10)


def test_another_model_is_left_alone(lake: Lake) -> None:
    write_trace(lake, "val", 10)
    write_trace(lake, "val", 7, model_key="other@v2")
    promote(lake, "other@v2")
    assert inputs(lake).is_empty()
    assert lake.read(TRACES_INPUTS, model_key="other@v2").height == 7


def test_an_input_traced_with_another_content_is_counted(lake: Lake) -> None:
    write_trace(lake, "val", 10, seed=1)
    stream = write_trace(lake, "val", 10, seed=2, order=None, at=START + timedelta(hours=1))
    assert stream
    assert promote(lake, MODEL).changed_inputs == 0


def test_rows_without_a_receipt_stay_behind_and_block_the_evaluation(lake: Lake) -> None:
    write_trace(lake, "train", 30)
    stream = write_trace(lake, "val", 10, receipt=False)
    with pytest.raises(UnfinishedTraceError, match=rf"{stream} \(10 rows of 'val'\).*accept\|discard"):
        evaluate(lake, MODEL)
    assert promote(lake, MODEL).rows == 30


def test_a_later_finished_trace_of_the_same_dataset_unblocks(lake: Lake) -> None:
    write_trace(lake, "val", 100, seed=1, stream="died", receipt=False)
    assert [s.stream_id for s in unfinished_streams(lake, MODEL)] == ["died"]
    write_trace(lake, "val", 100, seed=1, stream="again", at=START + timedelta(hours=1))
    assert unfinished_streams(lake, MODEL) == []
    assert evaluate(lake, MODEL).row["counts"] == 100


@pytest.mark.parametrize(("state", "rows"), [("accepted", 80), ("discarded", 0)])
def test_an_unfinished_trace_can_be_settled_by_hand(lake: Lake, state: str, rows: int) -> None:
    stream = write_trace(lake, "val", 80, receipt=False)
    write_receipt(lake, stream, "val", 80, state=state, at=START + timedelta(hours=1))
    assert unfinished_streams(lake, MODEL) == []
    assert promote(lake, MODEL).rows == rows


@pytest.mark.feature("G12")
def test_an_unknown_model_is_an_error_that_names_the_known_ones(lake: Lake) -> None:
    write_trace(lake, "val", 10)
    with pytest.raises(UnknownModelError, match=r"'ghost@v1'.*toy@v1"):
        evaluate(lake, "ghost@v1")


def test_an_empty_lake_says_so(lake: Lake) -> None:
    with pytest.raises(UnknownModelError, match="none"):
        evaluate(lake, MODEL)
