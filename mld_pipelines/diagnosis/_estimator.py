"""Error probability of a unit without its label (docs/method.md#error-probability)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis._artifact import load_artifact, pack_artifact
from mld_pipelines.diagnosis._bank import hash_keys
from mld_pipelines.diagnosis._monolr import ScoreModel
from mld_pipelines.diagnosis._scores import SCORE_MEANINGS, SCORE_NAMES, CodeRates, RiskScorer
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "ErrorEstimator",
    "Reason",
]

#: Kind and format of the stored bytes.
KIND = "estimator"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Reason:
    """One score that raises a unit's error probability.

    Attributes:
        score: Name of the score.
        contribution: What it adds to the log-odds of an error, > 0.
        meaning: The same in words.
    """

    score: str
    contribution: float
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ErrorEstimator:
    """Everything needed to give a unit its error probability.

    Attributes:
        mode: `"monotone"`, `"platt"` or `"prior"` (docs/method.md#fallback).
        badges: What a reader must know about this estimator, in words.
        scorer: Label-free scores.
        model: Linear model on them.
        code_rates: Error counts per code, None if there is no codebook.
        n_ref: Reference units.
        n_errors: Reference errors.
    """

    mode: str
    badges: tuple[str, ...]
    scorer: RiskScorer
    model: ScoreModel
    code_rates: CodeRates | None
    n_ref: int
    n_errors: int

    def risk_scores(
        self,
        *,
        logits: NDArray[np.floating] | None = None,
        probabilities: NDArray[np.floating] | None = None,
        features: NDArray[np.float32] | None = None,
        codes: NDArray[np.int64] | None = None,
        keys: Sequence[str] | None = None,
    ) -> NDArray[np.float64]:
        """The ten risk scores, `(N, 10)` in the order of `SCORE_NAMES`; NaN where one cannot be computed.

        Args:
            logits: `(N, K)` float32 as stored.
            probabilities: `(N, K)`, used where the model gives no logits.
            features: `(N, d)` float32 as stored.
            codes: Code index per unit, -1 for UNSEEN; required if the estimator was fitted with codes.
            keys: Unit keys as in `ReferenceUnits`; units of the bank are then not their own neighbours.

        Raises:
            InvalidInputError: A width differs from the fitted one, or an input is missing.
        """
        if self.code_rates is not None and codes is None:
            raise InvalidInputError("the estimator needs the code of each unit; nothing was scored. Pass codes.")
        return self.scorer.score(
            logits=logits,
            probabilities=probabilities,
            features=features,
            hashes=None if keys is None else hash_keys(keys),
            code_scores=None if self.code_rates is None or codes is None else self.code_rates.scores(codes),
        )

    def error_proba(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(the prediction is wrong) from the output of `risk_scores`, `(N,)` float64."""
        return self.model.probability(scores)

    def reasons(self, scores: NDArray[np.float64], *, limit: int = 3) -> list[tuple[Reason, ...]]:
        """For each unit the up to three scores that raise its error probability most, largest first.

        Args:
            scores: `(N, 10)`.
            limit: Most reasons per unit.
        """
        contributions = self.model.contributions(scores)
        ranked = np.argsort(-contributions, axis=1, kind="stable")[:, :limit]
        return [
            tuple(
                Reason(SCORE_NAMES[column], float(row[column]), SCORE_MEANINGS[SCORE_NAMES[column]])
                for column in columns
                if row[column] > 0.0
            )
            for row, columns in zip(contributions, ranked, strict=True)
        ]

    def to_bytes(self) -> bytes:
        """The estimator as safetensors bytes; equal state gives equal bytes."""
        tensors = {**self.scorer.to_arrays(), **self.model.to_arrays()}
        if self.code_rates is not None:
            tensors |= {"codes.errors": self.code_rates.errors, "codes.counts": self.code_rates.counts}
        parameters = {
            "mode": self.mode,
            "badges": list(self.badges),
            "n_ref": self.n_ref,
            "n_errors": self.n_errors,
            "n_classes": self.scorer.n_classes,
            "feature_dim": self.scorer.feature_dim,
            "score_names": list(SCORE_NAMES),
        }
        return pack_artifact(KIND, FORMAT_VERSION, tensors=tensors, parameters=parameters)

    @classmethod
    def from_bytes(cls, data: bytes) -> ErrorEstimator:
        """The estimator that `to_bytes` wrote, bit for bit.

        Raises:
            CorruptArtifactError: The bytes are damaged, foreign or newer than this code.
        """
        return load_artifact(data, kind=KIND, version=FORMAT_VERSION, build=cls._from_state)

    @classmethod
    def _from_state(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> ErrorEstimator:
        n_ref, n_errors = int(parameters["n_ref"]), int(parameters["n_errors"])
        rates = None
        if "codes.errors" in tensors:
            rates = CodeRates(tensors["codes.errors"], tensors["codes.counts"], n_errors / n_ref)
        scorer = RiskScorer.from_arrays(
            tensors, n_classes=int(parameters["n_classes"]), feature_dim=int(parameters["feature_dim"])
        )
        return cls(
            mode=str(parameters["mode"]),
            badges=tuple(parameters["badges"]),
            scorer=scorer,
            model=ScoreModel.from_arrays(tensors),
            code_rates=rates,
            n_ref=n_ref,
            n_errors=n_errors,
        )
