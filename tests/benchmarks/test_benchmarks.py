"""Every benchmark runs in its small shape and says what it compared; no timing is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._catalogue import BENCHMARKS
from benchmarks._page import PAGE, replace_table

ROOT = Path(__file__).resolve().parents[2]
SLOW = {"interactive"}
"""It starts a real webserver and daemon."""
RAY = {"throughput"}
"""It starts a local Ray."""


def run_quick(name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", "--only", name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW) + [pytest.mark.ray] * (name in RAY))
        for name in BENCHMARKS
    ],
)
def test_a_benchmark_prints_ratios_without_a_verdict_in_its_quick_shape(name):
    page = PAGE.read_text(encoding="utf-8")
    done = run_quick(name)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout).values()
    assert all(len(row) == len(report["columns"]) for row in report["rows"])
    assert any(cell.endswith(" ×") for row in report["rows"] for cell in row)
    assert {target["verdict"] for target in report["targets"]} <= {"no verdict"}
    assert report["machine"]["load"] >= 0
    assert report["machine"]["versions"]["polars"]
    assert PAGE.read_text(encoding="utf-8") == page  # a smoke run leaves the docs alone


def test_the_docs_keep_a_place_for_every_table():
    page = PAGE.read_text(encoding="utf-8")
    for name in BENCHMARKS:
        assert replace_table(page, name, "| here |") != page, name
