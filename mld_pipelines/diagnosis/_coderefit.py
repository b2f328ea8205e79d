"""When a codebook is kept, refitted or grown, and which names survive (docs/method.md#reuse)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._codefit import CodebookFit, Reference, code_number, finish_fit
from mld_pipelines.diagnosis._lloyd import add_centroids, lloyd
from mld_pipelines.diagnosis._threads import one_thread
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.diagnosis._codebook import Codebook
    from mld_pipelines.diagnosis._policy import Policy

__all__ = ["grow", "needs_growth", "refit_warm", "unseen_excess"]

_NAME_KEPT = 0.5
"""Jaccard overlap on the new reference from which a cell keeps its name (docs/method.md#names)."""


def unseen_excess(unseen: int, n: int, *, unseen_ref: float, floor: float, factor: float, alpha: float = 0.05) -> bool:
    """Return whether a share of `UNSEEN` is surely above `max(floor, factor · unseen_ref)`.

    "Surely": the lower bound of the share at 1 − alpha (Jeffreys) exceeds it (docs/method.md#cross-fitting).

    Args:
        unseen: `UNSEEN` units.
        n: All units.
        unseen_ref: The codebook's cross-fitted share.
        floor: `policy.unseen_refit_floor` for the flag and the warm refit, `unseen_reevaluate_floor` for the trigger.
        factor: The multiple that belongs to it.
        alpha: One minus the confidence.

    Raises:
        InvalidInputError: Not 0 ≤ unseen ≤ n.
    """
    from scipy.special import betaincinv

    if not 0 <= unseen <= n:
        raise InvalidInputError(f"{unseen} of {n} units cannot be UNSEEN; pass 0 <= unseen <= n.")
    if unseen == 0:
        return False
    return bool(betaincinv(unseen + 0.5, n - unseen + 0.5, alpha) > max(floor, factor * unseen_ref))


def needs_growth(codebook: Codebook, n_reference: int, *, policy: Policy) -> bool:
    """Return whether the rule for the number of codes asks for at least twice those of the codebook."""
    return code_number(n_reference, policy=policy) >= 2 * codebook.n_codes


def refit_warm(codebook: Codebook, features: ArrayLike, probabilities: ArrayLike, *, policy: Policy) -> CodebookFit:
    """Return a new codebook of the same lineage: Lloyd from the old centroids in the old space.

    A cell keeps its name when its units and those of the old code of that name, on the new reference, have a Jaccard
    overlap of at least ½ (or neither has a unit: nothing speaks against it). The others continue the counter, by
    descending count. Names are never reused.

    Args:
        codebook: The old codebook.
        features: New reference, shape (N, feature_dim), rows in key order.
        probabilities: Shape (N, K).
        policy: Bound of the fitting sample and seed.

    Raises:
        InvalidInputError: A shape does not fit or a value is not finite.
    """
    return _refit(codebook, features, probabilities, policy=policy, codes=codebook.n_codes)


def grow(codebook: Codebook, features: ArrayLike, probabilities: ArrayLike, *, policy: Policy) -> CodebookFit:
    """Return a larger codebook of the same lineage: the old centroids, more by k-means++ given them, then Lloyd.

    The number of codes is that of the rule for the new reference, at least the old one. Names as in `refit_warm`.

    Raises:
        InvalidInputError: A shape does not fit or a value is not finite.
    """
    wanted = code_number(len(np.asarray(features)), policy=policy)
    return _refit(codebook, features, probabilities, policy=policy, codes=max(wanted, codebook.n_codes))


def _refit(
    codebook: Codebook, features: ArrayLike, probabilities: ArrayLike, *, policy: Policy, codes: int
) -> CodebookFit:
    reference = Reference.of(features, probabilities, identity=codebook.identity, policy=policy)
    with one_thread():
        places = reference.sampled_places(codebook.space)
        start = codebook.centroids
        if codes > len(start):
            # Seed 0 whatever the policy says: the rule fixes it, so that growth repeats on any machine.
            start = add_centroids(places, start, count=codes - len(start), seed=0)
        centroids = lloyd(places, start)
        blank = replace(
            codebook,
            centroids=centroids,
            radii=np.zeros(len(centroids)),
            reference_counts=np.zeros(len(centroids), dtype=np.int64),
            # Stand-ins until the overlap is known; the artifact never sees them.
            names=tuple(str(cell) for cell in range(len(centroids))),
            n_reference=len(reference.features),
            # The picture keeps its axes: a code that stays does not jump.
            code_map=codebook.map_of_codes(),
        )
        fit = finish_fit(blank, reference)
        before = codebook.assign(reference.features, reference.probabilities).index
    overlap = _jaccard(before, fit.assignment.index, codebook.n_codes)
    renamed = _rename(codebook, fit.codebook, overlap)
    return replace(fit, codebook=renamed, overlap=dict(zip(codebook.names, overlap.tolist(), strict=True)))


def _jaccard(before: NDArray[np.int64], after: NDArray[np.int64], n_codes: int) -> NDArray[np.float64]:
    """Return, per old code, |old ∩ new| / |old ∪ new| over the units; 1 where both are empty."""
    old, new = (np.bincount(index[(index >= 0) & (index < n_codes)], minlength=n_codes) for index in (before, after))
    both = np.bincount(before[(before >= 0) & (before == after)], minlength=n_codes)
    union = old + new - both
    return np.where(union > 0, both / np.maximum(union, 1), 1.0)


def _rename(old: Codebook, new: Codebook, overlap: NDArray[np.float64]) -> Codebook:
    kept = np.zeros(new.n_codes, dtype=np.bool_)
    kept[: old.n_codes] = overlap >= _NAME_KEPT
    names = [*old.names, *[""] * (new.n_codes - old.n_codes)]
    fresh = np.flatnonzero(~kept)
    fresh = fresh[np.argsort(-new.reference_counts[fresh], kind="stable")]
    for number, cell in enumerate(fresh.tolist(), start=old.next_name):
        names[cell] = f"{old.prefix}{number:03d}"
    return replace(new, names=tuple(names), next_name=old.next_name + len(fresh))
