"""A run of the platform traces a detector as the tracer would, on one process or on actors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from examples.drive.datasets import drive_dataset, drive_model
from mld_pipelines.compute import PoolPolicy
from mld_pipelines.datasets import KittiFolder
from mld_pipelines.evaluation import evaluate
from mld_pipelines.exceptions import ConfigurationError, WorkerPoolError
from mld_pipelines.tables import LANDING_MODELS, LANDING_TRACES, OPS_QUARANTINE, TRACES_INPUTS
from mld_pipelines.tracing import register_dataset, register_model, trace_run
from mld_pipelines.tracing._worker import one_thread
from mld_pipelines.training import ObjectDetection3DTracer
from tests.support.nuscenes_tables import NuScenesWriter, rigid

KITTI = Path(__file__).resolve().parents[3] / "shared" / "data" / "kitti"
SWEEP = KITTI.parent / "nuscenes" / "lidar_top.pcd.bin"
#: Set anew by every run.
ARRIVAL = ["stream_id", "seq", "row", "ingested_at", "ingest_day", "captured_at"]


@pytest.fixture
def registered(lake):
    register_model(
        lake, "pillars", factory="examples.drive.datasets:drive_model", model_name="pillars", version_name="v1"
    )
    register_dataset(lake, "frames", factory="frame_factories:frames")
    return lake


def run(lake, dataset="frames", backend="inline", **options):
    pool = PoolPolicy(backend=backend, size=1, max_attempts=1)
    return trace_run(lake, "pillars", dataset, dataset_type="val", batch_size=2, pool=pool, progress=False, **options)


def traced(lake):
    return lake.scan(LANDING_TRACES).sort("input_id").collect()


def test_the_rows_are_those_of_the_tracer(registered, tmp_path, monkeypatch):
    report = run(registered)
    assert (report.rows, report.batches, report.quarantined_batches) == (6, 3, 0)
    monkeypatch.setenv("MLD_API_ENDPOINT", str(tmp_path / "sdk"))
    names = ["car", "truck", "pedestrian", "cyclist"]
    with ObjectDetection3DTracer(drive_model(), "pillars", "v1", class_names=names) as tracer, one_thread():
        for points, target, frame_id in (drive_dataset("val", frames=6)[index] for index in range(6)):
            tracer(points, [target], input_ids=frame_id, dataset_type="val")
        tracer.wait_for_save()
        by_sdk = traced(tracer._recorder.sink.lake)
        model = tracer._recorder.sink.lake.read(LANDING_MODELS)
    by_platform = traced(registered)
    assert by_platform.drop(ARRIVAL).equals(by_sdk.drop(ARRIVAL))
    facts = ["model_key", "fingerprint", "task", "architecture", "feature_layer", "feature_dim", "n_classes"]
    assert registered.read(LANDING_MODELS).select(*facts, "class_names").equals(model.select(*facts, "class_names"))


@pytest.mark.ray
def test_actors_make_the_same_rows(registered, tmp_path, local_ray):
    from mld_pipelines.lake import Lake

    other = Lake(str(tmp_path / "ray"), code_version="test")
    register_model(
        other, "pillars", factory="examples.drive.datasets:drive_model", model_name="pillars", version_name="v1"
    )
    register_dataset(other, "frames", factory="frame_factories:frames")
    run(registered)
    report = run(other, backend="local")
    assert (report.backend, report.rows) == ("local", 6)
    assert traced(other).drop(ARRIVAL).equals(traced(registered).drop(ARRIVAL))


def test_a_run_that_is_repeated_traces_nothing_again(registered):
    first = run(registered, run_key="nightly")
    version = registered.version(LANDING_TRACES)
    again = run(registered, run_key="nightly")
    assert (first.known_batches, again.known_batches, again.rows) == (0, 3, 6)
    assert registered.version(LANDING_TRACES) == version


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("label", "label 9 is out of range"),
        ("form", "it must be \\(inputs, target"),
        ("nan", "points of frame 0 hold NaN"),
        ("flat", "frame 0 of the inputs has shape \\(\\d+, 2\\)"),
        ("nan box", "1 of \\d+ boxes are unusable; .*'w': nan"),
        ("size", "'w': -1.0.*w, l, h above 0"),
        ("length", "columns of frame 0 differ in length"),
    ],
)
def test_a_broken_frame_is_set_aside_alone_with_the_reason_and_the_run_completes(registered, how, reason):
    register_dataset(registered, "spoilt", factory="frame_factories:frames", params={"spoilt": 3, "how": how})
    report = run(registered, "spoilt")
    assert (report.rows, report.quarantined_batches, list(report.lost_items)) == (5, 0, [3])
    rows = traced(registered)
    assert sorted(zip(rows["seq"], rows["row"], strict=True)) == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    (found,) = registered.read(OPS_QUARANTINE).rows(named=True)
    assert (found["seq"], found["row"], found["rule"]) == (1, 1, "item|worker")
    assert re.search(f"item 3 of 'val', given up after 3 attempts: .*{reason}", found["reason"]), found["reason"]


def test_frames_that_share_a_name_are_said_by_the_run_its_receipt_and_the_result(registered):
    register_dataset(registered, "alike", factory="frame_factories:named_alike")
    name = drive_dataset("val", frames=6)[1][2]
    report = run(registered, "alike")
    assert (report.rows, report.complete, report.repeated_ids) == (6, True, {name: 3})
    words = f"1 input id stands for several rows, of which an evaluation counts the last: {name} (3 rows)"
    assert "(inline, 2 workers); " + words in report.summary
    assert report.receipt["note"] == words
    result = evaluate(registered, "pillars@v1")
    assert registered.scan(TRACES_INPUTS).collect().height == 4
    (said,) = [text for text in result.row["warnings"] if "input id" in text]
    assert said.startswith(f"1 input id stands for several inputs of one trace (val/{name}): the last row of each ")
    assert "2 other rows are in no number of this result" in said


def test_frames_with_names_of_their_own_repeat_none(registered):
    report = run(registered)
    assert (report.repeated_ids, report.receipt["note"]) == ({}, None)
    assert "input id" not in report.summary


def test_frames_for_a_model_that_is_no_detector_are_refused(registered):
    register_model(registered, "net", factory="torch.nn:Identity", model_name="net", version_name="v1")
    with pytest.raises(WorkerPoolError, match="Identity is no known 3D detector"):
        trace_run(registered, "net", "frames", dataset_type="val", pool=PoolPolicy(backend="inline"), progress=False)
    assert registered.version(LANDING_TRACES) is None


def test_a_dataset_of_another_task_is_refused_by_name(registered):
    register_dataset(registered, "odd", factory="frame_factories:odd")
    with pytest.raises(ConfigurationError, match="task 'segmentation'"):
        run(registered, "odd")


@pytest.mark.skipif(not KITTI.exists(), reason="../shared/data/kitti is missing")
def test_a_kitti_folder_is_traced_by_its_path(registered):
    report = run(registered, f"kitti:{KITTI}?classes=Car,Truck,Pedestrian,Cyclist")
    assert report.rows == 3
    rows = traced(registered)
    assert all(len(boxes) % 7 == 0 for boxes in rows["truth_boxes_3d"])
    assert rows["truth_labels"].list.len().sum() > 0


@pytest.mark.skipif(not KITTI.exists(), reason="../shared/data/kitti is missing")
def test_what_a_kitti_folder_says_of_its_objects_is_recorded(registered):
    """Points as the folder counts them, whose counts are those of MMDetection3D; objects of other classes as -1."""
    classes = ("Car", "Truck", "Pedestrian", "Cyclist")
    run(registered, f"kitti:{KITTI}?classes={','.join(classes)}")
    given = {frame.frame_id: frame for frame in KittiFolder(str(KITTI), classes=classes)}
    rows = traced(registered)
    for row in rows.iter_rows(named=True):
        real = given[row["input_id"]].truths
        assert row["truth_points"] == real.points.tolist()
        assert row["truth_labels"] == real.labels.tolist()
    assert rows["truth_points"].explode().min() >= 0
    assert "Misc" in given["000002"].type_names
    assert -1 in rows.filter(rows["input_id"] == "000002")["truth_labels"][0]


@pytest.mark.skipif(not KITTI.exists(), reason="../shared/data/kitti is missing")
def test_labels_that_count_in_another_order_than_the_model_are_refused_before_any_row(registered):
    """KITTI's own order is car, pedestrian, cyclist: number 1 would be compared with the detector's trucks."""
    with pytest.raises(WorkerPoolError, match=r"class 'Pedestrian' is number 1 of the labels.*\?classes=First,Second"):
        run(registered, f"kitti:{KITTI}")
    assert registered.version(LANDING_TRACES) is None


@pytest.mark.parametrize("how", ["empty", "no velocities", "half", "many"])
def test_an_odd_frame_is_a_row_like_any_other(registered, how):
    register_dataset(registered, "odd", factory="frame_factories:frames", params={"spoilt": 3, "how": how})
    report = run(registered, "odd")
    assert (report.complete, report.rows) == (True, 6)
    row = traced(registered).row(3, named=True)
    boxes = len(row["truth_labels"])
    assert len(row["truth_boxes_3d"]) == 7 * boxes
    assert {"empty": boxes == 0 and row["scores"] == [], "many": boxes == 10_000}.get(how, boxes > 0)
    assert np.isnan(row["truth_velocities"]).all() == (how in {"empty", "no velocities"})


@pytest.mark.skipif(not SWEEP.exists(), reason="../shared/data/nuscenes is missing")
def test_a_nuscenes_folder_is_traced_by_its_path(registered, tmp_path):
    """The real sweep, and tables written around it: a car ahead and an animal, which is no class of the benchmark."""
    sweep = np.fromfile(SWEEP, "<f4").reshape(-1, 5)
    writer = NuScenesWriter(tmp_path / "nuscenes", lidar2ego=rigid((0.94, 0.0, 1.84), yaw=-np.pi / 2))
    pose = writer.add("s1", ego2global=rigid((400.0, 1100.0, 0.0), yaw=2.0), time_us=1_532_402_927_647_951, cloud=sweep)
    car, dog = [5.0, 20.0, -0.5, 1.9, 4.6, 1.7, 0.7], [1.0, 9.0, -1.0, 0.4, 0.9, 0.6, 0.0]
    writer.annotate("x", "s1", box=car, pose=pose, category="vehicle.car")
    writer.annotate("y", "s1", box=dog, pose=pose, category="animal")
    report = run(registered, f"nuscenes:{writer.write()}?version=v1.0-mini&classes=car,truck,pedestrian,bicycle")
    assert report.complete
    row = traced(registered).row(0, named=True)
    assert (row["input_id"], row["truth_labels"]) == ("s1", [0, -1])
    np.testing.assert_allclose(row["truth_boxes_3d"], car + dog, atol=1e-6)
    assert np.isnan(row["truth_velocities"]).all()


def test_what_looks_wrong_in_a_data_set_is_told_once_with_the_evidence(registered, caplog):
    register_dataset(registered, "swapped", factory="frame_factories:frames", params={"spoilt": -1, "how": "order"})
    assert run(registered, "swapped").rows == 6
    assert caplog.text.count("true boxes are wider than long") == 1
    assert "of the boxes found 0%: is their order" in caplog.text
