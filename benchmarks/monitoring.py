"""P7: bringing the monitoring windows up to date after 5 % new rows, against computing them anew."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks._data import RESULT, feedback, inferences, scored_rows
from benchmarks._report import Report, ratio_text, seconds_text
from benchmarks._timing import interleaved, median
from mld_pipelines.lake import Batch, Lake
from mld_pipelines.rollups import refresh_windows
from mld_pipelines.tables import LANDING_FEEDBACK, LANDING_INFERENCES, MONITORING_SCORED, MONITORING_WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = ("duckdb",)
_FIRST = date(2026, 3, 1)
_CODES = 100
_FULL_REPEATS = 3
_LABELLED_EVERY = 100
_DAYS = 20
"""Days of the history: one more day of the same size is the 5 % that is new."""


@dataclass(frozen=True, slots=True)
class _Limits:
    threshold_ep: float = 0.3
    threshold_mc: float = 0.6


class _History:
    """A lake whose days each hold the same number of logged, scored and (one in a hundred) labelled inferences."""

    def __init__(self, per_day: int) -> None:
        self.lake = Lake.open()
        self.per_day = per_day
        self.references: Any = {RESULT: _Limits()}
        self.days: list[date] = []
        self._seq = 0

    def add(self, day: date) -> None:
        """Log one day and bring its windows up to date, as the sensors would."""
        self.land(day)
        self.refresh(day)

    def land(self, day: date) -> None:
        """Log one day: three commits."""
        landed = inferences(
            self.per_day, day, seq=self._seq, spec=LANDING_INFERENCES, first_id=self._seq * self.per_day
        )
        scored = scored_rows(landed, n_codes=_CODES, spec=MONITORING_SCORED)
        self.lake.commit_once(LANDING_INFERENCES, [Batch("bench-logger", self._seq, landed)])
        self.lake.commit_once(MONITORING_SCORED, [Batch(f"scored:{day}:{RESULT}", self._seq, scored)])
        labels = feedback(landed, every=_LABELLED_EVERY)
        self.lake.commit_once(LANDING_FEEDBACK, [Batch("bench-labels", self._seq, labels)])
        self.days.append(day)
        self._seq += 1

    def refresh(self, day: date) -> None:
        """Bring the windows of a day up to date."""
        done = refresh_windows(self.lake, [day], references=self.references)
        if done.read != 2 * self.per_day:
            raise RuntimeError(f"the refresh read {done.read} rows, {2 * self.per_day} were new")

    @property
    def rows(self) -> int:
        """Logged inferences."""
        return len(self.days) * self.per_day


class _NewDay:
    """A landed day whose refresh can be repeated: the windows table is put back before each."""

    def __init__(self, history: _History, day: date) -> None:
        self._history, self._day = history, day
        self._windows = Path(history.lake.uri(MONITORING_WINDOWS))
        self._saved = self._windows.with_name("windows.before")
        shutil.rmtree(self._saved, ignore_errors=True)
        shutil.copytree(self._windows, self._saved)
        history.land(day)

    def put_back(self) -> None:
        """Forget the last refresh."""
        shutil.rmtree(self._windows)
        shutil.copytree(self._saved, self._windows)

    def refresh(self) -> None:
        """Do it."""
        self._history.refresh(self._day)


def run(*, quick: bool, full: bool) -> Report:
    """Measure at one history and at twice that history."""
    del full
    per_day = 2_000 if quick else 1_000_000
    days = 3 if quick else _DAYS
    repeats = 2 if quick else 7
    history = _History(per_day)
    for number in range(days):
        history.add(_FIRST - timedelta(days=number + 1))
    once = _measure(history, _FIRST, repeats, with_full=True)
    rows = history.rows
    for number in range(days, 2 * days):
        history.add(_FIRST - timedelta(days=number + 1))
    twice = _measure(history, _FIRST + timedelta(days=1), repeats, with_full=False)
    return _report(once, twice, rows, history)


def _measure(history: _History, day: date, repeats: int, *, with_full: bool) -> dict[str, float]:
    """Return median seconds by name: the refresh of a day that just landed, and ways to compute all days anew."""
    new = _NewDay(history, day)
    actions: dict[str, Callable[[], object]] = {"refresh": new.refresh}
    if with_full:
        actions["full: the same counts, sums and histograms, plain polars"] = lambda: _plain_polars(history.lake)
        if _duckdb() is not None:
            actions["full: the same counts and sums, duckdb"] = lambda: _plain_duckdb(history.lake)

    def before(name: str) -> None:
        if name == "refresh":
            new.put_back()

    together = interleaved(actions, repeats=min(repeats, _FULL_REPEATS), before=before)
    together["refresh"] += interleaved({"refresh": new.refresh}, repeats=repeats, before=before)["refresh"]
    return {name: median(spent) for name, spent in together.items()}


_KEYS = ("hour", "model_key", "result_name")
_BINS = {
    "latency_histogram": (pl.col("latency_ms").log(2.0) * 3 + 18).cast(pl.Int8),
    "confidence_histogram": (pl.col("confidence") * 20).cast(pl.Int8),
    "class_counts": pl.col("prediction"),
    "batch_histogram": pl.col("batch_size"),
}


def _plain_polars(lake: Lake) -> None:
    """Compute the same counts, sums and histograms of all hours, written straight down by someone who knows polars."""
    hour = pl.col("event_at").dt.truncate("1h").alias("hour")
    landed = lake.scan(LANDING_INFERENCES).with_columns(hour)
    labels = lake.scan(LANDING_FEEDBACK).select("request_id", "label")
    scored = lake.scan(MONITORING_SCORED).join(labels, on="request_id", how="left").with_columns(hour)
    risk = {"error_proba_histogram": (pl.col("error_proba") * 20).cast(pl.Int8), "code_counts": pl.col("error_code")}
    basic = [pl.len(), pl.col("latency_ms").sum(), pl.col("latency_ms").max().alias("max"), pl.col("confidence").sum()]
    errors = [
        pl.col("error_proba").sum(),
        (pl.col("error_proba") > 0.3).sum().alias("over"),
        (pl.col("confidence_t") < 0.6).sum().alias("below"),
        (pl.col("label") != pl.col("prediction")).sum().alias("wrong"),
        pl.col("error_proba").filter(pl.col("label").is_not_null()).sum().alias("labelled"),
    ]
    queries = [landed.group_by(_KEYS).agg(basic), scored.group_by(_KEYS).agg(*basic, *errors)]
    queries += [landed.group_by(*_KEYS, bin_.alias("bin")).agg(pl.len()) for bin_ in _BINS.values()]
    queries += [scored.group_by(*_KEYS, bin_.alias("bin")).agg(pl.len()) for bin_ in (_BINS | risk).values()]
    pl.collect_all(queries, engine="streaming")


def _duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError:
        return None


def _plain_duckdb(lake: Lake) -> None:
    """Compute counts, sums and the latency histogram of all hours with duckdb, over the same Parquet files."""
    connection = _duckdb().connect()
    for spec, value in ((LANDING_INFERENCES, "confidence"), (MONITORING_SCORED, "error_proba")):
        paths = [str(Path(lake.uri(spec)) / path) for path in lake.files(spec)["path"]]
        keys = "date_trunc('hour', event_at) as hour, model_key, result_name"
        source = f"from read_parquet({paths!r}) group by all"
        connection.execute(
            f"select {keys}, count(*), sum({value}), sum(latency_ms), max(latency_ms) {source}"
        ).fetchall()
        connection.execute(f"select {keys}, floor(3 * log2(latency_ms)) as bin, count(*) {source}").fetchnumpy()


def _report(once: dict[str, float], twice: dict[str, float], rows: int, history: _History) -> Report:
    report = Report(
        f"Monitoring windows after 5 % new rows; history of {rows / 1e6:.3g} million logged and scored inferences",
        ("way", "rows in the lake", "median", "dearer than the refresh"),
    )
    refresh = once.pop("refresh")
    size = f"{rows / 1e6:.3g} M"
    report.add("refresh of the new rows (Delta commit included)", size, seconds_text(refresh), ratio_text(1.0))
    again = twice["refresh"]
    report.add(
        "the same, history doubled", f"{history.rows / 1e6:.3g} M", seconds_text(again), ratio_text(again / refresh)
    )
    for name, seconds in once.items():
        report.add(name, size, seconds_text(seconds), ratio_text(seconds / refresh))
    gain, growth = min(once.values()) / refresh, again / refresh
    report.at_least("≥ 10 × a full recompute (the fastest here)", gain, 10.0, ratio_text(gain))
    report.at_most("flat (±10 %) when the history doubles", growth, 1.10, ratio_text(growth))
    report.notes += [
        f"{history.per_day:,} new rows in `landing/inferences`, as many in `monitoring/scored`, one in "
        f"{_LABELLED_EVERY} labelled, in one new day; 20 : 1 is the ideal. The windows table is put back before every "
        "refresh, so each opens it anew.",
        "The peers only compute; the refresh also reads marks, merges and commits.",
    ]
    return report
