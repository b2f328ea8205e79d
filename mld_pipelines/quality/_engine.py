"""The seam to Great Expectations: a suite document and a polars frame in, plain results out."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.exceptions import MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

__all__ = ["Finding", "as_json", "validate"]

_BOUNDS = frozenset({"min_value", "max_value"})

_SAMPLE = 10
"""Unexpected values kept per finding: enough to recognise the fault, small enough for a table cell."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What Great Expectations says about one expectation."""

    name: str
    passed: bool
    unexpected: int | None
    observed: str | None
    sample: str | None


def validate(document: Mapping[str, Any], frame: pl.DataFrame) -> list[Finding]:
    """Return the findings of a suite on a frame of scalar columns, in the suite's order.

    Raises:
        MissingDependencyError: Great Expectations is not installed.
    """
    if not document["expectations"]:
        return []
    batch = _batch_definition()
    from great_expectations import ExpectationSuite

    suite = ExpectationSuite(name=document["name"], expectations=[_live(one) for one in document["expectations"]])
    outcome = batch.get_batch({"dataframe": _pandas(frame)}).validate(suite, result_format="SUMMARY")
    found = {finding.name: finding for finding in map(_finding, outcome.results)}
    return [found[one["meta"]["name"]] for one in document["expectations"]]  # results come in another order


def _live(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return an expectation as it is judged: JSON holds days as text, pandas compares instants with instants only."""
    kwargs = {
        name: datetime.fromisoformat(value) if name in _BOUNDS and isinstance(value, str) else value
        for name, value in stored["kwargs"].items()
    }
    return {**stored, "kwargs": kwargs}


@lru_cache(maxsize=1)
def _batch_definition() -> BatchDefinition:
    """Open one in-memory context per process, silent and without telemetry."""
    try:
        with warnings.catch_warnings():
            # Great Expectations 1.24 imports the standard library's retired `sre_*` names.
            warnings.filterwarnings("ignore", message="module 'sre_", category=DeprecationWarning)
            import great_expectations
            from great_expectations.data_context.types.base import ProgressBarsConfig
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "quality suites need Great Expectations, which is not installed; nothing was judged. "
            "Install it with: pip install 'mld-pipelines[platform]'"
        ) from error
    context = great_expectations.get_context(mode="ephemeral")
    context.enable_analytics(enable=False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_pandas("frames")
    return source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("whole")


def _pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """Build a pandas frame column by column: polars' own conversion needs pyarrow, which is not installed."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(_numpy(frame[name])) for name in frame.columns})


def _numpy(column: pl.Series) -> np.ndarray:
    if column.dtype == pl.Boolean and column.null_count():
        return column.cast(pl.Float64).to_numpy()
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.replace_time_zone(None).to_numpy()
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us")).to_numpy()
    return column.to_numpy()


def _finding(result: ExpectationValidationResult) -> Finding:
    numbers = result.result or {}
    name = result.expectation_config.meta["name"]
    if result.exception_info.get("raised_exception"):
        return Finding(name, False, None, as_json(str(result.exception_info.get("exception_message"))), None)
    unexpected = numbers.get("unexpected_count")
    values = numbers.get("partial_unexpected_list") or []
    return Finding(
        name=name,
        passed=bool(result.success),
        unexpected=None if unexpected is None else int(unexpected),
        observed=as_json(numbers["observed_value"]) if "observed_value" in numbers else None,
        sample=as_json(values[:_SAMPLE]) if values else None,
    )


def as_json(value: object) -> str:
    """Return a value as JSON; what JSON does not know becomes its text, NaN and infinity their names."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
