"""Tracing a registered model from the Dagster UI."""

from __future__ import annotations

import pytest

from assets.definitions import defs as platform
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_TRACES
from mld_pipelines.tracing import register_dataset, register_model


def make_model():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))


def make_dataset(n: int = 20):
    import torch

    inputs = torch.arange(n * 4, dtype=torch.float32).reshape(n, 4) / n
    return [(inputs[i], i % 3) for i in range(n)]


@pytest.fixture
def importable(monkeypatch, tmp_path):
    """Factories live in a module that workers can import."""
    source = tmp_path / "toy_factories.py"
    body = "\n".join(__import__("inspect").getsource(function) for function in (make_model, make_dataset))
    source.write_text(f'"""Factories of the test."""\n{body}', encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "toy_factories"


def run(resources, instance, **config):
    job = platform.resolve_job_def("trace_model")
    used = {name: resources[name] for name in ("lake", "pool")}
    ops = {"trace_registered_model": {"config": {"model": "toy", "dataset": "digits", "batch_size": 8, **config}}}
    return job.execute_in_process(instance=instance, run_config={"ops": ops}, resources=used, raise_on_error=False)


def test_a_registered_model_is_traced_with_config_from_the_ui(lake, resources, instance, importable, capfd):
    register_model(lake, "toy", factory=f"{importable}:make_model", model_name="toy", version_name="v1")
    register_dataset(lake, "digits", factory=f"{importable}:make_dataset", params={"n": 20})
    done = run(resources, instance, dataset_type="val", n_epoch=2)
    assert done.success
    rows = lake.read(LANDING_TRACES)
    assert (rows.height, set(rows["dataset_type"]), set(rows["n_epoch"])) == (20, {"val"}, {2})
    assert lake.read(LANDING_RECEIPTS)["rows"].to_list() == [20]
    assert done.output_for_node("trace_registered_model")["rows"] == 20
    said = capfd.readouterr()
    assert "traced 3 of 3 batches" in said.err + said.out


def test_a_model_that_is_not_registered_fails_with_what_is(resources, instance):
    done = run(resources, instance)
    assert not done.success
    assert "no model 'toy' is registered" in done.get_run_failure_event().message or any(
        "no model 'toy' is registered" in str(event.step_failure_data.error) for event in done.get_step_failure_events()
    )
