"""The reference of a detector, as counts of boxes, frames and expected misses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.windows._baseline import fit_baseline
from mld_pipelines.windows._bins import RANGE_BINS, range_bin, unit_bin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.windows._baseline import Baseline

__all__ = ["design_effect", "fit_detection_baseline"]


def fit_detection_baseline(
    units: pl.DataFrame,
    *,
    frames: int,
    misses: pl.DataFrame | None = None,
    missed_categories: Mapping[str, str] | None = None,
    **options: Any,
) -> Baseline:
    """Count the kept predictions of a result's reference, and what was probably missed beside them.

    Args:
        units: Predictions of the decision dataset with `input_id, prediction, confidence, is_error, range_m` and, if
            there are codes, `error_code` as the cross-fitted assignment gives it.
        frames: Frames of the decision dataset, those without a prediction included.
        misses: Cross-fitted expected misses of the same frames, one row per candidate: `error_code` (of objects),
            `error_proba`. What no candidate shows is on neither side of the comparison.
        missed_categories: Category of each code of objects.
        **options: `model_key`, `result_name`, `categories`, `unseen_share`, `code_names` as at `fit_baseline`.

    Raises:
        InvalidInputError: There are no predictions, or they are of more frames than there are.
    """
    baseline = fit_baseline(units, **options)
    of_frame = units["input_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    per_frame = np.bincount(of_frame)
    if len(per_frame) > frames:
        raise InvalidInputError(
            f"predictions are of {len(per_frame)} frames, but there are {frames}; no baseline made."
        )
    ranges = units.select(range_bin("range_m").alias("bin"))["bin"]
    cells = {
        "classes": units["prediction"],
        "confidence": units.select(unit_bin("confidence").alias("bin"))["bin"],
        "range": ranges,
        **({"codes": units["error_code"]} if "error_code" in units.columns else {}),
    }
    return replace(
        baseline,
        frames=frames,
        boxes_squared=int((per_frame**2).sum()),
        ranges=tuple(np.bincount(ranges.drop_nulls().to_numpy(), minlength=RANGE_BINS).tolist()),
        missed_codes={} if misses is None else _expected(misses),
        missed_categories=dict(missed_categories or {}),
        design_effects={name: design_effect(values, of_frame, frames) for name, values in cells.items()},
    )


def design_effect(cells: pl.Series, of_frame: np.ndarray, frames: int) -> float:
    """Return how many times more the shares of cells vary than those of as many independent boxes, at least 1.

    The mean generalised design effect of Rao and Scott (1981): `Σ_k (1 − p_k)·d_k / (K − 1)` over the cells in use,
    with `d_k = F/(F − 1) · Σ_f (n_fk − p_k·n_f)² / (N·p_k·(1 − p_k))`, the variance of a ratio over F frames.

    Args:
        cells: Cell of each box; boxes without one are left out.
        of_frame: Frame of each box, from 0.
        frames: Number of frames F, those without a box included.
    """
    known = cells.is_not_null().to_numpy()
    codes = cells.drop_nulls().rank("dense").cast(pl.Int64).to_numpy() - 1
    k = int(codes.max(initial=-1)) + 1
    if k < 2 or frames < 2:
        return 1.0
    counts = np.bincount(of_frame[known] * k + codes, minlength=(int(of_frame.max()) + 1) * k).reshape(-1, k)
    n, p = counts.sum(), counts.sum(axis=0) / counts.sum()
    residuals = counts - p * counts.sum(axis=1, keepdims=True)
    effects = frames / (frames - 1) * (residuals**2).sum(axis=0) / (n * p * (1.0 - p))
    return max(float(((1.0 - p) * effects).sum() / (k - 1)), 1.0)


def _expected(misses: pl.DataFrame) -> dict[str, int]:
    sums = misses.drop_nulls("error_code").group_by("error_code").agg(pl.col("error_proba").cast(pl.Float64).sum())
    return {name: round(value) for name, value in sums.sort("error_code").iter_rows()}
