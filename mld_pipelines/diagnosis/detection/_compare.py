"""Which estimate of precision and recall holds on windows of reference frames: the acceptance rule of a detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MIN_FRAMES_TO_COMPARE", "FrameSums", "WindowErrors", "draw_windows"]

#: Windows drawn, and frames in each: enough for a mean error with a relative standard error of 5 %.
WINDOWS, LARGEST_WINDOW = 200, 100
#: Reference frames below which windows of them say nothing.
MIN_FRAMES_TO_COMPARE = 20
#: Windows lean towards frames with more and with fewer errors, too: an estimate must follow, not only be right on
#: average. Factor of a frame one standard deviation harder than usual: e¹.
TILTS = (0.0, 1.0, -1.0, 0.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FrameSums:
    """What is true of each reference frame, (F,) each, in the order of content.

    Attributes:
        boxes: Kept boxes.
        errors: Those that are no true positives.
        objects: True objects of known classes.
    """

    boxes: Floats
    errors: Floats
    objects: Floats

    @property
    def lost(self) -> Floats:
        """Objects that no kept box found."""
        missing: Floats = np.maximum(self.objects - (self.boxes - self.errors), 0.0)
        return missing


@dataclass(frozen=True, slots=True, eq=False)
class WindowErrors:
    """Mean absolute errors of estimates over windows of reference frames.

    Attributes:
        draws: (W, F), how often each window holds each frame.
        sums: What is true.
    """

    draws: Floats
    sums: FrameSums

    def of_precision(self, errors: Floats) -> float:
        """Mean absolute error of `1 − Σ errors / Σ boxes` with these expected errors per frame, (F,)."""
        boxes = self.draws @ self.sums.boxes
        filled = boxes > 0
        apart = np.abs(self.draws @ (errors - self.sums.errors))[filled] / boxes[filled]
        return float(apart.mean()) if filled.any() else 0.0

    def of_recall(self, errors: Floats, lost: Floats) -> float:
        """Mean absolute error of `TP / (TP + lost)` with these expectations per frame, (F,) each."""
        found, gone = self.draws @ (self.sums.boxes - errors), self.draws @ lost
        real, missing = self.draws @ (self.sums.boxes - self.sums.errors), self.draws @ self.sums.lost
        filled = (real + missing > 0) & (found + gone > 0)
        apart = np.abs(found / np.maximum(found + gone, 1e-300) - real / np.maximum(real + missing, 1e-300))
        return float(apart[filled].mean()) if filled.any() else 0.0


def draw_windows(sums: FrameSums, *, seed: int) -> WindowErrors:
    """Draw windows of reference frames with replacement: half alike, a quarter harder, a quarter easier.

    Args:
        sums: What is true of each frame.
        seed: Chooses the windows.
    """
    rng = np.random.default_rng(seed)
    frames = len(sums.boxes)
    size = max(1, min(frames // 4, LARGEST_WINDOW))
    hardness = (sums.errors + sums.lost) / np.maximum(sums.boxes + sums.lost, 1.0)
    spread = hardness.std()
    z = (hardness - hardness.mean()) / spread if spread > 0.0 else np.zeros(frames)
    weights = [np.exp(tilt * z) for tilt in TILTS]
    chances = [weight / weight.sum() for weight in weights]
    draws = [rng.multinomial(size, chances[window % len(TILTS)]) for window in range(WINDOWS)]
    return WindowErrors(np.asarray(draws, dtype=np.float64), sums)
