"""Stress passes over registered 3D detectors: copies of frames, through the two stages of a trace, into a real lake."""

from __future__ import annotations

import json
import math
from pathlib import Path

import frame_factories
import polars as pl
import pytest
import torch

from examples.drive.datasets import drive_dataset, drive_model
from mld_pipelines.compute import PoolPolicy
from mld_pipelines.evaluation import promote_stress
from mld_pipelines.exceptions import ConfigurationError, InvalidInputError, NotFoundError, WorkerPoolError
from mld_pipelines.lake import Lake
from mld_pipelines.stress import point_families
from mld_pipelines.tables import (
    LANDING_MODELS,
    LANDING_RECEIPTS,
    LANDING_STRESS,
    LANDING_TRACES,
    OPS_QUARANTINE,
    TRACES_STRESS,
)
from mld_pipelines.tracing import (
    StressOptions,
    is_stress_due,
    register_dataset,
    register_model,
    stress_cost,
    stress_coverage,
    stress_error_rates,
    stress_passes,
    stress_run,
    trace_run,
)
from mld_pipelines.tracing._worker import one_thread
from mld_pipelines.training import ObjectDetection3DTracer

KITTI = Path(__file__).resolve().parents[3] / "shared" / "data" / "kitti"
KEY = "pillars@v1"
INLINE = PoolPolicy(backend="inline", max_attempts=1)
#: Two frames under every kind at one severity.
SMALL = StressOptions(severities=(3,), max_inputs=2, batch_size=2)
KINDS = [(family.name, kind.name) for family in point_families() for kind in family.kinds]
#: Set anew by every run.
ARRIVAL = ["stream_id", "seq", "row", "ingested_at", "ingest_day", "captured_at"]


def register(lake, *, model="examples.drive.datasets:drive_model", families=None, trace=True, **params):
    register_model(lake, "pillars", factory=model, model_name="pillars", version_name="v1", families=families)
    register_dataset(lake, "frames", factory="frame_factories:dressed", params=params)
    if trace:
        trace_run(lake, "pillars", "frames", dataset_type="val", batch_size=4, pool=INLINE)


def run(lake, pool=INLINE, options=SMALL, **others):
    return stress_run(lake, KEY, options=options, pool=pool, **others)


def copies(lake):
    return lake.read(LANDING_STRESS).sort("seq", "row")


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """A lake with a trace and a finished pass; tests only read it."""
    lake = Lake(str(tmp_path_factory.mktemp("passed") / "lake"), code_version="test")
    register(lake)
    assert is_stress_due(lake, KEY)
    return lake, run(lake)


def test_every_chosen_frame_is_there_under_every_kind(passed):
    lake, report = passed
    rows = copies(lake)
    assert (report.task, report.sets, report.rows, report.complete) == ("od3d", 7, 14, True)
    assert rows.select("family", "kind").unique(maintain_order=True).rows() == KINDS
    traced = {row["input_id"]: row for row in lake.read(LANDING_TRACES).iter_rows(named=True)}
    chosen = rows["input_id"].unique().to_list()
    assert len(chosen) == 2
    assert set(chosen) < set(traced)
    alike = ["model_key", "fingerprint", "task", "adapter", "settings", "class_space", "feature_layer", "n_epoch"]
    for row in rows.iter_rows(named=True):
        assert {name: row[name] for name in alike} == {name: traced[row["input_id"]][name] for name in alike}
        assert (row["task"], row["source_dataset"], row["severity"], row["seed"]) == ("od3d", "val", 3, 0)
        assert row["logits"] is row["prediction"] is row["metadata"] is None
        assert row["label"] == -1
        assert row["input_hash"] != traced[row["input_id"]]["input_hash"]
    assert rows["input_hash"].n_unique() == 14


def test_boxes_are_what_the_detector_finds_in_the_corrupted_cloud(passed, tmp_path, monkeypatch):
    """The corruption applied by hand, the frame given to a tracer: its row holds the same boxes, features and all."""
    lake, _ = passed
    (row,) = copies(lake).filter(pl.col("kind") == "jitter").head(1).iter_rows(named=True)
    frames = {one[2]: one for one in map(drive_dataset("val", frames=6).__getitem__, range(6))}
    points, target, _ = frames[row["input_id"]]
    (noise,) = (family for family in point_families() if family.name == "noise")
    cloud = noise.corrupt(points.numpy(), kind="jitter", severity=3, seed=0, input_id=row["input_id"])
    assert len(cloud) == len(points)
    monkeypatch.setenv("MLD_API_ENDPOINT", str(tmp_path / "sdk"))
    names = list(frame_factories.Frames.classes)
    with ObjectDetection3DTracer(drive_model(), "pillars", "v1", class_names=names) as tracer, one_thread():
        tracer(torch.from_numpy(cloud), [target], input_ids=row["input_id"], dataset_type="val")
        tracer.wait_for_save()
        (found,) = tracer._recorder.sink.lake.read(LANDING_TRACES).iter_rows(named=True)
    same = ["boxes_3d", "scores", "labels", "class_scores", "features", "suppressed_boxes_3d", "input_hash"]
    assert {name: row[name] for name in same} == {name: found[name] for name in same}
    assert len(row["scores"]) > 0


def test_the_receipt_completes_the_pass_and_silver_takes_it(passed):
    lake, report = passed
    (receipt,) = lake.read(LANDING_RECEIPTS, purpose="stress").to_dicts()
    assert receipt == report.receipt
    assert (receipt["dataset_type"], receipt["rows"], receipt["dropped"]) == ("val", 14, 0)
    assert json.loads(receipt["source"])["stress_version"] == report.stress_version
    assert promote_stress(lake, KEY).rows == 14
    silver = lake.read(TRACES_STRESS)
    assert silver.select("boxes_3d").to_series().list.len().sum() == copies(lake)["boxes_3d"].list.len().sum() > 0
    assert lake.read(LANDING_MODELS).height == 1, "the trace has described the weights"
    assert not is_stress_due(lake, KEY)
    assert stress_coverage(lake, KEY).is_stressed


def lost(lake, rows):
    """Share of the objects found in the originals that no box of the copies is near: object by object, by hand."""
    traced = {row["input_id"]: row for row in lake.read(LANDING_TRACES).iter_rows(named=True)}
    before = after = 0
    for copy in rows.iter_rows(named=True):
        original = traced[copy["input_id"]]
        for number, label in enumerate(original["truth_labels"]):
            x, y = original["truth_boxes_3d"][7 * number : 7 * number + 2]
            seen = [
                any(
                    found == label and math.dist((x, y), row["boxes_3d"][7 * place : 7 * place + 2]) <= 2.0
                    for place, found in enumerate(row["labels"])
                )
                for row in (original, copy)
            ]
            before += seen[0]
            after += all(seen)
    return 1 - after / before


def test_a_pass_is_told_by_lost_objects_and_by_how_many_boxes_more_or_fewer_were_recorded(passed):
    lake, report = passed
    found = stress_error_rates(lake, report.stream_id)
    originals = dict(lake.read(LANDING_TRACES).select("input_id", pl.col("scores").list.len()).iter_rows())
    rows = copies(lake)
    for row in found.iter_rows(named=True):
        mine = rows.filter(pl.col("family") == row["family"])
        before = sum(originals[one] for one in mine["input_id"])
        assert row["box_change"] == pytest.approx((mine["scores"].list.len().sum() - before) / before)
        assert (row["severity"], row["n"], row["error_rate"]) == (3, mine.height, None)
        assert row["objects_lost"] == pytest.approx(lost(lake, mine))
    (one,) = stress_passes(lake, KEY).iter_rows(named=True)
    before = sum(originals[one] for one in rows["input_id"])
    assert one["box_change"] == pytest.approx((rows["scores"].list.len().sum() - before) / before)
    assert (one["sets"], one["rows"], one["state"], one["error_rate"]) == (7, 14, "complete", None)


@pytest.mark.ray
def test_actors_make_the_same_rows(passed, tmp_path, local_ray):
    lake, report = passed
    other = Lake(str(tmp_path / "ray"), code_version="test")
    register(other)
    on_ray = run(other, PoolPolicy(backend="local", size=1, num_cpus=0.4, post_cpus=0.4))
    assert (on_ray.backend, on_ray.rows, on_ray.stream_id) == ("local", 14, report.stream_id)
    assert (
        copies(other)
        .drop("ingested_at", "ingest_day", "captured_at")
        .equals(copies(lake).drop("ingested_at", "ingest_day", "captured_at"))
    )
    assert on_ray.cost.seconds > 0


def test_a_pass_whose_driver_died_goes_on_at_the_first_missing_set(passed, lake, monkeypatch):
    import mld_pipelines.tracing._landing as landing

    def die(done, total):
        if done == 3:
            raise KeyboardInterrupt

    register(lake)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(landing, "_FLUSH_BYTES", 1)
        run(lake, progress=die)
    assert copies(lake).select("kind").n_unique() == 3
    assert stress_passes(lake, KEY)["state"].to_list() == ["unfinished"]
    seen = []
    report = run(lake, progress=lambda done, total: seen.append((done, total)))
    assert (seen, report.known_sets, report.rows) == ([(done, 7) for done in (4, 5, 6, 7)], 3, 14)
    assert copies(lake).drop(ARRIVAL).equals(copies(passed[0]).drop(ARRIVAL))
    again = run(lake)
    assert (again.known_sets, again.backend, again.rows) == (7, "none", 14)


def test_the_cost_is_known_before_anything_is_written(lake):
    register(lake)
    options = StressOptions(severities=(3,), max_inputs=4, batch_size=2)
    cost = stress_cost(lake, KEY, options=options, pool=INLINE)
    assert (cost.measured_batches, cost.measured_inputs, cost.forwards, cost.workers) == (8, 16, 28, 1)
    per_copy = (cost.measured_seconds + cost.driver_seconds) / 16
    assert cost.seconds == pytest.approx(cost.spent_seconds + per_copy * (28 - 16)), "16 of them were run to know"
    waiting = run(lake, options=options, max_seconds=1e-9)
    assert (waiting.is_waiting, waiting.rows, lake.version(LANDING_STRESS)) == (True, 0, None)
    assert is_stress_due(lake, KEY)


def test_the_cost_is_learned_from_a_few_frames_however_large_the_batches(lake):
    register(lake)
    large = StressOptions(severities=(3,), max_inputs=6, batch_size=6)
    cost = stress_cost(lake, KEY, options=large, pool=INLINE)
    assert (cost.measured_batches, cost.measured_inputs, cost.forwards) == (7, 28, 42)
    per_copy = (cost.measured_seconds + cost.driver_seconds) / 28
    assert cost.seconds == pytest.approx(cost.spent_seconds + per_copy * 42), "batches run in part are run again"
    report = run(lake, options=large)
    assert (report.rows, report.complete) == (42, True)
    assert copies(lake).group_by("kind").len()["len"].to_list() == [6] * 7


def test_a_broken_copy_is_set_aside_alone_with_the_reason_and_the_pass_completes(lake):
    register(lake, families="frame_factories:breaking_families")
    options = StressOptions(severities=(1, 3), max_inputs=6, batch_size=3)
    report = run(lake, options=options)
    assert (report.families, report.sets, report.rows, report.quarantined_batches) == (("loss", "trouble"), 4, 23, 0)
    (copy,) = report.lost_copies
    spoilt = drive_dataset("val", frames=6)[3][2]
    assert copy == f"the copy of {spoilt!r} by break_one at severity 3"
    (found,) = lake.read(OPS_QUARANTINE).iter_rows(named=True)
    assert (found["rule"], found["table"]) == ("item|worker", "landing/stress")
    assert found["reason"].startswith(copy)
    assert "the corruption broke" in found["reason"]
    assert (report.receipt["dropped"], "1 single copies quarantined" in report.receipt["note"]) == (1, True)
    versions = copies(lake).select("family", "family_version").unique().sort("family")
    assert versions.rows() == [("loss", "3"), ("trouble", "1")]


@pytest.mark.parametrize("dress", ["dict", "list", "array"])
def test_whatever_the_points_are_nested_in_the_copies_are_the_same(passed, lake, dress):
    register(lake, dress=dress)
    run(lake)
    found = ["input_id", "kind", "boxes_3d", "scores", "features"]
    assert copies(lake).select(found).equals(copies(passed[0]).select(found))


def test_clouds_without_an_intensity_have_no_family_of_it(lake):
    register(lake, model="frame_factories:bare_model", dress="bare")
    report = run(lake)
    assert (report.families, report.sets, report.complete) == (("density", "coverage", "noise"), 6, True)


@pytest.mark.skipif(not KITTI.exists(), reason="../shared/data/kitti is missing")
def test_real_sweeps_of_a_folder_are_stressed_by_its_path(lake):
    register(lake, trace=False)
    folder = f"kitti:{KITTI}?classes=Car,Truck,Pedestrian,Cyclist"
    trace_run(lake, "pillars", folder, dataset_type="val", pool=INLINE)
    report = run(lake, options=StressOptions(severities=(5,), max_inputs=1))
    assert (report.families, report.rows, report.complete) == (("density", "coverage", "noise", "intensity"), 7, True)
    found = stress_error_rates(lake, report.stream_id)
    assert found["box_change"].null_count() == 0
    assert copies(lake)["input_hash"].n_unique() == 7


def test_other_weights_than_the_traced_are_refused(lake):
    register(lake)
    register_model(lake, "pillars", factory="frame_factories:other_model", model_name="pillars", version_name="v1")
    with pytest.raises(WorkerPoolError, match="Trace the registered model again"):
        run(lake)
    assert lake.version(LANDING_STRESS) is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"first": 1}, "was traced there: the dataset has changed"),
        ({"length": 4}, "the dataset has 4 frames, but 6 were traced"),
    ],
)
def test_a_dataset_that_has_changed_is_refused(lake, params, message):
    register(lake)
    register_dataset(lake, "frames", factory="frame_factories:dressed", params=params)
    with pytest.raises((InvalidInputError, WorkerPoolError), match=message):
        run(lake)
    assert lake.version(LANDING_STRESS) is None
    assert lake.version(OPS_QUARANTINE) is None


def test_a_dataset_that_is_for_classifiers_now_is_refused(lake):
    register(lake)
    register_dataset(lake, "frames", factory="frame_factories:labelled")
    with pytest.raises(ConfigurationError, match="a dataset of frames has"):
        run(lake)


@pytest.mark.parametrize("name", ["image", "tabular"])
def test_families_that_are_not_for_points_are_refused(lake, name):
    register(lake, families=name)
    with pytest.raises(InvalidInputError, match="--families points"):
        run(lake)


@pytest.mark.parametrize(
    ("dress", "message"),
    [("voxels", "voxels beside its points"), ("image", r"the keys \['img'\] and no points")],
)
def test_frames_whose_points_the_model_would_not_see_are_refused(lake, dress, message):
    register(lake)
    register_dataset(lake, "frames", factory="frame_factories:dressed", params={"dress": dress})
    with pytest.raises(InvalidInputError, match=message):
        run(lake)


def test_what_a_tracer_has_traced_has_to_be_registered(tmp_path, monkeypatch):
    monkeypatch.setenv("MLD_API_ENDPOINT", str(tmp_path / "sdk"))
    points, target, frame_id = drive_dataset("val", frames=1)[0]
    with ObjectDetection3DTracer(drive_model(), "pillars", "v1") as tracer:
        tracer(points, [target], input_ids=frame_id, dataset_type="val")
        tracer.wait_for_save()
        lake = tracer._recorder.sink.lake
    assert not is_stress_due(lake, KEY)
    with pytest.raises(NotFoundError, match="Register model and dataset and run mld trace run") as told:
        run(lake)
    assert "tracer.stress" not in str(told.value)
    assert "tracer.stress" not in stress_coverage(lake, KEY).summary
