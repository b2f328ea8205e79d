"""`Lake.remove`: deletion of matching rows."""

from __future__ import annotations

from datetime import date

import pytest

from mld_pipelines.exceptions import ContractError, InvalidInputError
from mld_pipelines.lake import Batch, Lake
from mld_pipelines.tables import LANDING_TRACES, TRACES_INPUTS


@pytest.fixture
def filled(lake, rows) -> Lake:
    """A table with two streams in one partition and one in another."""
    for stream, key in (("a", "m@v"), ("o'brien", "m@v"), ("c", "n@v")):
        lake.commit_once(TRACES_INPUTS, [Batch(stream, 0, rows(stream=stream, key=key))])
    return lake


def streams(lake: Lake) -> list[str]:
    return sorted(lake.read(TRACES_INPUTS)["stream_id"].unique())


def test_only_matching_rows_go(filled):
    filled.remove(TRACES_INPUTS, where={"stream_id": "o'brien"})
    assert streams(filled) == ["a", "c"]
    assert filled.read(TRACES_INPUTS).schema == TRACES_INPUTS.polars_schema


def test_several_values_and_columns_select_together(filled):
    filled.remove(TRACES_INPUTS, where={"stream_id": ["a", "c"], "model_key": "m@v"})
    assert streams(filled) == ["c", "o'brien"]


def test_a_removal_that_matches_nothing_keeps_everything(filled):
    filled.remove(TRACES_INPUTS, where={"stream_id": "nobody', 'a"})
    assert streams(filled) == ["a", "c", "o'brien"]


def test_marks_survive_a_removal(filled, rows):
    filled.remove(TRACES_INPUTS, where={"stream_id": "a"})
    assert filled.commit_once(TRACES_INPUTS, [Batch("a", 0, rows(stream="a"))]).duplicates == 1


def test_a_removal_is_no_change_to_a_follower(filled):
    filled.compact(TRACES_INPUTS, min_files=2)
    before = filled.version(TRACES_INPUTS)
    filled.remove(TRACES_INPUTS, where={"stream_id": "a"})  # rewrites the file that also holds another stream
    assert streams(filled) == ["c", "o'brien"]
    assert filled.changes(TRACES_INPUTS, since=before).is_empty()


@pytest.mark.parametrize(
    ("where", "error"),
    [({}, InvalidInputError), ({"label": "1"}, InvalidInputError), ({"none": "x"}, ContractError)],
)
def test_a_removal_names_text_or_date_columns(filled, where, error):
    with pytest.raises(error):
        filled.remove(TRACES_INPUTS, where=where)
    assert streams(filled) == ["a", "c", "o'brien"]


def test_append_only_tables_keep_their_rows(lake, rows):
    lake.append(LANDING_TRACES, rows())
    with pytest.raises(InvalidInputError, match="append-only"):
        lake.remove(LANDING_TRACES, where={"ingest_day": date(2026, 11, 21)})
