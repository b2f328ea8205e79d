"""Fitting a detector's estimators: cross-fitting by frame, the acceptance rule, windows that hold the truth."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mld_pipelines.diagnosis import (
    DETECTION_SCORE_NAMES,
    DetectionEstimator,
    Policy,
    detection_window_state,
    estimate_detection_window,
    fit_detection_estimator,
    select_detection_bank,
    split_detections,
)
from mld_pipelines.diagnosis.detection._compare import FrameSums, draw_windows
from mld_pipelines.diagnosis.detection._reference import fit_rates
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError
from mld_pipelines.records import Detections3D, Truths3D
from tests.support.detections import in_order
from tests.support.detector_simulation import N_CLASSES, THRESHOLDS, simulate

ROOT = Path(__file__).parents[2]


def fit(world, frames=None, **changes):
    given = {
        "is_error": world.is_error,
        "truths": world.truths,
        "is_missed": world.is_missed,
        "thresholds": THRESHOLDS,
        "n_classes": N_CLASSES,
        "keys": world.keys,
        **changes,
    }
    return fit_detection_estimator(world.frames if frames is None else frames, **given)


@pytest.fixture(scope="module")
def world():
    return simulate(150, seed=1)


@pytest.fixture(scope="module")
def fitted(world):
    return fit(world)


@pytest.fixture(scope="module")
def candid():
    """A detector whose score says all there is to know: outcomes are drawn from it."""
    frames = simulate(150, seed=3)
    frames.frames = split_detections(frames.recorded, None, thresholds=THRESHOLDS)
    chance = frames.frames.kept.scores.astype(float)
    frames.is_error = np.random.default_rng(3).random(len(chance)) > (chance - 0.3) / 0.7
    return frames


def test_error_probabilities_rank_better_than_the_score_and_are_calibrated(world, fitted):
    assert fitted.estimator.mode == "monotone"
    auroc = roc_auc_score(world.is_error, fitted.error_proba)
    score = roc_auc_score(world.is_error, -world.frames.kept.scores)
    assert auroc >= score + 0.02
    assert fitted.diagnostics["error_proba_auroc"] == pytest.approx(auroc)
    assert fitted.diagnostics["confidence_auroc"] == pytest.approx(score)
    assert fitted.error_proba.mean() == pytest.approx(world.is_error.mean(), abs=0.01)


def test_the_estimator_ranks_frames_it_has_never_seen(world, fitted):
    other = simulate(150, seed=2)
    proba = fitted.estimator.error_proba(fitted.estimator.risk_scores(other.frames))
    expected = roc_auc_score(world.is_error, fitted.error_proba)
    assert roc_auc_score(other.is_error, proba) == pytest.approx(expected, abs=0.03)


def test_the_scores_of_a_box_hold_no_outcome_of_its_frame():
    world = simulate(60, seed=1)  # few enough for all of them to be in the bank
    fitted, kept = fit(world), world.frames.kept
    for frame in range(kept.frames):
        rows = np.arange(kept.offsets[frame], kept.offsets[frame + 1])
        wrong, right = rows[world.is_error[rows]], rows[~world.is_error[rows]]
        if len(wrong) and len(right):
            break
    swapped = world.is_error.copy()
    swapped[[wrong[0], right[0]]] = [False, True]  # the number of errors stays
    again = fit(world, is_error=swapped)
    assert again.risk_scores[rows] == pytest.approx(fitted.risk_scores[rows], rel=1e-6, nan_ok=True)
    # what is left: neighbours of training rows count the two outcomes
    assert again.error_proba[rows] == pytest.approx(fitted.error_proba[rows], abs=0.02)
    others = np.delete(again.risk_scores - fitted.risk_scores, rows, axis=0)
    assert np.abs(others[:, DETECTION_SCORE_NAMES.index("dis")]).max() >= 0.09


def test_the_order_of_the_frames_changes_nothing(world, fitted):
    order = np.random.default_rng(0).permutation(150)
    rows = np.concatenate([np.arange(world.recorded.offsets[f], world.recorded.offsets[f + 1]) for f in order])
    kept_rows = np.concatenate(
        [np.arange(world.frames.kept.offsets[f], world.frames.kept.offsets[f + 1]) for f in order]
    )
    truth_rows = np.concatenate([np.arange(world.truths.offsets[f], world.truths.offsets[f + 1]) for f in order])
    frames = split_detections(
        in_order(world.recorded, order),
        in_order(world.suppressed, order),
        thresholds=THRESHOLDS,
        class_scores=world.class_scores[rows],
        class_space="sigmoid",
        features=world.features[rows],
    )
    again = fit(
        world,
        frames,
        is_error=world.is_error[kept_rows],
        truths=in_order(world.truths, order),
        is_missed=world.is_missed[truth_rows],
        keys=[world.keys[f] for f in order],
    )
    assert again.estimator.to_bytes() == fitted.estimator.to_bytes()
    assert again.error_proba.tolist() == fitted.error_proba[kept_rows].tolist()
    assert again.window_reference == fitted.window_reference


def test_the_same_frame_twice_stays_in_one_fold(world):
    keys = list(world.keys)
    keys[1] = keys[0]
    from mld_pipelines.diagnosis.detection._reference import DetectionReference

    reference = DetectionReference.of(
        world.frames, world.is_error, world.truths, world.is_missed, keys=keys, n_folds=5, seed=0
    )
    assert reference.folds[0] == reference.folds[1]
    assert np.bincount(reference.folds).min() >= 29


def test_platt_is_a_logistic_regression_on_the_score(candid):
    honest = fit(candid)
    assert honest.estimator.mode == "platt"
    assert "confidence is the better score" in honest.estimator.badges
    scores = honest.risk_scores[:, 0]
    z = ((scores - scores.mean()) / scores.std())[:, None]
    peer = LogisticRegression(C=1.0, tol=1e-10).fit(z, candid.is_error)
    proba = honest.estimator.error_proba(honest.risk_scores)
    assert proba == pytest.approx(peer.predict_proba(z)[:, 1], abs=1e-5)


@pytest.mark.parametrize(("outcome", "badge"), [(False, "no errors seen"), (True, "no successes seen")])
def test_one_outcome_alone_allows_a_prior_only(world, outcome, badge):
    result = fit(world, is_error=np.full(len(world.frames), outcome))
    n = len(world.frames)
    assert result.estimator.mode == "prior"
    assert badge in result.estimator.badges
    proba = result.estimator.error_proba(result.risk_scores)
    assert proba.mean() == pytest.approx(((n if outcome else 0) + 0.5) / (n + 1.0))


def test_few_errors_show_the_score_only(world):
    few = np.zeros(len(world.frames), bool)
    few[np.flatnonzero(world.is_error)[:9]] = True
    result = fit(world, is_error=few)
    assert result.estimator.mode == "platt"
    assert result.estimator.badges == ("few errors",)


def test_few_boxes_allow_a_prior_only():
    small = simulate(5, seed=4)
    assert len(small.frames) < 60
    result = fit(small)
    assert result.estimator.mode == "prior"
    assert "few units" in result.estimator.badges


def test_a_detector_that_keeps_nothing_has_an_estimator(world):
    frames = split_detections(world.recorded, world.suppressed, thresholds=np.full(N_CLASSES, 0.9999))
    result = fit(world, frames, is_error=np.empty(0, bool), is_missed=np.ones(len(world.truths), bool))
    again = DetectionEstimator.from_bytes(result.estimator.to_bytes())
    proba = again.error_proba(again.risk_scores(world.frames))
    assert proba == pytest.approx(1.0 - world.frames.kept.scores, abs=1e-6)
    state = detection_window_state(result.window_reference, result.error_proba, result.misses)
    estimate = estimate_detection_window(state, result.window_reference)
    assert estimate.precision is None
    assert estimate.recall == 0.0


def test_frames_without_truths_or_detections_have_an_estimator():
    nothing = {"boxes": np.empty((0, 7)), "labels": np.empty(0, int)}
    frames = split_detections(
        Detections3D.from_frames([nothing | {"scores": np.empty(0, np.float32)}] * 30), None, thresholds=THRESHOLDS
    )
    result = fit_detection_estimator(
        frames,
        is_error=np.empty(0, bool),
        truths=Truths3D.from_frames([nothing] * 30),
        is_missed=np.empty(0, bool),
        thresholds=THRESHOLDS,
        n_classes=N_CLASSES,
        keys=[str(frame) for frame in range(30)],
    )
    assert result.misses.expected.sum() == 0.0
    assert DetectionEstimator.from_bytes(result.estimator.to_bytes()).to_bytes() == result.estimator.to_bytes()


def test_without_candidates_every_miss_is_assumed(world):
    high = world.recorded.take(world.frames.rows)
    frames = split_detections(
        high, None, thresholds=THRESHOLDS, class_scores=world.frames.class_scores, class_space="sigmoid",
        features=world.frames.features,
    )  # fmt: skip
    result = fit(world, frames)
    assert result.diagnostics["n_clusters"] == 0
    assert result.diagnostics["miss_mode"] == "none"
    assert result.misses.expected.sum() == pytest.approx(world.is_missed.sum(), rel=0.01)
    state = detection_window_state(result.window_reference, result.error_proba, result.misses)
    estimate = estimate_detection_window(state, result.window_reference)
    assert "no candidates visible" in estimate.badges
    assert estimate.recall == pytest.approx(world.recall, abs=0.03)


def test_codes_enter_with_their_own_frame_left_out(world, fitted):
    codes = np.where(world.is_error, 0, 1)  # a code that knows everything
    coded = fit(world, codes=codes, n_codes=3)
    place = DETECTION_SCORE_NAMES.index("code")
    assert coded.estimator.model.weights[place] > 0.5
    kept = world.frames.kept
    row = int(np.flatnonzero(world.is_error)[0])
    rest = kept.frame_index != kept.frame_index[row]
    n, rate = int((rest & world.is_error).sum()), world.is_error.mean()
    share = (n + 4 * rate) / (n + 4)
    assert coded.risk_scores[row, place] == pytest.approx(np.log(share / (1 - share)), abs=1e-5)
    with pytest.raises(InvalidInputError, match="needs the code"):
        coded.estimator.risk_scores(world.frames)


def test_rates_leave_out_the_own_frame():
    cells = np.array([0, 0, 0, 1, -1])
    outcomes = np.array([True, False, True, True, False])
    rates, scores = fit_rates(cells, outcomes, np.array([0, 0, 1, 1, 1]), n_cells=2)
    assert rates.errors.tolist() == [2, 1]
    expected = [(1 + 4 * 0.6) / 5, (1 + 4 * 0.6) / 5, (1 + 4 * 0.6) / 6, 0.6, 0.6]
    assert 1 / (1 + np.exp(-scores)) == pytest.approx(expected)


def test_a_bank_of_other_frames_serves_instead_of_the_reference(world, fitted):
    other = simulate(150, seed=9)
    bank = select_detection_bank(other.frames, is_error=other.is_error, keys=other.keys)
    result = fit(world, bank=bank)
    assert result.estimator.to_bytes() != fitted.estimator.to_bytes()
    assert result.diagnostics["error_proba_auroc"] == pytest.approx(fitted.diagnostics["error_proba_auroc"], abs=0.02)


def test_a_bank_of_another_layer_is_refused(world):
    bank = select_detection_bank(world.frames, is_error=world.is_error, keys=world.keys)
    with pytest.raises(InvalidInputError, match="columns"):
        fit(world, bank=replace(bank, features=bank.features[:, :3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_error": np.zeros(3, bool)}, "outcomes of kept boxes"),
        ({"is_missed": np.zeros(3, bool)}, "outcomes of truths"),
        ({"keys": ["a"]}, "keys"),
        ({"n_classes": 4}, "3 thresholds for 4 classes"),
        ({"codes": np.zeros(3, int), "n_codes": 1}, "codes have shape"),
    ],
)
def test_what_does_not_fit_is_refused(world, changes, message):
    with pytest.raises(InvalidInputError, match=message):
        fit(world, **changes)


def test_no_frames_are_refused():
    nothing = split_detections(Detections3D(offsets=[0], boxes=[], labels=[], scores=[]), None, thresholds=THRESHOLDS)
    with pytest.raises(InvalidInputError, match="no frames"):
        fit_detection_estimator(
            nothing, is_error=np.empty(0, bool), truths=Truths3D(offsets=[0], boxes=[], labels=[]),
            is_missed=np.empty(0, bool), thresholds=THRESHOLDS, n_classes=N_CLASSES, keys=[],
        )  # fmt: skip


def test_an_estimator_survives_its_bytes(world, fitted):
    again = DetectionEstimator.from_bytes(fitted.estimator.to_bytes())
    assert again.to_bytes() == fitted.estimator.to_bytes()
    assert (again.mode, again.badges, again.feature_dim) == (fitted.estimator.mode, fitted.estimator.badges, 6)
    scores = again.risk_scores(world.frames, keys=world.keys)
    assert scores.tobytes() == fitted.estimator.risk_scores(world.frames, keys=world.keys).tobytes()
    assert np.array_equal(
        again.expected_misses(world.frames).proba, fitted.estimator.expected_misses(world.frames).proba
    )


def test_damaged_bytes_are_refused(fitted):
    data = bytearray(fitted.estimator.to_bytes())
    data[-1] ^= 1
    with pytest.raises(CorruptArtifactError, match="checksum"):
        DetectionEstimator.from_bytes(bytes(data))


def test_fitting_twice_gives_the_same_bytes(world, fitted):
    assert fit(world, policy=Policy()).estimator.to_bytes() == fitted.estimator.to_bytes()


def digest():
    """SHA-256 of the artifacts of a reference with features that are projected."""
    world = simulate(80, seed=11, width=80)
    result = fit(world)
    return hashlib.sha256(result.estimator.to_bytes() + result.window_reference.to_bytes()).hexdigest()


def test_artifacts_are_equal_across_processes_and_thread_counts():
    script = "from tests.diagnosis.test_detection_fit import digest; print(digest())"
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    run = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120,
        env={**os.environ, **threads, "PYTHONHASHSEED": "2"}, cwd=ROOT,
    )  # fmt: skip
    assert run.stdout.strip() == digest()


def test_the_window_reference_counts_the_reference(world, fitted):
    reference = fitted.window_reference
    assert (reference.frames, reference.boxes) == (150, len(world.frames))
    assert reference.precision == pytest.approx(world.precision)
    assert reference.recall == pytest.approx(world.recall)
    assert (fitted.error_proba.astype(np.float32) > reference.threshold_ep).mean() == pytest.approx(
        world.is_error.mean(), abs=0.01
    )


@pytest.fixture(scope="module")
def windows(fitted):
    """Windows of 60 frames of the same world: what is true, what is estimated, what the mean score says."""
    rows = []
    for seed in range(100, 160):
        window = simulate(60, seed=seed)
        proba = fitted.estimator.error_proba(fitted.estimator.risk_scores(window.frames))
        misses = fitted.estimator.expected_misses(window.frames)
        state = detection_window_state(fitted.window_reference, proba, misses)
        rows.append((window.precision, window.recall, estimate_detection_window(state, fitted.window_reference),
                     float(window.frames.kept.scores.mean())))  # fmt: skip
    return rows


@pytest.mark.parametrize("name", ["precision", "recall"])
def test_intervals_at_ninety_percent_hold_the_truth_in_eighty_five_of_a_hundred_windows(windows, name):
    place = 0 if name == "precision" else 1
    held = [getattr(row[2], f"{name}_low") <= row[place] <= getattr(row[2], f"{name}_high") for row in windows]
    assert np.mean(held) >= 0.85


def test_windows_come_out_nearer_than_with_the_mean_score(windows):
    truth = np.array([row[0] for row in windows])
    estimated = np.abs(np.array([row[2].precision for row in windows]) - truth).mean()
    naive = np.abs(np.array([row[3] for row in windows]) - truth).mean()
    assert estimated < 0.03
    assert estimated < naive


def test_a_window_full_of_ghosts_has_a_lower_precision(fitted):
    ghostly = simulate(60, seed=7, ghosts=6.0)
    proba = fitted.estimator.error_proba(fitted.estimator.risk_scores(ghostly.frames))
    misses = fitted.estimator.expected_misses(ghostly.frames)
    state = detection_window_state(fitted.window_reference, proba, misses)
    estimate = estimate_detection_window(state, fitted.window_reference)
    assert estimate.precision_high < fitted.window_reference.precision
    assert abs(estimate.precision - ghostly.precision) < 0.5 * (fitted.window_reference.precision - ghostly.precision)


def test_the_diagnostics_compare_with_the_mean_score(fitted):
    for name in ("precision_mae", "recall_mae"):
        apart = fitted.diagnostics[name]
        assert set(apart) == {"mean_score", "platt", "monotone"}
        assert apart["monotone"] < apart["mean_score"]


def test_windows_of_the_comparison_measure_exactly_what_is_true():
    rng = np.random.default_rng(0)
    boxes, objects = rng.integers(5, 15, 40).astype(float), rng.integers(10, 20, 40).astype(float)
    errors = np.minimum(rng.integers(0, 5, 40), boxes).astype(float)
    sums = FrameSums(boxes, errors, objects)
    drawn = draw_windows(sums, seed=0)
    assert drawn.of_precision(errors) == 0.0
    assert drawn.of_recall(errors, objects - (boxes - errors)) == pytest.approx(0.0, abs=1e-12)
    assert (drawn.draws.sum(axis=1) == 10).all()
    window = drawn.draws[0]
    wrong = [abs(w @ (errors + 1.0) - w @ errors) / (w @ boxes) for w in drawn.draws]
    assert drawn.of_precision(errors + 1.0) == pytest.approx(np.mean(wrong))
    assert window.sum() == 10
