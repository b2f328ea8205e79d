"""Whether production has earned a new evaluation (docs/method.md#reevaluation). Event time throughout."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

import polars as pl

from mld_pipelines.windows._rules import ALERT_UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = [
    "Decision",
    "ReevaluationFacts",
    "ReevaluationPolicy",
    "ReevaluationState",
    "decide_reevaluation",
    "gather_windows",
]

Reason = Literal["labels", "estimate", "unseen", "stress"]


class ReevaluationPolicy(Protocol):
    """The fields of `diagnosis.Policy` that the decision reads."""

    @property
    def reevaluate_labels(self) -> int:
        """Labels since the last result that suffice alone."""
        ...

    @property
    def reevaluate_labels_shifted(self) -> int:
        """Labels that suffice when production has left the reference."""
        ...

    @property
    def reevaluate_windows(self) -> int:
        """Judged windows in a row that the estimate has to be outside the band."""
        ...

    @property
    def reevaluate_cooldown_seconds(self) -> int:
        """Rest between two automatic re-evaluations, event time."""
        ...

    @property
    def unseen_reevaluate_floor(self) -> float:
        """`UNSEEN` share that always counts as doubled."""
        ...

    @property
    def unseen_reevaluate_factor(self) -> float:
        """Multiple of the reference's `UNSEEN` share that counts as doubled."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReevaluationFacts:
    """What is known about a model at one tick.

    Attributes:
        model_key: Model.
        result_name: Its current result.
        event_time: Newest event of the model, never the wall clock.
        labels: Feedback labels since the current result.
        outside: Latest judged windows, oldest first: whether the 90 % interval of the estimate excludes r0.
        unseen_low: 95 % lower bound of the `UNSEEN` share of the latest judged window; None without codes.
        unseen_ref: Cross-fitted `UNSEEN` share of the reference.
        stress_passes: Finished stress passes of the result's weights that it has not read.
    """

    model_key: str
    result_name: str
    event_time: datetime
    labels: int
    outside: Sequence[bool] = ()
    unseen_low: float | None = None
    unseen_ref: float = 0.0
    stress_passes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReevaluationState:
    """What the sensor's cursor keeps per model.

    Attributes:
        result_name: Result the state is about; another current result starts afresh, except for the cool-down.
        requested_at: Event time of the last request.
        requested_labels: Labels there were at the last request: the next one needs as many again.
        is_armed: False after a request because of shift, until production is back inside the reference or a new
            result has moved the reference (hysteresis).
    """

    result_name: str | None = None
    requested_at: datetime | None = None
    requested_labels: int = 0
    is_armed: bool = True

    def to_json(self) -> str:
        """Return the state as JSON for a cursor."""
        values = asdict(self)
        values["requested_at"] = None if self.requested_at is None else self.requested_at.isoformat()
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ReevaluationState:
        """Return the state that `to_json` wrote."""
        values = json.loads(text)
        at = values["requested_at"]
        return cls(**{**values, "requested_at": None if at is None else datetime.fromisoformat(at)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Outcome of one tick.

    Attributes:
        is_due: Whether to request an evaluation now.
        reason: Why; None when nothing is due.
        explanation: The numbers behind it, in words, also when nothing is due.
        run_key: Same facts, same key: a repeated tick requests nothing twice.
        state: State to keep in the cursor.
    """

    is_due: bool
    reason: Reason | None
    explanation: str
    run_key: str | None
    state: ReevaluationState


def decide_reevaluation(
    facts: ReevaluationFacts, policy: ReevaluationPolicy, state: ReevaluationState | None = None
) -> Decision:
    """Decide whether labels make a full re-evaluation possible and worthwhile.

    Due when (a) enough labels came since the last result, or (b) fewer but enough labels came and the estimate has
    been outside the reference band for several windows or the `UNSEEN` share doubled. Shift without labels is an
    alert, not a new result. A stress pass that the result has not read is due at once: it takes no label and changes
    the window map only.

    Args:
        facts: The model now.
        policy: Numbers of the rule.
        state: State of the previous tick; None at the first.
    """
    known = _follow_result(state or ReevaluationState(), facts)
    known = _rearm(known, facts, policy)
    reason = _reason(facts, policy, known)
    text = _explain(facts, policy)
    rest = timedelta(seconds=policy.reevaluate_cooldown_seconds)
    is_resting = known.requested_at is not None and facts.event_time - known.requested_at < rest
    if facts.stress_passes and (reason is None or is_resting):
        return _stress_decision(facts, text, known)
    if reason is None:
        return Decision(is_due=False, reason=None, explanation=text, run_key=None, state=known)
    if is_resting and known.requested_at is not None:
        waiting = f"{text}; due because of {reason}, but the last request was at {known.requested_at:%Y-%m-%d %H:%M}"
        return Decision(is_due=False, reason=None, explanation=waiting, run_key=None, state=known)
    requested = ReevaluationState(
        result_name=facts.result_name,
        requested_at=facts.event_time,
        requested_labels=facts.labels,
        is_armed=known.is_armed and reason == "labels",
    )
    key = f"reevaluate:{facts.model_key}:{facts.result_name}:{reason}:{facts.labels}"
    return Decision(
        is_due=True, reason=reason, explanation=f"{text}; due because of {reason}", run_key=key, state=requested
    )


def _stress_decision(facts: ReevaluationFacts, text: str, known: ReevaluationState) -> Decision:
    """Due because of a stress pass; neither labels nor cool-down are touched."""
    n = facts.stress_passes
    return Decision(
        is_due=True,
        reason="stress",
        explanation=f"{text}; {n} finished stress pass{'es' * (n > 1)} not read yet; due because of stress",
        run_key=f"reevaluate:{facts.model_key}:{facts.result_name}:stress:{n}",
        state=known,
    )


def gather_windows(derived: pl.DataFrame, *, model_key: str, result_name: str) -> tuple[list[bool], float | None]:
    """Return `outside` and `unseen_low` of the facts from derived windows (hours, or days where no hour reaches 100).

    Args:
        derived: Rows of `derive`, hours and days.
        model_key: Model.
        result_name: Its current result.
    """
    mine = derived.filter(
        (pl.col("model_key") == model_key) & (pl.col("result_name") == result_name) & (pl.col("slice") == "all")
    )
    is_hour = pl.col("grain") == "hour"
    full = ((pl.col("n") >= ALERT_UNITS) & is_hour).any().over("event_day")
    judged = mine.filter(is_hour == full).filter(pl.col("n") >= ALERT_UNITS).sort("window_start")
    # any of those there are: a null of `any_horizontal` would hide the others
    outside = pl.max_horizontal(_is_outside(name).cast(pl.Int8) for name in ("error_rate", "precision", "recall"))
    flags = (
        judged.select(outside.cast(pl.Boolean).alias("outside")).to_series().drop_nulls().to_list()
    )  # null: nothing was scored
    return flags, (judged["unseen_low"][-1] if len(judged) else None)


def _is_outside(name: str) -> pl.Expr:
    """Whether the reference is outside the interval of an estimate; null where there is no estimate."""
    reference = pl.col(f"{name}_reference")
    return (pl.col(f"{name}_low") > reference) | (pl.col(f"{name}_high") < reference)


def _follow_result(state: ReevaluationState, facts: ReevaluationFacts) -> ReevaluationState:
    if state.result_name == facts.result_name:
        return state
    return ReevaluationState(result_name=facts.result_name, requested_at=state.requested_at)


def _rearm(state: ReevaluationState, facts: ReevaluationFacts, policy: ReevaluationPolicy) -> ReevaluationState:
    if state.is_armed or _is_shifted(facts, policy) is not None:
        return state
    if any(facts.outside[-policy.reevaluate_windows :]):
        return state
    return ReevaluationState(
        result_name=state.result_name, requested_at=state.requested_at, requested_labels=state.requested_labels
    )


def _reason(facts: ReevaluationFacts, policy: ReevaluationPolicy, state: ReevaluationState) -> Reason | None:
    fresh = facts.labels - state.requested_labels
    if fresh >= policy.reevaluate_labels:
        return "labels"
    if fresh < policy.reevaluate_labels_shifted or not state.is_armed:
        return None
    return _is_shifted(facts, policy)


def _is_shifted(facts: ReevaluationFacts, policy: ReevaluationPolicy) -> Reason | None:
    latest = list(facts.outside)[-policy.reevaluate_windows :]
    if len(latest) == policy.reevaluate_windows and all(latest):
        return "estimate"
    limit = max(policy.unseen_reevaluate_floor, policy.unseen_reevaluate_factor * facts.unseen_ref)
    return "unseen" if facts.unseen_low is not None and facts.unseen_low > limit else None


def _explain(facts: ReevaluationFacts, policy: ReevaluationPolicy) -> str:
    recent = list(facts.outside)[-policy.reevaluate_windows :]
    unseen = "unknown" if facts.unseen_low is None else f"at least {facts.unseen_low:.3f}"
    return (
        f"{facts.labels} labels since {facts.result_name}; estimate outside the reference band in {sum(recent)} of "
        f"the last {len(recent)} windows; UNSEEN share {unseen}, {facts.unseen_ref:.3f} in the reference"
    )
