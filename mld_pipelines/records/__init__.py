"""Value objects that travel between rooms."""

from __future__ import annotations

from mld_pipelines.records._identity import model_key, normalise_input_ids, split_model_key, uuid7

__all__ = ["model_key", "normalise_input_ids", "split_model_key", "uuid7"]
