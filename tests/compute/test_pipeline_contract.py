"""What holds for stages in a row on every backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mld_pipelines.compute import PoolPolicy, StageSpec, WorkerSpec, open_pipeline
from mld_pipelines.exceptions import ConfigurationError, WorkerPoolError

MAKE = WorkerSpec("pool_workers:Scale", {"factor": 2.0})
SUM = WorkerSpec("pool_workers:Reduce")


def stages(first=MAKE, second=SUM):
    """Two stages, small enough that two pipelines fit into two CPUs."""
    return [StageSpec("trace", first, size=1, num_cpus=0.4), StageSpec("post", second, size=1, num_cpus=0.4)]


@pytest.fixture(scope="module")
def policy(backend):
    return PoolPolicy(backend=backend, start_timeout_s=60)


@pytest.fixture(scope="module")
def pipeline(policy):
    with open_pipeline(stages(), policy) as opened:
        yield opened


def batches(*kinds, **extra):
    """Batches whose arrays are large enough to lie in shared memory (Ray sends less than 100 kB by value)."""
    return [{"values": np.arange(40_000.0) + index, "kind": kind, **extra} for index, kind in enumerate(kinds)]


def collect(pipeline, inputs):
    return {result.index: result for result in pipeline.map(inputs)}


def test_what_the_last_stage_made_comes_back_under_the_batchs_own_index(pipeline, policy):
    results = collect(pipeline, batches(*["good"] * 15))
    assert sorted(results) == list(range(15))
    for index, result in results.items():
        assert set(result.columns) == {"sum", "process", "earlier", "is_view"}
        assert result.columns["sum"].tolist() == [2.0 * (np.arange(40_000.0) + index).sum()]
        assert (result.failed, result.attempts) == (False, 1)
    assert (pipeline.backend, dict(pipeline.sizes)) == (policy.backend, {"trace": 1, "post": 1})


def test_a_later_stage_reads_the_arrays_of_the_earlier_without_a_copy(pipeline):
    columns = collect(pipeline, batches("good"))[0].columns
    assert columns["is_view"].all()  # read-only, and borrowed from memory that is not its own


def test_stages_run_in_processes_of_their_own_on_ray(pipeline, policy):
    columns = collect(pipeline, batches("good"))[0].columns
    assert (columns["process"] != columns["earlier"]).all() == (policy.backend != "inline")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("raise", "stage trace: ValueError: bad pixels"), ("late", "stage post: ValueError: bad boxes")],
)
def test_a_failing_batch_is_retried_in_its_stage_then_reported_with_it(pipeline, tmp_path, kind, reason):
    log = tmp_path / "calls.txt"
    results = collect(pipeline, batches("good", kind, "good", "good", log=str(log)))
    assert [results[index].failed for index in range(4)] == [False, True, False, False]
    assert (results[1].reason, results[1].attempts, dict(results[1].columns)) == (reason, 3, {})
    calls = Path(log).read_text().split()
    # what failed in the second stage was not computed again in the first
    assert calls.count(kind) == (3 if kind == "raise" else 1)
    assert calls.count("post-late") == (3 if kind == "late" else 0)


def test_a_slow_stage_holds_the_earlier_one_and_the_input_back(policy):
    drawn = []

    def source():
        for index, batch in enumerate(batches(*["good"] * 24)):
            drawn.append(index)
            yield batch

    with open_pipeline(stages(second=WorkerSpec("pool_workers:Reduce", {"delay": 0.05})), policy) as opened:
        ahead = []
        for done, _ in enumerate(opened.map(source())):
            ahead.append(len(drawn) - done)
        assert max(ahead) <= policy.in_flight_per_actor * opened.size
    assert len(ahead) == 24


def test_an_abandoned_pipeline_does_not_spoil_the_next_input(pipeline):
    first = pipeline.map(batches(*["slow"] * 5))
    next(first)
    first.close()
    assert {index: result.failed for index, result in collect(pipeline, batches("good", "good")).items()} == {
        0: False,
        1: False,
    }


def test_a_stage_that_cannot_be_built_raises_with_the_cause(policy):
    with (
        pytest.raises(WorkerPoolError, match=r"FileNotFoundError: no weights at model\.pt"),
        open_pipeline(stages(second=WorkerSpec("pool_workers:Unbuildable")), policy),
    ):
        pass


@pytest.mark.parametrize("given", [[], stages()[:1] * 2])
def test_stages_need_names_of_their_own(given):
    with pytest.raises(ConfigurationError, match="the stages are"), open_pipeline(given, PoolPolicy(backend="inline")):
        pass


@pytest.mark.parametrize("values", [{"name": " "}, {"size": 0}, {"num_cpus": 0.0}, {"num_gpus": -1.0}])
def test_a_stage_that_could_run_nothing_is_refused(values):
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        StageSpec(**{"name": "trace", "worker": MAKE, **values})
