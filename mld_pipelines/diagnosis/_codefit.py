"""Fit a codebook on a reference, and cross-fit it for honest shares."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._codebook import (
    UNSEEN_INDEX,
    CodeAssignment,
    Codebook,
    CodebookIdentity,
    CodeSpace,
    check_probabilities,
    nearest_cells,
    radii_with_margin,
)
from mld_pipelines.diagnosis._codemap import fit_code_map
from mld_pipelines.diagnosis._lloyd import lloyd
from mld_pipelines.diagnosis._projection import check_features, fit_projection, principal_axes
from mld_pipelines.diagnosis._threads import one_thread
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.diagnosis._policy import Policy

__all__ = [
    "CodebookFit",
    "Reference",
    "code_histogram",
    "code_number",
    "cross_fit_codes",
    "finish_fit",
    "fit_codebook",
    "one_thread",
]

_FOLDS = 5
_RADIUS_QUANTILE = 0.995
_RADIUS_MIN_UNITS = 20
"""Below this many units the 0.995 quantile is an extrapolation; the maximum is taken (docs/method.md#radii)."""
_VARIANCE_KEPT = 0.95
_STARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodebookFit:
    """A codebook together with the codes of the reference it was fitted on.

    Attributes:
        codebook: The codebook.
        assignment: Codes of the reference rows under it.
        cross_fitted: Codes of the same rows, each from a refit that did not see the row; int64, −1 is `UNSEEN`.
            Their histogram is the drift baseline (docs/method.md#cross-fitting).
        overlap: Jaccard overlap of every old name with the cell that now stands in its place; empty for a first fit.
    """

    codebook: Codebook
    assignment: CodeAssignment
    cross_fitted: NDArray[np.int64]
    overlap: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Checked reference rows, the seeded row sample that fits use, and the fold of every row."""

    features: NDArray[np.floating]
    probabilities: NDArray[np.floating]
    sample: NDArray[np.int64]
    folds: NDArray[np.int64]

    @classmethod
    def of(
        cls, features: ArrayLike, probabilities: ArrayLike, *, identity: CodebookIdentity, policy: Policy
    ) -> Reference:
        """Return the checked reference; rows have to be in key order for the result not to depend on theirs."""
        h = check_features(features, width=identity.feature_dim)
        p = check_probabilities(probabilities, n_units=len(h), n_classes=identity.n_classes)
        if not len(h):
            raise InvalidInputError("the reference has no units; trace a dataset before evaluating.")
        order = np.random.default_rng(policy.seed).permutation(len(h))
        folds = np.empty(len(h), dtype=np.int64)
        folds[order] = np.arange(len(h)) % _FOLDS
        return cls(features=h, probabilities=p, sample=np.sort(order[: policy.codebook_fit_limit]), folds=folds)

    def sampled_places(self, space: CodeSpace) -> NDArray[np.float32]:
        """Return the places of the sample, float32."""
        return space.places(self.features[self.sample], self.probabilities[self.sample]).astype(np.float32)


def code_number(n_reference: int, *, policy: Policy) -> int:
    """Return K = clamp(round(N / 50), 8, 512) with the numbers of the policy."""
    # floor(x + ½): Python's round would send 12.5 down and 13.5 up.
    wanted = int(np.floor(n_reference / policy.units_per_code + 0.5))
    return min(max(wanted, policy.codes_min), policy.codes_max)


def fit_codebook(
    features: ArrayLike, probabilities: ArrayLike, *, identity: CodebookIdentity, policy: Policy, prefix: str = "E"
) -> CodebookFit | None:
    """Return a first codebook for a model, or None when the reference has fewer than `policy.n_ref_min` units.

    k-means runs on at most `policy.codebook_fit_limit` rows and then assigns all, so that cost is linear in N. Names
    are numbered by descending count of reference units.

    Args:
        features: Reference features, shape (N, d), rows in key order.
        probabilities: Shape (N, K).
        identity: What the codebook may be reused for; its weight of √p is used.
        policy: Number of codes, bounds and seed.
        prefix: Letter of the names.

    Raises:
        InvalidInputError: A shape does not fit or a value is not finite.
    """
    reference = Reference.of(features, probabilities, identity=identity, policy=policy)
    if len(reference.features) < policy.n_ref_min:
        return None
    with one_thread("sklearn.cluster"):
        space = _fit_space(reference, identity=identity, policy=policy)
        centroids = _first_centroids(reference.sampled_places(space), len(reference.features), policy=policy)
        names = tuple(f"{prefix}{number:03d}" for number in range(1, len(centroids) + 1))
        blank = Codebook(
            identity=identity,
            space=space,
            centroids=centroids,
            radii=np.zeros(len(centroids)),
            reference_counts=np.zeros(len(centroids), dtype=np.int64),
            names=names,
            next_name=len(names) + 1,
            prefix=prefix,
            lineage_id="",
            n_reference=len(reference.features),
            unseen_ref=0.0,
            seed=policy.seed,
        )
        fit = _sort_by_count(finish_fit(blank, reference))
    # The lineage is named by content: the same reference gives the same codebook, byte by byte.
    lineage = hashlib.sha256(fit.codebook.to_bytes()).hexdigest()[:32]
    return replace(fit, codebook=replace(fit.codebook, lineage_id=lineage))


def cross_fit_codes(
    codebook: Codebook, features: ArrayLike, probabilities: ArrayLike, *, policy: Policy
) -> NDArray[np.int64]:
    """Return the code of every reference row from a refit without its fold; int64, shape (N,), −1 is `UNSEEN`.

    Five folds, each a warm refit of the codebook with radii of its own (docs/method.md#cross-fitting). Use it for a
    codebook that is reused; `fit_codebook` returns the same array with its fit.

    Raises:
        InvalidInputError: A shape does not fit or a value is not finite.
    """
    reference = Reference.of(features, probabilities, identity=codebook.identity, policy=policy)
    with one_thread():
        folds = _fold_centroids(codebook, reference)
        nearest, distance = nearest_cells(codebook.space, folds, reference.features, reference.probabilities)
        return _held_out_codes(nearest, distance, reference.folds, codebook.n_codes)


def finish_fit(blank: Codebook, reference: Reference) -> CodebookFit:
    """Return the codebook with radii, counts and `unseen_ref` from one pass over the reference."""
    partitions = [blank.centroids, *_fold_centroids(blank, reference)]
    nearest, distance = nearest_cells(blank.space, partitions, reference.features, reference.probabilities)
    radii = _cell_radii(nearest[0], distance[0], blank.n_codes)
    cross_fitted = _held_out_codes(nearest[1:], distance[1:], reference.folds, blank.n_codes)
    codebook = replace(
        blank,
        radii=radii,
        reference_counts=np.bincount(nearest[0], minlength=blank.n_codes).astype(np.int64),
        unseen_ref=float(np.mean(cross_fitted == UNSEEN_INDEX)),
    )
    return CodebookFit(codebook=codebook, assignment=_decide(nearest[0], distance[0], radii), cross_fitted=cross_fitted)


def code_histogram(index: ArrayLike, *, n_codes: int) -> NDArray[np.int64]:
    """Return the units per code and, as the last entry, of `UNSEEN`; int64, shape (n_codes + 1,).

    Raises:
        InvalidInputError: An index is outside −1 … n_codes − 1.
    """
    codes = np.asarray(index, dtype=np.int64)
    if codes.size and not UNSEEN_INDEX <= codes.min() <= codes.max() < n_codes:
        raise InvalidInputError(f"code indices {codes.min()} … {codes.max()} do not fit a codebook of {n_codes} codes.")
    return np.bincount(np.where(codes == UNSEEN_INDEX, n_codes, codes), minlength=n_codes + 1).astype(np.int64)


def _fit_space(reference: Reference, *, identity: CodebookIdentity, policy: Policy) -> CodeSpace:
    sample = reference.features[reference.sample]
    projection = fit_projection(sample, limit=policy.feature_limit, seed=policy.seed)
    mean, axes, variances = principal_axes(projection.embed(sample))
    # Variance below rounding (a constant feature) is no direction: the place is then √p alone.
    real = int(np.sum(variances > 1e-12 * max(1.0, float((mean**2).sum()))))
    kept = 0
    if real:
        share = np.cumsum(variances[:real]) / variances[:real].sum()
        kept = min(real, int(np.searchsorted(share, _VARIANCE_KEPT) + 1))
    return CodeSpace(
        projection=projection,
        mean=mean,
        axes=np.ascontiguousarray(axes[:, :kept]),
        scale=float(np.sqrt(variances[:kept].sum())) if kept else 1.0,
        sqrt_p_weight=identity.sqrt_p_weight,
        n_classes=identity.n_classes,
    )


def _first_centroids(places: NDArray[np.float32], n_reference: int, *, policy: Policy) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    wanted = min(code_number(n_reference, policy=policy), len(np.unique(places, axis=0)))
    with warnings.catch_warnings():
        # Places that float32 can hardly tell apart fill fewer cells; the empty ones are left out below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = KMeans(wanted, n_init=_STARTS, random_state=policy.seed, max_iter=100, copy_x=True).fit(places)
    filled = np.unique(fitted.labels_)
    centroids: NDArray[np.float32] = np.ascontiguousarray(fitted.cluster_centers_[filled], dtype=np.float32)
    return centroids


def _sort_by_count(fit: CodebookFit) -> CodebookFit:
    """Return the fit with its cells in descending order of reference units, so that the first is `E001`."""
    order = np.argsort(-fit.codebook.reference_counts, kind="stable")
    position = np.empty(len(order) + 1, dtype=np.int64)
    position[order], position[UNSEEN_INDEX] = np.arange(len(order)), UNSEEN_INDEX
    book, old = fit.codebook, fit.assignment
    sorted_book = replace(
        book,
        centroids=np.ascontiguousarray(book.centroids[order]),
        radii=book.radii[order],
        reference_counts=book.reference_counts[order],
        code_map=fit_code_map(book.centroids[order]),
    )
    assignment = replace(old, index=position[old.index], nearest=position[old.nearest])
    return CodebookFit(codebook=sorted_book, assignment=assignment, cross_fitted=position[fit.cross_fitted])


def _fold_centroids(codebook: Codebook, reference: Reference) -> list[NDArray[np.float32]]:
    places = reference.sampled_places(codebook.space)
    folds = reference.folds[reference.sample]
    # A fold can be the whole of a tiny reference only when N < 5; the codebook itself then stands in.
    return [
        lloyd(places[folds != fold], codebook.centroids) if (folds != fold).any() else codebook.centroids
        for fold in range(_FOLDS)
    ]


def _held_out_codes(
    nearest: list[NDArray[np.int64]], distance: list[NDArray[np.float64]], folds: NDArray[np.int64], n_codes: int
) -> NDArray[np.int64]:
    codes = np.empty(len(folds), dtype=np.int64)
    for fold, (cells, apart) in enumerate(zip(nearest, distance, strict=True)):
        held = folds == fold
        radii = _cell_radii(cells[~held], apart[~held], n_codes)
        codes[held] = _decide(cells[held], apart[held], radii).index
    return codes


def _decide(nearest: NDArray[np.int64], distance: NDArray[np.float64], radii: NDArray[np.float64]) -> CodeAssignment:
    inside = distance <= radii_with_margin(radii)[nearest]
    return CodeAssignment(index=np.where(inside, nearest, UNSEEN_INDEX), nearest=nearest, distance=distance)


def _cell_radii(nearest: NDArray[np.int64], distance: NDArray[np.float64], n_codes: int) -> NDArray[np.float64]:
    order = np.lexsort((distance, nearest))
    stops = np.cumsum(np.bincount(nearest, minlength=n_codes))
    radii = np.zeros(n_codes)
    for cell, stop in enumerate(stops):
        inside = distance[order[(stops[cell - 1] if cell else 0) : stop]]
        if len(inside) >= _RADIUS_MIN_UNITS:
            radii[cell] = np.quantile(inside, _RADIUS_QUANTILE)
        elif len(inside):
            radii[cell] = inside[-1]
    return radii
