"""Matches and error types: against TIDE and the nuScenes devkit, a plain loop over the definition, and by hand."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._scenes3d import driving_scene
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import (
    BEV_IOU,
    ERROR_TYPES,
    NUSCENES,
    Matches,
    MatchRule,
    NuScenesState,
    match_frames,
    match_overlaps,
)
from mld_pipelines.metrics import _pairs as pairs_module
from mld_pipelines.records import Detections3D, Truths3D
from tests.support.detections import batches, frames_of, in_order, judged


def one_frame(kind, rows, **more):
    """Rows of (x, y, label) or (x, y, label, score)."""
    boxes = [[row[0], row[1], 1.0, 2.0, 4.0, 1.5, 0.0] for row in rows]
    if kind is Detections3D:
        more["scores"] = [row[3] if len(row) > 3 else 0.9 - 0.01 * i for i, row in enumerate(rows)]
    return kind(offsets=[0, len(rows)], boxes=boxes, labels=[row[2] for row in rows], **more)


def judge(found, real, **options):
    return match_frames(one_frame(Detections3D, found), one_frame(Truths3D, real), n_classes=3, **options).to_frame()


def types(frame):
    return frame.filter(pl.col("detection").is_not_null()).sort("detection")["error_type"].to_list()


# -- peers ------------------------------------------------------------------------------------------------------------


def image_overlaps(scene):
    """IoU of (x, y, width, height), as pycocotools defines it."""
    result = []
    for a, b, c, d in zip(
        scene["detection_offsets"], scene["detection_offsets"][1:], scene["truth_offsets"], scene["truth_offsets"][1:],
        strict=False,
    ):  # fmt: skip
        p, q = scene["detection_boxes"][a:b, None], scene["truth_boxes"][None, c:d]
        corner = np.minimum(p[..., :2] + p[..., 2:], q[..., :2] + q[..., 2:]) - np.maximum(p[..., :2], q[..., :2])
        shared = np.clip(corner, 0, None).prod(axis=-1)
        result.append(shared / (p[..., 2:].prod(axis=-1) + q[..., 2:].prod(axis=-1) - shared))
    return result


def judged_images():
    scene, answer = judged("tide")
    matches = match_overlaps(
        image_overlaps(scene),
        scores=scene["detection_scores"],
        labels=scene["detection_labels"],
        truth_labels=scene["truth_labels"],
        n_classes=4,
    )
    return matches.to_frame(), answer


def test_every_prediction_has_the_type_that_tide_gives_it():
    frame, answer = judged_images()
    assert types(frame) == answer["types"]
    assert set(answer["types"]) == {None, "cls", "loc", "both", "dupe", "bkg"}


def test_the_objects_that_tide_misses_are_missed():
    frame, answer = judged_images()
    assert sorted(frame.filter(pl.col("error_type") == "miss")["truth"]) == answer["miss"]


def test_predictions_find_the_objects_that_they_find_in_tide():
    frame, answer = judged_images()
    hits = frame.filter(pl.col("outcome") == "tp")
    assert dict(zip(hits["detection"], hits["truth"], strict=True)) == {
        int(row): truth for row, truth in answer["matched"].items()
    }


def test_matches_at_two_metres_are_the_devkits():
    """The keys of the state are those whose numbers equal the devkit's (test_nuscenes)."""
    detections, truths = batches(judged("nuscenes")[0])
    frame = match_frames(detections, truths, n_classes=10, half_turn=NUSCENES.half_turn).to_frame()
    hits = frame.filter(pl.col("outcome") == "tp")
    state = NuScenesState.of(detections, truths, NUSCENES)
    for label, own in enumerate(state.classes):
        rows = hits.filter(pl.col("label") == label).sort("score", "detection", descending=True)
        assert len(rows) == len(own.hits[2])
        for column, errors in zip(("ate", "ase", "aoe", "ave"), own.errors, strict=False):
            np.testing.assert_array_equal(rows[column].to_numpy(), errors)


# -- the definition, once more as a loop ------------------------------------------------------------------------------


def by_the_book(detections, truths):
    """Types of one frame by centre distance, in the words of the definition."""
    apart = np.linalg.norm(detections.boxes[:, None, :2] - truths.boxes[None, :, :2], axis=-1)
    same = detections.labels[:, None] == truths.labels[None]
    taken, match = set(), {}
    for i in sorted(range(len(detections)), key=lambda i: (detections.scores[i], i), reverse=True):
        free = [(apart[i, j], j) for j in range(len(truths)) if same[i, j] and j not in taken]
        if free and min(free)[0] < 2.0:
            match[i] = min(free)[1]
            taken.add(match[i])
    said, targets = [], set()
    for i in range(len(detections)):
        own, other = np.where(same[i], apart[i], math.inf), np.where(same[i], math.inf, apart[i])
        nearest = [float(np.min(row, initial=math.inf)) for row in (own, other, apart[i])]
        if i in match:
            said.append(None)
        elif 2.0 <= nearest[0] <= 4.0:
            said.append("loc")
            targets.add(int(own.argmin()))
        elif nearest[1] < 2.0:
            said.append("cls")
            targets.add(int(other.argmin()))
        elif nearest[0] < 2.0:
            said.append("dupe")
        else:
            said.append("bkg" if nearest[2] > 4.0 else "both")
    lost = [j for j in range(len(truths)) if j not in taken and truths.labels[j] >= 0]
    return said, match, {j: None if j in targets else "miss" for j in lost}


def crowded(seed, frames=4):
    g = np.random.default_rng(seed)

    def some(kind):
        n = int(g.integers(0, 14))
        box = np.concatenate((g.uniform(0, 9, (n, 2)).round(1), np.ones((n, 1)), g.uniform(1, 4, (n, 3))), axis=1)
        row = {"boxes": np.c_[box, g.uniform(-3, 3, n)], "labels": g.integers(-1 if kind is Truths3D else 0, 3, n)}
        return {**row, "scores": g.integers(0, 8, n) / 8.0} if kind is Detections3D else row

    return tuple(kind.from_frames([some(kind) for _ in range(frames)]) for kind in (Detections3D, Truths3D))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_types_are_those_of_the_definition(seed):
    detections, truths = crowded(seed)
    frame = match_frames(detections, truths, n_classes=3).to_frame()
    for index in range(detections.frames):
        said, match, lost = by_the_book(detections.frame(index), truths.frame(index))
        own = frame.filter(pl.col("frame") == index)
        first, base = int(detections.offsets[index]), int(truths.offsets[index])
        assert types(own) == said
        hits = own.filter(pl.col("outcome") == "tp")
        assert {d - first: t - base for d, t in zip(hits["detection"], hits["truth"], strict=True)} == match
        misses = own.filter(pl.col("outcome") == "fn")
        assert {t - base: e for t, e in zip(misses["truth"], misses["error_type"], strict=True)} == lost


# -- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "real", "error"),
    [
        ([(1.9, 0, 0)], [(0, 0, 0)], None),
        ([(2.0, 0, 0)], [(0, 0, 0)], "loc"),
        ([(4.0, 0, 0)], [(0, 0, 0)], "loc"),
        ([(4.1, 0, 0)], [(0, 0, 0)], "bkg"),
        ([(0.5, 0, 1)], [(0, 0, 0)], "cls"),
        ([(3.0, 0, 1)], [(0, 0, 0)], "both"),
        ([(4.0, 0, 1)], [(0, 0, 0)], "both"),
        ([(9.0, 0, 1)], [], "bkg"),
        ([(0.5, 0, 1)], [(0, 0, -1)], "cls"),
    ],
)
def test_one_prediction_and_at_most_one_truth(found, real, error):
    assert types(judge(found, real)) == [error]


def test_a_second_prediction_of_the_same_object_is_a_duplicate():
    frame = judge([(0.1, 0, 0, 0.5), (0.2, 0, 0, 0.9)], [(0, 0, 0)])
    assert types(frame) == ["dupe", None]
    assert frame.filter(pl.col("error_type") == "dupe")["truth"].to_list() == [0]


def test_an_object_that_an_error_is_about_is_not_counted_again():
    frame = judge([(3, 0, 0)], [(0, 0, 0), (50, 0, 0)])
    misses = frame.filter(pl.col("outcome") == "fn").sort("truth")
    assert misses["error_type"].to_list() == [None, "miss"]
    assert misses["is_unit"].to_list() == [False, True]


def test_an_object_of_an_unknown_class_is_never_missed():
    assert len(judge([], [(0, 0, -1)])) == 0


def test_predictions_below_their_threshold_have_no_row():
    found = [(0, 0, 0, 0.4), (30, 0, 1, 0.4)]
    frame = judge(found, [(0, 0, 0), (30, 0, 1)], thresholds=[0.5, 0.3, 0.0])
    assert frame.sort("label")["outcome"].to_list() == ["fn", "tp"]
    assert frame.filter(pl.col("outcome") == "tp")["detection"].to_list() == [1]


def test_a_score_equal_to_the_threshold_is_kept():
    found = one_frame(Detections3D, [(0, 0, 0, 0.1)])
    assert len(match_frames(found, one_frame(Truths3D, []), n_classes=1, thresholds=float(np.float32(0.1)))) == 1


def test_errors_of_a_match():
    found = Detections3D(offsets=[0, 1], boxes=[[1, 1, 0, 2, 4, 1.5, 0.3]], labels=[0], scores=[1], velocities=[[3, 4]])
    real = Truths3D(offsets=[0, 1], boxes=[[1, 0, 0, 1, 4, 1.5, -0.2]], labels=[0], velocities=[[0, 0]])
    (row,) = match_frames(found, real, n_classes=1).to_frame().to_dicts()
    assert [row[name] for name in ("ate", "ase", "aoe", "ave", "value")] == pytest.approx([1, 0.5, 0.5, 5, 1])


def test_errors_are_null_for_what_is_no_match():
    frame = judge([(3, 0, 0)], [(0, 0, 0)])
    assert frame.select("ate", "ase", "aoe", "ave").null_count().row(0) == (2, 2, 2, 2)
    assert frame["value"].to_list() == [3.0, None]


@pytest.mark.parametrize(
    ("box", "sub_type"),
    [
        ([2, 0, 1, 2, 4, 1.5, 0], "loc_centre"),  # IoU 4 / 12
        ([0, 0, 1, 4, 8, 1.5, 0], "loc_size"),  # 8 / 32
        ([0, 0, 1, 2, 4, 1.5, math.pi / 2], None),  # 4 / 12 for 2 × 4, see the next
        ([3, 0, 1, 4, 8, 1.5, 0], "loc_mixed"),  # 6 / 34; 8 / 32 at the centre, 2 / 14 at the size
    ],
)
def test_a_misplaced_box_is_named_by_what_alone_would_mend_it(box, sub_type):
    real = Truths3D(offsets=[0, 1], boxes=[[0, 0, 1, 2, 4, 1.5, 0]], labels=[0])
    found = Detections3D(offsets=[0, 1], boxes=[box], labels=[0], scores=[0.5])
    frame = match_frames(found, real, n_classes=1, rule=BEV_IOU).to_frame()
    assert frame["error_type"].to_list() == ["loc", None]
    assert frame["sub_type"].to_list() == [sub_type or "loc_yaw", None]


def test_a_sub_type_needs_an_overlap_rule():
    assert judge([(3, 0, 0)], [(0, 0, 0)])["sub_type"].null_count() == 2


def test_overlap_of_half_matches():
    real = Truths3D(offsets=[0, 1], boxes=[[0, 0, 1, 2, 4, 1.5, 0]], labels=[0])
    found = Detections3D(offsets=[0, 1], boxes=[[0, 0, 1, 2, 2, 1.5, 0]], labels=[0], scores=[0.5])
    frame = match_frames(found, real, n_classes=1, rule=BEV_IOU).to_frame()
    assert frame["outcome"].to_list() == ["tp"]
    assert frame["value"].to_list() == pytest.approx([0.5])


# -- nothing, much, and wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 3])
@pytest.mark.parametrize("rule", [None, BEV_IOU])
def test_nothing_at_all_gives_no_rows(frames, rule):
    nothing = {"offsets": [0] * (frames + 1), "boxes": [], "labels": []}
    options = {} if rule is None else {"rule": rule}
    matches = match_frames(Detections3D(**nothing, scores=[]), Truths3D(**nothing), n_classes=1, **options)
    assert len(matches) == 0
    assert matches.n_frames == frames
    assert matches.to_frame().height == 0


def test_ten_thousand_boxes_in_a_frame_are_no_trouble():
    g = np.random.default_rng(0)
    rows = [(x, y, 0, s) for (x, y), s in zip(g.uniform(-300, 300, (10_000, 2)), g.random(10_000), strict=True)]
    frame = judge(rows, [row[:3] for row in rows[:500]])
    assert frame.filter(pl.col("outcome") == "tp").height == 500
    assert frame.filter(pl.col("detection").is_not_null()).height == 10_000


def test_a_frame_larger_than_a_block_is_judged_as_in_one(monkeypatch):
    detections, truths = crowded(3)
    whole = match_frames(detections, truths, n_classes=3).to_frame()
    monkeypatch.setattr(pairs_module, "MAX_PAIRS", 7)
    assert match_frames(detections, truths, n_classes=3).to_frame().equals(whole)


def test_a_label_that_the_model_does_not_have_is_refused():
    with pytest.raises(InvalidInputError, match=r"label of truth 0 is 3.*3 classes"):
        judge([(0, 0, 0)], [(0, 0, 3)])


def test_a_threshold_that_is_not_a_number_is_refused():
    with pytest.raises(InvalidInputError, match="without NaN"):
        judge([(0, 0, 0)], [(0, 0, 0)], thresholds=math.nan)


@pytest.mark.parametrize("limits", [("distance", 4.0, 2.0), ("iou", 0.1, 0.5), ("area", 1.0, 2.0), ("iou", 0.5, 0.0)])
def test_limits_that_contradict_each_other_are_refused(limits):
    with pytest.raises(InvalidInputError):
        MatchRule(*limits)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": [math.nan]}, "NaN, which has no rank"),
        ({"scores": [0.5, 0.5]}, "scores have shape"),
        ({"labels": [2]}, "outside 0 … 1"),
        ({"truth_labels": [-2]}, "only −1"),
        ({"truth_labels": [0, 0]}, "truths|labels must hold"),
        ({"overlaps": [np.array([[math.nan]])]}, "overlaps of frame 0 are NaN"),
        ({"overlaps": [np.zeros(1)]}, r"must be \(predictions, truths\)"),
        ({"rule": MatchRule("distance", 2.0, 4.0)}, "measures 'iou'"),
    ],
)
def test_overlaps_that_cannot_be_judged_are_refused(change, said):
    given_ = {"overlaps": [np.array([[0.5]])], "scores": [0.5], "labels": [0], "truth_labels": [0], "n_classes": 2}
    options = {**given_, **change}
    with pytest.raises(InvalidInputError, match=said):
        match_overlaps(options.pop("overlaps"), **options)


@pytest.mark.parametrize(
    ("overlap", "label", "error"),
    [(0.5, 0, None), (0.1, 0, "loc"), (0.09, 0, "bkg"), (0.5, 1, "cls"), (0.1, 1, "bkg"), (0.11, 1, "both")],
)
def test_limits_of_overlap_lie_where_tide_has_them(overlap, label, error):
    matches = match_overlaps([[[overlap]]], scores=[0.5], labels=[0], truth_labels=[label], n_classes=2)
    assert types(matches.to_frame()) == [error]


def test_empty_sides_of_overlaps_keep_their_shape():
    matches = match_overlaps(
        [np.zeros((0, 2)), np.zeros((1, 0))], scores=[0.5], labels=[0], truth_labels=[0, 1], n_classes=2
    )
    assert matches.to_frame()["error_type"].to_list() == ["miss", "miss", "bkg"]


# -- any frames -------------------------------------------------------------------------------------------------------


def scene_of(seed, frames=6):
    return batches(driving_scene(frames, 30, seed=seed, awkward=bool(seed % 2)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_batches_of_frames_join_to_the_whole(seed, cut):
    detections, truths = scene_of(seed)
    parts = [(frames_of(detections, a, b), frames_of(truths, a, b)) for a, b in ((0, cut), (cut, 6))]
    joined = Matches.concat(
        [match_frames(d, t, n_classes=10) for d, t in parts],
        detections=[len(d) for d, _ in parts],
        truths=[len(t) for _, t in parts],
    )
    assert joined.n_frames == 6
    assert joined.to_frame().equals(match_frames(detections, truths, n_classes=10).to_frame())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_order_of_frames_and_boxes_does_not_matter_without_ties(seed):
    g = np.random.default_rng(seed)
    scene = driving_scene(5, 30, seed=seed)
    scene["detection_scores"] = g.permutation(len(scene["detection_scores"])).astype(np.float32)
    detections, truths = batches(scene)
    order = g.permutation(5)
    moved = [in_order(batch.take(g.permutation(len(batch))), order) for batch in (detections, truths)]
    columns = ["score", "outcome", "error_type", "label", "truth_label", "value", "ate", "is_unit"]
    one, other = (
        match_frames(*pair, n_classes=10).to_frame().select(columns).sort(columns)
        for pair in ((detections, truths), moved)
    )
    assert one.equals(other)


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, BEV_IOU]))
@settings(max_examples=25, deadline=None)
def test_every_kept_prediction_and_every_known_truth_has_one_row(seed, rule):
    detections, truths = crowded(seed, frames=3)
    matches = match_frames(detections, truths, n_classes=3, **({"rule": rule} if rule else {}))
    assert sorted(matches.detection[matches.detection >= 0]) == list(range(len(detections)))
    accounted = matches.truth[matches.outcome != 1]
    assert sorted(accounted) == np.flatnonzero(truths.labels >= 0).tolist()
    assert (matches.is_error == (matches.is_unit & (matches.outcome != 0))).all()
    assert set(np.unique(matches.error_type)) <= set(range(-1, len(ERROR_TYPES)))


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_a_threshold_changes_no_match_above_it(seed, threshold):
    detections, truths = crowded(seed)
    whole = match_frames(detections, truths, n_classes=3)
    cut = match_frames(detections, truths, n_classes=3, thresholds=threshold)
    kept = {int(d): int(t) for d, t, o, s in zip(whole.detection, whole.truth, whole.outcome, whole.score, strict=True)
            if o == 0 and s >= threshold}  # fmt: skip
    assert {int(d): int(t) for d, t, o in zip(cut.detection, cut.truth, cut.outcome, strict=True) if o == 0} == kept
