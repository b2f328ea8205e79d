"""Clues of boxes: what the errors of a code have in common, by which a debugging method is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["BoxClues", "gather_box_clues"]

_FEW_POINTS = 5
"""LiDAR points up to which an object counts as hard to see: Waymo Open puts objects of at most 5 into LEVEL_2."""
_OUTER = 0.75
"""Quantile of the range of all units beyond which, and of their size (1 − it) below which, errors are far or small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxClues:
    """The errors of one code of boxes.

    Attributes:
        n_errors: How many.
        error_type: Most frequent type, the first by name on a tie; None without errors.
        type_share: Its share of the errors.
        confusion: Most frequent pair (label, prediction) among `cls` errors; None without one.
        confusion_share: Its share of all errors.
        is_far: Whether the median error is farther away than three quarters of all units of its kind.
        is_small: Whether it is smaller than three quarters of them.
        has_few_points: Whether it holds at most 5 LiDAR points; False where points are not known.
        is_confident: Whether the median score of the errors is at least that of all units of its kind.
        candidate_share: Share of the errors that a candidate below the operating point lies on; NaN where unknown.
        is_undecidable: Whether even 10,000 more labels would leave the code undecided.
    """

    n_errors: int = 0
    error_type: str | None = None
    type_share: float = 0.0
    confusion: tuple[int, int] | None = None
    confusion_share: float = 0.0
    is_far: bool = False
    is_small: bool = False
    has_few_points: bool = False
    is_confident: bool = True
    candidate_share: float = float("nan")
    is_undecidable: bool = False


def gather_box_clues(
    index: ArrayLike,
    *,
    n_codes: int,
    is_error: ArrayLike,
    error_type: Sequence[str | None],
    pairs: ArrayLike,
    range_m: ArrayLike,
    size: ArrayLike,
    points: ArrayLike,
    score: ArrayLike | None = None,
    has_candidate: ArrayLike | None = None,
    is_undecidable: ArrayLike | None = None,
) -> tuple[BoxClues, ...]:
    """Return the clues of every code from the units of one kind in the deciding dataset.

    Args:
        index: Code of each unit, 0 … n_codes − 1, shape (N,).
        n_codes: Number of codes.
        is_error: (N,).
        error_type: (N,) type of each error, None for none.
        pairs: (N, 2) label and prediction, −1 for none.
        range_m: (N,) metres, NaN where unknown.
        size: (N,) any measure of size, NaN where unknown.
        points: (N,) LiDAR points, negative or NaN where unknown.
        score: (N,) score of each prediction; None where that means nothing, and errors count as confident.
        has_candidate: (N,) whether a candidate below the operating point lies on the box.
        is_undecidable: (n_codes,).

    Raises:
        InvalidInputError: Lengths differ.
    """
    codes, wrong = np.asarray(index, dtype=np.int64), np.asarray(is_error, dtype=np.bool_)
    facts: dict[str, NDArray[Any]] = {
        "type": np.array(["" if one is None else one for one in error_type], dtype=np.str_),
        "pairs": np.asarray(pairs, dtype=np.int64).reshape(-1, 2),
        "range": np.asarray(range_m, dtype=np.float64),
        "size": np.asarray(size, dtype=np.float64),
        "points": np.asarray(points, dtype=np.float64),
        "score": np.zeros(len(codes)) if score is None else np.asarray(score, dtype=np.float64),
        "candidate": np.full(len(codes), np.nan) if has_candidate is None else np.asarray(has_candidate, np.float64),
    }
    stuck = np.zeros(n_codes, dtype=np.bool_) if is_undecidable is None else np.asarray(is_undecidable, dtype=np.bool_)
    lengths = {len(codes), len(wrong), *(len(values) for values in facts.values())}
    if len(lengths) > 1 or stuck.shape != (n_codes,):
        raise InvalidInputError(
            f"columns of units have lengths {sorted(lengths)} and flags {stuck.shape}; units need one length, flags "
            f"one per code, shape ({n_codes},)."
        )
    limits = (
        _quantile(facts["range"], _OUTER),
        _quantile(facts["size"], 1.0 - _OUTER),
        _quantile(facts["score"], 0.5),
    )
    rows = np.flatnonzero(wrong)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    parts = np.split(rows, np.cumsum(np.bincount(codes[rows], minlength=n_codes))[:-1])
    return tuple(
        _clues_of({name: values[part] for name, values in facts.items()}, limits, bool(stuck[code]))
        for code, part in enumerate(parts)
    )


def _clues_of(errors: dict[str, NDArray[Any]], limits: tuple[float, float, float], is_undecidable: bool) -> BoxClues:
    n = len(errors["type"])
    if not n:
        return BoxClues(is_undecidable=is_undecidable)
    types, times = np.unique(errors["type"], return_counts=True)
    pairs = errors["pairs"][errors["type"] == "cls"]
    confusion, confused = _most_frequent(pairs)
    points = errors["points"].astype(np.float64)
    return BoxClues(
        n_errors=n,
        error_type=str(types[times.argmax()]) or None,
        type_share=float(times.max() / n),
        confusion=confusion,
        confusion_share=confused / n,
        is_far=bool(_median(errors["range"]) > limits[0]),
        is_small=bool(_median(errors["size"]) < limits[1]),
        has_few_points=bool(_median(points[points >= 0]) <= _FEW_POINTS),
        is_confident=bool(_median(errors["score"]) >= limits[2]),
        candidate_share=float(errors["candidate"].astype(np.float64).mean()),
        is_undecidable=is_undecidable,
    )


def _most_frequent(pairs: NDArray[Any]) -> tuple[tuple[int, int] | None, int]:
    if not len(pairs):
        return None, 0
    found, times = np.unique(pairs, axis=0, return_counts=True)
    label, prediction = found[times.argmax()].tolist()
    return (label, prediction), int(times.max())


def _median(values: NDArray[Any]) -> float:
    """Return the median of the known values; NaN, which is neither above nor below anything, without one."""
    known = values.astype(np.float64)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else float("nan")


def _quantile(values: NDArray[np.float64], at: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, at)) if len(known) else float("nan")
