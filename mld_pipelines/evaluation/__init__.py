"""The one implementation of an evaluation: plan, compute, store, load. The SDK, the assets and the CLI call it."""

from __future__ import annotations

from mld_pipelines.evaluation._artifacts import load_baseline, load_detection_scorer, load_scorer
from mld_pipelines.evaluation._current import current_result, current_results, promote_result
from mld_pipelines.evaluation._datasets import PRODUCTION, choose_decision_dataset
from mld_pipelines.evaluation._epochs import EpochSpec, format_spec, parse_spec, resolve_epochs
from mld_pipelines.evaluation._evaluate import Progress, compute, evaluate, evaluate_again
from mld_pipelines.evaluation._evidence import EVIDENCE_SCHEMA, reliability_bins, window_evidence
from mld_pipelines.evaluation._filters import Filters, filter_expression, filtered
from mld_pipelines.evaluation._load import StoredResult, list_results, load_result, result_names
from mld_pipelines.evaluation._order import excess_errors
from mld_pipelines.evaluation._plan import EvaluationPlan, known_models, plan
from mld_pipelines.evaluation._population import load_model_facts
from mld_pipelines.evaluation._production import SCORE_COLUMNS, labelled_production, latest_feedback, score_inferences
from mld_pipelines.evaluation._promotion import Promotion, UnfinishedStream, promote, unfinished_streams
from mld_pipelines.evaluation._refusals import refusals, refused_rows
from mld_pipelines.evaluation._store import Evaluation, remove_unbound, store
from mld_pipelines.evaluation._stress_promotion import STRESS_WARNING, promote_stress
from mld_pipelines.evaluation._summary import CATEGORY_RATIOS, METRIC_COLUMNS, METRIC_EXTRAS
from mld_pipelines.evaluation._verified_rates import VerifiedRate, verified_rates
from mld_pipelines.evaluation._views import (
    ALEATORIC,
    BOX_COLUMNS,
    DETECTION_VIEW_COLUMNS,
    VIEW_COLUMNS,
    is_detection,
    metadata_columns,
    unit_columns,
    view,
)
from mld_pipelines.evaluation._window_estimates import estimate_units
from mld_pipelines.evaluation.detection._classes import detection_class_metrics
from mld_pipelines.evaluation.detection._evidence import (
    DETECTION_EVIDENCE_SCHEMA,
    detection_window_evidence,
    estimate_frames,
)
from mld_pipelines.evaluation.detection._frame_scores import FRAME_INPUT_COLUMNS, FRAME_SCORE_COLUMNS, score_frames
from mld_pipelines.evaluation.detection._metrics import DETECTION_EXTRAS, counted_units

__all__ = [
    "ALEATORIC",
    "BOX_COLUMNS",
    "CATEGORY_RATIOS",
    "DETECTION_EVIDENCE_SCHEMA",
    "DETECTION_EXTRAS",
    "DETECTION_VIEW_COLUMNS",
    "EVIDENCE_SCHEMA",
    "FRAME_INPUT_COLUMNS",
    "FRAME_SCORE_COLUMNS",
    "METRIC_COLUMNS",
    "METRIC_EXTRAS",
    "PRODUCTION",
    "SCORE_COLUMNS",
    "STRESS_WARNING",
    "VIEW_COLUMNS",
    "EpochSpec",
    "Evaluation",
    "EvaluationPlan",
    "Filters",
    "Progress",
    "Promotion",
    "StoredResult",
    "UnfinishedStream",
    "VerifiedRate",
    "choose_decision_dataset",
    "compute",
    "counted_units",
    "current_result",
    "current_results",
    "detection_class_metrics",
    "detection_window_evidence",
    "estimate_frames",
    "estimate_units",
    "evaluate",
    "evaluate_again",
    "excess_errors",
    "filter_expression",
    "filtered",
    "format_spec",
    "is_detection",
    "known_models",
    "labelled_production",
    "latest_feedback",
    "list_results",
    "load_baseline",
    "load_detection_scorer",
    "load_model_facts",
    "load_result",
    "load_scorer",
    "metadata_columns",
    "parse_spec",
    "plan",
    "promote",
    "promote_result",
    "promote_stress",
    "refusals",
    "refused_rows",
    "reliability_bins",
    "remove_unbound",
    "resolve_epochs",
    "result_names",
    "score_frames",
    "score_inferences",
    "store",
    "unfinished_streams",
    "unit_columns",
    "verified_rates",
    "view",
    "window_evidence",
]
