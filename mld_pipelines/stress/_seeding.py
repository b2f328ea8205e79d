"""Randomness that belongs to one input, kind and severity, and to nothing else."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["digest", "generator"]


def digest(*parts: object) -> bytes:
    """SHA-256 of the parts' texts, joined by a separator that no name holds."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()


def generator(*, seed: int, kind: str, severity: int, input_id: str | None) -> np.random.Generator:
    """Return the generator of one corrupted input: the same in any process, batch and order.

    Args:
        seed: Seed of the stress pass.
        kind: Name of the corruption.
        severity: 1 to 5.
        input_id: The input; None for draws that all inputs of this kind and severity share.
    """
    # `repr` tells the shared stream (None) from an input called "None".
    words = digest(seed, kind, severity, repr(input_id))
    return np.random.default_rng(int.from_bytes(words[:16], "little"))
