"""The families of 3D detectors that are known, one module each; another is one entry more.

A module of a family ends with `FAMILY = Family(...)` and is named in `_MODULES`; nothing else has to change. The
template test and the ten lines are in `docs/detectors.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from mld_pipelines.adapters.detection3d._contract import Adapter3D

__all__ = ["Build", "Family", "families"]

_MODULES: tuple[str, ...] = (
    "_mmdet3d_anchor",
    "_mmdet3d_center",
    "_mmdet3d_plain",
    "_mmdet3d_query",
    "_mmdet3d_transfusion",
    "_bev_queries",
    "_det3d_centerformer",
    "_det3d_centerpoint",
    "_mit_bevfusion",
    "_openpcdet",
    "_openpcdet_anchor",
    "_openpcdet_center",
    "_openpcdet_roi",
    "_openpcdet_transfusion",
    "_openpcdet_voxelnext",
    "_plain_center",
    "_structural",
    "_zhulf_pointpillars",
)
"""Modules of this package with a `FAMILY` (or several as `FAMILIES`). The order has no meaning: two that accept the
same model are an error that names both."""


class Build(Protocol):
    """Makes the adapter of one live model."""

    def __call__(self, model: Any, *, convention: str | None = None) -> Adapter3D:
        """Return the adapter of an unwrapped model.

        Args:
            model: The detector itself; it is never changed.
            convention: Convention of the boxes it returns, where the weights were trained under another version than
                the one that runs; None finds out.
        """


@dataclass(frozen=True, slots=True)
class Family:
    """One family: how to recognise it, and how to build its adapter.

    Attributes:
        name: Code base and head, e.g. `mmdet3d-centerpoint`; what `Adapter3D.family` says.
        architectures: Names that `architecture=` takes besides `name`: `centerpoint`, `bevdet`, ….
        matches: Returns the observations that speak for the family, or None. It sees the unwrapped model, looks at
            names and attributes only (never `isinstance` against an optional library), and never calls the model.
        build: Makes the adapter; with `architecture=name` it is called even if `matches` returns None.
        is_fallback: Asked only if no other family accepts the model.
    """

    name: str
    architectures: frozenset[str]
    matches: Callable[[Any], tuple[str, ...] | None]
    build: Build
    is_fallback: bool = False


@cache
def families() -> tuple[Family, ...]:
    """Return every known family."""
    found: list[Family] = []
    for name in _MODULES:
        module = import_module(f"{__package__}.{name}")
        found += getattr(module, "FAMILIES", None) or (module.FAMILY,)
    return tuple(found)
