"""What a commit costs while a table grows: a kept `Lake` against opening the table for every commit."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

from deltalake import write_deltalake

from benchmarks._data import inferences
from benchmarks._report import Report, ratio_text, seconds_text
from benchmarks._timing import median, quantile, seconds_of
from mld_pipelines.lake import Batch, Lake
from mld_pipelines.tables import LANDING_INFERENCES

_ROWS = 100
_DAY = date(2026, 1, 5)


def run(*, quick: bool, full: bool) -> Report:
    """Commit one batch after another; around each version of interest the peer commits to a copy of the same table."""
    del full
    early, late, span = (10, 30, 4) if quick else (100, 1_000, 40)
    lake = Lake.open()
    frame = inferences(_ROWS, _DAY, seq=0, spec=LANDING_INFERENCES, first_id=0)
    ours: dict[int, list[float]] = {early: [], late: []}
    peer: dict[int, list[float]] = {early: [], late: []}
    lake.commit_once(LANDING_INFERENCES, [Batch("bench", 0, frame)])
    stop, version = late + span // 2, 0
    while version < stop:
        version = int(lake.version(LANDING_INFERENCES) or 0)
        for at in (early, late):
            if version == at - span // 2:
                peer[at] = _by_path(lake, span)
        spent = seconds_of(lambda seq=version + 1: lake.commit_once(LANDING_INFERENCES, [Batch("bench", seq, frame)]))
        for at in (early, late):
            if abs(version + 1 - at) <= span // 2:
                ours[at].append(spent)
    return _report(ours, peer, early, late)


def _by_path(lake: Lake, commits: int) -> list[float]:
    """Return the seconds of commits by path to a copy of the table as it is now."""
    copy = Path(lake.root) / "copy"
    shutil.copytree(lake.uri(LANDING_INFERENCES), copy)
    rows = lake.read(LANDING_INFERENCES).head(_ROWS)
    spent = [seconds_of(lambda: write_deltalake(str(copy), rows, mode="append")) for _ in range(commits)]
    shutil.rmtree(copy)
    return spent


def _report(ours: dict[int, list[float]], peer: dict[int, list[float]], early: int, late: int) -> Report:
    report = Report(
        f"A commit of {_ROWS} rows", ("writer", f"p50 at version {early}", f"p50 at version {late}", "growth", "p99")
    )
    rows = {"`Lake.commit_once`, kept": ours, "`write_deltalake` by path": peer}
    for name, seconds in rows.items():
        first, last = median(seconds[early]), median(seconds[late])
        worst = seconds_text(quantile(seconds[late], 0.99))
        report.add(name, seconds_text(first), seconds_text(last), ratio_text(last / first), worst)
    growth = median(ours[late]) / median(ours[early])
    gain = median(peer[late]) / median(ours[late])
    report.add("peer / ours", ratio_text(median(peer[early]) / median(ours[early])), ratio_text(gain), "", "")
    promise = f"at version {late:,} ≤ 1.5 × that at version {early:,}"
    report.at_most(promise, growth, 1.5, ratio_text(growth))
    report.notes += [
        f"p50 over {len(ours[late])} commits around each version. Ours judges the contract and keeps the batch's "
        "number in the commit (exactly once); the peer does neither, on a copy of the same table.",
    ]
    return report
