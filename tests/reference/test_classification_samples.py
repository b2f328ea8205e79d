"""The classification samples of the original's guides run as they stand.

The guides came without indentation. It is restored; the import path, the two credential lines and every `...` are
substituted; every other line is executed as it is written.
"""

from __future__ import annotations

import os

import pytest
import torch

from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_INFERENCES, LANDING_RECEIPTS, LANDING_TRACES
from tests.support.guides import GUIDES, LOGGING, TRACING, execute, lines_between, only_code

pytestmark = pytest.mark.skipif(not GUIDES.is_dir(), reason="the guides in ../shared are not here")


class Blobs(torch.utils.data.Dataset):
    """Three overlapping clouds in the plane, seeded."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(count) % 3
        centres = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
        self.points = centres[self.labels] + torch.randn(count, 2, generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        return self.points[i], self.labels[i], i


@pytest.fixture
def given(tmp_path, monkeypatch):
    """What the samples leave to the reader: a model, data and an endpoint."""
    for name in ("MLD_API_ENDPOINT", "MLD_API_KEY"):
        monkeypatch.setenv(name, "")  # restored afterwards, whatever the sample sets
    torch.manual_seed(0)
    data = Blobs(303)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(data.points), data.labels).backward()
        optimiser.step()
    return {
        "endpoint": str(tmp_path / "lake"),
        "model": model,
        "dataloader": torch.utils.data.DataLoader(data, batch_size=32),
        "production_dataloader": [data.points[i : i + 1] for i in range(20)],
        "data": data,
    }


def test_the_complete_tracing_sample_runs(given, capsys):
    lines = lines_between(TRACING, "import os", "result.get_summary()", after="Complete Sample Code")
    names = execute(lines, {"given": given})
    names["tracer"].close()
    assert "hotspot" in capsys.readouterr().out
    lake = Lake(given["endpoint"], code_version="t")
    assert lake.read(LANDING_TRACES).height == 303
    assert lake.read(LANDING_RECEIPTS)["rows"].to_list() == [303]
    assert names["result"].metrics_summary()["counts"].to_list() == [303]


@pytest.mark.feature("D5", "I29")
def test_the_complete_logging_sample_runs_after_it(given, capsys):
    tracing = lines_between(TRACING, "import os", "result.get_summary()", after="Complete Sample Code")
    names = execute(tracing, {"given": given})
    names["tracer"].close()
    seen: list[torch.Tensor] = []
    names |= {"production_dataloader": given["production_dataloader"], "process_predictions": seen.append}
    logging = lines_between(LOGGING, "import os", "process_predictions(predictions)", after="Complete Sample Code")
    execute(logging, names)
    assert names["logger"].close(60)
    with torch.no_grad():
        assert all(
            torch.equal(mine, given["model"](x)) for mine, x in zip(seen, given["production_dataloader"], strict=True)
        )
    rows = Lake(given["endpoint"], code_version="t").read(LANDING_INFERENCES)
    assert rows.height == 20
    assert rows["error_proba"].null_count() == 0
    capsys.readouterr()


def test_the_steps_of_the_tracing_guide_run(given, monkeypatch, capsys):
    monkeypatch.setenv("MLD_API_ENDPOINT", given["endpoint"])
    device = torch.device("cpu")
    names = {"model": given["model"].eval(), "dataloader": given["dataloader"], "device": device, "given": given}
    collect = lines_between(TRACING, "from ml_debugger.training import ClassificationTracer", "tracer.wait_for_save()")
    execute(only_code(collect), names)
    assert names["tracer"].stats.stored == 303
    names["tracer"].close()

    from mld_pipelines.evaluator import Evaluator
    from mld_pipelines.training import ClassificationTracer

    data = given["data"]
    with ClassificationTracer(given["model"], "<your_model_name>", "v1") as tracer:
        for epoch in (5, 6):
            tracer(data.points, data.labels, input_ids=range(len(data)), n_epoch=epoch)
        tracer.wait_for_save()
    Evaluator("<your_model_name>", "v1").request_evaluation(result_name="<result_name>")
    review = lines_between(
        TRACING, "from ml_debugger.evaluator import Evaluator", "You can get custom views with grouping and filtering."
    )
    execute(only_code(review), names)
    assert names["evaluator"].list_results().height == 3
    assert names["result"].result_name == "<result_name>"
    assert "error_code" in names["issues_df"].columns
    capsys.readouterr()


def test_saving_an_epoch_as_the_guide_says(given, monkeypatch):
    monkeypatch.setenv("MLD_API_ENDPOINT", given["endpoint"])
    from mld_pipelines.training import ClassificationTracer

    with ClassificationTracer(given["model"], "resnet18", "v1") as tracer:
        tracer(given["data"].points, given["data"].labels, input_ids=range(303), n_epoch=0)
        execute(
            lines_between(TRACING, "tracer.wait_for_save(n_epoch=0)", "tracer.wait_for_save(n_epoch=0)"),
            {"tracer": tracer},
        )
        assert tracer.stats.stored == 303


def test_the_steps_of_the_logging_guide_run_without_an_evaluation(given, monkeypatch, caplog):
    monkeypatch.setenv("MLD_API_ENDPOINT", given["endpoint"])
    seen: list[torch.Tensor] = []
    names = {
        "model": given["model"].eval(),
        "device": torch.device("cpu"),
        "production_dataloader": given["production_dataloader"],
        "process_predictions": seen.append,
    }
    execute(lines_between(LOGGING, "from ml_debugger.monitoring import ClassificationLogger", ")"), names)
    execute(lines_between(LOGGING, "import torch", "process_predictions(predictions)"), names)
    assert names["logger"].close(60)
    assert len(seen) == 20
    assert Lake(given["endpoint"], code_version="t").read(LANDING_INFERENCES).height == 20
    assert "resnet18_v1_classification_v1_20251219" in caplog.text  # it does not exist: basic metrics and a warning
    assert os.environ["MLD_API_ENDPOINT"] == given["endpoint"]
