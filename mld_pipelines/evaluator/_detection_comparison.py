"""Two detectors on the frames that both results have (docs/results.md#compare-detectors)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.evaluator._comparison import (
    Comparison,
    code_transitions,
    linked_codes,
    links_frame,
    mcnemar_row,
    metric_frame,
)
from mld_pipelines.evaluator._display import ResultFrame
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import FRAME_METRICS, FrameSums, compare_frames

if TYPE_CHECKING:
    from mld_pipelines.evaluator._pairing import Side

__all__ = ["FrameSide", "compare_detectors"]

_KEY = ["dataset", "input_id"]
_OBJECT = [*_KEY, "unit_index"]
_COUNTS = ("units_before", "units_after", "common", "same_id", "other_content", "other_label", "unhashed")


@dataclass(frozen=True, slots=True, eq=False)
class FrameSide:
    """One result of a comparison.

    Attributes:
        side: Name, units of one epoch and lineage of the object codebook.
        frames: All frames it was made of, those without a box included: dataset, input_id, input_hash.
    """

    side: Side
    frames: pl.DataFrame


def compare_detectors(
    before: FrameSide,
    after: FrameSide,
    *,
    dataset: str | None,
    n_boot: int,
    seed: int,
    level: float,
    notes: tuple[str, ...] = (),
) -> Comparison:
    """Compare two results of detectors on the frames of equal content and equal true boxes.

    Which objects were found is tested by McNemar, frame by frame, everything else by a paired bootstrap over frames.

    Args:
        before: The baseline.
        after: What it is compared with.
        dataset: Only this dataset; None compares each that both have.
        n_boot: Resamples of the bootstrap.
        seed: Their seed.
        level: Level of intervals and verdicts.
        notes: What is known beforehand.

    Raises:
        InvalidInputError: No frame is common, or a number is out of range.
    """
    flagged = _paired_frames(before, after, dataset)
    common = flagged.filter(~pl.col("other_content") & ~pl.col("other_label")).select(_KEY).sort(_KEY)
    counts = _counts(before, after, flagged, common)
    if common.is_empty():
        raise InvalidInputError(
            f"{before.side.name!r} and {after.side.name!r} have no common frame with the same content and true boxes "
            f"({flagged.height} equal ids); nothing was compared. Trace both detectors on the same frames under the "
            "same dataset_type and input_ids."
        )
    objects = _paired_objects(before, after, common)
    lineages = before.side.lineage_id, after.side.lineage_id
    same = lineages[0] is not None and lineages[0] == lineages[1]
    links = linked_codes(objects) if None not in lineages and not same else ()
    metrics, tests = [], []
    for (name,), frames in common.group_by("dataset", maintain_order=True):
        sums = [_sums(one, frames) for one in (before, after)]
        found = compare_frames(*sums, n_boot=n_boot, seed=seed, level=level)
        metrics.append(metric_frame(str(name), found, level=level, directions=FRAME_METRICS))
        own = objects.filter(pl.col("dataset") == name)
        tests += [mcnemar_row(own)] if own.height else []
    return Comparison(
        before=before.side.name,
        after=after.side.name,
        level=level,
        n_boot=n_boot,
        seed=seed,
        common=ResultFrame(counts),
        metrics=ResultFrame(pl.concat(metrics)),
        accuracy=ResultFrame(pl.concat(tests)) if tests else ResultFrame(),
        fixed=_flipped(objects, before=True),
        broken=_flipped(objects, before=False),
        transitions=code_transitions(objects, links, same_lineage=same),
        links=links_frame(links),
        notes=(*notes, *_notes(counts, has_codes=None not in lineages, same_lineage=same)),
    )


def _paired_frames(before: FrameSide, after: FrameSide, dataset: str | None) -> pl.DataFrame:
    """Return the frames of equal id with what speaks against them."""
    own, other = (sorted(one.frames["dataset"].unique()) for one in (before, after))
    wanted = [name for name in own if name in other and dataset in (None, name)]
    if not wanted:
        asked = "no dataset in common" if dataset is None else f"no common dataset {dataset!r}"
        raise InvalidInputError(
            f"the results have {asked}: {before.side.name!r} has {', '.join(own) or 'none'}, {after.side.name!r} has "
            f"{', '.join(other) or 'none'}. Nothing was compared."
        )
    left, right = (_described(one, wanted) for one in (before, after))
    hashes = pl.col("input_hash"), pl.col("input_hash_after")
    return left.join(right, on=_KEY, how="inner", suffix="_after").with_columns(
        (hashes[0] != hashes[1]).fill_null(value=False).alias("other_content"),
        pl.col("truths").ne_missing(pl.col("truths_after")).alias("other_label"),
        (hashes[0].is_null() | hashes[1].is_null()).alias("unhashed"),
    )


def _described(one: FrameSide, datasets: list[str]) -> pl.DataFrame:
    """Return the frames with their true boxes as text, by which they are compared."""
    box = pl.col("box_3d").list.eval(pl.element().cast(pl.String)).list.join(",")
    truths = (
        _objects(one)
        .sort("unit_index")
        .group_by(_KEY, maintain_order=True)
        .agg(pl.format("{}:{}", "label", box).str.join(";").alias("truths"))
    )
    frames = one.frames.filter(pl.col("dataset").is_in(datasets))
    return frames.join(truths, on=_KEY, how="left")


def _objects(one: FrameSide) -> pl.DataFrame:
    return one.side.units.filter(pl.col("unit_kind") == "object").with_columns(pl.col("dataset_type").alias("dataset"))


def _counts(before: FrameSide, after: FrameSide, flagged: pl.DataFrame, common: pl.DataFrame) -> pl.DataFrame:
    def sizes(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        return frame.group_by("dataset").agg(pl.len().cast(pl.Int64).alias(name))

    reasons = flagged.group_by("dataset").agg(
        pl.len().cast(pl.Int64).alias("same_id"),
        pl.col("other_content").sum().cast(pl.Int64),
        (pl.col("other_label") & ~pl.col("other_content")).sum().cast(pl.Int64).alias("other_label"),
        (pl.col("unhashed") & ~pl.col("other_label")).sum().cast(pl.Int64).alias("unhashed"),
    )
    counted = reasons
    for part in (sizes(before.frames, "units_before"), sizes(after.frames, "units_after"), sizes(common, "common")):
        counted = counted.join(part, on="dataset", how="left")
    return counted.select("dataset", *_COUNTS).fill_null(0).sort("dataset")


def _paired_objects(before: FrameSide, after: FrameSide, common: pl.DataFrame) -> pl.DataFrame:
    """Return every object of the common frames with what became of it on either side; an error is one not found."""
    told = ("confidence", "error_code")
    parts = [
        _objects(one).select(
            *_OBJECT,
            *(["label", "range_m"] if suffix == "_before" else []),
            (pl.col("outcome") != "tp").alias(f"is_error{suffix}"),
            *(pl.col(name).alias(f"{name}{suffix}") for name in told),
        )
        for one, suffix in ((before, "_before"), (after, "_after"))
    ]
    return parts[0].join(parts[1], on=_OBJECT, how="inner").join(common, on=_KEY, how="semi").sort(_OBJECT)


def _sums(one: FrameSide, frames: pl.DataFrame) -> FrameSums:
    """Return what one detector made of some frames, in their order."""
    is_object = pl.col("unit_kind") == "object"
    hit = ~is_object & ~pl.col("is_error")
    summed = (
        one.side.units.with_columns(pl.col("dataset_type").alias("dataset"))
        .group_by(_KEY)
        .agg(
            (~is_object).sum().alias("predictions"),
            hit.sum().alias("hits"),
            (is_object & pl.col("is_error")).sum().alias("missed"),
            is_object.sum().alias("objects"),
            pl.col("ate").filter(hit).sum().alias("ate"),
            pl.col("error_proba").is_not_null().sum().alias("scored"),
            pl.col("error_proba").cast(pl.Float64).sum().alias("error_proba"),
        )
    )
    rows = frames.join(summed, on=_KEY, how="left", maintain_order="left")
    names = ("predictions", "hits", "missed", "objects", "ate", "scored", "error_proba")
    return FrameSums(**{name: rows[name].cast(pl.Float64).fill_null(0.0).to_numpy() for name in names})


def _flipped(objects: pl.DataFrame, *, before: bool) -> ResultFrame:
    """Return objects that one side only found, those found with the highest score first."""
    lost, found = ("_before", "_after") if before else ("_after", "_before")
    rows = objects.filter(pl.col(f"is_error{lost}") & ~pl.col(f"is_error{found}"))
    ordered = rows.sort(
        "dataset", f"confidence{found}", "input_id", "unit_index", descending=[False, True, False, False]
    )
    sides = [f"{name}{side}" for name in ("confidence", "error_code") for side in ("_before", "_after")]
    return ResultFrame(ordered.select(*_OBJECT, "label", "range_m", *sides))


def _notes(counts: pl.DataFrame, *, has_codes: bool, same_lineage: bool) -> tuple[str, ...]:
    content, label, unhashed = (int(counts[name].sum()) for name in ("other_content", "other_label", "unhashed"))
    conditions = {
        f"{content} frames of equal id have another input_hash and were left out.": content > 0,
        f"{label} frames have other true boxes and were left out.": label > 0,
        f"{unhashed} frames carry no input_hash on one side: that they are the same rests on their ids.": unhashed > 0,
        "each result is judged at its own operating point.": True,
        "one of the results has no object codes: transitions say nothing about places.": not has_codes,
        "the results' object codes come from different codebooks: equal names mean nothing, codes are linked by the "
        "objects they share.": has_codes and not same_lineage,
    }
    return tuple(note for note, holds in conditions.items() if holds)
