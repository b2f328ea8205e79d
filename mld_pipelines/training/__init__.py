"""Tracers: record what a model does with labelled inputs, and with corrupted copies of them."""

from __future__ import annotations

from mld_pipelines.training._classification import ClassificationTracer
from mld_pipelines.training._detection3d import Detection3DTracer, ObjectDetection3DTracer
from mld_pipelines.training._stress_receipt import StressReceipt
from mld_pipelines.training._traced import Receipt
from mld_pipelines.training._tracer import Tracer

__all__ = [
    "ClassificationTracer",
    "Detection3DTracer",
    "ObjectDetection3DTracer",
    "Receipt",
    "StressReceipt",
    "Tracer",
]
