"""DETR-style heads of code bases around mmdet3d 0.x and its release candidates: BEVFormer, StreamPETR and their kin.

Sources: fundamentalvision/BEVFormer 66b65f3, `projects/mmdet3d_plugin/bevformer/{dense_heads,detectors}`;
exiawsh/StreamPETR 95f6470, `projects/mmdet3d_plugin/models/{dense_heads,detectors}`. They differ in the order of a
query's numbers and in the convention of the boxes; decoding is that of `_mmdet3d_query`. Both keep state between
frames and start anew when `scene_token` changes: hand over frames in their order.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._mmdet3d import Mmdet3dModel, mmdet3d_evidence
from mld_pipelines.adapters.detection3d._mmdet3d_query import QueryAdapter

if TYPE_CHECKING:
    from mld_pipelines.adapters.detection3d._contract import Call
    from mld_pipelines.adapters.detection3d._mmdet3d_query import Layout

__all__ = ["FAMILIES", "BevQueryAdapter"]


@dataclass(frozen=True, slots=True)
class _Heads:
    """What is peculiar to a code base.

    Attributes:
        family: Its name here.
        names: Class names of its heads.
        layout: Places of cx, cy, cz, two sizes and height among a query's numbers.
        usual: Convention of its boxes.
        architectures: Other names.
    """

    family: str
    names: tuple[str, ...]
    layout: Layout
    usual: str
    architectures: frozenset[str]


_TABLE = (
    # cx, cy, w, l, cz, h, sine, cosine, vx, vy; on mmdet3d 0.17
    _Heads("bevformer", ("BEVFormerHead",), (0, 1, 4, 2, 3, 5), "mmdet3d_v0", frozenset({"bevformer"})),
    # cx, cy, cz, l, w, h, sine, cosine, vx, vy (its variables call l and w by each other's name); on mmdet3d 1.0.0rc6
    _Heads(
        "streampetr",
        ("StreamPETRHead", "SparseHead", "PETRHeadDN"),
        (0, 1, 2, 3, 4, 5),
        "mmdet3d_v1",
        frozenset({"streampetr", "repdetr3d", "focalpetr"}),
    ),
)


class BevQueryAdapter(QueryAdapter):
    """Adapter of a code base of the table.

    Args:
        model: The detector.
        heads: Its row of the table.
        convention: Convention of the boxes; None: the row's, unless the class of the boxes says otherwise.
    """

    def __init__(self, model: Any, heads: _Heads, *, convention: str | None = None) -> None:
        super().__init__(model, family=heads.family, heads=heads.names, layout=heads.layout, convention=convention)
        self._detector = Mmdet3dModel(model, heads.names, convention=convention, usual=heads.usual)

    def call(self, inputs: Any) -> Call:
        """Return the call; metas are copied, since BEVFormer writes into `can_bus`."""
        call = self._detector.call(_nested(inputs))
        test = getattr(self._detector.model, "forward_test", None)
        rescale = inspect.signature(test).parameters.get("rescale") if callable(test) else None
        if rescale is None or rescale.default is not inspect.Parameter.empty or "rescale" in call.kwargs:
            return call
        return replace(call, kwargs={**call.kwargs, "rescale": True})


def _nested(inputs: Any) -> Any:
    """Return inputs with an image batch, and with the outer list of test-time augmentation around other tensors."""
    if not isinstance(inputs, Mapping):
        return inputs
    given = dict(inputs)
    if getattr(given.get("img"), "ndim", 0) == 4:
        given["img"] = given["img"][None]
    for name, value in given.items():
        first = value[0] if isinstance(value, (list, tuple)) and len(value) else None
        is_batch = hasattr(value, "ndim") or hasattr(first, "ndim")
        if is_batch and name not in {"img", "points"}:
            given[name] = [value]
    return given


def _family(heads: _Heads) -> Family:
    def matches(model: Any) -> tuple[str, ...] | None:
        return mmdet3d_evidence(model, heads.names)

    def build(model: Any, *, convention: str | None = None) -> BevQueryAdapter:
        return BevQueryAdapter(model, heads, convention=convention)

    return Family(heads.family, heads.architectures, matches, build)


FAMILIES = tuple(_family(heads) for heads in _TABLE)
