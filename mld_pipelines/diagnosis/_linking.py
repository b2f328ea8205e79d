"""Link the codes of two lineages by the units they share (docs/method.md#names)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._codebook import UNCODED, UNSEEN

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CodeLink", "link_codes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeLink:
    """Two codes of different lineages that describe the same place best.

    Attributes:
        code_a: Code of the first lineage.
        code_b: Code of the second.
        jaccard: Shared units over units in either, among the common units.
        shared: Common units in both codes.
        units_a: Common units in `code_a`.
        units_b: Common units in `code_b`.
    """

    code_a: str
    code_b: str
    jaccard: float
    shared: int
    units_a: int
    units_b: int


def link_codes(a_units: Mapping[str, str], b_units: Mapping[str, str]) -> tuple[CodeLink, ...]:
    """Return the one-to-one matching of codes with the largest total Jaccard overlap, sorted by `code_a`.

    Only units present in both count; `UNSEEN` and `UNCODED` are no places and are not linked; pairs without a shared
    unit are left out, so that a code may stay without a partner.

    Args:
        a_units: Code name by unit key, first lineage.
        b_units: Code name by unit key, second lineage.
    """
    from scipy.optimize import linear_sum_assignment

    pairs = [(a_units[key], b_units[key]) for key in a_units.keys() & b_units.keys()]
    counts_a, counts_b, shared = Counter(a for a, _ in pairs), Counter(b for _, b in pairs), Counter(pairs)
    # Sorted by name: the matching must not depend on the order in which units arrive.
    codes_a, codes_b = (sorted(counts.keys() - {UNSEEN, UNCODED}) for counts in (counts_a, counts_b))
    rows, columns = ({code: i for i, code in enumerate(codes)} for codes in (codes_a, codes_b))
    overlap = np.zeros((len(codes_a), len(codes_b)))
    for (a, b), count in shared.items():
        if a in rows and b in columns:
            overlap[rows[a], columns[b]] = count / (counts_a[a] + counts_b[b] - count)
    matched = zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
    return tuple(
        CodeLink(
            code_a=codes_a[i],
            code_b=codes_b[j],
            jaccard=float(overlap[i, j]),
            shared=shared[codes_a[i], codes_b[j]],
            units_a=counts_a[codes_a[i]],
            units_b=counts_b[codes_b[j]],
        )
        for i, j in matched
        if overlap[i, j] > 0.0
    )
