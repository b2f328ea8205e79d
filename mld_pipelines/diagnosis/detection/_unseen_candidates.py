"""Frames without the suppressed candidates that the reference had: what is assumed of them, and that it is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._badges import NO_CANDIDATES
from mld_pipelines.diagnosis.detection._misses import ExpectedMisses

if TYPE_CHECKING:
    from mld_pipelines.diagnosis.detection._window import DetectionWindowReference, DetectionWindowState
    from mld_pipelines.diagnosis.detection._window_estimate import DetectionEstimate

__all__ = ["assumed_misses", "misses_per_frame", "shows_no_candidates", "with_candidate_badge"]

_SURELY_SOME = 20.0
"""Clusters that a window would show if it were like the reference; then none at all has a chance of e⁻²⁰ (Poisson)."""


def misses_per_frame(reference: DetectionWindowReference) -> float:
    """Missed objects per frame of the reference, those that a candidate shows and those that none does."""
    return reference.n_missed / reference.frames if reference.frames else 0.0


def assumed_misses(reference: DetectionWindowReference, *, frames: int) -> ExpectedMisses:
    """The misses of frames whose candidates cannot be seen: as many per frame as in the reference, without a place."""
    return ExpectedMisses(
        offsets=np.zeros(frames + 1, np.int64),
        boxes=np.empty((0, 7)),
        labels=np.empty(0, np.int64),
        proba=np.empty(0),
        without_candidate=np.full(frames, misses_per_frame(reference)),
    )


def shows_no_candidates(reference: DetectionWindowReference, *, frames: int, candidates: int) -> bool:
    """Whether a window's frames came without candidates: the reference would have shown some.

    Args:
        reference: The result's window reference.
        frames: Frames of the window.
        candidates: Its clusters of candidates.
    """
    return candidates == 0 and frames * reference.clusters >= _SURELY_SOME * max(reference.frames, 1)


def with_candidate_badge(
    estimate: DetectionEstimate, state: DetectionWindowState, reference: DetectionWindowReference
) -> DetectionEstimate:
    """Return the estimate with the badge of windows of which more misses are assumed than candidates leave open."""
    usual = state.frames * reference.without_candidate
    if NO_CANDIDATES in estimate.badges or state.sum_without_candidate <= usual * (1.0 + 1e-6) + 1e-9:
        return estimate
    return replace(estimate, badges=(*estimate.badges, NO_CANDIDATES))
