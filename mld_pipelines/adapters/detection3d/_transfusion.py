"""The query head of TransFusion, as OpenPCDet, mit-han-lab BEVFusion and the original have it.

Sources: XuyangBai/TransFusion 73c596f, `dense_heads/transfusion_head.py:1285-1376`; mit-han-lab/bevfusion 326653d,
`heads/bbox/transfusion.py:715-841`; OpenPCDet 8cacccec, `dense_heads/transfusion_head.py:393-477`. Each query is one
box. Its score is sigmoid(class logit) times the heatmap's value at the cell where the query was born, in the class
that was born there and no other; nothing is suppressed by default. `rot` is (sin, cos) in all three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._native import natives
from mld_pipelines.adapters.detection3d._peaks import sigmoid
from mld_pipelines.adapters.detection3d._rows import Proposals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["born_scores", "query_proposals"]

_ROUND_CLASSES = {"nuScenes": (8, 9), "Waymo": (1, 2)}
"""Classes so small that every cell counts as a peak of its own."""


def query_proposals(
    head: Mapping[str, NDArray[Any]],
    *,
    convention: str,
    origin: NDArray[np.float64],
    cell: NDArray[np.float64],
    features: NDArray[np.float32] | None,
) -> Proposals:
    """Return every query of one frame as a proposal.

    Args:
        head: `heatmap` (C, P) logits, `born` (P,) scores of the cells, `labels` (P,), `center` (2, P) in cells,
            `height` (1, P) of the centre, `dim` (3, P) logarithms, `rot` (2, P) sine and cosine, optional `vel` (2, P).
        convention: Of the model's boxes; in `mmdet3d_…` they stand on their bottom.
        origin: Where x and y of the map start, metres.
        cell: Extent of a cell along x and y, metres.
        features: (P, D), or None.
    """
    logits = head["heatmap"].astype(np.float64)
    labels = head["labels"].astype(np.int64)
    classes = sigmoid(logits).T
    scores = classes[np.arange(len(labels)), labels] * head["born"].astype(np.float64)
    sizes = np.exp(head["dim"].T.astype(np.float64))
    bottom = sizes[:, 2:3] / 2 if convention.startswith("mmdet3d") else 0.0
    rows = [
        head["center"].T.astype(np.float64) * cell + origin,
        head["height"].T.astype(np.float64) - bottom,
        sizes,
        np.arctan2(head["rot"][0].astype(np.float64), head["rot"][1].astype(np.float64))[:, None],
    ]
    if "vel" in head:
        rows.append(head["vel"].T.astype(np.float64))
    return Proposals(
        natives(np.concatenate(rows, axis=1), scores, labels, convention=convention),
        index=np.arange(len(labels)),
        features=features,
        class_scores=classes.astype(np.float32),
    )


def born_scores(
    heatmap: NDArray[Any], labels: NDArray[Any], places: NDArray[Any], *, kernel: int, dataset: str
) -> NDArray[np.float64]:
    """Return the heatmap's value at the cells where queries were born; 0 where there is no peak.

    The head keeps local maxima only. If it has fewer of them than queries, the rest is born anywhere, with 0.

    Args:
        heatmap: (C, rows, columns) logits.
        labels: (P,) class of each query.
        places: (P, 2) x and y of the cells' middles, in cells.
        kernel: Width of the window in which a peak is the highest.
        dataset: `nuScenes` and `Waymo` have classes without a window.
    """
    heat = sigmoid(heatmap)
    columns, rows = np.floor(places.astype(np.float64)).astype(np.int64).T
    peaks = np.zeros(heat.shape, bool)
    margin = kernel // 2
    if margin and min(heat.shape[1:]) >= kernel:
        windows = np.lib.stride_tricks.sliding_window_view(heat, (kernel, kernel), axis=(1, 2))
        inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
        peaks[inner] = heat[inner] == windows.max(axis=(3, 4))
    else:
        peaks[:] = True
    for label in _ROUND_CLASSES.get(dataset, ()):
        peaks[label : label + 1] = True
    at = (labels.astype(np.int64), rows, columns)
    return np.where(peaks[at], heat[at], 0.0)
