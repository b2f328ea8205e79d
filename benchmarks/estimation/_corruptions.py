"""Corrupted inputs, made by the product's own stress families."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.stress import TabularReference, choose_inputs, find_families

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.estimation._datasets import Dataset
    from mld_pipelines.stress import Family

__all__ = ["STRESS_SEVERITIES", "chosen_rows", "corrupt", "families_of"]

STRESS_SEVERITIES = (1, 3, 5)
"""Severities of the stress copies, as in the product's own pass."""


def families_of(data: Dataset) -> tuple[Family, ...]:
    """Return the families that fit the inputs; tables are standardised by their reference."""
    if data.modality == "image":
        return find_families("image")
    return find_families("tabular", reference=TabularReference.fit(data.inputs[data.splits["reference"]]))


def corrupt(family: Family, kind: str, inputs: NDArray[np.float32], *, severity: int, seed: int) -> NDArray[np.float32]:
    """Return the inputs under one kind at one severity.

    Args:
        family: Its family.
        kind: What corrupts.
        inputs: Inputs, first axis N.
        severity: 1 to 5.
        seed: Copies of reference inputs and held-out inputs need different ones: columns that are lost are drawn
            once for all inputs.
    """
    ids = [str(row) for row in range(len(inputs))]
    values = family.corrupt_batch(inputs, ids, kind=kind, severity=severity, seed=seed)
    return np.asarray(values)


def chosen_rows(n_reference: int, *, n: int) -> list[int]:
    """Return the reference rows that a stress pass of n inputs copies."""
    return sorted(int(row) for row in choose_inputs([str(row) for row in range(n_reference)], n=n, seed=0))
