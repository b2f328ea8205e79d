"""What a number of GPUs needs beside them, reckoned from measured terms: the tables of docs/throughput.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Terms = Mapping[str, float]

__all__ = ["capacity_table", "load_terms", "needs", "terms_block"]

TERMS = Path(__file__).resolve().parent / "data" / "throughput.json"
FORWARD_MS = 25.0
"""GPU time of a frame that the page reckons with: a parameter, not a measurement."""
GPUS = 64
MILLION_A_DAY = 1e6 / 86_400

_TOLD = {
    "rows_ms": "post-processing of a frame on one core, through Ray, ms",
    "driver_frame_ms": "the driver's processor time for a frame: decoding, contract, Parquet, commit, ms",
    "driver_call_ms": "the driver's processor time for a call of an actor, ms",
    "frames_per_call": "frames in a call",
    "commit_ms": "of that, a commit of `commit_frames` frames, ms",
    "commit_frames": "frames in that commit",
    "raw_bytes": "raw outputs of a frame in shared memory, bytes",
    "segment_bytes": "rows of a frame on their way to the driver, bytes",
    "stored_bytes": "rows of a frame in the lake, bytes",
}
_FLUSH_BYTES = 32 * 2**20


def load_terms() -> dict[str, Any]:
    """Return what `python -m benchmarks --only throughput` measured, and how far one driver gets."""
    terms: dict[str, Any] = json.loads(TERMS.read_text(encoding="utf-8"))
    full = 1e3 / (terms["driver_frame_ms"] + terms["driver_call_ms"] / terms["frames_per_call"])
    return terms | {"driver_full": full, "driver_gpus": full * FORWARD_MS / 1e3, "driver_day": full * 86_400 / 1e6}


def terms_block(data: Mapping[str, Any]) -> str:
    """Return the measured terms as a block of Python."""
    terms = data["throughput"]
    lines = [f"{name} = {_short(terms[name])}  # {told}" for name, told in _TOLD.items()]
    return "\n".join(["```python", *lines, "```"])


def capacity_table(data: Mapping[str, Any]) -> str:
    """Return what 64 GPUs and a million frames a day need."""
    terms = {name: float(_short(data["throughput"][name])) for name in _TOLD}
    columns = [needs(terms, frames_s) for frames_s in (GPUS * 1e3 / FORWARD_MS, MILLION_A_DAY)]
    head = f"| needed | {GPUS} GPUs at {FORWARD_MS:g} ms a frame | a million frames a day |"
    rows = [f"| {name} | {' | '.join(_written(column[name]) for column in columns)} |" for name in columns[0]]
    return "\n".join([head, "| --- | --- | --- |", *rows])


def needs(terms: Terms, frames_s: float) -> dict[str, float]:
    """Return what so many frames a second need.

    Args:
        terms: Measured, by name.
        frames_s: Frames per second.
    """
    driver = (terms["driver_frame_ms"] + terms["driver_call_ms"] / terms["frames_per_call"]) / 1e3
    commits = frames_s * terms["segment_bytes"] / _FLUSH_BYTES
    a_commit = terms["commit_ms"] / 1e3 * _FLUSH_BYTES / terms["segment_bytes"] / terms["commit_frames"]
    return {
        "frames a second": frames_s,
        "GPUs at 25 ms a frame": frames_s * FORWARD_MS / 1e3,
        "cores for post-processing": frames_s * terms["rows_ms"] / 1e3,
        "drivers, by processor time": frames_s * driver,
        "shared memory written, MB/s": frames_s * (terms["raw_bytes"] + terms["segment_bytes"]) / 1e6,
        "to the driver, MB/s": frames_s * terms["segment_bytes"] / 1e6,
        "commits a second": commits,
        "of the drivers, in commits": commits * a_commit,
        "stored in a day, GB": frames_s * 86_400 * terms["stored_bytes"] / 1e9,
    }


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1e3 else f"{value:.0f}"


def _written(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
