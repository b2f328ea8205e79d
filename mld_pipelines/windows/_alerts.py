"""Alerts: a state machine over windows that forgets nothing and repeats nothing.

`ok → pending → firing → resolved`, damped: two of the last three judged windows. The state is a pure function of the
windows, so a replay gives the same rows with the same ids; `previous` only carries what began before the windows given.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.tables.monitoring import MONITORING_ALERTS
from mld_pipelines.windows._rules import ALERT_UNITS, DEFAULT_RULES, AlertRule, prepare_windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["evaluate_alerts", "resolve_run_failures", "run_failure_alert"]

#: Breaches (or all-clears) among the last judged windows that change the state.
_NEEDED, _OF = 2, 3
#: A rule that breaches again this soon after it resolved goes on with the same alert instead of raising a new one
#: (docs/method.md#alert-states; event time).
COOL_DOWN = timedelta(hours=4)

_RUN_FAILURE = "run_failure"

_WITHDRAWN = "withdrawn, late rows changed its windows: "

_SUBJECT = ("model_key", "result_name", "slice")
_SCHEMA = pl.Schema(
    {name: dtype for name, dtype in MONITORING_ALERTS.polars_schema.items() if name != "schema_version"}
)


def evaluate_alerts(
    derived: pl.DataFrame,
    rules: Sequence[AlertRule] = DEFAULT_RULES,
    previous: pl.DataFrame | None = None,
    *,
    since: datetime | None = None,
    versions: Mapping[str, int] | None = None,
) -> pl.DataFrame:
    """Judge windows and return the alerts they open, continue or close.

    A subject's hours are judged; on days where none of its hours reaches 100 inferences, the day is. An alert that a
    recomputed window no longer supports comes back with state `ok` (never fired) or `resolved`.

    Args:
        derived: Rows of `derive`, hours **and** days, from enough before the touched days (three judged windows for
            the damping, seven days for usual volume and latency) **to the newest window there is**: an alert's state
            depends on all that followed. Stored alerts that went on after the last window given are left alone.
        rules: Rules to judge.
        previous: Stored alerts.
        since: Windows that start earlier only fill the damping memory; their alerts are taken from `previous`.
            None judges every window given. One day before the first touched day closes the volume of that day too.
        versions: Delta versions that the windows were computed from, stored with each alert.

    Returns:
        Rows of `monitoring/alerts` to upsert by `alert_id`: those touched by the windows, sorted by opening.
    """
    if derived.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    windows = prepare_windows(derived)
    stored = previous if previous is not None else pl.DataFrame(schema=_SCHEMA)
    text = json.dumps(dict(versions), sort_keys=True) if versions else None
    rows: list[dict[str, Any]] = []
    for rule in rules:
        for subject, judged in _sequences(windows, rule):
            known = _known_alerts(stored, rule, subject)
            start = since or judged[0]["window_start"]
            machine = _Machine(rule, subject, known, start)
            for window in judged:
                machine.step(window)
            rows.extend(row | {"versions": text} for row in machine.outcome(judged[-1]["window_start"]))
    return pl.DataFrame(rows, schema=_SCHEMA).sort("opened_at", "alert_id")


def run_failure_alert(
    *, run_id: str, job: str, model_key: str, failed_at: datetime, message: str, event_day_n: int = 0
) -> pl.DataFrame:
    """Return the alert row of a failed run; the same run gives the same `alert_id`.

    Args:
        run_id: Failed run.
        job: What failed.
        model_key: Model of the partition, or `-@-` where the run has none.
        failed_at: When it failed.
        message: Error in words.
        event_day_n: Inferences concerned, where known.
    """
    subject = {"model_key": model_key, "result_name": None, "slice": "all"}
    row = {
        **subject,
        "alert_id": _run_failure_id(model_key, run_id),
        "rule": _RUN_FAILURE,
        "grain": "run",
        "severity": "critical",
        "state": "firing",
        "origin": "user",
        "n": event_day_n,
        "opened_at": failed_at,
        "fired_at": failed_at,
        "last_seen": failed_at,
        "message": f"run {run_id} of {job} failed: {message}",
    }
    return pl.DataFrame([row], schema=_SCHEMA)


def resolve_run_failures(
    stored: pl.DataFrame, repeated: Iterable[tuple[str, str]], *, run_id: str, succeeded_at: datetime
) -> pl.DataFrame:
    """Return the alerts of failed runs whose work a later run has done, resolved; rows to upsert by `alert_id`.

    Args:
        stored: Rows of `monitoring/alerts`.
        repeated: `(model_key, run_id)` of the failed runs, as `run_failure_alert` was given them.
        run_id: The run that succeeded.
        succeeded_at: When it did.
    """
    wanted = [_run_failure_id(model_key, failed) for model_key, failed in repeated]
    return (
        stored.filter(pl.col("alert_id").is_in(wanted), pl.col("state") == "firing")
        .select(_SCHEMA.names())
        .with_columns(
            state=pl.lit("resolved"),
            closed_at=pl.lit(succeeded_at, _SCHEMA["closed_at"]),
            message=pl.col("message") + f"; run {run_id} has done its work since",
        )
        .sort("opened_at", "alert_id")
    )


def _run_failure_id(model_key: str, run_id: str) -> str:
    return _digest(_RUN_FAILURE, model_key, run_id)


@dataclass(slots=True)
class _Machine:
    """State of one rule on one subject."""

    rule: AlertRule
    subject: dict[str, Any]
    known: Sequence[dict[str, Any]]
    start: datetime
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)
    current: dict[str, Any] | None = None
    memory: deque[str] = field(default_factory=lambda: deque(maxlen=_OF))
    retraces: bool = False

    def __post_init__(self) -> None:
        """Take up the alert that was last alive before the first judged window."""
        before = {alert["alert_id"]: alert for alert in self.known if alert["opened_at"] < self.start}
        if not before:
            return
        alive = [_as_of(alert, self.start) for alert in before.values()]
        self.current = max(alive, key=lambda alert: (alert["closed_at"] is None, alert["opened_at"]))
        if self.current != before[self.current["alert_id"]]:
            self._keep(self.current)
        self.retraces = self.current["state"] == "firing"

    def step(self, window: dict[str, Any]) -> None:
        """Judge one window."""
        verdict = _judge(self.rule, window)
        if verdict is None:
            return
        self.memory.append(verdict)
        if window["window_start"] < self.start:
            self._retrace(verdict, window)
        elif verdict == "breach":
            self._breach(window)
        elif verdict == "clear":
            self._clear(window)

    def outcome(self, end: datetime) -> list[dict[str, Any]]:
        """Alerts that these windows touched, and those they no longer support; what went on after `end` stays."""
        beyond = {alert["alert_id"] for alert in self.known if _latest(alert) > end}
        withdrawn = [
            _withdraw(alert)
            for alert in self.known
            if alert["opened_at"] >= self.start and alert["alert_id"] not in self.alerts
        ]
        return [alert for alert in (*self.alerts.values(), *withdrawn) if alert["alert_id"] not in beyond]

    def _retrace(self, verdict: str, window: dict[str, Any]) -> None:
        """Follow a fired alert up to the first judged window: going on with it erased that it had resolved before."""
        alert = self.current
        if not self.retraces or alert is None or window["window_start"] <= alert["fired_at"]:
            return
        if verdict == "clear" and alert["state"] == "firing" and self.memory.count("clear") >= _NEEDED:
            self._keep(alert | {"state": "resolved", "closed_at": window["window_start"]})
        elif verdict == "breach" and alert["state"] == "resolved" and self.memory.count("breach") >= _NEEDED:
            goes_on = {"state": "firing", "closed_at": None, "last_seen": window["window_start"]}
            self._keep(alert | _reading(self.rule, window) | goes_on)

    def _breach(self, window: dict[str, Any]) -> None:
        begun = window["window_start"]
        alert = self.current
        rested = alert is not None and alert["closed_at"] is not None and begun - alert["closed_at"] > COOL_DOWN
        if alert is None or alert["state"] == "ok" or (alert["state"] == "resolved" and rested):
            alert = self._open(begun)
        is_damped = self.memory.count("breach") >= _NEEDED
        if alert["state"] == "pending" and is_damped:
            alert = alert | {"state": "firing", "fired_at": begun}
        elif alert["state"] == "resolved" and is_damped:
            alert = alert | {"state": "firing", "closed_at": None}
        self._keep(alert | _reading(self.rule, window) | {"last_seen": begun})

    def _clear(self, window: dict[str, Any]) -> None:
        alert = self.current
        if alert is None or alert["state"] in ("ok", "resolved") or self.memory.count("clear") < _NEEDED:
            return
        state = "resolved" if alert["state"] == "firing" else "ok"
        self._keep(alert | {"state": state, "closed_at": window["window_start"]})

    def _open(self, begun: datetime) -> dict[str, Any]:
        parts = (self.rule.name, *(str(self.subject[name]) for name in _SUBJECT), begun.isoformat())
        return {
            **dict.fromkeys(_SCHEMA.names()),
            **self.subject,
            "alert_id": _digest(*parts),
            "rule": self.rule.name,
            "severity": self.rule.severity,
            "origin": self.rule.origin,
            "state": "pending",
            "opened_at": begun,
        }

    def _keep(self, alert: dict[str, Any]) -> None:
        self.current = alert
        self.alerts[alert["alert_id"]] = alert


def _sequences(windows: pl.DataFrame, rule: AlertRule) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The windows of each subject that a rule judges, in time order."""
    has_result = pl.col("result_name").is_not_null()
    chosen = windows.filter(has_result if rule.needs_result else ~has_result)
    if rule.daily:
        chosen = chosen.filter(pl.col("grain") == "day")
    else:
        is_hour = pl.col("grain") == "hour"
        full_hours = ((pl.col("n") >= ALERT_UNITS) & is_hour).any().over("event_day", *_SUBJECT)
        chosen = chosen.filter(is_hour == full_hours)
    groups = chosen.sort("window_start").partition_by(list(_SUBJECT), maintain_order=True)
    return [({name: group[name][0] for name in _SUBJECT}, group.to_dicts()) for group in groups]


def _known_alerts(stored: pl.DataFrame, rule: AlertRule, subject: Mapping[str, Any]) -> list[dict[str, Any]]:
    same = [pl.col(name).eq_missing(pl.lit(value)) for name, value in subject.items()]
    return stored.filter(pl.col("rule") == rule.name, *same).select(_SCHEMA.names()).to_dicts()


def _withdraw(alert: dict[str, Any]) -> dict[str, Any]:
    state = "ok" if alert["fired_at"] is None else "resolved"
    message = _WITHDRAWN + str(alert["message"]).removeprefix(_WITHDRAWN)
    return alert | {"state": state, "closed_at": alert["last_seen"], "message": message}


def _latest(alert: Mapping[str, Any]) -> datetime:
    moments: list[datetime] = [
        alert[name] for name in ("last_seen", "fired_at", "closed_at") if alert[name] is not None
    ]
    return max(moments)


def _as_of(alert: dict[str, Any], start: datetime) -> dict[str, Any]:
    """The alert as it stood before `start`: later transitions are made again by the windows."""
    fired, closed = alert["fired_at"], alert["closed_at"]
    if closed is not None and closed < start:
        return alert
    if fired is not None and fired < start:
        return alert | {"state": "firing", "closed_at": None}
    return alert | {"state": "pending", "fired_at": None, "closed_at": None}


def _judge(rule: AlertRule, window: Mapping[str, Any]) -> str | None:
    compared = window.get(rule.compared)
    threshold = window.get(rule.threshold) if isinstance(rule.threshold, str) else rule.threshold
    if compared is None or threshold is None or (window.get(rule.units) or 0) < rule.min_n:
        return None
    if rule.falls:
        compared, threshold = 1.0 - compared, 1.0 - threshold
    if compared > threshold:
        return "breach"
    return "clear" if compared <= rule.resume * threshold else "between"


def _reading(rule: AlertRule, window: Mapping[str, Any]) -> dict[str, Any]:
    threshold = window[rule.threshold] if isinstance(rule.threshold, str) else rule.threshold
    value, low, high = window[rule.value], window.get(rule.low or ""), window.get(rule.high or "")
    interval = f" (interval {low:.3g} to {high:.3g})" if low is not None and high is not None else ""
    return {
        "grain": window["grain"],
        "value": float(value),
        "low": low,
        "high": high,
        "threshold": float(threshold),
        "n": window["n"],
        "message": f"{rule.name} is {value:.3g}{interval}, threshold {threshold:.3g} from {rule.origin}, "
        f"{window['n']} inferences in the {window['grain']} from {window['window_start']:%Y-%m-%d %H:%M} UTC",
    }


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
