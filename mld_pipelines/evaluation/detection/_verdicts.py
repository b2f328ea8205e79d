"""The verdict about every code of boxes, predictions and objects each by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import (
    RECESSIVE,
    UNSEEN,
    atc_threshold,
    categorise,
    count_codes,
    find_vetoes,
    gather_box_clues,
    recommend_for_boxes,
    units_needed,
)
from mld_pipelines.evaluation._verdicts import FEW_UNITS, conclude, conclude_uncoded
from mld_pipelines.evaluation.detection._candidates import unflagged

if TYPE_CHECKING:
    import numpy.typing as npt

    from mld_pipelines.diagnosis import BoxClues, CodeCounts
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._datasets import Decision
    from mld_pipelines.evaluation._plan import EvaluationPlan
    from mld_pipelines.evaluation._verdicts import CodeVerdicts

__all__ = ["judge_boxes"]

_SIZES = (3, 4, 5)


def judge_boxes(
    units: pl.DataFrame,
    coding: Coding,
    *,
    decision: Decision,
    fingerprint: str,
    plan: EvaluationPlan,
) -> CodeVerdicts:
    """Categorise the codes of one kind of unit (docs/method.md#categories); the aleatoric overlay is not judged.

    An error is unflagged where nothing in the detector warns of it: a wrong prediction with a score that most right
    ones do not have, and a missed object that no candidate shows.

    Args:
        units: Units of one kind, in the order of the codes: the columns of `unit_rows` and the frame's `fingerprint`.
        coding: Their codes.
        decision: Dataset that decides.
        fingerprint: Its weights; datasets of others contradict nothing.
        plan: Tolerances, and datasets whose weights changed while they were traced.
    """
    policy = plan.policy
    kind = str(units["unit_kind"].first() or "prediction")
    decides = (units["dataset_type"] == decision.dataset).to_numpy()
    threshold = 0.0 if kind == "object" else _threshold(units.filter(pl.Series(decides)))
    if coding.codebook is None:
        method = recommend_for_boxes(RECESSIVE, FEW_UNITS, unit_kind=kind)
        return conclude_uncoded(FEW_UNITS, method, threshold=threshold, policy=policy)
    names = (*coding.codebook.names, UNSEEN)
    counts = _count(units, coding, decides, threshold)
    others = {}
    speaks = pl.col("fingerprint") == fingerprint
    for dataset in units["dataset_type"].unique().sort():
        if dataset != decision.dataset and dataset not in plan.barred:
            rows = units.select(speaks & (pl.col("dataset_type") == dataset)).to_series().to_numpy()
            counted = _count(units, coding, rows, threshold)
            others[dataset] = (counted.n, counted.k)
    vetoes = find_vetoes(counts.n, counts.k, others, policy=policy)
    verdicts = categorise(
        counts.n,
        counts.k,
        counts.k_unflagged,
        policy=policy,
        unseen=np.array(names) == UNSEEN,
        train_only=decision.is_train,
        veto_stable=vetoes.stable,
        veto_operational=vetoes.operational,
    )
    needed = units_needed(counts.n, counts.k, policy=policy)
    clues = _clues(units, coding.index, decides, is_stuck=(needed < 0) & (counts.n > 0))
    advice = [
        recommend_for_boxes(str(category), str(reason), unit_kind=kind, clues=known)
        for category, reason, known in zip(verdicts.category, verdicts.reason, clues, strict=True)
    ]
    concluded = conclude(
        names,
        counts,
        vetoes=vetoes,
        verdicts=verdicts,
        needed=needed,
        advice=advice,
        threshold=threshold,
        policy=policy,
    )
    return replace(concluded, box_clues=clues)


def _threshold(deciding: pl.DataFrame) -> float:
    """Return t*: as many units of the deciding dataset score below it as are wrong."""
    if deciding.is_empty():
        return 1.0
    errors = deciding["is_error"].to_numpy()
    return atc_threshold(deciding["confidence"].cast(pl.Float64).to_numpy(), float(errors.mean()))


def _count(units: pl.DataFrame, coding: Coding, rows: npt.NDArray[np.bool_], threshold: float) -> CodeCounts:
    own = units.filter(pl.Series(rows))
    n_codes = coding.codebook.n_codes if coding.codebook else 0
    wrong = own["is_error"].to_numpy()
    silent = own.select(unflagged(str(own["unit_kind"].first()), threshold)).to_series().to_numpy()
    return count_codes(coding.index[rows], wrong, silent.astype(np.float64), n_codes=n_codes, threshold=1.0)


def _clues(
    units: pl.DataFrame,
    index: npt.NDArray[np.int64],
    decides: npt.NDArray[np.bool_],
    *,
    is_stuck: npt.NDArray[np.bool_],
) -> tuple[BoxClues, ...]:
    own = units.filter(pl.Series(decides))
    codes = np.where(index < 0, len(is_stuck) - 1, index)[decides]
    sizes = [pl.col("box_3d").list.get(place).log() for place in _SIZES]
    return gather_box_clues(
        codes,
        n_codes=len(is_stuck),
        is_error=own["is_error"].to_numpy(),
        error_type=own["error_type"].to_list(),
        pairs=own.select(pl.col("label").fill_null(-1), "prediction").to_numpy(),
        range_m=own["range_m"].to_numpy(),
        size=own.select(pl.sum_horizontal(sizes)).to_series().to_numpy(),
        points=own["points"].cast(pl.Float64).fill_null(-1.0).to_numpy(),
        score=own["confidence"].to_numpy() if own["unit_kind"].first() == "prediction" else None,
        has_candidate=(own["confidence"] > 0.0).to_numpy() if own["unit_kind"].first() == "object" else None,
        is_undecidable=is_stuck,
    )
