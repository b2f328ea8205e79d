"""Gold tables of an evaluation: rows keyed by `evaluation_id`, bound to a name by `evaluation/results`.

A result is never changed. The row tables are still not append-only for Delta: maintenance removes rows that no result
binds (attempts that lost a race or died half-way).
"""

from __future__ import annotations

import polars as pl

from mld_pipelines.tables._identity import CATEGORIES, MODEL_KEY, N_EPOCH, SCHEMA_VERSION_COLUMN, SCORE, TASKS
from mld_pipelines.tables._rules import AtLeast, Between, Finite, OneOf, Unique
from mld_pipelines.tables._spec import TIMESTAMP, Column, TableSpec

__all__ = [
    "ESTIMATORS_MODELS",
    "EVALUATION_ISSUES",
    "EVALUATION_METRICS",
    "EVALUATION_RESULTS",
    "EVALUATION_UNITS",
    "ISSUE_COLUMNS",
]

_ATTEMPT = (
    SCHEMA_VERSION_COLUMN,
    Column("evaluation_id", pl.String, "UUIDv7 of the attempt; bound to a name by `evaluation/results`", True),
    Column("result_name", pl.String, "Name the attempt wants", True),
    MODEL_KEY,
)
_UNIT_KIND = Column("unit_kind", pl.String, "Kind of unit", True, (OneOf(("input", "prediction", "object")),))
_DATASET = Column("dataset_type", pl.String, "Dataset", True)
_RATE = (Finite(), Between(0.0, 1.0))
_UNIT_KEY = ("evaluation_id", "dataset_type", "n_epoch", "input_id", "unit_kind", "unit_index")
_LENGTH = (Finite(), AtLeast(0.0))

#: What units of detectors have besides; null in classification.
_BOX_UNIT = (
    Column(
        "unit_index", pl.Int64, "Place among the recorded boxes, or the true boxes, of its frame", rules=(AtLeast(0),)
    ),
    Column("outcome", pl.String, "What became of it at the operating point", rules=(OneOf(("tp", "fp", "fn")),)),
    Column("error_type", pl.String, "What went wrong", rules=(OneOf(("cls", "loc", "both", "dupe", "bkg", "miss")),)),
    Column("error_sub_type", pl.String, "What alone, set right, makes a misplaced box match (BEV IoU only)"),
    Column("truth_index", pl.Int64, "Place of the true box it matched or is mistaken about", rules=(AtLeast(0),)),
    Column("range_m", pl.Float64, "Ground-plane distance of its centre from the sensor, m", rules=_LENGTH),
    Column("points", pl.Int64, "LiDAR points inside a true box; null where unknown", rules=(AtLeast(0),)),
    Column("match_distance", pl.Float64, "Distance of the two centres in the ground plane, m", rules=_LENGTH),
    Column("ate", pl.Float64, "Translation error of a true positive, m", rules=_LENGTH),
    Column("ase", pl.Float64, "Scale error, 1 − IoU of the sizes", rules=_LENGTH),
    Column("aoe", pl.Float64, "Orientation error, rad", rules=_LENGTH),
    Column("ave", pl.Float64, "Velocity error, m/s; null where a velocity is unknown", rules=_LENGTH),
)
_BOX = Column("box_3d", pl.List(pl.Float64), "cx, cy, cz, w, l, h (m), yaw (rad); canonical", vector=True)

EVALUATION_UNITS = TableSpec(
    name="evaluation/units",
    layer="gold",
    description="One unit of a result: an input in classification, a kept prediction or a true object in detection.",
    columns=(
        *_ATTEMPT,
        _DATASET,
        N_EPOCH,
        Column("input_id", pl.String, "Input the unit belongs to", True),
        _UNIT_KIND,
        Column("is_error", pl.Boolean, "argmax p ≠ label; no true positive; a missed object", True),
        Column("label", pl.Int64, "True class index; null where nothing is there", rules=(AtLeast(0),)),
        Column("prediction", pl.Int64, "Predicted class index; of an object its class", True, (AtLeast(0),)),
        Column(
            "confidence",
            pl.Float32,
            "Largest class probability; score; of a missed object that of a candidate on it, else 0",
            True,
            _RATE,
        ),
        Column("confidence_t", pl.Float32, "Largest class probability at the result's temperature", rules=_RATE),
        Column("entropy", pl.Float64, "Predictive entropy, nats", True, (Finite(), AtLeast(0.0))),
        Column("loss", pl.Float64, "−ln p of the label, nats", rules=(Finite(), AtLeast(0.0))),
        Column("metadata", pl.String, "User columns as JSON"),
        Column("input_hash", pl.String, "SHA-256 over all modalities"),
        *_BOX_UNIT,
        *SCORE,
        _BOX,
    ),
    key=_UNIT_KEY,
    partition_by=("model_key",),
    rules=(Unique(_UNIT_KEY),),
    writer="evaluation",
    zorder=("result_name",),
)

EVALUATION_METRICS = TableSpec(
    name="evaluation/metrics",
    layer="gold",
    description="One metric of one dataset and epoch, long form; the SDK pivots it to `metrics_summary()`.",
    columns=(
        *_ATTEMPT,
        _DATASET,
        N_EPOCH,
        Column("scope", pl.String, "What the value is about", True, (OneOf(("metric", "category_ratio")),)),
        Column("metric", pl.String, "Column name in the summary", True),
        Column("value", pl.Float64, "Value; null where it is undefined"),
        Column("low", pl.Float64, "Lower end of the 95 % interval"),
        Column("high", pl.Float64, "Upper end of the 95 % interval"),
        Column("n", pl.Int64, "Units behind the value", True, (AtLeast(0),)),
    ),
    key=("evaluation_id", "dataset_type", "n_epoch", "scope", "metric"),
    partition_by=("model_key",),
    rules=(Unique(("evaluation_id", "dataset_type", "n_epoch", "scope", "metric")),),
    writer="evaluation",
)

#: Columns of `Result.get_issues()` in their fixed order.
ISSUE_COLUMNS = (
    Column("error_code", pl.String, "Code: a region of feature space", True),
    Column("category", pl.String, "Verdict about the region", True, (OneOf(CATEGORIES),)),
    Column("is_aleatoric", pl.Boolean, "Errors are explained by ambiguity the model states", True),
    Column("reason", pl.String, "Why this category", True),
    Column("dataset", pl.String, "Dataset the counts are of", True),
    Column("counts", pl.Int64, "Units", True, (AtLeast(0),)),
    Column("errors", pl.Int64, "Wrong units", True, (AtLeast(0),)),
    Column("error_rate", pl.Float64, "errors / counts", rules=_RATE),
    Column("error_rate_low", pl.Float64, "Lower end of the 95 % Jeffreys interval", rules=_RATE),
    Column("error_rate_high", pl.Float64, "Upper end of the 95 % Jeffreys interval", rules=_RATE),
    Column("q_value", pl.Float64, "Benjamini-Hochberg q of 'worse than the rest', deciding dataset only", rules=_RATE),
    Column("share", pl.Float64, "counts / units of the dataset", True, _RATE),
    Column("unflagged_errors", pl.Int64, "Errors the confidence would not have flagged", True, (AtLeast(0),)),
    Column("mean_confidence", pl.Float64, "Mean confidence", rules=_RATE),
    Column("mean_error_proba", pl.Float64, "Mean error probability", rules=_RATE),
    Column("net_entropy", pl.Float64, "Sum of entropies, nats", True),
    Column("net_entropy_loss", pl.Float64, "Sum of losses, nats", True),
    Column("top_classes", pl.List(pl.String), "Most frequent predicted classes"),
    Column("top_error_types", pl.List(pl.String), "Most frequent confusions, `label→prediction`"),
    Column("gap_train_val", pl.Float64, "Error rate of the code in the deciding dataset minus that in train"),
    Column("example_input_ids", pl.List(pl.String), "Wrong units nearest the centroid first"),
    Column("recommended_method", pl.String, "What to do first", True),
    Column("how_to_verify", pl.String, "The observation that shows the method worked"),
    Column("n_needed", pl.Int64, "Further labelled units that decide the code at its rate", rules=(AtLeast(0),)),
    Column("n_needed_reason", pl.String, "Why there is no such number"),
    Column("contradicted_by", pl.List(pl.String), "Datasets whose veto changed the category"),
    Column("evidence", pl.List(pl.String), "What speaks for the verdict, with numbers"),
)

EVALUATION_ISSUES = TableSpec(
    name="evaluation/issues",
    layer="gold",
    description="One error code of a result in one dataset, with its verdict.",
    columns=(*_ATTEMPT, N_EPOCH, _UNIT_KIND, *ISSUE_COLUMNS),
    key=("evaluation_id", "dataset", "n_epoch", "unit_kind", "error_code"),
    partition_by=("model_key",),
    rules=(Unique(("evaluation_id", "dataset", "n_epoch", "unit_kind", "error_code")),),
    writer="evaluation",
)

#: `window_map` exists only where a stress pass was used (docs/method.md#stress), `object_codebook` only for detectors.
ARTIFACT_KINDS = ("codebook", "object_codebook", "estimator", "window", "window_map")

ESTIMATORS_MODELS = TableSpec(
    name="estimators/models",
    layer="gold",
    description="A fitted artifact of a result (safetensors and JSON): codebook, estimator, window reference or map.",
    columns=(
        *_ATTEMPT,
        N_EPOCH,
        Column("kind", pl.String, "What the artifact is", True, (OneOf(ARTIFACT_KINDS),)),
        Column("artifact_id", pl.String, "SHA-256 of the artifact bytes", True),
        Column("lineage_id", pl.String, "Ties the refits of a codebook together"),
        Column("fingerprint", pl.String, "Weights it belongs to", True),
        Column("feature_layer", pl.String, "Module path of the feature"),
        Column("feature_dim", pl.Int64, "Width of the feature"),
        Column("parameters", pl.String, "Readable parameters as JSON", True),
        Column("metrics", pl.String, "Calibration and ranking metrics as JSON"),
        Column("created_at", TIMESTAMP, "When it was fitted", True),
        Column("artifact", pl.Binary, "safetensors bytes", True, vector=True),
    ),
    key=("evaluation_id", "n_epoch", "kind"),
    partition_by=("model_key",),
    rules=(Unique(("evaluation_id", "n_epoch", "kind")),),
    writer="evaluation",
)

EVALUATION_RESULTS = TableSpec(
    name="evaluation/results",
    layer="gold",
    description="A finished result: the commit point that makes the rows of its `evaluation_id` visible.",
    columns=(
        *_ATTEMPT,
        Column("task", pl.String, "Task", True, (OneOf(TASKS),)),
        Column("status", pl.String, "State of the result", True, (OneOf(("finished",)),)),
        Column("n_epoch_spec", pl.String, "What was asked for: `latest`, `all` or a number", True),
        Column("epochs", pl.List(pl.Int64), "Epochs evaluated; a null entry means rows without epoch", True),
        Column("datasets", pl.List(pl.String), "Datasets evaluated", True),
        Column("decision_dataset", pl.String, "Dataset whose counts decide the categories", True),
        Column("counts", pl.Int64, "Units", True, (AtLeast(0),)),
        Column("fingerprint", pl.String, "Weights of the decision dataset", True),
        Column("fingerprints", pl.List(pl.String), "Fingerprints by epoch", True),
        Column("codebook_ids", pl.List(pl.String), "Codebooks by epoch", True),
        Column("previous_codebook_ids", pl.List(pl.String), "Codebooks reused or refitted from, by epoch", True),
        Column("input_versions", pl.String, "Delta versions of the tables read, JSON", True),
        Column("code_version", pl.String, "Version of mld_pipelines", True),
        Column("algorithm_version", pl.String, "Version of the evaluation itself", True),
        Column("policy", pl.String, "All tolerances and bounds, JSON", True),
        Column("seed", pl.Int64, "Seed of every random choice", True),
        Column("trigger", pl.String, "Why it was made: `manual`, `request`, `feedback`, `stress`", True),
        Column("warnings", pl.List(pl.String), "What a reader should know", True),
        Column("run_id", pl.String, "Dagster run; null for results made in process"),
        Column("created_at", TIMESTAMP, "When it was finished", True),
    ),
    key=("result_name",),
    append_only=True,
    rules=(Unique(("result_name",)),),
    writer="evaluation, last",
)
