"""What only separate processes can promise."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest

from mld_pipelines.compute import PoolPolicy, StageSpec, WorkerSpec, open_pipeline, open_pool
from mld_pipelines.exceptions import WorkerPoolError

pytestmark = pytest.mark.ray

LOCAL = PoolPolicy(backend="local", size=2)
STAGES = [
    StageSpec("trace", WorkerSpec("pool_workers:Scale")),
    StageSpec("post", WorkerSpec("pool_workers:Reduce")),
]


def batches(*kinds, **extra):
    return [{"values": np.arange(3.0) + index, "kind": kind, **extra} for index, kind in enumerate(kinds)]


def run(spec, inputs, policy=LOCAL):
    with open_pool(spec, policy) as pool:
        return {result.index: result for result in pool.map(inputs)}


def test_a_batch_that_kills_its_worker_is_given_up_and_every_other_completes(local_ray, tmp_path):
    log = tmp_path / "calls.txt"
    kinds = ["kill" if index in {4} else "good" for index in range(20)]
    results = run(WorkerSpec("pool_workers:Scale"), batches(*kinds, log=str(log)))
    assert [index for index in range(20) if results[index].failed] == [4]
    assert "worker process died" in results[4].reason
    # a neighbour whose answer got lost in a crash is blamed once, never into quarantine
    assert max(result.attempts for index, result in results.items() if index != 4) <= 2
    assert Path(log).read_text().split().count("kill") >= 3
    np.testing.assert_array_equal(results[19].columns["values"], np.arange(3.0) + 19)


def test_workers_outlive_more_deaths_than_ray_restarts_by_itself(local_ray):
    policy = dataclasses.replace(LOCAL, size=1, max_attempts=1)
    results = run(WorkerSpec("pool_workers:Scale"), batches(*["kill"] * 4, "good"), policy)
    assert [results[index].failed for index in range(5)] == [True] * 4 + [False]


def test_a_hanging_batch_is_given_up_after_its_time(local_ray):
    policy = dataclasses.replace(LOCAL, size=1, max_attempts=1, batch_timeout_s=3.0)
    results = run(WorkerSpec("pool_workers:Scale"), batches("good", "hang", "good"), policy)
    assert [results[index].failed for index in range(3)] == [False, True, False]
    assert "batch_timeout_s" in results[1].reason


def test_a_worker_whose_process_dies_while_built_raises(local_ray):
    with pytest.raises(WorkerPoolError, match="dies while it is being built"):
        run(WorkerSpec("pool_workers:DiesWhileBuilt"), batches("good"), dataclasses.replace(LOCAL, size=1))


def test_a_worker_that_never_gets_ready_raises_instead_of_hanging(local_ray):
    policy = dataclasses.replace(LOCAL, start_timeout_s=1.5)
    with pytest.raises(WorkerPoolError, match="start_timeout_s"):
        run(WorkerSpec("pool_workers:HangsWhileBuilt"), batches("good"), policy)


def test_a_machine_without_room_is_named_instead_of_hanging(local_ray):
    with pytest.raises(WorkerPoolError, match=r"1 GPU, Ray has .* 0 of 0 GPU"):
        run(WorkerSpec("pool_workers:Scale"), batches("good"), dataclasses.replace(LOCAL, num_gpus=1.0))
    total = local_ray.cluster_resources()["CPU"]
    with pytest.raises(WorkerPoolError, match=f"needs {total + 1:g} CPU"):
        run(WorkerSpec("pool_workers:Scale"), batches("good"), dataclasses.replace(LOCAL, num_cpus=total + 1))


def test_the_pool_never_asks_for_more_workers_than_there_is_room(local_ray):
    total = int(local_ray.cluster_resources()["CPU"])
    with open_pool(WorkerSpec("pool_workers:Scale"), dataclasses.replace(LOCAL, size=total + 3)) as pool:
        assert pool.size == total
        assert len(list(pool.map(batches(*["good"] * 5)))) == 5


def test_the_known_size_of_the_input_bounds_the_workers(local_ray):
    with open_pool(WorkerSpec("pool_workers:Scale"), PoolPolicy(backend="local"), n_batches=1) as pool:
        assert pool.size == 1


def test_workers_are_other_processes_with_one_thread_each(local_ray):
    columns = run(WorkerSpec("pool_workers:make_environment"), batches("good"))[0].columns
    assert columns["polars"].tolist() == [1]
    assert columns["torch"].tolist() == [1]
    assert columns["process"].tolist() != [os.getpid()]


def test_a_closed_pool_gives_its_cpus_back_and_leaves_a_ray_it_found_running(local_ray):
    for _ in range(2):
        assert len(run(WorkerSpec("pool_workers:Scale"), batches("good", "good"))) == 2
    until = time.monotonic() + 30
    while local_ray.available_resources().get("CPU") != local_ray.cluster_resources()["CPU"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert local_ray.is_initialized()  # found running, left running


def test_stages_that_do_not_fit_together_are_named_instead_of_waited_for(local_ray):
    total = local_ray.cluster_resources()["CPU"]
    greedy = [dataclasses.replace(STAGES[0], num_cpus=total), STAGES[1]]
    began = time.monotonic()
    with (
        pytest.raises(WorkerPoolError, match=f"they need {total:g} CPU and 0 GPU \\+ 1 CPU and 0 GPU"),
        open_pipeline(greedy, PoolPolicy(backend="local")),
    ):
        pass
    assert time.monotonic() - began < 10


def test_stages_share_what_is_free_in_turns(local_ray):
    total = int(local_ray.cluster_resources()["CPU"])
    with open_pipeline(STAGES, PoolPolicy(backend="local")) as opened:
        assert dict(opened.sizes) == {"trace": total - total // 2, "post": total // 2}


def test_a_batch_that_kills_the_later_worker_spares_the_others(local_ray):
    policy = PoolPolicy(backend="local", max_attempts=2)
    with open_pipeline(STAGES, policy) as opened:
        results = {result.index: result for result in opened.map(batches("good", "good", "late-kill", "good", "good"))}
    assert [results[index].failed for index in range(5)] == [False, False, True, False, False]
    assert results[2].reason.startswith("stage post: the worker process died")
