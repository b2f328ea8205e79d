"""The verdict about every code of a population: the deciding dataset's counts, the vetoes of the others, what to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import (
    NEEDED_LIMIT,
    RECESSIVE,
    UNCODED,
    UNSEEN,
    Clues,
    atc_threshold,
    categorise,
    recommend,
    units_needed,
)
from mld_pipelines.evaluation._grounds import gather_grounds, q_values
from mld_pipelines.exceptions import MldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mld_pipelines.diagnosis import BoxClues, CodeCounts, Policy, Recommendation, Verdicts, Vetoes
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._estimation import Estimation
    from mld_pipelines.evaluation._plan import EvaluationPlan
    from mld_pipelines.evaluation._population import Population
    from mld_pipelines.metrics import UnitStatistics

__all__ = ["FEW_UNITS", "NO_FEATURES", "CodeVerdicts", "conclude", "conclude_uncoded", "judge_codes"]

NO_FEATURES = "no_features"
"""Reason of the single code of a model that was traced without features: there is no place to speak of."""
FEW_UNITS = "few_units"
"""Reason of a code with too few units, and of all units where the reference is too small for a codebook."""
_GAP = "generalisation_gap"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodeVerdicts:
    """One verdict per code, sequences of one length.

    Attributes:
        codes: Names of the codebook and `UNSEEN`, or `UNCODED` alone.
        category: Issue category.
        reason: Why.
        is_aleatoric: Overlay flag.
        recommended: What to do first.
        how_to_verify: The observation that shows it worked.
        n_needed: Further labelled units that would decide the code at its observed rate; None with a reason.
        n_needed_reason: Why there is no such number; None where there is one.
        contradicted_by: Datasets whose veto changed the category.
        q_value: Benjamini-Hochberg q of "worse than the rest"; None without units or rest.
        z: The overlay's Z; NaN without units.
        threshold: t*, the confidence at or above which an error counts as unflagged.
        policy: Tolerances and confidence.
        clues: What the errors of inputs have in common.
        box_clues: What the errors of boxes have in common.
    """

    codes: tuple[str, ...]
    category: tuple[str, ...]
    reason: tuple[str, ...]
    is_aleatoric: tuple[bool, ...]
    recommended: tuple[str, ...]
    how_to_verify: tuple[str, ...]
    n_needed: tuple[int | None, ...]
    n_needed_reason: tuple[str | None, ...]
    contradicted_by: tuple[tuple[str, ...], ...]
    q_value: tuple[float | None, ...]
    z: tuple[float, ...]
    threshold: float
    policy: Policy
    clues: tuple[Clues, ...] = ()
    box_clues: tuple[BoxClues, ...] = ()

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
    plan: EvaluationPlan,
) -> CodeVerdicts:
    """Categorise every code by the units of the decision dataset (docs/method.md#categories).

    Args:
        population: All units, for their datasets and labels.
        statistics: Their prediction, confidence and error.
        coding: Their codes.
        estimation: For the temperature of the reference and the distances to the training data.
        reference: True for the units of the decision dataset.
        is_train: Whether training data decides.
        plan: Tolerances, and the datasets whose weights changed while they were traced: those contradict nothing.
    """
    policy = plan.policy
    errors = np.asarray(statistics.is_error)[reference]
    threshold = atc_threshold(statistics.confidence[reference], float(errors.mean()))
    if coding.codebook is None:
        reason = NO_FEATURES if population.features is None else FEW_UNITS
        return replace(
            conclude_uncoded(reason, recommend(RECESSIVE, reason), threshold=threshold, policy=policy), clues=(Clues(),)
        )
    grounds = gather_grounds(population, statistics, coding, estimation, reference, threshold=threshold, policy=policy)
    names = (*coding.codebook.names, UNSEEN)
    counts = grounds.count(reference)
    vetoes = grounds.find_vetoes(counts, barred=plan.barred)
    verdicts = categorise(
        counts.n,
        counts.k,
        counts.k_unflagged,
        policy=policy,
        unseen=np.array(names) == UNSEEN,
        train_only=is_train,
        veto_stable=vetoes.stable,
        veto_operational=vetoes.operational,
    )
    is_near = grounds.is_near_training()
    overlay = grounds.find_aleatoric(verdicts.category, is_near=is_near)
    needed = units_needed(counts.n, counts.k, policy=policy)
    clues = grounds.gather_clues(is_near=is_near, is_undecidable=(needed < 0) & (counts.n > 0))
    flags = [bool(flag) for flag in overlay.is_aleatoric]
    advice = [
        recommend(str(kind), str(why), is_aleatoric=flag, clues=known)
        for kind, why, flag, known in zip(verdicts.category, verdicts.reason, flags, clues, strict=True)
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
    return replace(concluded, is_aleatoric=tuple(flags), z=tuple(overlay.z.tolist()), clues=clues)


def conclude(
    names: tuple[str, ...],
    counts: CodeCounts,
    *,
    vetoes: Vetoes,
    verdicts: Verdicts,
    needed: npt.NDArray[np.int64],
    advice: Sequence[Recommendation],
    threshold: float,
    policy: Policy,
) -> CodeVerdicts:
    """Draw the practical conclusions, without overlay: how many labels decide, what to do, how to see that it worked.

    Args:
        names: Codes, `UNSEEN` last.
        counts: Units and errors of the deciding dataset.
        vetoes: What other datasets contradict.
        verdicts: Categories with reasons.
        needed: Of `units_needed`.
        advice: What to do about each code.
        threshold: t*.
        policy: Tolerances and confidence.
    """
    category, reason = verdicts.category.tolist(), verdicts.reason.tolist()
    labels = [_needed(*facts) for facts in zip(category, reason, counts.n.tolist(), needed.tolist(), strict=True)]
    return CodeVerdicts(
        codes=names,
        category=tuple(category),
        reason=tuple(reason),
        is_aleatoric=(False,) * len(names),
        recommended=tuple(method.method for method in advice),
        how_to_verify=tuple(_verify(method, n) for method, (n, _) in zip(advice, labels, strict=True)),
        n_needed=tuple(n for n, _ in labels),
        n_needed_reason=tuple(why for _, why in labels),
        contradicted_by=tuple(by if why == _GAP else () for by, why in zip(vetoes.by, reason, strict=True)),
        q_value=q_values(counts),
        z=(float("nan"),) * len(names),
        threshold=threshold,
        policy=policy,
    )


def _needed(category: str, reason: str, n: int, needed: int) -> tuple[int | None, str | None]:
    """Return n* of a code, or None and the reason (docs/method.md#needed-units)."""
    if category != RECESSIVE:
        return None, "decided"
    if reason in ("unseen", _GAP):
        return None, reason
    if n == 0:
        return None, "no_units"
    return (needed, None) if needed >= 0 else (None, f"beyond_{NEEDED_LIMIT}")


def _verify(method: Recommendation, needed: int | None) -> str:
    if needed is None or not method.method.startswith("label_"):
        return method.verify
    return f"{method.verify} At its observed rate {needed} more labelled units decide it."


def conclude_uncoded(reason: str, method: Recommendation, *, threshold: float, policy: Policy) -> CodeVerdicts:
    """Return the verdict where there is no codebook: all units stand together, and nothing is established.

    Args:
        reason: Why there is none.
        method: What to do.
        threshold: t*.
        policy: Tolerances and confidence.
    """
    return CodeVerdicts(
        codes=(UNCODED,),
        category=(RECESSIVE,),
        reason=(reason,),
        is_aleatoric=(False,),
        recommended=(method.method,),
        how_to_verify=(method.verify,),
        n_needed=(None,),
        n_needed_reason=("no_codebook",),
        contradicted_by=((),),
        q_value=(None,),
        z=(float("nan"),),
        threshold=threshold,
        policy=policy,
    )
