"""Facts about production that a re-evaluation is decided on."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.diagnosis import DetectionScorer, Policy
from mld_pipelines.evaluation import current_results, load_baseline, load_result
from mld_pipelines.rollups._scorers import load_any_scorer
from mld_pipelines.tables import (
    LANDING_FEEDBACK,
    LANDING_INFERENCES,
    LANDING_RECEIPTS,
    MONITORING_SCORED,
    MONITORING_WINDOWS,
)
from mld_pipelines.windows import (
    ReevaluationFacts,
    ReevaluationState,
    decide_reevaluation,
    derive,
    gather_windows,
    merge,
    roll_up,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from mld_pipelines.evaluation import StoredResult
    from mld_pipelines.lake import Lake
    from mld_pipelines.windows import Decision

__all__ = ["due_reevaluations", "is_scored_otherwise", "recent_days"]

_RECENT_DAYS = 7
"""Event days that a new result re-scores and that a re-evaluation looks back on."""


def recent_days(lake: Lake, model_key: str) -> list[date]:
    """Return the event days with inferences among the last seven up to the model's newest, sorted.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
    """
    days = lake.scan(LANDING_INFERENCES, model_key=model_key).select(pl.col("event_day").unique().sort())
    found = days.collect()["event_day"].to_list()
    return [day for day in found if day > found[-1] - timedelta(days=_RECENT_DAYS)]


def is_scored_otherwise(lake: Lake, model_key: str, result_name: str) -> bool:
    """Return whether production of a model was scored by another result than its current one.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        result_name: Its current result.
    """
    scored = lake.scan(MONITORING_SCORED, model_key=model_key).filter(pl.col("result_name") != result_name)
    return not scored.select("result_name").head(1).collect().is_empty()


def due_reevaluations(lake: Lake, states: Mapping[str, Any]) -> dict[str, Decision]:
    """Return a decision for every model that has a result and production, or a stress pass its result has not read.

    Args:
        lake: The lake.
        states: State of the previous tick by model key, as JSON.
    """
    decisions = {}
    for model_key, result_name in current_results(lake).items():
        stored = load_result(lake, result_name)
        facts = _facts(lake, stored)
        if facts is not None:
            known = states.get(model_key)
            state = ReevaluationState.from_json(known) if known else None
            decisions[model_key] = decide_reevaluation(facts, Policy.from_json(stored.row["policy"]), state)
    return decisions


def _facts(lake: Lake, stored: StoredResult) -> ReevaluationFacts | None:
    states = lake.scan(MONITORING_WINDOWS, model_key=stored.model_key, result_name=stored.result_name)
    newest = states.select(pl.col("last_at").max(), pl.col("event_day").max()).collect().row(0)
    passes = _stress_passes_since(lake, stored)
    if newest[0] is None:
        return (
            None
            if not passes
            else ReevaluationFacts(
                model_key=stored.model_key,
                result_name=stored.result_name,
                event_time=stored.created_at,
                labels=0,
                stress_passes=passes,
            )
        )
    recent = states.filter(pl.col("event_day") > newest[1] - timedelta(days=_RECENT_DAYS)).collect()
    hours = recent.drop("schema_version")
    baseline = load_baseline(lake, stored.result_name)
    scorer = load_any_scorer(lake, stored.result_name)
    name = stored.result_name
    maps = {} if isinstance(scorer, DetectionScorer) or scorer.window_map is None else {name: scorer.window_map}
    derived = derive(merge([hours, roll_up(hours)]), {name: baseline}, {name: scorer.window_reference}, maps)
    outside, unseen_low = gather_windows(derived, model_key=stored.model_key, result_name=name)
    return ReevaluationFacts(
        model_key=stored.model_key,
        result_name=name,
        event_time=newest[0],
        # what was logged as the label of a frame says nothing about its boxes
        labels=0 if isinstance(scorer, DetectionScorer) else _labels_since(lake, stored),
        outside=outside,
        unseen_low=unseen_low,
        unseen_ref=baseline.unseen_share,
        stress_passes=passes,
    )


def _stress_passes_since(lake: Lake, stored: StoredResult) -> int:
    """Count the finished stress passes over the deciding dataset, under the result's weights, that it has not read."""
    until = lake.version(LANDING_RECEIPTS)
    if until is None:
        return 0
    since = json.loads(stored.row["input_versions"]).get(LANDING_RECEIPTS.name)
    columns = ["model_key", "purpose", "state", "fingerprint", "n_epoch", "dataset_type"]
    read = lake.changes(LANDING_RECEIPTS, since=since, until=until, reread=True, columns=columns)
    mine = read.filter(
        (pl.col("model_key") == stored.model_key)
        & (pl.col("purpose") == "stress")
        & (pl.col("state") != "discarded")
        & (pl.col("dataset_type") == stored.row["decision_dataset"])
    )
    weights = {*zip(stored.row["fingerprints"], stored.row["epochs"], strict=True)}
    return sum(pair in weights for pair in mine.select("fingerprint", "n_epoch").iter_rows())


def _labels_since(lake: Lake, stored: StoredResult) -> int:
    """Count the requests of the model that were labelled after the result read the feedback table."""
    until = lake.version(LANDING_FEEDBACK)
    if until is None:
        return 0
    since = json.loads(stored.row["input_versions"]).get(LANDING_FEEDBACK.name)
    read = lake.changes(LANDING_FEEDBACK, since=since, until=until, reread=True, columns=["request_id"])
    new = read["request_id"].unique()
    mine = lake.scan(LANDING_INFERENCES, model_key=stored.model_key)
    labelled = mine.filter(
        (pl.col("fingerprint") == stored.row["fingerprint"]) & pl.col("request_id").is_in(new.implode())
    )
    return int(labelled.select(pl.col("request_id").n_unique()).collect().item())
