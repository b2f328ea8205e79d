"""What scoring one production unit costs, on one thread, against a bare nearest-neighbour search."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._data import MODEL, RESULT, Classes, write_trace
from benchmarks._report import Report, ratio_text
from benchmarks._timing import interleaved, median
from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation import evaluate, load_scorer
from mld_pipelines.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = ("scikit-learn", "scipy", "threadpoolctl")
_BATCH = 1_000
_NEIGHBOURS = 20
_SETUPS = ((64, 3_000), (512, 10_000))
"""Width of the feature and rows of the neighbour bank: a small model, and a wide one with a full bank."""


def run(*, quick: bool, full: bool) -> Report:
    """Fit two estimators and time their scorers."""
    del full
    report = Report(
        "Scoring production units with a stored estimator, one thread, K = 10",
        ("set-up", "µs per unit, batch of 1,000", "one unit alone", "of a bare kNN (batch)", "units/s"),
    )
    for width, bank in ((16, 300),) if quick else _SETUPS:
        with tempfile.TemporaryDirectory(prefix="mld-bench-") as root:
            _measure(report, root, width, bank, repeats=2 if quick else 9)
    report.notes.append(
        f"Ten risk scores, error probability, code and category by `ProductionScorer.score`; the bare kNN is "
        f"scikit-learn's exact search for {_NEIGHBOURS} neighbours in the same bank and width, without any score."
    )
    return report


def _measure(report: Report, root: str, width: int, bank: int, *, repeats: int) -> None:
    from threadpoolctl import threadpool_limits

    lake, classes = Lake.open(root), Classes(10, width)
    for seed, dataset in enumerate(("train", "val")):
        write_trace(lake, classes, dataset, bank, seed=seed)
    evaluate(lake, MODEL, result_name=RESULT, policy=Policy(bank_limit=bank))
    scorer = load_scorer(lake, RESULT)
    _, features, logits = classes.draw(_BATCH, seed=99)
    neighbours = _bare_search(classes, bank)
    actions: dict[str, Callable[[], object]] = {
        "batch": lambda: scorer.score(logits=logits, features=features),
        "bare": lambda: neighbours.kneighbors(features),
        "single": lambda: scorer.score(logits=logits[:1], features=features[:1]),
    }
    with threadpool_limits(1):
        spent = {name: median(times) for name, times in interleaved(actions, repeats=repeats).items()}
    each = spent["batch"] / _BATCH
    report.add(
        f"d {width}, bank {bank:,}",
        f"{each * 1e6:.1f}",
        f"{spent['single'] * 1e6:.0f} µs",
        ratio_text(spent["batch"] / spent["bare"]),
        f"{1 / each:,.0f}",
    )


def _bare_search(classes: Classes, bank: int) -> Any:
    from sklearn.neighbors import NearestNeighbors

    _, features, _ = classes.draw(bank, seed=7)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return NearestNeighbors(n_neighbors=_NEIGHBOURS, algorithm="brute", n_jobs=1).fit(unit)
