"""The conservation law: emitted = stored + dropped + spooled, whatever fails."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time

import pytest

from mld_pipelines.capture import EmbeddedSink, Recorder, Spool, open_sink, replay, spooled_streams
from mld_pipelines.capture import _spool as spool_module
from mld_pipelines.exceptions import ConfigurationError, InvalidInputError, StorageError


def put(recorder, *names, size=100):
    recorder.put(names, len(names), size)


class BrokenSink(EmbeddedSink):
    """A lake that can be switched off."""

    broken = True

    def deliver(self, segments):
        if self.broken:
            raise StorageError("the disk is full (test)")
        return super().deliver(segments)


@pytest.fixture
def failing_spool(monkeypatch):
    """Let every write to the spool fail as a full disk does, until cleared."""
    full = threading.Event()
    full.set()
    real = spool_module._write_whole

    def write(path, data, *, is_durable):
        if full.is_set() and path.suffix == ".seg":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data, is_durable=is_durable)

    monkeypatch.setattr(spool_module, "_write_whole", write)
    return full


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_rows_arrive_once_and_in_order(record, names_in):
    recorder = record()
    for n in range(50):
        put(recorder, f"{n:02d}a", f"{n:02d}b")
    assert recorder.flush(10)
    assert names_in() == [f"{n:02d}{half}" for n in range(50) for half in "ab"]
    stats = recorder.stats
    assert (stats.emitted, stats.acknowledged, stats.stored, stats.spooled, stats.dropped) == (100, 100, 100, 0, {})


@pytest.mark.feature("I11", "I16")
def test_rows_are_visible_within_ten_seconds_without_a_flush(record, names_in):
    recorder = record()
    put(recorder, "a")
    wait_until(lambda: names_in() == ["a"])


def test_no_thread_runs_before_the_first_row(record):
    before = threading.active_count()
    recorder = record()
    assert threading.active_count() == before
    assert recorder.flush(1)


def test_rows_of_several_threads_are_all_counted(record, names_in):
    recorder = record()

    def work(thread):
        for n in range(200):
            put(recorder, f"{thread}-{n}")

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert recorder.flush(10)
    assert sorted(names_in()) == sorted(f"{t}-{n}" for t in range(4) for n in range(200))
    assert recorder.stats.is_conserved


def test_a_full_buffer_drops_the_oldest_and_counts_them(record, failing_spool, names_in):
    recorder = record(max_buffer_bytes=1000)
    for n in range(100):
        put(recorder, str(n))
    stats = recorder.stats
    assert stats.dropped["buffer_full"] >= 80
    assert stats.is_conserved
    assert recorder.buffered_size <= 1100
    failing_spool.clear()
    assert recorder.flush(10)
    stats = recorder.stats
    assert stats.stored == len(names_in()) == 100 - stats.total_dropped
    assert names_in()[-1] == "99"


def test_sampling_thins_out_before_the_buffer_is_full(record, failing_spool):
    recorder = record(max_buffer_bytes=10_000, overflow="sample")
    for n in range(400):
        put(recorder, str(n))
    assert recorder.stats.dropped["sampled"] > 200
    assert recorder.buffered_size <= 10_100
    assert recorder.stats.is_conserved


def test_blocking_waits_for_the_spool_and_loses_nothing(record, names_in):
    recorder = record(max_buffer_bytes=300, overflow="block")
    for n in range(200):
        put(recorder, str(n))
    assert recorder.flush(10)
    assert len(names_in()) == 200


def test_blocking_on_an_unwritable_spool_is_an_error_not_a_hang(record, failing_spool):
    recorder = record(max_buffer_bytes=300, overflow="block")
    with pytest.raises(StorageError, match="cannot be written"):
        for n in range(50):
            put(recorder, str(n))
    assert recorder.stats.is_conserved


def test_a_full_spool_warns_once_and_recovers(record, failing_spool, names_in, caplog):
    recorder = record()
    put(recorder, "a")
    assert not recorder.flush(1.2)
    assert recorder.stats.problem is not None
    assert sum("spool cannot be written" in r.message for r in caplog.records) == 1
    failing_spool.clear()
    assert recorder.flush(10)
    assert names_in() == ["a"]
    assert recorder.stats.problem is None


def test_rows_wait_in_the_spool_while_the_lake_is_broken(record, lake, names_in, caplog):
    caplog.set_level(logging.WARNING)
    sink = BrokenSink(lake)
    recorder = record(sink)
    put(recorder, "a", "b")
    assert not recorder.flush(2)
    stats = recorder.stats
    assert (stats.emitted, stats.acknowledged, stats.stored, stats.spooled) == (2, 2, 0, 2)
    assert sum("lake cannot be written" in r.message for r in caplog.records) == 1
    sink.broken = False
    assert recorder.flush(10)
    assert names_in() == ["a", "b"]
    assert recorder.stats.is_conserved


def test_a_full_spool_stops_growing_and_the_buffer_drops_and_counts(record, lake, names_in, monkeypatch):
    monkeypatch.setenv("MLD_SPOOL_MAX_MB", "1")
    sink = BrokenSink(lake)
    recorder = record(sink, max_buffer_bytes=100_000)
    put(recorder, *(f"{n:>0900}" for n in range(1300)), size=1000)  # 1.2 MB in the spool
    assert not recorder.flush(1.0)
    for n in range(300):
        started = time.monotonic()
        put(recorder, f"late {n}", size=1000)
        assert time.monotonic() - started < 0.5
    stats = recorder.stats
    assert stats.spooled == 1300
    assert stats.dropped["buffer_full"] >= 200
    assert stats.is_conserved
    assert not recorder.flush(0.6)
    assert "MLD_SPOOL_MAX_MB" in recorder.stats.problem
    assert recorder.stream.spool.size() < 1.5 * 2**20
    sink.broken = False
    assert recorder.flush(20)
    stats = recorder.stats
    assert stats.stored == len(names_in()) == 1600 - stats.total_dropped
    assert names_in()[-1] == "late 299"


def test_a_full_spool_refuses_where_nothing_may_be_lost(record, lake, monkeypatch):
    monkeypatch.setenv("MLD_SPOOL_MAX_MB", "1")
    recorder = record(BrokenSink(lake), overflow="block", max_buffer_bytes=10_000)
    put(recorder, *(f"{n:>0900}" for n in range(1300)), size=1000)
    assert not recorder.flush(1.0)
    with pytest.raises(StorageError, match="MLD_SPOOL_MAX_MB"):
        for n in range(50):
            put(recorder, str(n), size=1000)
    assert recorder.stats.is_conserved


def test_other_processes_streams_count_towards_the_limit(record, lake, monkeypatch):
    monkeypatch.setenv("MLD_SPOOL_MAX_MB", "1")
    other = record(BrokenSink(lake))
    put(other, *(f"{n:>0900}" for n in range(1300)))
    assert not other.flush(1.0)
    recorder = record(BrokenSink(lake))
    put(recorder, "new")
    assert not recorder.flush(0.5)
    assert (recorder.stats.acknowledged, recorder.stats.buffered) == (0, 1)


def test_what_a_closed_recorder_left_is_adopted_by_the_next_one(record, lake, names_in):
    sink = BrokenSink(lake)
    recorder = record(sink)
    put(recorder, "left")
    assert not recorder.close(1.0)
    assert [stream.rows for stream in spooled_streams()] == [1]
    other = record()
    put(other, "new")
    assert other.flush(10)
    assert sorted(names_in()) == ["left", "new"]
    assert spooled_streams() == []


def test_replay_ships_what_is_spooled(record, lake, names_in):
    recorder = record(BrokenSink(lake))
    put(recorder, "left")
    recorder.close(1.0)
    moved = replay(lake.root)
    assert moved.rows == {"landing/feedback": 1}
    assert names_in() == ["left"]


def test_the_same_stream_sent_again_is_known_and_stored_once(record, names_in):
    for run, cut in enumerate((3, 7)):  # flushed at other places: batches are calls, not segments
        recorder = record(stream_id="again")
        for n in range(10):
            put(recorder, f"{n}")
            if n % cut == 0:
                recorder.flush(10)
        assert recorder.close(10)
        stats = recorder.stats
        assert (stats.known, stats.known_batches) == ((0, 0) if run == 0 else (10, 10))
        assert stats.is_conserved
    assert names_in() == [str(n) for n in range(10)]


def test_a_longer_second_run_of_a_stream_adds_only_what_is_new(record, names_in):
    for length in (4, 9):
        recorder = record(stream_id="again")
        for n in range(length):
            put(recorder, f"{n}")
        assert recorder.close(10)
    assert recorder.stats.known == 4
    assert names_in() == [str(n) for n in range(9)]


def test_a_stream_interrupted_before_its_commit_is_stored_once(record, lake, names_in):
    recorder = record(BrokenSink(lake), stream_id="again")
    put(recorder, "0")
    put(recorder, "1")
    recorder.close(1.0)
    second = record(stream_id="again")
    for n in range(4):
        put(second, str(n))
    assert second.close(10)
    assert names_in() == ["0", "1", "2", "3"]
    assert second.stats.is_conserved


def test_two_senders_of_one_stream_are_refused(record):
    record(stream_id="mine")
    with pytest.raises(ConfigurationError, match="sent by another process"):
        record(stream_id="mine")


@pytest.mark.parametrize("stream_id", ["", "a/b", "..", "x" * 200, 7])
def test_a_stream_id_that_is_no_file_name_is_refused(record, stream_id):
    with pytest.raises(InvalidInputError, match="stream_id"):
        record(stream_id=stream_id)


def test_a_call_that_cannot_be_encoded_does_not_cost_the_others(record, names_in):
    recorder = record()
    put(recorder, "a")
    recorder.put(7, 1, 100)  # no sequence of names
    put(recorder, "b")
    assert recorder.flush(10)
    assert names_in() == ["a", "b"]
    assert recorder.stats.dropped == {"unencodable": 1}
    assert recorder.stats.is_conserved


def test_rows_after_close_are_counted_as_lost(record):
    recorder = record()
    put(recorder, "a")
    recorder.close(10)
    put(recorder, "b")
    assert recorder.stats.dropped == {"closed": 1}
    assert recorder.stats.is_conserved


def test_a_quarantined_row_counts_as_stored_and_is_shown(record):
    recorder = record()
    put(recorder, "", "good")  # the empty id breaks the table's contract
    assert recorder.flush(10)
    stats = recorder.stats
    assert (stats.stored, stats.quarantined) == (2, 1)
    assert stats.is_conserved


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: d[:-3] + b"\xff\xff\xff", lambda d: b""])
def test_a_damaged_segment_is_set_aside_and_the_rest_recovered(record, lake, names_in, damage, caplog):
    recorder = record(BrokenSink(lake))
    for name in ("a", "b"):
        put(recorder, name)
        recorder.flush(0.5, is_patient=False)
    recorder.close(0.5)
    first = next(iter(next(iter(Spool(lake.root).streams())).segments()))
    first.path.write_bytes(damage(first.path.read_bytes()))
    moved = replay(lake.root)
    assert names_in() == ["b"]
    assert moved.refused == {"landing/feedback": 1}
    assert spooled_streams()[0].set_aside == 1


def test_a_recorder_nobody_holds_any_more_delivers_and_ends(lake, names_in):
    from tests.capture.conftest import encode

    recorder = Recorder(
        "landing/feedback", EmbeddedSink(lake), encode=encode, overflow="drop_oldest", max_buffer_bytes=1000
    )
    put(recorder, "a")
    recorder.abandon()
    wait_until(lambda: names_in() == ["a"])
    wait_until(lambda: not recorder.worker._thread.is_alive())


@pytest.mark.feature("A1")
def test_an_http_endpoint_is_refused_at_one_seam(monkeypatch):
    monkeypatch.setenv("MLD_API_ENDPOINT", "https://api.example.com")
    with pytest.raises(ConfigurationError, match="comes with the ingestion server"):
        open_sink()


@pytest.mark.feature("A1", "A5")
def test_the_endpoint_is_read_at_use(monkeypatch, tmp_path):
    monkeypatch.setenv("MLD_API_ENDPOINT", f"file://{tmp_path}/there")
    assert open_sink().root == str(tmp_path / "there")
    monkeypatch.setenv("MLD_API_ENDPOINT", "s3://bucket/lake")
    assert (open_sink().root, open_sink().scope) == ("s3://bucket/lake", "process")
    monkeypatch.delenv("MLD_API_ENDPOINT")
    assert open_sink().root == os.environ["MLD_HOME"] + "/lake"


class ObjectStoreSink(EmbeddedSink):
    """As on an object store: every process commits its own streams."""

    scope = "process"


def test_without_a_machine_wide_committer_each_delivers_its_own_and_orphans(record, lake, names_in):
    left = record(BrokenSink(lake))
    put(left, "left")
    left.close(1.0)
    owned = record(BrokenSink(lake))
    put(owned, "owned")
    wait_until(lambda: owned.stats.spooled == 1)
    recorder = record(ObjectStoreSink(lake))
    put(recorder, "own")
    assert recorder.flush(10)
    assert sorted(names_in()) == ["left", "own"]  # the living stream is its owner's
    assert recorder.stats.is_conserved
