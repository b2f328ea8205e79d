"""Refreshing the monitoring tables: incremental, exactly once, whatever the order of commits and runs."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mld_pipelines.lake import Lake
from mld_pipelines.rollups import labelled_days, refresh_codes, refresh_windows, score_days
from mld_pipelines.tables import LANDING_INFERENCES, MONITORING_CODES, MONITORING_SCORED, MONITORING_WINDOWS
from mld_pipelines.windows import aggregate
from tests.support.traced import MODEL, START, write_feedback, write_inferences

RESULT = "toy_v1"
DAYS = [START.date() + timedelta(days=n) for n in range(3)]


def at(day: int, hour: int = 0):
    return START + timedelta(days=day, hours=hour)


def score(result: str, rows: pl.DataFrame) -> pl.DataFrame:
    """A made-up scorer: the probability is the class index in tenths."""
    return rows.with_columns(
        (pl.col("prediction") / 10).cast(pl.Float32).alias("error_proba"),
        pl.format("E00{}", pl.col("prediction") + 1).alias("error_code"),
        pl.lit("operational_coverage").alias("category"),
        pl.lit(value=False).alias("is_aleatoric"),
        pl.lit(f"{result}#1").alias("scored_by"),
        pl.lit(0.5, dtype=pl.Float32).alias("confidence_t"),
    )


def refresh(lake: Lake, days: list[date], result: str = RESULT):
    scored = score_days(lake, days, current={MODEL: result}, score=score)
    return scored, refresh_windows(lake, days, references={})


@pytest.fixture
def lake(tmp_path):
    return Lake.open(str(tmp_path / "lake"))


def states(lake: Lake) -> pl.DataFrame:
    keys = ["event_day", "hour", "model_key", "result_name"]
    return lake.read(MONITORING_WINDOWS).drop("schema_version").sort(keys)


def from_scratch(lake: Lake, labels: dict[str, int] | None = None) -> pl.DataFrame:
    """The same states computed in one go from everything there is."""
    rows = lake.read(LANDING_INFERENCES)
    basic = aggregate(rows, errors=False)
    known = pl.DataFrame(
        {"request_id": list(labels or {}), "label": list((labels or {}).values())},
        schema={"request_id": pl.String, "label": pl.Int64},
    )
    scored = (
        score(RESULT, rows).with_columns(pl.lit(RESULT).alias("result_name")).join(known, on="request_id", how="left")
    )
    return pl.concat([basic, aggregate(scored)]).sort("event_day", "hour", "model_key", "result_name")


def test_nothing_logged_writes_nothing(lake):
    scored, windows = refresh(lake, DAYS)
    assert (scored.version, scored.rows, windows.version, windows.rows) == (None, 0, None, 0)


def test_a_second_refresh_without_news_reads_and_changes_nothing(lake):
    write_inferences(lake, 20, result_name=RESULT, at=at(0))
    refresh(lake, DAYS)
    before = states(lake)
    scored, windows = refresh(lake, DAYS)
    assert (scored.rows, scored.read, windows.read) == (0, 0, 0)
    assert states(lake).equals(before)


def test_the_cost_follows_the_new_rows_not_the_history(lake):
    write_inferences(lake, 200, result_name=RESULT, at=at(0))
    refresh(lake, DAYS)
    write_inferences(lake, 3, result_name=RESULT, at=at(0, 5), seq=1)
    scored, windows = refresh(lake, DAYS)
    assert (scored.read, scored.rows) == (3, 3)
    assert windows.read == 6, "three new inferences, read once for the basic and once for the scored states"


def test_a_late_row_changes_its_own_window_only(lake):
    write_inferences(lake, 10, result_name=RESULT, at=at(0))
    write_inferences(lake, 10, result_name=RESULT, at=at(1), seq=1)
    refresh(lake, DAYS)
    before = states(lake)
    write_inferences(lake, 1, result_name=RESULT, at=at(0, 2), seq=2)
    refresh(lake, [DAYS[0]])
    after = states(lake)
    new = after.join(before, on=["event_day", "hour", "result_name"], how="anti", nulls_equal=True)
    assert set(zip(new["event_day"], new["hour"], strict=True)) == {(DAYS[0], 2)}
    assert after.join(new, on=["event_day", "hour"], how="anti").equals(before)


def test_rows_of_a_logger_without_a_result_count_but_are_never_scored(lake):
    write_inferences(lake, 5, result_name=None, at=at(0))
    write_inferences(lake, 5, result_name=RESULT, at=at(0), stream="other", seed=3)
    scored, _ = refresh(lake, [DAYS[0]])
    assert scored.rows == 5
    by_result = dict(states(lake).select("result_name", "n").iter_rows())
    assert by_result == {None: 10, RESULT: 5}


def test_a_new_current_result_scores_the_day_again_beside_the_old_one(lake):
    write_inferences(lake, 5, result_name=RESULT, at=at(0))
    refresh(lake, [DAYS[0]])
    refresh(lake, [DAYS[0]], result="toy_v2")
    by_result = dict(states(lake).select("result_name", "n").iter_rows())
    assert by_result == {None: 5, RESULT: 5, "toy_v2": 5}


def test_labels_that_come_later_recompute_exactly_their_days(lake):
    requests, truth = write_inferences(lake, 10, result_name=RESULT, at=at(0))
    write_inferences(lake, 10, result_name=RESULT, at=at(1), seq=1)
    refresh(lake, DAYS)
    write_feedback(lake, requests[:4], truth[:4], at=at(9))
    assert labelled_days(lake, requests[:4]) == [DAYS[0]]
    refresh(lake, DAYS)
    labelled = states(lake).filter(pl.col("n_labelled") > 0)
    assert labelled.select("event_day", "n_labelled").rows() == [(DAYS[0], 4)]
    assert states(lake).equals(from_scratch(lake, dict(zip(requests[:4], truth[:4].tolist(), strict=True))))


def test_labels_of_recent_inferences_do_not_read_older_days(lake):
    for day in range(3):
        requests, _ = write_inferences(lake, 10, result_name=RESULT, at=at(day), seq=day)
    oldest = lake.files(LANDING_INFERENCES).sort("ingest_day")["path"][0]
    Path(lake.uri(LANDING_INFERENCES), oldest).unlink()
    assert labelled_days(lake, requests[:4]) == [DAYS[2]]


def test_an_id_of_the_callers_own_is_found_on_every_day_that_has_it(lake):
    for day in range(3):
        write_inferences(lake, 10, result_name=RESULT, at=at(day), seq=day, requests=[f"order-{i}" for i in range(10)])
    assert labelled_days(lake, ["order-3"]) == DAYS
    assert labelled_days(lake, ["order-3"], among=DAYS[:2]) == DAYS[:2]
    assert labelled_days(lake, ["unknown"]) == []


def test_a_label_that_is_there_before_its_inference_counts_when_the_inference_arrives(lake):
    write_inferences(lake, 5, result_name=RESULT, at=at(0))
    write_feedback(lake, ["logger-1-0"], np.array([0]), at=at(4))
    refresh(lake, DAYS)
    assert states(lake)["n_labelled"].sum() == 0
    write_inferences(lake, 5, result_name=RESULT, at=at(0), seq=1)
    refresh(lake, DAYS)
    assert states(lake)["n_labelled"].sum() == 1


def test_the_latest_label_of_a_request_wins(lake):
    requests, _ = write_inferences(lake, 1, result_name=RESULT, at=at(0))
    prediction = lake.read(LANDING_INFERENCES)["prediction"][0]
    write_feedback(lake, requests, np.array([(prediction + 1) % 4]), at=at(5))
    refresh(lake, DAYS)
    write_feedback(lake, requests, np.array([prediction]), at=at(6))
    refresh(lake, DAYS)
    row = states(lake).filter(pl.col("result_name") == RESULT).row(0, named=True)
    assert (row["n_labelled"], row["n_label_errors"]) == (1, 0)


def test_a_crash_between_scoring_and_windows_is_made_good_by_the_next_run(lake):
    write_inferences(lake, 8, result_name=RESULT, at=at(0))
    score_days(lake, [DAYS[0]], current={MODEL: RESULT}, score=score)
    refresh(lake, [DAYS[0]])
    assert states(lake).equals(from_scratch(lake))


def test_marks_that_expired_score_nothing_twice(lake, monkeypatch):
    write_inferences(lake, 8, result_name=RESULT, at=at(0))
    refresh(lake, [DAYS[0]])
    monkeypatch.setattr(Lake, "mark", lambda self, spec, stream: None)
    write_inferences(lake, 2, result_name=RESULT, at=at(0), seq=1)
    score_days(lake, [DAYS[0]], current={MODEL: RESULT}, score=score)
    assert lake.read(MONITORING_SCORED).height == 10


@pytest.mark.parametrize("seed", range(4))
def test_any_interleaving_of_commits_labels_and_runs_counts_every_row_once(lake, seed):
    choose = random.Random(seed)
    requests: dict[str, int] = {}
    labels: dict[str, int] = {}
    sequence = Counter[str]()
    for step in range(14):
        action = choose.choice(["log", "log", "label", "run", "score"])
        if action == "log":
            stream = choose.choice("ab")
            ids, truth = write_inferences(
                lake, choose.randint(1, 6), seed=step, result_name=RESULT, stream=stream, seq=sequence[stream],
                at=at(choose.randint(0, 2), choose.randint(0, 22)),
            )  # fmt: skip
            sequence[stream] += 1
            requests |= dict(zip(ids, truth.tolist(), strict=True))
        elif action == "label" and requests:
            chosen = choose.sample(sorted(requests), min(3, len(requests)))
            labels |= {one: requests[one] for one in chosen}
            write_feedback(lake, chosen, [requests[one] for one in chosen], at=at(20, step))
        else:
            days = choose.sample(DAYS, choose.randint(1, 3))
            score_days(lake, days, current={MODEL: RESULT}, score=score)
            if action == "run":
                refresh_windows(lake, days, references={})
    refresh(lake, DAYS)
    assert states(lake).equals(from_scratch(lake, labels))
    scored = lake.read(MONITORING_SCORED)
    assert scored.height == len(requests) == scored["request_id"].n_unique()


def test_codes_are_compared_per_day_and_replaced(lake):
    write_inferences(lake, 40, result_name=RESULT, at=at(0))
    refresh(lake, [DAYS[0]])
    refresh_codes(lake, [DAYS[0]], baselines={})
    refresh_codes(lake, [DAYS[0]], baselines={})
    rows = lake.read(MONITORING_CODES)
    assert rows["counts"].sum() == 40
    assert rows["is_masked"].all(), "without a baseline there is no verdict"
