"""What corruptions did to a detector, before an evaluation has matched its boxes: objects that it no longer found."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from mld_pipelines.capture import from_frame
from mld_pipelines.tables import LANDING_STRESS, LANDING_TRACES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mld_pipelines.lake import Lake

__all__ = ["objects_lost"]

_NEAR_M = 2.0
"""Distance along the ground within which a recorded box counts for an object: the widest of nuScenes."""

_SET = ["family", "severity"]
_KEY = ["model_key", "dataset_type", "n_epoch", "fingerprint", "input_id"]


class _Objects(NamedTuple):
    """Centres (N, 2) and classes (N,) of boxes in one frame."""

    centres: NDArray[np.float64]
    labels: NDArray[np.int64]


def objects_lost(lake: Lake, stream_id: str) -> pl.DataFrame:
    """Return family, severity and objects_lost of a detector's stress pass.

    An object is found where a recorded box of its class lies within 2 m of it. Of those found in the originals,
    `objects_lost` is the share that was not found in the copies; null where none was found.

    Args:
        lake: Where copies and originals are.
        stream_id: Stream of the pass.
    """
    copies = lake.scan(LANDING_STRESS, stream_id=stream_id)
    found = _found_objects(lake, copies)
    rows = []
    for family, severity in copies.select(_SET).unique().sort(_SET).collect().iter_rows():
        one = copies.filter((pl.col("family") == family) & (pl.col("severity") == severity))
        frame = one.select("input_id", "boxes_3d", "labels").collect()
        pairs = [
            (found[input_id], boxes)
            for input_id, boxes in zip(frame["input_id"], _boxes(frame, "boxes_3d", "labels"), strict=True)
            if input_id in found
        ]
        total = sum(len(objects.labels) for objects, _ in pairs)
        kept = sum(int(_is_found(objects, boxes).sum()) for objects, boxes in pairs)
        rows.append((family, severity, 1.0 - kept / total if total else None))
    schema = {"family": pl.String, "severity": pl.Int32, "objects_lost": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _found_objects(lake: Lake, copies: pl.LazyFrame) -> dict[str, _Objects]:
    """Return the objects that the detector found in each original, by input id."""
    keys = copies.rename({"source_dataset": "dataset_type"}).select(_KEY).unique()
    columns = ["truth_boxes_3d", "truth_labels", "boxes_3d", "labels"]
    models = copies.select(pl.col("model_key").unique()).collect()["model_key"].to_list()
    own = lake.scan(LANDING_TRACES).filter(pl.col("model_key").is_in(models))  # else boxes of every model are read
    traced = own.join(keys, on=_KEY, how="semi", nulls_equal=True).sort("ingested_at")
    frame = traced.select("input_id", *columns).unique("input_id", keep="last", maintain_order=True).collect()
    truths, boxes = _boxes(frame, "truth_boxes_3d", "truth_labels"), _boxes(frame, "boxes_3d", "labels")
    found = {}
    for input_id, objects, recorded in zip(frame["input_id"], truths, boxes, strict=True):
        is_found = _is_found(objects, recorded)
        found[input_id] = _Objects(objects.centres[is_found], objects.labels[is_found])
    return found


def _boxes(frame: pl.DataFrame, boxes: str, labels: str) -> Iterator[_Objects]:
    """Yield the boxes of each row."""
    columns = from_frame(frame.select(boxes, labels))
    values, classes = np.asarray(columns[boxes].values), np.asarray(columns[labels].values)
    centres = values.astype(np.float64).reshape(-1, 7)[:, :2]
    for start, stop in pairwise(columns[labels].offsets.tolist()):
        yield _Objects(centres[start:stop], classes[start:stop].astype(np.int64))


def _is_found(objects: _Objects, boxes: _Objects) -> NDArray[np.bool_]:
    """Return (N,) whether a box of its class lies near each object."""
    distance = np.linalg.norm(objects.centres[:, None] - boxes.centres[None], axis=2)
    near = (distance <= _NEAR_M) & (objects.labels[:, None] == boxes.labels[None])
    found: NDArray[np.bool_] = near.any(axis=1)
    return found
