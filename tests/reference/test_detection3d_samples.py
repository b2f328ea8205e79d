"""The 3D samples of the original's guides run as they stand, under the rules of the classification samples."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from examples.drive.datasets import drive_dataset, drive_model
from mld_pipelines.evaluator import Evaluator
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_INFERENCES, LANDING_RECEIPTS, LANDING_TRACES
from mld_pipelines.tracing._worker import one_thread
from mld_pipelines.training import ObjectDetection3DTracer
from tests.support.guides import GUIDES, LOGGING, TRACING, execute, lines_between, only_code
from tests.support.mmdet3d_stubs import RANGE, CenterPoint, lively

pytestmark = pytest.mark.skipif(not GUIDES.is_dir(), reason="the guides in ../shared are not here")

TRACER, LOGGER = "ObjectDetection3DTracer", "ObjectDetection3DLogger"
FRAMES = 3


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """More threads than cores are free cost more than they bring, and small sums differ between them."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def frames():
    dataset = drive_dataset("val", frames=FRAMES)
    return [dataset[index] for index in range(FRAMES)]


@pytest.fixture
def given(tmp_path, monkeypatch, frames):
    """What the samples leave to the reader: a detector, frames and an endpoint."""
    for name in ("MLD_API_ENDPOINT", "MLD_API_KEY"):
        monkeypatch.setenv(name, "")  # restored afterwards, whatever the sample sets
    return {
        "endpoint": str(tmp_path / "lake"),
        "model": drive_model(),
        "dataloader": [(points, [target], [name]) for points, target, name in frames],
        "production_dataloader": [points for points, _, _ in frames],
    }


@pytest.fixture
def names(given, monkeypatch):
    """What the steps of a guide have made before the step under test."""
    monkeypatch.setenv("MLD_API_ENDPOINT", given["endpoint"])
    return {"model": given["model"], "device": torch.device("cpu"), "given": given, "dataloader": given["dataloader"]}


def rows(given, table=LANDING_TRACES, key="input_id"):
    return Lake(given["endpoint"], code_version="t").scan(table).sort(key).collect()


def tracing_sample():
    """The complete sample, and where its evaluation begins."""
    lines = lines_between(TRACING, "import os", "result.get_summary()", after="Complete Sample Code", holding=TRACER)
    return lines, lines.index("# Run evaluation")


@pytest.mark.feature("F24", "G5")
def test_the_complete_tracing_sample_runs(given, frames, capsys):
    lines, _ = tracing_sample()
    names = execute(lines, {"given": given})
    names["tracer"].close()
    found = rows(given)
    assert found["input_id"].to_list() == sorted(name for _, _, name in frames)
    assert found["dataset_type"].unique().to_list() == ["train"]
    assert rows(given, LANDING_RECEIPTS, "rows")["rows"].to_list() == [FRAMES]
    with torch.no_grad():
        bare = {name: given["model"]([points])[0]["scores_3d"].tolist() for points, _, name in frames}
    assert dict(found.select("input_id", "scores").iter_rows()) == bare
    assert found["truth_labels"].list.len().sum() == sum(len(target["labels_3d"]) for _, target, _ in frames)
    assert "_od3d_" in names["result"].result_name
    assert "hotspot" in capsys.readouterr().out


@pytest.mark.feature("I18", "I19", "I29")
def test_the_complete_logging_sample_runs_after_it(given, frames, capsys):
    names = execute(tracing_sample()[0], {"given": given})
    names["tracer"].close()
    seen = []
    names |= {"production_dataloader": given["production_dataloader"], "process_predictions": seen.append}
    last = "process_predictions(predictions)"
    execute(lines_between(LOGGING, "import os", last, after="Complete Sample Code", holding=LOGGER), names)
    assert names["logger"].close(60)
    with torch.no_grad():
        bare = [given["model"]([points])[0]["scores_3d"].tolist() for points, _, _ in frames]
    assert [one[0]["scores_3d"].tolist() for one in seen] == bare
    found = rows(given, LANDING_INFERENCES, "seq")
    assert found["scores"].to_list() == bare
    assert found["error_proba"].is_between(0, 1).all()
    assert found["category"].null_count() == 0
    assert found["result_name"].unique().to_list() == [names["result"].result_name]
    capsys.readouterr()


@pytest.mark.feature("G5", "G9", "G10", "H2", "H13", "H22", "H23")
def test_the_review_of_the_tracing_guide_runs_for_detectors(given, names, frames, capsys):
    with ObjectDetection3DTracer(given["model"], "<your_model_name>", "v1") as tracer:
        for epoch in (5, 6):
            for points, target, name in frames:
                tracer(points, [target], input_ids=[name], n_epoch=epoch)
        tracer.wait_for_save()
    Evaluator("<your_model_name>", "v1").request_evaluation(result_name="<result_name>")
    review = lines_between(
        TRACING, "from ml_debugger.evaluator import Evaluator", "You can get custom views with grouping and filtering."
    )
    execute(only_code(review), names)
    assert names["evaluator"].list_results().height == 3
    assert names["result"].result_name == "<result_name>"
    assert {"error_code", "unit_kind"} <= set(names["issues_df"].columns)
    capsys.readouterr()


@pytest.mark.parametrize("batch_size", [None, 1])
def test_the_sample_takes_what_a_torch_dataloader_makes_of_frames(given, frames, batch_size):
    """One frame at a time: as it is, or stacked by the default collate function."""
    given["dataloader"] = torch.utils.data.DataLoader(frames, batch_size=batch_size)
    lines, evaluation = tracing_sample()
    execute(lines[:evaluation], {"given": given})["tracer"].close()
    again = rows(given)
    assert again["input_id"].to_list() == sorted(name for _, _, name in frames)
    with ObjectDetection3DTracer(given["model"], "plain", "v1") as tracer:
        for points, target, name in frames:
            tracer(points, [target], input_ids=[name])
        tracer.wait_for_save()
    facts = ["boxes_3d", "scores", "truth_boxes_3d", "truth_labels", "input_hash"]
    for _, pair in pl.concat([again, rows(given).filter(pl.col("model_key") == "plain@v1")]).group_by("input_id"):
        assert pair.select(facts).n_unique() == 1


def test_the_tracer_of_the_guide_records_what_it_was_told(names):
    first = lines_between(TRACING, f"from ml_debugger.training import {TRACER}", ")")
    with execute(first, names)["tracer"] as tracer:
        assert tracer.settings.pc_range.value == (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
        assert tracer.settings.pc_range.source == "argument"
        assert tracer.settings.score_thresh.source == "model:score_thresh"


@pytest.mark.feature("F16", "F22")
def test_the_steps_of_the_tracing_guide_take_a_point_tensor_per_frame(given, names):
    execute(lines_between(TRACING, f"from ml_debugger.training import {TRACER}", ")"), names)
    execute(lines_between(TRACING, "import torch", ")", after="LiDAR Input (Point Cloud Tensor):"), names)
    save = "tracer.wait_for_save(n_epoch=0)"
    execute(lines_between(TRACING, save, save, after="Velocity Field"), names)
    names["tracer"].close()
    found = rows(given)
    assert found.height == FRAMES
    assert (found["n_epoch"].unique().to_list(), found["model_key"].unique().to_list()) == ([0], ["centerpoint@v1"])


@pytest.mark.feature("F17", "F23")
def test_the_steps_of_the_tracing_guide_take_the_dict_of_mmdetection3d(given, names):
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([*RANGE[:3], 0.0]), torch.tensor([*RANGE[3:], 1.0])
    clouds = [low + torch.rand(300, 4, generator=generator) * (high - low) for _ in range(4)]
    truth = {"boxes_3d": torch.tensor([[10.0, 0.0, -1.0, 1.8, 4.2, 1.6, 0.1]]), "labels_3d": torch.tensor([0])}
    names["model"] = model = lively(CenterPoint()).eval()
    names["dataloader"] = [
        {
            "points": clouds[i : i + 2],
            "img": torch.rand(2, 6, 3, 8, 8, generator=generator),
            "img_metas": [{"scene_token": str(i)}, {"scene_token": str(i + 1)}],
            "gt": [truth, truth],
            "frame_ids": [f"frame-{i}", f"frame-{i + 1}"],
        }
        for i in (0, 2)
    ]
    execute(lines_between(TRACING, f"from ml_debugger.training import {TRACER}", ")"), names)
    execute(lines_between(TRACING, "for batch_data in dataloader:", ")"), names)
    assert names["tracer"].wait_for_save(n_epoch=0).rows == 4
    names["tracer"].close()
    found = rows(given)
    assert found["input_id"].to_list() == [f"frame-{i}" for i in range(4)]
    assert found["input_hash"].n_unique() == 4
    bare = model.pts_bbox_head.predict(model.pts_bbox_head([model.features(clouds)]))
    assert found["scores"].to_list() == [scores.tolist() for _, scores, _ in bare]


@pytest.mark.feature("F18", "F19", "F20", "F21")
@pytest.mark.parametrize("form", ["list of dicts", "dict of lists"])
def test_ground_truth_in_both_forms_of_the_guide_is_stored(given, names, frames, form):
    cx, cy, cz, w, l, h, yaw, vx, vy = 10.0, 2.0, 0.5, 1.8, 4.4, 1.6, 0.3, 3.0, -1.0  # noqa: E741 - the guide's name
    values = {"cx": cx, "cy": cy, "cz": cz, "w": w, "l": l, "h": h, "yaw": yaw, "vx": vx, "vy": vy}
    second = [20.0, -2.0, 0.5, 0.6, 0.8, 1.7, -0.5]
    last = {"boxes_3d": torch.zeros(0, 7), "labels_3d": torch.zeros(0, dtype=torch.int64)}
    if form == "list of dicts":
        # the guide's own row, one more of each where it says `...`, and one more frame
        more = {"boxes_3d": [second], "labels_3d": [], "velocities": [[0.0, 0.0]], "more": [last]}
        lines = lines_between(TRACING, "ground_truth = [", "]", holding="boxes_3d")
        names |= values | {"torch": torch, "given": more}
    else:
        names |= {"tensor_frame1": torch.tensor([[cx, cy, cz, w, l, h, yaw], second]), "tensor_frame2": torch.zeros(0)}
        more = {"boxes_3d": [], "labels_3d": [], "velocities": []}
        lines = lines_between(TRACING, "ground_truth = {", "}", holding="boxes_3d")
        names["given"] = more
    truth = execute(lines, names)["ground_truth"]
    if form == "dict of lists":  # the guide names the frames' tensors alike, whatever they hold
        truth |= {
            "labels_3d": [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.int64)],
            "velocities": [torch.tensor([[vx, vy], [0.0, 0.0]]), torch.zeros(0, 2)],
        }
    with ObjectDetection3DTracer(given["model"], "drive", "v1") as tracer:
        tracer([frames[0][0], frames[1][0]], truth, input_ids=["a", "b"])
        tracer.wait_for_save()
    found = rows(given)
    assert found["truth_labels"].to_list() == [[0, 1], []]
    assert found["truth_boxes_3d"][0].to_list() == pytest.approx([*values.values()][:7] + second)
    assert found["truth_velocities"].to_list() == [[3.0, -1.0, 0.0, 0.0], []]


@pytest.mark.feature("I4", "I14", "I26")
def test_the_steps_of_the_logging_guide_run_without_an_evaluation(given, names, caplog):
    seen = []
    names |= {"production_dataloader": given["production_dataloader"], "process_predictions": seen.append}
    execute(lines_between(LOGGING, f"from ml_debugger.monitoring import {LOGGER}", ")"), names)
    execute(lines_between(LOGGING, "import torch", "process_predictions(predictions)"), names)
    assert names["logger"].close(60)
    assert len(seen) == FRAMES
    assert rows(given, LANDING_INFERENCES, "seq").height == FRAMES
    assert "centerpoint_v1_od3d_v1_20251219" in caplog.text  # it does not exist: basic metrics and a warning
