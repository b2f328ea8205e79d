from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.windows import drift_threshold, jensen_shannon
from mld_pipelines.windows._drift import _bucket

counts = st.lists(st.integers(0, 1000), min_size=5, max_size=5).filter(lambda c: sum(c) > 0)


@given(counts, counts)
def test_distance_equals_scipy(p: list[int], q: list[int]) -> None:
    assert float(jensen_shannon(p, q)) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)


def test_distance_is_zero_for_equal_and_one_for_disjoint_histograms() -> None:
    assert float(jensen_shannon([2, 4, 0], [1, 2, 0])) == pytest.approx(0.0, abs=1e-7)
    assert float(jensen_shannon([5, 0], [0, 3])) == pytest.approx(1.0)


def test_distance_to_an_empty_histogram_is_undefined() -> None:
    assert np.isnan(jensen_shannon([0, 0], [1, 2]))


def _world(seed: int, cells: int = 60) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, rng.dirichlet(np.full(cells, 2.0))


@pytest.mark.parametrize("n", [30, 200, 1000, 2000])
def test_held_out_windows_fire_at_most_at_the_stated_rate(n: int) -> None:
    """The reference and every window are independent draws of the same world (40 references)."""
    fired = []
    for seed in range(40):
        rng, truth = _world(seed)
        reference = rng.multinomial(3000, truth)
        limit = drift_threshold(reference.tolist(), n)
        windows = rng.multinomial(n, truth, size=50)
        fired.append((jensen_shannon(windows, reference) > limit).mean())
    # 1 % stated; 2,000 windows in 40 correlated groups: 3 standard errors of the mean rate
    assert np.mean(fired) <= 0.01 + 3 * np.std(fired) / np.sqrt(len(fired)) + 0.002


@pytest.mark.feature("M10")
@pytest.mark.parametrize(("n", "power"), [(200, 0.75), (1000, 0.99)])
def test_planted_drift_fires(n: int, power: float) -> None:
    """29 % of the units moved into 6 of 60 cells; 200 units over 60 cells leave one window in six undetected."""
    rng, truth = _world(1)
    reference = rng.multinomial(3000, truth)
    moved = truth.copy()
    moved[:6] += 0.4 / 6
    windows = rng.multinomial(n, moved / moved.sum(), size=100)
    assert (jensen_shannon(windows, reference) > drift_threshold(reference.tolist(), n)).mean() >= power


def test_threshold_falls_with_the_window_and_repeats_exactly() -> None:
    reference = _world(2)[1] * 3000
    limits = [drift_threshold(reference.astype(int).tolist(), n) for n in (30, 100, 500, 2000)]
    assert limits == sorted(limits, reverse=True)
    assert limits == [drift_threshold(reference.astype(int).tolist(), n) for n in (30, 100, 500, 2000)]


def test_threshold_is_the_percentile_of_independent_pairs() -> None:
    """Same definition by brute force with another generator."""
    reference = np.array([500, 300, 150, 50])
    rng = np.random.RandomState(7)
    shares = reference / reference.sum()
    pairs = [jensenshannon(rng.multinomial(1000, shares), rng.multinomial(120, shares), base=2) for _ in range(4000)]
    assert drift_threshold(reference.tolist(), 120) == pytest.approx(np.quantile(pairs, 0.99), rel=0.1)


@given(st.integers(1, 10**7))
def test_bucket_is_at_most_the_window_and_at_least_four_fifths_of_it(n: int) -> None:
    assert 0.8 * n <= _bucket(n) <= n


def test_an_empty_reference_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="reference has 0"):
        drift_threshold([0, 0], 100)
