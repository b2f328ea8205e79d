"""What a caller gives to be scored, as arrays: tensors, numpy, lists, or the rows of logged inferences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.evaluation import PRODUCTION
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.diagnosis import ProductionScorer

__all__ = ["GivenUnits", "as_rows", "fingerprints_of", "from_arrays", "from_rows"]

_OUTPUTS = ("logits", "probs")
_IDENTITY = ("request_id", "dataset_type", "n_epoch", "input_id", "event_at", "stream_id", "seq", "row")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenUnits:
    """N units to score; a row of NaN stands for what is missing.

    Attributes:
        outputs: Logits or probabilities, `(N, K)` float32.
        is_logits: Which of the two.
        features: `(N, d)` float32; None where the estimator uses none.
        keys: Names of the units, so that none is its own neighbour; None for arrays.
        identity: What names the rows, as columns; empty for arrays.
    """

    outputs: NDArray[np.float32]
    is_logits: bool
    features: NDArray[np.float32] | None
    keys: list[str] | None = None
    identity: pl.DataFrame

    @property
    def named_outputs(self) -> dict[str, NDArray[np.float32]]:
        """The outputs by the name of their argument."""
        return {"logits" if self.is_logits else "probabilities": self.outputs}


def from_arrays(scorer: ProductionScorer, *, logits: Any, probabilities: Any, features: Any) -> GivenUnits:
    """Return given arrays, checked.

    Raises:
        InvalidInputError: Not exactly one kind of output, missing features, values that are no numbers, other shapes.
    """
    if (logits is None) == (probabilities is None):
        raise InvalidInputError(
            "pass exactly one of logits and probabilities (or rows=, for logged inferences); nothing was scored."
        )
    name, given = ("logits", logits) if logits is not None else ("probabilities", probabilities)
    outputs = _matrix(given, name, width=scorer.estimator.scorer.n_classes)
    width = scorer.estimator.scorer.feature_dim
    if width and features is None:
        raise InvalidInputError(
            f"result {scorer.result_name!r} scores by features of {width} values and none were given; nothing was "
            "scored. Pass features=, the input of the layer that was traced."
        )
    stored = _matrix(features, "features", width=width) if width else None
    if stored is not None and len(stored) != len(outputs):
        raise InvalidInputError(
            f"{len(outputs)} rows of {name} and {len(stored)} of features were given; nothing was scored. Pass one "
            "row of each per unit."
        )
    return GivenUnits(outputs=outputs, is_logits=logits is not None, features=stored, identity=pl.DataFrame())


def as_rows(rows: Any) -> pl.DataFrame:
    """Return given rows as a polars frame.

    Args:
        rows: A polars frame (lazy or not), a pandas frame, or mappings.

    Raises:
        InvalidInputError: None of these.
    """
    if isinstance(rows, pl.LazyFrame):
        return rows.collect()
    if isinstance(rows, pl.DataFrame):
        return rows
    if type(rows).__module__.startswith("pandas"):
        return pl.DataFrame({str(name): rows[name].tolist() for name in rows.columns}, strict=False)
    if isinstance(rows, Iterable) and not isinstance(rows, (str, bytes, Mapping)):
        listed = list(rows)
        if all(isinstance(row, Mapping) for row in listed):
            return pl.from_dicts(listed, infer_schema_length=None) if listed else pl.DataFrame()
    raise InvalidInputError(
        f"rows must be a polars frame, a pandas frame or mappings, got {type(rows).__name__}; nothing was scored."
    )


def fingerprints_of(frame: pl.DataFrame) -> list[str | None]:
    """Return the distinct fingerprints of rows, sorted; None stands for rows that do not say."""
    if "fingerprint" not in frame.columns:
        return [None] if frame.height else []
    found: list[str | None] = frame["fingerprint"].cast(pl.String).unique().sort(nulls_last=True).to_list()
    return found


def from_rows(scorer: ProductionScorer, frame: pl.DataFrame) -> GivenUnits:
    """Return rows as arrays; a row without outputs or features becomes NaN and is not scored.

    Raises:
        InvalidInputError: No output column, vectors of different widths, or some rows with logits and others without.
    """
    if frame.height and not set(_OUTPUTS) & set(frame.columns):
        raise InvalidInputError(
            f"the rows have neither a column logits nor probs, only {', '.join(frame.columns)}; nothing was scored. "
            "Pass rows of landing/inferences."
        )
    filled = [name for name in _OUTPUTS if name in frame.columns and frame[name].null_count() < frame.height]
    name = filled[0] if filled else "logits"
    if len(filled) == 2 and frame.filter(pl.col("logits").is_null() & pl.col("probs").is_not_null()).height:
        raise InvalidInputError(
            "some rows hold logits and others only probs; nothing was scored. Score the two kinds one after the other."
        )
    width = scorer.estimator.scorer.feature_dim
    present = [column for column in _IDENTITY if column in frame.columns]
    return GivenUnits(
        outputs=_lists(frame, name, width=scorer.estimator.scorer.n_classes),
        is_logits=name == "logits",
        features=_lists(frame, "feature", width=width) if width else None,
        keys=_keys(frame),
        identity=frame.select(present),
    )


def _keys(frame: pl.DataFrame) -> list[str] | None:
    if {"dataset_type", "input_id"} <= set(frame.columns):  # traced rows: some of them may be in the bank
        return frame.select(pl.format("{}/{}", "dataset_type", "input_id").fill_null("")).to_series().to_list()
    if "request_id" in frame.columns:
        return frame.select(pl.format(PRODUCTION + "/{}", "request_id").fill_null("")).to_series().to_list()
    return None


def _matrix(values: Any, name: str, *, width: int) -> NDArray[np.float32]:
    """Return a tensor, an array or nested lists as an (N, K) float32 matrix; an empty input has N = 0."""
    if hasattr(values, "detach"):
        values = _from_tensor(values)
    elif isinstance(values, (list, tuple)) and values and all(hasattr(value, "detach") for value in values):
        values = [_from_tensor(value) for value in values]
    elif isinstance(values, (pl.Series, pl.DataFrame)):
        values = values.to_list() if isinstance(values, pl.Series) else values.to_numpy()
    try:
        raw = np.asarray(values)
        if np.iscomplexobj(raw):
            raise TypeError("they are complex")
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is not scored but counted
            array = np.asarray(raw, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"{name} cannot be read as numbers of shape (units, {width}): {error}; nothing was scored."
        ) from error
    if array.size == 0 and array.ndim <= 2 and len(np.atleast_1d(array)) == 0:
        return np.empty((0, width), dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != width:
        raise InvalidInputError(
            f"{name} have shape {array.shape}, the result was made with (units, {width}); nothing was scored. Use "
            "the result of this model and the layer that was traced."
        )
    return array


def _from_tensor(tensor: Any) -> Any:
    return tensor.detach().float().cpu().numpy()


def _lists(frame: pl.DataFrame, name: str, *, width: int) -> NDArray[np.float32]:
    """Return a list column as a matrix; rows without a list are NaN."""
    matrix = np.full((frame.height, width), np.nan, dtype=np.float32)
    if name not in frame.columns or frame[name].null_count() == frame.height:
        return matrix
    column = frame[name]
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List):
        raise InvalidInputError(f"column {name!r} holds {column.dtype}, not lists of numbers; nothing was scored.")
    known = column.is_not_null()
    found = column.drop_nulls().list.len().unique().sort().to_list()
    if found != [width]:
        raise InvalidInputError(
            f"column {name!r} holds vectors of {', '.join(map(str, found))} values, the result was made with {width}; "
            "nothing was scored. Use the result of this model and the layer that was traced."
        )
    try:
        flat = column.drop_nulls().explode().cast(pl.Float32).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise InvalidInputError(
            f"column {name!r} holds {column.dtype}, not lists of numbers; nothing was scored."
        ) from error
    matrix[known.to_numpy()] = flat.reshape(-1, width)
    return matrix
