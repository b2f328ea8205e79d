"""The evidence behind a verdict in short sentences, each with its numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import posterior_cdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.diagnosis import Clues
    from mld_pipelines.evaluation._verdicts import CodeVerdicts

__all__ = ["PATTERN_SHARE", "SEVERAL", "evidence_rows", "pattern_sentences"]

PATTERN_SHARE = 0.5
"""Share of the errors from which a confusion is worth a sentence."""
SEVERAL = 3
"""Errors, or classes, from which something can be in common."""


def evidence_rows(decides: pl.DataFrame, verdicts: CodeVerdicts, *, patterns: Sequence[Sequence[str]]) -> pl.DataFrame:
    """Return `error_code` and `evidence` of every code.

    Args:
        decides: Counts of the deciding dataset: `error_code`, `counts`, `errors`, `unflagged_errors`.
        verdicts: Verdicts in the order of their codes.
        patterns: Sentences about what the errors of each code have in common.
    """
    counted = pl.DataFrame({"error_code": verdicts.codes}).join(
        decides, on="error_code", how="left", maintain_order="left"
    )
    n, k, k_u = (counted[name].fill_null(0).to_numpy() for name in ("counts", "errors", "unflagged_errors"))
    policy = verdicts.policy
    stable, operational = posterior_cdf(n, k, policy.tau_stable), posterior_cdf(n, k, policy.tau_operational)
    silent = 1.0 - posterior_cdf(n, k_u, policy.tau_operational)
    chances = [
        f"P(rate ≤ {100 * policy.tau_stable:g} %) = {a:.2f}, P(rate ≤ {100 * policy.tau_operational:g} %) = {b:.2f}, "
        f"P(unflagged rate > {100 * policy.tau_operational:g} %) = {c:.2f}"
        for a, b, c in np.column_stack([stable, operational, silent]).tolist()
    ]
    facts = [
        [*([chance] if size else []), *said, *_ambiguity(flag, z, size)]
        for chance, size, said, flag, z in zip(
            chances, n.tolist(), patterns, verdicts.is_aleatoric, verdicts.z, strict=True
        )
    ]
    return pl.DataFrame(
        {"error_code": verdicts.codes, "evidence": facts},
        schema={"error_code": pl.String, "evidence": pl.List(pl.String)},
    )


def pattern_sentences(clues: Clues, class_names: Sequence[str]) -> list[str]:
    """Return what the errors of a code of inputs have in common.

    Args:
        clues: Of the code.
        class_names: Names by class index; indices are shown where there are none.
    """
    if clues.confusion is None:
        return []
    label, prediction = (class_names[c] if c < len(class_names) else str(c) for c in clues.confusion)
    facts = []
    if clues.n_errors >= SEVERAL and clues.confusion_share >= PATTERN_SHARE:
        facts.append(
            f"{round(clues.confusion_share * clues.n_errors)} of {clues.n_errors} errors are {label}→{prediction}"
        )
    elif clues.n_labels >= SEVERAL and clues.sink_share >= PATTERN_SHARE:
        sunk = round(clues.sink_share * clues.n_errors)
        facts.append(
            f"{sunk} of {clues.n_errors} errors, of {clues.n_labels} classes in all, are predicted {prediction}"
        )
    if clues.is_far:
        facts.append("units or errors lie farther from the training data than 95 % of the training data itself")
    return facts


def _ambiguity(is_aleatoric: bool, z: float, n: int) -> list[str]:
    if not is_aleatoric or not math.isfinite(z):
        return []
    return [f"the model expects this loss: Z = {z:.2f} ≤ 1.64 over {n} units"]
