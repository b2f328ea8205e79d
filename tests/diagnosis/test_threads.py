"""Fits run on one native thread wherever they are called; bulk assignment never waits for them."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from mld_pipelines.diagnosis._codebook import nearest_centroids
from mld_pipelines.diagnosis._threads import one_thread, one_thread_if_free


def _threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_pools_run_on_one_thread_inside_and_as_before_after() -> None:
    before = _threads()
    with one_thread():
        assert set(_threads()) == {1}
    assert _threads() == before


def test_pools_of_modules_that_the_block_imports_are_limited_too() -> None:
    """In a process that has not imported them: the first fit would run on all threads, and give other sums."""
    script = (
        "from threadpoolctl import threadpool_info\nfrom mld_pipelines.diagnosis._threads import one_thread\n"
        "with one_thread('sklearn.cluster'):\n    import sklearn.cluster\n"
        "    print(sorted({(pool['user_api'], pool['num_threads']) for pool in threadpool_info()}))"
    )
    env = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60, env=env
    )
    assert run.stdout.strip() == "[('blas', 1), ('openmp', 1)]"


def test_limits_are_restored_after_an_error() -> None:
    before = _threads()
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert _threads() == before


def test_limit_holds_in_any_thread_in_turn() -> None:
    seen: list[set[int]] = []

    def fit() -> None:
        with one_thread():
            seen.append(set(_threads()))

    fit()
    workers = [threading.Thread(target=fit) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(5)
    fit()
    assert seen == [{1}] * 5


def test_bulk_work_does_not_wait_for_a_fit() -> None:
    before, done = _threads(), threading.Event()

    def assign() -> None:
        with one_thread_if_free():
            done.set()

    with one_thread():
        worker = threading.Thread(target=assign)
        worker.start()
        assert done.wait(5)
        worker.join(5)
        assert set(_threads()) == {1}
    assert _threads() == before


def test_bulk_work_is_limited_when_nothing_else_runs() -> None:
    before = _threads()
    with one_thread_if_free():
        assert set(_threads()) == {1}
    assert _threads() == before


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_forked_child_is_not_locked_out() -> None:
    script = (
        "import os, threading\nfrom mld_pipelines.diagnosis._threads import one_thread\n"
        "held, end = threading.Event(), threading.Event()\n"
        "def fit():\n    with one_thread():\n        held.set(); end.wait(20)\n"
        "worker = threading.Thread(target=fit); worker.start(); held.wait(5)\n"
        "child = os.fork()\n"
        "if child == 0:\n    with one_thread():\n        os._exit(7)\n"
        "status = os.waitpid(child, 0)[1]; end.set(); worker.join(); print(os.waitstatus_to_exitcode(status))"
    )
    env = {"PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=30, env=env
    )
    assert run.stdout.strip() == "7", run.stderr


def test_nearest_cell_is_the_same_on_one_and_on_many_threads() -> None:
    rng = np.random.default_rng(0)
    places, centroids = rng.normal(size=(4096, 200)), rng.normal(size=(500, 200)).astype(np.float32)
    with threadpool_limits(limits=1):
        one = nearest_centroids(places, centroids)
    with threadpool_limits(limits=2):
        two = nearest_centroids(places, centroids)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
