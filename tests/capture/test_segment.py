"""Segments and columns survive their way to a frame."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mld_pipelines.capture import (
    CorruptSegmentError,
    Lists,
    Segment,
    decode,
    encode,
    from_frame,
    metadata_rows,
    to_frame,
)
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import LANDING_INFERENCES, LANDING_TRACES, TIMESTAMP

SCORED = ("box_error_proba", "box_error_codes", "missed_labels", "expected_errors", "error_code", "is_aleatoric")


def columns():
    return {
        "stream_id": "s",
        "seq": np.arange(3),
        "row": np.zeros(3, np.int32),
        "ingested_at": 1_700_000_000_000_000,
        "ingest_day": 19_675,
        "sdk_version": "0",
        "dataset_type": "val",
        "n_epoch": None,
        "input_id": ["a", "b", "ç"],
        "captured_at": np.array([0, 1, 2]),
        "label": np.array([0, 1, 2]),
        "model_name": "m",
        "version_name": "v",
        "model_key": "m@v",
        "task": "classification",
        "framework": "torch",
        "fingerprint": "f",
        "prediction": np.ma.MaskedArray(np.array([2, 0, 1]), [False, True, False]),
        "confidence": np.array([0.5, 0.25, 1.0], np.float32),
        "logits": np.arange(6, dtype=np.float32).reshape(3, 2),
        "metadata": [None, '{"a": 1}', None],
    }


def segment():
    return Segment("landing/traces", "s", 0, 2, 3, False, columns())


def test_a_segment_comes_back_as_it_was():
    back = decode(encode(segment()))
    assert (back.table, back.stream_id, back.last_seq, back.rows) == ("landing/traces", "s", 2, 3)
    frame, expected = (to_frame(LANDING_TRACES, 3, one.columns) for one in (back, segment()))
    assert frame.equals(expected)


def test_a_frame_has_exactly_the_dtypes_of_its_table():
    frame = to_frame(LANDING_TRACES, 3, columns())
    assert frame.schema == LANDING_TRACES.polars_schema
    assert frame["prediction"].to_list() == [2, None, 1]
    assert frame["logits"].to_list() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert frame["ingested_at"].dtype == TIMESTAMP
    assert str(frame["ingest_day"][0]) == "2023-11-14"
    assert frame["input_id"].to_list() == ["a", "b", "ç"]


def test_lists_of_any_length_survive_spool_and_frame():
    lists = {
        "boxes_3d": Lists.of([np.arange(1.0, 15.0).reshape(2, 7), np.zeros((0, 7)), np.ones((1, 7))]),
        "labels": Lists.of([np.array([3, 1]), np.array([], np.int64), np.array([0])]),
        "scores": Lists.of([np.array([0.5, 0.25], np.float32), np.zeros(0, np.float32), np.ones(1, np.float32)]),
    }
    given_segment = Segment("landing/traces", "s", 0, 2, 3, False, columns() | lists)
    frame = to_frame(LANDING_TRACES, 3, decode(encode(given_segment)).columns)
    assert frame.schema == LANDING_TRACES.polars_schema
    assert frame["boxes_3d"].to_list() == [[float(i) for i in range(1, 15)], [], [1.0] * 7]
    assert frame["labels"].to_list() == [[3, 1], [], [0]]
    assert frame["scores"].to_list() == [[0.5, 0.25], [], [1.0]]
    assert frame["velocities"].null_count() == 3


def test_lists_with_gaps_strings_and_absent_rows_survive_spool_and_frame():
    frame = pl.DataFrame(
        {
            "box_error_proba": [[0.25, None], [], None],
            "box_error_codes": [["P001", None], [], None],
            "missed_labels": [[1], [2, 0], [3]],
            "expected_errors": [0.25, None, 1.5],
            "error_code": ["P001", None, "UNSEEN"],
            "is_aleatoric": [True, None, False],
        },
        schema={name: LANDING_INFERENCES.column(name).data_type for name in SCORED},
    )
    sent = Segment("landing/inferences", "s", 0, 2, 3, False, from_frame(frame))
    assert_frame_equal(to_frame(LANDING_INFERENCES, 3, decode(encode(sent)).columns, only=SCORED), frame)
    none = to_frame(LANDING_INFERENCES, 2, {}, only=SCORED)
    assert none.schema == frame.schema
    assert none.null_count().row(0) == (2,) * len(SCORED)


@given(st.data())
def test_any_single_changed_byte_is_noticed(data):
    good = bytearray(encode(segment()))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptSegmentError):
        decode(bytes(good))


def test_metadata_becomes_one_json_object_per_input():
    rows = metadata_rows({"site": "b", "hour": np.array([1, 2]), "ok": [True, None]}, 2)
    assert [json.loads(row) for row in rows] == [
        {"hour": 1, "ok": True, "site": "b"},
        {"hour": 2, "ok": None, "site": "b"},
    ]
    assert metadata_rows([{"a": 1}, None], 2) == ['{"a": 1}', "{}"]


def test_a_number_that_json_lacks_is_null_and_costs_no_other_value():
    rows = metadata_rows({"a": [float("nan"), float("inf"), np.float32("nan")], "b": "k"}, 3)
    assert rows == ['{"a": null, "b": "k"}'] * 3


@pytest.mark.parametrize("metadata", [7, [{}], {"a": [1, 2, 3]}, {1: 2}, {"a": [object(), 1]}])
def test_metadata_that_does_not_fit_is_refused(metadata):
    with pytest.raises(InvalidInputError):
        metadata_rows(metadata, 2)


def test_every_required_column_of_landing_is_made_by_an_encoder():
    from mld_pipelines.capture import CallContext, Identity, InferenceCall, InferenceEncoder

    call = InferenceCall(
        0, 10, torch.randn(2, 3), None, 2, 0, None, None, None, CallContext("f", "output", None, "s"), None, "cpu"
    )
    ((lengths, made),) = InferenceEncoder(Identity("m", "v"), result_name=None, score=None)([call])
    delivery = {name: columns()[name] for name in ("stream_id", "sdk_version", "ingested_at", "ingest_day")}
    made |= delivery | {"seq": np.zeros(2, np.int64), "row": np.arange(2, dtype=np.int32)}
    frame = to_frame(LANDING_INFERENCES, sum(lengths), made)
    required = [column.name for column in LANDING_INFERENCES.columns if column.required]
    assert frame.select(pl.col(required).null_count().sum()).sum_horizontal().item() == 0
