"""Measure what docs/concepts/ shows on scikit-learn's digits: `python -m docs.measure` rewrites docs/data/digits.json.

A small network is trained, traced and evaluated as a user would do it; then windows of inputs it has never seen are
estimated without their labels, and the labels say afterwards how wrong the estimate was. Seeds are fixed and one thread
is used, so a machine repeats itself; another one may differ in the last digits. `make docs` draws from the stored file.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

DATA = Path(__file__).resolve().parent / "data" / "digits.json"
SEED = 0
WINDOW = 500
"""Units of a window: ten standard errors of a rate of 5 % are 10 percentage points."""
SMALL_REFERENCE = 100
EXAMPLES = ("stable_coverage", "recessive_hotspot", "hotspot")
EXAMPLE_UNITS = 12
BINS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 1.01)
SEVERITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the noise: its standard deviation in units of the full range of a pixel is half of it."""

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from examples.demo.digits import Digits, SmallNet
    from mld_pipelines.evaluation import StoredResult

    Images = NDArray[np.float32]


def main() -> None:
    """Run everything in an empty state directory and store the outcome."""
    with tempfile.TemporaryDirectory(prefix="mld-docs-") as home:
        os.environ["MLD_HOME"] = home
        document = run()
    DATA.write_text(json.dumps(rounded(document), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def run(*, with_stress: bool = True) -> dict[str, Any]:
    """Return everything that the pages show; the lake is that of `MLD_HOME`.

    Args:
        with_stress: Whether to run the stress pass too, which takes most of the time.
    """
    import torch

    from examples.demo.digits import load_digits, train

    torch.set_num_threads(1)
    train_data, val_data, pool = load_digits()
    model = train(train_data)
    full = evaluate(model, "v1", train_data, val_data)
    stressed = evaluate(model, "v1-stressed", train_data, val_data, stress=True) if with_stress else full
    return {
        "setup": {"train": len(train_data.labels), "reference": len(val_data.labels), "pool": len(pool.labels)},
        "reference": reference(full),
        "codes": codes(full),
        "examples": examples(full, val_data),
        "calibration": calibration(full),
        "noise": noise(model, full, stressed, pool),
        "stress": stress_outcome(stressed) if with_stress else None,
        "limits": limits(model, (full, stressed), (train_data, val_data, pool)),
    }


def evaluate(
    model: SmallNet, version: str, train_data: Digits, val_data: Digits, *, stress: bool = False
) -> StoredResult:
    """Trace both datasets, on request run a stress pass, evaluate, return the stored result."""
    import torch

    from mld_pipelines.evaluation import load_result
    from mld_pipelines.evaluator import Evaluator
    from mld_pipelines.lake import Lake
    from mld_pipelines.training import ClassificationTracer

    tracer = ClassificationTracer(model, "digits", version)
    with torch.no_grad():
        for name, data in (("train", train_data), ("val", val_data)):
            tracer(torch.from_numpy(data.images), data.labels, data.ids, dataset_type=name)
    tracer.wait_for_save()
    if stress:
        tracer.stress(torch.from_numpy(val_data.images), val_data.labels, input_ids=val_data.ids, progress=False)
    tracer.close()
    result = Evaluator("digits", version).request_evaluation(f"digits_{version}")
    return load_result(Lake.open(), result.result_name)


def reference(stored: StoredResult) -> dict[str, Any]:
    """Headline numbers of the deciding dataset."""
    from mld_pipelines.evaluator import Result

    result = Result(stored)
    metrics = result.metrics_summary().filter(dataset="val").row(0, named=True)
    shares = result.issue_category_summary().filter(dataset="val").row(0, named=True)
    wanted = ("counts", "accuracy", "confidence_auroc", "error_proba_auroc", "net_entropy", "net_entropy_loss")
    return {
        **{name: metrics[name] for name in wanted},
        "error_rate": 1.0 - metrics["accuracy"],
        "errors": round((1.0 - metrics["accuracy"]) * metrics["counts"]),
        "categories": {name: value for name, value in shares.items() if name.endswith("_ratio")},
    }


def codes(stored: StoredResult) -> list[dict[str, Any]]:
    """Every code with its verdict on the deciding dataset and its place on the map."""
    columns = ("error_code", "category", "reason", "is_aleatoric", "counts", "errors", "error_rate", "error_rate_low",
               "error_rate_high")  # fmt: skip
    issues = stored.issues().filter(dataset="val").sort("error_code")
    places = {row["error_code"]: row for row in stored.codes().iter_rows(named=True)}
    return [
        {name: row[name] for name in columns}
        | {name: places.get(row["error_code"], {}).get(name) for name in ("map_x", "map_y", "distinctions")}
        for row in issues.iter_rows(named=True)
    ]


def examples(stored: StoredResult, val_data: Digits) -> list[dict[str, Any]]:
    """The units nearest the centre of three codes: a stable one, an undecided one, a hotspot."""
    known = [one for one in codes(stored) if one["error_code"].startswith("E")]
    where = {str(name): row for row, name in enumerate(val_data.ids)}
    columns = ("input_id", "error_code", "label", "prediction", "support_distance")
    units = stored.units().filter(dataset_type="val").select(columns).sort("support_distance", "input_id").collect()
    rows = []
    for category in EXAMPLES:
        found = [one for one in known if one["category"] == category]
        if not found:
            continue
        chosen = max(found, key=lambda one: (one["counts"] >= EXAMPLE_UNITS, one["error_rate"], one["counts"]))
        nearest = units.filter(error_code=chosen["error_code"]).head(EXAMPLE_UNITS)
        described = {name: chosen[name] for name in ("error_code", "category", "counts", "errors", "distinctions")}
        rows.append(described | {"units": [_example(unit, val_data, where) for unit in nearest.iter_rows(named=True)]})
    return rows


def _example(unit: dict[str, Any], data: Digits, where: dict[str, int]) -> dict[str, Any]:
    grey = np.rint(data.images[where[unit["input_id"]]].ravel() * 16).astype(int)
    return {
        "pixels": "".join("0123456789abcdefg"[value] for value in grey),
        "label": unit["label"],
        "prediction": unit["prediction"],
    }


def calibration(stored: StoredResult) -> list[dict[str, Any]]:
    """Cross-fitted error probability against what happened, bin by bin."""
    import polars as pl

    from mld_pipelines.diagnosis import jeffreys_interval

    units = stored.units().filter(dataset_type="val").select("error_proba", "is_error").collect()
    rows = []
    for start, end in pairwise(BINS):
        chunk = units.filter(pl.col("error_proba").is_between(start, end, closed="left"))
        if chunk.is_empty():
            continue
        errors = int(chunk["is_error"].sum())
        low, high = jeffreys_interval([chunk.height], [errors], alpha=0.1)
        rows.append(
            {
                "predicted": chunk["error_proba"].mean(),
                "observed": errors / chunk.height,
                "counts": chunk.height,
                "low": float(low[0]),
                "high": float(high[0]),
            }
        )
    return rows


def noise(model: SmallNet, stored: StoredResult, stressed: StoredResult, pool: Digits) -> list[dict[str, Any]]:
    """Windows of digits under more and more noise, by the result without and by the one with a stress pass."""
    rng = np.random.default_rng(SEED)
    rows = []
    for severity in SEVERITIES:
        chosen = rng.integers(0, len(pool.labels), WINDOW)
        noisy = pool.images[chosen] + 0.5 * severity * rng.normal(size=(WINDOW, 1, 8, 8))
        images, labels = np.clip(noisy, 0, 1).astype(np.float32), pool.labels[chosen]
        row = window(model, stored, images, labels)
        rows.append({"severity": severity, **row, "stressed": window(model, stressed, images, labels)})
    return rows


def stress_outcome(stored: StoredResult) -> dict[str, Any]:
    """What the stress pass taught: weight, interval factor, errors by the family that was left out."""
    from mld_pipelines.evaluation import load_scorer

    learnt = load_scorer(stored.lake, stored.result_name).window_map
    if learnt is None:
        raise RuntimeError("the stress pass left no window map; look at the warnings of the evaluation")
    return {
        "weight": learnt.blend_weight,
        "width_factor": learnt.width_factor,
        "sets": learnt.n_sets,
        "families": {name: asdict(one) for name, one in learnt.family_errors.items()},
    }


def limits(
    model: SmallNet, results: tuple[StoredResult, StoredResult], data: tuple[Digits, Digits, Digits]
) -> dict[str, dict[str, Any]]:
    """The situations of docs/concepts/limits.md, each with the truth beside what the product says.

    Args:
        model: The network.
        results: Without and with a stress pass.
        data: Training, validation and production digits.
    """
    from mld_pipelines.evaluation import load_scorer

    (stored, stressed), (train_data, val_data, pool) = results, data
    rng = np.random.default_rng(SEED + 1)
    rows = rng.integers(0, len(pool.labels), WINDOW)
    images, labels = pool.images[rows], pool.labels[rows]
    rare = rng.choice(np.flatnonzero(np.isin(pool.labels, (1, 8, 9))), WINDOW)
    blank = np.zeros_like(images)
    few = val_data.take(np.arange(SMALL_REFERENCE))
    right = val_data.take(np.flatnonzero(predictions_of(model, val_data.images) == val_data.labels)[:300])
    small = evaluate(model, "small-reference", train_data, few)
    spotless = evaluate(model, "no-errors", train_data, right)
    by_name = {
        "same": window(model, stored, images, labels),
        "few-classes": window(model, stored, pool.images[rare], pool.labels[rare]),
        "concept": window(model, stored, images, np.where(labels == 1, 7, labels)),
        "negative": window(model, stored, (1.0 - images).astype(np.float32), labels),
        "turned": window(model, stored, np.ascontiguousarray(np.rot90(images, 1, axes=(2, 3))), labels),
        "blank": window(model, stored, blank, labels),
        "few-units": window(model, stored, images[:20], labels[:20]),
        "small-reference": window(model, small, images, labels),
        "no-errors": window(model, spotless, images, labels),
    }
    turned = np.ascontiguousarray(np.rot90(images, 1, axes=(2, 3)))
    by_name["turned"]["stressed"] = window(model, stressed, turned, labels)
    by_name["same"]["stressed"] = window(model, stressed, images, labels)
    by_name["negative"]["stressed"] = window(model, stressed, (1.0 - images).astype(np.float32), labels)
    for name, result in (("small-reference", small), ("no-errors", spotless)):
        known = load_scorer(result.lake, result.result_name).window_reference
        by_name[name] |= {"n_ref": int(known.n_ref), "reference_errors": int(known.n_errors)}
    return by_name


def window(model: SmallNet, stored: StoredResult, images: Images, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Estimate a window without its labels; put the truth beside it."""
    from mld_pipelines.diagnosis import UNSEEN
    from mld_pipelines.evaluation import estimate_units, load_scorer

    scorer = load_scorer(stored.lake, stored.result_name)
    logits, features = outputs_of(model, images)
    estimate = estimate_units(scorer, logits=logits, features=features)
    scored = scorer.score(logits=logits, features=features)
    return {
        "n": estimate.n,
        "true": float((logits.argmax(axis=1) != labels).mean()),
        "estimate": estimate.error_rate,
        "low": estimate.low,
        "high": estimate.high,
        "confidence_says": 1.0 - float(scored.confidence_t.mean()),
        "unseen": scored.error_code.count(UNSEEN) / len(labels),
        "unseen_reference": None if scorer.codebook is None else float(scorer.codebook.unseen_ref),
        "reference_rate": float(scorer.window_reference.base_rate),
        "badges": list(estimate.badges),
        "is_alert": estimate.is_alert,
        "is_outside": estimate.is_outside,
    }


def outputs_of(model: SmallNet, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits and features."""
    import torch

    with torch.no_grad():
        features = model.body(torch.from_numpy(images))
        return model.head(features).numpy(), features.numpy()


def predictions_of(model: SmallNet, images: Images) -> NDArray[np.int64]:
    """Predicted classes."""
    predicted: NDArray[np.int64] = outputs_of(model, images)[0].argmax(axis=1)
    return predicted


def rounded(value: Any) -> Any:
    """Six decimals are more than a page shows; further ones differ between machines."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
