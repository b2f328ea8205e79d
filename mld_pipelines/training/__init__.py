"""Tracers: record what a model does with labelled inputs."""

from __future__ import annotations

from mld_pipelines.training._classification import ClassificationTracer
from mld_pipelines.training._traced import Receipt

__all__ = ["ClassificationTracer", "Receipt"]
