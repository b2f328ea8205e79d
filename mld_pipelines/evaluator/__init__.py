"""Evaluate traced models and read the results."""

from __future__ import annotations

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluator._display import ResultFrame, Summary
from mld_pipelines.evaluator._evaluator import Evaluator
from mld_pipelines.evaluator._result import Result

__all__ = ["Evaluator", "Policy", "Result", "ResultFrame", "Summary"]
