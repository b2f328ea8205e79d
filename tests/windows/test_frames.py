"""Windows of detectors: frames are counted once, boxes and expected misses inside them; hours add up to days."""

from __future__ import annotations

import bisect
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.diagnosis import DetectionWindowReference
from mld_pipelines.exceptions import ContractError
from mld_pipelines.tables import MONITORING_WINDOWS, check
from mld_pipelines.windows import (
    BOX_COUNT_EDGES,
    Baseline,
    aggregate,
    aggregate_frames,
    compare_codes,
    derive,
    drift_threshold,
    evaluate_alerts,
    fit_detection_baseline,
    frame_columns,
    gather_windows,
    jensen_shannon,
    merge,
    ranges_of,
    roll_up,
)
from mld_pipelines.windows._bins import box_count_bin, box_count_quantiles, range_bin, range_quantiles
from mld_pipelines.windows._detection_baseline import design_effect

START = datetime(2026, 5, 1, tzinfo=UTC)
RESULT, MODEL = "m_v1_od3d_v1_20260501", "m@v1"
SCHEMA = {
    "event_at": pl.Datetime("us", "UTC"), "model_key": pl.String, "result_name": pl.String, "latency_ms": pl.Float64,
    "batch_size": pl.Int32, "scores": pl.List(pl.Float32), "labels": pl.List(pl.Int64),
    "ranges_m": pl.List(pl.Float32), "box_error_proba": pl.List(pl.Float32), "box_error_codes": pl.List(pl.String),
    "box_categories": pl.List(pl.String), "missed_proba": pl.List(pl.Float32), "missed_codes": pl.List(pl.String),
}  # fmt: skip
REFERENCE = DetectionWindowReference(
    frames=200, boxes=2000, n_errors=200, objects=2000, n_missed=200, n_mistaken=0, clusters=400, n_shown=150,
    without_candidate=0.25, threshold_ep=0.45, threshold_miss=0.6,
)  # fmt: skip


def frame(minute: float = 0.0, **changes):
    """One scored frame with three recorded boxes, two of them at or above the operating point, and two candidates."""
    row = {
        "event_at": START + timedelta(minutes=minute), "model_key": MODEL, "result_name": RESULT, "latency_ms": 20.0,
        "batch_size": 1, "scores": [0.75, 0.5, 0.25], "labels": [0, 2, 1], "ranges_m": [3.0, 33.0, 200.0],
        "box_error_proba": [0.25, 0.5, None], "box_error_codes": ["P001", "UNSEEN", None],
        "box_categories": ["hotspot", "recessive_hotspot", None],
        "missed_proba": [0.25, 0.75], "missed_codes": ["M001", "M001"],
    }  # fmt: skip
    return row | changes


def table(*rows):
    return pl.DataFrame(rows, schema=SCHEMA)


EMPTY = {name: [] for name in SCHEMA if str(SCHEMA[name]).startswith("List")}
UNSCORED = dict.fromkeys(
    ("box_error_proba", "box_error_codes", "box_categories", "missed_proba", "missed_codes"),
)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 19, 20, 31, 32, 255, 256, 300, 511, 512, 5000])
def test_the_bin_of_a_number_of_boxes_is_the_one_between_its_edges(size):
    found = pl.DataFrame({"n": [size]}).select(box_count_bin("n")).item()
    assert found == bisect.bisect_right(BOX_COUNT_EDGES, size) - 1


def test_numbers_of_boxes_are_read_back_exactly_below_sixteen_and_within_an_eighth_above():
    for size in (0, 3, 15, 17, 40, 200):
        histogram = [0] * len(BOX_COUNT_EDGES)
        histogram[bisect.bisect_right(BOX_COUNT_EDGES, size) - 1] = 1
        (found,) = box_count_quantiles(histogram, [0.5])
        assert found == size if size < 16 else abs(found - size) <= size / 8


def test_ranges_are_distances_along_the_ground_in_bins_of_five_metres():
    boxes = pl.DataFrame({"boxes_3d": [[3.0, 4.0, 9.0, 1, 1, 1, 0, 60.0, 80.0, 0, 1, 1, 1, 0], [], None]})
    assert boxes.select(ranges_of()).to_series().to_list() == [[5.0, 100.0], [], None]
    bins = pl.DataFrame({"r": [0.0, 4.99, 5.0, 119.0, 500.0, float("nan")]}).select(range_bin("r")).to_series()
    assert bins.to_list() == [0, 0, 1, 23, 23, None]
    assert range_quantiles([1, 1] + [0] * 22, [0.5, 1.0]) == [2.5, 7.5]


def test_a_window_of_a_result_counts_frames_once_and_boxes_at_the_operating_point():
    rows = table(frame(), frame(2, **EMPTY), frame(3, **UNSCORED))
    (state,) = aggregate_frames(rows, references={RESULT: REFERENCE}).to_dicts()
    assert (state["n"], state["n_frames"], state["n_boxes"], state["n_boxes_squared"]) == (3, 2, 2, 4)
    assert (state["n_invalid"], state["latency_sum_ms"], state["call_sum"]) == (0, 60.0, 3.0)
    assert (state["n_scored"], state["error_proba_sum"], state["n_over_threshold"]) == (2, 0.75, 1)
    assert state["confidence_sum"] == 1.25
    assert state["class_counts"] == [1, 0, 1]
    assert (state["codes"], state["code_counts"], state["n_unseen"]) == (["P001", "UNSEEN"], [1, 1], 1)
    assert state["category_counts"] == [0, 0, 1, 1, 0]
    assert (state["n_candidates"], state["missed_proba_sum"], state["n_candidates_over"]) == (2, 1.0, 1)
    assert (state["missed_codes"], state["missed_code_counts"]) == (["M001"], [2])
    assert state["missed_code_proba_sums"] == [1.0]
    assert (state["boxes_histogram"][:3], sum(state["boxes_histogram"])) == ([1, 0, 1], 2)
    assert {i: n for i, n in enumerate(state["range_histogram"]) if n} == {0: 1, 6: 1}


def test_basic_metrics_count_every_recorded_box_and_know_nothing_of_errors():
    (state,) = aggregate_frames(table(frame(), frame(2, **UNSCORED)), errors=False).to_dicts()
    assert (state["result_name"], state["n"], state["n_frames"], state["n_boxes"]) == (None, 2, 2, 6)
    assert state["class_counts"] == [2, 2, 2]
    assert {i: n for i, n in enumerate(state["range_histogram"]) if n} == {0: 2, 6: 2, 23: 2}
    assert [state[name] for name in ("n_scored", "codes", "n_candidates", "missed_codes")] == [None] * 4


@pytest.mark.parametrize("errors", [True, False])
def test_states_of_frames_obey_the_contract_of_their_table(errors):
    states = aggregate_frames(table(frame(), frame(70, **EMPTY)), errors=errors)
    assert check(MONITORING_WINDOWS, MONITORING_WINDOWS.align(states)).invalid.is_empty()


def test_frames_without_a_box_column_of_older_code_still_count():
    rows = table(frame()).drop("ranges_m", "box_categories", "box_error_codes")
    (state,) = aggregate_frames(rows).to_dicts()
    assert (state["n_boxes"], state["range_histogram"], state["codes"]) == (2, [0] * 24, [])


def test_frames_without_a_time_are_refused():
    with pytest.raises(ContractError, match="event_at"):
        aggregate_frames(pl.DataFrame({"model_key": [MODEL]}))
    assert aggregate_frames(table()).is_empty()
    assert {"scores", "box_error_proba"} <= set(frame_columns(errors=True))
    assert not {"result_name", "box_error_proba"} & set(frame_columns(errors=False))


def random_frames(n, seed):
    rng = np.random.default_rng(seed)
    return table(*(random_frame(rng) for _ in range(n)))


def random_frame(rng):
    minute, chance = float(rng.uniform(0, 2880)), rng.random()
    if chance < 0.1:
        return frame(minute, **EMPTY)
    if chance < 0.2:
        return frame(minute, **UNSCORED)
    recorded, candidates = rng.integers(0, 25), rng.integers(0, 4)
    kept = (rng.random(recorded) < 0.7).tolist()
    return frame(
        minute,
        scores=rng.random(recorded).tolist(),
        labels=rng.integers(0, 4, recorded).tolist(),
        ranges_m=rng.uniform(0, 150, recorded).tolist(),
        box_error_proba=[float(rng.random()) if k else None for k in kept],
        box_error_codes=[f"P{rng.integers(1, 4):03d}" if k else None for k in kept],
        box_categories=["hotspot" if k else None for k in kept],
        missed_proba=rng.random(candidates).tolist(),
        missed_codes=[f"M{rng.integers(1, 4):03d}" for _ in range(candidates)],
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), pieces=st.integers(1, 6))
def test_any_split_and_order_of_frames_merges_to_equal_states(seed, pieces):
    rows = random_frames(40, seed)
    whole = aggregate_frames(rows, references={RESULT: REFERENCE})
    rng = np.random.default_rng(seed)
    shuffled = rows[rng.permutation(rows.height)]
    part = rng.integers(0, pieces, rows.height)
    states = [
        aggregate_frames(shuffled.filter(pl.Series(part == i)), references={RESULT: REFERENCE}) for i in range(pieces)
    ]
    assert merge(states).equals(whole)
    assert merge([roll_up(states[0]), *map(roll_up, states[1:])]).equals(roll_up(whole))


def test_days_are_the_sum_of_their_hours():
    states = aggregate_frames(random_frames(60, 3), references={RESULT: REFERENCE})
    days = roll_up(states)
    for name in ("n", "n_frames", "n_boxes", "n_boxes_squared", "n_candidates", "missed_proba_sum"):
        assert days[name].sum() == states[name].sum()
    assert (
        np.sum(days["range_histogram"].to_list(), axis=0).tolist()
        == np.sum(states["range_histogram"].to_list(), axis=0).tolist()
    )


def test_detectors_and_classifiers_merge_side_by_side(make_rows):
    classifier = aggregate(make_rows(50, days=1))
    detector = aggregate_frames(table(frame()))
    both = merge([classifier, detector])
    assert both.filter(pl.col("model_key") == MODEL, pl.col("result_name") == RESULT)["n_frames"].to_list() == [1]
    others = both.filter(pl.col("result_name") != RESULT)
    assert others.equals(merge([classifier]))
    assert others["n_frames"].null_count() == others.height


# --- reading windows ------------------------------------------------------------------------------------------------


def units(per_frame):
    """Reference predictions: (frame, class, score, range, code, is_error)."""
    return pl.DataFrame(
        per_frame,
        schema={
            "input_id": pl.String, "prediction": pl.Int64, "confidence": pl.Float32, "range_m": pl.Float64,
            "error_code": pl.String, "is_error": pl.Boolean,
        },
        orient="row",
    )  # fmt: skip


def test_a_baseline_counts_boxes_by_frame_class_score_range_and_code():
    rows = units([
        ("a", 0, 0.91, 3.0, "P001", False), ("a", 1, 0.91, 7.0, "P002", True), ("b", 0, 0.55, 8.0, "P001", False),
    ])  # fmt: skip
    misses = pl.DataFrame({"error_code": ["M001", "M001", "M002", None], "error_proba": [0.75, 0.5, 0.25, 0.9]})
    baseline = fit_detection_baseline(
        rows, frames=3, misses=misses, missed_categories={"M001": "hotspot"}, model_key=MODEL, result_name=RESULT
    )
    assert (baseline.frames, baseline.n, baseline.boxes_squared) == (3, 3, 5)
    assert baseline.classes == (2, 1)
    assert (baseline.confidence[11], baseline.confidence[18]) == (1, 2)
    assert baseline.ranges[:2] == (1, 2)
    assert baseline.codes == {"P001": 2, "P002": 1}
    assert baseline.missed_codes == {"M001": 1, "M002": 0}
    assert baseline.error_rate == pytest.approx(1 / 3)
    assert Baseline.from_json(baseline.to_json()) == baseline


def test_baselines_of_older_code_can_be_read():
    text = '{"model_key": "m@v1", "result_name": "r", "codes": {"E001": 2}, "classes": [1, 1], "confidence": ' + (
        str([0] * 19 + [2]) + ', "error_rate": 0.5, "unseen_share": 0.0, "categories": {}, "code_names": ["E001"]}'
    )
    assert (Baseline.from_json(text).frames, Baseline.from_json(text).ranges) == (0, ())


def test_the_design_effect_is_the_size_of_the_frames_where_their_boxes_are_all_alike():
    # 100 frames of 4 equal boxes each, two cells: as 100 independent draws, so 4 times the variance
    cells = pl.Series(np.repeat([0, 1] * 50, 4))
    of_frame = np.repeat(np.arange(100), 4)
    assert design_effect(cells, of_frame, 100) == pytest.approx(4 * 100 / 99)
    # every frame holds both cells in the same share: less than independent, never below 1
    assert design_effect(pl.Series([0, 1] * 200), of_frame, 100) == 1.0


def test_the_design_effect_of_independent_boxes_is_one():
    rng = np.random.default_rng(1)
    of_frame = np.sort(rng.integers(0, 2000, 20_000))
    assert design_effect(pl.Series(rng.integers(0, 6, 20_000)), of_frame, 2000) == pytest.approx(1.0, abs=0.06)


def test_windows_of_frames_without_drift_exceed_the_threshold_as_rarely_as_stated():
    rng = np.random.default_rng(0)

    def frames(n):  # every frame has a mix of classes of its own
        return np.stack([rng.multinomial(8, mix) for mix in rng.dirichlet(np.full(4, 0.5), n)])

    over = []
    for _ in range(10):
        reference = frames(300)
        cells = pl.Series(np.concatenate([np.repeat(np.arange(4), row) for row in reference]))
        effect = design_effect(cells, np.repeat(np.arange(300), 8), 300)
        counts = reference.sum(axis=0)
        limits = [drift_threshold(counts.tolist(), 800, design_effect=one) for one in (effect, 1.0)]
        distances = jensen_shannon(np.stack([frames(100).sum(axis=0) for _ in range(40)]), counts)
        over.append([(distances > limit).mean() for limit in limits])
    with_effect, without = np.mean(over, axis=0)
    assert with_effect <= 0.02
    assert without >= 0.15


BASELINE = Baseline(
    model_key=MODEL, result_name=RESULT, codes={"P001": 90, "P002": 10}, classes=(60, 40), error_rate=0.1,
    confidence=(0,) * 15 + (100,) + (0,) * 4, frames=50, boxes_squared=210, ranges=(100, *[0] * 23),
    missed_codes={"M001": 20}, missed_categories={"M001": "hotspot"}, categories={"P001": "operational_coverage"},
)  # fmt: skip


def test_boxes_per_frame_are_a_mean_with_its_interval():
    rows = table(*(frame(i / 10) for i in range(30)), *(frame(i / 10, **EMPTY) for i in range(10)))
    states = aggregate_frames(rows, references={RESULT: REFERENCE})
    row = derive(states, {RESULT: BASELINE}, {RESULT: REFERENCE}).row(0, named=True)
    assert row["detections_per_frame"] == 60 / 40
    half = 1.959963984540054 * np.std([2] * 30 + [0] * 10, ddof=1) / np.sqrt(40)
    assert row["detections_per_frame_low"] == pytest.approx(1.5 - half)
    assert row["detections_per_frame_high"] == pytest.approx(1.5 + half)
    assert row["detections_per_frame_reference"] == 2.0
    usual = 1.959963984540054 * np.sqrt((210 / 50 - 4) * 50 / 49 / 50)
    assert row["detections_ratio"] == pytest.approx(max((1.5 - half) / (2 + usual), (2 - usual) / (1.5 + half)))
    assert (row["range_p05_m"], row["range_p95_m"]) == (2.5, 32.5)


def test_precision_recall_and_f1_are_estimated_by_hand():
    rows = table(*(frame(i / 10) for i in range(40)))
    states = aggregate_frames(rows, references={RESULT: REFERENCE})
    row = derive(states, {RESULT: BASELINE}, {RESULT: REFERENCE}).row(0, named=True)
    # 80 boxes: Σ EP = 30, 40 above 0.45; the worse of 30 and 40 errors counts. 80 candidates: Σ P = 40, 40 above 0.6,
    # and 0.25 misses per frame that none shows: 50 misses.
    assert row["precision_estimated"] == pytest.approx(0.5)
    assert row["recall_estimated"] == pytest.approx(40 / 90)
    assert row["f1_estimated"] == pytest.approx(2 * 0.5 * (4 / 9) / (0.5 + 4 / 9))
    assert row["expected_misses"] == pytest.approx(50.0)
    assert row["precision_low"] < 0.5 < row["precision_high"]
    assert (row["precision_reference"], row["recall_reference"]) == (0.9, 0.9)
    assert row["error_rate_reference"] is None
    assert row["error_rate_estimated"] is None


def test_a_window_without_scored_frames_has_no_estimate():
    states = aggregate_frames(table(frame(**UNSCORED)), references={RESULT: REFERENCE})
    row = derive(states, {RESULT: BASELINE}, {RESULT: REFERENCE}).row(0, named=True)
    empty = ("detections_per_frame", "precision_estimated", "recall_estimated", "expected_misses", "drift_range")
    assert [row[name] for name in empty] == [None] * 5


def test_drift_of_ranges_is_judged_by_independent_frames_not_boxes():
    near = fit_detection_baseline(
        units([(f"f{i}", 0, 0.5, 3.0 + 5 * (i % 2), "P001", False) for i in range(100) for _ in range(10)]),
        frames=100, model_key=MODEL, result_name=RESULT,
    )  # fmt: skip
    assert near.design_effects["range"] == pytest.approx(10 * 100 / 99)
    rows = table(*(frame(i / 10, ranges_m=[3.0, 8.0, 0.0]) for i in range(40)))
    states = aggregate_frames(rows)
    plain = Baseline.from_json(near.to_json().replace('"range": 10.1', '"range": 1.0'))
    row = derive(states, {RESULT: near}).row(0, named=True)
    assert row["drift_range"] == pytest.approx(0.0, abs=1e-6)
    assert row["drift_range_threshold"] > 2 * derive(states, {RESULT: plain})["drift_range_threshold"][0]


def test_codes_of_predictions_and_of_missed_objects_are_two_lists():
    rows = table(*(frame(i / 10) for i in range(40)))
    found = compare_codes(aggregate_frames(rows, references={RESULT: REFERENCE}), {RESULT: BASELINE})
    by_kind = {kind: part.sort("error_code") for (kind,), part in found.group_by("unit_kind")}
    predictions, objects = by_kind["prediction"], by_kind["object"]
    assert predictions["error_code"].to_list() == ["P001", "P002", "UNSEEN"]
    assert predictions["counts"].to_list() == [40, 0, 40]
    assert predictions["share"].to_list() == [0.5, 0.0, 0.5]
    assert predictions["reference_share"].to_list() == [0.9, 0.1, 0.0]
    assert objects.select("error_code", "counts", "n", "category", "mean_error_proba").row(0) == (
        "M001", 40, 40, "hotspot", 0.5,
    )  # fmt: skip
    assert objects["reference_counts"].to_list() == [20]


# --- alerts ---------------------------------------------------------------------------------------------------------


def hours(n_hours, **changes):
    rows = [frame(60 * hour + i / 3, **changes) for hour in range(n_hours) for i in range(120)]
    return aggregate_frames(table(*rows), references={RESULT: REFERENCE})


def rules_fired(states, baseline=BASELINE):
    derived = derive(merge([states, roll_up(states)]), {RESULT: baseline}, {RESULT: REFERENCE})
    alerts = evaluate_alerts(derived).filter(pl.col("state") == "firing")
    return {row["rule"]: row for row in alerts.to_dicts()}


def test_precision_and_recall_below_the_reference_fire_after_two_hours():
    fired = rules_fired(hours(3))
    assert {"estimated_precision", "estimated_recall"} <= set(fired)
    alert = fired["estimated_precision"]
    assert (alert["value"], alert["threshold"], alert["severity"]) == (0.5, 0.9, "critical")
    assert alert["low"] < 0.5 < alert["high"] < 0.9
    assert not {"estimated_precision", "estimated_recall"} & set(rules_fired(hours(1)))


def test_precision_and_recall_as_on_the_reference_are_silent():
    good = hours(3, box_error_proba=[0.1, 0.1, None], missed_proba=[0.0, 0.0])
    assert not {"estimated_precision", "estimated_recall", "estimated_error_rate"} & set(rules_fired(good))


@pytest.mark.parametrize(("boxes", "fires"), [(0, True), (2, False), (4, True)])
def test_boxes_per_frame_out_of_the_reference_fire(boxes, fires):
    changes = EMPTY if not boxes else {
        "scores": [0.5] * boxes, "labels": [0] * boxes, "ranges_m": [3.0] * boxes, "box_error_proba": [0.1] * boxes,
        "box_error_codes": ["P001"] * boxes, "box_categories": ["hotspot"] * boxes,
    }  # fmt: skip
    fired = rules_fired(hours(3, **changes))
    assert ("detections_per_frame" in fired) is fires
    if fires:
        assert fired["detections_per_frame"]["value"] == boxes


def test_a_reevaluation_sees_a_detector_outside_its_reference():
    derived = derive(hours(2), {RESULT: BASELINE}, {RESULT: REFERENCE})
    assert gather_windows(derived, model_key=MODEL, result_name=RESULT)[0] == [True, True]
    good = hours(2, box_error_proba=[0.1, 0.1, None], missed_proba=[0.0, 0.0])
    assert gather_windows(derive(good, {RESULT: BASELINE}, {RESULT: REFERENCE}), model_key=MODEL, result_name=RESULT)[
        0
    ] == [False, False]


@pytest.mark.parametrize(
    ("frames", "missed", "per_frame", "is_told"),
    [
        (10, [], 1.0, True),  # the reference would show 20 candidates, and of 200 frames 200 objects were missed
        (9, [], 0.25, False),
        (10, [0.5], 0.5 + 0.25, False),
    ],
)
def test_a_window_without_candidates_assumes_the_misses_of_the_reference(frames, missed, per_frame, is_told):
    rows = table(*(frame(n, missed_proba=missed, missed_codes=["M001"] * len(missed)) for n in range(frames)))
    states = aggregate_frames(rows, references={RESULT: REFERENCE})
    (row,) = derive(states, {}, {RESULT: REFERENCE}, {}).to_dicts()
    assert row["expected_misses"] == pytest.approx(frames * per_frame)
    assert ("no candidates visible" in row["badges"]) == is_told
