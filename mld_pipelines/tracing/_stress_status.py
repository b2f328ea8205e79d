"""What stress passes of a model are in the lake, and how its error rate looks under each corruption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.evaluation import STRESS_WARNING, current_result, load_result
from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_STRESS, LANDING_TRACES
from mld_pipelines.tracing._frames import FRAMES_TASK
from mld_pipelines.tracing._source import find_trace, how_to_stress, stressed_already, traced_task
from mld_pipelines.tracing._stress_effects import objects_lost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.lake import Lake

__all__ = ["StressCoverage", "stress_coverage", "stress_error_rates", "stress_passes"]

_PASS = ["stream_id", "source_dataset", "n_epoch", "fingerprint"]
_ORIGINAL = ["model_key", "source_dataset", "n_epoch", "fingerprint", "input_id"]

_NOTHING_LOST = pl.DataFrame(schema={"family": pl.String, "severity": pl.Int32, "objects_lost": pl.Float64})

_WRONG = (pl.col("prediction") != pl.col("label")).cast(pl.Float64)
_BOXES, _ORIGINAL_BOXES = (
    pl.col(name).filter(pl.col("original_boxes").is_not_null()).sum().cast(pl.Float64)
    for name in ("boxes", "original_boxes")
)
_EFFECTS = (
    _WRONG.mean().alias("error_rate"),
    pl.when(_ORIGINAL_BOXES > 0).then(_BOXES / _ORIGINAL_BOXES - 1.0).alias("box_change"),
)
"""What a corruption did to a model: to a classifier's answers, to the number of a detector's boxes."""


@dataclass(frozen=True, slots=True)
class StressCoverage:
    """Whether the current result's estimates are verified under shift for the newest weights.

    Attributes:
        is_stressed: A stress pass over these weights and the dataset that decides is finished.
        verified_families: Corruption families on which the current result verified its estimates; empty where it
            verified nothing.
        dataset_type: Dataset that decides; None before the first trace.
        summary: One line for people.
    """

    is_stressed: bool
    verified_families: tuple[str, ...]
    dataset_type: str | None
    summary: str

    @property
    def is_verified(self) -> bool:
        """The estimates are verified on at least one family."""
        return bool(self.verified_families)


def stress_coverage(lake: Lake, model_key: str) -> StressCoverage:
    """Return whether a model's current result has verified its estimates under shift, and what is missing if not.

    Args:
        lake: Where the receipts are.
        model_key: `model_name@version_name`.
    """
    try:
        trace = find_trace(lake, model_key)
    except (InvalidInputError, NotFoundError) as error:
        return StressCoverage(False, (), None, str(error))
    dataset = trace["dataset_type"]
    subject = f"dataset {dataset!r} with the weights {trace['fingerprint'][:12]}…"
    if not stressed_already(lake, trace):
        if trace["source"] is None:
            how = how_to_stress(traced_task(lake, trace))
        else:
            how = f"mld stress cost {model_key} | mld stress run {model_key}"
        return StressCoverage(False, (), dataset, f"{subject} is not stressed, so not verified under shift: {how}")
    families, said = _verified(lake, trace)
    return StressCoverage(True, families, dataset, f"{subject} is stressed{said}")


def _verified(lake: Lake, trace: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Return the families that the current result verified for the weights of a trace, and how to say so."""
    key = trace["model_key"]
    evaluate = f"so nothing is verified under shift yet: mld evaluate {key}"
    name = current_result(lake, key)
    if name is None:
        return (), f" but was not evaluated, {evaluate}"
    stored = load_result(lake, name)
    if (
        trace["fingerprint"] not in stored.row["fingerprints"]
        or stored.row["decision_dataset"] != trace["dataset_type"]
    ):
        return (), f", but the current result {name!r} is of other weights or another dataset, {evaluate}"
    facts = stored.verifications().get(trace["n_epoch"], {})
    missed = tuple(facts.get("missed_families", ()))
    said = f" and found its interval wrong on {', '.join(missed)}" if missed else ""
    if families := tuple(sorted(set(facts.get("families", ())) - {"clean", *missed})):
        return families, f": result {name!r} has verified its estimates under shift on {', '.join(families)}{said}"
    if missed:
        return (), f", but result {name!r} has verified nothing under shift{said}"
    if refusals := [text for text in stored.row["warnings"] if text.startswith(STRESS_WARNING)]:
        return (), f", but result {name!r} has verified nothing under shift: {refusals[0]}"
    return (), f", but the current result {name!r} is older than the pass, {evaluate}"


def stress_passes(lake: Lake, model_key: str) -> pl.DataFrame:
    """Return the stress passes of a model, newest last.

    Columns: stream_id, dataset_type, n_epoch, fingerprint, families, sets, rows, state (`complete`, or `unfinished`
    where no receipt was written), error_rate (of classifiers), box_change (of detectors, see `stress_error_rates`),
    started_at, finished_at.

    Args:
        lake: Where they are.
        model_key: `model_name@version_name`.
    """
    found = (
        _copies(lake, lake.scan(LANDING_STRESS, model_key=model_key))
        .group_by(_PASS)
        .agg(
            pl.col("family").unique().sort().alias("families"),
            pl.struct("kind", "severity").n_unique().cast(pl.Int64).alias("sets"),
            pl.len().cast(pl.Int64).alias("rows"),
            *_EFFECTS,
            pl.col("captured_at").min().alias("started_at"),
            pl.col("captured_at").max().alias("finished_at"),
        )
    )
    receipts = (
        lake.scan(LANDING_RECEIPTS, model_key=model_key, purpose="stress")
        .sort("completed_at")
        .group_by("stream_id")
        .agg(pl.col("state").last())
    )
    passes = found.join(receipts, on="stream_id", how="left").with_columns(pl.col("state").fill_null("unfinished"))
    columns = [*_PASS, "families", "sets", "rows", "state", "error_rate", "box_change", "started_at", "finished_at"]
    return passes.select(columns).rename({"source_dataset": "dataset_type"}).sort("started_at", "stream_id").collect()


def stress_error_rates(lake: Lake, stream_id: str) -> pl.DataFrame:
    """Return family, severity, n, error_rate, objects_lost and box_change of a stress pass, sorted.

    What a detector got wrong is known once an evaluation has matched its boxes, so its error_rate is null. Instead
    `objects_lost` is the share of the objects found in the originals (a recorded box of their class within 2 m) that
    was not found in the copies, and `box_change` by which share more (below 0: fewer) boxes were recorded than in the
    originals: false ones make it rise. Both are null for classifiers.

    Args:
        lake: Where its rows are.
        stream_id: Stream of the pass.
    """
    rows = _copies(lake, lake.scan(LANDING_STRESS, stream_id=stream_id)).group_by("family", "severity")
    rates = rows.agg(pl.len().alias("n"), *_EFFECTS, (pl.col("task") == FRAMES_TASK).any().alias("is_detector"))
    found = rates.sort("family", "severity").collect()
    lost = objects_lost(lake, stream_id) if found["is_detector"].any() else _NOTHING_LOST
    joined = found.join(lost, on=["family", "severity"], how="left", maintain_order="left")
    return joined.select("family", "severity", "n", "error_rate", "objects_lost", "box_change")


def _copies(lake: Lake, copies: pl.LazyFrame) -> pl.LazyFrame:
    """Add `boxes` and `original_boxes` to copies: boxes recorded of a copy, and of what it is a copy of."""
    copies = copies.with_columns(pl.col("scores").list.len().alias("boxes"))
    models = copies.filter(pl.col("task") == FRAMES_TASK).select(pl.col("model_key").unique()).collect()["model_key"]
    if models.is_empty():
        return copies.with_columns(pl.lit(None, pl.Int64).alias("original_boxes"))
    originals = (
        lake.scan(LANDING_TRACES)
        .filter(pl.col("model_key").is_in(models.to_list()))
        .rename({"dataset_type": "source_dataset"})
        .sort("ingested_at")
        .select(*_ORIGINAL, pl.col("scores").list.len().alias("original_boxes"))
        .unique(_ORIGINAL, keep="last", maintain_order=True)
    )
    return copies.join(originals, on=_ORIGINAL, how="left", nulls_equal=True)
