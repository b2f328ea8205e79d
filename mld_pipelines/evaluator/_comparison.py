"""`Comparison`: two results on the inputs they have in common (docs/results.md#compare)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import CodeLink, link_codes
from mld_pipelines.evaluator._display import ResultFrame
from mld_pipelines.evaluator._pairing import Paired, Side, pair_units
from mld_pipelines.metrics import (
    PAIRED_METRICS,
    ModelOutcomes,
    PairedDifference,
    compare_paired,
    mcnemar,
    mcnemar_frames,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mld_pipelines.metrics import McNemar

__all__ = [
    "Comparison",
    "code_transitions",
    "compare_sides",
    "linked_codes",
    "links_frame",
    "mcnemar_row",
    "metric_frame",
]

_SHOWN = 5
"""Fixed and broken inputs, and code transitions, that the printed form shows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Two results on their common inputs; *before* is the baseline, *after* what it was compared with.

    Attributes:
        before: Name of the baseline.
        after: Name of the other result.
        level: Level of the intervals and of the verdicts.
        n_boot: Resamples of the paired bootstrap.
        seed: Their seed.
        common: Per dataset: units_before, units_after, common, same_id, other_content, other_label, unhashed.
        metrics: Per dataset and metric: n, before, after, delta, low, high, p_value, test, verdict.
        accuracy: Per dataset: right_both, fixed, broken, wrong_both, statistic, p_value, method of McNemar's test.
        fixed: Inputs wrong before and right after: dataset, input_id, label, predictions, confidences, codes. Of
            detectors the objects that only the other result found, here and in `accuracy` and `transitions`.
        broken: The same for inputs right before and wrong after.
        transitions: Per dataset, from_code and to_code: same_place, counts, errors_before, errors_after.
        links: Codes of different lineages that share most inputs; empty inside one lineage, where names compare.
        notes: What a reader should know.
    """

    before: str
    after: str
    level: float
    n_boot: int
    seed: int
    common: ResultFrame
    metrics: ResultFrame
    accuracy: ResultFrame
    fixed: ResultFrame
    broken: ResultFrame
    transitions: ResultFrame
    links: ResultFrame
    notes: tuple[str, ...]

    @property
    def n_common(self) -> int:
        """Inputs compared, all datasets together."""
        return int(self.common["common"].sum())

    def to_dict(self) -> dict[str, Any]:
        """Every attribute by name, the frames as they are."""
        return {"n_common": self.n_common, **{field.name: getattr(self, field.name) for field in fields(self)}}

    def __repr__(self) -> str:
        return f"Comparison({self.before!r} → {self.after!r}, {self.n_common} common inputs)"

    def __str__(self) -> str:
        """Return the headline, the metrics and the first of every list."""
        tested, units = ("Objects found", "frames") if "unit_index" in self.fixed.columns else ("Accuracy", "units")
        parts = [
            f"{self.before} → {self.after}",
            "\n".join(_headlines(self.common, units)),
            f"Metrics (Δ = after − before, {self.level:.0%} interval)\n{self.metrics}",
            f"{tested} (McNemar)\n{self.accuracy}",
        ]
        for title, frame in (("Fixed", self.fixed), ("Broken", self.broken), ("Code transitions", self.transitions)):
            shown = f"{title} ({min(frame.height, _SHOWN)} of {frame.height})"
            parts.append(f"{shown}\n{ResultFrame(frame.head(_SHOWN))}" if frame.height else f"{title}: none")
        if self.notes:
            parts.append("Notes\n" + "\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)


def compare_sides(
    before: Side, after: Side, *, dataset: str | None, n_boot: int, seed: int, level: float, notes: tuple[str, ...] = ()
) -> Comparison:
    """Compare two results.

    Args:
        before: The baseline.
        after: What it is compared with.
        dataset: Only this dataset; None compares each that both have.
        n_boot: Resamples of the paired bootstrap.
        seed: Their seed.
        level: Level of intervals and verdicts.
        notes: What is known beforehand.

    Raises:
        InvalidInputError: Nothing is common, or a number is out of range.
    """
    paired = pair_units(before, after, dataset=dataset)
    same_lineage = before.lineage_id is not None and before.lineage_id == after.lineage_id
    has_codes = before.lineage_id is not None and after.lineage_id is not None
    links = linked_codes(paired.units) if has_codes and not same_lineage else ()
    parts = paired.units.partition_by("dataset", maintain_order=True)
    metrics = [_metrics(part, n_boot=n_boot, seed=seed, level=level) for part in parts]
    return Comparison(
        before=before.name,
        after=after.name,
        level=level,
        n_boot=n_boot,
        seed=seed,
        common=ResultFrame(paired.counts),
        metrics=ResultFrame(pl.concat(metrics)),
        accuracy=ResultFrame(pl.concat([mcnemar_row(part) for part in parts])),
        fixed=_flipped(paired.units, before=True),
        broken=_flipped(paired.units, before=False),
        transitions=code_transitions(paired.units, links, same_lineage=same_lineage),
        links=links_frame(links),
        notes=(*notes, *_notes(paired, has_codes=has_codes, same_lineage=same_lineage)),
    )


def _headlines(common: pl.DataFrame, units: str) -> list[str]:
    return [
        f"{row['dataset']}: compared on {row['common']} common inputs ({row['common'] / row['units_before']:.1%} / "
        f"{row['common'] / row['units_after']:.1%} of the results' {units})"
        for row in common.iter_rows(named=True)
    ]


def _outcomes(part: pl.DataFrame, suffix: str) -> ModelOutcomes:
    values = {
        name: part[f"{name}{suffix}"].cast(pl.Float64).to_numpy()
        for name in ("confidence", "entropy", "loss", "error_proba")
    }
    return ModelOutcomes(prediction=part[f"prediction{suffix}"].to_numpy(), **values)


def _metrics(part: pl.DataFrame, *, n_boot: int, seed: int, level: float) -> pl.DataFrame:
    found = compare_paired(
        part["label"].to_numpy(), _outcomes(part, "_before"), _outcomes(part, "_after"), n_boot=n_boot, seed=seed,
        level=level,
    )  # fmt: skip
    return metric_frame(part["dataset"][0], found, level=level, directions=PAIRED_METRICS)


_FLOATS = ("before", "after", "delta", "low", "high", "p_value")


def metric_frame(
    dataset: str, found: Sequence[PairedDifference], *, level: float, directions: Mapping[str, int]
) -> pl.DataFrame:
    """Return the differences of one dataset with a verdict each.

    Args:
        dataset: Its name.
        found: The differences.
        level: Level of the verdicts.
        directions: By metric +1 where more is better, −1 where less is, 0 where neither.
    """
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "metric": pl.String, "n": pl.Int64, **dict.fromkeys(_FLOATS, pl.Float64), "test": pl.String,
    }  # fmt: skip
    frame = pl.DataFrame([asdict(item) for item in found], schema=schema)
    words = [_verdict(item, level, directions[item.metric]) for item in found]
    return frame.select(pl.lit(dataset).alias("dataset"), *frame.columns, pl.Series("verdict", words, dtype=pl.String))


def _verdict(item: PairedDifference, level: float, direction: int) -> str:
    if item.p_value is None or item.delta is None or item.p_value >= 1.0 - level:
        return "not enough evidence"
    return {1.0: "better", -1.0: "worse"}.get(direction * float(np.sign(item.delta)), "changed")


def mcnemar_row(part: pl.DataFrame) -> pl.DataFrame:
    """Return McNemar's test of one dataset.

    Args:
        part: Its units with `is_error_before` and `is_error_after`.
    """
    wrong = part["is_error_before"], part["is_error_after"]
    fixed, broken = int((wrong[0] & ~wrong[1]).sum()), int((~wrong[0] & wrong[1]).sum())
    test = _by_frames(part) if "unit_index" in part.columns else mcnemar(fixed, broken)
    return pl.DataFrame(
        {
            "dataset": [part["dataset"][0]],
            "right_both": [int((~wrong[0] & ~wrong[1]).sum())],
            "fixed": [fixed],
            "broken": [broken],
            "wrong_both": [int((wrong[0] & wrong[1]).sum())],
            "statistic": [test.statistic],
            "p_value": [test.p_value],
            "method": [test.method],
        }
    )


def _by_frames(part: pl.DataFrame) -> McNemar:
    """Return McNemar's test of objects, which fail together in their frames."""
    before, after = pl.col("is_error_before"), pl.col("is_error_after")
    frames = part.group_by("input_id").agg(
        (before & ~after).sum().cast(pl.Int64).alias("fixed"), (~before & after).sum().cast(pl.Int64).alias("broken")
    )
    return mcnemar_frames(frames["fixed"].to_numpy(), frames["broken"].to_numpy())


def _flipped(units: pl.DataFrame, *, before: bool) -> ResultFrame:
    """Inputs that are wrong on one side only, most confident mistakes first."""
    wrong, right = ("_before", "_after") if before else ("_after", "_before")
    rows = units.filter(pl.col(f"is_error{wrong}") & ~pl.col(f"is_error{right}"))
    names = ("prediction", "confidence", "error_code")
    return ResultFrame(
        rows.sort("dataset", f"confidence{wrong}", "input_id", descending=[False, True, False]).select(
            "dataset", "input_id", "label", *(f"{name}{side}" for name in names for side in ("_before", "_after"))
        )
    )


def linked_codes(units: pl.DataFrame) -> tuple[CodeLink, ...]:
    """Return which codes of both sides share most units.

    Args:
        units: Common units with `error_code_before` and `error_code_after`.
    """
    names = [name for name in ("dataset", "input_id", "unit_index") if name in units.columns]
    keys = units.select(pl.concat_str(names, separator="/")).to_series().to_list()
    own, other = (dict(zip(keys, units[f"error_code{side}"], strict=True)) for side in ("_before", "_after"))
    return link_codes(own, other)


def links_frame(links: tuple[CodeLink, ...]) -> ResultFrame:
    """Return links as rows."""
    schema = {
        "from_code": pl.String, "to_code": pl.String, "jaccard": pl.Float64, "shared": pl.Int64,
        "units_before": pl.Int64, "units_after": pl.Int64,
    }  # fmt: skip
    rows = [(link.code_a, link.code_b, link.jaccard, link.shared, link.units_a, link.units_b) for link in links]
    return ResultFrame(pl.DataFrame(rows, schema=schema, orient="row"))


def code_transitions(units: pl.DataFrame, links: tuple[CodeLink, ...], *, same_lineage: bool) -> ResultFrame:
    """Return how many units went from which code to which, with the errors on either side."""
    counted = (
        units.rename({"error_code_before": "from_code", "error_code_after": "to_code"})
        .group_by("dataset", "from_code", "to_code")
        .agg(
            pl.len().cast(pl.Int64).alias("counts"),
            pl.col("is_error_before").sum().cast(pl.Int64).alias("errors_before"),
            pl.col("is_error_after").sum().cast(pl.Int64).alias("errors_after"),
        )
    )
    same = pl.col("from_code") == pl.col("to_code")
    if not same_lineage:
        pairs = pl.Series([f"{link.code_a}→{link.code_b}" for link in links], dtype=pl.String)
        same = pl.format("{}→{}", "from_code", "to_code").is_in(pairs.implode())
    ordered = counted.with_columns(same.alias("same_place")).sort(
        "dataset", "counts", "from_code", "to_code", descending=[False, True, False, False]
    )
    return ResultFrame(
        ordered.select("dataset", "from_code", "to_code", "same_place", "counts", "errors_before", "errors_after")
    )


def _notes(paired: Paired, *, has_codes: bool, same_lineage: bool) -> tuple[str, ...]:
    counts = paired.counts
    content, label, unhashed = (int(counts[name].sum()) for name in ("other_content", "other_label", "unhashed"))
    conditions = {
        f"{content} inputs of equal id have another input_hash and were left out.": content > 0,
        f"{label} inputs have another label and were left out.": label > 0,
        f"{unhashed} inputs carry no input_hash on one side: that they are the same rests on their ids.": unhashed > 0,
        "one of the results has no error codes: transitions say nothing about places.": not has_codes,
        "the results' codes come from different codebooks: equal names mean nothing, codes are linked by the inputs "
        "they share.": has_codes and not same_lineage,
    }
    return tuple(note for note, holds in conditions.items() if holds)
