"""Fitting what a stress pass teaches about windows of a detector, and verifying it on families it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._threads import one_thread
from mld_pipelines.diagnosis._window_estimate import MIN_UNITS_FOR_ATC
from mld_pipelines.diagnosis.detection._frame_tallies import FrameTallies
from mld_pipelines.diagnosis.detection._rates import window_rates
from mld_pipelines.diagnosis.detection._shift_map import (
    MONOTONE_SHIFT_COLUMNS,
    DetectionShiftMap,
    RateMap,
    is_corrected,
    shift_columns,
)
from mld_pipelines.diagnosis.stress._columns import clipped_logit
from mld_pipelines.diagnosis.stress._map import blend
from mld_pipelines.diagnosis.stress._ridge import fit_ridge
from mld_pipelines.diagnosis.stress._verify import (
    choose_blend,
    family_errors,
    held_out_clean,
    width_factor,
    with_coverage,
)
from mld_pipelines.diagnosis.stress._windows import CLEAN, N_CLEAN, PER_SET, SHARES
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._rates import RateEstimate
    from mld_pipelines.diagnosis.detection._window import DetectionWindowReference
    from mld_pipelines.diagnosis.stress._ridge import WindowRidge

__all__ = ["fit_detection_shift"]

#: Frames of a window: a drive's minute to an hour of single shots.
SIZES = (50, 100, 300)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Windows as numbers, for one rate; windows in which it is undefined are left out.

    Of windows that keep the default rate in use (`is_corrected` is False) the map learns nothing, and they are verified
    by the default rate.
    """

    families: NDArray[np.str_]
    columns: NDArray[np.float64]
    truths: NDArray[np.float64]
    defaults: NDArray[np.float64]
    estimates: tuple[RateEstimate, ...]
    is_corrected: NDArray[np.bool_]


def fit_detection_shift(
    reference: DetectionWindowReference,
    clean: FrameTallies,
    copies: FrameTallies,
    *,
    set_index: NDArray[np.int64],
    families: Sequence[str],
    stress_version: str,
    seed: int = 0,
) -> DetectionShiftMap:
    """Learn how precision and recall of a window err from corrupted frames; verify by leaving out a family at a time.

    The result depends on the order of the frames, which the caller fixes by their content.

    Args:
        reference: The result's window reference.
        clean: Reference frames with cross-fitted probabilities.
        copies: Corrupted copies of reference frames.
        set_index: (F,) set (kind and severity) of each copy.
        families: Family of each set, of two or more kinds.
        stress_version: Identifies the stress pass.
        seed: Seed of the windows.

    Raises:
        InvalidInputError: There are too few families, or nothing to learn from.
    """
    if len(set(families)) < 2 or CLEAN in families:
        raise InvalidInputError(
            f"the stressed copies are of the families {tuple(sorted(set(families)))}; no stress map was fitted. "
            f"Verification leaves one family out, so run at least two, none of them called {CLEAN!r}."
        )
    pool = FrameTallies.concat([clean, copies])
    places = np.concatenate([np.full(len(clean), -1), set_index])
    windows = _draw(places, families, seed=seed)
    with one_thread():
        false_positives, lost = (_fit(_tabulate(pool, windows, reference, which=which)) for which in (0, 1))
    return DetectionShiftMap(
        false_positives=false_positives,
        lost=lost,
        stress_version=stress_version,
        n_sets=len(np.unique(set_index)),
        threshold_ep=reference.threshold_ep,
        threshold_miss=reference.threshold_miss,
    )


def _draw(places: NDArray[np.int64], families: Sequence[str], *, seed: int) -> list[tuple[str, NDArray[np.int64]]]:
    """Family and frames of each window: of every set as for classifiers, mixed with clean frames, and clean ones."""
    rng = np.random.default_rng(seed)
    clean = np.flatnonzero(places < 0)
    sets = [np.flatnonzero(places == index) for index in range(len(families))]
    plan = [(family, rows) for family, rows in zip(families, sets, strict=True) if len(rows)] * PER_SET
    windows = []
    for family, rows in [*plan, *[(CLEAN, clean)] * N_CLEAN]:
        size, share = int(rng.choice(SIZES)), float(rng.choice(SHARES))
        first = size if family == CLEAN else round(size * share)
        drawn = [rows[rng.integers(0, len(rows), first)], clean[rng.integers(0, len(clean), size - first)]]
        windows.append((family, np.concatenate(drawn)))
    return windows


def _tabulate(
    pool: FrameTallies,
    windows: list[tuple[str, NDArray[np.int64]]],
    reference: DetectionWindowReference,
    *,
    which: int,
) -> _Table:
    rows = []
    for family, frames in windows:
        state = pool.state(frames)
        rates = window_rates(state, reference)
        estimate, truth = (rates.false_positives, rates.lost)[which], pool.rates(frames)[which]
        if estimate is not None and np.isfinite(truth):
            columns = shift_columns(rates, state, reference)[which]
            rows.append((family, columns, truth, estimate, is_corrected(state, reference)))
    teaching = {family for family, *_, corrected in rows if corrected}
    if CLEAN not in teaching or len(teaching) < 3:
        raise InvalidInputError(
            f"too few windows of clean frames and of two families hold {MIN_UNITS_FOR_ATC} boxes "
            "and objects; no stress map was fitted. Label more frames."
        )
    names, tabulated, truths, estimates, corrected = zip(*rows, strict=True)
    return _Table(
        families=np.array(names),
        columns=np.stack(tabulated),
        truths=np.array(truths),
        defaults=np.array([one.rate for one in estimates]),
        estimates=estimates,
        is_corrected=np.array(corrected),
    )


def _fit(table: _Table) -> RateMap:
    held_out = _leave_out(table)
    errors = family_errors(table.families, held_out, defaults=table.defaults, truths=table.truths)
    weight = choose_blend(errors)
    residuals = _residuals(table, held_out, weight)
    factor = width_factor(residuals)
    return RateMap(
        ridge=_ridge(table, table.is_corrected),
        blend_weight=weight,
        width_factor=factor,
        family_errors=with_coverage(errors, table.families, residuals, factor),
    )


def _ridge(table: _Table, rows: NDArray[np.bool_]) -> WindowRidge:
    return fit_ridge(table.columns[rows], table.truths[rows], n_monotone=MONOTONE_SHIFT_COLUMNS)


def _leave_out(table: _Table) -> NDArray[np.float64]:
    """Log-odds of each window under a map that has not seen its family; NaN for the clean windows that were seen.

    Those of a window that keeps the default rate are that rate's.
    """
    log_odds = np.full(len(table.families), np.nan)
    parts = [table.families == family for family in sorted(set(table.families.tolist()) - {CLEAN})]
    for own in [*parts, held_out_clean(table.families)]:
        corrected = own & table.is_corrected
        log_odds[own] = clipped_logit(table.defaults[own])
        log_odds[corrected] = _ridge(table, ~own & table.is_corrected).log_odds(table.columns[corrected])
    return log_odds


def _residuals(table: _Table, log_odds: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """|p − rate|/s of every window whose family was left out; NaN elsewhere."""
    rate = blend(table.defaults, np.where(np.isfinite(log_odds), log_odds, 0.0), weight)
    scale = np.array([one.scale(value) for one, value in zip(table.estimates, rate.tolist(), strict=True)])
    return np.where(np.isfinite(log_odds), np.abs(rate - table.truths) / scale, np.nan)
