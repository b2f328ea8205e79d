"""What is known of a unit beside its code, as measures and choices that codes can be compared by."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import SCORE_NAMES, Choice, Measure, distinguish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from mld_pipelines.diagnosis import Distinction

__all__ = ["Traits", "class_choice", "distinctions_of", "floats", "input_traits", "metadata_traits", "named_classes"]

Traits = tuple[list[Measure], list[Choice]]
"""What units can be compared by."""

#: Scores of one group say the same in other words (docs/method.md#distinction). `code` is left out: it is the error
#: rate of the code itself, which stands beside the description.
_SCORE_GROUPS = {
    "lmsp": "confidence",
    "entropy": "confidence",
    "dbmin": "confidence",
    "knn": "support",
    "dis": "neighbours",
    "trust": "neighbours",
    "mahamargin": "neighbours",
    "rmd": "support",
    "res": "support",
}
_MOST_VALUES = 50
"""Values of a metadata key that are compared, the most frequent ones; a rarer value cannot describe many units."""
_FEW_VALUES = 12
"""A number with at most so many values (a severity, a lamp) is compared by value as well as by its mean."""
_MOST_KEYS = 64
_MISSING = "missing"


def distinctions_of(codes: npt.NDArray[np.int64], traits: Traits, *, n_codes: int) -> list[tuple[Distinction, ...]]:
    """Return, per code, what distinguishes its units.

    Args:
        codes: Code of each unit, 0 … n_codes − 1.
        traits: What is known of the same units.
        n_codes: Number of codes.
    """
    return distinguish(codes, n_codes=n_codes, measures=traits[0], choices=traits[1])


def input_traits(units: pl.DataFrame, class_names: Sequence[str] = ()) -> Traits:
    """Return scores, confidence, classes and metadata of inputs.

    Args:
        units: Rows of `evaluation/units`.
        class_names: Names by class index.
    """
    measures, choices = metadata_traits(units["metadata"])
    confidence = Measure(name="confidence", group="confidence", values=floats(units["confidence"]))
    classes = [
        class_choice("predicted class", units["prediction"], class_names),
        class_choice("true class", units["label"], class_names),
    ]
    return [*_scores(units), confidence, *measures], [*classes, *choices]


def metadata_traits(metadata: pl.Series) -> Traits:
    """Return the user's own columns: numbers by their means, few or other values by their shares.

    Args:
        metadata: JSON objects.
    """
    measures: list[Measure] = []
    choices: list[Choice] = []
    for key, values in _metadata(metadata):
        numbers = _numbers(values)
        if numbers is not None:
            measures.append(Measure(name=key, group=f"metadata {key}", values=numbers, is_context=True))
        if numbers is None or len({value for value in values if value is not None}) <= _FEW_VALUES:
            choices.append(_metadata_choice(key, values))
    return measures, choices


def named_classes(classes: pl.Series, class_names: Sequence[str]) -> list[str | None]:
    """Return class indices as names; an index without a name stays a number."""
    known = dict(enumerate(class_names))
    return [None if index is None else known.get(index, str(index)) for index in classes]


def floats(series: pl.Series) -> npt.NDArray[np.float64]:
    """Return numbers, NaN where unknown."""
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _scores(units: pl.DataFrame) -> Iterator[Measure]:
    width = len(SCORE_NAMES)
    scores = units["risk_scores"]
    if scores.null_count() or not len(scores) or set(scores.list.len().unique()) != {width}:
        return
    matrix = scores.explode().to_numpy().reshape(-1, width)
    for column, name in enumerate(SCORE_NAMES):
        if name in _SCORE_GROUPS:
            yield Measure(name=name, group=_SCORE_GROUPS[name], values=matrix[:, column])


def class_choice(name: str, classes: pl.Series, class_names: Sequence[str]) -> Choice:
    """Return class indices as a choice; a unit without a class has none of them."""
    values = classes.fill_null(-1).to_numpy().astype(np.int64)
    present, index = np.unique(values, return_inverse=True)
    labels = named_classes(pl.Series(present), class_names)
    # A unit without a label belongs to no class; np.unique sorts, so that only the first can be −1.
    offset = int(len(present) > 0 and present[0] < 0)
    return Choice(name=name, group="class", values=index - offset, labels=tuple(map(str, labels[offset:])))


def _metadata(texts: pl.Series) -> Iterator[tuple[str, list[Any]]]:
    """Yield every key with its value per unit, None where a unit lacks it; sorted, at most 64."""
    if texts.null_count() == len(texts):
        return
    parsed = {text: _parsed(text) for text in texts.drop_nulls().unique()}
    rows = [parsed.get(text, {}) for text in texts]
    for key in sorted({key for row in parsed.values() for key in row})[:_MOST_KEYS]:
        yield key, [row.get(key) for row in rows]


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _numbers(values: Sequence[Any]) -> npt.NDArray[np.float64] | None:
    """Return a key's values as numbers, NaN where missing; None if any is something else."""
    if any(not isinstance(value, (int, float)) or isinstance(value, bool) for value in values if value is not None):
        return None
    # An integer beyond the range of floats is infinite here, and left out like any number that is not finite.
    return np.array([np.nan if value is None else value for value in values], dtype=object).astype(np.float64)


def _metadata_choice(key: str, values: Sequence[Any]) -> Choice:
    names = [_MISSING if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
    frequent = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))[:_MOST_VALUES]
    position = {name: index for index, (name, _) in enumerate(frequent)}
    index = np.array([position.get(name, -1) for name in names], dtype=np.int64)
    return Choice(name=key, group=f"metadata {key}", values=index, labels=tuple(position), is_context=True)
