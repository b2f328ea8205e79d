"""Scenes of detections for tests: those that the peers have judged (tests/metrics/peers) and random ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mld_pipelines.records import Detections3D, Truths3D

PEERS = Path(__file__).resolve().parents[1] / "metrics" / "peers"
"""Written by `PYTHON benchmarks/detection_peers.py write tests/metrics/peers`; the answers name versions and seed."""

_BATCH_COLUMNS = ("boxes", "labels", "velocities", "scores", "offsets", "points", "difficulty")


def judged(name):
    """Return the scene that a peer has judged and what it said."""
    with np.load(PEERS / f"{name}.npz") as stored:
        return dict(stored), json.loads((PEERS / f"{name}.json").read_text(encoding="utf-8"))


def batches(scene):
    """Return detections and truths of a scene of plain arrays."""
    return tuple(
        batch(**{c: scene[f"{kind}_{c}"] for c in _BATCH_COLUMNS if f"{kind}_{c}" in scene})
        for batch, kind in ((Detections3D, "detection"), (Truths3D, "truth"))
    )


def frames_of(batch, first, last):
    """Return consecutive frames as a batch of their own."""
    rows = slice(batch.offsets[first], batch.offsets[last])
    columns = {one.name: getattr(batch, one.name)[rows] for one in batch.columns()}
    return type(batch)(offsets=batch.offsets[first : last + 1] - batch.offsets[first], **columns)


def in_order(batch, order):
    """Return whole frames in another order."""
    return type(batch).from_frames([batch.frame(int(index)) for index in order])
