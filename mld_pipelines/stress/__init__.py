"""Corruption families: how inputs look when something is wrong. Pure functions over numpy.

A stress pass runs a model on corrupted copies of labelled inputs, so that its error estimate has seen a shift. What
an input becomes depends on (seed, input_id, kind, severity) only, never on the batch it came in.
"""

from __future__ import annotations

from mld_pipelines.stress._family import SEVERITIES, Corruption, Family, Kind
from mld_pipelines.stress._images import image_families
from mld_pipelines.stress._plan import MAX_INPUTS, StressPlan, StressSet, choose_inputs, plan_stress, stress_version
from mld_pipelines.stress._points import point_families
from mld_pipelines.stress._registry import find_families
from mld_pipelines.stress._tabular import TabularReference, tabular_families

__all__ = [
    "MAX_INPUTS",
    "SEVERITIES",
    "Corruption",
    "Family",
    "Kind",
    "StressPlan",
    "StressSet",
    "TabularReference",
    "choose_inputs",
    "find_families",
    "image_families",
    "plan_stress",
    "point_families",
    "stress_version",
    "tabular_families",
]
