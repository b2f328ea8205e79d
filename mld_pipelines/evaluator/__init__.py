"""Evaluate traced models and read the results."""

from __future__ import annotations

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluator._comparison import Comparison
from mld_pipelines.evaluator._display import ResultFrame, Summary
from mld_pipelines.evaluator._evaluator import Evaluator
from mld_pipelines.evaluator._result import Result
from mld_pipelines.evaluator._scoring import ErrorRateEstimate

__all__ = ["Comparison", "ErrorRateEstimate", "Evaluator", "Policy", "Result", "ResultFrame", "Summary"]
