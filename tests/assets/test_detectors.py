"""A detector goes through the assets of the platform as a classifier does: traced, evaluated, monitored, checked."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import timedelta

import dagster as dg
import polars as pl
import pytest

from assets.partitions import range_tags
from mld_pipelines.evaluation import list_results
from mld_pipelines.tables import (
    EVALUATION_METRICS,
    MONITORING_CODES,
    MONITORING_SCORED,
    MONITORING_WINDOWS,
    OPS_QUALITY,
)
from tests.support.traced import START
from tests.support.traced_frames import MODEL, write_frames, write_logged_frames

DAY = START.date() + timedelta(days=1)


def test_a_detector_is_traced_evaluated_and_monitored_and_every_check_holds(lake, materialize):
    write_frames(lake, "val", 120, seed=2)
    assert materialize("traces", partition_key=MODEL).success
    run = materialize("evaluation", "estimators", partition_key=MODEL)
    assert run.success
    shows_the_metrics_of_a_detector(run, lake)
    (result,) = list_results(lake, MODEL)["result_name"]
    write_logged_frames(lake, 80, at=START + timedelta(days=1), every=timedelta(minutes=15), result_name=result)
    run = materialize("monitoring", partition_key=DAY.isoformat())
    assert run.success
    failed = [one for one in run.get_asset_check_evaluations() if not one.passed]
    assert not failed, [(one.check_name, one.metadata) for one in failed]
    assert lake.read(OPS_QUALITY)["passed"].all()
    assert lake.read(MONITORING_SCORED)["box_error_proba"].null_count() == 0
    assert set(lake.read(MONITORING_CODES)["unit_kind"]) == {"prediction", "object"}
    states = lake.read(MONITORING_WINDOWS).filter(pl.col("result_name").is_not_null())
    assert (states["n_frames"].sum(), states["n"].sum()) == (80, 80)
    shows_precision_and_recall(run, result)


def shows_the_metrics_of_a_detector(run, lake):
    metrics = dict(lake.read(EVALUATION_METRICS, dataset_type="val").select("metric", "value").iter_rows())
    events = {"/".join(e.asset_key.path): e for e in run.asset_materializations_for_node("evaluate_model")}
    for name in ("precision", "recall", "map", "nds_like"):
        assert events["evaluation/results"].metadata[name].value == pytest.approx(metrics[name]), name
    drawn = b64decode(re.search(r"base64,([^)\s]+)", events["evaluation/codes"].metadata["picture"].value)[1]).decode()
    assert re.search(r">P\d{3}", drawn)
    assert not re.search(r">M\d{3}", drawn)  # objects lie in a space of their own


def shows_precision_and_recall(run, result):
    (event,) = run.asset_materializations_for_node("monitoring_windows")
    (record,) = event.metadata["detectors"].records
    shown = record.data
    assert (shown["event_day"], shown["n_frames"], shown["result_name"]) == (DAY.isoformat(), 80, result)
    for name in ("precision", "recall"):
        assert shown[f"{name}_low"] <= shown[f"{name}_estimated"] <= shown[f"{name}_high"]
        number = event.metadata[f"{name}_estimated"]
        assert isinstance(number, dg.FloatMetadataValue)
        assert number.value == pytest.approx(shown[f"{name}_estimated"], abs=1e-4)


def test_every_day_of_a_run_shows_its_own_numbers_picture_and_rows(lake, materialize):
    write_frames(lake, "val", 120, seed=2)
    assert materialize("evaluation", "estimators", checks=False, partition_key=MODEL).success
    (result,) = list_results(lake, MODEL)["result_name"]
    for number, (frames, hardness) in enumerate(((40, 0.5), (70, 3.0))):
        at = START + timedelta(days=1 + number)
        every = timedelta(minutes=15)
        write_logged_frames(lake, frames, seq=number, seed=number, hardness=hardness, at=at, every=every,
                            result_name=result)  # fmt: skip
    run = materialize("monitoring", checks=False, tags=range_tags(DAY, DAY + timedelta(days=1)))
    easy, hard = run.asset_materializations_for_node("monitoring_windows")
    for event, day, frames in ((easy, DAY, 40), (hard, DAY + timedelta(days=1), 70)):
        (record,) = event.metadata["detectors"].records
        assert (event.partition, record.data["event_day"]) == (day.isoformat(), day.isoformat())
        assert record.data["n_frames"] == event.metadata["inferences"].value == frames
        for name in ("precision_estimated", "recall_estimated", "f1_estimated"):
            assert event.metadata[name].value == pytest.approx(record.data[name], abs=1e-4), name
    assert easy.metadata["precision_estimated"].value > hard.metadata["precision_estimated"].value + 0.05
    for node in ("monitoring_scored", "monitoring_windows", "monitoring_codes"):
        events = run.asset_materializations_for_node(node)
        assert len({event.metadata["picture"].value for event in events}) == 2, node
        for event in events:
            shown = event.metadata["preview"].value
            others = {"2026-01-06", "2026-01-07"} - {event.partition}
            assert event.partition in shown, node
            assert not any(day in shown for day in others), node
