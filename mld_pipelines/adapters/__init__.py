"""Recognise what models return, where their features are, and which weights they have."""

from __future__ import annotations

from mld_pipelines.adapters._export import export_head
from mld_pipelines.adapters._fingerprint import fingerprint, weights_version
from mld_pipelines.adapters._hashing import input_hashes
from mld_pipelines.adapters._heads import Head, HeadSearch, head_named, pooled
from mld_pipelines.adapters._outputs import OutputKind, ScorePath, Verdict, judge_scores, score_candidates
from mld_pipelines.adapters._probe import Probe, Seen
from mld_pipelines.adapters._taps import CompiledTap, FeatureTap, Slot
from mld_pipelines.adapters._wrappers import is_compiled, is_data_parallel, unwrap

__all__ = [
    "CompiledTap",
    "FeatureTap",
    "Head",
    "HeadSearch",
    "OutputKind",
    "Probe",
    "ScorePath",
    "Seen",
    "Slot",
    "Verdict",
    "export_head",
    "fingerprint",
    "head_named",
    "input_hashes",
    "is_compiled",
    "is_data_parallel",
    "judge_scores",
    "pooled",
    "score_candidates",
    "unwrap",
    "weights_version",
]
