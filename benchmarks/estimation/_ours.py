"""The product's own functions, put together as an evaluation puts them: nothing is estimated here by other code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import (
    CodebookIdentity,
    Head,
    Policy,
    ReferenceUnits,
    StressedCopies,
    fit_codebook,
    fit_estimator,
    fit_window_map,
    select_bank,
    window_units,
)
from mld_pipelines.metrics import unit_statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.estimation._generation import ModelOutputs, Outputs
    from mld_pipelines.diagnosis import Bank, CodebookFit, EstimatorFit, WindowMap, WindowUnits

__all__ = ["Ours", "fit_ours", "identity_of", "probabilities_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Ours:
    """A codebook and an estimator fitted on a reference.

    Attributes:
        reference: The reference units.
        bank: The training units as neighbours.
        fit: The estimator's fit.
        codes: The codebook's fit; None below 60 units.
    """

    reference: ReferenceUnits
    bank: Bank
    fit: EstimatorFit
    codes: CodebookFit | None

    def assign(self, outputs: Outputs) -> NDArray[np.int64] | None:
        """Code of each unit, −1 for `UNSEEN`."""
        if self.codes is None:
            return None
        return self.codes.codebook.assign(outputs.features, probabilities_of(outputs)).index

    def score(self, outputs: Outputs) -> WindowUnits:
        """Units as production would see them."""
        codes = self.assign(outputs)
        estimator = self.fit.estimator
        scores = estimator.risk_scores(logits=outputs.logits, features=outputs.features, codes=codes)
        return window_units(
            estimator,
            temperature=self.fit.window_reference.temperature,
            risk_scores=scores,
            logits=outputs.logits,
            features=outputs.features,
            codes=codes,
        )

    def learn(self, model: ModelOutputs, *, without: str | None) -> WindowMap:
        """Fit the stress map on the copies of all families but one."""
        sets = [one for one in model.copies if one.family != without]
        parts = [model.copies[one] for one in sets]
        joined = _join(parts)
        copies = StressedCopies(
            units=ReferenceUnits(
                labels=joined.labels,
                keys=[""] * len(joined),
                logits=joined.logits,
                features=joined.features,
            ),
            origins=np.tile(model.copied_rows, len(sets)),
            set_index=np.repeat(np.arange(len(sets)), len(model.copied_rows)),
            sets=[(one.family, one.kind, one.severity) for one in sets],
            codes=self.assign(joined),
        )
        return fit_window_map(
            self.fit,
            self.reference,
            copies,
            bank=self.bank,
            stress_version=f"without {without}",
            codes=None if self.codes is None else self.codes.assignment.index,
            cross_fitted_codes=None if self.codes is None else self.codes.cross_fitted,
        )


def fit_ours(model: ModelOutputs, *, rows: NDArray[np.int64] | None = None) -> Ours:
    """Fit codebook and estimator on the reference, or on some of its rows.

    Args:
        model: The model's outputs.
        rows: Reference rows, ascending; None takes all.
    """
    policy = Policy()
    used = model.reference if rows is None else model.reference.take(rows)
    reference = _units(used, "reference")
    bank = select_bank(_units(model.train, "train"), limit=policy.bank_limit, seed=policy.seed)
    codes = fit_codebook(used.features, probabilities_of(used), identity=identity_of(model), policy=policy)
    fit = fit_estimator(
        reference,
        bank=bank,
        head=Head(weight=model.weight, bias=model.bias),
        codes=None if codes is None else codes.assignment.index,
        n_codes=0 if codes is None else codes.codebook.n_codes,
        unseen_ref=None if codes is None else codes.codebook.unseen_ref,
        projection=None if codes is None else codes.codebook.space.projection,
        policy=policy,
    )
    return Ours(reference, bank, fit, codes)


def identity_of(model: ModelOutputs) -> CodebookIdentity:
    """What the model's codebook belongs to."""
    return CodebookIdentity(
        model_name=model.name,
        fingerprint="b" * 64,
        feature_layer="head",
        feature_dim=model.weight.shape[1],
        output_kind="logits",
        n_classes=len(model.bias),
        sqrt_p_weight=Policy().sqrt_p_weight,
    )


def probabilities_of(outputs: Outputs) -> NDArray[np.float64]:
    """Softmax of the logits, `(N, K)`."""
    return unit_statistics(logits=outputs.logits).probabilities


def _units(outputs: Outputs, split: str) -> ReferenceUnits:
    keys = [f"{split}/{row:06d}" for row in range(len(outputs))]
    return ReferenceUnits(labels=outputs.labels, keys=keys, logits=outputs.logits, features=outputs.features)


def _join(parts: list[Outputs]) -> Outputs:
    kind = type(parts[0])
    return kind(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "logits", "labels")))
