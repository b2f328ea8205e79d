"""Recognise 3D detectors by their head, and turn what they return into canonical boxes with features.

One module per family; `docs/detectors.md` has the recipe for another.
"""

from __future__ import annotations

from mld_pipelines.adapters.detection3d._contract import (
    Adapter3D,
    Call,
    Candidates3D,
    Decoder3D,
    Frame3D,
    Raw,
    Setting,
    Settings3D,
    Tap,
)

__all__ = [
    "Adapter3D",
    "Call",
    "Candidates3D",
    "Decoder3D",
    "Frame3D",
    "Raw",
    "Setting",
    "Settings3D",
    "Tap",
]
