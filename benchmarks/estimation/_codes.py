"""How stable codes are: cold and warm refits on bootstrap references, names kept, families of categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.estimation._metrics import auroc
from benchmarks.estimation._ours import identity_of, probabilities_of
from mld_pipelines.diagnosis import (
    CRITICAL,
    HOTSPOT,
    RECESSIVE,
    Policy,
    atc_threshold,
    categorise,
    count_codes,
    fit_codebook,
    refit_warm,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.estimation._generation import ModelOutputs, Outputs
    from mld_pipelines.diagnosis import CodebookFit

__all__ = ["compare_codes"]

_COVERED, _UNDECIDED, _BAD = 0, 1, 2


def compare_codes(model: ModelOutputs, *, rounds: int = 4) -> dict[str, float]:
    """Refit the codebook on bootstrap references, cold and warm, and compare the held-out units' codes.

    Args:
        model: The model's outputs.
        rounds: Bootstrap references.
    """
    first = _fit(model, model.reference, seed=0)
    codes, families = _judge(first, model.reference, model.held_out)
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for turn in range(rounds):
        drawn = model.reference.take(np.sort(rng.integers(0, len(model.reference), len(model.reference))))
        cold = _fit(model, drawn, seed=turn + 1)
        warm = refit_warm(first.codebook, drawn.features, probabilities_of(drawn), policy=Policy())
        for way, fit in (("cold", cold), ("warm", warm)):
            again, new_families = _judge(fit, drawn, model.held_out)
            values = _agreement(codes, again, families, new_families)
            values["names kept"] = _same_cell(codes, again) if way == "cold" else _same_name(first, fit, codes, again)
            for name, value in values.items():
                found.setdefault(f"{name}, {way}", []).append(value)
    seen = model.held_out
    frozen = first.codebook.assign(seen.features, probabilities_of(seen)).index
    rates = _rates(first, model.reference)
    return {name: float(np.mean(values)) for name, values in found.items()} | {
        "codes": float(first.codebook.n_codes),
        "names kept, frozen": float((frozen == codes).mean()),
        "AUROC of code rate": auroc(seen.errors, rates[codes]),
        "UNSEEN, clean": float((codes < 0).mean()),
        "UNSEEN, highest severity": float(np.mean([_unseen(first, one) for one in _worst(model)])),
    }


def _fit(model: ModelOutputs, reference: Outputs, *, seed: int) -> CodebookFit:
    fit = fit_codebook(
        reference.features, probabilities_of(reference), identity=identity_of(model), policy=Policy(seed=seed)
    )
    if fit is None:
        raise RuntimeError(f"{len(reference)} units are too few for a codebook")
    return fit


def _judge(fit: CodebookFit, reference: Outputs, held_out: Outputs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Code of every held-out unit, and the family of each code's category, `UNSEEN` last."""
    index = fit.codebook.assign(reference.features, probabilities_of(reference)).index
    confidence = probabilities_of(reference).max(axis=1)
    errors = reference.errors
    threshold = atc_threshold(confidence, float(errors.mean()))
    counts = count_codes(index, errors, confidence, n_codes=fit.codebook.n_codes, threshold=threshold)
    unseen = np.arange(len(counts.n)) == len(counts.n) - 1
    category = categorise(counts.n, counts.k, counts.k_unflagged, policy=Policy(), unseen=unseen).category
    families = np.select([category == RECESSIVE, np.isin(category, (HOTSPOT, CRITICAL))], [_UNDECIDED, _BAD], _COVERED)
    return fit.codebook.assign(held_out.features, probabilities_of(held_out)).index, families


def _agreement(
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    families_before: NDArray[np.int64],
    families_after: NDArray[np.int64],
) -> dict[str, float]:
    from sklearn.metrics import adjusted_rand_score

    old, new = families_before[before], families_after[after]
    return {
        "ARI": float(adjusted_rand_score(before, after)),
        "family agreement": float((old == new).mean()),
        "flips": float((np.abs(old - new) == _BAD - _COVERED).mean()),
    }


def _same_cell(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """Share of units in cells that the best one-to-one matching pairs."""
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((before.max() + 2, after.max() + 2))
    np.add.at(table, (before, after), 1.0)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(before))


def _same_name(first: CodebookFit, again: CodebookFit, before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    return float((first.codebook.code_names(before) == again.codebook.code_names(after)).mean())


def _rates(fit: CodebookFit, reference: Outputs) -> NDArray[np.float64]:
    """Smoothed error rate per code, `UNSEEN` last."""
    index, errors = fit.assignment.index, reference.errors
    size = fit.codebook.n_codes
    counts, wrong = (
        np.bincount(index[index >= 0], minlength=size),
        np.bincount(index[index >= 0], errors[index >= 0], size),
    )
    base = errors.mean()
    return np.append((wrong + 4.0 * base) / (counts + 4.0), base)


def _worst(model: ModelOutputs) -> list[Outputs]:
    highest = max(one.severity for one in model.corrupted)
    return [outputs for one, outputs in model.corrupted.items() if one.severity == highest]


def _unseen(fit: CodebookFit, outputs: Outputs) -> float:
    return float((fit.codebook.assign(outputs.features, probabilities_of(outputs)).index < 0).mean())
