"""The units of one epoch as arrays, in key order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.diagnosis import Head
from mld_pipelines.evaluation._datasets import PRODUCTION
from mld_pipelines.evaluation._duplicates import duplicate_warnings
from mld_pipelines.evaluation._production import labelled_production
from mld_pipelines.evaluation._vectors import to_matrix, widths
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError
from mld_pipelines.tables import LANDING_MODELS, TRACES_INPUTS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mld_pipelines.evaluation._plan import EvaluationPlan
    from mld_pipelines.lake import Lake

__all__ = ["ModelFacts", "Population", "load_model_facts", "load_population"]

_KEYS = ["dataset_type", "input_id"]
_COLUMNS = ["dataset_type", "n_epoch", "input_id", "label", "metadata", "input_hash", "fingerprint"]
_MODEL_COLUMNS = ["output_kind", "feature_layer", "ingested_at"]
_VECTORS = ["logits", "probs", "feature"]


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """All units of one epoch, sorted by dataset and input id.

    Attributes:
        n_epoch: The epoch; None for rows without one.
        frame: One row per unit: dataset_type, n_epoch, input_id, label, metadata, input_hash, fingerprint.
        logits: (N, K) float32, or None where the model gives probabilities only.
        probabilities: (N, K) float32, or None where logits exist.
        features: (N, d) float32, or None without a feature layer.
        output_kind: What the model returns.
        feature_layer: Module path whose input is the feature.
        warnings: What a reader should know.
    """

    n_epoch: int | None
    frame: pl.DataFrame
    logits: npt.NDArray[np.float32] | None
    probabilities: npt.NDArray[np.float32] | None
    features: npt.NDArray[np.float32] | None
    output_kind: str
    feature_layer: str | None
    warnings: tuple[str, ...] = ()

    @property
    def n_classes(self) -> int:
        """Width of the model's output.

        Raises:
            InvalidInputError: There is neither a logit nor a probability.
        """
        outputs = self.logits if self.logits is not None else self.probabilities
        if outputs is None:
            raise InvalidInputError("the population has neither logits nor probabilities.")
        return int(outputs.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class ModelFacts:
    """What landing knows about one set of weights."""

    head: Head | None = None
    class_names: tuple[str, ...] = ()


def load_population(lake: Lake, plan: EvaluationPlan, n_epoch: int | None) -> Population:
    """Read the traced (and labelled production) units of one epoch.

    Raises:
        InvalidInputError: Vectors of one epoch differ in width, or no unit has a label.
    """
    traced = (
        lake.scan(TRACES_INPUTS, version=plan.input_versions.get(TRACES_INPUTS.name), model_key=plan.model_key)
        .filter(pl.col("n_epoch").eq_missing(pl.lit(n_epoch, dtype=pl.Int64)))
        .select(*_COLUMNS, *_MODEL_COLUMNS, *_VECTORS)
        .collect()
    )
    newest = traced.sort("ingested_at").tail(1).row(0, named=True)
    parts, unlike = [traced], tuple[str, ...]()
    if PRODUCTION in plan.datasets:
        weights, versions = newest["fingerprint"], plan.input_versions
        logged = labelled_production(lake, plan.model_key, fingerprint=weights, n_epoch=n_epoch, versions=versions)
        alike, unlike = _like_traced(logged.select(traced.columns), traced)
        parts.append(alike)
    rows = pl.concat(parts)
    labelled = rows.filter(pl.col("label").is_not_null()).sort(_KEYS)
    if labelled.is_empty():
        raise InvalidInputError(f"none of the {rows.height} traced inputs of {plan.model_key} has a label.")
    warnings = _unlabelled_warning(rows.height - labelled.height)
    outputs = _outputs(labelled)
    features, feature_warnings = _features(labelled)
    return Population(
        n_epoch=n_epoch,
        frame=labelled.select(_COLUMNS),
        logits=outputs.get("logits"),
        probabilities=outputs.get("probs"),
        features=features,
        output_kind=newest["output_kind"] or "logits",
        feature_layer=newest["feature_layer"],
        warnings=(*warnings, *unlike, *feature_warnings, *duplicate_warnings(labelled)),
    )


def _like_traced(logged: pl.DataFrame, traced: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the labelled inferences that have what the traced inputs have, and a warning for the others.

    One label out of range, or a Logger that found no features, must not decide what a whole result can say.
    """
    output = "logits" if not traced["logits"].null_count() else "probs"
    outputs, features = widths(traced, output), widths(traced, "feature")
    if len(outputs) != 1 or len(features) != 1 or outputs[0] is None:
        return logged, ()
    is_alike = (pl.col(output).list.len() == outputs[0]) & (pl.col("label") < outputs[0])
    if features[0] is None:
        logged = logged.with_columns(pl.lit(None, dtype=logged.schema["feature"]).alias("feature"))
    else:
        is_alike &= pl.col("feature").list.len() == features[0]
    alike = logged.filter(is_alike)
    if not (left := logged.height - alike.height):
        return alike, ()
    said = f"{left} labelled inferences were left out: outputs, features or labels are not like those that were traced."
    wrong = logged["label"].filter(logged["label"] >= outputs[0])
    if len(wrong):
        said += (
            f" {len(wrong)} labels are out of range (largest {wrong.to_numpy().max()}, classes 0 … {outputs[0] - 1})."
        )
    return alike, (said,)


def load_model_facts(lake: Lake, model_key: str, fingerprint: str) -> ModelFacts:
    """Return head and class names of a set of weights; empty facts where nothing was recorded."""
    rows = (
        lake.scan(LANDING_MODELS, model_key=model_key)
        .filter(pl.col("fingerprint") == fingerprint)
        .sort("ingested_at")
        .tail(1)
        .collect()
    )
    if rows.is_empty():
        return ModelFacts()
    row = rows.row(0, named=True)
    return ModelFacts(_head(row["head"]), tuple(row["class_names"] or ()))


def _head(data: bytes | None) -> Head | None:
    if data is None:
        return None
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, Any] = load(data)
    except SafetensorError as error:
        raise CorruptArtifactError(f"the stored head of the model cannot be read: {error}.") from error
    weight = tensors["weight"].astype(np.float64)
    bias = tensors.get("bias", np.zeros(len(weight))).astype(np.float64)
    return Head(weight=weight, bias=bias)


def _outputs(frame: pl.DataFrame) -> dict[str, npt.NDArray[np.float32]]:
    for name in ("logits", "probs"):
        if None not in widths(frame, name):
            return {name: to_matrix(frame, name)}
    raise InvalidInputError(
        "some inputs have logits and others only probabilities; trace all datasets of one version the same way."
    )


def _features(frame: pl.DataFrame) -> tuple[npt.NDArray[np.float32] | None, tuple[str, ...]]:
    found = widths(frame, "feature")
    if found == [None]:
        return None, ("the model was traced without features: no error codes, error probability from confidence.",)
    if None in found:
        return None, ("some inputs were traced without features, so none are used: no error codes.",)
    return to_matrix(frame, "feature"), ()


def _unlabelled_warning(count: int) -> tuple[str, ...]:
    return (f"{count} inputs without a label were left out.",) if count else ()
