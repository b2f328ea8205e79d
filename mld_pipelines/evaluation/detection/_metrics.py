"""Metrics and category ratios of a detector, dataset by dataset, long form (docs/evaluation.md#detectors)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import jeffreys_interval
from mld_pipelines.evaluation._summary import METRIC_COLUMNS, METRIC_EXTRAS
from mld_pipelines.evaluation._views import ALEATORIC
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import (
    CENTRE_DISTANCE,
    NUSCENES,
    NUSCENES_CLASSES,
    TP_ERRORS,
    NuScenesPolicy,
    NuScenesState,
    average_precision,
    match_frames,
    nuscenes_metrics,
    roc_auc,
)
from mld_pipelines.records import Detections3D, Truths3D
from mld_pipelines.tables import CATEGORIES, EVALUATION_METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.metrics import MatchRule, NuScenesMetrics

__all__ = ["DETECTION_EXTRAS", "RecordedBoxes", "class_metrics", "counted_units", "detection_metric_rows"]

#: What a detector has beside the columns of every task, always after them.
DETECTION_EXTRAS = (
    "n_inputs",
    "n_missed",
    "precision",
    "recall",
    "f1",
    "map",
    "nds_like",
    "mate",
    "mase",
    "maoe",
    "mave",
    "frame_error_rate",
)
#: True-positive errors of nuScenes by our names; attributes are not captured.
_BOX_ERRORS = {"mate": "trans_err", "mase": "scale_err", "maoe": "orient_err", "mave": "vel_err"}
_OF_PREDICTIONS = (
    "precision", "net_entropy", "net_entropy_loss", "mean_entropy", "mean_loss", "confidence_auroc",
    "error_proba_auroc", "error_proba_auprc", "error_proba_auprc_success",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class RecordedBoxes:
    """All boxes of one dataset, frame by frame.

    Attributes:
        input_ids: Id of each frame, (F,).
        detections: Recorded boxes, those below the operating point included.
        truths: True boxes of the same frames.
    """

    input_ids: Sequence[str]
    detections: Detections3D
    truths: Truths3D

    def __post_init__(self) -> None:
        """Check that all are of the same frames."""
        frames = len(self.input_ids), self.detections.frames, self.truths.frames
        if len(set(frames)) > 1:
            raise InvalidInputError(f"ids, detections and truths are of {frames} frames; they must be of the same.")


def counted_units(units: pl.DataFrame) -> pl.DataFrame:
    """Return the units that metrics count: kept predictions and missed objects.

    A found object is the same success as the prediction that found it, and is counted there.

    Args:
        units: Rows of `evaluation/units` of a detector.
    """
    return units.filter((pl.col("unit_kind") == "prediction") | pl.col("is_error"))


def detection_metric_rows(
    units: pl.DataFrame,
    boxes: Mapping[str, RecordedBoxes],
    *,
    n_epoch: int | None,
    alpha: float,
    n_classes: int,
    class_names: Sequence[str] = (),
    rule: MatchRule = CENTRE_DISTANCE,
) -> pl.DataFrame:
    """Return the rows of `evaluation/metrics` without their attempt columns.

    Args:
        units: Rows of `evaluation/units` of one epoch, both kinds: dataset_type, input_id, unit_kind, is_error,
            outcome, confidence, error_proba, entropy, loss, category, is_aleatoric.
        boxes: The boxes of every dataset; one without a unit has rows, too.
        n_epoch: The epoch.
        alpha: One minus the level of the intervals of shares, which reckon that boxes of a frame err together.
        n_classes: Classes of the model.
        class_names: Names by class index; those of nuScenes bring its rules for barriers and cones.
        rule: When a box is right; mAP and the errors of matched boxes are nuScenes', whatever it is.
    """
    policy = _policy(n_classes, class_names)
    rows: list[dict[str, Any]] = []
    for dataset in sorted(boxes):
        own = units.filter(pl.col("dataset_type") == dataset)
        values = [*_metrics(own, boxes[dataset], policy, alpha, rule), *_ratios(counted_units(own), alpha)]
        rows += [{"dataset_type": dataset, **row} for row in values]
    names = ("dataset_type", "scope", "metric", "value", "low", "high", "n")
    schema = {name: EVALUATION_METRICS.column(name).data_type for name in names}
    return pl.DataFrame(rows, schema=schema).with_columns(pl.lit(n_epoch, dtype=pl.Int64).alias("n_epoch"))


class _Share(NamedTuple):
    value: float | None
    low: float | None
    high: float | None
    n: int


def _metrics(
    own: pl.DataFrame, boxes: RecordedBoxes, policy: NuScenesPolicy, alpha: float, rule: MatchRule
) -> list[dict[str, Any]]:
    predictions, counted = own.filter(pl.col("unit_kind") == "prediction"), counted_units(own)
    shares = {
        "accuracy": _share(counted, ~pl.col("is_error"), alpha),
        "error_rate": _share(counted, pl.col("is_error"), alpha),
        "precision": _share(predictions, ~pl.col("is_error"), alpha),
        "recall": _share(own.filter(pl.col("unit_kind") == "object"), pl.col("outcome") == "tp", alpha),
    }
    precision, recall = shares["precision"].value, shares["recall"].value
    values: dict[str, float | None] = {
        "counts": counted.height,
        "n_inputs": len(boxes.input_ids),
        "n_missed": counted.height - predictions.height,
        "f1": 2 * precision * recall / (precision + recall) if precision and recall else _zero(precision, recall),
        **_of_predictions(predictions),
        **_of_boxes(boxes, policy, rule),
    }
    behind = dict.fromkeys(_OF_PREDICTIONS, predictions.height) | {"n_inputs": len(boxes.input_ids)}
    complete = {name: _Share(value, None, None, behind.get(name, counted.height)) for name, value in values.items()}
    complete |= shares | {"frame_error_rate": _frames_with_errors(counted, boxes.input_ids, alpha)}
    return [_row("metric", name, complete[name]) for name in (*METRIC_COLUMNS, *METRIC_EXTRAS, *DETECTION_EXTRAS)]


def _frames_with_errors(counted: pl.DataFrame, input_ids: Sequence[str], alpha: float) -> _Share:
    """Return the share of frames that hold a wrong prediction or a missed object."""
    frames = len(input_ids)
    if not frames:
        return _Share(None, None, None, 0)
    wrong = len({*counted.filter("is_error")["input_id"]} & {*input_ids})
    low, high = jeffreys_interval([frames], [wrong], alpha=alpha)
    return _Share(wrong / frames, float(low[0]), float(high[0]), frames)


def _ratios(counted: pl.DataFrame, alpha: float) -> list[dict[str, Any]]:
    is_in = {name: (pl.col("category") == name).fill_null(value=False) for name in CATEGORIES}
    is_in[ALEATORIC] = pl.col("is_aleatoric").fill_null(value=False)
    return [_row("category_ratio", f"{name}_ratio", _share(counted, chosen, alpha)) for name, chosen in is_in.items()]


def _row(scope: str, metric: str, share: _Share) -> dict[str, Any]:
    return {"scope": scope, "metric": metric, **share._asdict()}


def _zero(*shares: float | None) -> float | None:
    """Return F1 where the harmonic mean is none: 0 as soon as both shares exist, for one of them is 0 then."""
    return None if None in shares else 0.0


def _of_predictions(predictions: pl.DataFrame) -> dict[str, float | None]:
    """Return what is known of predictions alone: a missed object has neither probabilities nor a score."""
    wrong = predictions["is_error"].to_numpy()
    risk = predictions["error_proba"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    known = np.isfinite(risk)
    risk, erred = risk[known], wrong[known]
    n = predictions.height
    entropy, loss = float(predictions["entropy"].sum()), float(predictions["loss"].sum())
    return {
        "net_entropy": entropy,
        "net_entropy_loss": loss,
        "mean_entropy": entropy / n if n else None,
        "mean_loss": loss / n if n else None,
        "error_proba_auroc": roc_auc(risk, erred),
        "error_proba_auprc": average_precision(risk, erred),
        "error_proba_auprc_success": average_precision(-risk, ~erred),
        "confidence_auroc": roc_auc(-predictions["confidence"].cast(pl.Float64).to_numpy(), wrong),
    }


def _of_boxes(boxes: RecordedBoxes, policy: NuScenesPolicy, rule: MatchRule) -> dict[str, float | None]:
    """Return what is known over the whole range of scores: the ranking, mAP and the errors of matched boxes."""
    found, real = boxes.detections, boxes.truths
    matches = match_frames(found, real, n_classes=policy.n_classes, rule=rule)
    recorded = matches.detection >= 0
    auroc = roc_auc(matches.score[recorded], ~matches.is_error[recorded])
    metrics, _ = _nuscenes(boxes, policy)
    if metrics is None:
        return {"auroc": auroc} | dict.fromkeys(("auprc", "map", "nds_like", *_BOX_ERRORS))
    errors = {name: _number(metrics.mean_errors[error]) for name, error in _BOX_ERRORS.items()}
    return {"auroc": auroc, "auprc": metrics.mean_ap, "map": metrics.mean_ap, "nds_like": metrics.nds_like, **errors}


def class_metrics(boxes: RecordedBoxes, *, n_classes: int, class_names: Sequence[str] = ()) -> pl.DataFrame:
    """Return AP (mean over 0.5, 1, 2 and 4 m) and the errors of matched boxes by class; classes without truths are out.

    Args:
        boxes: Of one dataset.
        n_classes: Classes of the model.
        class_names: Names by class index.

    Returns:
        Columns: label, ap, ate, ase, aoe, ave.
    """
    names = ("ate", "ase", "aoe", "ave")
    metrics, present = _nuscenes(boxes, _policy(n_classes, class_names))
    if metrics is None:
        return pl.DataFrame(schema={"label": pl.Int64, "ap": pl.Float64, **dict.fromkeys(names, pl.Float64)})
    errors = {
        name: metrics.errors[:, TP_ERRORS.index(error)] for name, error in zip(names, _BOX_ERRORS.values(), strict=True)
    }
    return pl.DataFrame({"label": present, "ap": metrics.ap.mean(axis=1), **errors}, nan_to_null=True)


def _nuscenes(boxes: RecordedBoxes, policy: NuScenesPolicy) -> tuple[NuScenesMetrics | None, NDArray[np.int64]]:
    """Return the metrics of the classes that have a truth, and which those are; None where none has."""
    found, real = boxes.detections, boxes.truths
    present = np.unique(real.labels[real.labels >= 0])
    if not len(present):
        return None, present
    kept = Detections3D(**_relabelled(found, present)), Truths3D(**_relabelled(real, present))
    state = NuScenesState.of(*kept, _narrowed(policy, present, has_velocities=_moving(*kept)))
    return nuscenes_metrics(state), present


def _relabelled(batch: Detections3D | Truths3D, present: NDArray[np.int64]) -> dict[str, Any]:
    """Return the columns of the objects whose class has a truth, classes counted through."""
    part = batch.take(np.isin(batch.labels, present))
    columns = {one.name: getattr(part, one.name) for one in part.columns()}
    return columns | {"offsets": part.offsets, "labels": np.searchsorted(present, part.labels)}


def _policy(n_classes: int, class_names: Sequence[str]) -> NuScenesPolicy:
    """Return the settings of nuScenes; its rules for single classes hold for classes of those names."""
    place = {name: label for label, name in enumerate(class_names) if label < n_classes}
    own = [(NUSCENES_CLASSES[label], name) for label, name in NUSCENES.undefined]
    turned = [NUSCENES_CLASSES[label] for label in NUSCENES.half_turn]
    return NuScenesPolicy(
        n_classes=n_classes,
        half_turn=tuple(place[name] for name in turned if name in place),
        undefined=tuple((place[name], error) for name, error in own if name in place),
    )


def _narrowed(policy: NuScenesPolicy, present: NDArray[np.int64], *, has_velocities: bool) -> NuScenesPolicy:
    """Return the settings for the classes present: the devkit counts one without truths as 0, we leave it out."""
    place = {label: row for row, label in enumerate(present.tolist())}
    undefined = [(place[label], error) for label, error in policy.undefined if label in place]
    if not has_velocities:
        undefined += [(label, "vel_err") for label in place.values()]
    return NuScenesPolicy(
        n_classes=len(present),
        half_turn=tuple(place[label] for label in policy.half_turn if label in place),
        undefined=tuple(undefined),
    )


def _moving(found: Detections3D, real: Truths3D) -> bool:
    """Return whether both sides know a velocity."""
    return all(bool(np.isfinite(batch.velocities).all(axis=1).any()) for batch in (found, real))


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _share(units: pl.DataFrame, chosen: pl.Expr, alpha: float) -> _Share:
    frames = units.group_by("input_id").agg(chosen.sum().cast(pl.Int64).alias("k"), pl.len().cast(pl.Int64).alias("n"))
    ordered = frames.sort("input_id")
    return _clustered(ordered["k"].to_numpy(), ordered["n"].to_numpy(), alpha)


def _clustered(k: NDArray[np.int64], n: NDArray[np.int64], alpha: float) -> _Share:
    """Return the share Σk / Σn of units that come in frames, with a Jeffreys interval of as many independent units.

    The variance of a ratio over frames, m/(m − 1) Σ (k − p n)² / (Σn)², over the binomial one is the design effect by
    which the number of units shrinks (Kish 1965; Korn and Graubard 1998); it is never taken below 1.
    """
    from scipy.special import betaincinv

    n, k = n[n > 0], k[n > 0]
    total, hits, frames = int(n.sum()), int(k.sum()), len(n)
    if not total:
        return _Share(None, None, None, 0)
    p = hits / total
    independent = p * (1 - p) / total
    spread = frames / (frames - 1) * float(((k - p * n) ** 2).sum()) / total**2 if frames > 1 else 0.0
    effective = total / max(1.0, spread / independent) if independent else float(total)
    a, b = p * effective + 0.5, (1 - p) * effective + 0.5
    low = 0.0 if hits == 0 else float(betaincinv(a, b, alpha / 2))
    high = 1.0 if hits == total else float(betaincinv(a, b, 1 - alpha / 2))
    return _Share(p, low, high, total)
