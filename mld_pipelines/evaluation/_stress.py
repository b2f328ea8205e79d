"""What an evaluation makes of stressed copies: the window map, and nothing else (docs/method.md#stress)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import UNSEEN_INDEX, ReferenceUnits, StressedCopies, fit_window_map
from mld_pipelines.evaluation._stress_promotion import STRESS_WARNING
from mld_pipelines.evaluation._vectors import to_matrix, widths
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import unit_statistics
from mld_pipelines.stress import stress_version
from mld_pipelines.tables import TRACES_STRESS

if TYPE_CHECKING:
    import numpy.typing as npt

    from mld_pipelines.diagnosis import WindowMap
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._estimation import Estimation
    from mld_pipelines.evaluation._plan import EvaluationPlan
    from mld_pipelines.evaluation._population import Population
    from mld_pipelines.lake import Lake

__all__ = ["STRESS_SET", "Verification", "load_copies", "scan_copies", "verify_windows", "version_of"]

#: Originals that a map needs. With 100 the estimate was no better than without a stress pass, with 400 it was
#: (measured on four models); between the two nothing was measured.
MIN_ORIGINALS = 200

STRESS_SET = ["family", "kind", "severity"]
"""What copies were made in one way by."""

_VECTORS = ["logits", "probs", "feature"]


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """What stressed copies told about the window estimate.

    Attributes:
        artifact_values: The row of `estimators/models` without its attempt columns; empty without a map.
        warnings: Why there is no map although copies exist.
    """

    artifact_values: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, artifact: bytes, facts: dict[str, Any]) -> Verification:
        """A fitted map with what it verified, for people.

        Args:
            artifact: The map.
            facts: Among them `families`.
        """
        row = {
            "kind": "window_map",
            "artifact": artifact,
            "parameters": json.dumps(facts, sort_keys=True),
            "metrics": json.dumps({"families": facts["families"]}, sort_keys=True),
        }
        return cls(artifact_values=(row,))


def load_copies(
    lake: Lake, plan: EvaluationPlan, n_epoch: int | None, *, fingerprint: str, dataset: str
) -> pl.DataFrame:
    """Return the finished stressed copies of one dataset under one set of weights; no rows where there are none.

    Args:
        lake: The lake.
        plan: Names the model and the version to read.
        n_epoch: Epoch of the weights.
        fingerprint: The weights.
        dataset: Dataset that the originals belong to.
    """
    copies = scan_copies(lake, plan, n_epoch, fingerprint=fingerprint, dataset=dataset)
    return copies.select("input_id", *STRESS_SET, "seed", "family_version", *_VECTORS).collect()


def scan_copies(
    lake: Lake, plan: EvaluationPlan, n_epoch: int | None, *, fingerprint: str, dataset: str
) -> pl.LazyFrame:
    """Return the same with all columns, not read yet.

    Args:
        lake: The lake.
        plan: Names the model and the version to read.
        n_epoch: Epoch of the weights.
        fingerprint: The weights.
        dataset: Dataset that the originals belong to.
    """
    version = plan.input_versions.get(TRACES_STRESS.name)
    if version is None:
        return TRACES_STRESS.empty().lazy()
    return lake.scan(TRACES_STRESS, version=version, model_key=plan.model_key).filter(
        (pl.col("fingerprint") == fingerprint)
        & (pl.col("source_dataset") == dataset)
        & pl.col("n_epoch").eq_missing(pl.lit(n_epoch, dtype=pl.Int64))
    )


def verify_windows(
    copies: pl.DataFrame | None,
    population: Population,
    coding: Coding,
    estimation: Estimation,
    reference: npt.NDArray[np.bool_],
    *,
    seed: int,
) -> Verification:
    """Fit and verify the window map of one epoch; a pass it cannot be fitted on leaves a warning.

    Args:
        copies: Rows of `load_copies`; None or no rows without a stress pass.
        population: The epoch's units.
        coding: Their codes.
        estimation: The fit of the error estimator.
        reference: True for the units of the decision dataset.
        seed: Of the training windows.
    """
    if copies is None or copies.is_empty():
        return Verification()
    try:
        stressed = _with_origins(copies, population, reference)
        units = _units(stressed, population, reference)
        fitted = _fit(stressed, units, coding, estimation, reference, seed=seed)
    except InvalidInputError as error:
        return Verification(warnings=(f"{STRESS_WARNING}{error}",))
    return Verification.of(fitted.to_bytes(), _facts(stressed, fitted))


def _with_origins(copies: pl.DataFrame, population: Population, reference: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """Copies of present reference units, sorted, with the reference row (`origin`) and the set (`set_index`) of each.

    Raises:
        InvalidInputError: Too few originals are left.
    """
    originals = population.frame.filter(pl.Series(reference)).select("input_id").with_row_index("origin")
    sets = copies.select(STRESS_SET).unique().sort(STRESS_SET).with_row_index("set_index")
    found = copies.join(originals, on="input_id").join(sets, on=STRESS_SET).sort("set_index", "origin")
    count = found["origin"].n_unique()
    if count < MIN_ORIGINALS:
        raise InvalidInputError(
            f"it holds copies of {count} reference units, {MIN_ORIGINALS} are needed. The estimate stays as without a "
            "stress pass; label more units and run the pass again."
        )
    return found


def _units(stressed: pl.DataFrame, population: Population, reference: npt.NDArray[np.bool_]) -> ReferenceUnits:
    """What the model made of the copies, in the columns that the reference has; labels are those of the originals.

    Raises:
        InvalidInputError: A column is missing or has another width.
    """
    given = {"logits": population.logits, "probs": population.probabilities, "feature": population.features}
    found: dict[str, npt.NDArray[np.float32] | None] = {}
    for name, values in given.items():
        found[name] = None
        if values is not None:
            if widths(stressed, name) != [values.shape[1]]:
                raise InvalidInputError(
                    f"its {name} have the widths {widths(stressed, name)} (None = missing), those of the traced units "
                    f"{values.shape[1]}. Run the stress pass with the model and layer that were traced."
                )
            found[name] = to_matrix(stressed, name)
    origins = stressed["origin"].to_numpy()
    return ReferenceUnits(
        labels=population.frame["label"].to_numpy()[reference][origins],
        keys=stressed["input_id"].to_list(),
        logits=found["logits"],
        probabilities=found["probs"],
        features=found["feature"],
    )


def _fit(
    stressed: pl.DataFrame,
    units: ReferenceUnits,
    coding: Coding,
    estimation: Estimation,
    reference: npt.NDArray[np.bool_],
    *,
    seed: int,
) -> WindowMap:
    rows, codebook = np.flatnonzero(reference), coding.codebook
    is_coded = codebook is not None and estimation.fit.estimator.code_rates is not None
    codes = None
    if codebook is not None and units.features is not None and is_coded:
        statistics = unit_statistics(logits=units.logits, probabilities=units.probabilities)
        codes = codebook.assign(units.features, statistics.probabilities).index
    return fit_window_map(
        estimation.fit,
        estimation.units.take(rows),
        StressedCopies(
            units=units,
            origins=stressed["origin"].to_numpy().astype(np.int64),
            set_index=stressed["set_index"].to_numpy().astype(np.int64),
            sets=stressed.select(STRESS_SET).unique(maintain_order=True).rows(),
            codes=codes,
        ),
        bank=estimation.bank,
        stress_version=version_of(stressed),
        codes=coding.index[rows] if is_coded else None,
        cross_fitted_codes=_cross_fitted(coding) if is_coded else None,
        seed=seed,
    )


def _cross_fitted(coding: Coding) -> npt.NDArray[np.int64]:
    """Positions in the codebook of the cross-fitted codes of the reference."""
    names = () if coding.codebook is None else coding.codebook.names
    places = {name: index for index, name in enumerate(names)}
    return np.array([places.get(name, UNSEEN_INDEX) for name in coding.reference_names.tolist()], dtype=np.int64)


def version_of(stressed: pl.DataFrame) -> str:
    """Return the version of the stress pass behind copies, by families, sets and seeds."""
    return stress_version(
        stressed.select("family", "family_version").unique().rows(),
        stressed.select(STRESS_SET).unique().rows(),
        seeds=stressed["seed"].unique(),
    )


def _facts(stressed: pl.DataFrame, fitted: WindowMap) -> dict[str, Any]:
    """What was verified, for people: families with their errors when left out, weight of the map, interval factor."""
    names = ("default", "half", "map", "n_windows", "covered")
    return {
        "blend_weight": fitted.blend_weight,
        "families": {
            family: {name: getattr(error, name) for name in names} for family, error in fitted.family_errors.items()
        },
        "missed_families": fitted.missed_families,
        "n_copies": stressed.height,
        "n_originals": stressed["origin"].n_unique(),
        "n_sets": fitted.n_sets,
        "stress_version": fitted.stress_version,
        "verified_families": fitted.verified_families,
        "width_factor": fitted.width_factor,
    }
