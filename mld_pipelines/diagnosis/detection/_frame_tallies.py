"""Sums and truths of single frames, from which windows of any frames are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis.detection._frames import sum_by_frame
from mld_pipelines.diagnosis.detection._window import DetectionWindowState
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._misses import ExpectedMisses
    from mld_pipelines.diagnosis.detection._window import DetectionWindowReference

__all__ = ["FrameTallies"]

_SUMS = ("boxes", "sum_error_proba", "n_above_ep", "candidates", "sum_miss_proba", "n_candidates_above", "n_unseen")
_COUNTS = ("boxes", "n_above_ep", "candidates", "n_candidates_above", "n_unseen")
_TRUTHS = ("errors", "objects", "found")


@dataclass(frozen=True, slots=True, eq=False)
class FrameTallies:
    """What a window state would hold of each frame alone, and what is true of it.

    Attributes:
        sums: (F, 7) float64, in the order of `_SUMS`.
        truths: (F, 3) float64: wrong boxes, objects, objects found.
        without_candidate: Misses per frame that no candidate shows, as the reference has them.
    """

    sums: NDArray[np.float64]
    truths: NDArray[np.float64]
    without_candidate: float

    @classmethod
    def of(
        cls,
        reference: DetectionWindowReference,
        *,
        frame_index: NDArray[np.int64],
        error_proba: NDArray[np.float64],
        is_error: NDArray[np.bool_],
        is_unseen: NDArray[np.bool_],
        misses: ExpectedMisses,
        objects: NDArray[np.int64],
    ) -> FrameTallies:
        """Sums of frames as they would be stored (float32), and truths.

        Args:
            reference: Window reference of the result.
            frame_index: (N,) frame of each kept box.
            error_proba: (N,).
            is_error: (N,) whether the box is no true positive.
            is_unseen: (N,).
            misses: Expected misses of all F frames.
            objects: (F,) true objects of known classes.

        Raises:
            InvalidInputError: Lengths differ.
        """
        frames = len(misses.offsets) - 1
        if not len(frame_index) == len(error_proba) == len(is_error) == len(is_unseen) or len(objects) != frames:
            raise InvalidInputError("boxes or frames differ in number; no windows were made. Pass one value of each.")
        proba, miss = (values.astype(np.float32).astype(np.float64) for values in (error_proba, misses.proba))

        def by_box(values: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
            return sum_by_frame(frame_index, values.astype(np.float64), frames=frames)

        def by_miss(values: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
            return sum_by_frame(misses.frame_index, values.astype(np.float64), frames=frames)

        boxes, errors = by_box(np.ones(len(proba), np.bool_)), by_box(is_error)
        sums = (
            boxes,
            by_box(proba),
            by_box(proba > reference.threshold_ep),
            by_miss(np.ones(len(miss), np.bool_)),
            by_miss(miss),
            by_miss(miss > reference.threshold_miss),
            by_box(is_unseen),
        )
        truths = (errors, objects.astype(np.float64), boxes - errors)
        return cls(np.column_stack(sums), np.column_stack(truths), reference.without_candidate)

    def take(self, rows: NDArray[np.int64]) -> FrameTallies:
        """Some frames, in this order.

        Args:
            rows: Positions.
        """
        return FrameTallies(self.sums[rows], self.truths[rows], self.without_candidate)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.sums)

    @classmethod
    def concat(cls, parts: Sequence[FrameTallies]) -> FrameTallies:
        """The frames of all parts, at least one of one result, in order."""
        return cls(
            np.concatenate([part.sums for part in parts]),
            np.concatenate([part.truths for part in parts]),
            parts[0].without_candidate,
        )

    def state(self, rows: NDArray[np.int64]) -> DetectionWindowState:
        """The window of some frames, which may repeat.

        Args:
            rows: (W,) positions.
        """
        values = dict(zip(_SUMS, self.sums[rows].sum(axis=0).tolist(), strict=True))
        counts = {name: round(values.pop(name)) for name in _COUNTS}
        return DetectionWindowState(
            frames=len(rows), sum_without_candidate=len(rows) * self.without_candidate, **counts, **values
        )

    def rates(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """True rates of false positives and of objects not found; NaN where a window has no box, or no object.

        Args:
            rows: (W,) positions.
        """
        boxes = float(self.sums[rows, 0].sum())
        errors, objects, found = self.truths[rows].sum(axis=0).tolist()
        return errors / boxes if boxes else np.nan, 1.0 - found / objects if objects else np.nan
