"""Temperature scaling of the confidence (Guo et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._bank import logits_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._bank import ReferenceUnits

__all__ = ["fit_temperature", "tempered_confidence"]

#: Rows the temperature is fitted on: its standard error is then far below the width of any interval.
FIT_ROWS = 20_000
#: Search range (docs/method.md#window).
BOUNDS = (0.3, 6.0)
#: Rows in float64 at once.
CHUNK_ROWS = 8_192


def fit_temperature(reference: ReferenceUnits) -> float:
    """Temperature in (0.3, 6) that minimises the negative log-likelihood (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    labels = np.asarray(reference.labels)[:FIT_ROWS]
    logits = logits_of(
        logits=None if reference.logits is None else reference.logits[:FIT_ROWS],
        probabilities=None if reference.probabilities is None else reference.probabilities[:FIT_ROWS],
    )
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]

    def loss(temperature: float) -> float:
        return float((np.log(np.exp(shifted / temperature).sum(axis=1)) - own / temperature).mean())

    found = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(found.x)


def tempered_confidence(
    temperature: float,
    *,
    logits: NDArray[np.floating] | None = None,
    probabilities: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Largest softmax probability at this temperature, `(N,)` float64."""
    outputs = logits if logits is not None else probabilities
    confidence = np.empty(0 if outputs is None else len(outputs))
    for start in range(0, len(confidence), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        values = logits_of(
            logits=None if logits is None else logits[part],
            probabilities=None if probabilities is None else probabilities[part],
        )
        shifted = (values - values.max(axis=1, keepdims=True)) / temperature
        confidence[part] = 1.0 / np.exp(shifted).sum(axis=1)
    return confidence
