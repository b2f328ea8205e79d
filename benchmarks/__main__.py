"""`python -m benchmarks`: run the benchmarks one after another, print their tables and keep them in the docs."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._catalogue import BENCHMARKS, GROUPS
from benchmarks._machine import settle
from benchmarks._page import DATA, PAGE, is_judged, replace_table
from benchmarks._summary import group_tables, summed_up, titled

if TYPE_CHECKING:
    from benchmarks._report import Report

_ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_SECONDS = 120.0
"""The load that one benchmark leaves behind falls below 1.5 within a minute; a busy neighbour stays."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks that were asked for; returns the exit status (1 if one of them broke)."""
    asked = _parser().parse_args(arguments)
    reports: dict[str, Report] = {}
    broken = []
    for name in _asked(asked):
        if not asked.quick:
            settle(asked.patience)
        report = _run(name, quick=asked.quick, full=asked.full)
        if report is None:
            broken.append(name)
            continue
        reports[name] = report
        if not asked.json:
            print(f"\n{report.markdown()}", flush=True)
        if not asked.quick:
            _keep(name, report)
    for group, names in GROUPS.items():
        if not asked.json and not asked.only and set(names) <= set(reports):
            parts = group_tables({name: reports[name].markdown() for name in names})
            print(f"\n## {group}\n\n{titled(*parts)}", flush=True)
    if not asked.quick:
        _sum_up()
    if asked.json:
        print(json.dumps({name: report.document() for name, report in reports.items()}, default=str))
    if broken:
        print(f"these benchmarks broke: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def _asked(asked: argparse.Namespace) -> list[str]:
    """Return the names of the benchmarks to run: groups and single ones, or all."""
    names = [name for group in asked.groups for name in GROUPS[group]] + (asked.only or [])
    return list(dict.fromkeys(names)) or list(BENCHMARKS)


def _sum_up() -> None:
    """Write the tables of every group from what the page holds of its benchmarks."""
    page = PAGE.read_text(encoding="utf-8")
    for group, names in GROUPS.items():
        page = replace_table(page, group, summed_up(page, names))
    PAGE.write_text(page, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", type=_group, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="small sizes: proves that it runs, measures nothing")
    parser.add_argument("--full", action="store_true", help="adds the sizes that take minutes (1,000,000 units)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("--patience", type=float, default=_PATIENCE_SECONDS, help="seconds to wait for a quiet machine")
    return parser


def _group(name: str) -> str:
    """Check the name of a group; `choices` would refuse none at all."""
    if name not in GROUPS:
        raise argparse.ArgumentTypeError(f"{name!r} is no group; there is {', '.join(GROUPS)}")
    return name


def _run(name: str, *, quick: bool, full: bool) -> Report | None:
    """Run one benchmark in a new process, so that threads, caches and memory of one do not reach the next."""
    flags = [flag for flag, is_on in (("--quick", quick), ("--full", full)) if is_on]
    with tempfile.TemporaryDirectory(prefix="mld-bench-") as folder:
        output = Path(folder) / "report"
        command = [sys.executable, "-m", "benchmarks._one", name, str(output), *flags]
        done = subprocess.run(command, cwd=_ROOT, env=dict(os.environ), stdout=sys.stderr, check=False)
        if done.returncode:
            return None
        report: Report = pickle.loads(output.read_bytes())
        return report


def _keep(name: str, report: Report) -> None:
    """Write the table into the docs; one that was judged is not replaced by one that could not be."""
    if not report.rows:
        print(f"{name}: {' '.join(report.notes)} The table in {PAGE.name} stays", file=sys.stderr)
        return
    page = PAGE.read_text(encoding="utf-8")
    if report.has_verdict or not is_judged(page, name):
        PAGE.write_text(replace_table(page, name, report.markdown()), encoding="utf-8")
        if report.terms:
            terms = {term: float(f"{value:.6g}") for term, value in report.terms.items()}
            document = {**terms, "is_judged": report.has_verdict}
            (DATA / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    else:
        print(f"{name}: the machine was too busy; the table in {PAGE.name} stays", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
