"""One declaration per table; schema, constraints, contract, expectations and docs are derived from it."""

from __future__ import annotations

from mld_pipelines.tables._contract import Checked, check
from mld_pipelines.tables._identity import CATEGORIES, TASKS
from mld_pipelines.tables._rules import (
    AtLeast,
    Between,
    ColumnRule,
    Finite,
    LengthIs,
    Matches,
    NotBefore,
    NotInfinite,
    OneOf,
    Sizes3D,
    Unique,
)
from mld_pipelines.tables._spec import SCHEMA_VERSION, TIMESTAMP, VECTOR, Column, Layer, TableSpec
from mld_pipelines.tables.codes import CODE_COLUMNS, EVALUATION_CODES
from mld_pipelines.tables.evaluation import (
    ESTIMATORS_MODELS,
    EVALUATION_ISSUES,
    EVALUATION_METRICS,
    EVALUATION_RESULTS,
    EVALUATION_UNITS,
    ISSUE_COLUMNS,
)
from mld_pipelines.tables.landing import (
    FIRST_EVENT_DAY,
    LANDING_FEEDBACK,
    LANDING_INFERENCES,
    LANDING_MODELS,
    LANDING_RECEIPTS,
    LANDING_REQUESTS,
    LANDING_TRACES,
)
from mld_pipelines.tables.monitoring import (
    MONITORING_ALERTS,
    MONITORING_CODES,
    MONITORING_SCORED,
    MONITORING_WINDOWS,
)
from mld_pipelines.tables.ops import OPS_MODELS, OPS_PINS, OPS_PROMOTIONS, OPS_QUALITY, OPS_QUARANTINE
from mld_pipelines.tables.stress import LANDING_STRESS, TRACES_STRESS
from mld_pipelines.tables.traces import TRACES_INPUTS

#: Every table of the lake by name, in the order data flows.
CATALOGUE: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        LANDING_MODELS,
        LANDING_TRACES,
        LANDING_STRESS,
        LANDING_RECEIPTS,
        LANDING_INFERENCES,
        LANDING_FEEDBACK,
        LANDING_REQUESTS,
        TRACES_INPUTS,
        TRACES_STRESS,
        EVALUATION_UNITS,
        EVALUATION_METRICS,
        EVALUATION_ISSUES,
        EVALUATION_CODES,
        ESTIMATORS_MODELS,
        EVALUATION_RESULTS,
        MONITORING_SCORED,
        MONITORING_WINDOWS,
        MONITORING_CODES,
        MONITORING_ALERTS,
        OPS_MODELS,
        OPS_QUALITY,
        OPS_QUARANTINE,
        OPS_PINS,
        OPS_PROMOTIONS,
    )
}

__all__ = [
    "CATALOGUE",
    "CATEGORIES",
    "CODE_COLUMNS",
    "ESTIMATORS_MODELS",
    "EVALUATION_CODES",
    "EVALUATION_ISSUES",
    "EVALUATION_METRICS",
    "EVALUATION_RESULTS",
    "EVALUATION_UNITS",
    "FIRST_EVENT_DAY",
    "ISSUE_COLUMNS",
    "LANDING_FEEDBACK",
    "LANDING_INFERENCES",
    "LANDING_MODELS",
    "LANDING_RECEIPTS",
    "LANDING_REQUESTS",
    "LANDING_STRESS",
    "LANDING_TRACES",
    "MONITORING_ALERTS",
    "MONITORING_CODES",
    "MONITORING_SCORED",
    "MONITORING_WINDOWS",
    "OPS_MODELS",
    "OPS_PINS",
    "OPS_PROMOTIONS",
    "OPS_QUALITY",
    "OPS_QUARANTINE",
    "SCHEMA_VERSION",
    "TASKS",
    "TIMESTAMP",
    "TRACES_INPUTS",
    "TRACES_STRESS",
    "VECTOR",
    "AtLeast",
    "Between",
    "Checked",
    "Column",
    "ColumnRule",
    "Finite",
    "Layer",
    "LengthIs",
    "Matches",
    "NotBefore",
    "NotInfinite",
    "OneOf",
    "Sizes3D",
    "TableSpec",
    "Unique",
    "check",
]
