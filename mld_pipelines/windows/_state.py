"""What a window state is: a row of sums that can be added to any other row of sums.

Counts are integers. Real-valued sums are taken over values rounded to a binary grid (`PROBABILITY_STEP`,
`LATENCY_STEP_MS`), so every partial sum is exactly representable in float64 and addition is associative and
commutative *bit for bit* up to 2^23 units per state (2^53 ns of latency); beyond that, to 1e-9 relative. Rounding
moves a mean by at most half a step: 5e-10 for probabilities, 0.5 ns for latencies.

Histograms are stored as `List(Int64)` in the row of their window rather than as sparse (window, bin) rows: a refresh
replaces one row per touched window, reads need no pivot, merging is one `bincount`, and the runs of zeros cost almost
nothing in Parquet.
"""

from __future__ import annotations

import polars as pl

from mld_pipelines.tables.monitoring import MONITORING_WINDOWS
from mld_pipelines.windows._bins import BOX_COUNT_BINS, RANGE_BINS

__all__ = [
    "CODE_LISTS",
    "COUNT_COLUMNS",
    "DETECTOR_COLUMNS",
    "HISTOGRAM_COLUMNS",
    "KEY",
    "LATENCY_STEP_MS",
    "PROBABILITY_STEP",
    "STATE_SCHEMA",
    "SUM_COLUMNS",
    "empty_states",
]

#: Key of a window; `hour` is null in a state rolled up to its day, `result_name` in the basic metrics.
KEY = ("event_day", "hour", "model_key", "result_name", "slice")

PROBABILITY_STEP = 2.0**-30
LATENCY_STEP_MS = 2.0**-20

COUNT_COLUMNS = (
    "n",
    "n_invalid",
    "n_clock_skewed",
    "n_scored",
    "n_over_threshold",
    "n_below_confidence",
    "n_unseen",
    "n_labelled",
    "n_label_errors",
    "n_labelled_scored",
    "n_labelled_scored_errors",
    "shift_n",
    "n_frames",
    "n_boxes",
    "n_boxes_squared",
    "n_candidates",
    "n_candidates_over",
)
SUM_COLUMNS = (
    "call_sum",
    "latency_sum_ms",
    "confidence_sum",
    "error_proba_sum",
    "confidence_t_sum",
    "labelled_error_proba_sum",
    "shift_proba_sum",
    "missed_proba_sum",
)
#: Histogram column → its fixed length; None = as long as the largest index seen, without trailing zeros.
HISTOGRAM_COLUMNS: dict[str, int | None] = {
    "batch_histogram": 16,
    "latency_histogram": 64,
    "confidence_histogram": 20,
    "class_counts": None,
    "error_proba_histogram": 20,
    "category_counts": 5,
    "boxes_histogram": BOX_COUNT_BINS,
    "range_histogram": RANGE_BINS,
}
#: Lists that belong together: names, and a count and a sum for each of them.
CODE_LISTS = (
    ("codes", "code_counts", "code_error_proba_sums"),
    ("missed_codes", "missed_code_counts", "missed_code_proba_sums"),
)

#: Columns of a state and their dtypes: those of `monitoring/windows` without the schema version.
STATE_SCHEMA = pl.Schema(
    {name: dtype for name, dtype in MONITORING_WINDOWS.polars_schema.items() if name != "schema_version"}
)
#: Columns that only detectors fill, and their dtypes.
DETECTOR_COLUMNS = pl.Schema(
    {
        name: STATE_SCHEMA[name]
        for name in (
            "n_frames",
            "n_boxes",
            "n_boxes_squared",
            "n_candidates",
            "n_candidates_over",
            "missed_proba_sum",
            "boxes_histogram",
            "range_histogram",
            *CODE_LISTS[1],
        )
    }
)


def empty_states() -> pl.DataFrame:
    """Return a frame of no window states."""
    return pl.DataFrame(schema=STATE_SCHEMA)
