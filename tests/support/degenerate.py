"""Outputs, features and labels that real models give on bad days: constant, collapsed, enormous, tiny, tied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from mld_pipelines.diagnosis import (
    CodebookIdentity,
    EstimatorFit,
    Head,
    Policy,
    ProductionScorer,
    ReferenceUnits,
    fit_codebook,
    fit_estimator,
)

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import Bank

VALUES = (
    "plain", "constant", "zero", "few places", "huge", "edge", "tiny", "denormal", "heavy tail", "dead", "one scale",
)  # fmt: skip
LABELS = ("drawn", "right", "wrong", "one class", "rare", "one error", "one success")


def values(kind: str, rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    """A float32 matrix of one of the kinds of `VALUES`."""
    plain = rng.normal(size=(rows, width))
    made = {
        "plain": lambda: plain,
        "constant": lambda: np.full((rows, width), 0.7),
        "zero": lambda: np.zeros((rows, width)),
        "few places": lambda: plain[rng.integers(0, min(3, rows), rows)] if rows else plain,
        "huge": lambda: 1e30 * plain,
        "edge": lambda: np.where(plain > 0, 3.4e38, -3.4e38),
        "tiny": lambda: 1e-30 * plain,
        "denormal": lambda: 1e-42 * plain,
        "heavy tail": lambda: rng.standard_cauchy((rows, width)) ** 5,
        "dead": lambda: np.where(np.arange(width) % 2, plain, 0.0),
        "one scale": lambda: plain * np.geomspace(1e-6, 1e6, width),
    }[kind]()
    return np.clip(made, -3.4e38, 3.4e38).astype(np.float32)


def labels(kind: str, rng: np.random.Generator, predictions: np.ndarray, n_classes: int) -> np.ndarray:
    """Labels of one of the kinds of `LABELS` for these predictions."""
    wrong = (predictions + 1) % n_classes
    first = np.arange(len(predictions)) == 0
    return {
        "drawn": lambda: np.where(rng.random(len(predictions)) < 0.7, predictions, wrong),
        "right": lambda: predictions,
        "wrong": lambda: wrong,
        "one class": lambda: np.zeros_like(predictions),
        "rare": lambda: np.where(rng.random(len(predictions)) < 0.02, wrong, predictions),
        "one error": lambda: np.where(first, wrong, predictions),
        "one success": lambda: np.where(first, predictions, wrong),
    }[kind]().astype(np.int64)


def made_units(
    rows: int,
    *,
    n_classes: int = 4,
    width: int = 6,
    seed: int = 0,
    outputs: str = "plain",
    features: str | None = "plain",
    truth: str = "drawn",
    name: str = "val",
    probabilities: bool = False,
) -> ReferenceUnits:
    """Units whose outputs, features and labels are of the given kinds."""
    rng = np.random.default_rng(seed)
    z = values(outputs, rng, rows, n_classes)
    given = (
        {"probabilities": softmax(z.astype(np.float64), axis=1).astype(np.float32)} if probabilities else {"logits": z}
    )
    predictions = next(iter(given.values())).argmax(axis=1)
    return ReferenceUnits(
        labels=labels(truth, rng, predictions, n_classes),
        keys=[f"{name}/{row}" for row in range(rows)],
        features=None if features is None else values(features, rng, rows, width),
        **given,
    )


def fitted_scorer(
    reference: ReferenceUnits, *, bank: Bank | None = None, head: Head | None = None, policy: Policy | None = None
) -> tuple[ProductionScorer, EstimatorFit]:
    """A production scorer fitted as an evaluation fits it: codebook, then estimator."""
    policy = policy or Policy()
    codebook, index = None, None
    if reference.features is not None:
        identity = CodebookIdentity(
            model_name="net",
            fingerprint="f",
            feature_layer="fc",
            feature_dim=reference.features.shape[1],
            output_kind="logits",
            n_classes=reference.n_classes,
        )
        made = fit_codebook(reference.features, softmax(reference.scores, axis=1), identity=identity, policy=policy)
        if made is not None:
            codebook, index = made.codebook, made.assignment.index
    fit = fit_estimator(
        reference,
        bank=bank,
        head=head,
        codes=index,
        n_codes=0 if codebook is None else codebook.n_codes,
        unseen_ref=None if codebook is None else codebook.unseen_ref,
        projection=None if codebook is None else codebook.space.projection,
        policy=policy,
    )
    scorer = ProductionScorer(
        result_name="net_v1",
        estimator_version="1",
        fingerprint="f",
        codebook=codebook,
        estimator=fit.estimator,
        issues={},
        window_reference=fit.window_reference,
    )
    return scorer, fit
