"""Score inferences by a stored result, loaded in the background."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from mld_pipelines.capture import EmbeddedSink, can_use_frames
from mld_pipelines.exceptions import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mld_pipelines.capture import Sink
    from mld_pipelines.diagnosis import ProductionScorer, ScoredUnits
    from mld_pipelines.lake import Lake

__all__ = ["ResultScorers", "ResultScoring"]

_log = logging.getLogger("mld_pipelines.monitoring")

_RETRY_SECONDS = 60.0
"""Pause before a result that could not be loaded is looked for again: it may be evaluated later."""


class _Scorer(Protocol):
    """What scorers of every task have."""

    @property
    def fingerprint(self) -> str:
        """Weights the estimator belongs to."""
        ...


S = TypeVar("S", bound=_Scorer)


class ResultScorers(Generic[S]):
    """The scorers of one result by weights, loaded in the background; says once why there is none.

    Args:
        sink: Where the result is stored.
        result_name: Name of the result.
        accept_fingerprint: Score although the weights differ from the evaluated ones.
    """

    def __init__(self, sink: Sink, result_name: str, *, accept_fingerprint: bool) -> None:
        self._sink = sink
        self._result_name = result_name
        self._accept_fingerprint = accept_fingerprint
        self._by_fingerprint: dict[str, S] = {}
        self._next_look = 0.0
        self._said: set[str] = set()

    def load(self, lake: Lake, n_epoch: int | None) -> S:
        """Return the scorer of one epoch of the result, the latest where none is named."""
        raise NotImplementedError

    def scorer(self, fingerprint: str) -> S | None:
        """Return the scorer for these weights, or None where they cannot be scored."""
        found = self._loaded(fingerprint)
        return found if found is not None and self._fits(found, fingerprint) else None

    def say(self, key: str, message: str) -> None:
        """Log a warning, once for each key."""
        if key not in self._said:
            self._said.add(key)
            _log.warning(message)

    def failed(self, error: Exception) -> None:
        """Say that scoring failed; the inferences land without scores."""
        self.say("failed", f"inferences land unscored: {type(error).__name__}: {error}")

    def _loaded(self, fingerprint: str) -> S | None:
        """Return the scorer of the epoch with these weights, else the latest of the result."""
        if fingerprint in self._by_fingerprint:
            return self._by_fingerprint[fingerprint]
        if time.monotonic() < self._next_look or not can_use_frames() or not isinstance(self._sink, EmbeddedSink):
            return None
        from mld_pipelines.evaluation import load_result

        lake = self._sink.lake
        try:
            epochs = load_result(lake, self._result_name).row["epochs"]
            latest = self.load(lake, None)
        except NotFoundError as error:
            self._next_look = time.monotonic() + _RETRY_SECONDS
            self.say("unknown", f"only basic metrics are logged: {error}")
            return None
        except Exception:
            self._next_look = time.monotonic() + _RETRY_SECONDS
            raise
        others = [] if latest.fingerprint == fingerprint else [epoch for epoch in epochs[:-1] if epoch is not None]
        scorers = (self.load(lake, epoch) for epoch in reversed(others))
        found = next((scorer for scorer in scorers if scorer.fingerprint == fingerprint), latest)
        self._by_fingerprint[fingerprint] = found
        return found

    def _fits(self, scorer: S, fingerprint: str) -> bool:
        if scorer.fingerprint == fingerprint:
            return True
        if self._accept_fingerprint:
            self.say("accepted", f"the weights differ from those of result {self._result_name!r}; scored all the same.")
            return True
        self.say(
            "other",
            f"the weights (fingerprint {fingerprint[:12]}…) differ from those that {self._result_name!r} was made "
            f"with ({scorer.fingerprint[:12]}…): inferences land unscored. Evaluate this model, or pass "
            "accept_fingerprint=True.",
        )
        return False


class ResultScoring(ResultScorers["ProductionScorer"]):
    """Adds error probability, code and category to captured outputs; silent where it cannot."""

    def load(self, lake: Lake, n_epoch: int | None) -> ProductionScorer:
        """See `ResultScorers`."""
        from mld_pipelines.evaluation import load_scorer

        return load_scorer(lake, self._result_name, n_epoch=n_epoch)

    def __call__(
        self,
        *,
        logits: NDArray[np.float32] | None,
        probabilities: NDArray[np.float32] | None,
        features: NDArray[np.float32] | None,
        fingerprint: str,
    ) -> Mapping[str, Any] | None:
        """Return score columns for (N, K) outputs, or None; see `ScoreOutputs`."""
        try:
            scorer = self.scorer(fingerprint)
            if scorer is None:
                return None
            named = {"logits": logits} if logits is not None else {"probabilities": probabilities}
            return _columns(scorer, scorer.score(**named, features=features))
        except Exception as error:
            self.failed(error)
            return None


def _columns(scorer: ProductionScorer, units: ScoredUnits) -> Mapping[str, Any] | None:
    is_scored = np.isfinite(units.error_proba)
    if not is_scored.any():
        return None
    return {
        "error_proba": units.error_proba,
        "error_code": list(units.error_code),
        "category": list(units.category),
        "is_aleatoric": [None if flag is None else bool(flag) for flag in units.is_aleatoric],
        "support_distance": units.support_distance,
        "scored_by": [scorer.scored_by if scored else None for scored in is_scored],
        "risk_scores": np.asarray(units.risk_scores, np.float32),
    }
