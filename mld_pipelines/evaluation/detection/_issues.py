"""Issues and codes of a detector: those of predictions and those of objects, told by types, place and size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import DETECTION_SCORE_MEANINGS, DETECTION_SCORE_NAMES, BoxClues, Choice, Measure
from mld_pipelines.evaluation._descriptions import ERROR_TYPE, unit_code_rows
from mld_pipelines.evaluation._facts import PATTERN_SHARE, SEVERAL
from mld_pipelines.evaluation._issues import class_named, unit_issue_rows
from mld_pipelines.evaluation._traits import class_choice, floats, metadata_traits, named_classes
from mld_pipelines.metrics import ERROR_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._traits import Traits
    from mld_pipelines.evaluation._verdicts import CodeVerdicts

__all__ = ["UNIT_KINDS", "box_traits", "detection_code_rows", "detection_issue_rows", "error_type_name"]

UNIT_KINDS = ("prediction", "object")
"""Kinds of units of a detector in the order of tables."""

#: Risk scores of one group say the same in other words.
_SCORE_GROUPS = {
    "margin": "confidence", "entropy": "confidence", "support": "candidates", "support_score": "candidates",
    "support_spread": "candidates", "support_class": "candidates", "knn": "neighbours", "dis": "neighbours",
    "size": "size", "range": "range",
}  # fmt: skip
_LEFT_OUT = ("score", "above", "class", "code")
"""Risk scores that stand beside the description or in it: the score, and the error rate itself."""
_FAR, _SMALL = ("far away", "near the sensor"), ("large boxes", "small boxes")
_POINTS = ("many LiDAR points", "few LiDAR points")
_SCORE = ("high scores", "low scores")
_QUARTERS, _SEEN = ("around +x", "around +y", "around −x", "around −y"), ("end-on", "side-on")
#: What a type means to a reader of an evidence sentence.
_SAID = {
    "bkg": "stand where nothing is",
    "loc": "lie beside an object of their class",
    "dupe": "are second boxes of an object found already",
    "both": "have neither the class nor the place of the object near them",
    "miss": "are objects that no box found",
}
_SAID_OF_OVERLAP = {"loc": "overlap an object of their class too little to match"}


def error_type_name(class_names: Sequence[str] = ()) -> pl.Expr:
    """Return the expression that names what is wrong with a box: `bkg`, `loc`, `miss` …, a sub-type, a confusion.

    Args:
        class_names: Names by class index; indices are shown where there are none.
    """
    confusion = pl.format("cls {}→{}", class_named("label", class_names), class_named("prediction", class_names))
    is_known = (pl.col("error_type") == "cls") & pl.col("label").is_not_null()
    return pl.when(is_known).then(confusion).otherwise(pl.coalesce("error_sub_type", "error_type"))


def detection_issue_rows(
    units: pl.DataFrame,
    prediction_verdicts: CodeVerdicts,
    object_verdicts: CodeVerdicts,
    *,
    decision_dataset: str,
    class_names: Sequence[str] = (),
) -> pl.DataFrame:
    """Return the rows of `evaluation/issues` without their attempt columns, predictions before objects.

    Args:
        units: Rows of `evaluation/units` of one epoch, both kinds.
        prediction_verdicts: Category, reason, clues and advice of the codes of predictions.
        object_verdicts: The same of objects.
        decision_dataset: Dataset that decided.
        class_names: Names by class index; indices are shown where there are none.
    """
    parts = []
    said = _SAID | (_SAID_OF_OVERLAP if units["error_sub_type"].is_not_null().any() else {})
    for kind, verdicts in zip(UNIT_KINDS, (prediction_verdicts, object_verdicts), strict=True):
        rows = unit_issue_rows(
            units.filter(pl.col("unit_kind") == kind),
            verdicts,
            decision_dataset=decision_dataset,
            unit_kind=kind,
            class_names=class_names,
            error_type=error_type_name(class_names),
            patterns=[
                _sentences(one, class_names, said) for one in verdicts.box_clues or (BoxClues(),) * len(verdicts.codes)
            ],
        )
        parts.append(rows.with_columns(pl.lit(units["n_epoch"].first(), dtype=pl.Int64).alias("n_epoch")))
    return pl.concat(parts)


def detection_code_rows(
    units: pl.DataFrame,
    prediction_coding: Coding,
    object_coding: Coding,
    *,
    decision_dataset: str,
    class_names: Sequence[str] = (),
) -> pl.DataFrame:
    """Return the rows of `evaluation/codes` without their attempt columns, predictions before objects.

    Args:
        units: Rows of `evaluation/units` of one epoch, both kinds.
        prediction_coding: Codes of the predictions among them, in their order.
        object_coding: Codes of the objects among them.
        decision_dataset: Dataset whose units describe the codes.
        class_names: Names by class index; indices are shown where there are none.
    """
    parts = []
    for kind, coding in zip(UNIT_KINDS, (prediction_coding, object_coding), strict=True):
        own = units.filter(pl.col("unit_kind") == kind).with_columns(
            class_named("prediction", class_names).alias("predicted"),
            error_type_name(class_names).alias(ERROR_TYPE),
        )
        traits = box_traits(own.filter(pl.col("dataset_type") == decision_dataset), kind, class_names)
        rows = unit_code_rows(own, coding, traits, decision_dataset=decision_dataset, unit_kind=kind)
        parts.append(rows.with_columns(pl.lit(units["n_epoch"].first(), dtype=pl.Int64).alias("n_epoch")))
    return pl.concat(parts)


def _sizes(units: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Return the geometric mean of width, length and height of each box, metres."""
    sides = [units.select(pl.col("box_3d").list.get(place, null_on_oob=True)).to_series() for place in (3, 4, 5)]
    volume: npt.NDArray[np.float64] = np.prod([floats(side) for side in sides], axis=0)
    return np.cbrt(volume)


def _sentences(clues: BoxClues, class_names: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """Return what the errors of a code have in common, each with its numbers."""
    n = clues.n_errors
    if n < SEVERAL:
        return []
    said = []
    if clues.error_type is not None and clues.type_share >= PATTERN_SHARE:
        count = round(clues.type_share * n)
        if clues.error_type == "cls" and clues.confusion is not None:
            label, prediction = named_classes(pl.Series(clues.confusion), class_names)
            confused = round(clues.confusion_share * n)
            said.append(f"{count} of {n} errors have the wrong class, {confused} of them are {label}→{prediction}")
        elif clues.error_type != "miss":
            said.append(f"{count} of {n} errors {words.get(clues.error_type, 'are ' + clues.error_type)}")
    if clues.candidate_share >= PATTERN_SHARE:
        near = round(clues.candidate_share * n)
        said.append(f"on {near} of {n} missed objects lies a candidate of their class below the operating point")
    if clues.is_far:
        said.append("its errors are farther away than three quarters of all units")
    if clues.is_small:
        said.append("its errors are smaller than three quarters of all units")
    if clues.has_few_points:
        said.append("half of its errors hold at most 5 LiDAR points")
    return said


def box_traits(units: pl.DataFrame, kind: str, class_names: Sequence[str] = ()) -> Traits:
    """Return what boxes can be compared by: place, size, points, score, class, error type, metadata, risk scores.

    Args:
        units: Rows of `evaluation/units` of one kind.
        kind: `prediction` or `object`.
        class_names: Names by class index.
    """
    measures, choices = metadata_traits(units["metadata"])
    own = [
        Measure(name="range", group="range", values=floats(units["range_m"]), is_context=True, meanings=_FAR),
        Measure(name="size", group="size", values=_sizes(units), is_context=True, meanings=_SMALL),
    ]
    types = [_type_choice(units["error_type"])]
    if kind == "object":
        own.append(
            Measure(name="points", group="points", values=floats(units["points"]), is_context=True, meanings=_POINTS)
        )
        classes = [class_choice("class", units["label"], class_names)]
    else:
        own.append(Measure(name="score", group="confidence", values=floats(units["confidence"]), meanings=_SCORE))
        own += _risk_measures(units["risk_scores"])
        classes = [
            class_choice("predicted class", units["prediction"], class_names),
            class_choice("true class", units["label"], class_names),
        ]
    return [*own, *measures], [*classes, *types, *_placed(units), *choices]


def _placed(units: pl.DataFrame) -> list[Choice]:
    """Return in which quarter around the sensor a box stands, and whether its end or its side is seen."""
    x, y, yaw = (
        floats(units.select(pl.col("box_3d").list.get(place, null_on_oob=True)).to_series()) for place in (0, 1, 6)
    )
    known = np.isfinite(x)
    bearing = np.arctan2(y, x)
    quarter = np.floor(bearing / (np.pi / 2) + 0.5) % 4
    is_side_on = np.abs(np.sin(yaw - bearing)) > np.sqrt(0.5)
    return [
        Choice(
            name=name, group=name, values=np.where(known, values, -1).astype(np.int64), labels=labels, is_context=True
        )
        for name, values, labels in (("direction", quarter, _QUARTERS), ("seen", is_side_on, _SEEN))
    ]


def _type_choice(types: pl.Series) -> Choice:
    place = {name: index for index, name in enumerate(ERROR_TYPES)}
    values = types.replace_strict(place, default=-1, return_dtype=pl.Int64) if len(types) else types.cast(pl.Int64)
    return Choice(name="error type", group="error type", values=values.to_numpy(), labels=ERROR_TYPES)


def _risk_measures(column: pl.Series) -> list[Measure]:
    """Return the risk scores that say more than what stands beside the description: the code's rate, place and size."""
    width = len(DETECTION_SCORE_NAMES)
    if not len(column) or column.null_count() or set(column.list.len().unique()) != {width}:
        return []
    matrix = column.explode().to_numpy().reshape(-1, width).astype(np.float64)
    return [
        Measure(
            name=name,
            group=_SCORE_GROUPS.get(name, name),
            values=matrix[:, place],
            meanings=(DETECTION_SCORE_MEANINGS[name], f"not: {DETECTION_SCORE_MEANINGS[name]}"),
        )
        for place, name in enumerate(DETECTION_SCORE_NAMES)
        if name not in _LEFT_OUT
    ]
