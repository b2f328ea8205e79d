"""Different inputs of one trace under one id: the last counts, and the result says what it does not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mld_pipelines.evaluation import evaluate
from tests.support.traced import MODEL, START, write_trace

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake


def said(lake: Lake, **options: object) -> list[str]:
    result = evaluate(lake, MODEL, **options)  # type: ignore[arg-type]
    return [text for text in result.row["warnings"] if "input id" in text]


def write_twice(lake: Lake, hashes: list[str | None], again: list[str | None], *, epoch: int | None = None) -> None:
    """Write 120 inputs and, as the next batch of the same stream, some of them again."""
    write_trace(lake, "val", 120, seed=2, stream="s", hashes=hashes, receipt=False, epoch=epoch)
    write_trace(lake, "val", len(again), seed=3, stream="s", seq=1, hashes=again, epoch=epoch)


HASHES: list[str | None] = [f"{i:064x}" for i in range(120)]
OTHER: list[str | None] = [f"{i:064x}" for i in range(900, 905)]


def test_inputs_of_other_content_under_one_id_are_counted_and_named(lake: Lake) -> None:
    write_twice(lake, HASHES, OTHER)
    assert said(lake) == [
        "5 input ids stand for several inputs of one trace (val/val-0, val/val-1, val/val-2, …): the last row of each "
        "counted, 5 other rows are in no number of this result. Give every input an id of its own and trace again."
    ]


def test_one_id_is_told_in_the_singular(lake: Lake) -> None:
    write_twice(lake, HASHES, OTHER[:1])
    (text,) = said(lake)
    assert text.startswith(
        "1 input id stands for several inputs of one trace (val/val-0): the last row of each counted"
    )
    assert "1 other row is in no number" in text


def test_inputs_without_a_hash_may_be_others(lake: Lake) -> None:
    write_twice(lake, [None] * 120, [None] * 2)
    assert said(lake)[0].startswith("2 input ids stand for")


def test_the_same_inputs_again_lose_nothing(lake: Lake) -> None:
    write_twice(lake, HASHES, HASHES[:40])
    assert said(lake) == []


def test_a_later_trace_of_the_dataset_replaces_the_earlier_one_unsaid(lake: Lake) -> None:
    write_trace(lake, "val", 120, seed=2, hashes=HASHES)
    write_trace(lake, "val", 120, seed=3, hashes=list(reversed(HASHES)), at=START + timedelta(hours=1))
    assert said(lake) == []


@pytest.mark.parametrize(("n_epoch", "count"), [("latest", 0), (1, 1)])
def test_only_the_epochs_that_are_evaluated_are_spoken_of(lake: Lake, n_epoch: object, count: int) -> None:
    write_twice(lake, HASHES, OTHER, epoch=1)
    write_trace(lake, "val", 120, seed=2, hashes=HASHES, epoch=2)
    assert len(said(lake, n_epoch=n_epoch)) == count
