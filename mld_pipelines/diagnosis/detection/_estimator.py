"""Error probability of a detector's boxes and its expected misses, without labels (docs/method.md#detection)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis._artifact import load_artifact, pack_artifact
from mld_pipelines.diagnosis._bank import hash_keys
from mld_pipelines.diagnosis._estimator import Reason
from mld_pipelines.diagnosis._monolr import ScoreModel
from mld_pipelines.diagnosis._scores import CodeRates, as_stored
from mld_pipelines.diagnosis._threads import one_thread_if_free
from mld_pipelines.diagnosis.detection._misses import MissEstimator, find_clusters, miss_scores
from mld_pipelines.diagnosis.detection._scores import (
    CANDIDATE_COLUMNS,
    DETECTION_SCORE_MEANINGS,
    DETECTION_SCORE_NAMES,
    DetectionRiskScorer,
)
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._frames import DetectedFrames
    from mld_pipelines.diagnosis.detection._misses import Clusters, ExpectedMisses

__all__ = ["DetectionEstimator"]

#: Kind and format of the stored bytes.
KIND = "detection_estimator"
FORMAT_VERSION = 1
#: Contributions up to it are float32's rounding of a score at the mean of the reference, no reason.
_LEAST_REASON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionEstimator:
    """Everything needed to give boxes their error probability and frames their expected misses.

    Attributes:
        mode: `"monotone"`, `"platt"` or `"prior"` (docs/method.md#detection).
        badges: What a reader must know about this estimator, in words.
        scorer: Label-free scores of kept boxes.
        model: Linear model on them.
        class_rates: Error counts per predicted class.
        code_rates: Error counts per code, None if there is no codebook.
        misses: Estimator of what was missed.
        match_distance: Centre distance up to which a box is an object, metres.
        n_ref: Kept boxes of the reference.
        n_errors: Those that were no true positives.
    """

    mode: str
    badges: tuple[str, ...]
    scorer: DetectionRiskScorer
    model: ScoreModel
    class_rates: CodeRates
    code_rates: CodeRates | None
    misses: MissEstimator
    match_distance: float
    n_ref: int
    n_errors: int

    @property
    def n_classes(self) -> int:
        """Classes of the model."""
        return self.scorer.n_classes

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """(C,) operating point."""
        return self.scorer.thresholds

    @property
    def feature_dim(self) -> int:
        """Width of the feature that is needed; 0 where the context of a box serves."""
        return self.scorer.feature_dim

    def risk_scores(
        self,
        frames: DetectedFrames,
        *,
        codes: NDArray[np.int64] | None = None,
        keys: Sequence[str] | None = None,
        clusters: Clusters | None = None,
    ) -> NDArray[np.float64]:
        """The risk scores of kept boxes, (N, S) in the order of `DETECTION_SCORE_NAMES`; NaN where undefined.

        Where the reference showed what the detector suppressed and the frames do not, or the other way round, scores
        made of candidates are the means of the reference: they contribute nothing.

        Args:
            frames: The frames.
            codes: (N,) code index, −1 for UNSEEN; required if the estimator was fitted with codes.
            keys: Content key of each frame, so that boxes of the bank's own frames are no neighbours.
            clusters: What `clusters` gives, where it is known already.

        Raises:
            InvalidInputError: Codes, class scores, features or keys do not fit.
        """
        if self.code_rates is not None and codes is None:
            raise InvalidInputError("the estimator needs the code of each box; nothing was scored. Pass codes.")
        if keys is not None and len(keys) != frames.frames:
            raise InvalidInputError(
                f"{len(keys)} keys were given for {frames.frames} frames; nothing was scored. Pass one per frame."
            )
        with one_thread_if_free(), _quiet():
            scores = self.scorer.score(
                frames,
                (clusters or self.clusters(frames)).peaks,
                match_distance=self.match_distance,
                hashes=None if keys is None else hash_keys(keys),
                class_scores=self.class_rates.scores(frames.kept.labels),
                code_scores=None if self.code_rates is None or codes is None else self.code_rates.scores(codes),
            )
        if self.scorer.has_suppressed not in (None, frames.has_suppressed):
            # fewer candidates because they were not recorded say nothing: the mean of the reference, for and against
            columns = list(CANDIDATE_COLUMNS)
            scores[:, columns] = as_stored(self.model.mean)[columns]
        return scores

    def lacks_candidates(self, frames: DetectedFrames) -> bool:
        """Whether the reference showed what the detector suppressed, and these frames do not."""
        return bool(self.scorer.has_suppressed) and not frames.has_suppressed

    def error_proba(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(the box is no true positive) from the output of `risk_scores`, (N,) float64."""
        return self.model.probability(scores)

    def clusters(self, frames: DetectedFrames) -> Clusters:
        """Clusters of the candidates on no kept box."""
        with _quiet():
            return find_clusters(frames, match_distance=self.match_distance)

    def expected_misses(self, frames: DetectedFrames, *, clusters: Clusters | None = None) -> ExpectedMisses:
        """What was probably missed in each frame.

        Args:
            frames: The frames.
            clusters: What `clusters` gives, where it is known already.
        """
        clusters = clusters or self.clusters(frames)
        with _quiet():
            scores = miss_scores(
                frames,
                clusters,
                thresholds=self.thresholds,
                norms=self.scorer.norms,
                match_distance=self.match_distance,
            )
        return self.misses.expect(clusters, scores)

    def reasons(self, scores: NDArray[np.float64], *, limit: int = 3) -> list[tuple[Reason, ...]]:
        """For each box the up to three scores that raise its error probability most, largest first.

        Args:
            scores: (N, S).
            limit: Most reasons per box.
        """
        contributions = self.model.contributions(scores)
        ranked = np.argsort(-contributions, axis=1, kind="stable")[:, :limit]
        return [
            tuple(
                Reason(name, float(row[column]), DETECTION_SCORE_MEANINGS[name])
                for column in columns
                if row[column] > _LEAST_REASON
                for name in (DETECTION_SCORE_NAMES[column],)
            )
            for row, columns in zip(contributions, ranked, strict=True)
        ]

    def to_bytes(self) -> bytes:
        """The estimator as safetensors bytes; equal state gives equal bytes."""
        tensors = {**self.scorer.to_arrays(), **self.model.to_arrays(), **self.misses.to_arrays()}
        for name, rates in (("classes", self.class_rates), ("codes", self.code_rates)):
            if rates is not None:
                tensors |= {f"{name}.errors": rates.errors, f"{name}.counts": rates.counts}
        parameters = {
            "mode": self.mode,
            "miss_mode": self.misses.mode,
            "badges": list(self.badges),
            "match_distance": self.match_distance,
            "n_ref": self.n_ref,
            "n_errors": self.n_errors,
            "base_rate": self.class_rates.base_rate,
            "feature_dim": self.feature_dim,
            "has_class_scores": self.scorer.has_class_scores,
            "has_suppressed": self.scorer.has_suppressed,
            "score_names": list(DETECTION_SCORE_NAMES),
        }
        return pack_artifact(KIND, FORMAT_VERSION, tensors=tensors, parameters=parameters)

    @classmethod
    def from_bytes(cls, data: bytes) -> DetectionEstimator:
        """The estimator that `to_bytes` wrote, bit for bit.

        Raises:
            CorruptArtifactError: The bytes are damaged, foreign or newer than this code.
        """
        return load_artifact(data, kind=KIND, version=FORMAT_VERSION, build=cls._from_state)

    @classmethod
    def _from_state(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> DetectionEstimator:
        rate = float(parameters["base_rate"])
        codes = "codes.errors" in tensors
        return cls(
            mode=str(parameters["mode"]),
            badges=tuple(parameters["badges"]),
            scorer=DetectionRiskScorer.from_arrays(
                tensors,
                feature_dim=int(parameters["feature_dim"]),
                has_class_scores=bool(parameters["has_class_scores"]),
                has_suppressed=parameters.get("has_suppressed"),
            ),
            model=ScoreModel.from_arrays(tensors),
            class_rates=CodeRates(tensors["classes.errors"], tensors["classes.counts"], rate),
            code_rates=CodeRates(tensors["codes.errors"], tensors["codes.counts"], rate) if codes else None,
            misses=MissEstimator.from_arrays(tensors, mode=str(parameters["miss_mode"])),
            match_distance=float(parameters["match_distance"]),
            n_ref=int(parameters["n_ref"]),
            n_errors=int(parameters["n_errors"]),
        )


def _quiet() -> np.errstate:
    """No warnings about boxes so large or so far that their squares are infinite: they are near nothing."""
    return np.errstate(over="ignore", invalid="ignore")
