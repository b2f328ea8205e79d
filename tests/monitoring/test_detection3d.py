"""A 3D logger stands in for its detector, stores what was found, and never costs the caller an answer."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from mld_pipelines.adapters.detection3d import resolve_settings
from mld_pipelines.lake import Lake
from mld_pipelines.monitoring import Detection3DLogger, Logger, ObjectDetection3DLogger
from mld_pipelines.tables import LANDING_INFERENCES, LANDING_MODELS, LANDING_TRACES, OPS_QUARANTINE
from mld_pipelines.training import ObjectDetection3DTracer
from tests.support.detector3d import Adapter, Detector


@pytest.fixture
def detector():
    torch.manual_seed(3)
    return Detector().eval()


@pytest.fixture
def logging_(detector):
    """Return a factory of loggers; all are closed at the end."""
    made = []

    def build(adapter=None, **options):
        adapter = adapter or Adapter(detector)
        settings = resolve_settings(adapter.settings, family="plain", arguments={"score_thresh": 0.0})
        made.append(Detection3DLogger(detector, "drive", "v1", adapter=adapter, settings=settings, **options))
        return made[-1]

    yield build
    for logger in made:
        logger.close()


def clouds(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 4, generator=generator) * 5 for size in sizes]


def rows():
    return Lake.open().scan(LANDING_INFERENCES).sort("seq", "row").collect()


def test_frames_are_logged_as_the_detector_found_them(detector, logging_):
    frames = clouds(12, 3, 8)
    with torch.no_grad():
        bare = detector(frames)
        logger = logging_(clock=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
        out = logger(frames, request_ids=["a", "b", "c"], metadata={"weather": ["dry", "rain", "dry"]})
    assert [one["scores_3d"].tolist() for one in out] == [one["scores_3d"].tolist() for one in bare]
    assert logger.last_request_ids == ["a", "b", "c"]
    assert logger.flush()
    found = rows()
    assert found["request_id"].to_list() == ["a", "b", "c"]
    assert found["scores"].to_list() == [one["scores_3d"].tolist() for one in bare]
    np.testing.assert_array_equal(
        np.array(found["boxes_3d"][0].to_list()).reshape(-1, 7), bare[0]["boxes_3d"].double().numpy()
    )
    assert found["event_day"].unique().to_list() == [datetime(2026, 3, 1, tzinfo=UTC).date()]
    assert [json.loads(row)["weather"] for row in found["metadata"]] == ["dry", "rain", "dry"]
    assert found["task"].unique().to_list() == ["od3d"]
    assert found["batch_size"].unique().to_list() == [3]
    assert found["input_hash"].null_count() == 3
    model = Lake.open().read(LANDING_MODELS).row(0, named=True)
    assert (model["task"], model["n_classes"], model["feature_dim"], model["feature_layer"]) == ("od3d", 3, 6, "head")


def test_it_stands_in_for_the_detector(detector, logging_):
    logger = logging_()
    assert isinstance(logger, Logger)
    assert logger.eval() is logger
    assert logger.head is detector.head
    assert logger.state_dict().keys() == detector.state_dict().keys()
    assert detector.head._forward_pre_hooks == {}


@pytest.mark.feature("I13", "I14")
@pytest.mark.parametrize("form", ["a tensor is one frame", "a list is a batch", "a dict of points"])
def test_inputs_in_every_documented_form_are_logged(detector, logging_, form):
    frames = clouds(12, 8)
    logger = logging_()
    with torch.no_grad():
        if form == "a tensor is one frame":
            for points in frames:
                logger(points)
        elif form == "a list is a batch":
            logger(frames)
        else:
            logger({"points": frames})
        bare = detector(frames)
    assert logger.flush()
    assert rows()["scores"].to_list() == [one["scores_3d"].tolist() for one in bare]


def test_the_record_does_not_change_with_what_the_caller_does_afterwards(logging_):
    logger = logging_()
    with torch.no_grad():
        out = logger(clouds(8))
    scores = out[0]["scores_3d"].tolist()
    out[0]["scores_3d"].zero_()
    logger.flush()
    assert rows()["scores"].to_list() == [scores]


def test_inputs_are_hashed_on_request_before_the_model_sees_them(logging_):
    logger = logging_(hash_inputs=True)
    cloud = clouds(8)[0]
    logger(cloud)
    logger([cloud])
    logger.flush()
    hashes = rows()["input_hash"].to_list()
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 64


class Faulty(Adapter):
    """An adapter that fails where it is told to."""

    def __init__(self, model, where):
        super().__init__(model)
        self._where = where

    def call(self, inputs):
        if self._where == "call":
            raise RuntimeError("no such input")
        return super().call(inputs)

    def collect(self, output, tapped, *, frames):
        if self._where == "collect":
            raise RuntimeError("no such output")
        return super().collect(output, tapped, frames=frames)


@pytest.mark.parametrize("where", ["call", "collect"])
def test_a_fault_of_ours_costs_the_log_and_not_the_answer(detector, logging_, monkeypatch, caplog, where):
    monkeypatch.delenv("MLD_STRICT", raising=False)
    logger = logging_(Faulty(detector, where))
    out = logger(clouds(8, 8))
    assert len(out) == 2
    assert logger.stats.dropped == {"failed": 2}
    assert caplog.text.count("an inference was not logged") == 1


def test_an_error_of_the_detector_reaches_the_caller_once_and_leaves_no_hook(detector, logging_):
    logger = logging_()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        logger([torch.zeros(8, 3)])
    assert detector.head._forward_pre_hooks == {}
    assert logger.stats.emitted == 0


def test_a_frame_with_numbers_that_are_none_is_set_aside_with_the_reason(logging_):
    broken = clouds(8)[0]
    broken[0, 0] = float("nan")
    logger = logging_()
    logger([broken, *clouds(8)])
    assert logger.flush()
    assert rows().height == 1
    assert logger.stats.quarantined == 1
    assert "boxes_3d" in Lake.open().read(OPS_QUARANTINE)["reason"][0]


def test_keyword_arguments_reach_the_model_and_an_unlogged_call_is_counted(detector, logging_, monkeypatch):
    monkeypatch.delenv("MLD_STRICT", raising=False)
    logger = logging_()
    frames = clouds(8)
    with torch.no_grad():
        assert torch.equal(logger(clouds=frames)[0]["scores_3d"], detector(frames)[0]["scores_3d"])
    assert logger.stats.dropped == {"failed": 1}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"boxes_3d": torch.zeros(1, 6)}, r"boxes of shape \(1, 6\), 1 scores and 1 labels, not \(N, 7 or 9\)"),
        ({"scores_3d": torch.zeros(2)}, r"shape \(1, 7\), 2 scores and 1 labels"),
        ({"labels_3d": torch.tensor([1.5])}, r"no whole numbers \(\[1\.5\]"),
    ],
)
def test_an_output_of_another_form_costs_the_log_and_not_the_answer(caplog, monkeypatch, answer, words):
    monkeypatch.delenv("MLD_STRICT", raising=False)
    model = Answering(answer)
    with ObjectDetection3DLogger(model, "drive", "v1") as logger:
        assert logger([torch.zeros(5, 4)]) is model.answer
    assert logger.stats.dropped == {"failed": 1}
    assert re.search(words, caplog.text)


def box(place, value):
    row = [10.0, 2.0, 0.5, 1.8, 4.4, 1.5, 0.3]
    row[place] = value
    return {"boxes_3d": torch.tensor([row], dtype=torch.float64)}


def moving(speed):
    return {"boxes_3d": torch.tensor([[10.0, 2.0, 0.5, 1.8, 4.4, 1.5, 0.3, speed, 0.0]], dtype=torch.float64)}


@pytest.mark.parametrize(
    ("answer", "column"),
    [
        (box(0, float("nan")), "boxes_3d"),
        (box(2, float("inf")), "boxes_3d"),
        (box(3, 0.0), "boxes_3d"),
        (box(4, -1.0), "boxes_3d"),
        (box(6, 1e20), "boxes_3d"),
        ({"scores_3d": torch.tensor([float("nan")])}, "scores"),
        ({"labels_3d": torch.tensor([-1])}, "labels"),
        (moving(float("inf")), "velocities"),
    ],
    ids=["nan", "infinite", "no width", "negative length", "no yaw", "no score", "no class", "no speed"],
)
@pytest.mark.parametrize("kind", ["tracer", "logger"])
def test_what_a_model_returns_against_the_rules_is_quarantined(answer, column, kind):
    cloud = [torch.zeros(5, 4)]
    if kind == "logger":
        with ObjectDetection3DLogger(Answering(answer), "drive", "v1") as logger:
            logger(cloud)
        assert logger.stats.quarantined == 1
    else:
        target = box(0, 10.0) | {"labels_3d": torch.tensor([0])}
        with ObjectDetection3DTracer(Answering(answer), "drive", "v1") as tracer:
            tracer(cloud, [target], input_ids=["a"])
            assert tracer.wait_for_save().quarantined == 1
    lake = Lake.open()
    spec = LANDING_INFERENCES if kind == "logger" else LANDING_TRACES
    assert lake.version(spec) is None or lake.read(spec).is_empty()
    assert any(f"'{column}'" in reason for reason in lake.read(OPS_QUARANTINE)["reason"])


@pytest.mark.parametrize(("yaw", "stored"), [(0.3 + 40 * np.pi, 0.3), (-np.pi, -np.pi), (np.pi, -np.pi)])
def test_a_yaw_is_wrapped(yaw, stored):
    with ObjectDetection3DLogger(Answering(box(6, yaw)), "drive", "v1") as logger:
        logger([torch.zeros(5, 4)])
    assert rows()["boxes_3d"][0][6] == pytest.approx(stored, abs=1e-12)


@pytest.mark.parametrize("n", [0, 10_000])
def test_no_boxes_and_ten_thousand_are_logged(n):
    answer = box(0, 10.0)["boxes_3d"].expand(n, 7)
    scores = torch.linspace(0.2, 0.9, n)
    model = Answering({"boxes_3d": answer, "scores_3d": scores, "labels_3d": torch.zeros(n, dtype=torch.int64)})
    with ObjectDetection3DLogger(model, "drive", "v1") as logger:
        logger([torch.zeros(5, 4)])
    found = rows()["scores"][0].to_list()
    assert len(found) == min(n, 300)
    assert found == scores[-300:].tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_what_was_found_is_stored_in_the_precision_it_came_in(dtype):
    exact = torch.tensor([[10.0, 2.0, 0.5, 1.75, 4.5, 1.5, 0.25]])
    model = Answering({"boxes_3d": exact.to(dtype), "scores_3d": torch.tensor([0.5], dtype=dtype)})
    with ObjectDetection3DLogger(model, "drive", "v1") as logger:
        logger([torch.zeros(5, 4)])
    assert rows()["boxes_3d"][0].to_list() == exact[0].tolist()
    assert rows()["scores"][0].to_list() == [0.5]


def test_boxes_that_look_wrong_are_logged_with_the_evidence(caplog):
    model = Answering({"boxes_3d": torch.tensor([[10.0, 2.0, 0.5, 4.4, 1.8, 1.5, 0.3]])})
    with ObjectDetection3DLogger(model, "drive", "v1") as logger:
        for _ in range(25):
            logger([torch.zeros(5, 4)])
    assert logger.stats.stored == 25
    assert caplog.text.count("boxes found are wider than long (median w 4.40 m, l 1.80 m)") == 1


class Answering(torch.nn.Module):
    """A detector in the plainest format, one box a frame, with something else about its answer."""

    box_convention = "canonical"
    pc_range = (-50.0, -50.0, -3.0, 50.0, 50.0, 3.0)

    def __init__(self, answer):
        super().__init__()
        self.voxels = torch.nn.Linear(1, 1)
        box = {"boxes_3d": torch.tensor([[10.0, 2.0, 0.5, 1.8, 4.4, 1.5, 0.3]])}
        self.answer = [box | {"scores_3d": torch.tensor([0.5]), "labels_3d": torch.tensor([0])} | answer]

    def forward(self, clouds):
        return self.answer


def test_a_detector_that_answers_without_numbers_is_counted_and_its_answer_returned(logging_, monkeypatch, caplog):
    whole = Detector.forward

    def hollow(self, frames):
        return [{name: value.to("meta") for name, value in found.items()} for found in whole(self, frames)]

    monkeypatch.setattr(Detector, "forward", hollow)
    logger = logging_()
    with torch.no_grad():
        (found,) = logger(clouds(8))
    assert found["scores_3d"].device.type == "meta"
    logger.flush(60)
    assert sum(logger.stats.dropped.values()) == 1
    assert "holds shapes and no numbers" in caplog.text


def test_a_detector_on_another_device_fails_as_without_a_logger(detector, logging_):
    logger = logging_()
    detector.to("meta")
    with pytest.raises(RuntimeError) as bare:
        detector(clouds(8))
    with pytest.raises(RuntimeError) as logged:
        logger(clouds(8))
    assert str(logged.value) == str(bare.value)
    assert logger.flush(60)
    assert logger.stats.emitted == 0
