"""Training windows: how many, how mixed, with which class frequencies."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mld_pipelines.diagnosis.stress._windows import draw_windows

RNG = np.random.default_rng(0)
LABELS = RNG.choice(4, 3000, p=[0.55, 0.25, 0.15, 0.05])
SETS = np.repeat(np.arange(-1, 5), 500)
FAMILIES = ["a", "a", "b", "b", "c"]
WINDOWS = draw_windows(LABELS, SETS, FAMILIES, n_classes=4)


def test_every_set_gives_five_windows_and_120_are_clean():
    assert Counter(window.family for window in WINDOWS) == {"a": 10, "b": 10, "c": 5, "clean": 120}


def test_sizes_and_shares_are_those_of_the_protocol():
    assert {len(window.rows) for window in WINDOWS} == {200, 500, 2000}
    for window in WINDOWS:
        sets = SETS[window.rows]
        share = (sets >= 0).mean()
        assert len(set(sets[sets >= 0].tolist())) == (0 if window.family == "clean" else 1)
        assert share in ({0.0} if window.family == "clean" else {0.2, 0.4, 0.7, 1.0})
        assert {FAMILIES[s] for s in sets[sets >= 0].tolist()} <= {window.family}


def test_half_of_the_windows_keep_the_class_frequencies_and_half_do_not():
    """Distance to the frequencies of 500 rows; 2,000 draws differ by about 0.02, Dirichlet(1) by about 0.4."""
    base = np.bincount(LABELS[SETS < 0], minlength=4) / 500
    distances = [
        np.abs(np.bincount(LABELS[w.rows], minlength=4) / 2000 - base).sum() / 2
        for w in WINDOWS
        if w.family == "clean" and len(w.rows) == 2000
    ]
    kept = np.mean(np.array(distances) < 0.05)
    assert 0.3 < kept < 0.7


def test_label_shift_draws_a_class_by_its_new_frequency_whatever_its_count():
    """A Dirichlet draw is even on average: over many windows the rare class is no rarer than the others."""
    windows = [w for seed in range(12) for w in draw_windows(LABELS, SETS, FAMILIES, n_classes=4, seed=seed)]
    base = np.bincount(LABELS[SETS < 0], minlength=4) / 500
    shares = np.array([np.bincount(LABELS[w.rows], minlength=4) / len(w.rows) for w in windows if w.family == "clean"])
    shifted = shares[np.abs(shares - base).sum(axis=1) / 2 > 0.1]
    assert shifted.mean(axis=0) == pytest.approx(np.full(4, 0.25), abs=0.05)


def test_the_same_seed_draws_the_same_windows_and_another_seed_others():
    again, other = (draw_windows(LABELS, SETS, FAMILIES, n_classes=4, seed=seed) for seed in (0, 1))
    assert all(np.array_equal(one.rows, two.rows) for one, two in zip(WINDOWS, again, strict=True))
    assert not all(np.array_equal(one.rows, two.rows) for one, two in zip(WINDOWS, other, strict=True))


def test_classes_without_rows_do_not_break_a_shifted_draw():
    windows = draw_windows(np.zeros(600, dtype=np.int64), SETS[::5], FAMILIES, n_classes=1000)
    assert all(len(window.rows) in {200, 500, 2000} for window in windows)
