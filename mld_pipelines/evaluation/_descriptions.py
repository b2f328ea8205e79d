"""Codes describe themselves: what their units are predicted as, confused with, look like and are distinguished by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import UNCODED, UNSEEN, UNSEEN_INDEX
from mld_pipelines.evaluation._traits import Traits, distinctions_of, input_traits, named_classes
from mld_pipelines.tables import EVALUATION_CODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from mld_pipelines.diagnosis import Distinction
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._lineage import CodeLinks

__all__ = ["ERROR_TYPE", "code_rows", "unit_code_rows"]

_CLASSES, _CONFUSIONS, _EXAMPLES = 10, 5, 5
_CODE = "error_code"
ERROR_TYPE = "_error_type"
"""Column that names what went wrong with a wrong unit: a confusion, or the error type of a box."""


def code_rows(
    units: pl.DataFrame,
    coding: Coding,
    *,
    decision_dataset: str,
    class_names: Sequence[str] = (),
    links: CodeLinks | None = None,
) -> pl.DataFrame:
    """Return the rows of `evaluation/codes` of a classifier without their attempt columns.

    Args:
        units: Rows of `evaluation/units` of one epoch.
        coding: Their codes.
        decision_dataset: Dataset whose units describe the codes.
        class_names: Names by class index; indices are shown where there are none.
        links: Codes of the previous weights on the same inputs.
    """
    named = _with_names(units, class_names).with_columns(pl.format("{}→{}", "true", "predicted").alias(ERROR_TYPE))
    return unit_code_rows(
        named,
        coding,
        input_traits(units.filter(units["dataset_type"] == decision_dataset), class_names),
        decision_dataset=decision_dataset,
        unit_kind="input",
        links=links,
    )


def unit_code_rows(
    units: pl.DataFrame,
    coding: Coding,
    traits: Traits,
    *,
    decision_dataset: str,
    unit_kind: str,
    links: CodeLinks | None = None,
) -> pl.DataFrame:
    """Return the rows of one kind of unit, one per code of its codebook and `UNSEEN`.

    Args:
        units: Rows of `evaluation/units` of one epoch and kind, with `predicted`, the name of the class, and
            `ERROR_TYPE`, what went wrong with a wrong unit.
        coding: Their codes.
        traits: What the units of the deciding dataset can be compared by.
        decision_dataset: Dataset whose units describe the codes.
        unit_kind: What a unit is.
        links: Codes of the previous weights on the same inputs.
    """
    names = (*coding.codebook.names, UNSEEN) if coding.codebook else (UNCODED,)
    decides = units["dataset_type"] == decision_dataset
    rows = pl.DataFrame({_CODE: names})
    for part in _parts(units, units.filter(decides)):
        rows = rows.join(part, on=_CODE, how="left", maintain_order="left")
    index = coding.index[decides.to_numpy()]
    codes = np.where(index == UNSEEN_INDEX, len(names) - 1, index)
    found = distinctions_of(codes, traits, n_codes=len(names))
    complete = rows.with_columns(
        pl.col("counts", "errors", "counts_all").fill_null(0),
        pl.lit(decision_dataset).alias("dataset"),
        pl.lit(unit_kind).alias("unit_kind"),
        pl.lit(units["n_epoch"].first(), dtype=pl.Int64).alias("n_epoch"),
        *_distinction_columns(found),
        *_places(coding, len(names)),
        *_link_columns(coding, links, names),
    ).with_columns(pl.when(pl.col("counts") > 0).then(pl.col("errors") / pl.col("counts")).alias("error_rate"))
    return _typed(complete)


def _parts(units: pl.DataFrame, facts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield what is known of each code that has units, one row per code."""
    yield facts.group_by(_CODE).agg(_count("counts"), pl.col("is_error").sum().cast(pl.Int64).alias("errors"))
    yield units.group_by(_CODE).agg(_count("counts_all"))
    yield _class_mix(facts)
    yield _confusions(facts)
    yield _typical(facts, "typical_input_ids")
    yield _typical(facts.filter("is_error"), "typical_wrong_input_ids")


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of the table, typed, with empty lists where nothing is known."""
    own = [column for column in EVALUATION_CODES.columns if column.name in rows.columns]
    return rows.select(
        (pl.col(c.name).fill_null(pl.lit([], dtype=c.data_type)) if c.data_type.is_nested() else pl.col(c.name)).cast(
            c.data_type
        )
        for c in own
    )


def _with_names(units: pl.DataFrame, class_names: Sequence[str]) -> pl.DataFrame:
    return units.with_columns(
        pl.Series("predicted", named_classes(units["prediction"], class_names), dtype=pl.String),
        pl.Series("true", named_classes(units["label"], class_names), dtype=pl.String),
    )


def _count(name: str) -> pl.Expr:
    return pl.len().cast(pl.Int64).alias(name)


def _class_mix(facts: pl.DataFrame) -> pl.DataFrame:
    counted = facts.group_by(_CODE, "predicted").agg(_count("n"))
    shares = counted.with_columns((pl.col("n") / pl.col("n").sum().over(_CODE)).alias("share"))
    ordered = shares.sort(_CODE, "n", "predicted", descending=[False, True, False])
    return ordered.group_by(_CODE, maintain_order=True).agg(
        pl.col("predicted").head(_CLASSES).alias("predicted_classes"),
        pl.col("share").head(_CLASSES).alias("predicted_shares"),
    )


def _confusions(facts: pl.DataFrame) -> pl.DataFrame:
    counted = facts.filter("is_error").group_by(_CODE, ERROR_TYPE).agg(_count("n"))
    ordered = counted.sort(_CODE, "n", ERROR_TYPE, descending=[False, True, False])
    return ordered.group_by(_CODE, maintain_order=True).agg(
        pl.col(ERROR_TYPE).head(_CONFUSIONS).alias("confusions"),
        pl.col("n").head(_CONFUSIONS).alias("confusion_counts"),
    )


def _typical(facts: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the units nearest the centroid; `UNSEEN` has none, its units farthest from any code are the clearest."""
    distance = pl.col("support_distance")
    order = pl.when(pl.col(_CODE) == UNSEEN).then(-distance).otherwise(distance)
    ordered = facts.select(_CODE, "input_id", order.alias("order")).sort(_CODE, "order", "input_id", nulls_last=True)
    examples = pl.col("input_id").unique(maintain_order=True).head(_EXAMPLES).alias(name)
    return ordered.group_by(_CODE, maintain_order=True).agg(examples)


def _distinction_columns(found: Sequence[tuple[Distinction, ...]]) -> list[pl.Series]:
    def column(name: str, attribute: str) -> pl.Series:
        values = [[getattr(one, attribute) for one in code] for code in found]
        return pl.Series(name, values, dtype=EVALUATION_CODES.column(name).data_type)

    return [
        column("distinctions", "sentence"),
        column("distinction_names", "name"),
        column("distinction_effects", "effect"),
        column("distinction_inside", "inside"),
        column("distinction_outside", "outside"),
    ]


def _places(coding: Coding, n: int) -> list[pl.Series]:
    """Return the place of each code on the map; `UNSEEN` is everywhere else and has none."""
    places: npt.NDArray[np.float64] = np.full((n, 2), np.nan)
    if coding.codebook is not None:
        places[: coding.codebook.n_codes] = coding.codebook.map_of_codes().positions(coding.codebook.centroids)
    return [pl.Series(name, places[:, i], nan_to_null=True) for i, name in enumerate(("map_x", "map_y"))]


def _link_columns(coding: Coding, links: CodeLinks | None, names: Sequence[str]) -> list[pl.Series]:
    partners = links.partners if links else {}
    values: dict[str, list[Any]] = {
        "linked_from": [partners[name][0] if name in partners else None for name in names],
        "linked_result": [links.result_name if links and name in partners else None for name in names],
        "overlap": [partners[name][1] if name in partners else None for name in names],
        "refit_overlap": [coding.refit_overlap.get(name) for name in names],
    }
    return [pl.Series(name, value, dtype=EVALUATION_CODES.column(name).data_type) for name, value in values.items()]
