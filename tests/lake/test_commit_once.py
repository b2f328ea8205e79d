"""`Lake.commit_once`: every batch of a stream exactly once, many streams per commit."""

from __future__ import annotations

import polars as pl
import pytest

from mld_pipelines.exceptions import ContractError, InvalidInputError
from mld_pipelines.lake import Batch, Lake
from mld_pipelines.tables import LANDING_TRACES, OPS_PROMOTIONS, OPS_QUARANTINE, TRACES_INPUTS


def batches(rows, stream: str, *numbers: int) -> list[Batch]:
    return [Batch(stream, number, rows(stream=stream, seq=number)) for number in numbers]


def stored(lake: Lake) -> list[tuple[str, int]]:
    return lake.read(LANDING_TRACES).select("stream_id", "seq").unique().sort("stream_id", "seq").rows()


def test_a_repeated_batch_is_counted_and_not_written(lake, rows):
    first = lake.commit_once(LANDING_TRACES, batches(rows, "s", 0))
    again = lake.commit_once(LANDING_TRACES, batches(rows, "s", 0))
    assert (first.rows, first.duplicates) == (3, 0)
    assert (again.rows, again.duplicates, again.version) == (0, 1, first.version)


def test_a_bundle_of_known_and_new_batches_adds_only_the_new(lake, rows):
    lake.commit_once(LANDING_TRACES, batches(rows, "s", 0, 1))
    commit = lake.commit_once(LANDING_TRACES, batches(rows, "s", 0, 1, 2, 3))
    assert (commit.rows, commit.duplicates) == (6, 2)
    assert lake.read(LANDING_TRACES).height == 12
    assert stored(lake) == [("s", 0), ("s", 1), ("s", 2), ("s", 3)]


def test_many_segments_of_many_streams_make_one_commit(lake, rows):
    lake.commit_once(LANDING_TRACES, batches(rows, "warm", 0))
    before = lake.version(LANDING_TRACES)
    group = [batch for stream in ("a", "b", "c") for batch in batches(rows, stream, *range(10))]
    commit = lake.commit_once(LANDING_TRACES, group)
    assert commit.version == before + 1
    assert commit.rows == 90
    assert [lake.mark(LANDING_TRACES, stream) for stream in ("a", "b", "c")] == [9, 9, 9]


def test_batch_zero_is_a_mark(lake, rows):
    assert lake.mark(LANDING_TRACES, "s") is None
    lake.commit_once(LANDING_TRACES, batches(rows, "s", 0))
    assert lake.mark(LANDING_TRACES, "s") == 0
    assert lake.commit_once(LANDING_TRACES, batches(rows, "s", 0)).duplicates == 1


def test_streams_do_not_share_marks(lake, rows):
    lake.commit_once(LANDING_TRACES, batches(rows, "a", 0, 1, 2))
    assert lake.commit_once(LANDING_TRACES, batches(rows, "b", 0)).rows == 3
    assert lake.mark(LANDING_TRACES, "nobody") is None


def test_marks_belong_to_a_table(lake, rows):
    lake.commit_once(LANDING_TRACES, batches(rows, "s", 0))
    assert lake.commit_once(TRACES_INPUTS, batches(rows, "s", 0)).rows == 3


def test_an_empty_batch_moves_the_mark(lake, rows):
    commit = lake.commit_once(LANDING_TRACES, [Batch("s", 0, rows(0))])
    assert commit.rows == 0
    assert lake.mark(LANDING_TRACES, "s") == 0


def test_no_batches_write_nothing(lake):
    assert lake.commit_once(LANDING_TRACES, []).rows == 0
    assert lake.read(LANDING_TRACES).is_empty()


def test_batches_out_of_order_are_refused(lake, rows):
    with pytest.raises(InvalidInputError, match="comes after batch 2"):
        lake.commit_once(LANDING_TRACES, [*batches(rows, "s", 2), *batches(rows, "s", 1)])
    with pytest.raises(InvalidInputError, match="comes after batch 1"):
        lake.commit_once(LANDING_TRACES, [*batches(rows, "s", 1), *batches(rows, "s", 1)])
    assert lake.version(LANDING_TRACES) is None


@pytest.mark.parametrize(("stream", "seq"), [("", 0), ("s", -1)])
def test_a_batch_without_identity_is_refused(rows, stream, seq):
    with pytest.raises(InvalidInputError, match="has no identity"):
        Batch(stream, seq, rows())


def test_marks_survive_compaction_checkpoints_and_another_process_view(lake, rows):
    for number in range(25):  # past the checkpoint interval of landing
        lake.commit_once(LANDING_TRACES, batches(rows, "s", number))
    lake.compact(LANDING_TRACES, min_files=2)
    other = Lake(lake.root, code_version="other")
    assert other.mark(LANDING_TRACES, "s") == 24
    assert other.commit_once(LANDING_TRACES, batches(rows, "s", *range(20, 26))).duplicates == 5
    assert lake.read(LANDING_TRACES).height == 78


def test_two_lakes_with_kept_handles_take_turns_without_loss(tmp_path, rows):
    first, second = (Lake(str(tmp_path / "lake"), code_version=name) for name in "ab")
    for number in range(12):
        lake = (first, second)[number % 2]
        assert lake.commit_once(LANDING_TRACES, batches(rows, "s", number)).rows == 3
        # The other one sends the same batch from its stale handle.
        other = (second, first)[number % 2]
        assert other.commit_once(LANDING_TRACES, batches(rows, "s", number)).duplicates == 1
    assert first.read(LANDING_TRACES).height == second.read(LANDING_TRACES).height == 36


def test_a_batch_of_the_wrong_shape_blocks_no_other_stream_of_landing(lake, rows):
    wrong = Batch("old-sdk", 0, rows().drop("task"))
    commit = lake.commit_once(LANDING_TRACES, [wrong, *batches(rows, "s", 0)])
    assert (commit.rows, commit.quarantined) == (3, 3)
    refused = lake.read(OPS_QUARANTINE).row(0, named=True)
    assert (refused["stream_id"], refused["seq"], refused["row"]) == ("old-sdk", 0, -1)
    assert "required column 'task' is missing" in refused["reason"]
    assert pl.read_ipc_stream(refused["payload"]).equals(wrong.frame)
    assert lake.commit_once(LANDING_TRACES, [wrong]).duplicates == 1


def test_a_batch_of_the_wrong_shape_is_an_error_outside_landing(lake, rows):
    with pytest.raises(ContractError, match="'task' is missing"):
        lake.commit_once(TRACES_INPUTS, [Batch("result:x", 0, rows().drop("task"))])
    assert lake.mark(TRACES_INPUTS, "result:x") is None


def test_an_application_name_serves_as_stream(lake):
    frame = pl.DataFrame({"model_key": ["m@v"], "result_name": ["x"], "promoted_by": ["me"]}).with_columns(
        promoted_at=pl.datetime(2026, 1, 1, time_zone="UTC", time_unit="us")
    )
    assert lake.commit_once(OPS_PROMOTIONS, [Batch("result:x", 0, frame)]).rows == 1
    assert lake.commit_once(OPS_PROMOTIONS, [Batch("result:x", 0, frame)]).rows == 0


def test_repeated_keys_of_a_gold_batch_are_refused(lake, rows):
    with pytest.raises(ContractError, match="share their unique"):
        lake.commit_once(TRACES_INPUTS, [Batch("s", 0, pl.concat([rows(), rows()]))])
    assert lake.read(TRACES_INPUTS).is_empty()


def test_a_batch_that_another_writer_commits_between_mark_and_write_is_stored_once(lake, rows, monkeypatch):
    from mld_pipelines.lake import _commit as commits

    other = Lake(lake.root, code_version="other")
    lake.commit_once(LANDING_TRACES, batches(rows, "s", 0))
    read_mark, overtaken = commits.mark, []

    def overtaking_mark(handle, stream):
        known = read_mark(handle, stream)
        if not overtaken:
            overtaken.append(stream)
            other.commit_once(LANDING_TRACES, batches(rows, "s", 1, 2))
        return known

    monkeypatch.setattr(commits, "mark", overtaking_mark)
    commit = lake.commit_once(LANDING_TRACES, batches(rows, "s", 1, 2, 3))
    assert (commit.rows, commit.duplicates) == (3, 2)
    assert lake.read(LANDING_TRACES).select("seq", "row").is_unique().all()
    assert lake.read(LANDING_TRACES).height == 12
