"""A detector goes through the assets of the platform as a classifier does: traced, evaluated, monitored, checked."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import timedelta

import dagster as dg
import polars as pl
import pytest

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
