"""Codes: a frozen partition that every door computes alike."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from mld_pipelines.diagnosis import (
    UNSEEN,
    Codebook,
    CodebookFit,
    CodebookIdentity,
    Policy,
    code_histogram,
    code_number,
    cross_fit_codes,
    fit_codebook,
)
from mld_pipelines.diagnosis._codebook import nearest_centroids
from mld_pipelines.diagnosis._codefit import _held_out_codes
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError

POLICY = Policy()
CLASSES = 5


def _identity(width: int = 12, **changes: object) -> CodebookIdentity:
    values: dict[str, object] = {
        "model_name": "net", "fingerprint": "f" * 64, "feature_layer": "fc", "feature_dim": width,
        "output_kind": "logits", "n_classes": CLASSES, "sqrt_p_weight": 2.0,
    }  # fmt: skip
    return CodebookIdentity(**{**values, **changes})  # type: ignore[arg-type]


def _units(n: int, *, seed: int, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, width)) * 3
    label = rng.integers(0, CLASSES, n)
    features = (centres[label] + rng.normal(size=(n, width))).astype(np.float32)
    logits = rng.normal(size=(n, CLASSES)) + 3 * np.eye(CLASSES)[label]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return features, (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def _fit(n: int = 1500, *, seed: int = 0, width: int = 12, policy: Policy = POLICY) -> CodebookFit:
    fit = fit_codebook(*_units(n, seed=seed, width=width), identity=_identity(width), policy=policy)
    assert fit is not None
    return fit


@pytest.fixture(scope="module")
def fit() -> CodebookFit:
    return _fit()


@pytest.mark.parametrize(("n", "codes"), [(60, 8), (400, 8), (625, 13), (3500, 70), (25_600, 512), (1_000_000, 512)])
def test_number_of_codes_follows_the_reference_size(n: int, codes: int) -> None:
    assert code_number(n, policy=POLICY) == codes


def test_names_count_down_by_reference_units(fit: CodebookFit) -> None:
    book = fit.codebook
    assert book.n_codes == 30
    assert book.names[:2] == ("E001", "E002")
    assert book.names[-1] == "E030"
    assert book.next_name == 31
    counted = np.bincount(fit.assignment.nearest, minlength=30)
    np.testing.assert_array_equal(book.reference_counts, counted)
    assert (np.diff(counted) <= 0).all()


def test_place_is_scaled_features_beside_doubled_root_probabilities(fit: CodebookFit) -> None:
    h, p = _units(1500, seed=0)
    u = fit.codebook.space.places(h, p)
    np.testing.assert_allclose((u[:, -CLASSES:] ** 2).sum(axis=1), 4.0, rtol=1e-5)
    axes = u[:, :-CLASSES]
    assert (axes**2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-6)
    # Independent of our axes: retained variance over all variance, from numpy's covariance.
    retained = fit.codebook.space.scale**2 / np.trace(np.cov(h.astype(float).T, bias=True))
    assert 0.95 <= retained < 1.0


def test_nearest_centroid_equals_brute_force(fit: CodebookFit) -> None:
    h, p = _units(300, seed=5)
    u = fit.codebook.space.places(h, p)
    distances = np.linalg.norm(u[:, None] - fit.codebook.centroids[None].astype(float), axis=2)
    assigned = fit.codebook.assign(h, p)
    np.testing.assert_array_equal(assigned.nearest, distances.argmin(axis=1))
    np.testing.assert_allclose(assigned.distance, distances.min(axis=1), rtol=1e-9)


def test_cells_too_close_for_float32_are_told_apart_in_float64() -> None:
    # 2^-13 is 16 float32 steps at 100: the middle is a float32 number, and 1e-9 beside it is not.
    centroids = np.array([[100.0, 0.0], [100.0 + 2**-13, 0.0], [0.0, 0.0]], dtype=np.float32)
    middle = 100.0 + 2**-14
    found, _ = nearest_centroids(np.array([[middle - 1e-9, 0.0], [middle + 1e-9, 0.0]]), centroids)
    assert found.tolist() == [0, 1]


def test_radius_is_the_quantile_inside_the_cell_or_the_maximum_of_a_small_one(fit: CodebookFit) -> None:
    small = 0
    for cell in range(fit.codebook.n_codes):
        inside = fit.assignment.distance[fit.assignment.nearest == cell]
        small += len(inside) < 20
        expected = np.quantile(inside, 0.995) if len(inside) >= 20 else inside.max()
        assert fit.codebook.radii[cell] == pytest.approx(expected)
    assert 0 < small < fit.codebook.n_codes


def test_unit_far_from_the_reference_is_unseen(fit: CodebookFit) -> None:
    h, p = _units(3, seed=1)
    assigned = fit.codebook.assign(h + 100, p)
    assert fit.codebook.code_names(assigned.index).tolist() == [UNSEEN] * 3
    assert (assigned.nearest >= 0).all()


def test_reference_rows_get_the_same_code_again(fit: CodebookFit) -> None:
    again = fit.codebook.assign(*_units(1500, seed=0))
    np.testing.assert_array_equal(again.index, fit.assignment.index)
    np.testing.assert_array_equal(again.distance, fit.assignment.distance)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 799), max_size=6), seed=st.integers(0, 100))
def test_code_does_not_depend_on_batch_or_order(fit: CodebookFit, cuts: list[int], seed: int) -> None:
    h, p = _units(800, seed=2)
    whole = fit.codebook.assign(h, p)
    order = np.random.default_rng(seed).permutation(800)
    for rows in np.split(order, sorted(cuts)):
        part = fit.codebook.assign(h[rows], p[rows])
        np.testing.assert_array_equal(part.index, whole.index[rows])
        np.testing.assert_allclose(part.distance, whole.distance[rows], rtol=1e-12)


def test_refit_gives_the_same_bytes(fit: CodebookFit) -> None:
    assert _fit().codebook.to_bytes() == fit.codebook.to_bytes()


def test_fit_in_another_thread_gives_the_same_bytes(fit: CodebookFit) -> None:
    found: list[CodebookFit] = []
    worker = threading.Thread(target=lambda: found.append(_fit()))
    worker.start()
    worker.join(60)
    assert found[0].codebook.codebook_id == fit.codebook.codebook_id


def test_rows_sorted_by_key_make_the_fit_independent_of_arrival_order(fit: CodebookFit) -> None:
    h, p = _units(1500, seed=0)
    keys = np.arange(1500)
    arrived = np.random.default_rng(4).permutation(1500)
    order = np.argsort(keys[arrived])
    again = fit_codebook(h[arrived][order], p[arrived][order], identity=_identity(), policy=POLICY)
    assert again is not None
    assert again.codebook.codebook_id == fit.codebook.codebook_id


def test_another_process_with_another_hash_seed_writes_the_same_bytes(tmp_path: object, fit: CodebookFit) -> None:
    script = (
        "import sys, hashlib\nfrom mld_pipelines.diagnosis import Codebook\n"
        "book = Codebook.from_bytes(sys.stdin.buffer.read())\nprint(hashlib.sha256(book.to_bytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], input=fit.codebook.to_bytes(), capture_output=True, check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert run.stdout.decode().strip() == fit.codebook.codebook_id


def test_identity_is_the_digest_of_the_artifact(fit: CodebookFit) -> None:
    assert fit.codebook.codebook_id == hashlib.sha256(fit.codebook.to_bytes()).hexdigest()
    assert replace(fit.codebook, unseen_ref=0.5).codebook_id != fit.codebook.codebook_id


@pytest.mark.parametrize("width", [12, 40])
def test_stored_codebook_assigns_the_same_codes(width: int) -> None:
    original = _fit(600, width=width, policy=Policy(feature_limit=16))
    book = Codebook.from_bytes(original.codebook.to_bytes())
    assert book.space.projection.is_identity == (width <= 16)
    h, p = _units(200, seed=8, width=width)
    np.testing.assert_array_equal(book.assign(h, p).index, original.codebook.assign(h, p).index)
    assert book.names == original.codebook.names
    assert book.identity == original.codebook.identity
    assert book.codebook_id == original.codebook.codebook_id


def test_damaged_bytes_are_an_error(fit: CodebookFit) -> None:
    data = bytearray(fit.codebook.to_bytes())
    data[-3] ^= 1
    with pytest.raises(CorruptArtifactError):
        Codebook.from_bytes(bytes(data))
    with pytest.raises(CorruptArtifactError):
        Codebook.from_bytes(b"not an artifact")


def test_unseen_share_is_cross_fitted_and_predicts_held_out_units() -> None:
    book = _fit(3000, seed=1).codebook
    assert isinstance(book.unseen_ref, float)
    in_sample = float(np.mean(book.assign(*_units(3000, seed=1)).index == -1))
    held_out = float(np.mean(book.assign(*_units(20_000, seed=77)).index == -1))
    assert in_sample < 0.75 * held_out
    # A fold has a fifth fewer units per cell, so up to 5/4 as many fall outside; three standard errors on top.
    noise = 3 * (held_out / 3000) ** 0.5
    assert held_out - noise < book.unseen_ref < 1.25 * held_out + noise


def test_cross_fitted_codes_of_a_reused_codebook_equal_those_of_its_fit(fit: CodebookFit) -> None:
    again = cross_fit_codes(fit.codebook, *_units(1500, seed=0), policy=POLICY)
    np.testing.assert_array_equal(again, fit.cross_fitted)


def test_held_out_unit_does_not_widen_the_radius_that_judges_it() -> None:
    cells, folds = np.zeros(4, dtype=np.int64), np.array([0, 0, 1, 1])
    distance = np.array([0.1, 9.0, 0.2, 0.3])
    codes = _held_out_codes([cells, cells], [distance, distance], folds, n_codes=1)
    # Fold 0 is judged by the radius 0.3 of fold 1's units, fold 1 by the radius 9.0 of fold 0's.
    assert codes.tolist() == [0, -1, 0, 0]


def test_cross_fitted_histogram_resembles_held_out_codes(fit: CodebookFit) -> None:
    n = fit.codebook.n_codes
    baseline = code_histogram(fit.cross_fitted, n_codes=n) / 1500
    fresh = code_histogram(fit.codebook.assign(*_units(30_000, seed=3)).index, n_codes=n) / 30_000
    assert baseline.sum() == pytest.approx(1.0)
    assert 0.5 * np.abs(baseline - fresh).sum() < 0.12


def test_histogram_counts_unseen_last() -> None:
    assert code_histogram([0, 2, 2, -1], n_codes=4).tolist() == [1, 0, 2, 0, 1]
    with pytest.raises(InvalidInputError):
        code_histogram([4], n_codes=4)


def test_fewer_than_sixty_units_make_no_codebook() -> None:
    h, p = _units(60, seed=0)
    assert fit_codebook(h[:59], p[:59], identity=_identity(), policy=POLICY) is None
    made = fit_codebook(h, p, identity=_identity(), policy=POLICY)
    assert made is not None
    assert made.codebook.n_codes == 8


@pytest.mark.parametrize(
    "change",
    [
        {"model_name": "x"},
        {"fingerprint": "0"},
        {"feature_layer": "x"},
        {"feature_dim": 13},
        {"output_kind": "x"},
        {"sqrt_p_weight": 1.0},
    ],
)
def test_reuse_needs_every_part_of_the_identity(fit: CodebookFit, change: dict[str, object]) -> None:
    assert fit.codebook.fits(_identity())
    assert not fit.codebook.fits(_identity(**change))


def test_cells_survive_a_bootstrap_refit_better_than_chance(fit: CodebookFit) -> None:
    other = _fit(1500, seed=11)
    h, p = _units(2000, seed=12)
    first, second = (x.codebook.assign(h, p).nearest for x in (fit, other))
    assert adjusted_rand_score(first, second) > 0.3


@pytest.mark.parametrize("kind", ["constant features", "constant all", "two places"])
def test_degenerate_references_still_partition(kind: str) -> None:
    h, p = _units(120, seed=0)
    h = np.ones_like(h)
    if kind != "constant features":
        p = np.full_like(p, 1 / CLASSES)
    if kind == "two places":
        h[60:] = 2
    made = fit_codebook(h, p, identity=_identity(), policy=POLICY)
    assert made is not None
    assert made.codebook.n_codes == {"constant features": 8, "constant all": 1, "two places": 2}[kind]
    assert (made.assignment.index >= 0).mean() > 0.9
    np.testing.assert_array_equal(made.codebook.assign(h, p).index, made.assignment.index)


def test_bounded_sample_assigns_every_row() -> None:
    policy = Policy(codebook_fit_limit=600, codes_max=20)
    made = _fit(2500, policy=policy)
    assert made.codebook.n_codes == 20
    assert made.codebook.reference_counts.sum() == 2500
    assert len(made.cross_fitted) == 2500


def test_empty_batch_has_no_codes(fit: CodebookFit) -> None:
    empty = fit.codebook.assign(np.empty((0, 12), np.float32), np.empty((0, CLASSES)))
    assert empty.index.shape == (0,)


@pytest.mark.parametrize(
    ("h", "p"),
    [
        (np.zeros((2, 11)), np.full((2, 5), 0.2)), (np.zeros((2, 12)), np.full((3, 5), 0.2)),
        (np.zeros((2, 12)), np.full((2, 4), 0.25)), (np.full((2, 12), np.nan), np.full((2, 5), 0.2)),
        (np.zeros((2, 12)), np.full((2, 5), np.nan)), (np.zeros((2, 12)), np.full((2, 5), 3.0)),
    ],
)  # fmt: skip
def test_bad_batch_is_an_error(fit: CodebookFit, h: np.ndarray, p: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        fit.codebook.assign(h, p)
