"""A window of production units as mergeable sums, and what the reference says about such windows.

Days are the sum of their hours (docs/method.md#window).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis._artifact import load_artifact, pack_artifact
from mld_pipelines.diagnosis._temperature import fit_temperature, tempered_confidence
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._bank import ReferenceUnits

__all__ = [
    "WindowReference",
    "WindowState",
    "fit_window_reference",
    "window_state",
]

KIND = "window"
FORMAT_VERSION = 1
#: q, the interval's half-width in units of s at 90 % (docs/method.md#interval).
WIDTH_FACTOR = 2.0
#: Distance of the share above the threshold from r0 that only ties explain: without them it was at most 0.05·r0
#: (22 references of 150 to 2,000 units, r0 0.06 to 0.67).
TIE_FLOOR, TIE_SHARE = 0.02, 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowReference:
    """What the reference says about windows.

    Attributes:
        n_ref: Reference units.
        n_errors: Reference errors m.
        threshold_ep: Cross-fitted error probability exceeded by a share r0 of the reference.
        threshold_mc: Tempered confidence undercut by a share r0 of the reference.
        temperature: Minimiser of the reference's negative log-likelihood.
        is_coarse: Fewer than 60 units or one predicted class: no interval below ±0.15.
        is_tied: So many units share one error probability that no threshold is exceeded by a share r0.
        unseen_ref: Cross-fitted UNSEEN share, None without a codebook.
        code_rates: Smoothed error rate per code, `(C,)`; empty without a codebook.
        width_factor: q at 90 %; a stress pass may raise it.
        stress_version: Version of the stress pass behind `width_factor`, None without one.
    """

    n_ref: int
    n_errors: int
    threshold_ep: float
    threshold_mc: float
    temperature: float
    is_coarse: bool = False
    is_tied: bool = False
    unseen_ref: float | None = None
    code_rates: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    width_factor: float = WIDTH_FACTOR
    stress_version: str | None = None

    @property
    def base_rate(self) -> float:
        """Reference error rate r0."""
        return self.n_errors / self.n_ref

    def to_bytes(self) -> bytes:
        """The reference as safetensors bytes; equal state gives equal bytes."""
        parameters = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "code_rates"}
        return pack_artifact(KIND, FORMAT_VERSION, tensors={"code_rates": self.code_rates}, parameters=parameters)

    @classmethod
    def from_bytes(cls, data: bytes) -> WindowReference:
        """The reference that `to_bytes` wrote, bit for bit.

        Raises:
            CorruptArtifactError: The bytes are damaged, foreign or newer than this code.
        """
        return load_artifact(
            data,
            kind=KIND,
            version=FORMAT_VERSION,
            build=lambda tensors, parameters: cls(code_rates=tensors["code_rates"], **parameters),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowState:
    """Mergeable sums of a window.

    Attributes:
        n: Units scored.
        sum_error_proba: Σ EP.
        n_above_ep: Units with EP above the reference threshold.
        sum_confidence: Σ tempered confidence.
        n_below_mc: Units with tempered confidence below the reference threshold.
        n_unseen: UNSEEN units.
        n_invalid: Units with NaN or infinite outputs; they are in no other sum.
        code_counts: Units per code; empty without a codebook.
    """

    n: int = 0
    sum_error_proba: float = 0.0
    n_above_ep: int = 0
    sum_confidence: float = 0.0
    n_below_mc: int = 0
    n_unseen: int = 0
    n_invalid: int = 0
    code_counts: tuple[int, ...] = ()

    def __add__(self, other: WindowState) -> WindowState:
        """The state of both windows together.

        Raises:
            InvalidInputError: The states count different codebooks.
        """
        if self.code_counts and other.code_counts and len(self.code_counts) != len(other.code_counts):
            raise InvalidInputError(
                f"window states count {len(self.code_counts)} and {len(other.code_counts)} codes; nothing was merged. "
                "Merge windows of one result only."
            )
        pairs = zip(self.code_counts, other.code_counts, strict=False)
        merged = tuple(a + b for a, b in pairs) or self.code_counts or other.code_counts
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "code_counts"}
        return WindowState(**sums, code_counts=merged)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, one per attribute."""
        return asdict(self)


def fit_window_reference(
    reference: ReferenceUnits,
    error_proba: NDArray[np.float64],
    *,
    in_use: NDArray[np.float64] | None = None,
    code_rates: NDArray[np.float64] | None = None,
    unseen_ref: float | None = None,
    is_coarse: bool = False,
) -> WindowReference:
    """Thresholds and temperature of a labelled reference.

    Args:
        reference: The units, in an order unrelated to their content (the temperature uses the first 20,000).
        error_proba: Their cross-fitted error probabilities, `(N,)`.
        in_use: Their error probabilities under the model that scores production, `(N,)`; None skips the check for
            ties.
        code_rates: Smoothed error rate per code.
        unseen_ref: Cross-fitted UNSEEN share.
        is_coarse: Fewer than 60 units or one predicted class.
    """
    rate = float(reference.errors.mean())
    # Values as a table holds them: where many units tie, rounding would put all of them on one side of a threshold.
    error_proba = _as_stored(error_proba)
    temperature = fit_temperature(reference)
    confidence = _as_stored(
        tempered_confidence(temperature, logits=reference.logits, probabilities=reference.probabilities)
    )
    threshold = float(np.quantile(error_proba, 1.0 - rate))
    above = rate if in_use is None else float((_as_stored(in_use) > threshold).mean())
    return WindowReference(
        n_ref=len(reference),
        n_errors=int(reference.errors.sum()),
        threshold_ep=threshold,
        threshold_mc=float(np.quantile(confidence, rate)),
        temperature=temperature,
        is_coarse=is_coarse,
        is_tied=abs(above - rate) > TIE_FLOOR + TIE_SHARE * rate,
        unseen_ref=unseen_ref,
        code_rates=np.empty(0) if code_rates is None else code_rates,
    )


def window_state(
    reference: WindowReference,
    *,
    error_proba: NDArray[np.floating],
    confidence: NDArray[np.floating],
    codes: NDArray[np.int64] | None = None,
) -> WindowState:
    """Sums of a window's units.

    Args:
        reference: The result's window reference.
        error_proba: `(N,)`; NaN marks a unit without scores, counted as invalid and in no other sum.
        confidence: Tempered confidence, `(N,)`, see `tempered_confidence`.
        codes: Code index per unit, -1 for UNSEEN; None without a codebook.

    Raises:
        InvalidInputError: Lengths disagree or a code is outside the codebook.
    """
    proba, tempered = _as_stored(error_proba), _as_stored(confidence)
    if proba.shape != tempered.shape or (codes is not None and np.shape(codes) != proba.shape):
        raise InvalidInputError("error_proba, confidence and codes differ in length; no window was made.")
    valid = np.isfinite(proba)
    seen = np.empty(0, dtype=np.int64) if codes is None else np.asarray(codes)[valid]
    n_codes = len(reference.code_rates)
    if len(seen) and (seen.max() >= n_codes or seen.min() < -1):
        raise InvalidInputError(
            f"codes run from {seen.min()} to {seen.max()} but the codebook has {n_codes}; no window was made. "
            "Pass the codes of the same result."
        )
    counts = () if codes is None else np.bincount(seen[seen >= 0], minlength=n_codes)
    return WindowState(
        n=int(valid.sum()),
        sum_error_proba=float(proba[valid].sum()),
        n_above_ep=int((proba[valid] > reference.threshold_ep).sum()),
        sum_confidence=float(tempered[valid].sum()),
        n_below_mc=int((tempered[valid] < reference.threshold_mc).sum()),
        n_unseen=int((seen < 0).sum()),
        n_invalid=int((~valid).sum()),
        code_counts=tuple(int(count) for count in counts),
    )


def _as_stored(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values rounded to float32, in float64."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)
