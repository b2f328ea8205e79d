from __future__ import annotations

import pytest

from mld_pipelines.geometry import _engine


@pytest.fixture(params=[pytest.param("numba", marks=pytest.mark.platform), "numpy"])
def engine(request, monkeypatch):
    """Run a test with each engine: the compiled kernels, and whole arrays."""
    if request.param == "numpy":
        for module in ("_iou", "_suppression"):
            monkeypatch.setattr(f"mld_pipelines.geometry.{module}.kernels", lambda: None)
    else:
        assert _engine.kernels() is not None, "numba is part of the platform extra"
    return request.param
