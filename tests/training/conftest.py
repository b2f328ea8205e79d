"""A tracer over a real lake."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mld_pipelines.lake import Lake
from mld_pipelines.training import ClassificationTracer


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def lake():
    return Lake.open()


@pytest.fixture
def tracing(model):
    """Return a factory of tracers; all are closed at the end."""
    made = []

    def build(wrapped=None, **options):
        made.append(ClassificationTracer(model if wrapped is None else wrapped, "net", "v1", **options))
        return made[-1]

    yield build
    for tracer in made:
        tracer.close()


@pytest.fixture
def batches():
    """Three batches of inputs, labels and ids; the last is ragged."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(11, 4, generator=generator)
    y = torch.randint(0, 3, (11,), generator=generator)
    return [(x[i : i + 4], y[i : i + 4], list(range(i, min(i + 4, 11)))) for i in range(0, 11, 4)]
