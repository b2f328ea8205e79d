"""The verdict about every code of a population, from the counts of the decision dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import (
    UNCODED,
    UNSEEN,
    atc_threshold,
    categorise,
    count_codes,
    find_aleatoric,
    recommend,
    unit_ambiguity,
)
from mld_pipelines.exceptions import MldError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mld_pipelines.diagnosis import Policy
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._estimation import Estimation
    from mld_pipelines.evaluation._population import Population
    from mld_pipelines.metrics import UnitStatistics

__all__ = ["NO_FEATURES", "CodeVerdicts", "judge_codes"]

NO_FEATURES = "no_features"
"""Reason of the single code of a model that was traced without features: there is no place to speak of."""


@dataclass(frozen=True, slots=True, eq=False)
class CodeVerdicts:
    """One verdict per code, arrays of one length.

    Attributes:
        codes: Names of the codebook and `UNSEEN`, or `UNCODED` alone.
        category: Issue category.
        reason: Why.
        is_aleatoric: Overlay flag.
        recommended: What to do first.
        threshold: t*, the confidence at or above which an error counts as unflagged.
        alpha: One minus the level of the intervals.
    """

    codes: tuple[str, ...]
    category: tuple[str, ...]
    reason: tuple[str, ...]
    is_aleatoric: tuple[bool, ...]
    recommended: tuple[str, ...]
    threshold: float
    alpha: float

    def of(self, names: npt.NDArray[np.str_]) -> tuple[list[str], list[bool]]:
        """Return category and overlay flag of each unit's code.

        Raises:
            MldError: A name has no verdict.
        """
        position = {code: i for i, code in enumerate(self.codes)}
        if unknown := set(np.unique(names).tolist()) - set(position):
            raise MldError(f"codes {sorted(unknown)} have no verdict; this is a defect, please report it.")
        index = [position[name] for name in names.tolist()]
        return [self.category[i] for i in index], [self.is_aleatoric[i] for i in index]


def judge_codes(
    population: Population,
    statistics: UnitStatistics,
    coding: Coding,
    estimation: Estimation,
    reference: npt.NDArray[np.bool_],
    *,
    is_train: bool,
    policy: Policy,
) -> CodeVerdicts:
    """Categorise every code by the units of the decision dataset (docs/method.md#categories).

    Args:
        population: All units, for their labels.
        statistics: Their prediction, confidence and error.
        coding: Their codes.
        estimation: For the temperature of the reference.
        reference: True for the units of the decision dataset.
        is_train: Whether training data decides.
        policy: Tolerances.
    """
    codebook = coding.codebook
    n_codes = codebook.n_codes if codebook else 0
    index = coding.index[reference]
    errors = np.asarray(statistics.is_error)[reference]
    confidence = statistics.confidence[reference]
    threshold = atc_threshold(confidence, float(errors.mean()))
    counts = count_codes(index, errors, confidence, n_codes=n_codes, threshold=threshold)
    is_unseen = np.arange(n_codes + 1) == n_codes
    verdicts = categorise(counts.n, counts.k, counts.k_unflagged, policy=policy, unseen=is_unseen, train_only=is_train)
    ambiguity = unit_ambiguity(
        _log_scores(statistics, reference),
        population.frame["label"].to_numpy()[reference],
        temperature=estimation.fit.window_reference.temperature,
    )
    overlay = find_aleatoric(
        ambiguity, index, errors, category=verdicts.category, n_classes=statistics.probabilities.shape[1]
    )
    category, reason = verdicts.category.tolist(), verdicts.reason.tolist()
    flags = [bool(flag) for flag in overlay.is_aleatoric]
    if codebook is None:
        reason, flags = [NO_FEATURES if population.features is None else "few_units"], [False]
    advice = [recommend(c, r, is_aleatoric=a).method for c, r, a in zip(category, reason, flags, strict=True)]
    return CodeVerdicts(
        codes=(*codebook.names, UNSEEN) if codebook else (UNCODED,),
        category=tuple(category),
        reason=tuple(reason),
        is_aleatoric=tuple(flags),
        recommended=tuple(advice),
        threshold=threshold,
        alpha=policy.alpha,
    )


def _log_scores(statistics: UnitStatistics, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return log-probabilities: softmax does not change under a shift of the logits, so they stand in for logits."""
    clipped: npt.NDArray[np.float64] = np.log(np.maximum(statistics.probabilities[rows], np.finfo(np.float64).tiny))
    return clipped
