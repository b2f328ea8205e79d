"""The aleatoric overlay: errors that the model's own calibrated entropy prices in (docs/method.md#aleatoric)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._categories import CRITICAL, HOTSPOT, RECESSIVE
from mld_pipelines.diagnosis._codefit import code_histogram
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["AleatoricVerdicts", "UnitAmbiguity", "find_aleatoric", "unit_ambiguity"]

_Z_LIMIT = 1.645
"""95 % point of the normal distribution: above it the loss is larger than the model itself expects."""
_ERRORS_MIN = 3
_CLASS_SHARE = 0.3
_RIVAL = 0.25
"""A class is a rival of the winner from a quarter of its probability on."""
_ELEMENTS_AT_ONCE = 4_000_000
"""Float64 elements per temporary (32 MB), so that 1,000 classes cost no more memory than ten."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitAmbiguity:
    """What a unit's tempered distribution p expects of its own loss; arrays of shape (N,).

    Attributes:
        excess: ℓ − H: the loss beyond the entropy, nats.
        variance: Variance of −ln p(Y) when Y is drawn from p.
        rivals: Classes with at least a quarter of the largest probability, the winner included.
    """

    excess: NDArray[np.float64]
    variance: NDArray[np.float64]
    rivals: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AleatoricVerdicts:
    """The overlay per code, `UNSEEN` last.

    Attributes:
        is_aleatoric: Whether the code's errors are explained by stated ambiguity.
        z: Σ(ℓ − H) / √ΣV over the code's units, NaN without units; weak evidence in small codes: show n beside it.
        rivals: Mean rivals over the code's errors, NaN without errors.
    """

    is_aleatoric: NDArray[np.bool_]
    z: NDArray[np.float64]
    rivals: NDArray[np.float64]


def unit_ambiguity(scores: ArrayLike, labels: ArrayLike, *, temperature: float) -> UnitAmbiguity:
    """Return ℓ − H, V and the number of rivals of every unit after temperature scaling.

    Args:
        scores: Logits, or ln max(p, 1e-12) where only probabilities are known, finite, shape (N, K).
        labels: Class indices, shape (N,).
        temperature: Minimiser of the reference loss (`fit_temperature`).

    Raises:
        InvalidInputError: Shapes differ, a label is out of range, or the temperature is not positive.
    """
    z, truth = np.asarray(scores), np.asarray(labels)
    if z.ndim != 2 or z.shape[1] < 2 or truth.shape != (len(z),):
        raise InvalidInputError(f"scores {z.shape} and labels {truth.shape} must be (units, classes) and (units,).")
    if truth.size and not 0 <= truth.min() <= truth.max() < z.shape[1]:
        raise InvalidInputError(f"labels must lie in 0 … {z.shape[1] - 1}, got {truth.min()} … {truth.max()}.")
    if not temperature > 0.0:
        raise InvalidInputError(f"the temperature must be positive, got {temperature}.")
    rows = max(1, _ELEMENTS_AT_ONCE // z.shape[1])
    parts = [_ambiguity(z[i : i + rows] / temperature, truth[i : i + rows]) for i in range(0, max(len(z), 1), rows)]
    excess, variance, rivals = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return UnitAmbiguity(excess=excess, variance=variance, rivals=rivals.astype(np.int64))


def find_aleatoric(
    units: UnitAmbiguity,
    index: ArrayLike,
    is_error: ArrayLike,
    *,
    category: ArrayLike,
    n_classes: int,
    guards: Sequence[ArrayLike] = (),
) -> AleatoricVerdicts:
    """Return which codes are aleatoric: bad or undecided, 3 errors or more, Z ≤ 1.645, ambiguity of a few classes.

    `UNSEEN` is never aleatoric.

    Args:
        units: Ambiguity of the decision dataset's units.
        index: Their codes, −1 is `UNSEEN`.
        is_error: Their error indicators.
        category: Category per code, `UNSEEN` last, shape (C + 1,).
        n_classes: K.
        guards: Further conditions, one flag per code each; all have to hold.

    Raises:
        InvalidInputError: Lengths differ or an index does not fit.
    """
    names, wrong = np.asarray(category), np.asarray(is_error, dtype=np.bool_)
    codes = np.asarray(index, dtype=np.int64)
    if not codes.shape == wrong.shape == units.excess.shape:
        raise InvalidInputError(
            f"codes {codes.shape}, errors {wrong.shape} and units {units.excess.shape} must be equally long."
        )
    if any(np.shape(guard) != names.shape for guard in guards):
        raise InvalidInputError(f"a guard must hold one flag per code, shape {names.shape}.")
    n_codes = len(names) - 1
    n, k = code_histogram(codes, n_codes=n_codes), code_histogram(codes[wrong], n_codes=n_codes)
    z = _standardise(_sum(codes, units.excess, n_codes), _sum(codes, units.variance, n_codes), n)
    rivals = np.full(len(names), np.nan)
    np.divide(_sum(codes[wrong], units.rivals[wrong], n_codes), k, out=rivals, where=k > 0)
    flagged = np.isin(names, [HOTSPOT, CRITICAL, RECESSIVE]) & (k >= _ERRORS_MIN)
    # UNSEEN lies outside the reference by definition, and entropy speaks for ambiguity only inside it.
    flagged[-1:] = False
    flagged &= (z <= _Z_LIMIT) & (rivals <= max(2.0, _CLASS_SHARE * n_classes))
    for guard in guards:
        flagged &= np.asarray(guard, dtype=np.bool_)
    return AleatoricVerdicts(is_aleatoric=flagged, z=z, rivals=rivals)


def _ambiguity(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[NDArray[np.float64], ...]:
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    entropy = -np.einsum("ij,ij->i", p, log_p)
    variance = np.maximum(np.einsum("ij,ij,ij->i", p, log_p, log_p) - entropy**2, 0.0)
    # In logs: p_j ≥ ¼ max p is shifted_j ≥ ln ¼, whatever the normalisation.
    rivals = (shifted >= np.log(_RIVAL)).sum(axis=1)
    return -log_p[np.arange(len(labels)), labels] - entropy, variance, rivals.astype(np.float64)


def _standardise(
    excess: NDArray[np.float64], variance: NDArray[np.float64], n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return Σ(ℓ − H)/√ΣV; without variance (a one-hot or uniform p) any positive excess is infinitely surprising."""
    spread = np.sqrt(variance)
    # Rounding of ℓ and H leaves 1e-12 per unit where both are equal.
    certain = np.where(excess > 1e-9 * np.maximum(n, 1), np.inf, 0.0)
    z = np.where(spread > 1e-12, excess / np.maximum(spread, 1e-300), certain)
    return np.where(n > 0, z, np.nan)


def _sum(codes: NDArray[np.int64], values: NDArray[np.generic], n_codes: int) -> NDArray[np.float64]:
    weights = values.astype(np.float64)
    return np.bincount(np.where(codes < 0, n_codes, codes), weights=weights, minlength=n_codes + 1).astype(np.float64)
