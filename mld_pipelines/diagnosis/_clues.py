"""Clues: what the errors of a code have in common, by which a debugging method is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Clues", "gather_clues"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clues:
    """The errors of one code.

    Attributes:
        n_errors: How many.
        confusion: Most frequent pair (label, prediction), the lowest on a tie; None without errors.
        confusion_share: Its share of the errors, 0 without errors.
        sink_share: Share of the most frequent prediction.
        n_labels: Distinct true classes.
        is_far: Whether the median error lies outside the training support.
        is_undecidable: Whether even 10,000 more labels would leave the code undecided.
    """

    n_errors: int = 0
    confusion: tuple[int, int] | None = None
    confusion_share: float = 0.0
    sink_share: float = 0.0
    n_labels: int = 0
    is_far: bool = False
    is_undecidable: bool = False


def gather_clues(
    index: ArrayLike,
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    n_codes: int,
    is_far: ArrayLike,
    is_undecidable: ArrayLike,
) -> tuple[Clues, ...]:
    """Return the clues of every code, `UNSEEN` last, from the wrong units of the deciding dataset.

    Args:
        index: Code of each wrong unit, −1 is `UNSEEN`, shape (E,).
        labels: Its true class.
        predictions: Its predicted class.
        n_codes: Codes of the codebook.
        is_far: Per code, shape (C + 1,).
        is_undecidable: Per code, shape (C + 1,).

    Raises:
        InvalidInputError: Lengths differ.
    """
    codes, truth, predicted = (np.asarray(values, dtype=np.int64) for values in (index, labels, predictions))
    far, stuck = np.asarray(is_far, dtype=np.bool_), np.asarray(is_undecidable, dtype=np.bool_)
    if not codes.shape == truth.shape == predicted.shape or not far.shape == stuck.shape == (n_codes + 1,):
        raise InvalidInputError(
            f"codes {codes.shape}, labels {truth.shape} and predictions {predicted.shape} must be equally long, and "
            f"flags {far.shape}, {stuck.shape} one per code, shape ({n_codes + 1},)."
        )
    codes = np.where(codes < 0, n_codes, codes)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=n_codes + 1))[:-1])
    return tuple(
        _clues_of(truth[part], predicted[part], is_far=bool(far[code]), is_undecidable=bool(stuck[code]))
        for code, part in enumerate(parts)
    )


def _clues_of(
    truth: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    predicted: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    *,
    is_far: bool,
    is_undecidable: bool,
) -> Clues:
    n = len(truth)
    if not n:
        return Clues(is_far=is_far, is_undecidable=is_undecidable)
    pairs, times = np.unique(np.column_stack([truth, predicted]), axis=0, return_counts=True)
    label, prediction = pairs[times.argmax()].tolist()
    return Clues(
        n_errors=n,
        confusion=(label, prediction),
        confusion_share=float(times.max() / n),
        sink_share=float(np.unique(predicted, return_counts=True)[1].max() / n),
        n_labels=len(np.unique(truth)),
        is_far=is_far,
        is_undecidable=is_undecidable,
    )
