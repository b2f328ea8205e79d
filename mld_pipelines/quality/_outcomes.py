"""Outcomes of expectations and the rows they become in `ops/quality`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.tables import OPS_QUALITY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.quality._expectations import Engine, Severity

__all__ = ["QualityOutcome", "outcomes_frame"]


@dataclass(frozen=True, slots=True)
class QualityOutcome:
    """What one expectation found in one version of a table.

    Attributes:
        table: Name of the table.
        version: Delta version that was judged.
        partition: Partition that was judged; None for the whole table.
        name: Name of the expectation.
        engine: Who judged.
        severity: How much a failure matters.
        passed: The verdict.
        rows: Rows judged (of the sample, where the table was sampled).
        unexpected: Rows that broke it; None for statements about the table.
        observed: Observed value as JSON; None where there is none.
        sample: Some unexpected values as a JSON list; None where there are none.
        description: The statement in words.
    """

    table: str
    version: int
    partition: str | None
    name: str
    engine: Engine
    severity: Severity
    passed: bool
    rows: int
    unexpected: int | None = None
    observed: str | None = None
    sample: str | None = None
    description: str = ""

    @property
    def blocks(self) -> bool:
        """Whether downstream work has to stop."""
        return not self.passed and self.severity == "critical"


def outcomes_frame(
    outcomes: Sequence[QualityOutcome], *, run_id: str | None = None, checked_at: datetime | None = None
) -> pl.DataFrame:
    """Return outcomes as rows of `ops/quality`."""
    moment = datetime.now(UTC) if checked_at is None else checked_at
    rows = [
        {
            "table": one.table,
            "version": one.version,
            "partition": one.partition,
            "check": one.name,
            "engine": one.engine,
            "severity": one.severity,
            "passed": one.passed,
            "rows": one.rows,
            "unexpected": one.unexpected,
            "observed": one.observed,
            "sample": one.sample,
            "run_id": run_id,
            "checked_at": moment,
        }
        for one in outcomes
    ]
    schema = {name: dtype for name, dtype in OPS_QUALITY.polars_schema.items() if name != "schema_version"}
    return OPS_QUALITY.align(pl.DataFrame(rows, schema=schema))
