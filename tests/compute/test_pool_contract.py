"""What holds for every backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mld_pipelines.compute import PoolPolicy, WorkerSpec, open_pool
from mld_pipelines.exceptions import ConfigurationError, InvalidInputError, WorkerPoolError


@pytest.fixture(scope="module")
def policy(backend):
    return PoolPolicy(backend=backend, size=1)


@pytest.fixture(scope="module")
def pool(policy):
    """One pool for the well-behaved half of the tests, which also shows that a pool can be used again."""
    with open_pool(WorkerSpec("pool_workers:Scale", {"factor": 2.0}), policy) as opened:
        yield opened


def batches(*kinds, **extra):
    return [{"values": np.arange(3.0) + index, "kind": kind, **extra} for index, kind in enumerate(kinds)]


def collect(pool, inputs):
    return {result.index: result for result in pool.map(inputs)}


def run(policy, target):
    with open_pool(WorkerSpec(target), policy) as opened:
        return collect(opened, batches("good"))


def test_every_batch_comes_back_once_under_its_own_index(pool):
    results = collect(pool, batches(*["good"] * 23))
    assert sorted(results) == list(range(23))
    for index, result in results.items():
        np.testing.assert_array_equal(result.columns["values"], 2.0 * (np.arange(3.0) + index))


def test_no_batches_give_no_results(pool):
    assert collect(pool, []) == {}


def test_a_function_may_build_the_worker(policy):
    assert run(policy, "pool_workers:make_constant")[0].columns["values"].tolist() == [5]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raise", "ValueError: bad pixels"),
        ("awkward", "AwkwardError: cannot be pickled (7)"),
        ("exit", "SystemExit: 3"),
    ],
)
def test_a_batch_that_raises_is_retried_then_given_up_and_the_others_complete(pool, tmp_path, kind, reason):
    log = tmp_path / "calls.txt"
    kinds = ["good", "good", kind, "good", "good"]
    results = collect(pool, batches(*kinds, log=str(log)))
    assert [results[i].failed for i in range(5)] == [False, False, True, False, False]
    assert results[2].reason == reason
    assert results[2].attempts == 3
    assert Path(log).read_text().split().count(kind) == 3


def test_the_caller_says_how_often_each_batch_may_fail(pool, tmp_path):
    log = tmp_path / "calls.txt"
    given = batches("raise", "good", "exit", log=str(log))
    results = {one.index: one for one in pool.map(given, attempts=lambda batch: 1 if batch["kind"] == "raise" else 2)}
    assert [(results[index].failed, results[index].attempts) for index in range(3)] == [
        (True, 1),
        (False, 1),
        (True, 2),
    ]
    calls = Path(log).read_text().split()
    assert (calls.count("raise"), calls.count("exit")) == (1, 2)


@pytest.mark.parametrize("target", ["make_pickled", "make_list"])
def test_results_that_are_not_numpy_are_refused_with_a_reason(policy, target):
    results = run(policy, f"pool_workers:{target}")
    assert "ContractError" in results[0].reason


def test_results_are_read_only_on_every_backend(pool):
    results = collect(pool, batches("good"))
    with pytest.raises(ValueError, match="read-only"):
        results[0].columns["values"][0] = 1.0


def test_batches_are_drawn_only_as_far_ahead_as_workers_need_them(pool, policy):
    drawn = []

    def source():
        for index, batch in enumerate(batches(*["good"] * 40)):
            drawn.append(index)
            yield batch

    results = pool.map(source())
    next(results)
    assert len(drawn) <= pool.size * policy.in_flight_per_actor + 1
    assert len(list(results)) == 39


def test_an_abandoned_map_does_not_spoil_the_next(pool):
    first = pool.map(batches(*["slow"] * 6))
    next(first)
    first.close()
    second = list(pool.map(batches("good", "good")))
    assert sorted(result.index for result in second) == [0, 1]
    assert not any(result.failed for result in second)


def test_a_worker_that_cannot_be_built_raises_with_the_cause(policy):
    with pytest.raises(WorkerPoolError, match=r"FileNotFoundError: no weights at model\.pt"):
        run(policy, "pool_workers:Unbuildable")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module_here:Worker", "No module named"),
        ("pool_workers:Missing", "has no 'Missing'"),
        ("pool_workers:NOT_CALLABLE", "is a int"),
        ("pool_workers", "not of the form"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_is_wrong(policy, target, message):
    with pytest.raises(WorkerPoolError, match=message):
        run(policy, target)


def test_an_error_of_the_input_itself_reaches_the_caller(pool):
    def source():
        yield from batches("good")
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(pool.map(source()))


def test_params_must_be_json_values():
    with pytest.raises(InvalidInputError, match="JSON"):
        WorkerSpec("pool_workers:Scale", {"factor": object()})


@pytest.mark.parametrize(
    "values",
    [
        {"backend": "threads"},
        {"size": 0},
        {"max_attempts": 0},
        {"batch_timeout_s": float("inf")},
        {"num_gpus": -1.0},
        {"num_cpus": 0.0},
        {"post_size": 0},
        {"post_cpus": -1.0},
        {"working_dir": "no/such/folder"},
    ],
)
def test_a_policy_that_could_hang_or_run_nothing_is_refused(values):
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        PoolPolicy(**values)
