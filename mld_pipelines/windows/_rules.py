"""Alert rules: which number of a window is judged against which threshold, and where that threshold comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import polars as pl

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.windows._drift import MIN_UNITS

__all__ = ["DEFAULT_RULES", "AlertRule", "prepare_windows"]

Severity = Literal["critical", "warning", "info"]
Origin = Literal["reference", "history", "user"]

#: An estimate or drift alert needs this many inferences in a window (docs/method.md#alerts).
ALERT_UNITS = 100
#: … an alert about boxes this many frames, dozens of boxes each: as many as the interval of their estimate asks for.
ALERT_FRAMES = 50
#: A day is compared with the median of up to this many days before it …
_HISTORY_DAYS = 7
#: … once there are this many.
_HISTORY_MIN = 3
#: Three times more or less traffic than usual; weekly cycles of a factor two stay silent.
_VOLUME_FACTOR = 3.0
#: Half as many boxes again in a frame as on the reference, or as many fewer, with both sides' noise allowed for: scenes
#: of one road differ by less than that from hour to hour, a blocked sensor or a wrong unit by more.
_DETECTIONS_FACTOR = 1.5
#: p95 twice the usual one: far beyond the 12 % that the histogram can be off.
_LATENCY_FACTOR = 2.0
#: Rows lost to quarantine, overflow or non-finite outputs.
_LOST_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One rule: a window breaches it where `compared > threshold`.

    Attributes:
        name: Stable name, part of the alert's id.
        value: Column shown as the value.
        compared: Column that must exceed the threshold (a lower bound, where the value has an interval).
        threshold: Column or number.
        origin: Where the threshold comes from.
        severity: How much it matters.
        min_n: Fewer units give no verdict, neither breach nor all-clear.
        units: Column that `min_n` counts.
        low: Column of the lower end of the value's interval.
        high: Column of the upper end.
        daily: Judge whole days only (seasonal within the day).
        needs_result: Judge windows with (True) or without (False) a result.
        resume: A window counts as clear where `compared ≤ resume · threshold`; between, it changes nothing.
        falls: The value is a share that must not fall: it breaches where `compared < threshold`, both taken from 1.
    """

    name: str
    value: str
    compared: str
    threshold: str | float
    origin: Origin
    severity: Severity = "warning"
    min_n: int = ALERT_UNITS
    units: str = "n"
    low: str | None = None
    high: str | None = None
    daily: bool = False
    needs_result: bool = True
    resume: float = 0.8
    falls: bool = False

    def __post_init__(self) -> None:
        """Refuse a rule that can never fire or never resolve."""
        if not self.name or self.min_n < 1 or not 0.0 <= self.resume <= 1.0:
            raise InvalidInputError(
                f"alert rule {self.name!r} needs a name, min_n ≥ 1 (is {self.min_n}) and resume in [0, 1] "
                f"(is {self.resume}); no alert was evaluated."
            )


#: Rules of a fresh project (docs/method.md#alerts).
DEFAULT_RULES = (
    AlertRule(
        name="estimated_error_rate",
        value="error_rate_estimated",
        compared="error_rate_low",
        threshold="error_rate_reference",
        origin="reference",
        severity="critical",
        units="n_scored",
        low="error_rate_low",
        high="error_rate_high",
    ),
    AlertRule(
        name="realised_error_rate",
        value="error_rate_realised",
        compared="error_rate_realised_low",
        threshold="error_rate_reference",
        origin="reference",
        severity="critical",
        min_n=MIN_UNITS,
        units="n_labelled",
        low="error_rate_realised_low",
        high="error_rate_realised_high",
    ),
    AlertRule(
        name="bad_categories",
        value="bad_share",
        compared="bad_low",
        threshold="bad_threshold",
        origin="reference",
        low="bad_low",
    ),
    *(
        AlertRule(name=name, value=name, compared=name, threshold=f"{name}_threshold", origin="reference", resume=1.0)
        for name in ("drift_codes", "drift_classes", "drift_confidence", "drift_range")
    ),
    *(
        AlertRule(
            name=f"estimated_{name}",
            value=f"{name}_estimated",
            compared=f"{name}_high",
            threshold=f"{name}_reference",
            origin="reference",
            severity="critical",
            min_n=ALERT_FRAMES,
            units="n_frames",
            low=f"{name}_low",
            high=f"{name}_high",
            falls=True,
        )
        for name in ("precision", "recall")
    ),
    AlertRule(
        name="detections_per_frame",
        value="detections_per_frame",
        compared="detections_ratio",
        threshold=_DETECTIONS_FACTOR,
        origin="reference",
        min_n=ALERT_FRAMES,
        units="n_frames",
        low="detections_per_frame_low",
        high="detections_per_frame_high",
    ),
    AlertRule(
        name="unseen",
        value="unseen_share",
        compared="unseen_low",
        threshold="unseen_threshold",
        origin="reference",
        low="unseen_low",
    ),
    AlertRule(
        name="volume",
        value="n",
        compared="volume_ratio",
        threshold=_VOLUME_FACTOR,
        origin="history",
        min_n=1,
        daily=True,
        needs_result=False,
    ),
    AlertRule(
        name="latency",
        value="latency_p95_ms",
        compared="latency_p95_ms",
        threshold="latency_threshold",
        origin="history",
        daily=True,
        needs_result=False,
    ),
    AlertRule(
        name="lost_rows",
        value="lost_share",
        compared="lost_share",
        threshold=_LOST_SHARE,
        origin="user",
        severity="critical",
        min_n=MIN_UNITS,
        needs_result=False,
    ),
)


def prepare_windows(derived: pl.DataFrame) -> pl.DataFrame:
    """Add the columns that rules need beyond one window: usual volume and latency, share of lost rows.

    Missing days between two days of a model count as days without traffic, but get no row of their own.

    Args:
        derived: Rows of `derive`; `n_quarantined` and `n_dropped` are used where present.
    """
    lost = [pl.col(name).fill_null(0) for name in ("n_quarantined", "n_dropped") if name in derived.columns]
    missing = pl.sum_horizontal(pl.lit(0), *lost)
    prepared = derived.with_columns(
        lost_share=(pl.col("n_invalid") + missing) / (pl.col("n") + missing),
    )
    usual = _usual_days(prepared.filter((pl.col("grain") == "day") & pl.col("result_name").is_null()))
    joined = prepared.join(
        usual, on=["event_day", "hour", "model_key", "result_name", "slice"], how="left", nulls_equal=True
    )
    ratio = pl.col("n") / pl.col("usual_n")
    return joined.with_columns(
        # the newest day is still filling: too much of it is news, too little is not
        volume_ratio=pl.when(pl.col("is_newest")).then(ratio).otherwise(pl.max_horizontal(ratio, 1 / ratio)),
        latency_threshold=_LATENCY_FACTOR * pl.col("usual_p95"),
    )


def _usual_days(days: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for (_, _), group in days.sort("event_day").group_by("model_key", "slice", maintain_order=True):
        by_day = {row["event_day"]: row for row in group.iter_rows(named=True)}
        first, newest = min(by_day), max(by_day)
        for day, row in by_day.items():
            before = [day - timedelta(days=back) for back in range(1, _HISTORY_DAYS + 1)]
            volumes = [by_day[past]["n"] if past in by_day else 0 for past in before if past >= first]
            latencies = [by_day[past]["latency_p95_ms"] for past in before if past in by_day]
            usual_n = _median(volumes)
            rows.append(
                {name: row[name] for name in ("event_day", "hour", "model_key", "result_name", "slice")}
                | {"usual_n": usual_n or None, "usual_p95": _median(latencies), "is_newest": day == newest}
            )
    schema = {name: days.schema[name] for name in ("event_day", "hour", "model_key", "result_name", "slice")}
    return pl.DataFrame(
        rows, schema=schema | {"usual_n": pl.Float64(), "usual_p95": pl.Float64(), "is_newest": pl.Boolean()}
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(pl.Series(known).median()) if len(known) >= _HISTORY_MIN else None  # type: ignore[arg-type]
