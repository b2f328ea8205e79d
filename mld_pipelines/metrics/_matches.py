"""Matches as rows: one for every kept prediction and one for every truth that none of them found."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ERROR_TYPES", "OUTCOMES", "SUB_TYPES", "Matches"]

OUTCOMES = ("tp", "fp", "fn")
"""Names of the values of `Matches.outcome`."""

ERROR_TYPES = ("cls", "loc", "both", "dupe", "bkg", "miss")
"""Names of the values of `Matches.error_type`; −1 is none."""

SUB_TYPES = ("loc_centre", "loc_size", "loc_yaw", "loc_mixed")
"""Names of the values of `Matches.sub_type`; −1 is none."""

FN, MISS = OUTCOMES.index("fn"), ERROR_TYPES.index("miss")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Matches:
    """Outcomes by row: frame by frame, predictions in their own order, then what was not found.

    Every truth of a class the model knows is in exactly one `tp` or `fn` row. A truth that no prediction matches but
    one is mistaken about (its class, its place) is `fn` without a type and no unit: the prediction is counted already.

    Attributes:
        n_frames: Frames, empty ones included.
        frame: (R,) int64, number of the frame.
        outcome: (R,) int8, index into `OUTCOMES`.
        error_type: (R,) int8, index into `ERROR_TYPES`, −1 for none.
        sub_type: (R,) int8, index into `SUB_TYPES`, −1 for none.
        detection: (R,) int64, row of the prediction, −1 for `fn`.
        truth: (R,) int64, row of the truth that was matched or missed, or that the error is about (the misplaced, the
            misnamed or the one found twice); −1 for none.
        label: (R,) int64, class of the prediction; of the truth for `fn`.
        truth_label: (R,) int64, class of `truth`, −1 for none.
        score: (R,) float64, NaN for `fn`.
        value: (R,) float64, distance (metres) or IoU between prediction and `truth`, NaN without both.
        ate: (R,) float64, ground-plane distance of the centres, metres; this and the next three only for 3D `tp`.
        ase: (R,) float64, 1 − IoU of the sizes.
        aoe: (R,) float64, turn between the yaws, radians.
        ave: (R,) float64, m/s; NaN also where a velocity is unknown.
    """

    n_frames: int
    frame: NDArray[np.int64]
    outcome: NDArray[np.int8]
    error_type: NDArray[np.int8]
    sub_type: NDArray[np.int8]
    detection: NDArray[np.int64]
    truth: NDArray[np.int64]
    label: NDArray[np.int64]
    truth_label: NDArray[np.int64]
    score: NDArray[np.float64]
    value: NDArray[np.float64]
    ate: NDArray[np.float64]
    ase: NDArray[np.float64]
    aoe: NDArray[np.float64]
    ave: NDArray[np.float64]

    @property
    def is_unit(self) -> NDArray[np.bool_]:
        """(R,) whether the row is a unit: a kept prediction or a missed object."""
        result: NDArray[np.bool_] = (self.outcome != FN) | (self.error_type == MISS)
        return result

    @property
    def is_error(self) -> NDArray[np.bool_]:
        """(R,) whether the row has an error type."""
        return self.error_type >= 0

    def __len__(self) -> int:
        return len(self.frame)

    def to_frame(self) -> pl.DataFrame:
        """Return the rows with names for codes and null for none."""
        rows = {name: getattr(self, name) for name in _columns()}
        names = {"outcome": OUTCOMES, "error_type": ERROR_TYPES, "sub_type": SUB_TYPES}
        return (
            pl.DataFrame({**rows, "is_unit": self.is_unit, "is_error": self.is_error})
            .with_columns(_named(column, values) for column, values in names.items())
            .with_columns(
                pl.col(pl.Float64).fill_nan(None),
                *(pl.when(pl.col(c) >= 0).then(pl.col(c)).alias(c) for c in ("detection", "truth")),
                pl.when(pl.col("truth") >= 0).then(pl.col("truth_label")).alias("truth_label"),
            )
        )

    @classmethod
    def concat(cls, parts: Sequence[Self], *, detections: Sequence[int], truths: Sequence[int]) -> Self:
        """Return the rows of consecutive batches of frames as those of one batch.

        Args:
            parts: Matches of each batch, at least one.
            detections: Detections in each batch, by which later rows shift.
            truths: Truths in each batch.

        Raises:
            InvalidInputError: No part, or the lengths differ.
        """
        if not parts or not len(parts) == len(detections) == len(truths):
            raise InvalidInputError(
                f"{len(parts)} parts with {len(detections)} and {len(truths)} counts cannot be joined; "
                "each part, at least one, needs its number of detections and of truths."
            )
        shifts = {
            "frame": _before([part.n_frames for part in parts]),
            "detection": _before(detections),
            "truth": _before(truths),
        }
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _columns()}
        lengths = [len(part) for part in parts]
        for name, shift in shifts.items():
            values = joined[name]
            joined[name] = np.where(values >= 0, values + np.repeat(shift, lengths), values)
        return cls(n_frames=sum(part.n_frames for part in parts), **joined)


def _columns() -> list[str]:
    return [one.name for one in fields(Matches) if one.name != "n_frames"]


def _named(column: str, names: tuple[str, ...]) -> pl.Expr:
    return pl.col(column).replace_strict(dict(enumerate(names)), default=None, return_dtype=pl.String)


def _before(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
