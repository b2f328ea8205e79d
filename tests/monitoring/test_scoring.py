"""With a result, every inference is scored as the stored estimator scores the same record anywhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mld_pipelines.evaluation import load_scorer
from mld_pipelines.evaluator import Evaluator
from mld_pipelines.tables import LANDING_INFERENCES
from mld_pipelines.training import ClassificationTracer


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 3
    centres = torch.tensor([[0.0, 0.0], [2.5, 0.0], [0.0, 2.5]])
    return centres[labels] + torch.randn(400, 2, generator=generator), labels


@pytest.fixture(scope="module")
def trained(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 3))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimiser.step()
    return model.eval()


@pytest.fixture
def result(trained, data):
    with ClassificationTracer(trained, "net", "v1") as tracer, torch.no_grad():
        tracer(data[0], data[1], input_ids=range(400), dataset_type="val")
        tracer.wait_for_save()
    return Evaluator("net", "v1").request_evaluation()


def rows(lake):
    return lake.read(LANDING_INFERENCES).sort("stream_id", "seq", "row")


@pytest.mark.feature("I6", "I18", "I19", "I20")
def test_scores_are_those_of_the_stored_estimator(logging_, trained, data, result, lake):
    logger = logging_(trained, result.result_name)
    with torch.no_grad():
        for start in range(0, 60, 7):
            logger(data[0][start : start + 7] + 0.3)
    assert logger.flush(60)
    frame = rows(lake)
    features, logits = (np.stack(frame[name].to_numpy()) for name in ("feature", "logits"))
    expected = load_scorer(lake, result.result_name).score(logits=logits, features=features)
    np.testing.assert_array_equal(frame["error_proba"].to_numpy(), expected.error_proba)
    assert frame["error_code"].to_list() == expected.error_code
    assert frame["category"].to_list() == expected.category
    assert frame["is_aleatoric"].to_list() == expected.is_aleatoric
    np.testing.assert_array_equal(np.stack(frame["risk_scores"].to_numpy()), expected.risk_scores)
    assert frame["scored_by"].str.starts_with(f"{result.result_name}#").all()


@pytest.mark.feature("I17")
def test_a_model_can_be_logged_first_and_scored_later(logging_, trained, data, lake):
    logger = logging_(trained)
    logger(data[0][:5])
    assert logger.close()
    with ClassificationTracer(trained, "net", "v1") as tracer:
        tracer(data[0], data[1], input_ids=range(400))
        tracer.wait_for_save()
    result = Evaluator("net", "v1").request_evaluation()
    later = logging_(trained, result.result_name)
    later(data[0][:5])
    assert later.flush(60)
    scored = rows(lake).group_by("result_name").agg(n=pl_scored()).sort("result_name")
    assert scored["n"].to_list() == [0, 5]


def pl_scored():
    import polars as pl

    return pl.col("error_proba").count()


@pytest.mark.feature("I26")
def test_an_unknown_result_gives_basic_metrics(logging_, trained, data, result, lake, caplog):
    logger = logging_(trained, "someone_else")
    logger(data[0][:5])
    logger(data[0][:5])
    assert logger.flush(60)
    assert rows(lake)["error_proba"].null_count() == 10
    assert caplog.text.count("only basic metrics are logged") == 1


@pytest.mark.feature("I27")
@pytest.mark.parametrize("accepts", [False, True])
def test_other_weights_are_noticed(logging_, trained, data, result, lake, caplog, accepts):
    other = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 3))
    logger = logging_(other, result.result_name, accept_fingerprint=accepts)
    for _ in range(2):
        logger(data[0][:5])
        assert logger.flush(60)
    assert rows(lake)["error_proba"].null_count() == (0 if accepts else 10)
    assert sum("weights" in record.message for record in caplog.records) == 1


def test_a_model_of_other_widths_lands_unscored(logging_, data, result, lake, caplog):
    other = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    logger = logging_(other, result.result_name, accept_fingerprint=True)
    logger(data[0][:5])
    assert logger.flush(60)
    assert rows(lake)["error_proba"].null_count() == 5
    assert "land unscored" in caplog.text


def test_of_several_evaluated_epochs_the_one_with_the_same_weights_scores(logging_, trained, data, lake):
    import copy

    later = copy.deepcopy(trained)
    with torch.no_grad():
        later[2].weight *= 1.1
    for epoch, model in enumerate((trained, later)):
        with ClassificationTracer(model, "net", "v1") as tracer:
            tracer(data[0], data[1], input_ids=range(400), dataset_type="val", n_epoch=epoch)
            tracer.wait_for_save(n_epoch=epoch)
    result = Evaluator("net", "v1").request_evaluation(n_epoch=None)
    logger = logging_(trained, result.result_name)
    logger(data[0][:5])
    assert logger.flush(60)
    frame = rows(lake)
    features, logits = (np.stack(frame[name].to_numpy()) for name in ("feature", "logits"))
    expected = load_scorer(lake, result.result_name, n_epoch=0).score(logits=logits, features=features)
    np.testing.assert_array_equal(frame["error_proba"].to_numpy(), expected.error_proba)
