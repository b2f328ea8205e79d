"""The evaluation of one epoch of a classifier: codes, error probabilities, verdicts, metrics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import tempered_confidence
from mld_pipelines.evaluation._coding import code_units, identity_of
from mld_pipelines.evaluation._datasets import choose_decision_dataset, weights_of
from mld_pipelines.evaluation._descriptions import code_rows
from mld_pipelines.evaluation._duplicates import repetition_warnings
from mld_pipelines.evaluation._estimation import estimate_population
from mld_pipelines.evaluation._issues import issue_rows
from mld_pipelines.evaluation._outcome import PopulationOutcome
from mld_pipelines.evaluation._stress import verify_windows
from mld_pipelines.evaluation._summary import metric_rows
from mld_pipelines.evaluation._verdicts import judge_codes
from mld_pipelines.metrics import unit_statistics
from mld_pipelines.windows import fit_baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mld_pipelines.diagnosis import Codebook
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._estimation import Estimation
    from mld_pipelines.evaluation._lineage import CodeLinks
    from mld_pipelines.evaluation._plan import EvaluationPlan
    from mld_pipelines.evaluation._population import ModelFacts, Population
    from mld_pipelines.evaluation._stress import Verification
    from mld_pipelines.evaluation._verdicts import CodeVerdicts
    from mld_pipelines.metrics import UnitStatistics

__all__ = ["evaluate_population"]


def evaluate_population(
    population: Population,
    facts: ModelFacts,
    plan: EvaluationPlan,
    *,
    candidates: Iterable[Codebook] = (),
    link: Callable[[str, pl.DataFrame], CodeLinks | None] | None = None,
    copies: Callable[[str, str], pl.DataFrame] | None = None,
) -> PopulationOutcome:
    """Evaluate one epoch.

    Args:
        population: Its units in key order.
        facts: Head and class names of the weights.
        plan: Policy, seed and barred datasets.
        candidates: Codebooks of earlier results that may be reused.
        link: Told the lineage of the codebook and the units, finds the codes of the previous weights.
        copies: Told fingerprint and decision dataset, returns their stressed copies (rows of `traces/stress`).
    """
    frame, policy = population.frame, plan.policy
    statistics = unit_statistics(
        logits=population.logits, probabilities=population.probabilities, labels=frame["label"].to_numpy()
    )
    counts = dict(frame.group_by("dataset_type").len().sort("dataset_type").iter_rows())
    decision = choose_decision_dataset(counts, override=policy.decision_dataset, barred=plan.barred)
    reference = (frame["dataset_type"] == decision.dataset).to_numpy()
    fingerprint, mixed = weights_of(frame, decision.dataset)
    coding = code_units(
        population.features,
        statistics.probabilities,
        reference,
        identity=identity_of(population, model_key=plan.model_key, fingerprint=fingerprint, policy=policy),
        candidates=candidates,
        policy=policy,
    )
    estimation = estimate_population(
        population, coding, reference, decision_dataset=decision.dataset, head=facts.head, policy=policy
    )
    verdicts = judge_codes(population, statistics, coding, estimation, reference, is_train=decision.is_train, plan=plan)
    units = _units(population, statistics, coding, estimation, verdicts)
    baseline = _baseline(units, coding, reference, verdicts, plan)
    badges = estimation.fit.estimator.badges
    common = _common_values(population, coding, fingerprint)
    stressed = copies(fingerprint, decision.dataset) if copies else None
    verified = verify_windows(stressed, population, coding, estimation, reference, seed=policy.seed)
    links = link(coding.codebook.lineage_id, units) if link and coding.codebook else None
    repeated = repetition_warnings(frame, decision.dataset)
    found = (*population.warnings, *repeated, *mixed, *decision.warnings, *coding.warnings)
    return PopulationOutcome(
        n_epoch=population.n_epoch,
        decision_dataset=decision.dataset,
        fingerprint=fingerprint,
        codebook_id=coding.codebook.codebook_id if coding.codebook else None,
        previous_codebook_id=coding.previous_id,
        units=units,
        metrics=metric_rows(units, statistics, n_epoch=population.n_epoch, alpha=policy.alpha),
        issues=issue_rows(units, verdicts, decision_dataset=decision.dataset, class_names=facts.class_names),
        codes=code_rows(units, coding, decision_dataset=decision.dataset, class_names=facts.class_names, links=links),
        artifact_values=tuple(common | row for row in _artifact_values(coding, estimation, baseline, verified)),
        warnings=(*found, *badges, *verified.warnings),
    )


def _units(
    population: Population,
    statistics: UnitStatistics,
    coding: Coding,
    estimation: Estimation,
    verdicts: CodeVerdicts,
) -> pl.DataFrame:
    """Return the rows of `evaluation/units` without their attempt columns."""
    category, is_aleatoric = verdicts.of(coding.names)
    floats = {
        "confidence": statistics.confidence,
        "confidence_t": tempered_confidence(
            estimation.fit.window_reference.temperature,
            logits=population.logits,
            probabilities=population.probabilities,
        ),
        "error_proba": estimation.error_proba,
        "support_distance": coding.distance,
    }
    scores = estimation.risk_scores.astype(np.float32)
    return population.frame.select(
        "dataset_type", "n_epoch", "input_id", "label", "metadata", "input_hash"
    ).with_columns(
        pl.lit("input").alias("unit_kind"),
        pl.Series("is_error", statistics.is_error, dtype=pl.Boolean),
        pl.Series("prediction", statistics.prediction, dtype=pl.Int64),
        pl.Series("entropy", np.maximum(statistics.entropy, 0.0), dtype=pl.Float64),
        pl.Series("loss", statistics.loss, dtype=pl.Float64),
        *(pl.Series(name, values.astype(np.float32), nan_to_null=True) for name, values in floats.items()),
        pl.Series("error_code", coding.names.tolist(), dtype=pl.String),
        pl.Series("category", category, dtype=pl.String),
        pl.Series("is_aleatoric", is_aleatoric, dtype=pl.Boolean),
        pl.Series("risk_scores", scores).cast(pl.List(pl.Float32)),
    )


def _baseline(
    units: pl.DataFrame,
    coding: Coding,
    reference: np.ndarray[Any, np.dtype[np.bool_]],
    verdicts: CodeVerdicts,
    plan: EvaluationPlan,
) -> str:
    rows = units.filter(pl.Series(reference)).select("prediction", "confidence", "is_error")
    codebook = coding.codebook
    if codebook is not None:
        rows = rows.with_columns(pl.Series("error_code", coding.reference_names.tolist(), dtype=pl.String))
    return fit_baseline(
        rows,
        model_key=plan.model_key,
        result_name="",
        categories=dict(zip(verdicts.codes, verdicts.category, strict=True)) if codebook else {},
        unseen_share=codebook.unseen_ref if codebook else 0.0,
        code_names=codebook.names if codebook else (),
    ).to_json()


def _common_values(population: Population, coding: Coding, fingerprint: str) -> dict[str, Any]:
    """What every artifact of an epoch says about itself."""
    return {
        "n_epoch": population.n_epoch,
        "fingerprint": fingerprint,
        "feature_layer": population.feature_layer,
        "feature_dim": None if population.features is None else population.features.shape[1],
        "lineage_id": coding.codebook.lineage_id if coding.codebook else None,
    }


def _artifact_values(
    coding: Coding, estimation: Estimation, baseline: str, verified: Verification
) -> tuple[dict[str, Any], ...]:
    fit, codebook = estimation.fit, coding.codebook
    diagnostics = json.dumps(fit.diagnostics, sort_keys=True)
    rows: list[dict[str, Any]] = [
        {"kind": "estimator", "artifact": fit.estimator.to_bytes(), "parameters": diagnostics, "metrics": diagnostics},
        {"kind": "window", "artifact": fit.window_reference.to_bytes(), "parameters": baseline, "metrics": None},
    ]
    if codebook is not None:
        facts = {"n_codes": codebook.n_codes, "n_reference": codebook.n_reference, "unseen_ref": codebook.unseen_ref}
        parameters = json.dumps(facts, sort_keys=True)
        rows.append({"kind": "codebook", "artifact": codebook.to_bytes(), "parameters": parameters, "metrics": None})
    return (*rows, *verified.artifact_values)
