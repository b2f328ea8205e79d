"""Tabular families: eleven corruptions of five causes, on columns in units of a reference.

A row is standardised by the reference, corrupted and restored. Columns of whole numbers (counts, codes, one-hot) and
constant columns stay as they are: half a bedroom is no sensor fault. NaN stays NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.stress._family import Family, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.stress._family import Values

    Effect = Callable[["NDArray[np.float64]", int, np.random.Generator, "NDArray[np.float64]"], "NDArray[np.float64]"]

__all__ = ["TabularReference", "tabular_families"]

#: Below this standard deviation, relative to the largest magnitude, a column is constant.
CONSTANT = 1e-9
#: Quantiles kept of each column, for values borrowed from another row.
QUANTILES = 101

# Strengths per severity, in standard deviations where they are lengths (measured on six-class tables of 20 columns).
NORMAL_NOISE = (0.2, 0.4, 0.7, 1.0, 1.5)
UNIFORM_NOISE = (0.7, 1.3, 2.2, 3.2, 4.5)
SHIFT = (0.3, 0.6, 1.0, 1.5, 2.2)
SHRINK = (0.85, 0.70, 0.50, 0.35, 0.20)
STRETCH = (1.15, 1.35, 1.6, 2.0, 2.6)
MISSING = (0.05, 0.10, 0.20, 0.35, 0.50)
LOST_COLUMNS = (0.05, 0.10, 0.20, 0.30, 0.45)
BORROWED = (0.05, 0.10, 0.20, 0.30, 0.45)
CLIP = (1.8, 1.4, 1.0, 0.7, 0.4)
ROUND = (0.5, 0.8, 1.2, 1.8, 2.6)


@dataclass(frozen=True, slots=True, eq=False)
class TabularReference:
    """Location, scale and distribution of each column of a reference.

    Attributes:
        mean: `(D,)`.
        scale: Standard deviation, 1 where a column is left alone, `(D,)`.
        is_changed: Columns that corruptions may touch, `(D,)`.
        quantiles: Standardised values at evenly spaced ranks, `(101, D)`.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    is_changed: NDArray[np.bool_]
    quantiles: NDArray[np.float64]

    @classmethod
    def fit(cls, rows: ArrayLike) -> TabularReference:
        """Describe reference rows `(N, D)`; NaN is skipped.

        Raises:
            InvalidInputError: No two-dimensional numbers, infinity, or no column that could be corrupted.
        """
        table = np.asarray(rows, dtype=np.float64)
        if table.ndim != 2 or not table.size or np.isinf(table).any():
            raise InvalidInputError(
                f"the reference has shape {table.shape} or holds infinity; no stress pass was prepared. Pass a finite "
                "table (rows, columns)."
            )
        known = np.where(np.isnan(table).all(axis=0), 0.0, table)  # an empty column has no mean
        mean, spread = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        is_whole = (np.isnan(known) | (known == np.round(known))).all(axis=0)
        is_changed = ~is_whole & (spread > CONSTANT * np.maximum(np.nanmax(np.abs(known), axis=0), 1.0))
        if not is_changed.any():
            raise InvalidInputError(
                f"none of the {table.shape[1]} columns varies with fractions; no stress pass was prepared. Register "
                "corruptions of your own as 'module:function'."
            )
        scale = np.where(is_changed, spread, 1.0)
        ranks = np.linspace(0.0, 1.0, QUANTILES)
        return cls(mean, scale, is_changed, np.nanquantile((known - mean) / scale, ranks, axis=0))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for workers that are built by name."""
        names = ("mean", "scale", "is_changed", "quantiles")
        return {name: getattr(self, name).tolist() for name in names}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TabularReference:
        """The reference that `to_dict` described, bit for bit."""
        numbers = {name: np.asarray(values[name], dtype=np.float64) for name in ("mean", "scale", "quantiles")}
        return cls(is_changed=np.asarray(values["is_changed"], dtype=np.bool_), **numbers)


def tabular_families(reference: TabularReference) -> tuple[Family, ...]:
    """Return the tabular families. Each kind takes one floating row of the reference's width."""
    effects: dict[str, dict[str, Effect]] = {
        "noise": {"normal_noise": _normal_noise, "uniform_noise": _uniform_noise},
        "shift": {"shift_up": _shift_up, "shift_down": _shift_down},
        "scale": {"shrink": _shrink, "stretch": _stretch},
        "missing": {"missing_cells": _missing_cells, "missing_columns": _missing_columns, "borrowed": _borrowed},
        "digital": {"clip": _clip, "round": _round},
    }
    return tuple(
        Family(
            family,
            tuple(
                # A lost sensor is lost for every row.
                Kind(name, partial(_on_row, effect, reference), is_shared=effect is _missing_columns)
                for name, effect in kinds.items()
            ),
            "tabular",
        )
        for family, kinds in effects.items()
    )


def _on_row(
    effect: Effect, reference: TabularReference, row: Values, severity: int, rng: np.random.Generator
) -> Values:
    """Apply an effect to the standardised columns of a row that may be touched."""
    if row.shape != reference.mean.shape or np.isinf(row).any():
        raise InvalidInputError(
            f"a row of shape {row.shape} or with infinity does not fit a reference of {len(reference.mean)} columns; "
            "nothing was corrupted. Pass rows of the reference's columns."
        )
    touched = reference.is_changed
    mean, scale = reference.mean[touched], reference.scale[touched]
    standardised = (row[touched].astype(np.float64) - mean) / scale
    changed = effect(standardised.copy(), severity - 1, rng, reference.quantiles[:, touched])
    # A cell that was not corrupted keeps every bit.
    row[touched] = np.where(changed == standardised, row[touched], changed * scale + mean)
    return row


def _normal_noise(
    row: NDArray[np.float64], step: int, rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    return row + NORMAL_NOISE[step] * rng.standard_normal(len(row))


def _uniform_noise(
    row: NDArray[np.float64], step: int, rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    return row + UNIFORM_NOISE[step] * (rng.random(len(row)) - 0.5)


def _shift_up(
    row: NDArray[np.float64], step: int, _rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Every fourth column drifts up."""
    row[0::4] += SHIFT[step]
    return row


def _shift_down(
    row: NDArray[np.float64], step: int, _rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Every third column drifts down (from the second on; the only one if there is one)."""
    row[min(1, len(row) - 1) :: 3] -= SHIFT[step]
    return row


def _shrink(
    row: NDArray[np.float64], step: int, _rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    return row * SHRINK[step]


def _stretch(
    row: NDArray[np.float64], step: int, _rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    return row * STRETCH[step]


def _missing_cells(
    row: NDArray[np.float64], step: int, rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cells are replaced by the reference mean, as an imputer would."""
    return np.where(rng.random(len(row)) < MISSING[step], 0.0, row)


def _missing_columns(
    row: NDArray[np.float64], step: int, rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The same columns of every row are replaced by the reference mean."""
    lost = int(np.ceil(len(row) * LOST_COLUMNS[step]))
    row[rng.permutation(len(row))[:lost]] = 0.0
    return row


def _borrowed(
    row: NDArray[np.float64], step: int, rng: np.random.Generator, quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cells hold the value of some other row: drawn from the column's own distribution."""
    is_borrowed = rng.random(len(row)) < BORROWED[step]
    ranks = rng.random(len(row)) * (len(quantiles) - 1)
    below = ranks.astype(np.int64)
    columns = np.arange(len(row))
    low, high = quantiles[below, columns], quantiles[np.minimum(below + 1, len(quantiles) - 1), columns]
    return np.where(is_borrowed, low + (ranks - below) * (high - low), row)


def _clip(
    row: NDArray[np.float64], step: int, _rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.clip(row, -CLIP[step], CLIP[step])


def _round(
    row: NDArray[np.float64], step: int, _rng: np.random.Generator, _quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    rounded: NDArray[np.float64] = np.round(row / ROUND[step]) * ROUND[step]
    return rounded
