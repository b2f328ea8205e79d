"""What production is compared with: the reference of one result, as counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import CATEGORIES
from mld_pipelines.windows._aggregate import UNSEEN
from mld_pipelines.windows._bins import UNIT_BINS, unit_bin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Baseline", "fit_baseline"]

#: Categories in which a code counts as covered (docs/method.md#categories).
COVERED = CATEGORIES[:2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Reference counts of one result.

    Attributes:
        model_key: Model of the result.
        result_name: Result.
        codes: Reference units by error code, cross-fitted (docs/method.md#cross-fitting), `UNSEEN` included; empty
            without codes.
        classes: Reference units by predicted class index.
        confidence: Reference units by confidence, 20 bins.
        categories: Category of each code; codes not named here (also `UNSEEN`) are not covered.
        unseen_share: Cross-fitted `UNSEEN` share of the reference.
        error_rate: r0, the error rate of the reference.
        code_names: Names of the codebook in its order, without `UNSEEN`; for the code-wise opinion.
        frames: Reference frames of a detector, whose units above are boxes; 0 for a classifier.
        boxes_squared: Σ over them of the square of their boxes.
        ranges: Reference boxes by distance from the sensor, 24 bins.
        missed_codes: Expected misses of the reference by code of objects, rounded.
        missed_categories: Category of each of these codes.
        design_effects: By `codes`, `classes`, `confidence` and `range`, how many times more their shares vary than
            those of as many independent boxes, because boxes of a frame belong together.
    """

    model_key: str
    result_name: str
    codes: Mapping[str, int]
    classes: tuple[int, ...]
    confidence: tuple[int, ...]
    error_rate: float
    unseen_share: float = 0.0
    categories: Mapping[str, str] = field(default_factory=dict)
    code_names: tuple[str, ...] = ()
    frames: int = 0
    boxes_squared: int = 0
    ranges: tuple[int, ...] = ()
    missed_codes: Mapping[str, int] = field(default_factory=dict)
    missed_categories: Mapping[str, str] = field(default_factory=dict)
    design_effects: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse counts that cannot be a reference."""
        if len(self.confidence) != UNIT_BINS:
            raise InvalidInputError(f"baseline confidence has {len(self.confidence)} bins; it must have {UNIT_BINS}.")
        if not 0.0 <= self.error_rate <= 1.0 or not 0.0 <= self.unseen_share <= 1.0:
            raise InvalidInputError(
                f"baseline error_rate {self.error_rate!r} and unseen_share {self.unseen_share!r} must lie in [0, 1]."
            )

    @property
    def n(self) -> int:
        """Reference units."""
        return sum(self.classes)

    def to_json(self) -> str:
        """Return the baseline as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Baseline:
        """Return the baseline that `to_json` wrote."""
        values = json.loads(text)
        sequences = {name: tuple(values.get(name, ())) for name in ("classes", "confidence", "code_names", "ranges")}
        return cls(**{**values, **sequences})


def fit_baseline(
    units: pl.DataFrame,
    *,
    model_key: str,
    result_name: str,
    categories: Mapping[str, str] | None = None,
    unseen_share: float | None = None,
    code_names: Sequence[str] = (),
) -> Baseline:
    """Count the reference units of a result.

    Args:
        units: Units of the decision dataset with `prediction, confidence, is_error` and, if there are codes,
            `error_code` as the cross-fitted assignment gives it.
        model_key: Model of the result.
        result_name: Result.
        categories: Category of each code; taken from the column `category` of `units` when not given.
        unseen_share: Cross-fitted `UNSEEN` share; counted from `error_code` when not given.
        code_names: Names of the codebook in its order.

    Raises:
        InvalidInputError: There are no units.
    """
    if units.is_empty():
        raise InvalidInputError(f"result {result_name!r} has no reference units; no baseline was made.")
    codes = _count_names(units, "error_code")
    bins = units.select(unit_bin("confidence").alias("bin"))["bin"].drop_nulls().to_list()
    classes = units["prediction"].drop_nulls().to_list()
    if categories is None:
        categories = _categories(units)
    if unseen_share is None:
        unseen_share = codes.get(UNSEEN, 0) / max(sum(codes.values()), 1)
    return Baseline(
        model_key=model_key,
        result_name=result_name,
        codes=codes,
        classes=tuple(_tally(classes, max(classes, default=-1) + 1)),
        confidence=tuple(_tally(bins, UNIT_BINS)),
        error_rate=float(units["is_error"].cast(pl.Float64).mean() or 0.0),  # type: ignore[arg-type]
        unseen_share=unseen_share,
        categories=dict(categories),
        code_names=tuple(code_names),
    )


def _count_names(units: pl.DataFrame, column: str) -> dict[str, int]:
    if column not in units.columns:
        return {}
    counted = units.filter(pl.col(column).is_not_null()).group_by(column).len().sort(column)
    return {str(name): int(count) for name, count in counted.rows()}


def _categories(units: pl.DataFrame) -> dict[str, str]:
    if not {"error_code", "category"} <= set(units.columns):
        return {}
    return dict(units.select("error_code", "category").drop_nulls().unique().sort("error_code").rows())


def _tally(values: list[int], width: int) -> list[int]:
    counts = [0] * width
    for value in values:
        counts[value] += 1
    return counts
