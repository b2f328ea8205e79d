"""What a detector does not say is registered with it, and holds for traces and stress passes of the platform."""

from __future__ import annotations

import json
import re

import pytest
from deltalake import write_deltalake

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.exceptions import InvalidInputError, UnrecognisedModelError, WorkerPoolError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_STRESS, LANDING_TRACES, OPS_MODELS, OPS_QUARANTINE
from mld_pipelines.tracing import (
    StressOptions,
    find_registration,
    list_registrations,
    register_dataset,
    register_model,
    stress_run,
    trace_run,
)

INLINE = PoolPolicy(backend="inline", max_attempts=1)
SMALL = StressOptions(severities=(3,), max_inputs=2, batch_size=2)
RANGE = [0.0, -40.0, -4.0, 80.0, 40.0, 4.0]
TOLD = {"architecture": "structural", "pc_range": RANGE, "box_convention": "canonical", "score_thresh": 0.4}


@pytest.fixture
def frames(lake):
    register_dataset(lake, "frames", factory="frame_factories:frames")
    return lake


def register(lake, factory="frame_factories:untold_model", **settings):
    return register_model(lake, "pillars", factory=factory, model_name="pillars", version_name="v1", settings=settings)


def trace(lake, **options):
    return trace_run(lake, "pillars", "frames", dataset_type="val", batch_size=4, pool=INLINE, **options)


def test_a_detector_that_says_nothing_is_traced_by_what_was_registered(frames):
    register(frames, **TOLD)
    report = trace(frames)
    assert (report.rows, report.complete) == (6, True)
    rows = frames.scan(LANDING_TRACES).collect()
    (said,) = set(rows["settings"])
    said = json.loads(said)
    assert said["pc_range"] == {"value": RANGE, "source": "argument"}
    assert said["score_thresh"] == {"value": 0.4, "source": "argument"}
    assert said["iou_thresh"] == {"value": 0.2, "source": "fallback"}
    assert set(rows["adapter"]) == {"structural canonical"}
    assert rows["scores"].list.len().sum() > 0
    assert rows["scores"].explode(empty_as_null=False).min() >= 0.4


def test_a_stress_pass_takes_the_settings_of_the_trace(frames):
    register(frames, **TOLD)
    trace(frames)
    assert stress_run(frames, "pillars@v1", options=SMALL, pool=INLINE).complete
    copies = frames.read(LANDING_STRESS)
    assert copies["scores"].list.len().sum() > 0
    assert copies["scores"].explode(empty_as_null=False).min() >= 0.4


def test_a_stress_pass_with_other_settings_than_the_trace_is_refused(frames):
    register(frames, **TOLD)
    trace(frames)
    register(frames, **TOLD | {"score_thresh": 0.6})
    with pytest.raises(InvalidInputError, match=r'"score_thresh": 0\.6.* now, .* with .*"score_thresh": 0\.4.*again'):
        stress_run(frames, "pillars@v1", options=SMALL, pool=INLINE)
    assert frames.version(LANDING_STRESS) is None


def test_other_settings_are_another_trace(frames):
    register(frames, factory="examples.drive.datasets:drive_model")
    first = trace(frames, run_key="nightly")
    register(frames, factory="examples.drive.datasets:drive_model", score_thresh=0.5)
    again = trace(frames, run_key="nightly")
    assert (again.known_batches, again.rows) == (0, 6)
    assert first.stream_id != again.stream_id


@pytest.mark.parametrize(("settings", "missing"), [({}, "architecture"), ({"architecture": "structural"}, "pc_range")])
def test_what_is_missing_is_asked_for_by_the_option_of_the_registration(frames, settings, missing):
    register(frames, **settings)
    with pytest.raises(WorkerPoolError, match=rf"""mld models register … --settings '\{{"{missing}": …\}}'"""):
        trace(frames)
    assert frames.version(LANDING_TRACES) is None


def test_a_convention_that_is_missing_is_asked_for_in_the_reason_of_the_frame(frames):
    register(frames, architecture="structural", pc_range=RANGE)
    with pytest.raises(WorkerPoolError, match=re.escape("--settings '{\"box_convention\": …}'")):
        trace(frames)


def test_settings_are_kept_with_the_registration(lake, tmp_path):
    register(lake, architecture="CenterPoint", pc_range=(0, -40, -4, 80, 40, 4), iou_thresh=None)
    found = find_registration(Lake(str(tmp_path / "lake"), code_version="other"), "pillars", kind="model")
    assert found.settings == {"architecture": "CenterPoint", "pc_range": RANGE}


def test_a_registration_from_before_there_were_settings_has_none(lake):
    register(lake, score_thresh=0.5)
    path = lake.uri(OPS_MODELS)
    before = lake.read(OPS_MODELS).drop("settings")
    write_deltalake(path, before, mode="overwrite", schema_mode="overwrite")
    assert find_registration(lake, "pillars", kind="model").settings == {}
    register(lake, score_thresh=0.5)
    assert find_registration(lake, "pillars", kind="model").settings == {"score_thresh": 0.5}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"score_threshold": 0.1}, InvalidInputError, "'score_threshold'.*score_thresh"),
        ({"score_thresh": 7}, InvalidInputError, "score_thresh is 7"),
        ({"pc_range": [0, 1]}, InvalidInputError, r"pc_range is \[0, 1\]"),
        ({"max_detections_per_frame": 0}, InvalidInputError, "max_detections_per_frame is 0"),
        ({"box_convention": "mine"}, InvalidInputError, "box_convention 'mine' is not known"),
        ({"architecture": "mine"}, UnrecognisedModelError, "architecture 'mine' is not known"),
        ({"architecture": 3}, InvalidInputError, "architecture is 3; it must be a name"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_registration(lake, settings, error, message):
    with pytest.raises(error, match=message):
        register(lake, **settings)
    assert list_registrations(lake) == []


def test_a_classifier_has_no_settings_of_a_detector(frames):
    register(frames, factory="trace_factories:make_model", score_thresh=0.5)
    register_dataset(frames, "frames", factory="trace_factories:Images", params={"n": 5})
    with pytest.raises(InvalidInputError, match="registered with settings of a detector"):
        trace(frames)
    assert frames.version(OPS_QUARANTINE) is None
