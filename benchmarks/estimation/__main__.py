"""`python -m benchmarks.estimation`: one command, one page of tables."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.estimation._datasets import is_present
from benchmarks.estimation._job import FULL, QUICK, Plan, measure_model, measure_planted
from benchmarks.estimation._report import Findings, document, markdown, replace_tables

if TYPE_CHECKING:
    from concurrent.futures import Future

_ROOT = Path(__file__).resolve().parents[2]
_FOLDER = _ROOT / "build" / "estimation"
_PAGE, _NUMBERS = _ROOT / "docs" / "estimation.md", _ROOT / "docs" / "estimation.json"
_WORKERS = 2


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page or the JSON, and keep both; a full run also rewrites those in `docs/`."""
    asked = _parser().parse_args(arguments)
    plan = _present(QUICK if asked.quick else FULL)
    if asked.only:
        plan = _only(plan, asked.only)
    findings = _measure(plan, workers=asked.workers)
    page, numbers = markdown(findings), json.dumps(document(findings), separators=(",", ":"))
    _FOLDER.mkdir(parents=True, exist_ok=True)
    (_FOLDER / "report.md").write_text(page, encoding="utf-8")
    (_FOLDER / "report.json").write_text(numbers + "\n", encoding="utf-8")
    if not asked.quick and not asked.only:
        _PAGE.write_text(replace_tables(_PAGE.read_text(encoding="utf-8"), page), encoding="utf-8")
        _NUMBERS.write_text(numbers + "\n", encoding="utf-8")
    print(numbers if asked.json else page)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three models, 100 windows: at most 5 minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the page")
    parser.add_argument("--only", action="append", metavar="NAME", help="a model, e.g. p0; may be repeated")
    parser.add_argument("--workers", type=int, default=_WORKERS, help="worker processes of one thread each")
    return parser


def _present(plan: Plan) -> Plan:
    """The plan without models whose data is not on this machine."""
    absent = sorted(kind for kind in plan.seeds if not is_present(kind))
    if absent:
        print(f"data of {', '.join(absent)} is not here; these models are left out", file=sys.stderr)
    return replace(
        plan,
        seeds={kind: seeds for kind, seeds in plan.seeds.items() if kind not in absent},
        planted=tuple(one for one in plan.planted if one[0] not in absent),
    )


def _only(plan: Plan, names: list[str]) -> Plan:
    seeds = {kind: tuple(int(name[1:]) for name in names if name[0] == kind) for kind in {name[0] for name in names}}
    return replace(plan, seeds=seeds, planted=())


def _measure(plan: Plan, *, workers: int) -> Findings:
    # Workers inherit the environment; native threads would fight over the two cores.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    began = time.monotonic()
    load = os.getloadavg()[0]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        models = {name: pool.submit(measure_model, name, plan) for name in plan.names()}
        planted = [pool.submit(measure_planted, kind, seed) for kind, seed in plan.planted]
        results = {name: _wait(name, future) for name, future in models.items()}
        slices = [row for future in planted for row in _wait("planted", future)]
    return Findings(results, slices, seconds=time.monotonic() - began, load=load, is_quick=plan.is_quick)


def _wait(name: str, future: Future[Any]) -> Any:
    result = future.result()
    print(f"{name} done", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
