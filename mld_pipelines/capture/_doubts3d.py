"""What looks wrong in boxes that break no rule: told once, with the evidence, and recorded all the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d import Frame3D

__all__ = ["Doubts3D"]

_LEAST_BOXES = 20
"""Boxes that are wider than long say nothing about a handful of pedestrians."""
_MOST_BOXES = 200
"""The last boxes seen count: a part of the data may be wrong behind a part that is right."""
_SUSPICIOUS_SHARE, _ORDINARY_SHARE = 0.8, 0.5
_WIDER = 1.2
"""Most objects on roads are longer than wide; people are about as long as wide, a fifth more is neither."""
_FULL_TURN = 2 * math.pi + 0.1
"""A yaw that was never wrapped lies within a turn or two; of degrees, 96 in 100 lie outside."""


class Doubts3D:
    """Adds up what targets and detections look like, over calls, until there is something to tell.

    Args:
        convention: Returns the convention in which the boxes of the detector came, for the message.
    """

    def __init__(self, convention: Any = None) -> None:
        self._convention = convention or (lambda: "unknown")
        self._true, self._found = np.zeros((0, 2)), np.zeros((0, 2))
        self._yaws: NDArray[np.float64] = np.zeros(0)
        self._scores = (0.0, 1.0)
        self._told: set[str] = set()

    def see_targets(self, boxes: NDArray[Any]) -> None:
        """Look at true boxes as they were given, before yaws are wrapped.

        Args:
            boxes: (N, 7).
        """
        self._true = _added(self._true, boxes[:, 3:5])
        self._yaws = np.concatenate([self._yaws, np.abs(boxes[:, 6])])[-_MOST_BOXES:]

    def see_found(self, frames: Sequence[Frame3D]) -> None:
        """Look at what a detector found."""
        for frame in frames:
            self._found = _added(self._found, frame.boxes[:, 3:5])
            scores = frame.scores[np.isfinite(frame.scores)]
            if len(scores):
                low, high = self._scores
                self._scores = min(low, float(scores.min())), max(high, float(scores.max()))

    def news(self) -> list[str]:
        """Return what has not been told yet."""
        said = {"order": self._order(), "convention": self._found_order(), "yaw": self._turns(), "score": self._range()}
        new = {kind: text for kind, text in said.items() if text is not None and kind not in self._told}
        self._told |= new.keys()
        return list(new.values())

    def _order(self) -> str | None:
        share = _share(self._true)
        if share is None or share < _SUSPICIOUS_SHARE:
            return None
        found = _share(self._found)
        if found is not None and found >= _SUSPICIOUS_SHARE:
            return None  # both agree: barriers are wide
        beside = "" if found is None else f", of the boxes found {found:.0%}"
        return (
            f"{share:.0%} of {len(self._true)} true boxes are wider than long ({_medians(self._true)}){beside}: is "
            "their order [cx, cy, cz, w, l, h, yaw]?"
        )

    def _found_order(self) -> str | None:
        share, true = _share(self._found), _share(self._true)
        if share is None or share < _SUSPICIOUS_SHARE or (true is not None and true > _ORDINARY_SHARE):
            return None
        beside = "" if true is None else f", of the true boxes {true:.0%}"
        return (
            f"{share:.0%} of {len(self._found)} boxes found are wider than long ({_medians(self._found)}){beside}; "
            f"they were read as {self._convention()}. If the weights were trained under another convention, say so "
            "with box_convention= (of a registered model: --settings of mld models register)."
        )

    def _turns(self) -> str | None:
        is_far = self._yaws > _FULL_TURN
        if len(is_far) < _LEAST_BOXES or is_far.mean() < _ORDINARY_SHARE:
            return None
        return (
            f"{is_far.mean():.0%} of {len(is_far)} true yaws lie outside ±2π (up to {self._yaws.max():.1f}); they were "
            "read as radians and wrapped to ±π. Are they degrees?"
        )

    def _range(self) -> str | None:
        low, high = self._scores
        if low >= 0.0 and high <= 1.0:
            return None
        return (
            f"scores reach from {low:.2f} to {high:.2f}, but thresholds and estimates take them for probabilities. Are "
            "they logits?"
        )


def _added(sizes: NDArray[np.float64], more: NDArray[Any]) -> NDArray[np.float64]:
    return np.concatenate([sizes, np.asarray(more, np.float64)])[-_MOST_BOXES:]


def _share(sizes: NDArray[np.float64]) -> float | None:
    """Return which share of boxes is clearly wider than long; None if they are too few to tell."""
    return None if len(sizes) < _LEAST_BOXES else float((sizes[:, 0] > _WIDER * sizes[:, 1]).mean())


def _medians(sizes: NDArray[np.float64]) -> str:
    width, length = np.median(sizes, axis=0)
    return f"median w {width:.2f} m, l {length:.2f} m"
