"""`Lake.append` and `Lake.replace`."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from mld_pipelines.exceptions import ContractError, InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import CATALOGUE, LANDING_TRACES, OPS_MODELS, TRACES_INPUTS


def test_a_replacement_leaves_other_partitions_alone(lake, rows):
    for key in ("a@1", "b@1"):
        lake.replace(TRACES_INPUTS, rows(key=key), where={"model_key": key})
    lake.replace(TRACES_INPUTS, rows(1, key="a@1"), where={"model_key": "a@1"})
    counted = lake.read(TRACES_INPUTS).group_by("model_key").len().sort("model_key").rows()
    assert counted == [("a@1", 1), ("b@1", 3)]


def test_several_partitions_are_replaced_in_one_commit(lake, rows):
    both = pl.concat([rows(key="a@1"), rows(key="b@1")])
    version = lake.replace(TRACES_INPUTS, both, where={"model_key": ["a@1", "b@1"]}).version
    commit = lake.replace(TRACES_INPUTS, rows(1, key="b@1"), where={"model_key": ["a@1", "b@1"]})
    assert commit.version == version + 1
    assert lake.read(TRACES_INPUTS)["model_key"].to_list() == ["b@1"]


def test_an_empty_frame_removes_a_partition(lake, rows):
    lake.replace(TRACES_INPUTS, rows(), where={"model_key": "m@v"})
    assert lake.replace(TRACES_INPUTS, rows(0), where={"model_key": "m@v"}).rows == 0
    assert lake.read(TRACES_INPUTS).is_empty()


def test_partitions_by_day_are_replaced(lake):
    spec = CATALOGUE["monitoring/codes"]
    days = [date(2026, 1, 1), date(2026, 1, 2)]

    def codes(day: date, code: str) -> pl.DataFrame:
        values = {"event_day": day, "model_key": "m@v", "result_name": "r", "unit_kind": "input", "error_code": code}
        counts = dict.fromkeys(("counts", "n", "reference_counts", "reference_n"), 1)
        return pl.DataFrame([{**values, **counts, "is_masked": True}])

    for day in days:
        lake.replace(spec, codes(day, "E001"), where={"event_day": day})
    lake.replace(spec, codes(days[1], "E002"), where={"event_day": days[1]})
    assert lake.read(spec).sort("event_day")["error_code"].to_list() == ["E001", "E002"]
    assert lake.read(spec, event_day=days[0])["error_code"].to_list() == ["E001"]


def test_rows_outside_the_predicate_are_refused(lake, rows):
    with pytest.raises(InvalidInputError, match=r"outside \['a@1'\]"):
        lake.replace(TRACES_INPUTS, rows(key="b@1"), where={"model_key": "a@1"})
    assert lake.version(TRACES_INPUTS) is None


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"input_id": "x"}, "not partition columns"),
        ({}, "Name the partitions"),
        ({"model_key": []}, "takes str values"),
        ({"model_key": 7}, "takes str values"),
    ],
)
def test_a_predicate_that_names_no_partition_is_refused(lake, rows, where, message):
    with pytest.raises(InvalidInputError, match=message):
        lake.replace(TRACES_INPUTS, rows(0), where=where)


def test_a_predicate_cannot_smuggle_sql(lake, rows):
    lake.replace(TRACES_INPUTS, rows(key="a@1"), where={"model_key": "a@1"})
    lake.replace(TRACES_INPUTS, rows(0), where={"model_key": "x') OR ('1' = '1"})
    assert lake.read(TRACES_INPUTS).height == 3


def test_repeated_keys_in_a_replacement_are_refused(lake, rows):
    with pytest.raises(ContractError, match="share their unique"):
        lake.replace(TRACES_INPUTS, pl.concat([rows(), rows()]), where={"model_key": "m@v"})


def test_null_is_a_value_of_a_key(lake, rows):
    # n_epoch is null in both: the rows are the same input of the same epoch.
    repeated = rows(2).with_columns(input_id=pl.lit("same"))
    with pytest.raises(ContractError, match="share their unique"):
        lake.replace(TRACES_INPUTS, repeated, where={"model_key": "m@v"})


def test_appending_a_key_that_exists_is_refused(lake, rows):
    lake.append(TRACES_INPUTS, rows())
    with pytest.raises(ContractError, match="exist already"):
        lake.append(TRACES_INPUTS, rows())
    lake.append(TRACES_INPUTS, rows(key="other@v"))
    assert lake.read(TRACES_INPUTS).height == 6


def test_landing_takes_the_same_row_twice(lake, rows):
    lake.append(LANDING_TRACES, rows())
    assert lake.append(LANDING_TRACES, rows()).rows == 3


def test_an_empty_append_makes_the_table_and_no_commit(lake, rows):
    first = lake.append(LANDING_TRACES, rows(0))
    assert lake.append(LANDING_TRACES, rows(0)).version == first.version


def test_a_whole_table_without_partitions_can_be_replaced(lake, model_rows):
    lake.replace(OPS_MODELS, model_rows("a", "b"), where={})
    lake.replace(OPS_MODELS, model_rows("c"), where={})
    assert lake.read(OPS_MODELS)["name"].to_list() == ["c"]


def test_marks_of_a_replacement_can_be_read_back(lake, rows):
    lake.replace(TRACES_INPUTS, rows(), where={"model_key": "m@v"}, marks={"landing/traces:m@v": 17})
    assert Lake(lake.root, code_version="x").mark(TRACES_INPUTS, "landing/traces:m@v") == 17
