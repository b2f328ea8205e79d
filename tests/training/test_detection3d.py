"""A 3D tracer stores what the detector found and what is there, and leaves the detector alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mld_pipelines.adapters.detection3d import Setting, Settings3D, observe, resolve_settings, to_arrays
from mld_pipelines.capture import recorded
from mld_pipelines.evaluation import evaluate
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import LANDING_MODELS, LANDING_TRACES, OPS_QUARANTINE, TRACES_INPUTS
from mld_pipelines.training import Detection3DTracer, ObjectDetection3DTracer
from tests.support import mmdet3d_stubs, openpcdet_stubs
from tests.support.detector3d import Adapter, Decoder, Detector


@pytest.fixture
def detector():
    torch.manual_seed(3)
    return Detector().eval()


@pytest.fixture
def tracing(detector):
    """Return a factory of tracers; all are closed at the end."""
    made = []

    def build(**options):
        arguments = {name: options.pop(name, None) for name in ("score_thresh", "max_detections_per_frame")}
        adapter = Adapter(detector)
        settings = resolve_settings(adapter.settings, family="plain", arguments=arguments)
        made.append(Detection3DTracer(detector, "drive", "v1", adapter=adapter, settings=settings, **options))
        return made[-1]

    yield build
    for tracer in made:
        tracer.close()


def clouds(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 4, generator=generator) * 5 for size in sizes]


def target(n, label=0, **more):
    boxes = torch.tensor([[10.0 + i, 2.0, 0.5, 1.8, 4.4, 1.6, 0.3] for i in range(n)]).reshape(n, 7)
    return {"boxes_3d": boxes, "labels_3d": torch.full((n,), label, dtype=torch.int64), **more}


def rows_of(lake):
    return lake.scan(LANDING_TRACES).sort("input_id").collect()


@pytest.mark.feature("F11", "F22", "F23")
def test_a_batch_of_frames_is_stored_as_the_detector_found_it(detector, tracing, lake):
    frames = clouds(12, 3, 8)
    bare = detector(frames)
    tracer = tracing(score_thresh=0.0)
    out = tracer(frames, [target(2), target(0), target(1, 2)], input_ids=["a", "b", "c"], dataset_type="val")
    receipt = tracer.wait_for_save()
    assert [one["scores_3d"].tolist() for one in out] == [one["scores_3d"].tolist() for one in bare]
    assert (receipt.rows, receipt.datasets) == (3, ("val",))
    rows = rows_of(lake)
    assert rows["task"].unique().to_list() == ["od3d"]
    for row, frame in zip(rows.iter_rows(named=True), bare, strict=True):
        stored = np.array(row["boxes_3d"]).reshape(-1, 7)
        np.testing.assert_array_equal(stored, frame["boxes_3d"].double().numpy())
        assert row["scores"] == frame["scores_3d"].tolist()
        assert row["labels"] == frame["labels_3d"].tolist()
        assert len(row["features"]) == 6 * len(row["scores"])
        assert len(row["class_scores"]) == 3 * len(row["scores"])
    assert [len(row) for row in rows["truth_boxes_3d"]] == [14, 0, 7]
    assert rows["truth_labels"].to_list() == [[0, 0], [], [2]]
    assert rows["input_hash"].n_unique() == 3


@pytest.mark.feature("F18", "F19", "F21")
@pytest.mark.parametrize("form", ["list", "lists by name"])
def test_targets_are_read_in_both_forms(tracing, lake, form):
    first, second = target(1, velocities=torch.tensor([[3.0, -1.0]])), target(2, 1, velocities=torch.zeros(2, 2))
    given = [first, second] if form == "list" else {name: [first[name], second[name]] for name in first}
    tracer = tracing()
    tracer(clouds(8, 8), given, input_ids=np.array([7, 8]))
    tracer.wait_for_save()
    rows = rows_of(lake)
    assert rows["input_id"].to_list() == ["7", "8"]
    assert rows["truth_velocities"].to_list() == [[3.0, -1.0], [0.0] * 4]
    assert rows["truth_labels"].to_list() == [[0], [1, 1]]


@pytest.mark.feature("F16", "F17", "F20")
@pytest.mark.parametrize("inputs", [lambda c: c, lambda c: {"points": [c], "img_metas": [{"sample": "x"}]}])
def test_one_frame_takes_one_target_and_one_id(tracing, lake, inputs):
    cloud = clouds(8)[0]
    before = cloud.clone()
    tracer = tracing()
    tracer(inputs(cloud), [target(1)], input_ids="frame-1")
    tracer.wait_for_save()
    assert rows_of(lake)["input_id"].to_list() == ["frame-1"]
    assert torch.equal(cloud, before)


@pytest.mark.feature("F12", "F14")
def test_thresholds_change_the_record_and_not_the_output(detector, tracing, lake):
    frames = clouds(40)
    scores = detector(frames)[0]["scores_3d"].detach()
    bound = float(scores.median())
    tracer = tracing(score_thresh=bound, max_detections_per_frame=3)
    out = tracer(frames, [target(1)], input_ids=["a"])
    tracer.wait_for_save()
    assert len(out[0]["scores_3d"]) == 10
    row = rows_of(lake).row(0, named=True)
    kept = [score for score in scores.tolist() if score >= np.float32(bound)]
    assert sorted(row["scores"], reverse=True) == sorted(kept, reverse=True)[:3]
    settings = json.loads(row["settings"])
    assert settings["score_thresh"] == {"value": bound, "source": "argument"}
    assert settings["max_detections_per_frame"] == {"value": 3, "source": "argument"}
    assert settings["iou_thresh"] == {"value": 0.2, "source": "fallback"}
    assert settings["pc_range"]["source"] == "model:pc_range"


def test_without_arguments_the_record_is_what_the_model_returned(detector):
    """A model may use a threshold per class, of which the settings name one."""
    frame = Decoder()(to_arrays(observe(Adapter(detector), clouds(40)).raw))[0]
    own = Setting(0.9, "model:score_thr"), Setting(2, "model:max_num")
    settings = Settings3D(own[0], Setting(0.2, "fallback"), own[1], Setting(None, "model:none"))
    assert np.array_equal(recorded(frame, settings).scores, frame.scores)


def test_the_model_row_says_what_the_detector_is(detector, tracing, lake):
    tracer = tracing(class_names=["car", "truck", "person"])
    tracer(clouds(40), [target(1)], input_ids=["a"])
    tracer.wait_for_save()
    row = lake.read(LANDING_MODELS).row(0, named=True)
    assert (row["task"], row["architecture"], row["n_classes"], row["feature_dim"]) == ("od3d", "Detector", 3, 6)
    assert row["class_names"] == ["car", "truck", "person"]
    assert detector.head._forward_hooks == {}
    assert detector.head._forward_pre_hooks == {}


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([target(1)], "targets for 1 frames but the batch has 2"),
        ([target(1), target(1, 3)], "label 3 is out of range"),
        (
            [target(1), {"boxes": torch.zeros(1, 7)}],
            r"the target of frame 1 lacks boxes_3d and labels_3d \(it holds boxes\)",
        ),
        ([target(1), target(1) | {"boxes_3d": torch.zeros(1, 9)}], r"shape \(1, 9\), not \(N, 7\)"),
        ([target(1), target(1) | {"boxes_3d": torch.zeros(1, 7)}], "w, l, h above 0"),
        ([target(1), target(1) | {"boxes_3d": torch.full((1, 7), float("nan"))}], "must be finite"),
        ([target(1), target(1) | {"labels_3d": torch.tensor([0.5])}], "give integer class indices"),
        ([target(1), target(2) | {"labels_3d": torch.tensor([0])}], "differ in length"),
        ("boxes", "targets are a str"),
    ],
)
def test_targets_that_do_not_fit_are_refused_and_nothing_is_recorded(tracing, targets, words):
    tracer = tracing()
    with pytest.raises(InvalidInputError, match=words) as caught:
        tracer(clouds(8, 8), targets, input_ids=[1, 2])
    assert "ecorded" in str(caught.value)
    assert tracer.stats.emitted == 0


def test_points_that_are_no_numbers_are_refused(tracing):
    broken = clouds(8, 8)
    broken[1][3, 2] = float("inf")
    tracer = tracing()
    with pytest.raises(InvalidInputError, match="1 points of frame 1 hold NaN or infinite values"):
        tracer(broken, [target(1), target(1)], input_ids=[1, 2])
    assert tracer.stats.emitted == 0


def test_a_frame_whose_boxes_are_no_numbers_is_set_aside_with_the_reason(detector, tracing, lake):
    weights = detector.head.bias.data
    tracer = tracing(score_thresh=0.0)
    tracer(clouds(8), [target(1)], input_ids=["fine"])
    weights[:] = float("nan")
    tracer(clouds(8), [target(1)], input_ids=["broken"])
    receipt = tracer.wait_for_save()
    assert rows_of(lake)["input_id"].to_list() == ["fine"]
    assert receipt.quarantined == 1
    assert "scores" in lake.read(OPS_QUARANTINE)["reason"][0]


@pytest.fixture
def spoil(detector):
    """Return what makes the detector answer some calls, counted from 0, with boxes that are no numbers."""

    def choose(*calls):
        counted = iter(range(1000))

        def answer(_module, _inputs, found):
            if next(counted) in calls:
                found[0]["boxes_3d"][:] = float("nan")

        detector.register_forward_hook(answer)

    return choose


def test_refused_frames_of_single_calls_are_filed_apart_and_the_result_names_them(spoil, tracing, lake):
    spoil(2, 4)
    tracer = tracing(score_thresh=0.0)
    for call in range(12):
        tracer(clouds(8, seed=call), [target(1)], input_ids=[f"x{call}"], dataset_type="val")
    receipt = tracer.wait_for_save()
    assert (receipt.rows, receipt.inputs, receipt.quarantined) == (12, 12, 2)
    refused = lake.read(OPS_QUARANTINE).sort("seq")
    assert refused.select("stream_id", "seq", "row", "dataset_type", "n_epoch", "input_id").rows() == [
        (receipt.stream_id, 2, 0, "val", None, "x2"),
        (receipt.stream_id, 4, 0, "val", None, "x4"),
    ]
    result = evaluate(lake, "drive@v1")
    assert lake.scan(TRACES_INPUTS).collect().height == 10
    (said,) = [text for text in result.row["warnings"] if "refused" in text]
    assert said.startswith("2 traced rows were refused (value of column 'boxes_3d' breaks the rule 'finite'; ")
    assert "; val/x2, val/x4) and are in no number of this result" in said


def test_one_refused_frame_is_one_row(spoil, tracing, lake):
    spoil(0)
    tracer = tracing(score_thresh=0.0)
    for call in range(3):
        tracer(clouds(8, seed=call), [target(1)], input_ids=[f"x{call}"], dataset_type="val")
    tracer.wait_for_save()
    assert any(text.startswith("1 traced row was refused (") for text in evaluate(lake, "drive@v1").row["warnings"])


def test_a_model_of_which_every_frame_is_refused_is_told_how_many(spoil, tracing, lake):
    spoil(*range(5))
    tracer = tracing(score_thresh=0.0)
    for call in range(5):
        tracer(clouds(8, seed=call), [target(1)], input_ids=[f"x{call}"], dataset_type="val")
    tracer.wait_for_save()
    with pytest.raises(InvalidInputError, match=r"5 traced rows were refused \(.*; val/x0, val/x1, val/x2, …\)"):
        evaluate(lake, "drive@v1")


@pytest.mark.parametrize("per_call", [25, 5, 1])
def test_boxes_whose_sizes_look_swapped_are_noticed_once_with_the_evidence(tracing, caplog, per_call):
    swapped = target(per_call)
    swapped["boxes_3d"] = swapped["boxes_3d"][:, [0, 1, 2, 4, 3, 5, 6]]
    tracer = tracing()
    for call in range(30):
        tracer(clouds(8), [swapped], input_ids=[call])
    seen = {25: 25, 5: 20, 1: 20}[per_call]
    text = f"100% of {seen} true boxes are wider than long (median w 4.40 m, l 1.80 m)"
    assert caplog.text.count(text) == 1
    assert caplog.text.count("wider than long") == 1


def test_yaws_in_degrees_are_noticed_with_the_evidence(tracing, caplog):
    turned = target(25)
    turned["boxes_3d"][:, 6] = torch.linspace(-180, 180, 25)
    tracing()(clouds(8), [turned], input_ids=["a"])
    assert "96% of 25 true yaws lie outside ±2π (up to 180.0)" in caplog.text
    assert "Are they degrees?" in caplog.text


def test_a_yaw_without_any_direction_left_is_refused(tracing):
    far = target(1)
    far["boxes_3d"][0, 6] = 1e20
    with pytest.raises(InvalidInputError, match=r"'yaw': 1\.0.*e\+20.*yaw in radians"):
        tracing()(clouds(8), [far], input_ids=["a"])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.zeros(0), r"frame 0 of the inputs has shape \(0,\)"),
        ([torch.zeros(8, 4), torch.zeros(4)], r"frame 1 of the inputs has shape \(4,\)"),
        ("frame.bin", "frame 0 of the inputs is a str"),
        ([torch.zeros(8, 4), torch.zeros(8, 2)], r"frame 1 of the inputs has shape \(8, 2\)"),
        (torch.zeros(1, 8, 2), r"frame 0 of the inputs has shape \(1, 8, 2\)"),
        (None, "frame 0 of the inputs is a NoneType"),
        ([[1.0, 2.0, 3.0, 4.0]], "frame 0 of the inputs is a list"),
    ],
)
def test_inputs_that_are_no_clouds_are_refused_before_the_detector_sees_them(tracing, inputs, words):
    tracer = tracing()
    with pytest.raises(InvalidInputError, match=f"{words}; give one tensor.*Nothing was recorded"):
        tracer(inputs, [target(1)], input_ids=["a"])
    assert tracer.stats.emitted == 0


def contained(given):
    return {"points": [type("DataContainer", (), {"data": [given]})()]}


@pytest.mark.parametrize(
    "nest", [lambda c: {"points": [c]}, lambda c: {"inputs": {"points": c}}, contained, torch.stack]
)
def test_points_that_are_no_numbers_are_found_wherever_they_are_nested(tracing, nest):
    broken = clouds(8, 8)
    broken[1][3, 2] = float("nan")
    with pytest.raises(InvalidInputError, match="1 points of frame 1 hold NaN"):
        tracing()(nest(broken), [target(1), target(1)], input_ids=[1, 2])


def test_boxes_of_another_library_are_refused_with_the_way_to_convert_them(tracing):
    boxes = type("LiDARInstance3DBoxes", (), {"tensor": target(1)["boxes_3d"]})()
    with pytest.raises(InvalidInputError, match=r"are LiDARInstance3DBoxes.*from_mmdet3d_v1\(boxes\.tensor\)\.boxes"):
        tracing()(clouds(8), [target(1) | {"boxes_3d": boxes}], input_ids=["a"])


def test_a_class_that_has_no_name_is_refused(tracing):
    tracer = tracing(class_names=["car"], score_thresh=0.0)
    with pytest.raises(InvalidInputError, match=r"found an object of class \d, but there are 1 class names \(car\)"):
        tracer(clouds(80), [target(1)], input_ids=["a"])
    assert tracer.stats.emitted == 0


def test_names_in_another_order_than_the_models_are_refused(detector, tracing):
    detector.class_names = ["car", "truck", "traffic_cone"]
    tracing(class_names=["Car", "Truck", "Traffic Cone"])
    with pytest.raises(InvalidInputError, match=r"class 'Truck' is number 0 of the labels .* number 1 of the model"):
        tracing(class_names=["Truck", "Car", "Traffic Cone"])


def test_names_that_the_model_knows_are_recorded(detector, tracing, lake):
    detector.class_names = [["car"], ["truck", "person"]]
    tracer = tracing()
    tracer(clouds(40), [target(1)], input_ids=["a"])
    tracer.wait_for_save()
    assert lake.read(LANDING_MODELS)["class_names"].to_list() == [["car", "truck", "person"]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_targets_of_any_precision_are_stored_as_they_are(tracing, lake, dtype):
    boxes = torch.tensor([[10.0, 2.0, 0.5, 1.75, 4.5, 1.5, 0.25]])  # exact in every precision
    tracer = tracing()
    tracer(clouds(8), [{"boxes_3d": boxes.to(dtype), "labels_3d": torch.tensor([0])}], input_ids=["a"])
    tracer.wait_for_save()
    assert rows_of(lake)["truth_boxes_3d"][0].to_list() == boxes[0].tolist()


def test_velocities_may_be_missing_in_some_frames(tracing, lake):
    known = target(1, velocities=torch.tensor([[3.0, -1.0]]))
    tracer = tracing()
    tracer(clouds(8, 8), [known, target(2)], input_ids=["a", "b"])
    tracer.wait_for_save()
    stored = rows_of(lake)["truth_velocities"].to_list()
    assert stored[0] == [3.0, -1.0]
    assert np.isnan(stored[1]).tolist() == [True] * 4


def test_a_frame_with_ten_thousand_true_boxes_is_stored_whole(tracing, lake):
    tracer = tracing()
    tracer(clouds(8), [target(10_000)], input_ids=["a"])
    tracer.wait_for_save()
    assert rows_of(lake)["truth_labels"].list.len().to_list() == [10_000]


def test_yaw_far_outside_is_wrapped_and_ten_thousand_boxes_are_bounded(tracing, lake):
    far = target(1)
    far["boxes_3d"][0, 6] = 0.3 + 20 * np.pi
    tracer = tracing(score_thresh=0.0)
    tracer(clouds(40_000), [far], input_ids=["a"])
    tracer.wait_for_save()
    row = rows_of(lake).row(0, named=True)
    assert row["truth_boxes_3d"][6] == pytest.approx(0.3, abs=1e-4)
    assert len(row["scores"]) == 300


@pytest.mark.feature("F1")
def test_the_class_of_a_tracer_tells_the_family_it_recognised():
    models = [
        mmdet3d_stubs.VoxelNet(),
        mmdet3d_stubs.VoxelNet("v0"),
        mmdet3d_stubs.CenterPoint(),
        openpcdet_stubs.PointPillar(),
    ]
    kinds = []
    for model in models:
        with ObjectDetection3DTracer(model.eval(), "drive", "v1") as tracer:
            assert isinstance(tracer, Detection3DTracer)
            kinds.append(type(tracer))
    assert [kind.__name__ for kind in kinds] == [
        "Mmdet3dAnchorTracer", "Mmdet3dAnchorTracer", "Mmdet3dCenterpointTracer", "OpenpcdetAnchorTracer",
    ]  # fmt: skip
    assert kinds[0] is kinds[1]


def on(device, one):
    return {name: value.to(device) for name, value in one.items()}


NO_NUMBERS = "device 'meta', which holds shapes and no numbers"


@pytest.mark.parametrize("which", ["points", "one cloud", "targets", "boxes", "labels"])
def test_inputs_and_targets_without_numbers_are_refused_and_nothing_is_stored(detector, tracing, lake, which):
    frames, targets = clouds(8, 8), [target(1), target(0)]
    if which in {"points", "one cloud"}:
        frames = [frame.to("meta") for frame in frames[:1]] + (clouds(8) if which == "one cloud" else [])
        targets = targets[: len(frames)]
    elif which == "targets":
        targets[0] = on("meta", targets[0])
    else:
        name = f"{which}_3d"
        targets[0] |= {name: targets[0][name].to("meta")}
    tracer = tracing(score_thresh=0.0)
    with pytest.raises(InvalidInputError, match=NO_NUMBERS):
        tracer(frames, targets, input_ids=["a", "b"][: len(frames)], dataset_type="val")
    tracer(clouds(8), [target(1)], input_ids=["c"], dataset_type="val")
    assert tracer.wait_for_save().rows == 1
    assert rows_of(lake)["input_id"].to_list() == ["c"]


def test_arrays_and_tensors_stand_side_by_side_in_a_target(detector, tracing, lake):
    mixed = target(2) | {"boxes_3d": target(2)["boxes_3d"].numpy(), "velocities": [[1.0, 0.0], [0.0, 1.0]]}
    tracer = tracing(score_thresh=0.0)
    tracer(clouds(8), [mixed], input_ids=["a"], dataset_type="val")
    assert tracer.wait_for_save().rows == 1
    row = rows_of(lake).row(0, named=True)
    assert (row["truth_labels"], row["truth_velocities"]) == ([0, 0], [1.0, 0.0, 0.0, 1.0])
    assert np.array(row["truth_boxes_3d"]).reshape(2, 7)[:, 0].tolist() == [10.0, 11.0]


def test_a_model_on_another_device_fails_as_without_a_tracer(lake):
    """The model's own error reaches the caller, and nothing of the call is recorded."""
    detector = Detector().eval().to("meta")
    with pytest.raises(RuntimeError) as bare:
        detector(clouds(8))
    adapter = Adapter(detector)
    settings = resolve_settings(adapter.settings, family="plain", arguments={})
    with Detection3DTracer(detector, "drive", "v1", adapter=adapter, settings=settings) as tracer:
        with pytest.raises(RuntimeError) as traced:
            tracer(clouds(8), [target(1)], input_ids=["a"], dataset_type="val")
        assert str(traced.value) == str(bare.value)
    assert rows_of(lake).is_empty()


def test_a_model_that_answers_without_numbers_is_refused(tracing, monkeypatch, lake):
    whole = Detector.forward

    def hollow(self, clouds):
        return [on("meta", found) for found in whole(self, clouds)]

    monkeypatch.setattr(Detector, "forward", hollow)
    with pytest.raises(InvalidInputError, match=f"of the model are on the {NO_NUMBERS}"):
        tracing(score_thresh=0.0)(clouds(8), [target(1)], input_ids=["a"], dataset_type="val")
    assert rows_of(lake).is_empty()
