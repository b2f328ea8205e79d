"""Trace runs on a Ray cluster of several nodes."""

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


@pytest.fixture(scope="module")
def cluster():
    """A head and a worker node; this process finds them as a user's does."""
    with ray_cluster() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def classified(folder, pool):
    lake = Lake(str(folder), code_version="test")
    register_model(lake, "cnn", factory="trace_factories:make_model", model_name="cnn", version_name="v1")
    register_dataset(lake, "images", factory="trace_factories:Images", params={"n": 150})
    return results(lake, trace_run(lake, "cnn", "images", dataset_type="val", batch_size=16, pool=pool))


def detected(folder, pool):
    lake = Lake(str(folder), code_version="test")
    factory = "examples.drive.datasets:drive_model"
    register_model(lake, "pillars", factory=factory, model_name="pillars", version_name="v1")
    register_dataset(lake, "frames", factory="frame_factories:frames", params={"spoilt": 3})
    return results(lake, trace_run(lake, "pillars", "frames", dataset_type="val", batch_size=2, pool=pool))


def results(lake, report):
    rows = lake.read(LANDING_TRACES).drop(*ARRIVAL).sort("input_id")
    models = lake.read(LANDING_MODELS).drop("stream_id", "ingested_at", "ingest_day", "first_seen")
    return report, rows, models


@pytest.mark.parametrize(("traced", "rows"), [(classified, 150), (detected, 5)])
def test_a_cluster_and_one_process_give_identical_tables(cluster, tmp_path, traced, rows):
    _, expected, models = traced(tmp_path / "inline", PoolPolicy(backend="inline"))
    report, found, described = traced(tmp_path / "cluster", PoolPolicy())
    assert (report.backend, report.workers, report.rows) == ("cluster", 2, rows)
    assert_frame_equal(found, expected, check_exact=True)
    assert_frame_equal(described, models, check_exact=True)
