"""The evaluation of one epoch of a 3D detector: matches, codes of predictions and objects, error probabilities."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import (
    UNCODED,
    CodebookIdentity,
    object_context,
    prediction_features,
    prediction_probabilities,
    prediction_statistics,
)
from mld_pipelines.evaluation._coding import code_units
from mld_pipelines.evaluation._datasets import choose_decision_dataset, weights_of
from mld_pipelines.evaluation._duplicates import repetition_warnings
from mld_pipelines.evaluation._outcome import PopulationOutcome
from mld_pipelines.evaluation.detection._estimation import estimate_detections
from mld_pipelines.evaluation.detection._issues import detection_code_rows, detection_issue_rows
from mld_pipelines.evaluation.detection._metrics import RecordedBoxes, detection_metric_rows
from mld_pipelines.evaluation.detection._stress import DetectionPool, verify_detection_windows
from mld_pipelines.evaluation.detection._units import detection_units, unit_rows
from mld_pipelines.evaluation.detection._verdicts import judge_boxes
from mld_pipelines.metrics import MATCH_RULES
from mld_pipelines.records import split_model_key
from mld_pipelines.windows import Baseline, fit_detection_baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from mld_pipelines.diagnosis import Codebook, ExpectedMisses
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._datasets import Decision
    from mld_pipelines.evaluation._plan import EvaluationPlan
    from mld_pipelines.evaluation._stress import Verification
    from mld_pipelines.evaluation._verdicts import CodeVerdicts
    from mld_pipelines.evaluation.detection._estimation import DetectionEstimation
    from mld_pipelines.evaluation.detection._population import DetectionPopulation
    from mld_pipelines.evaluation.detection._units import DetectionUnits

__all__ = ["CONTEXT", "evaluate_detections"]

CONTEXT = "context"
"""Feature layer of codes that are made of where and what a box is, not of what the detector saw there."""

_PREFIXES = {"prediction": "P", "object": "M"}
#: What a reader of the numbers should know of a matching that is not the usual one.
_SAID = {
    "bev_iou": (
        "predictions match by a bird's-eye IoU of 0.5, not by 2 m between centres; mAP, nds_like and the errors of "
        "matched boxes (mate, mase, maoe, mave) stay those of nuScenes.",
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class _Scope:
    """What is evaluated, and who decides.

    Attributes:
        population: The frames.
        plan: Policy and seed.
        decision: The dataset that decides.
        fingerprint: Its weights.
        reference: (F,) its frames.
        datasets: All datasets, sorted.
        notes: What a reader should know before anything is computed.
    """

    population: DetectionPopulation
    plan: EvaluationPlan
    decision: Decision
    fingerprint: str
    reference: npt.NDArray[np.bool_]
    datasets: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Codings:
    """Codes of predictions and of objects."""

    predictions: Coding
    objects: Coding


def evaluate_detections(
    population: DetectionPopulation,
    plan: EvaluationPlan,
    *,
    candidates: Iterable[Codebook] = (),
    copies: Callable[[str, str], pl.LazyFrame] | None = None,
) -> PopulationOutcome:
    """Evaluate one epoch of a 3D detector (docs/method.md#detection).

    Args:
        population: Its frames in key order.
        plan: Policy, seed and barred datasets.
        candidates: Codebooks of earlier results that may be reused.
        copies: Told fingerprint and decision dataset, returns their stressed copies (rows of `traces/stress`).
    """
    scope = _scope(population, plan)
    policy, reference, dataset = plan.policy, scope.reference, scope.decision.dataset
    units = detection_units(population, reference, threshold=policy.score_threshold, rule=MATCH_RULES[policy.matching])
    codings = _code(scope, units, tuple(candidates))
    estimation = estimate_detections(
        population, units, codings.predictions, reference, decision_dataset=dataset, policy=policy
    )
    pool = DetectionPool(
        population=population,
        units=units,
        coding=codings.predictions,
        estimation=estimation,
        reference=reference,
        decision_dataset=dataset,
    )
    stressed = copies(scope.fingerprint, dataset) if copies else None
    verified = verify_detection_windows(stressed, pool, seed=policy.seed)
    return _outcome(scope, units, codings, estimation, verified)


def _scope(population: DetectionPopulation, plan: EvaluationPlan) -> _Scope:
    frame = population.frame
    counts = dict(frame.group_by("dataset_type").len().sort("dataset_type").iter_rows())
    decision = choose_decision_dataset(counts, override=plan.policy.decision_dataset, barred=plan.barred)
    fingerprint, mixed = weights_of(frame, decision.dataset)
    return _Scope(
        population=population,
        plan=plan,
        decision=decision,
        fingerprint=fingerprint,
        reference=(frame["dataset_type"] == decision.dataset).to_numpy(),
        datasets=tuple(counts),
        notes=(
            *_SAID.get(plan.policy.matching, ()),
            *population.warnings,
            *repetition_warnings(frame, decision.dataset),
            *mixed,
            *decision.warnings,
        ),
    )


def _outcome(
    scope: _Scope,
    units: DetectionUnits,
    codings: _Codings,
    estimation: DetectionEstimation,
    verified: Verification,
) -> PopulationOutcome:
    facts = unit_rows(scope.population, units)
    verdicts = _judge(scope, facts, units, codings)
    rows = _scored(facts, units, codings, estimation, verdicts)
    book, names, dataset = codings.predictions.codebook, scope.population.class_names, scope.decision.dataset
    baseline = _baseline(scope, rows, codings, verdicts, estimation.fit.misses)
    return PopulationOutcome(
        n_epoch=scope.population.n_epoch,
        decision_dataset=dataset,
        fingerprint=scope.fingerprint,
        codebook_id=book.codebook_id if book else None,
        previous_codebook_id=codings.predictions.previous_id,
        units=rows,
        metrics=_metrics(scope, rows, scope.datasets),
        issues=detection_issue_rows(rows, *verdicts, decision_dataset=dataset, class_names=names),
        codes=detection_code_rows(
            rows, codings.predictions, codings.objects, decision_dataset=dataset, class_names=names
        ),
        artifact_values=_artifact_values(scope, codings, estimation, baseline, verified),
        warnings=(
            *scope.notes,
            *codings.predictions.warnings,
            *codings.objects.warnings,
            *estimation.fit.estimator.badges,
            *verified.warnings,
        ),
    )


def _code(scope: _Scope, units: DetectionUnits, candidates: tuple[Codebook, ...]) -> _Codings:
    population, reference, policy = scope.population, scope.reference, scope.plan.policy
    objects = units.objects
    features = prediction_features(units.frames)
    probabilities = prediction_probabilities(units.frames, n_classes=population.n_classes)
    context, classes = object_context(
        population.truths.boxes[objects], population.truths.labels[objects], n_classes=population.n_classes
    )

    def code(kind: str, layer: str, h: Any, p: Any, rows: npt.NDArray[np.bool_]) -> Coding:
        identity = CodebookIdentity(
            model_name=split_model_key(scope.plan.model_key)[0],
            fingerprint=scope.fingerprint,
            feature_layer=layer,
            feature_dim=h.shape[1],
            output_kind=kind,
            n_classes=p.shape[1],
            sqrt_p_weight=policy.sqrt_p_weight,
        )
        return code_units(h, p, rows, identity=identity, candidates=candidates, policy=policy, prefix=_PREFIXES[kind])

    return _Codings(
        code(
            "prediction",
            population.boxes.feature_layer or CONTEXT,
            features,
            probabilities,
            reference[units.frames.kept.frame_index],
        ),
        code("object", CONTEXT, context, classes, reference[population.truths.frame_index[objects]]),
    )


def _judge(
    scope: _Scope, facts: pl.DataFrame, units: DetectionUnits, codings: _Codings
) -> tuple[CodeVerdicts, CodeVerdicts]:
    weights = scope.population.frame["fingerprint"]
    kept, n = units.frames.kept, len(units.frames.kept)

    def judge(part: pl.DataFrame, coding: Coding, frame: npt.NDArray[np.int64]) -> CodeVerdicts:
        known = part.with_columns(weights.gather(frame))
        return judge_boxes(known, coding, decision=scope.decision, fingerprint=scope.fingerprint, plan=scope.plan)

    return (
        judge(facts.head(n), codings.predictions, kept.frame_index),
        judge(facts.slice(n), codings.objects, scope.population.truths.frame_index[units.objects]),
    )


def _scored(
    facts: pl.DataFrame,
    units: DetectionUnits,
    codings: _Codings,
    estimation: DetectionEstimation,
    verdicts: tuple[CodeVerdicts, CodeVerdicts],
) -> pl.DataFrame:
    """Return the rows of `evaluation/units` without their attempt columns."""
    n, objects = len(units.frames.kept), len(units.objects)
    hit = np.where(units.is_error, -1, units.true_labels)
    entropy, loss = prediction_statistics(units.frames, n_classes=len(units.thresholds), true_labels=hit)
    both = (codings.predictions, codings.objects)
    judged = [verdict.of(coding.names) for verdict, coding in zip(verdicts, both, strict=True)]
    nothing = np.full(objects, np.nan)
    scores = pl.Series("s", estimation.risk_scores.astype(np.float32)).cast(pl.List(pl.Float32))
    empty = pl.Series("s", [None] * objects, dtype=pl.List(pl.Float32))
    return facts.with_columns(
        pl.Series("entropy", np.maximum(np.append(entropy, np.zeros(objects)), 0.0)),
        pl.Series("loss", np.append(np.maximum(loss, 0.0), nothing), nan_to_null=True),
        pl.Series("error_proba", np.append(estimation.error_proba, nothing).astype(np.float32), nan_to_null=True),
        pl.Series("error_code", [name for coding in both for name in coding.names.tolist()], dtype=pl.String),
        pl.Series("category", [one for category, _ in judged for one in category], dtype=pl.String),
        pl.Series("is_aleatoric", [one for _, flags in judged for one in flags], dtype=pl.Boolean),
        pl.Series(
            "support_distance",
            np.concatenate([coding.distance for coding in both]).astype(np.float32),
            nan_to_null=True,
        ),
        (pl.concat([scores, empty]) if n else empty).alias("risk_scores"),
    )


def _baseline(
    scope: _Scope,
    rows: pl.DataFrame,
    codings: _Codings,
    verdicts: tuple[CodeVerdicts, CodeVerdicts],
    misses: ExpectedMisses,
) -> str:
    """Return what windows of production are compared with; `misses` are those of the deciding frames."""
    coding, codebook = codings.predictions, codings.predictions.codebook
    own = rows.filter((pl.col("unit_kind") == "prediction") & (pl.col("dataset_type") == scope.decision.dataset))
    frames = int(scope.reference.sum())
    if own.is_empty():
        nothing: dict[str, Any] = {"codes": {}, "classes": (), "confidence": (0,) * 20, "error_rate": 0.0}
        return Baseline(model_key=scope.plan.model_key, result_name="", frames=frames, **nothing).to_json()
    counted = own.select("input_id", "prediction", "confidence", "is_error", "range_m")
    if codebook is not None:
        counted = counted.with_columns(pl.Series("error_code", coding.reference_names.tolist(), dtype=pl.String))
    return fit_detection_baseline(
        counted,
        frames=frames,
        misses=_coded_misses(scope, codings.objects, misses),
        missed_categories=_categories(verdicts[1]) if codings.objects.codebook else {},
        model_key=scope.plan.model_key,
        result_name="",
        categories=_categories(verdicts[0]) if codebook else {},
        unseen_share=codebook.unseen_ref if codebook else 0.0,
        code_names=codebook.names if codebook else (),
    ).to_json()


def _categories(verdicts: CodeVerdicts) -> dict[str, str]:
    return dict(zip(verdicts.codes, verdicts.category, strict=True))


def _coded_misses(scope: _Scope, coding: Coding, misses: ExpectedMisses) -> pl.DataFrame:
    """Return the expected misses of the reference with the codes of their places, as production is coded."""
    names = [UNCODED] * len(misses)
    if coding.codebook is not None and len(misses):
        context, classes = object_context(misses.boxes, misses.labels, n_classes=scope.population.n_classes)
        names = coding.codebook.code_names(coding.codebook.assign(context, classes).index).tolist()
    return pl.DataFrame({"error_code": names, "error_proba": misses.proba}, schema_overrides={"error_code": pl.String})


def _metrics(scope: _Scope, rows: pl.DataFrame, datasets: tuple[str, ...]) -> pl.DataFrame:
    population = scope.population
    boxes = {}
    for name in datasets:
        chosen = (population.frame["dataset_type"] == name).to_numpy()
        found, truths = population.part(chosen)
        ids = population.frame.filter(pl.Series(chosen))["input_id"].to_list()
        boxes[name] = RecordedBoxes(ids, found.recorded, truths)
    return detection_metric_rows(
        rows,
        boxes,
        n_epoch=population.n_epoch,
        alpha=scope.plan.policy.alpha,
        n_classes=population.n_classes,
        class_names=population.class_names,
        rule=MATCH_RULES[scope.plan.policy.matching],
    )


def _artifact_values(
    scope: _Scope, codings: _Codings, estimation: DetectionEstimation, baseline: str, verified: Verification
) -> tuple[dict[str, Any], ...]:
    fit, boxes = estimation.fit, scope.population.boxes
    diagnostics = json.dumps(fit.diagnostics, sort_keys=True)
    book = codings.predictions.codebook
    common = {"n_epoch": scope.population.n_epoch, "fingerprint": scope.fingerprint}
    of_estimator = common | {
        "feature_layer": boxes.feature_layer,
        "feature_dim": None if boxes.features is None else boxes.features.shape[1],
        "lineage_id": book.lineage_id if book else None,
    }
    estimator, window = fit.estimator.to_bytes(), fit.window_reference.to_bytes()
    rows: list[dict[str, Any]] = [
        {"kind": "estimator", "artifact": estimator, "parameters": diagnostics, "metrics": diagnostics} | of_estimator,
        {"kind": "window", "artifact": window, "parameters": baseline, "metrics": None} | of_estimator,
        *(values | of_estimator for values in verified.artifact_values),
    ]
    for kind, coding in (("codebook", codings.predictions), ("object_codebook", codings.objects)):
        if coding.codebook is not None:
            rows.append(common | _codebook_values(kind, coding.codebook))
    return tuple(rows)


def _codebook_values(kind: str, codebook: Codebook) -> dict[str, Any]:
    facts = {"n_codes": codebook.n_codes, "n_reference": codebook.n_reference, "unseen_ref": codebook.unseen_ref}
    return {
        "kind": kind,
        "artifact": codebook.to_bytes(),
        "parameters": json.dumps(facts, sort_keys=True),
        "metrics": None,
        "feature_layer": codebook.identity.feature_layer,
        "feature_dim": codebook.identity.feature_dim,
        "lineage_id": codebook.lineage_id,
    }
