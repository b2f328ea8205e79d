"""Thresholds that an evaluated detector was traced with."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from mld_pipelines.capture import EmbeddedSink, can_use_frames

if TYPE_CHECKING:
    from mld_pipelines.adapters.detection3d import Setting, Settings3D
    from mld_pipelines.capture import Sink
    from mld_pipelines.lake import Lake

__all__ = ["traced_settings"]

_log = logging.getLogger("mld_pipelines.monitoring")


def traced_settings(sink: Sink, result_name: str | None, *, of_model: Settings3D) -> dict[str, Any]:
    """Return what decided the record behind a result by name: `score_thresh`, `iou_thresh` and so on.

    What the model said then and says here is left out: it applies its limits itself, and the record of the result was
    not cut by them. Nothing where there is no such result: scoring says so.

    Args:
        sink: Where the result is stored.
        result_name: Name of the result, or None.
        of_model: What the model says here.
    """
    if result_name is None or not isinstance(sink, EmbeddedSink) or not can_use_frames():
        return {}
    try:
        text = _traced(sink.lake, result_name)
        recorded = json.loads(text) if text else {}
        return {
            name: setting["value"]
            for name, setting in recorded.items()
            if setting["value"] is not None and not _is_the_models(setting["source"], getattr(of_model, name, None))
        }
    except Exception as error:
        _log.debug("no settings of result %r: %s", result_name, error)
        return {}


def _traced(lake: Lake, result_name: str) -> str | None:
    """Return the settings of the frames that decided a result, of its latest epoch."""
    import polars as pl

    from mld_pipelines.evaluation import load_result
    from mld_pipelines.tables import TRACES_INPUTS

    stored = load_result(lake, result_name)
    version = json.loads(stored.row["input_versions"]).get(TRACES_INPUTS.name)
    epoch = pl.lit(stored.row["epochs"][-1], dtype=pl.Int64)
    frames = lake.scan(TRACES_INPUTS, version=version, model_key=stored.model_key).filter(
        pl.col("n_epoch").eq_missing(epoch),
        pl.col("dataset_type") == stored.row["decision_dataset"],
        pl.col("settings").is_not_null(),
    )
    found = frames.select("settings").head(1).collect()["settings"].to_list()
    return found[0] if found else None


def _is_the_models(source: str, of_model: Setting | None) -> bool:
    return source.startswith("model:") and of_model is not None and of_model.source.startswith("model:")
