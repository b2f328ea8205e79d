"""The grounds of a verdict: counts per code and dataset, vetoes, the aleatoric overlay, what errors have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import (
    SCORE_NAMES,
    count_codes,
    find_aleatoric,
    find_vetoes,
    gather_clues,
    in_support,
    is_informative,
    support_limit,
    unit_ambiguity,
    worse_than_rest,
)
from mld_pipelines.evaluation._datasets import TRAIN
from mld_pipelines.windows import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from mld_pipelines.diagnosis import AleatoricVerdicts, Clues, CodeCounts, Policy, Vetoes
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._estimation import Estimation
    from mld_pipelines.evaluation._population import Population
    from mld_pipelines.metrics import UnitStatistics

__all__ = ["Grounds", "gather_grounds", "q_values"]

_KNN = SCORE_NAMES.index("knn")
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class Grounds:
    """All units of a population with what the verdicts need to know of them.

    Attributes:
        frame: Columns `dataset_type`, `fingerprint`, `label`, one row per unit.
        statistics: Predictions, probabilities and errors.
        index: Codes, −1 is `UNSEEN`.
        n_codes: Codes of the codebook, 0 without one.
        distances: Distance to the 10th neighbour in the bank, logarithm; NaN without features.
        temperature: Of the reference.
        reference: True for the units of the deciding dataset.
        threshold: t*.
        policy: Tolerances and confidence.
    """

    frame: pl.DataFrame
    statistics: UnitStatistics
    index: npt.NDArray[np.int64]
    n_codes: int
    distances: npt.NDArray[np.float64]
    temperature: float
    reference: npt.NDArray[np.bool_]
    threshold: float
    policy: Policy

    def count(self, rows: npt.NDArray[np.bool_]) -> CodeCounts:
        """Return units and errors per code of some rows."""
        errors, confidence = np.asarray(self.statistics.is_error)[rows], self.statistics.confidence[rows]
        return count_codes(self.index[rows], errors, confidence, n_codes=self.n_codes, threshold=self.threshold)

    def find_vetoes(self, counts: CodeCounts, *, barred: Collection[str]) -> Vetoes:
        """Let every other dataset of the same weights speak, production included (docs/method.md#vetoes).

        Args:
            counts: Of the deciding dataset.
            barred: Datasets whose weights changed while they were traced.
        """
        names = self.frame["dataset_type"]
        weights = self.frame["fingerprint"]
        decides = weights.filter(pl.Series(self.reference)).mode().sort().first()
        others = {}
        for dataset in names.filter(pl.Series(~self.reference)).unique().sort().to_list():
            if dataset not in barred:
                counted = self.count(((names == dataset) & (weights == decides)).to_numpy())
                others[dataset] = (counted.n, counted.k)
        return find_vetoes(counts.n, counts.k, others, policy=self.policy)

    def is_near_training(self) -> npt.NDArray[np.bool_]:
        """Return which codes lie inside the support of the training data, or of the reference where that is the bank.

        The distances of training units leave out the unit itself, so they are what a fresh unit of the kind would have.
        """
        is_train = (self.frame["dataset_type"].str.to_lowercase() == TRAIN).to_numpy()
        limit = support_limit(self.distances[is_train if is_train.any() else self.reference])
        rows, errors = self.reference, np.asarray(self.statistics.is_error)
        return in_support(self.distances[rows], self.index[rows], errors[rows], n_codes=self.n_codes, limit=limit)

    def find_aleatoric(self, category: npt.NDArray[np.str_], *, is_near: npt.NDArray[np.bool_]) -> AleatoricVerdicts:
        """Return the overlay with all its guards (docs/method.md#aleatoric).

        Args:
            category: Per code.
            is_near: Of `is_near_training`.
        """
        rows, statistics = self.reference, self.statistics
        probabilities, labels = statistics.probabilities[rows], self.frame["label"].to_numpy()[rows]
        n_classes = probabilities.shape[1]
        guards = [is_near]
        if n_classes == 2 and not is_informative(probabilities[:, 1], labels == 1):
            guards.append(np.zeros_like(is_near))
        # Softmax does not change under a shift of the logits, so log-probabilities stand in for them.
        scores = np.log(np.maximum(probabilities, _TINY))
        return find_aleatoric(
            unit_ambiguity(scores, labels, temperature=self.temperature),
            self.index[rows],
            np.asarray(statistics.is_error)[rows],
            category=category,
            n_classes=n_classes,
            guards=guards,
        )

    def gather_clues(
        self, *, is_near: npt.NDArray[np.bool_], is_undecidable: npt.NDArray[np.bool_]
    ) -> tuple[Clues, ...]:
        """Return what the errors of each code have in common."""
        wrong = self.reference & np.asarray(self.statistics.is_error)
        return gather_clues(
            self.index[wrong],
            self.frame["label"].to_numpy()[wrong],
            self.statistics.prediction[wrong],
            n_codes=self.n_codes,
            is_far=~is_near,
            is_undecidable=is_undecidable,
        )


def gather_grounds(
    population: Population,
    statistics: UnitStatistics,
    coding: Coding,
    estimation: Estimation,
    reference: npt.NDArray[np.bool_],
    *,
    threshold: float,
    policy: Policy,
) -> Grounds:
    """Bring together what other steps of an evaluation found."""
    return Grounds(
        frame=population.frame.select("dataset_type", "fingerprint", "label"),
        statistics=statistics,
        index=coding.index,
        n_codes=coding.codebook.n_codes if coding.codebook else 0,
        distances=estimation.risk_scores[:, _KNN],
        temperature=estimation.fit.window_reference.temperature,
        reference=reference,
        threshold=threshold,
        policy=policy,
    )


def q_values(counts: CodeCounts) -> tuple[float | None, ...]:
    """Return the Benjamini-Hochberg q of "worse than the rest" per code; None without units or rest."""
    p = worse_than_rest(counts.n, counts.k)
    tested = np.isfinite(p)
    q = np.full(len(p), np.nan)
    q[tested] = benjamini_hochberg(p[tested])
    return tuple(float(value) if np.isfinite(value) else None for value in q)
