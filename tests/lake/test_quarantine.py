"""Rows that break the contract: beside the table, with the reason, once."""

from __future__ import annotations

import dataclasses

import polars as pl

from mld_pipelines.lake import Batch, Lake
from mld_pipelines.lake import _commit as commits
from mld_pipelines.tables import LANDING_TRACES, OPS_MODELS, OPS_QUARANTINE, TRACES_INPUTS


def broken(rows, **names):
    confidence = pl.Series([0.5, 1.5, float("inf")], dtype=pl.Float32)
    return rows(**names).with_columns(confidence=confidence)


def test_each_refused_row_is_kept_with_rule_reason_and_payload(lake, rows):
    frame = broken(rows)
    commit = lake.commit_once(LANDING_TRACES, [Batch("s", 0, frame)])
    assert (commit.rows, commit.quarantined) == (1, 2)
    refused = lake.read(OPS_QUARANTINE).sort("row")
    assert refused.select("stream_id", "seq", "row", "table", "model_key", "rule").rows() == [
        ("s", 0, 1, "landing/traces", "m@v", "confidence|between"),
        ("s", 0, 2, "landing/traces", "m@v", "confidence|finite"),
    ]
    assert pl.read_ipc_stream(refused["payload"][0]).equals(frame[1])


def test_rows_of_batches_that_were_delivered_as_one_are_filed_under_their_own(lake, rows):
    merged = pl.concat([broken(rows, seq=seq) for seq in (3, 4, 6)])
    assert lake.commit_once(LANDING_TRACES, [Batch("s", 6, merged)]).quarantined == 6
    refused = lake.read(OPS_QUARANTINE).sort("seq", "row")
    assert refused.select("seq", "row").rows() == [(seq, row) for seq in (3, 4, 6) for row in (1, 2)]
    assert refused["input_id"].to_list() == [f"s-{seq}-{row}" for seq in (3, 4, 6) for row in (1, 2)]
    assert refused["dataset_type"].unique().to_list() == ["val"]


def test_a_quarantine_of_older_code_takes_the_rows_of_newer(lake, rows):
    named = ("dataset_type", "n_epoch", "input_id")
    older = dataclasses.replace(OPS_QUARANTINE, columns=tuple(c for c in OPS_QUARANTINE.columns if c.name not in named))
    lake.commit_once(LANDING_TRACES, [Batch("s", 0, broken(rows))])
    kept = lake.read(OPS_QUARANTINE).drop(named)
    other = Lake(lake.root + "2", code_version="older")
    other.append(older, kept)
    renewed = Lake(other.root, code_version="newer")
    renewed.commit_once(LANDING_TRACES, [Batch("s", 1, broken(rows, seq=1))])
    found = renewed.read(OPS_QUARANTINE).sort("seq", "row")
    assert found["input_id"].to_list() == [None, None, "s-1-1", "s-1-2"]


def test_rows_of_a_table_without_streams_are_filed_under_the_delivery(lake, model_rows):
    refused = model_rows("a", "b").with_columns(factory=pl.Series(["m:f", "no factory"]))
    assert lake.commit_once(OPS_MODELS, [Batch("register", 4, refused)]).quarantined == 1
    (kept,) = lake.read(OPS_QUARANTINE).iter_rows(named=True)
    assert (kept["stream_id"], kept["seq"], kept["row"], kept["input_id"]) == ("register", 4, 1, None)


def test_a_repaired_payload_can_be_sent_again(lake, rows):
    lake.commit_once(LANDING_TRACES, [Batch("s", 0, broken(rows))])
    payloads = [pl.read_ipc_stream(payload) for payload in lake.read(OPS_QUARANTINE)["payload"]]
    repaired = pl.concat(payloads).with_columns(confidence=pl.lit(0.5, dtype=pl.Float32))
    assert lake.commit_once(LANDING_TRACES, [Batch("repair:s", 0, repaired)]).rows == 2
    assert lake.read(LANDING_TRACES).height == 3


def test_a_batch_of_only_broken_rows_still_moves_the_mark(lake, rows):
    frame = rows().with_columns(model_key=pl.lit("no version"))
    commit = lake.commit_once(LANDING_TRACES, [Batch("s", 0, frame)])
    assert (commit.rows, commit.quarantined) == (0, 3)
    assert lake.mark(LANDING_TRACES, "s") == 0


def test_a_crash_between_the_two_commits_leaves_each_refused_row_once(lake, rows, monkeypatch):
    sent = [Batch("s", 0, broken(rows)), Batch("s", 1, broken(rows, seq=1))]
    write = commits._write

    def crash(spec, *arguments, **named):
        if spec is LANDING_TRACES:
            raise KeyboardInterrupt
        write(spec, *arguments, **named)

    monkeypatch.setattr(commits, "_write", crash)
    for _ in range(2):
        try:
            lake.commit_once(LANDING_TRACES, sent)
        except KeyboardInterrupt:
            continue
    assert lake.read(OPS_QUARANTINE).height == 4
    monkeypatch.undo()
    commit = Lake(lake.root, code_version="next process").commit_once(LANDING_TRACES, sent)
    assert (commit.rows, commit.quarantined) == (2, 4)
    assert lake.read(OPS_QUARANTINE).height == 4
    assert lake.read(LANDING_TRACES).height == 2


def test_a_repeated_replacement_quarantines_its_rows_once(lake, rows):
    for _ in range(3):
        commit = lake.replace(TRACES_INPUTS, broken(rows), where={"model_key": "m@v"})
        assert (commit.rows, commit.quarantined) == (1, 2)
    assert lake.read(OPS_QUARANTINE).height == 2


def test_thousands_of_refused_rows_share_one_payload(lake, rows):
    frame = rows(1200).with_columns(confidence=pl.lit(2.0, dtype=pl.Float32))
    assert lake.commit_once(LANDING_TRACES, [Batch("s", 0, frame)]).quarantined == 1200
    refused = lake.read(OPS_QUARANTINE)
    assert refused.height == 1201
    shared = refused.filter(pl.col("payload").is_not_null())
    assert shared["row"].to_list() == [-1]
    assert pl.read_ipc_stream(shared["payload"][0]).equals(frame)


def test_the_row_number_is_the_position_where_a_table_has_none(lake):
    from mld_pipelines.tables import OPS_PROMOTIONS

    frame = pl.DataFrame(
        {"model_key": ["a@b", "a@b", "broken"], "result_name": ["x", "y", "z"], "promoted_by": ["me"] * 3}
    ).with_columns(promoted_at=pl.datetime(2026, 1, 1, time_zone="UTC", time_unit="us"))
    assert lake.append(OPS_PROMOTIONS, frame).quarantined == 1
    assert lake.read(OPS_QUARANTINE)["row"].to_list() == [2]
