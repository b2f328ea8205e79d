"""Scores and error rates of unlabelled units by a stored result (docs/results.md#score)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import polars as pl

from mld_pipelines.evaluation import estimate_units
from mld_pipelines.evaluator._display import ResultFrame
from mld_pipelines.evaluator._given import GivenUnits, as_rows, fingerprints_of, from_arrays, from_rows
from mld_pipelines.evaluator._reasons import reasons_column
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import unit_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis import Opinions, ProductionScorer

__all__ = ["SCORED_COLUMNS", "ErrorRateEstimate", "Given", "estimate_given", "score_given"]

_log = logging.getLogger("mld_pipelines.evaluator")

#: Columns of a scored frame in their order; what names a row stands before them.
SCORED_COLUMNS = (
    "error_proba", "error_code", "category", "is_aleatoric", "reasons", "prediction", "confidence",
    "support_distance", "is_invalid",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """Arguments of `score` and `estimate_error_rate` as they came.

    Attributes:
        features: `(N, d)`.
        logits: `(N, K)`.
        probabilities: `(N, K)`.
        rows: Rows of logged inferences, instead of the three.
        accept_fingerprint: Score rows of other weights all the same.
    """

    features: Any = None
    logits: Any = None
    probabilities: Any = None
    rows: Any = None
    accept_fingerprint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRateEstimate:
    """Error rate of unlabelled units, estimated.

    Attributes:
        error_rate: The estimate; None without a scored unit.
        low: Lower end of the interval.
        high: Upper end.
        level: Its nominal level.
        n: Units it rests on.
        n_invalid: Units left out because outputs or features are missing or not finite.
        opinions: What each single estimate says: mean error probability, ATC on it, ATC on confidence (ATC-MC), one
            minus tempered confidence (MSP+T), code-wise; and the share of UNSEEN units.
        badges: What a reader must know, in words.
        is_alert: Whether these units alone call for an alert: n ≥ 100 and `low` above the reference rate.
        is_outside: Whether UNSEEN is surely more frequent than on reference-like inputs.
        verified_families: Corruption families on which the interval held when they were left out; empty without a
            stress pass.
        missed_families: Those on which it did not.
        reference_rate: Error rate of the labelled reference.
        result_name: The result that estimated.
    """

    error_rate: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    n_invalid: int
    opinions: Opinions | None
    badges: tuple[str, ...]
    is_alert: bool
    is_outside: bool
    verified_families: tuple[str, ...]
    missed_families: tuple[str, ...]
    reference_rate: float
    result_name: str

    def __str__(self) -> str:
        """Return the estimate, the peers beside it and the badges."""
        left_out = f"; {self.n_invalid} units left out" if self.n_invalid else ""
        if self.error_rate is None or self.low is None or self.high is None:
            head = f"estimated error rate: not enough evidence (n = 0{left_out})"
        else:
            head = (
                f"estimated error rate {self.error_rate:.3f} [{self.low:.3f}, {self.high:.3f}] at {self.level:.0%}, "
                f"n = {self.n}{left_out}; reference {self.reference_rate:.3f}"
            )
        lines = [head, *(f"  {name}: {value}" for name, value in self._peers())]
        lines += [f"- {badge}" for badge in self.badges]
        if self.verified_families:
            lines.append(f"- verified on: {', '.join(self.verified_families)}")
        if self.missed_families:
            lines.append(f"- the interval did not hold on: {', '.join(self.missed_families)}")
        return "\n".join(lines)

    def _peers(self) -> list[tuple[str, str]]:
        if self.opinions is None:
            return []
        values = {
            "mean error probability": self.opinions.mean_ep,
            "ATC on error probability": self.opinions.atc_ep,
            "ATC on confidence (ATC-MC)": self.opinions.atc_mc,
            "1 − confidence (MSP+T)": self.opinions.msp_t,
            "by code": self.opinions.codes,
            "UNSEEN share": self.opinions.unseen_share,
        }
        return [(name, "–" if value is None else f"{value:.3f}") for name, value in values.items()]


def score_given(given: Given, scorers: ScorerChoice[ProductionScorer]) -> ResultFrame:
    """Return one row per unit with its score columns.

    Raises:
        InvalidInputError: The arguments do not fit each other, the result or its weights.
    """
    if given.rows is None:
        scorer = scorers.of(None)
        return _frame(scorer, from_arrays(scorer, **_arrays(given)))
    frame = as_rows(_only_rows(given))
    accepted = scorers.by_fingerprint(fingerprints_of(frame), accept=given.accept_fingerprint)
    if len(accepted) <= 1:
        scorer = next(iter(accepted.values()), None) or scorers.of(None)
        return _frame(scorer, from_rows(scorer, frame))
    numbered = frame.with_row_index("_order")
    parts = []
    for fingerprint, scorer in accepted.items():
        part = numbered.filter(pl.col("fingerprint").eq_missing(pl.lit(fingerprint, dtype=pl.String)))
        scored = _frame(scorer, from_rows(scorer, part))
        parts.append(pl.DataFrame(scored).with_columns(part["_order"]))
    return ResultFrame(pl.concat(parts).sort("_order").drop("_order"))


def estimate_given(given: Given, scorers: ScorerChoice[ProductionScorer], *, level: float) -> ErrorRateEstimate:
    """Estimate the error rate of the given units.

    Raises:
        InvalidInputError: The arguments do not fit each other, the result or its weights; or the rows are of several
            epochs of the result.
    """
    if given.rows is None:
        scorer = scorers.of(None)
        units = from_arrays(scorer, **_arrays(given))
    else:
        frame = as_rows(_only_rows(given))
        accepted = scorers.by_fingerprint(fingerprints_of(frame), accept=given.accept_fingerprint)
        found = {scorer.fingerprint: scorer for scorer in accepted.values()}
        if len(found) > 1:
            raise InvalidInputError(
                f"the rows were made by {len(found)} sets of weights, each with its own reference; nothing was "
                "estimated. Estimate the rows of one fingerprint at a time."
            )
        scorer = next(iter(found.values()), None) or scorers.of(None)
        units = from_rows(scorer, frame)
    estimate = estimate_units(scorer, **units.named_outputs, features=units.features, keys=units.keys, level=level)
    return ErrorRateEstimate(
        error_rate=estimate.error_rate,
        low=estimate.low,
        high=estimate.high,
        level=estimate.level,
        n=estimate.n,
        n_invalid=len(units.outputs) - estimate.n,
        opinions=estimate.opinions,
        badges=estimate.badges,
        is_alert=estimate.is_alert,
        is_outside=estimate.is_outside,
        verified_families=() if scorer.window_map is None else scorer.window_map.verified_families,
        missed_families=() if scorer.window_map is None else scorer.window_map.missed_families,
        reference_rate=scorer.window_reference.base_rate,
        result_name=scorer.result_name,
    )


class _OfWeights(Protocol):
    """A scorer of any task."""

    @property
    def fingerprint(self) -> str:
        """Weights it belongs to."""
        ...


S = TypeVar("S", bound=_OfWeights)


@dataclass(frozen=True, slots=True, eq=False)
class ScorerChoice(Generic[S]):
    """Which of a result's scorers may score what.

    Attributes:
        result_name: The result.
        epochs: Epoch by fingerprint of its weights; the latest epoch last.
        n_epoch: Epoch asked for; None leaves it to the fingerprint, and arrays take the latest.
        load: Production scorer of an epoch.
    """

    result_name: str
    epochs: dict[str, int | None]
    n_epoch: int | None
    load: Callable[[int | None], S]

    def of(self, fingerprint: str | None) -> S:
        """Return the scorer of these weights, else the one asked for, else the latest."""
        if self.n_epoch is None and fingerprint in self.epochs:
            return self.load(self.epochs[fingerprint])
        return self.load(self.n_epoch if self.n_epoch is not None else list(self.epochs.values())[-1])

    def by_fingerprint(self, fingerprints: list[str | None], *, accept: bool) -> dict[str | None, S]:
        """Return the scorer of each fingerprint among the rows.

        Raises:
            InvalidInputError: Rows are of other weights, or do not say of which, and that was not accepted.
        """
        scorers = {fingerprint: self.of(fingerprint) for fingerprint in fingerprints}
        foreign = [name for name, scorer in scorers.items() if name != scorer.fingerprint]
        if foreign and not accept:
            shown = ", ".join("none recorded" if name is None else f"{name[:12]}…" for name in foreign[:3])
            own = ", ".join(f"{scorer.fingerprint[:12]}…" for scorer in {id(s): s for s in scorers.values()}.values())
            raise InvalidInputError(
                f"rows come from other weights (fingerprint {shown}) than result {self.result_name!r} was made with "
                f"({own}); nothing was scored. Use a result of those weights, or pass accept_fingerprint=True."
            )
        if foreign:
            _log.warning("rows of %d other fingerprints are scored by %r all the same", len(foreign), self.result_name)
        return scorers


def _only_rows(given: Given) -> Any:
    if any(value is not None for value in (given.features, given.logits, given.probabilities)):
        raise InvalidInputError(
            "rows= holds outputs and features itself; nothing was scored. Pass either rows or arrays."
        )
    return given.rows


def _arrays(given: Given) -> dict[str, Any]:
    return {"logits": given.logits, "probabilities": given.probabilities, "features": given.features}


def _frame(scorer: ProductionScorer, units: GivenUnits) -> ResultFrame:
    scored = scorer.score(**units.named_outputs, features=units.features, keys=units.keys)
    known = np.isfinite(scored.error_proba)
    if left_out := int((~known).sum()):
        _log.warning("%d of %d units hold NaN, infinity or no values: not scored", left_out, len(known))
    columns = {
        "error_proba": _float32(scored.error_proba),
        "error_code": pl.Series(scored.error_code, dtype=pl.String),
        "category": pl.Series(scored.category, dtype=pl.String),
        "is_aleatoric": pl.Series(scored.is_aleatoric, dtype=pl.Boolean),
        "reasons": reasons_column(scorer.estimator, scored.risk_scores),
        **_predicted(units, known),
        "support_distance": _float32(scored.support_distance),
        "is_invalid": pl.Series(~known, dtype=pl.Boolean),
    }
    scores = pl.DataFrame(columns).select(SCORED_COLUMNS)
    return ResultFrame(scores if units.identity.width == 0 else units.identity.hstack(scores))


def _predicted(units: GivenUnits, known: NDArray[np.bool_]) -> dict[str, pl.Series]:
    name = "logits" if units.is_logits else "probabilities"
    prediction, confidence = np.zeros(len(known), dtype=np.int64), np.full(len(known), np.nan, dtype=np.float32)
    if known.any():
        found = unit_statistics(**{name: units.outputs[known]})
        prediction[known], confidence[known] = found.prediction, found.confidence
    hidden = pl.Series(known)
    return {
        "prediction": pl.select(pl.when(hidden).then(pl.Series(prediction))).to_series(),
        "confidence": _float32(confidence),
    }


def _float32(values: NDArray[np.floating]) -> pl.Series:
    """Return a float column in which NaN, the scorer's "no value", is null."""
    return pl.Series(np.asarray(values, dtype=np.float32), nan_to_null=True)
