"""A window of a detector's frames as mergeable sums, and what the reference says about such windows.

Days are the sum of their hours (docs/method.md#detection).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis._artifact import load_artifact, pack_artifact
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._misses import ExpectedMisses
    from mld_pipelines.diagnosis.detection._shift_map import DetectionShiftMap

__all__ = [
    "DetectionWindowReference",
    "DetectionWindowState",
    "detection_window_state",
    "tail_threshold",
    "within_frame_correlation",
]

KIND = "detection_window"
FORMAT_VERSION = 1
#: q, the interval's half-width in units of s at 90 % (docs/method.md#interval).
WIDTH_FACTOR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionWindowReference:
    """What the reference says about windows of frames.

    Attributes:
        frames: Reference frames.
        boxes: Kept boxes.
        n_errors: Those that were no true positives.
        objects: True objects of known classes.
        n_missed: Objects that nothing found.
        n_mistaken: Objects that a prediction was mistaken about (its class or place): not found either, and no unit of
            their own, since the prediction is counted.
        clusters: Clusters of candidates on no kept box.
        n_shown: Missed objects among them.
        without_candidate: Missed objects per frame that no cluster shows.
        threshold_ep: Cross-fitted error probability exceeded by the share of errors.
        threshold_miss: Cross-fitted miss probability exceeded by the share of real ones among clusters.
        is_tied: So many boxes share one error probability that no threshold is exceeded by that share.
        is_miss_tied: The same among clusters.
        error_correlation: Within-frame correlation of errors, from 0 to 1.
        miss_correlation: Within-frame correlation of not being found, from 0 to 1.
        unseen_ref: Cross-fitted UNSEEN share of kept boxes, None without a codebook.
        width_factor: q at 90 %.
        shift: What a stress pass taught, an artifact of its own; None without one.
    """

    frames: int
    boxes: int
    n_errors: int
    objects: int
    n_missed: int
    n_mistaken: int
    clusters: int
    n_shown: int
    without_candidate: float
    threshold_ep: float
    threshold_miss: float
    is_tied: bool = False
    is_miss_tied: bool = False
    error_correlation: float = 0.0
    miss_correlation: float = 0.0
    unseen_ref: float | None = None
    width_factor: float = WIDTH_FACTOR
    shift: DetectionShiftMap | None = None

    @property
    def precision(self) -> float | None:
        """Share of kept boxes that were true positives; None without a box."""
        return 1.0 - self.n_errors / self.boxes if self.boxes else None

    @property
    def recall(self) -> float | None:
        """Share of true objects that were found; None without an object."""
        return 1.0 - (self.n_missed + self.n_mistaken) / self.objects if self.objects else None

    @property
    def mistaken_share(self) -> float:
        """Objects that a prediction was mistaken about, per error."""
        return self.n_mistaken / self.n_errors if self.n_errors else 0.0

    def to_bytes(self) -> bytes:
        """The reference without its stress map as safetensors bytes; equal state gives equal bytes."""
        own = {name: value for name, value in asdict(replace(self, shift=None)).items() if name != "shift"}
        return pack_artifact(KIND, FORMAT_VERSION, tensors={"format": np.array([FORMAT_VERSION])}, parameters=own)

    @classmethod
    def from_bytes(cls, data: bytes) -> DetectionWindowReference:
        """The reference that `to_bytes` wrote, bit for bit.

        Raises:
            CorruptArtifactError: The bytes are damaged, foreign or newer than this code.
        """
        return load_artifact(data, kind=KIND, version=FORMAT_VERSION, build=cls._from_state)

    @classmethod
    def _from_state(cls, _tensors: Mapping[str, NDArray[Any]], parameters: dict[str, Any]) -> DetectionWindowReference:
        parameters.pop("stress_version", None)  # earlier versions wrote it, always null
        return cls(**parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionWindowState:
    """Mergeable sums of a window of frames.

    Attributes:
        frames: Frames scored.
        boxes: Kept boxes scored.
        sum_error_proba: Σ EP over them.
        n_above_ep: Boxes with EP above the reference threshold.
        candidates: Clusters of candidates on no kept box.
        sum_miss_proba: Σ P(missed object) over them.
        n_candidates_above: Clusters with P above the reference threshold.
        sum_without_candidate: Misses assumed where no candidate shows any.
        n_unseen: UNSEEN boxes.
    """

    frames: int = 0
    boxes: int = 0
    sum_error_proba: float = 0.0
    n_above_ep: int = 0
    candidates: int = 0
    sum_miss_proba: float = 0.0
    n_candidates_above: int = 0
    sum_without_candidate: float = 0.0
    n_unseen: int = 0

    def __add__(self, other: DetectionWindowState) -> DetectionWindowState:
        """The state of both windows together."""
        return DetectionWindowState(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, one per attribute."""
        return asdict(self)


def detection_window_state(
    reference: DetectionWindowReference,
    error_proba: NDArray[np.floating],
    misses: ExpectedMisses,
    *,
    is_unseen: NDArray[np.bool_] | None = None,
) -> DetectionWindowState:
    """Sums of a window's frames.

    Args:
        reference: The result's window reference.
        error_proba: Of kept or of recorded boxes; NaN (below the operating point, or not scored) is in no sum.
        misses: Expected misses of the same frames.
        is_unseen: Which of the boxes are UNSEEN.

    Raises:
        InvalidInputError: Lengths differ.
    """
    proba, miss = _as_stored(error_proba), _as_stored(misses.proba)
    unseen = np.zeros(proba.shape, np.bool_) if is_unseen is None else np.asarray(is_unseen, dtype=np.bool_)
    if unseen.shape != proba.shape:
        raise InvalidInputError(
            f"{len(unseen)} UNSEEN marks were given for {len(proba)} boxes; no window was made. Pass one per box."
        )
    valid = np.isfinite(proba)
    return DetectionWindowState(
        frames=len(misses.offsets) - 1,
        boxes=int(valid.sum()),
        sum_error_proba=float(proba[valid].sum()),
        n_above_ep=int((proba[valid] > reference.threshold_ep).sum()),
        candidates=len(miss),
        sum_miss_proba=float(miss.sum()),
        n_candidates_above=int((miss > reference.threshold_miss).sum()),
        sum_without_candidate=float(misses.without_candidate.sum()),
        n_unseen=int((unseen & valid).sum()),
    )


def tail_threshold(proba: NDArray[np.floating], in_use: NDArray[np.floating], *, share: float) -> tuple[float, bool]:
    """The probability that a share of the reference exceeds, and whether too many ties make it useless.

    Args:
        proba: Cross-fitted probabilities of the reference.
        in_use: Its probabilities under the model that scores production.
        share: Share of errors.
    """
    from mld_pipelines.diagnosis._window import TIE_FLOOR, TIE_SHARE

    if not len(proba):
        return 1.0, True
    threshold = float(np.quantile(_as_stored(proba), 1.0 - share))
    above = float((_as_stored(in_use) > threshold).mean())
    return threshold, abs(above - share) > TIE_FLOOR + TIE_SHARE * share


def within_frame_correlation(outcomes: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    """Intraclass correlation of outcomes of one frame by one-way analysis of variance, cut to [0, 1].

    ρ = (MSB − MSW) / (MSB + (n₀ − 1)·MSW), n₀ = (N − Σ nᵢ² / N) / (k − 1) for k frames of nᵢ units (Donner 1986).

    Args:
        outcomes: (N,).
        groups: (N,) number of the frame of each.
    """
    if not len(outcomes):
        return 0.0
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)
    means = np.bincount(group, outcomes.astype(np.float64)) / sizes
    total, frames = sizes.sum(), len(sizes)
    if frames < 2 or total == frames:  # no frame, or none with two units: nothing to compare
        return 0.0
    between = float((sizes * (means - outcomes.mean()) ** 2).sum()) / (frames - 1)
    within = float((sizes * means * (1.0 - means)).sum()) / (total - frames)
    usual = (total - float((sizes**2).sum()) / total) / (frames - 1)
    scale = between + (usual - 1.0) * within
    return float(np.clip((between - within) / scale, 0.0, 1.0)) if scale > 0.0 else 0.0


def _as_stored(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values rounded to float32, in float64."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)
