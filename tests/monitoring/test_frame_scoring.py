"""With a result, every frame is scored as the stored estimator scores the same record anywhere else."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from mld_pipelines.adapters.detection3d import Setting, resolve_settings
from mld_pipelines.diagnosis import DetectionScorer
from mld_pipelines.evaluation import FRAME_SCORE_COLUMNS, evaluate, load_detection_scorer, score_frames
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.monitoring import Detection3DLogger, ObjectDetection3DLogger, log_labels
from mld_pipelines.monitoring._result_settings import traced_settings
from mld_pipelines.rollups import Scorers, score_days
from mld_pipelines.tables import LANDING_INFERENCES, MONITORING_SCORED
from mld_pipelines.training import ClassificationTracer, Detection3DTracer
from tests.support.detector3d import Adapter, Decoder, Detector

MODEL = "drive@v1"
SCORES = [*FRAME_SCORE_COLUMNS]


def clouds(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(8, 60, (n,), generator=generator).tolist()
    return [torch.randn(size, 4, generator=generator) * 20 for size in sizes]


def truths(found, seed):
    """What is there: most of the boxes, some of another class, and some that nothing shows."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for frame in found:
        keep = torch.rand(len(frame["scores_3d"]), generator=generator) < 0.2 + 0.8 * frame["scores_3d"]
        boxes, labels = frame["boxes_3d"][keep].clone(), frame["labels_3d"][keep].clone()
        extra = torch.tensor([[60.0, 60.0, 0.0, 1.8, 4.2, 1.5, 0.0]])
        boxes = torch.cat([boxes, extra])
        targets.append({"boxes_3d": boxes, "labels_3d": torch.cat([labels, torch.zeros(1, dtype=torch.int64)])})
    return targets


def made_detector():
    torch.manual_seed(3)
    return Detector().eval()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A lake with a traced and evaluated detector, traced from a score of 0.05."""
    root = str(tmp_path_factory.mktemp("scored") / "lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_API_ENDPOINT", root)
        detector = made_detector()
        adapter = Adapter(detector)
        settings = resolve_settings(adapter.settings, family="plain", arguments={"score_thresh": 0.05})
        frames = clouds(80)
        with Detection3DTracer(detector, "drive", "v1", adapter=adapter, settings=settings) as tracer, torch.no_grad():
            found = detector(frames)
            tracer(frames, truths(found, 1), input_ids=range(80), dataset_type="val")
            tracer.wait_for_save()
    lake = Lake.open(root)
    return root, evaluate(lake, MODEL).result_name


@pytest.fixture
def lake(evaluated, monkeypatch):
    monkeypatch.setenv("MLD_API_ENDPOINT", evaluated[0])
    monkeypatch.setenv("MLD_STRICT", "1")
    return Lake.open(evaluated[0])


@pytest.fixture
def result(evaluated):
    return evaluated[1]


@pytest.fixture
def logging_(lake):
    made = []

    def build(detector=None, result_name=None, **options):
        detector = made_detector() if detector is None else detector
        adapter = Adapter(detector)
        settings = resolve_settings(adapter.settings, family="plain", arguments={"score_thresh": 0.05})
        made.append(
            Detection3DLogger(detector, "drive", "v1", result_name, adapter=adapter, settings=settings, **options)
        )
        return made[-1]

    yield build
    for logger in made:
        logger.close()


def rows(lake, logger):
    return lake.scan(LANDING_INFERENCES).filter(pl.col("stream_id") == logger.stream_id).sort("seq", "row").collect()


@pytest.mark.feature("I18", "I19", "I20")
def test_frames_are_scored_as_the_stored_estimator_scores_them(logging_, lake, result):
    logger = logging_(result_name=result)
    with torch.no_grad():
        logger(clouds(9, seed=5)[:4])
        logger(clouds(9, seed=5)[4:])
    assert logger.flush(60)
    found = rows(lake, logger)
    scorer = load_detection_scorer(lake, result)
    expected = score_frames(found.drop(SCORES), scorer)
    assert_frame_equal(found.select(SCORES), expected.select(SCORES))
    assert found["scored_by"].unique().to_list() == [scorer.scored_by]
    assert found["box_error_proba"].list.drop_nulls().list.len().sum() > 0
    assert found["missed_proba"].list.len().sum() > 0


@pytest.mark.parametrize("drop", ["features", "class_scores"])
def test_frames_without_what_the_estimator_needs_land_unscored_with_one_warning(
    logging_, lake, result, monkeypatch, caplog, drop
):
    whole = Decoder.__call__
    cut = lambda self, raw: [dataclasses.replace(one, **{drop: None}) for one in whole(self, raw)]
    monkeypatch.setattr(Decoder, "__call__", cut)
    logger = logging_(result_name=result)
    with torch.no_grad():
        logger(clouds(3))
        logger(clouds(2))
    assert logger.flush(60)
    assert rows(lake, logger)["box_error_proba"].null_count() == 5
    assert caplog.text.count("frames land unscored") == 1


def test_what_is_missing_is_said_after_another_failure_too(logging_, lake, result, monkeypatch, caplog):
    whole, scored = Decoder.__call__, DetectionScorer.score
    cut = lambda self, raw: [dataclasses.replace(one, features=None) for one in whole(self, raw)]

    def refused(*_, **__):
        raise InvalidInputError("frames that do not fit")

    logger = logging_(result_name=result)
    with torch.no_grad():
        monkeypatch.setattr(DetectionScorer, "score", refused)
        logger(clouds(2))
        assert logger.flush(60)
        monkeypatch.setattr(DetectionScorer, "score", scored)
        monkeypatch.setattr(Decoder, "__call__", cut)
        logger(clouds(3))
    assert logger.flush(60)
    assert rows(lake, logger)["scored_by"].null_count() == 5
    assert caplog.text.count("frames that do not fit") == 1
    assert caplog.text.count("was made with features or class scores") == 1
    assert "3 of 3 frames at first" in caplog.text


def test_missing_candidates_are_said_once_and_change_no_probability(logging_, lake, result, monkeypatch, caplog):
    whole = Decoder.__call__
    cut = lambda self, raw: [dataclasses.replace(one, candidates=None) for one in whole(self, raw)]
    monkeypatch.setattr(Decoder, "__call__", cut)
    logger = logging_(result_name=result)
    with torch.no_grad():
        logger(clouds(3, seed=5))
        logger(clouds(2, seed=6))
    assert logger.flush(60)
    found = rows(lake, logger)
    assert found["suppressed_labels"].null_count() == 5
    scorer = load_detection_scorer(lake, result)
    usual = scorer.window_reference.n_missed / scorer.window_reference.frames
    assert found["expected_misses"].to_list() == [pytest.approx(usual)] * 5
    assert_frame_equal(found.select(SCORES), score_frames(found.drop(SCORES), scorer).select(SCORES))
    assert caplog.text.count("frames come without suppressed candidates") == 1


def test_frames_that_differ_in_what_belongs_to_their_boxes_are_scored_one_by_one(logging_, lake, result, monkeypatch):
    whole = Decoder.__call__

    def uneven(self, raw):
        first, *others = whole(self, raw)
        return [dataclasses.replace(first, features=None), *others]

    monkeypatch.setattr(Decoder, "__call__", uneven)
    logger = logging_(result_name=result)
    with torch.no_grad():
        logger(clouds(3))
    assert logger.flush(60)
    found = rows(lake, logger)
    assert found["scored_by"].is_null().to_list() == [True, False, False]
    assert_frame_equal(
        found.select(SCORES), score_frames(found.drop(SCORES), load_detection_scorer(lake, result)).select(SCORES)
    )


def test_the_platform_takes_over_what_the_logger_scored(logging_, lake, result):
    logger = logging_(result_name=result)
    with torch.no_grad():
        logger(clouds(6, seed=6))
    assert logger.flush(60)
    found = rows(lake, logger)
    scorers = Scorers(lake)
    score_days(lake, found["event_day"].unique().to_list(), current=scorers.current, score=scorers.score)
    scored = lake.scan(MONITORING_SCORED).filter(pl.col("stream_id") == logger.stream_id).sort("seq", "row").collect()
    assert_frame_equal(scored.select(SCORES), found.select(SCORES))


def test_a_frame_in_which_nothing_was_found_is_scored_too(logging_, lake, result):
    logger = logging_(result_name=result)
    with torch.no_grad():
        logger(torch.zeros(3, 4))
    assert logger.flush(60)
    row = rows(lake, logger).row(0, named=True)
    assert (row["scores"], row["box_error_proba"], row["missed_proba"]) == ([], [], [])
    assert (row["expected_errors"], row["error_code"]) == (0.0, None)
    assert 0.0 <= row["error_proba"] < 1.0


def test_one_broken_frame_costs_the_others_nothing(logging_, lake, result, caplog):
    frames = clouds(3, seed=7)
    frames[1][0, 0] = float("nan")
    logger = logging_(result_name=result)
    with torch.no_grad():
        logger(frames)
    assert logger.flush(60)
    assert logger.stats.quarantined == 1
    assert rows(lake, logger)["scored_by"].null_count() == 0
    assert caplog.text.count("land unscored") == 1


@pytest.mark.feature("I26")
def test_an_unknown_result_gives_one_warning_and_basic_metrics(logging_, lake, caplog):
    logger = logging_(result_name="someone_else")
    with torch.no_grad():
        logger(clouds(2))
        logger(clouds(2))
    assert logger.flush(60)
    assert rows(lake, logger)["error_proba"].null_count() == 4
    assert caplog.text.count("only basic metrics are logged") == 1


def test_a_result_of_another_task_gives_one_warning_and_basic_metrics(logging_, lake, caplog):
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3)).eval()
    with ClassificationTracer(model, "net", "v1") as tracer, torch.no_grad():
        tracer(torch.randn(60, 2, generator=generator), torch.arange(60) % 3, input_ids=range(60))
        tracer.wait_for_save()
    other = evaluate(lake, "net@v1").result_name
    logger = logging_(result_name=other)
    with torch.no_grad():
        logger(clouds(2))
        logger(clouds(2))
    assert logger.flush(60)
    assert rows(lake, logger)["error_proba"].null_count() == 4
    assert sum("task 'classification'" in record.message for record in caplog.records) == 1


@pytest.mark.feature("I27")
@pytest.mark.parametrize("accepts", [False, True])
def test_other_weights_are_noticed(logging_, lake, result, caplog, accepts):
    other = made_detector()
    with torch.no_grad():
        other.head.weight += 0.01
        logger = logging_(other, result, accept_fingerprint=accepts)
        logger(clouds(3))
    assert logger.flush(60)
    assert rows(lake, logger)["error_proba"].null_count() == (0 if accepts else 3)
    assert sum("weights" in record.message for record in caplog.records) == 1


@pytest.mark.feature("I24")
def test_scoring_that_fails_never_reaches_the_caller(logging_, lake, result, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("no memory")

    monkeypatch.setattr("mld_pipelines.diagnosis.DetectionScorer.score", broken)
    logger = logging_(result_name=result)
    with torch.no_grad():
        assert len(logger(clouds(2))) == 2
        logger(clouds(2))
    assert logger.flush(60)
    assert rows(lake, logger)["error_proba"].null_count() == 4
    assert caplog.text.count("RuntimeError: no memory") == 1


def test_settings_that_are_not_given_are_those_of_the_result(lake, result):
    from mld_pipelines.capture import open_sink

    detector = made_detector()
    of_model = Adapter(detector).settings
    traced = traced_settings(open_sink(), result, of_model=of_model)
    assert traced["score_thresh"] == 0.05
    assert "pc_range" not in traced, "the model says it itself"
    found = resolve_settings(of_model, family="plain", arguments={}, of_result=traced)
    assert found.score_thresh == Setting(0.05, "result")
    assert found.pc_range.source == "model:pc_range"
    given = resolve_settings(of_model, family="plain", arguments={"score_thresh": 0.3}, of_result=traced)
    assert given.score_thresh == Setting(0.3, "argument")
    for name in (None, "someone_else"):
        assert traced_settings(open_sink(), name, of_model=of_model) == {}


@pytest.mark.feature("I8", "I9")
def test_the_logger_of_a_result_records_where_its_settings_are_from(lake, result, monkeypatch):
    detector = made_detector()
    monkeypatch.setattr("mld_pipelines.monitoring._detection3d.recognise", lambda *_, **__: Adapter(detector))
    with ObjectDetection3DLogger(detector, "drive", "v1", result) as logger, torch.no_grad():
        logger(clouds(2))
        assert logger.flush(60)
    recorded = json.loads(rows(lake, logger)["settings"][0])
    assert recorded["score_thresh"] == {"value": 0.05, "source": "result"}
    assert recorded["pc_range"]["source"] == "model:pc_range"


def test_labels_for_boxes_are_refused_with_what_to_do_instead(logging_):
    logger = logging_()
    with pytest.raises(InvalidInputError, match="Detection3DTracer"):
        logger.log_labels(["a"], [1])
    for labels in ([{"boxes_3d": np.zeros((1, 7)), "labels_3d": [0]}], {"boxes_3d": []}, np.zeros((2, 7))):
        with pytest.raises(InvalidInputError, match="labels are boxes"):
            log_labels(["a", "b"], labels)
