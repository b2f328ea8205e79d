"""Which corruptions a stress pass uses, by a description that travels to workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.stress import Family, TabularReference, find_families
from mld_pipelines.tracing._corruptor import input_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["REFERENCE_ROWS", "FamilySource", "guess_families"]

REFERENCE_ROWS = 4096
"""Rows that describe the columns of a table: their quantiles are known to 1 % with fewer (standard error of a median
in ranks: 0.5/√n)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FamilySource:
    """What families are made from.

    Attributes:
        name: `image`, `tabular`, `points` or `module:function`.
        reference: Columns of the reference, for `tabular`.
        has_intensity: Whether the fourth column of a scan is an intensity.
    """

    name: str
    reference: TabularReference | None = None
    has_intensity: bool = True

    @classmethod
    def of(cls, name: str, rows: Sequence[Any]) -> FamilySource:
        """Describe families by the inputs they are for.

        Args:
            name: See `find_families`.
            rows: Raw inputs of the reference, at least one; all of them are used for `tabular`.

        Raises:
            InvalidInputError: Tabular inputs are no rows of equal length, or none of their columns can be corrupted.
        """
        first = input_array(rows[0])
        reference = TabularReference.fit(_table(rows)) if name == "tabular" else None
        return cls(name=name, reference=reference, has_intensity=first.ndim == 2 and first.shape[1] > 3)

    def build(self) -> tuple[Family, ...]:
        """Return the families.

        Raises:
            InvalidInputError: There are none of this name.
            ConfigurationError: The user's function cannot be used.
        """
        return find_families(self.name, reference=self.reference, has_intensity=self.has_intensity)

    def to_params(self) -> dict[str, Any]:
        """Plain JSON values."""
        reference = None if self.reference is None else self.reference.to_dict()
        return {"name": self.name, "reference": reference, "has_intensity": self.has_intensity}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> FamilySource:
        """The source that `to_params` described."""
        reference = None if params["reference"] is None else TabularReference.from_dict(params["reference"])
        return cls(name=params["name"], reference=reference, has_intensity=params["has_intensity"])


def guess_families(raw: Any) -> str:
    """Return the built-in families that fit an input by its shape: one axis is a row, two or three are an image.

    Raises:
        InvalidInputError: It could be anything.
    """
    array = input_array(raw)
    if array.ndim == 1:
        return "tabular"
    is_map = array.ndim == 2 and bool(array.size and array.min() >= 0 and (array.max() <= 1 or array.dtype == np.uint8))
    if array.ndim == 3 or is_map:
        return "image"
    raise InvalidInputError(
        f"inputs of shape {array.shape} may be images, points or anything else; nothing was run. Name the families: "
        "mld models register NAME … --families image|tabular|points|module:function."
    )


def _table(rows: Sequence[Any]) -> np.ndarray[Any, Any]:
    arrays = [input_array(row) for row in rows]
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 1:
        shapes = sorted({str(array.shape) for array in arrays})[:3]
        raise InvalidInputError(
            f"tabular inputs have the shapes {', '.join(shapes)}; nothing was run. Pass rows of equal length."
        )
    return np.stack(arrays)
