"""A logger over a real lake."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mld_pipelines.lake import Lake
from mld_pipelines.monitoring import ClassificationLogger


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.fixture
def lake():
    return Lake.open()


@pytest.fixture
def logging_(model, monkeypatch):
    """Return a factory of loggers that raise their own faults; all are closed at the end."""
    monkeypatch.setenv("MLD_STRICT", "1")
    made = []

    def build(wrapped=None, result_name=None, **options):
        wrapped = model if wrapped is None else wrapped
        made.append(ClassificationLogger(wrapped, "net", "v1", result_name, **options))
        return made[-1]

    yield build
    for logger in made:
        logger.close()
