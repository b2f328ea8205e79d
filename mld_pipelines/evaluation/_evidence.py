"""How well a result's own estimates hold: reliability, and estimated against true error of windows with labels.

Windows are drawn from datasets the estimator was not fitted on; where there is none, from the reference, whose error
probabilities are cross-fitted but whose thresholds are not: such windows show the spread of the estimate and no more.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import (
    UNSEEN_INDEX,
    ProductionScorer,
    estimate_stressed_window,
    estimate_window,
    jeffreys_interval,
    window_state,
)
from mld_pipelines.evaluation._artifacts import load_scorer
from mld_pipelines.evaluation._datasets import TRAIN
from mld_pipelines.evaluation._vectors import to_matrix, widths
from mld_pipelines.exceptions import LakeError
from mld_pipelines.tables import TRACES_INPUTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from mld_pipelines.diagnosis import WindowEstimate
    from mld_pipelines.evaluation._load import StoredResult

__all__ = ["EVIDENCE_SCHEMA", "reliability_bins", "window_evidence"]

_BINS = 10
_POOL = 20_000
"""Units of a dataset that windows are drawn from, at random where there are more: reading features stays cheap."""
_WINDOWS, _CLASSES = 24, 24
_SMALLEST, _LARGEST = 50, 500
_UNIT_COLUMNS = ["dataset_type", "input_id", "prediction", "is_error", "error_proba", "confidence_t", "error_code",
                 "risk_scores"]  # fmt: skip

#: Columns of `window_evidence`: `kind` is `all`, `random` or `predicted class`.
EVIDENCE_SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "is_reference": pl.Boolean(),
        "kind": pl.String(),
        "name": pl.String(),
        "n": pl.Int64(),
        "true": pl.Float64(),
        "estimated": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "mean_ep": pl.Float64(),
        "atc_ep": pl.Float64(),
        "atc_mc": pl.Float64(),
        "msp_t": pl.Float64(),
        "codes": pl.Float64(),
        "badges": pl.List(pl.String()),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """Labelled, scored units of one dataset, in random order that never changes."""

    units: pl.DataFrame
    codes: npt.NDArray[np.int64] | None
    vectors: dict[str, npt.NDArray[np.float32]]

    def estimate(self, rows: npt.NDArray[np.int64], scorer: ProductionScorer) -> WindowEstimate:
        """Estimate the error rate of some of its units, by the stress map where its inputs are at hand."""
        part = self.units[rows]
        proba, confidence = (part[name].to_numpy().astype(float) for name in ("error_proba", "confidence_t"))
        codes = None if self.codes is None else self.codes[rows]
        state = window_state(scorer.window_reference, error_proba=proba, confidence=confidence, codes=codes)
        if scorer.window_map is None or not self.vectors:
            return estimate_window(state, scorer.window_reference)
        inputs: dict[str, Any] = {name: matrix[rows] for name, matrix in self.vectors.items()}
        stress = scorer.stress_state(error_proba=proba, risk_scores=to_matrix(part, "risk_scores"), **inputs)
        return estimate_stressed_window(state, stress, reference=scorer.window_reference, window_map=scorer.window_map)


def reliability_bins(error_proba: pl.Series, is_error: pl.Series, *, alpha: float = 0.05) -> pl.DataFrame:
    """Return mean error probability and observed error rate in ten bins of equal width; empty bins are left out.

    Args:
        error_proba: Probabilities; nulls are left out.
        is_error: Whether each unit is wrong.
        alpha: One minus the level of the intervals.

    Returns:
        Columns: predicted, observed, counts, low, high.
    """
    frame = pl.DataFrame({"p": error_proba.cast(pl.Float64), "e": is_error}).drop_nulls()
    bins = (pl.col("p") * _BINS).floor().clip(0, _BINS - 1).alias("bin")
    counted = frame.group_by(bins).agg(
        pl.col("p").mean().alias("predicted"),
        pl.col("e").mean().alias("observed"),
        pl.len().cast(pl.Int64).alias("counts"),
        pl.col("e").sum().cast(pl.Int64).alias("errors"),
    )
    rows = counted.sort("bin")
    low, high = jeffreys_interval(rows["counts"].to_numpy(), rows["errors"].to_numpy(), alpha=alpha)
    return rows.select("predicted", "observed", "counts", pl.Series("low", low), pl.Series("high", high))


def window_evidence(stored: StoredResult) -> pl.DataFrame:
    """Return estimated and true error rates of windows of a result's labelled units, beside what peers would say.

    Per dataset: all its units, random windows of 50 to 500, and the units of each predicted class. Training data are
    left out. The sample is the same every time.

    Args:
        stored: The result; one evaluated before `confidence_t` was stored gives no rows.

    Returns:
        Columns of `EVIDENCE_SCHEMA`; `mean_ep … codes` are the single opinions.
    """
    epoch = stored.row["epochs"][-1]
    scorer = load_scorer(stored.lake, stored.result_name, n_epoch=epoch)
    units = (
        stored.units()
        .filter(pl.col("n_epoch").eq_missing(pl.lit(epoch, dtype=pl.Int64)))
        .filter(pl.col("confidence_t").is_not_null() & pl.col("error_proba").is_not_null())
        .select(_UNIT_COLUMNS)
        .collect()
    )
    decisive = stored.row["decision_dataset"]
    names = [name for name in units["dataset_type"].unique().sort() if name.lower() != TRAIN or name == decisive]
    has_others = len(names) > 1
    rows: list[dict[str, Any]] = []
    for name in names:
        pool = _pool(units.filter(pl.col("dataset_type") == name), stored, scorer)
        is_reference = name == decisive
        for kind, window, index in _windows(pool, all_only=is_reference and has_others):
            estimate = pool.estimate(index, scorer)
            rows.append({"dataset": name, "is_reference": is_reference, "kind": kind, "name": window}
                        | _row(pool.units[index], estimate))  # fmt: skip
    return pl.DataFrame(rows, schema=EVIDENCE_SCHEMA)


def _pool(units: pl.DataFrame, stored: StoredResult, scorer: ProductionScorer) -> _Pool:
    ordered = units.sort("input_id")
    order = np.random.default_rng(0).permutation(ordered.height)[:_POOL]
    chosen = ordered[order]
    codes = None
    if scorer.codebook is not None and len(scorer.window_reference.code_rates) == scorer.codebook.n_codes:
        position = {name: index for index, name in enumerate(scorer.codebook.names)}
        codes = np.array([position.get(name, UNSEEN_INDEX) for name in chosen["error_code"]], dtype=np.int64)
    vectors = {} if scorer.window_map is None else _vectors(chosen, stored, scorer)
    return _Pool(chosen, codes, vectors)


def _vectors(units: pl.DataFrame, stored: StoredResult, scorer: ProductionScorer) -> dict[str, npt.NDArray[np.float32]]:
    """Return outputs and features of the units as they were traced; nothing where those rows are gone."""
    version = stored.inputs["table_versions"].get(TRACES_INPUTS.name)
    columns = ["logits", "probs", *(["feature"] if scorer.estimator.scorer.feature_dim else [])]
    keys = ["dataset_type", "input_id"]
    try:
        traced = (
            stored.lake.scan(TRACES_INPUTS, version=version, model_key=stored.model_key)
            .filter(pl.col("n_epoch").eq_missing(pl.lit(stored.row["epochs"][-1], dtype=pl.Int64)))
            .join(units.select(keys).lazy(), on=keys, how="semi")
            .select(*keys, *columns)
            .collect()
        )
    except LakeError:  # the version was vacuumed
        return {}
    rows = units.select(keys).join(traced, on=keys, how="left", maintain_order="left")
    output = "logits" if None not in widths(rows, "logits") else "probs"
    wanted = {output: {"logits": "logits", "probs": "probabilities"}[output]}
    wanted |= {"feature": "features"} if "feature" in columns else {}
    if any(len(found := widths(rows, name)) != 1 or found == [None] for name in wanted):
        return {}
    return {argument: to_matrix(rows, name) for name, argument in wanted.items()}


def _windows(pool: _Pool, *, all_only: bool) -> Iterator[tuple[str, str, npt.NDArray[np.int64]]]:
    n = pool.units.height
    yield "all", "all units", np.arange(n)
    if all_only or n < _SMALLEST:
        return
    size = min(max(n // 12, _SMALLEST), _LARGEST)
    for number in range(min(n // size, _WINDOWS)):
        yield "random", f"random window {number + 1}", np.arange(number * size, (number + 1) * size)
    predictions = pool.units["prediction"].to_numpy()
    classes, counts = np.unique(predictions, return_counts=True)
    for one in classes[np.argsort(-counts, kind="stable")][:_CLASSES]:
        index = np.flatnonzero(predictions == one)
        if len(index) >= _SMALLEST:
            yield "predicted class", f"predicted class {one}", index


def _row(units: pl.DataFrame, estimate: WindowEstimate) -> dict[str, Any]:
    opinions = asdict(estimate.opinions) if estimate.opinions else {}
    return {
        "n": units.height,
        "true": units["is_error"].mean(),
        "estimated": estimate.error_rate,
        "low": estimate.low,
        "high": estimate.high,
        **{name: opinions.get(name) for name in ("mean_ep", "atc_ep", "atc_mc", "msp_t", "codes")},
        "badges": list(estimate.badges),
    }
