"""A trace run on a Ray cluster of several nodes."""

from __future__ import annotations

import pytest
from polars.testing import assert_frame_equal

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_MODELS, LANDING_TRACES
from mld_pipelines.tracing import register_dataset, register_model, trace_run
from tests.support.ray_cluster import ray_cluster

pytestmark = pytest.mark.ray

ARRIVAL = ("stream_id", "ingested_at", "ingest_day", "captured_at")


def traced(folder, pool):
    lake = Lake(str(folder), code_version="test")
    register_model(lake, "cnn", factory="trace_factories:make_model", model_name="cnn", version_name="v1")
    register_dataset(lake, "images", factory="trace_factories:Images", params={"n": 150})
    report = trace_run(lake, "cnn", "images", dataset_type="val", batch_size=16, pool=pool)
    rows = lake.read(LANDING_TRACES).drop(*ARRIVAL).sort("input_id")
    models = lake.read(LANDING_MODELS).drop("stream_id", "ingested_at", "ingest_day", "first_seen")
    return report, rows, models


def test_a_cluster_and_one_process_give_identical_tables(tmp_path, monkeypatch):
    _, rows, models = traced(tmp_path / "inline", PoolPolicy(backend="inline"))
    with ray_cluster() as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        report, found, described = traced(tmp_path / "cluster", PoolPolicy())
    assert (report.backend, report.workers, report.rows, report.complete) == ("cluster", 2, 150, True)
    assert_frame_equal(found, rows, check_exact=True)
    assert_frame_equal(described, models, check_exact=True)
