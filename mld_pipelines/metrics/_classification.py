"""One row of `metrics_summary` for a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._ranking import average_precision, macro_ranking, roc_auc
from mld_pipelines.metrics._statistics import check_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ClassificationMetrics", "classification_metrics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationMetrics:
    """Metrics of one dataset in the order of `metrics_summary`, extras last; None where undefined.

    Attributes:
        counts: Units.
        accuracy: Share of right predictions.
        auroc: Macro one-vs-rest AUROC over classes having both outcomes.
        auprc: The same mean of step-wise average precision.
        net_entropy_loss: Σ cross-entropy, nats.
        net_entropy: Σ predictive entropy, nats.
        error_proba_auroc: AUROC of `error_proba` for errors.
        error_proba_auprc: Average precision of `error_proba`, positive = error.
        error_proba_auprc_success: Average precision of 1 − `error_proba`, positive = right.
        confidence_auroc: AUROC of low confidence for errors, the baseline of `error_proba_auroc`.
        mean_entropy: `net_entropy` per unit.
        mean_loss: `net_entropy_loss` per unit.
        error_rate: Share of errors: the chance level of `error_proba_auprc`.
    """

    counts: int
    accuracy: float
    auroc: float | None
    auprc: float | None
    net_entropy_loss: float
    net_entropy: float
    error_proba_auroc: float | None
    error_proba_auprc: float | None
    error_proba_auprc_success: float | None
    confidence_auroc: float | None
    mean_entropy: float
    mean_loss: float
    error_rate: float


def classification_metrics(
    *,
    probabilities: ArrayLike,
    labels: ArrayLike,
    entropy: ArrayLike,
    loss: ArrayLike,
    error_proba: ArrayLike | None = None,
    prediction: ArrayLike | None = None,
) -> ClassificationMetrics:
    """Return the metrics of N ≥ 1 labelled units (docs/method.md#metrics).

    Args:
        probabilities: Shape (N, K), K ≥ 2.
        labels: Class indices, shape (N,).
        entropy: Nats, shape (N,), from `unit_statistics`.
        loss: Nats, shape (N,), from `unit_statistics`.
        error_proba: Cross-fitted P(error), shape (N,); without it the three `error_proba_*` are None.
        prediction: Predicted class indices, shape (N,); by default the most probable class. Logits closer than the
            rounding of their probabilities decide differently, so pass those of `unit_statistics` where they exist.

    Raises:
        InvalidInputError: No unit, or shapes or labels that do not fit.
    """
    p = np.asarray(probabilities)
    if p.ndim != 2 or p.shape[1] < 2 or not len(p):
        raise InvalidInputError(
            f"metrics need at least one unit and two classes, got probabilities of shape {p.shape}."
        )
    n = len(p)
    truth = check_labels(labels, n_units=n, n_classes=p.shape[1])
    net_entropy, net_loss = _total("entropy", entropy, n), _total("loss", loss, n)
    chosen = p.argmax(axis=1) if prediction is None else check_labels(prediction, n_units=n, n_classes=p.shape[1])
    is_error = chosen != truth
    auroc, auprc = macro_ranking(p, truth)
    risk = None if error_proba is None else _vector("error_proba", error_proba, n)
    errors = int(is_error.sum())
    return ClassificationMetrics(
        counts=n,
        accuracy=(n - errors) / n,
        auroc=auroc,
        auprc=auprc,
        net_entropy_loss=net_loss,
        net_entropy=net_entropy,
        error_proba_auroc=None if risk is None else roc_auc(risk, is_error),
        error_proba_auprc=None if risk is None else average_precision(risk, is_error),
        error_proba_auprc_success=None if risk is None else average_precision(-risk, ~is_error),
        confidence_auroc=roc_auc(-p[np.arange(n), chosen].astype(np.float64), is_error),
        mean_entropy=net_entropy / n,
        mean_loss=net_loss / n,
        error_rate=errors / n,
    )


def _total(name: str, values: ArrayLike, n: int) -> float:
    return float(_vector(name, values, n).sum())


def _vector(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n,):
        raise InvalidInputError(f"{name} must hold one number per unit, shape ({n},), got {array.shape}.")
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{int((~np.isfinite(array)).sum())} of {n} values of {name} are not finite.")
    return array
