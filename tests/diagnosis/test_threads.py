"""Thread limits are set once and restored by the last one out; codes do not depend on them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from mld_pipelines.diagnosis._codebook import nearest_centroids
from mld_pipelines.diagnosis._threads import one_thread


def _threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_pools_run_on_one_thread_inside_and_as_before_after() -> None:
    before = _threads()
    with one_thread():
        assert set(_threads()) == {1}
    assert _threads() == before


def test_limits_are_restored_after_an_error() -> None:
    before = _threads()
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert _threads() == before


def test_thread_that_leaves_first_does_not_lift_the_limit_of_another() -> None:
    before = _threads()

    def visit() -> None:
        with one_thread():
            pass

    with one_thread():
        worker = threading.Thread(target=visit)
        worker.start()
        worker.join(5)
        assert set(_threads()) == {1}
    assert _threads() == before


def test_nearest_cell_is_the_same_on_one_and_on_many_threads() -> None:
    rng = np.random.default_rng(0)
    places, centroids = rng.normal(size=(4096, 200)), rng.normal(size=(500, 200)).astype(np.float32)
    with threadpool_limits(limits=1):
        one = nearest_centroids(places, centroids)
    with threadpool_limits(limits=2):
        two = nearest_centroids(places, centroids)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
