"""Recognise 3D detectors by their head, and turn what they return into canonical boxes with features.

One module per family; `docs/detectors.md` has the recipe for another.
"""

from __future__ import annotations

from mld_pipelines.adapters.detection3d._arguments import DETECTOR_ARGUMENTS, check_arguments
from mld_pipelines.adapters.detection3d._class_names import agreed_class_names
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
from mld_pipelines.adapters.detection3d._families import Family, families
from mld_pipelines.adapters.detection3d._frame_hashes import frame_hashes
from mld_pipelines.adapters.detection3d._guards import GuardedDecoder, collected
from mld_pipelines.adapters.detection3d._observe import Observed3D, observe, tapping, to_arrays
from mld_pipelines.adapters.detection3d._recognise import Recognised, identify, recognise
from mld_pipelines.adapters.detection3d._settings import resolve_settings

__all__ = [
    "DETECTOR_ARGUMENTS",
    "Adapter3D",
    "Call",
    "Candidates3D",
    "Decoder3D",
    "Family",
    "Frame3D",
    "GuardedDecoder",
    "Observed3D",
    "Raw",
    "Recognised",
    "Setting",
    "Settings3D",
    "Tap",
    "agreed_class_names",
    "check_arguments",
    "collected",
    "families",
    "frame_hashes",
    "identify",
    "observe",
    "recognise",
    "resolve_settings",
    "tapping",
    "to_arrays",
]
