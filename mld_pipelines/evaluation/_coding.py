"""Error codes of a population: reuse, refit or fit a codebook, then assign every unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import (
    UNCODED,
    UNSEEN_INDEX,
    Codebook,
    CodebookIdentity,
    code_histogram,
    cross_fit_codes,
    fit_codebook,
    grow,
    needs_growth,
    refit_warm,
    unseen_excess,
)
from mld_pipelines.records import split_model_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from mld_pipelines.diagnosis import CodebookFit, Policy
    from mld_pipelines.evaluation._population import Population

__all__ = ["Coding", "code_units", "identity_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """Codes of all units of a population.

    Attributes:
        codebook: The codebook, or None where features are missing or the reference has fewer than 60 units.
        index: Position in the codebook's names, −1 for UNSEEN; (N,) int64.
        names: Code name per unit.
        distance: Distance to the nearest centroid; NaN without a codebook.
        reference_names: Cross-fitted code names of the reference rows: the drift baseline.
        previous_id: Codebook that was reused or refitted from.
        warnings: What a reader should know.
        refit_overlap: Jaccard overlap of each code with the same cell before a refit; empty without one.
    """

    codebook: Codebook | None
    index: npt.NDArray[np.int64]
    names: npt.NDArray[np.str_]
    distance: npt.NDArray[np.float64]
    reference_names: npt.NDArray[np.str_]
    previous_id: str | None = None
    warnings: tuple[str, ...] = ()
    refit_overlap: Mapping[str, float] = field(default_factory=dict)


def identity_of(population: Population, *, model_key: str, fingerprint: str, policy: Policy) -> CodebookIdentity | None:
    """Return what a codebook of this population may be reused for; None without features."""
    if population.features is None or population.feature_layer is None:
        return None
    return CodebookIdentity(
        model_name=split_model_key(model_key)[0],
        fingerprint=fingerprint,
        feature_layer=population.feature_layer,
        feature_dim=population.features.shape[1],
        output_kind=population.output_kind,
        n_classes=population.n_classes,
        sqrt_p_weight=policy.sqrt_p_weight,
    )


def code_units(
    features: npt.NDArray[np.float32] | None,
    probabilities: npt.NDArray[np.float64],
    reference: npt.NDArray[np.bool_],
    *,
    identity: CodebookIdentity | None,
    candidates: Iterable[Codebook],
    policy: Policy,
    prefix: str = "E",
) -> Coding:
    """Assign a code to every unit (docs/method.md#codes).

    Args:
        features: (N, d), or None without a feature layer.
        probabilities: (N, K) float64.
        reference: True for the units of the decision dataset.
        identity: What a codebook has to fit; None gives no codes.
        candidates: Codebooks of earlier results, the preferred one first.
        policy: Bounds and seed.
        prefix: Letter of the names in a first codebook.
    """
    warnings, overlap = tuple[str, ...](), dict[str, float]()
    if identity is None or features is None:
        return _uncoded(len(probabilities), reference, ())
    h, p = features[reference], probabilities[reference]
    previous = next((book for book in candidates if book.fits(identity)), None)
    if previous is None:
        fit = fit_codebook(h, p, identity=identity, policy=policy, prefix=prefix) if len(h) else None
        if fit is None:
            note = f"the reference has {len(h)} units, fewer than {policy.n_ref_min}: no codebook was made."
            return _uncoded(len(probabilities), reference, (note,))
        codebook, held_out = fit.codebook, fit.cross_fitted
    else:
        codebook, held_out, warnings, overlap = _continue(previous, h, p, policy=policy)
    assignment = codebook.assign(features, probabilities)
    return Coding(
        codebook=codebook,
        index=assignment.index,
        names=codebook.code_names(assignment.index),
        distance=assignment.distance,
        reference_names=codebook.code_names(held_out),
        previous_id=previous.codebook_id if previous else None,
        warnings=warnings,
        refit_overlap=overlap,
    )


def _continue(
    previous: Codebook, h: npt.NDArray[np.float32], p: npt.NDArray[np.float64], *, policy: Policy
) -> tuple[Codebook, npt.NDArray[np.int64], tuple[str, ...], dict[str, float]]:
    """Reuse a codebook, or refit it when the reference has left it or outgrown it."""
    if needs_growth(previous, len(h), policy=policy):
        fit = grow(previous, h, p, policy=policy)
        note = (
            f"the codebook grew from {previous.n_codes} to {fit.codebook.n_codes} codes; most names keep their place."
        )
        return fit.codebook, fit.cross_fitted, (note,), _overlap_by_name(previous, fit)
    index = previous.assign(h, p).index
    unseen = int(code_histogram(index, n_codes=previous.n_codes)[-1])
    outside = unseen_excess(
        unseen,
        len(h),
        unseen_ref=previous.unseen_ref,
        floor=policy.unseen_refit_floor,
        factor=policy.unseen_refit_factor,
        alpha=policy.alpha,
    )
    if outside:
        fit = refit_warm(previous, h, p, policy=policy)
        note = f"{unseen} of {len(h)} reference units were UNSEEN: the codebook was refitted."
        return fit.codebook, fit.cross_fitted, (note,), _overlap_by_name(previous, fit)
    return previous, cross_fit_codes(previous, h, p, policy=policy), (), {}


def _overlap_by_name(previous: Codebook, fit: CodebookFit) -> dict[str, float]:
    """Return the overlap of every cell that was there before, under its present name; added cells have none."""
    return {now: fit.overlap[before] for now, before in zip(fit.codebook.names, previous.names, strict=False)}


def _uncoded(n: int, reference: npt.NDArray[np.bool_], warnings: tuple[str, ...]) -> Coding:
    names = np.full(n, UNCODED)
    return Coding(
        codebook=None,
        index=np.full(n, UNSEEN_INDEX, dtype=np.int64),
        names=names,
        distance=np.full(n, np.nan),
        reference_names=names[reference],
        warnings=warnings,
    )
