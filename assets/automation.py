"""When assets materialise by themselves (docs/storage.md#automation)."""

from __future__ import annotations

import dagster as dg

from mld_pipelines import settings

__all__ = ["AUTOMATION", "AUTOMATION_TAG", "EVALUATE_NEW_MODEL"]

AUTOMATION_TAG = "mld/automation"
"""Tag of runs that the automation sensor launched."""

_TRACES = dg.AssetSelection.assets(["traces", "inputs"])
_CONDITION = dg.AutomationCondition

#: A model that was never evaluated is evaluated once its traces are there, complete and sound. While it stays missing
#: (only training data was traced), every new trace is a new chance; afterwards labels and requests decide.
EVALUATE_NEW_MODEL = (
    (_CONDITION.newly_missing() | _CONDITION.any_deps_updated().allow(_TRACES)).since_last_handled()
    & _CONDITION.missing()
    & ~_CONDITION.any_deps_missing().allow(_TRACES)
    & ~_CONDITION.any_deps_in_progress().allow(_TRACES)
    & ~_CONDITION.in_progress()
    & _CONDITION.all_deps_match(_CONDITION.all_checks_match(_CONDITION.check_passed(), blocking_only=True)).allow(
        _TRACES
    )
).with_label("evaluate a new model once")

#: Runs without a click after a fresh start; Dagster's own default sensor starts stopped.
AUTOMATION = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.groups("evaluation", "estimators"),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=settings.sensor_interval_seconds(),
    run_tags={AUTOMATION_TAG: "new_model"},
    description="Evaluates a model once when its first complete traces arrive.",
)
