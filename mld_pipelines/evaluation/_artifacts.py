"""Fitted artifacts as rows, and the way back to a production scorer."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.diagnosis import (
    Codebook,
    DetectionEstimator,
    DetectionScorer,
    DetectionShiftMap,
    DetectionWindowReference,
    ErrorEstimator,
    ProductionScorer,
    WindowMap,
    WindowReference,
)
from mld_pipelines.evaluation._load import list_results, load_result
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError
from mld_pipelines.tables import ESTIMATORS_MODELS
from mld_pipelines.windows import Baseline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from mld_pipelines.evaluation._load import StoredResult
    from mld_pipelines.lake import Lake

__all__ = ["artifact_rows", "load_baseline", "load_detection_scorer", "load_scorer", "stored_codebooks"]

_CODEBOOKS = ("codebook", "object_codebook")

_log = logging.getLogger("mld_pipelines.evaluation")


def artifact_rows(values: Sequence[dict[str, Any]], *, created_at: datetime) -> pl.DataFrame:
    """Return rows of `estimators/models` without their attempt columns; the id is the hash of the bytes."""
    rows = [
        value | {"artifact_id": hashlib.sha256(value["artifact"]).hexdigest(), "created_at": created_at}
        for value in values
    ]
    schema = {name: ESTIMATORS_MODELS.column(name).data_type for name in rows[0]}
    return pl.DataFrame(rows, schema=schema)


def load_scorer(lake: Lake, result_name: str, *, n_epoch: int | None = None) -> ProductionScorer:
    """Return the production scorer of a classifier's result.

    Args:
        lake: The lake.
        result_name: A finished result.
        n_epoch: Epoch whose estimator is wanted; None takes the latest of the result.

    Raises:
        UnknownResultError: No result has this name.
        InvalidInputError: The result is of a detector.
        CorruptArtifactError: Its artifacts cannot be read.
    """
    found = _Artifacts.load(lake, result_name, n_epoch, task="classification")
    window_map = found.by_kind.get("window_map")
    return ProductionScorer(
        **found.common(),
        estimator=ErrorEstimator.from_bytes(found.by_kind["estimator"]["artifact"]),
        window_reference=WindowReference.from_bytes(found.by_kind["window"]["artifact"]),
        window_map=_window_map(window_map["artifact"], result_name) if window_map else None,
    )


def load_detection_scorer(lake: Lake, result_name: str, *, n_epoch: int | None = None) -> DetectionScorer:
    """Return the production scorer of a 3D detector's result.

    Args:
        lake: The lake.
        result_name: A finished result.
        n_epoch: Epoch whose estimator is wanted; None takes the latest of the result.

    Raises:
        UnknownResultError: No result has this name.
        InvalidInputError: The result is of a classifier.
        CorruptArtifactError: Its artifacts cannot be read.
    """
    found = _Artifacts.load(lake, result_name, n_epoch, task="od3d")
    return DetectionScorer(
        **found.common(),
        object_codebook=found.codebook("object_codebook"),
        estimator=DetectionEstimator.from_bytes(found.by_kind["estimator"]["artifact"]),
        window_reference=_verified(
            DetectionWindowReference.from_bytes(found.by_kind["window"]["artifact"]),
            found.by_kind.get("window_map"),
            result_name,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Artifacts:
    """The stored artifacts of one epoch of a result, by kind."""

    stored: StoredResult
    epoch: int | None
    by_kind: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, lake: Lake, result_name: str, n_epoch: int | None, *, task: str) -> _Artifacts:
        stored = load_result(lake, result_name)
        if stored.row["task"] != task:
            raise InvalidInputError(
                f"result {result_name!r} is of task {stored.row['task']!r}, wanted was one of {task!r}; nothing was "
                "scored. Use a result of this model."
            )
        epoch = stored.row["epochs"][-1] if n_epoch is None else n_epoch
        by_kind = {row["kind"]: row for row in _of_epoch(stored.artifacts(), epoch).iter_rows(named=True)}
        if missing := {"estimator", "window"} - set(by_kind):
            raise CorruptArtifactError(
                f"result {result_name!r} lacks the artifacts {sorted(missing)} of epoch {epoch}; evaluate the model "
                "again."
            )
        return cls(stored, epoch, by_kind)

    def common(self) -> dict[str, Any]:
        """What scorers of every task are made of."""
        estimator = self.by_kind["estimator"]
        return {
            "result_name": self.stored.result_name,
            "estimator_version": estimator["artifact_id"][:16],
            "fingerprint": estimator["fingerprint"],
            "codebook": self.codebook("codebook"),
            "issues": _issues(self.stored, self.epoch),
        }

    def codebook(self, kind: str) -> Codebook | None:
        row = self.by_kind.get(kind)
        return None if row is None else Codebook.from_bytes(row["artifact"])


def load_baseline(lake: Lake, result_name: str) -> Baseline:
    """Return the reference counts that production is compared with, of the latest epoch of a result.

    Raises:
        UnknownResultError: No result has this name.
    """
    from dataclasses import replace

    stored = load_result(lake, result_name)
    rows = _of_epoch(stored.artifacts(), stored.row["epochs"][-1]).filter(pl.col("kind") == "window")
    if rows.is_empty():
        raise CorruptArtifactError(f"result {result_name!r} lacks its window artifact; evaluate the model again.")
    return replace(Baseline.from_json(rows["parameters"][0]), result_name=result_name)


def stored_codebooks(lake: Lake, model_name: str, *, current: str | None) -> Iterator[Codebook]:
    """Yield the codebooks of a model's finished results, the current result's first, then newest first.

    Args:
        lake: The lake.
        model_name: All versions of this model are searched: `Codebook.fits` decides.
        current: The model's current result.
    """
    results = list_results(lake).filter(pl.col("model_key").str.split("@").list.first() == model_name)
    names = results.sort("created_at", descending=True)["result_name"].to_list()
    seen: set[str] = set()
    for name in sorted(names, key=lambda name: name != current):
        books = load_result(lake, name).artifacts().filter(pl.col("kind").is_in(_CODEBOOKS))
        for row in books.sort("n_epoch", "kind", descending=[True, False], nulls_last=True).iter_rows(named=True):
            if row["artifact_id"] not in seen:
                seen.add(row["artifact_id"])
                yield Codebook.from_bytes(row["artifact"])


def _window_map(artifact: bytes, result_name: str) -> WindowMap | None:
    """The map; None, with a warning, where this code cannot read it: scoring goes on, and the badge says so."""
    try:
        return WindowMap.from_bytes(artifact)
    except CorruptArtifactError as error:
        _log.warning("the window estimate of result %r is not verified under shift: %s", result_name, error)
        return None


def _verified(
    reference: DetectionWindowReference, row: dict[str, Any] | None, result_name: str
) -> DetectionWindowReference:
    """The reference with its shift map; without it, with a warning, where this code cannot read the map."""
    if row is None:
        return reference
    try:
        shift = DetectionShiftMap.from_bytes(row["artifact"])
        shift.check(reference)
    except (CorruptArtifactError, InvalidInputError) as error:
        _log.warning("the window estimate of result %r is not verified under shift: %s", result_name, error)
        return reference
    return replace(reference, shift=shift)


def _of_epoch(rows: pl.DataFrame, epoch: int | None) -> pl.DataFrame:
    return rows.filter(pl.col("n_epoch").eq_missing(pl.lit(epoch, dtype=pl.Int64)))


def _issues(stored: StoredResult, epoch: int | None) -> dict[str, tuple[str, bool]]:
    rows = _of_epoch(stored.issues(), epoch).filter(pl.col("dataset") == stored.row["decision_dataset"])
    return {
        code: (category, is_aleatoric)
        for code, category, is_aleatoric in rows.select("error_code", "category", "is_aleatoric").iter_rows()
    }
