"""The same reference and seed give the same artifacts, byte by byte: in any process, on any number of threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from mld_pipelines.diagnosis import Policy, select_bank
from tests.support.degenerate import fitted_scorer
from tests.support.estimation import World

ROOT = Path(__file__).parents[2]


def digest(*, seed: int = 0, own_bank: bool = False) -> str:
    """SHA-256 of codebook, estimator and window artifacts of a reference with projected features."""
    world = World(n_classes=4, width=300, spread=5.0, seed=3)
    policy = Policy(seed=seed, bank_limit=300)
    bank = None if own_bank else select_bank(world.units(500, "train", seed=1), limit=300, seed=seed)
    scorer, fit = fitted_scorer(world.units(700, "val", seed=2), bank=bank, head=world.head, policy=policy)
    parts = (scorer.codebook.to_bytes(), fit.estimator.to_bytes(), fit.window_reference.to_bytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_artifacts_are_equal_across_processes_and_thread_counts() -> None:
    """With a training bank and with the reference as its own; the first fit of a process once ran on all threads."""
    script = "from tests.diagnosis.test_determinism import digest; print(digest(), digest(own_bank=True))"
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    found = []
    for threads, salt in (("1", "1"), ("2", "2")):
        env = {**os.environ, **dict.fromkeys(variables, threads), "PYTHONHASHSEED": salt}
        run = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=env, cwd=ROOT, timeout=120
        )
        found.append(run.stdout.split())
    assert found == [[digest(), digest(own_bank=True)]] * 2


def test_another_seed_gives_other_artifacts() -> None:
    assert digest(seed=1) != digest()
