"""How the two kinds of workers of a detector's run are sized."""

from __future__ import annotations

import pytest

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.tracing import register_dataset, register_model
from mld_pipelines.tracing._job import TraceJob
from mld_pipelines.tracing._registry import find_registration


@pytest.fixture
def job(lake):
    factory = "examples.drive.datasets:drive_model"
    register_model(lake, "pillars", factory=factory, model_name="pillars", version_name="v1")
    register_dataset(lake, "frames", factory="frame_factories:frames")
    found = find_registration(lake, "pillars", kind="model"), find_registration(lake, "frames", kind="dataset")
    return TraceJob(*found, dataset_type="val", n_epoch=None, batch_size=64, seed=0)


def shares(job, **policy):
    return [(stage.name, stage.size, stage.num_cpus, stage.num_gpus) for stage in job.stages(PoolPolicy(**policy))]


def test_workers_behind_the_model_are_as_many_unless_told_and_hold_no_gpu(job):
    assert shares(job, size=4, num_gpus=0.5) == [("forward", 4, 1.0, 0.5), ("rows", 4, 1.0, 0.0)]


def test_workers_behind_the_model_have_a_size_and_a_share_of_their_own(job):
    found = shares(job, size=16, num_cpus=2.0, num_gpus=0.5, post_size=2, post_cpus=0.5)
    assert found == [("forward", 16, 2.0, 0.5), ("rows", 2, 0.5, 0.0)]


def test_left_alone_both_take_what_is_free(job):
    assert [size for _, size, _, _ in shares(job)] == [None, None]
