"""What the page on throughput reckons is what its blocks compute from the measured terms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.capacity import TERMS, load_terms, needs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "throughput.md"


@pytest.fixture
def computed():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, float] = {}
    for block in blocks:
        exec(block, {}, namespace)
    return namespace


def test_the_terms_are_those_of_the_benchmark(computed):
    terms = load_terms()
    assert TERMS.exists()
    for name in ("rows_ms", "driver_frame_ms", "driver_call_ms", "commit_ms", "raw_bytes", "stored_bytes"):
        assert computed[name] == pytest.approx(terms[name], rel=6e-3), f"{name}: run `make docs`"


def test_the_table_says_what_the_blocks_compute(computed):
    names = ["frames_s", "gpus", "post_cores", "drivers", "shared_mb_s", "commits_s", "commits", "stored_gb_day"]
    rows = [
        "frames a second",
        "GPUs at 25 ms a frame",
        "cores for post-processing",
        "drivers, by processor time",
        "shared memory written, MB/s",
        "commits a second",
        "of the drivers, in commits",
        "stored in a day, GB",
    ]
    found = needs(computed, computed["frames_s"])
    assert [found[row] for row in rows] == pytest.approx([computed[name] for name in names])
    page = PAGE.read_text(encoding="utf-8")
    for row in rows:
        value = float(re.search(rf"\| {re.escape(row)} \| ([\d.,]+) ", page)[1].replace(",", ""))
        assert value == pytest.approx(found[row], rel=0.06), row


def test_a_million_frames_a_day_are_a_million_frames_a_day():
    found = needs(load_terms(), 1e6 / 86_400)
    assert found["stored in a day, GB"] == pytest.approx(load_terms()["stored_bytes"] / 1e3)
    assert found["frames a second"] * 86_400 == pytest.approx(1e6)
