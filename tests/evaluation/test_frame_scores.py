"""Scoring logged frames: the same values wherever a frame is scored, nulls where it cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mld_pipelines.evaluation import FRAME_SCORE_COLUMNS, estimate_frames, evaluate, load_detection_scorer, score_frames
from mld_pipelines.evaluation.detection._frame_boxes import frame_boxes
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_INFERENCES
from tests.support.traced_frames import MODEL, write_frames, write_logged_frames

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import DetectionScorer

KEYS = ["stream_id", "seq", "row"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """An evaluated detector and 40 frames of production; tests only read it."""
    lake = Lake.open(str(tmp_path_factory.mktemp("frames") / "lake"))
    write_frames(lake, "val", 120, seed=2)
    result = evaluate(lake, MODEL)
    write_logged_frames(lake, 40, seed=5, hardness=1.2, result_name=result.result_name)
    return lake


@pytest.fixture(scope="module")
def scorer(lake: Lake) -> DetectionScorer:
    name = lake.read(LANDING_INFERENCES)["result_name"][0]
    return load_detection_scorer(lake, name)


@pytest.fixture(scope="module")
def rows(lake: Lake) -> pl.DataFrame:
    return lake.read(LANDING_INFERENCES).sort(KEYS)


@pytest.fixture(scope="module")
def scored(rows: pl.DataFrame, scorer: DetectionScorer) -> pl.DataFrame:
    return score_frames(rows, scorer)


def test_columns_are_those_of_the_scorer(rows, scored, scorer):
    boxes = frame_boxes(rows)
    expected = scorer.score(
        boxes.recorded, boxes.suppressed, class_scores=boxes.class_scores, class_space=boxes.class_space,
        features=boxes.features,
    )  # fmt: skip
    flat = scored["box_error_proba"].explode(empty_as_null=False)
    np.testing.assert_array_equal(flat.fill_null(float("nan")).to_numpy(), expected.box_error_proba)
    assert scored["box_error_codes"].explode(empty_as_null=False).to_list() == expected.box_error_codes
    assert scored["box_categories"].explode(empty_as_null=False).to_list() == expected.box_categories
    np.testing.assert_array_equal(scored["missed_proba"].explode(empty_as_null=False), expected.misses.proba)
    assert scored["missed_codes"].explode(empty_as_null=False).to_list() == expected.miss_codes
    assert scored["missed_boxes_3d"].list.len().sum() == expected.misses.boxes.size
    np.testing.assert_array_equal(scored["error_proba"], expected.error_proba)
    assert scored["error_code"].to_list() == expected.error_code
    np.testing.assert_array_equal(scored["expected_misses"], expected.expected_misses)
    assert scored["scored_by"].unique().to_list() == [scorer.scored_by]


def test_lists_stand_beside_the_recorded_boxes(scored, scorer):
    for name in ("box_error_proba", "box_error_codes", "box_categories"):
        assert scored[name].list.len().equals(scored["scores"].list.len())
    boxes = scored.select("scores", "labels", "box_error_proba", "box_error_codes").explode(pl.all())
    limit = pl.Series(scorer.estimator.thresholds)[boxes["labels"]]
    is_kept = boxes["scores"].cast(pl.Float64) >= limit
    assert 0 < is_kept.sum() < boxes.height
    assert boxes["box_error_proba"].is_not_null().equals(is_kept)
    assert boxes["box_error_codes"].is_not_null().equals(is_kept)
    assert boxes["box_error_codes"].drop_nulls().str.contains(r"^(P\d+|UNSEEN)$").all()


def test_sums_are_those_of_the_stored_values(scored, scorer):
    errors = scored["box_error_proba"].cast(pl.List(pl.Float64)).list.sum()
    np.testing.assert_allclose(scored["expected_errors"], errors, rtol=1e-12)
    misses = scored["missed_proba"].cast(pl.List(pl.Float64)).list.sum()
    # windows add up the stored ones and take what no candidate shows from the reference
    unseen = scorer.window_reference.without_candidate
    np.testing.assert_allclose(scored["expected_misses"], misses + unseen, rtol=1e-12)


def test_a_frame_scores_the_same_alone_and_in_any_company(rows, scored, scorer):
    shuffled = score_frames(rows[np.random.default_rng(0).permutation(rows.height)], scorer)
    assert_frame_equal(shuffled.sort(KEYS), scored)
    alone = pl.concat([score_frames(rows.slice(index, 1), scorer) for index in range(8)])
    assert_frame_equal(alone, scored.head(8))


def test_scoring_again_changes_nothing(scored, scorer):
    assert_frame_equal(score_frames(scored, scorer), scored, check_column_order=False)


def test_frames_of_other_weights_keep_nulls(rows, scorer):
    others = rows.with_columns(
        fingerprint=pl.when(pl.int_range(pl.len()) % 2 == 0).then("fingerprint").otherwise(pl.lit("c" * 64))
    )
    found = score_frames(others, scorer)
    for name in FRAME_SCORE_COLUMNS:
        assert found[name].is_null()[1::2].all()
    assert found["error_proba"].is_not_null()[::2].all()


def test_frames_without_what_the_estimator_needs_keep_nulls_and_do_not_disturb_the_others(rows, scored, scorer):
    for name in ("features", "class_scores"):
        first = pl.int_range(pl.len()) == 0
        found = score_frames(rows.with_columns(pl.when(~first).then(name).alias(name)), scorer)
        assert found["box_error_proba"][0] is None
        assert_frame_equal(found[1:].drop(name), scored[1:].drop(name))


def test_a_frame_without_boxes_has_no_errors_but_may_have_misses(rows, scored, scorer):
    names = ("boxes_3d", "scores", "labels", "velocities", "class_scores", "features", "candidate_index")
    empty = rows.head(1).with_columns(pl.col(name).list.head(0) for name in names)
    found = score_frames(pl.concat([empty, rows[1:]]), scorer)
    assert found["box_error_proba"][0].to_list() == []
    assert found["expected_errors"][0] == 0.0
    assert 0 < found["missed_proba"][0].len() <= rows["suppressed_scores"][0].len()
    assert_frame_equal(found[1:], scored[1:])


def test_a_class_that_the_model_does_not_know_is_refused(rows, scorer):
    with pytest.raises(InvalidInputError, match="label 7"):
        score_frames(rows.with_columns(pl.col("labels").list.eval(pl.lit(7, dtype=pl.Int64))), scorer)


def test_no_frames_are_no_scores(rows, scorer):
    assert score_frames(rows.head(0), scorer).height == 0


SUPPRESSED = ("suppressed_boxes_3d", "suppressed_scores", "suppressed_labels")


def test_frames_without_suppressed_candidates_are_told_apart_from_those_with_none(rows, scored, scorer):
    """Half the frames come without, some of the others have empty lists: each is scored as alone."""
    without = pl.int_range(pl.len()) % 2 == 0
    mixed = rows.with_columns(pl.when(~without).then(pl.col(name)).alias(name) for name in SUPPRESSED)
    found = score_frames(mixed, scorer)
    for number in range(12):
        alone = score_frames(mixed.slice(number, 1), scorer)
        assert_frame_equal(found.slice(number, 1), alone)
    odd = pl.int_range(pl.len()) % 2 == 1
    assert_frame_equal(found.filter(odd).select(FRAME_SCORE_COLUMNS), scored.filter(odd).select(FRAME_SCORE_COLUMNS))
    blind = found.filter(~odd)
    assert blind["missed_proba"].list.len().sum() == 0
    reference = scorer.window_reference
    assert blind["expected_misses"].to_list() == [pytest.approx(reference.n_missed / reference.frames)] * blind.height


def test_estimates_of_frames_without_candidates_carry_the_badge(rows, scorer):
    blind = score_frames(rows.with_columns(pl.lit(None, rows[name].dtype).alias(name) for name in SUPPRESSED), scorer)
    estimate, known = estimate_frames(blind, scorer), estimate_frames(score_frames(rows, scorer), scorer)
    assert "no candidates visible" in estimate.badges
    assert "no candidates visible" not in known.badges
    assert estimate.opinions.assumed_misses == pytest.approx(
        rows.height * scorer.window_reference.n_missed / scorer.window_reference.frames
    )
