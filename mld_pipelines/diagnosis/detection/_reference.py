"""A labelled reference of a detector, its frames dealt into folds, and rates that leave out a unit's own frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from mld_pipelines.diagnosis._bank import hash_keys
from mld_pipelines.diagnosis._monolr import stratified_folds
from mld_pipelines.diagnosis._scores import CodeRates
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._frames import DetectedFrames
    from mld_pipelines.records import Truths3D

__all__ = ["DetectionReference", "fit_rates"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionReference:
    """Labelled frames.

    Attributes:
        frames: What was detected.
        is_error: (N,) outcome of kept boxes.
        truths: What is there.
        is_missed: (T,) outcome of truths; none of a class that the model does not know.
        groups: (F,) number of the content of each frame, by order of hashes; equal frames have equal numbers.
        folds: (F,) fold of each frame.
    """

    frames: DetectedFrames
    is_error: NDArray[np.bool_]
    truths: Truths3D
    is_missed: NDArray[np.bool_]
    groups: NDArray[np.int64]
    folds: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        frames: DetectedFrames,
        is_error: NDArray[np.bool_],
        truths: Truths3D,
        is_missed: NDArray[np.bool_],
        *,
        keys: Sequence[str],
        n_folds: int,
        seed: int,
    ) -> Self:
        """Deal frames into folds by their content, those with and those without an error in turn.

        Raises:
            InvalidInputError: There is no frame, or lengths disagree.
        """
        _check_lengths(frames, is_error, truths, is_missed, keys)
        missed = np.asarray(is_missed, dtype=np.bool_) & (truths.labels >= 0)
        errors = np.asarray(is_error, dtype=np.bool_)
        _, groups = np.unique(hash_keys(keys, seed=seed), return_inverse=True)
        is_wrong = np.zeros(groups.max() + 1, np.bool_)
        is_wrong[groups[frames.kept.frame_index[errors]]] = True
        is_wrong[groups[truths.frame_index[missed]]] = True
        folds = stratified_folds(is_wrong, folds=n_folds)
        return cls(frames=frames, is_error=errors, truths=truths, is_missed=missed, groups=groups, folds=folds[groups])

    @property
    def box_groups(self) -> NDArray[np.int64]:
        """(N,) group of each kept box."""
        return self.groups[self.frames.kept.frame_index]

    @property
    def truth_groups(self) -> NDArray[np.int64]:
        """(T,) group of each truth."""
        return self.groups[self.truths.frame_index]


def fit_rates(
    cells: NDArray[np.int64], outcomes: NDArray[np.bool_], groups: NDArray[np.int64], *, n_cells: int
) -> tuple[CodeRates, NDArray[np.float64]]:
    """Rates of outcomes per cell, and the score of each unit with its own frame left out, (N,).

    Args:
        cells: (N,) code or class of each unit, −1 for none.
        outcomes: (N,).
        groups: (N,) frame of each unit.
        n_cells: Number of codes or classes.
    """
    if not len(cells):
        zeros = np.zeros(n_cells, np.int64)
        return CodeRates(zeros, zeros, 0.5), np.empty(0)
    rates = CodeRates.fit(cells, outcomes, n_codes=n_cells)
    _, own = np.unique(groups * (n_cells + 1) + cells, return_inverse=True)
    units, events = np.bincount(own), np.bincount(own, outcomes.astype(np.float64))
    seen = cells >= 0
    rest = CodeRates(
        np.where(seen, rates.errors[cells] - events[own], 0.0).astype(np.int64),
        np.where(seen, rates.counts[cells] - units[own], 0).astype(np.int64),
        rates.base_rate,
    )
    return rates, rest.scores(np.arange(len(cells)))


def _check_lengths(
    frames: DetectedFrames,
    is_error: NDArray[np.bool_],
    truths: Truths3D,
    is_missed: NDArray[np.bool_],
    keys: Sequence[str],
) -> None:
    if not frames.frames:
        raise InvalidInputError("the reference has no frames; nothing was fitted. Trace a labelled dataset first.")
    given = {
        "outcomes of kept boxes": (np.shape(is_error), (len(frames),)),
        "outcomes of truths": (np.shape(is_missed), (len(truths),)),
        "frames of truths": ((truths.frames,), (frames.frames,)),
        "keys": ((len(keys),), (frames.frames,)),
    }
    for name, (shape, wanted) in given.items():
        if shape != wanted:
            raise InvalidInputError(
                f"{name} have shape {shape}, expected {wanted}; nothing was fitted. Pass one entry each."
            )
