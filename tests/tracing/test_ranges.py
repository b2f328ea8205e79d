"""Which ranges run when: one broken item costs itself, a broken model does not try every item."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mld_pipelines.compute import BatchResult
from mld_pipelines.tracing._ranges import RangeWork


def play(work, broken, *, limit_calls=None):
    """Run everything in order; return calls and what was settled."""
    calls, settled = [], {}
    while work.is_left:
        for index, batch in enumerate(work.batches()):
            items = range(batch["start"], batch["stop"])
            failed = next((item for item in items if item in broken), None)
            attempts = work.attempts(batch)
            calls.append((batch["start"], batch["stop"], attempts))
            reason = None if failed is None else f"item {failed}"
            done = work.settle(BatchResult(index, {}, reason=reason, attempts=attempts if failed is not None else 1))
            if done is not None:
                seq, parts = done
                assert seq not in settled
                settled[seq] = parts
    return calls, settled


def ranges(items, size):
    return [(start, min(start + size, items)) for start in range(0, items, size)]


def test_a_broken_item_is_the_only_one_that_is_lost():
    calls, settled = play(RangeWork(ranges(10, 4), numbers=range(0, 3), max_attempts=3), {5})
    assert calls == [(0, 4, 1), (4, 8, 1), (4, 5, 2), (5, 6, 2), (6, 7, 2), (7, 8, 2), (8, 10, 1)]
    assert [(place, part.failed, part.attempts) for place, part in settled[1]] == [
        (0, False, 2),
        (1, True, 3),
        (2, False, 2),
        (3, False, 2),
    ]
    assert [len(settled[seq]) for seq in (0, 2)] == [1, 1]


def test_the_last_batch_is_split_too():
    calls, settled = play(RangeWork(ranges(4, 2), numbers=range(1, 2), max_attempts=3), {3})
    assert calls == [(2, 4, 1), (2, 3, 2), (3, 4, 2)]
    assert [part.failed for _, part in settled[1]] == [False, True]


def test_a_batch_of_one_has_all_its_attempts():
    calls, settled = play(RangeWork(ranges(2, 1), numbers=range(0, 2), max_attempts=3), {1})
    assert calls == [(0, 1, 3), (1, 2, 3)]
    assert settled[1][0].result.attempts == 3


@pytest.mark.parametrize(("max_attempts", "alone"), [(1, 2), (2, 2), (5, 4)])
def test_an_item_alone_has_two_attempts_at_least(max_attempts, alone):
    calls, _ = play(RangeWork(ranges(2, 2), numbers=range(0, 1), max_attempts=max_attempts), {0})
    assert calls[1:] == [(0, 1, alone), (1, 2, alone)]


def test_a_broken_model_does_not_try_a_million_items_alone():
    calls, settled = play(RangeWork(ranges(400, 4), numbers=range(0, 100), max_attempts=3), set(range(400)))
    assert len(calls) == 100 + 3 * 4
    assert calls[-1] == (396, 400, 3)
    assert all(part.failed for parts in settled.values() for _, part in parts)


def test_batches_that_are_not_split_have_all_their_attempts():
    work = RangeWork(ranges(8, 4), numbers=[1, 0], max_attempts=3, splits=False)
    calls, settled = play(work, {5})
    assert calls == [(4, 8, 3), (0, 4, 3)]
    assert [part.failed for _, part in settled[1]] == [True]


def test_splitting_begins_again_once_a_batch_succeeds():
    broken = set(range(12)) | {17}
    calls, settled = play(RangeWork(ranges(20, 4), numbers=range(0, 5), max_attempts=3), broken)
    assert [part.failed for _, part in settled[4]] == [False, True, False, False]
    assert calls[-5:] == [(16, 20, 1), *((item, item + 1, 2) for item in range(16, 20))]


@given(
    items=st.integers(1, 40),
    size=st.integers(1, 9),
    broken=st.sets(st.integers(0, 39), max_size=5),
    data=st.data(),
)
def test_every_item_is_settled_once_and_only_broken_ones_are_lost(items, size, broken, data):
    work = RangeWork(ranges(items, size), numbers=range(-(-items // size)), max_attempts=3)
    on_the_way, seen = [], {}
    while work.is_left:
        stream = enumerate(work.batches())
        is_drained = False
        while on_the_way or not is_drained:
            if not is_drained and (not on_the_way or data.draw(st.booleans())):  # results come in any order
                drawn = next(stream, None)
                is_drained = drawn is None
                on_the_way += [] if drawn is None else [drawn]
                continue
            index, batch = on_the_way.pop(data.draw(st.integers(0, len(on_the_way) - 1)))
            is_broken = any(item in broken for item in range(batch["start"], batch["stop"]))
            done = work.settle(BatchResult(index, {}, reason="broken" if is_broken else None))
            if done is None:
                continue
            seq, parts = done
            whole = len(parts) == 1 and parts[0].position == 0
            for place, part in parts:
                first = seq * size + place
                stop = min((seq + 1) * size, items) if whole else first + 1
                for item in range(first, stop):
                    assert item not in seen
                    seen[item] = part.failed
    assert sorted(seen) == list(range(items))
    if len(broken) < 3:  # fewer than it takes to give up splitting
        assert {item for item, failed in seen.items() if failed} == {item for item in broken if item < items}
