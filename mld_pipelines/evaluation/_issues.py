"""Issues: one row per error code and dataset with its evidence and verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.diagnosis import jeffreys_interval
from mld_pipelines.evaluation._datasets import TRAIN
from mld_pipelines.evaluation._facts import evidence_rows, pattern_sentences
from mld_pipelines.evaluation.detection._candidates import unflagged
from mld_pipelines.tables import EVALUATION_ISSUES, ISSUE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.evaluation._verdicts import CodeVerdicts

__all__ = ["class_named", "issue_rows", "unit_issue_rows"]

_TOP = 3
_EXAMPLES = 5


def issue_rows(
    units: pl.DataFrame, verdicts: CodeVerdicts, *, decision_dataset: str, class_names: Sequence[str] = ()
) -> pl.DataFrame:
    """Return the rows of `evaluation/issues` of a classifier without their attempt columns.

    Args:
        units: Rows of `evaluation/units` of one epoch.
        verdicts: Category, reason and overlay of every code.
        decision_dataset: Dataset that decided.
        class_names: Names by class index; indices are shown where there are none.
    """
    confusion = pl.format("{}→{}", class_named("label", class_names), class_named("prediction", class_names))
    return unit_issue_rows(
        units,
        verdicts,
        decision_dataset=decision_dataset,
        unit_kind="input",
        class_names=class_names,
        error_type=confusion,
        patterns=[pattern_sentences(clues, class_names) for clues in verdicts.clues],
    )


def unit_issue_rows(
    units: pl.DataFrame,
    verdicts: CodeVerdicts,
    *,
    decision_dataset: str,
    unit_kind: str,
    class_names: Sequence[str],
    error_type: pl.Expr,
    patterns: Sequence[Sequence[str]],
) -> pl.DataFrame:
    """Return the rows of one kind of unit.

    Every code has a row for the decision dataset, also with no unit; other datasets have rows for codes that occur.

    Args:
        units: Rows of `evaluation/units` of one epoch and kind.
        verdicts: Category, reason, overlay and advice of every code.
        decision_dataset: Dataset that decided.
        unit_kind: What a unit is.
        class_names: Names by class index; indices are shown where there are none.
        error_type: Names what went wrong with a wrong unit.
        patterns: Sentences about what the errors of each code have in common.
    """
    facts = units.rename({"dataset_type": "dataset"})
    keys = ["dataset", "error_code"]
    counted = facts.group_by(keys).agg(*_counts(unflagged(unit_kind, verdicts.threshold)))
    wrong = facts.filter("is_error")
    grid = _with_all_codes(counted, verdicts, decision_dataset)
    rows = (
        grid.join(_most_frequent(facts, class_named("prediction", class_names), "top_classes"), on=keys, how="left")
        .join(_most_frequent(wrong, error_type, "top_error_types"), on=keys, how="left")
        .join(_examples(wrong), on=keys, how="left")
        .join(_gaps(counted, decision_dataset), on="error_code", how="left")
        .join(_verdict_frame(verdicts), on="error_code")
        .join(_evidence(counted, verdicts, decision_dataset, patterns), on="error_code")
    )
    share = pl.col("counts") / pl.col("counts").sum().over("dataset")
    rate = pl.when(pl.col("counts") > 0).then(pl.col("errors") / pl.col("counts"))
    low, high = jeffreys_interval(rows["counts"].to_numpy(), rows["errors"].to_numpy(), alpha=verdicts.policy.alpha)
    empty = pl.lit([], dtype=pl.List(pl.String))
    complete = rows.with_columns(
        share.fill_nan(0.0).alias("share"),
        rate.alias("error_rate"),
        pl.Series("error_rate_low", low),
        pl.Series("error_rate_high", high),
        pl.when(pl.col("dataset") == decision_dataset).then("q_value").alias("q_value"),
        pl.lit(unit_kind).alias("unit_kind"),
        pl.lit(units["n_epoch"].first(), dtype=pl.Int64).alias("n_epoch"),
        *(pl.col(name).fill_null(empty) for name in ("top_classes", "top_error_types", "example_input_ids")),
    )
    names = ["n_epoch", "unit_kind", *(column.name for column in ISSUE_COLUMNS)]
    return complete.select(pl.col(name).cast(EVALUATION_ISSUES.column(name).data_type) for name in names).sort(
        "dataset", "error_code"
    )


def _counts(silent: pl.Expr) -> list[pl.Expr]:
    return [
        pl.len().cast(pl.Int64).alias("counts"),
        pl.col("is_error").sum().cast(pl.Int64).alias("errors"),
        silent.sum().cast(pl.Int64).alias("unflagged_errors"),
        pl.col("confidence").cast(pl.Float64).mean().alias("mean_confidence"),
        pl.col("error_proba").cast(pl.Float64).mean().alias("mean_error_proba"),
        pl.col("entropy").sum().alias("net_entropy"),
        pl.col("loss").sum().alias("net_entropy_loss"),
    ]


def _with_all_codes(counted: pl.DataFrame, verdicts: CodeVerdicts, decision_dataset: str) -> pl.DataFrame:
    every = pl.DataFrame({"dataset": [decision_dataset] * len(verdicts.codes), "error_code": list(verdicts.codes)})
    grid = pl.concat([counted.select("dataset", "error_code"), every]).unique().sort("dataset", "error_code")
    zeros = {"counts": 0, "errors": 0, "unflagged_errors": 0, "net_entropy": 0.0, "net_entropy_loss": 0.0}
    joined = grid.join(counted, on=["dataset", "error_code"], how="left", maintain_order="left")
    return joined.with_columns(pl.col(name).fill_null(value) for name, value in zeros.items())


def class_named(column: str, class_names: Sequence[str]) -> pl.Expr:
    """Return a column of class indices as names; an index without a name stays a number."""
    text = pl.col(column).cast(pl.String)
    if not class_names:
        return text
    return text.replace({str(index): name for index, name in enumerate(class_names)})


def _most_frequent(facts: pl.DataFrame, value: pl.Expr, name: str) -> pl.DataFrame:
    keys = ["dataset", "error_code"]
    counted = facts.with_columns(value.alias(name)).group_by(*keys, name).len()
    ordered = counted.sort(*keys, "len", name, descending=[False, False, True, False])
    return ordered.group_by(keys, maintain_order=True).agg(pl.col(name).head(_TOP))


def _examples(wrong: pl.DataFrame) -> pl.DataFrame:
    keys = ["dataset", "error_code"]
    ordered = wrong.sort(*keys, "support_distance", "input_id", nulls_last=True)
    examples = pl.col("input_id").unique(maintain_order=True).head(_EXAMPLES).alias("example_input_ids")
    return ordered.group_by(keys, maintain_order=True).agg(examples)


def _gaps(counted: pl.DataFrame, decision_dataset: str) -> pl.DataFrame:
    """Return, per code, the error rate in the deciding dataset minus that in the training data."""
    rate = pl.col("errors") / pl.col("counts")
    decides = counted.filter(pl.col("dataset") == decision_dataset).select("error_code", rate.alias("decides"))
    train = counted.filter(pl.col("dataset").str.to_lowercase() == TRAIN).select("error_code", rate.alias("train"))
    joined = decides.join(train, on="error_code")
    return joined.select("error_code", (pl.col("decides") - pl.col("train")).alias("gap_train_val"))


def _verdict_frame(verdicts: CodeVerdicts) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "error_code": verdicts.codes,
            "category": verdicts.category,
            "reason": verdicts.reason,
            "is_aleatoric": verdicts.is_aleatoric,
            "recommended_method": verdicts.recommended,
            "how_to_verify": verdicts.how_to_verify,
            "n_needed": pl.Series(verdicts.n_needed, dtype=pl.Int64),
            "n_needed_reason": pl.Series(verdicts.n_needed_reason, dtype=pl.String),
            "contradicted_by": pl.Series([list(names) for names in verdicts.contradicted_by], dtype=pl.List(pl.String)),
            "q_value": pl.Series(verdicts.q_value, dtype=pl.Float64),
        }
    )


def _evidence(
    counted: pl.DataFrame, verdicts: CodeVerdicts, decision_dataset: str, patterns: Sequence[Sequence[str]]
) -> pl.DataFrame:
    decides = counted.filter(pl.col("dataset") == decision_dataset)
    columns = ("error_code", "counts", "errors", "unflagged_errors")
    return evidence_rows(decides.select(columns), verdicts, patterns=patterns)
