"""What one evaluation costs, and that it grows with the units: seconds and peak memory of a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks._report import Report, bytes_text, ratio_text, seconds_text

PEERS = ("scikit-learn", "scipy")
_CLASSES = 10
_LIMIT_SECONDS, _LIMIT_BYTES = 60.0, 3e9


def run(*, quick: bool, full: bool) -> Report:
    """Evaluate 100,000 units and multiples of it; a trace is half training and half validation units."""
    width = 32 if quick else 512
    sizes = [400, 800] if quick else [100_000, 200_000, 400_000, *([1_000_000] if full else [])]
    report = Report(
        f"Evaluation of traced units with {width} features and {_CLASSES} classes",
        ("units", "evaluation", "µs per unit", "growth per unit", "peak memory", "stages"),
    )
    costs = [_measure(units, width) for units in sizes]
    base = costs[0]["seconds"] / sizes[0]
    for units, cost in zip(sizes, costs, strict=True):
        each = cost["seconds"] / units
        slowest = sorted(cost["stages"].items(), key=lambda stage: -stage[1])[:3]
        stages = ", ".join(f"{name} {seconds_text(spent)}" for name, spent in slowest)
        report.add(
            f"{units:,}",
            seconds_text(cost["seconds"]),
            f"{each * 1e6:.3g}",
            ratio_text(each / base),
            bytes_text(cost["peak"]),
            stages,
        )
    growth = costs[-1]["seconds"] / sizes[-1] / base
    seconds, peak = costs[0]["seconds"], costs[0]["peak"]
    report.at_most(f"{sizes[0]:,} units ≤ 60 s", seconds, _LIMIT_SECONDS, seconds_text(seconds))
    report.at_most(f"{sizes[0]:,} units ≤ 3 GB", peak, _LIMIT_BYTES, bytes_text(peak))
    report.at_most(f"linear: {sizes[-1]:,} units cost ≤ 1.25 × as much per unit", growth, 1.25, ratio_text(growth))
    report.notes += [
        "Promotion, evaluation and storing by `mld_pipelines.evaluation.evaluate`, in a process that does nothing "
        "else; imports of scikit-learn included. Half of the units are `train`, half `val`.",
        "Peak memory is the largest resident set of that process.",
    ]
    if not full:
        report.notes.append("1,000,000 units take `python -m benchmarks --only evaluation --full`.")
    return report


def _measure(units: int, width: int) -> dict[str, Any]:
    """Write the traces in one process, evaluate in another; return what the second says about itself."""
    with tempfile.TemporaryDirectory(prefix="mld-bench-") as root:
        _child("write", root, units, width)
        said: dict[str, Any] = json.loads(_child("evaluate", root, units, width))
        return said


def _child(action: str, root: str, units: int, width: int) -> str:
    command = [sys.executable, "-m", "benchmarks.evaluation", action, root, str(units), str(width)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    return done.stdout.splitlines()[-1] if done.stdout else ""


def _write(root: str, units: int, width: int) -> None:
    from benchmarks._data import Classes, write_trace
    from mld_pipelines.lake import Lake

    lake, classes = Lake.open(root), Classes(_CLASSES, width)
    for seed, dataset in enumerate(("train", "val")):
        write_trace(lake, classes, dataset, units // 2, seed=seed)


def _evaluate(root: str, units: int) -> None:
    import resource
    import time

    from benchmarks._data import MODEL
    from mld_pipelines.evaluation import evaluate
    from mld_pipelines.lake import Lake

    stages: dict[str, float] = {}
    last: list[tuple[str, float]] = []

    def note(message: str) -> None:
        now = time.perf_counter()
        if last:
            name, began = last.pop()
            stages[name] = now - began
        last.append((message.replace(f" {units} units", ""), now))

    start = time.perf_counter()
    evaluate(Lake.open(root), MODEL, progress=note)
    note("done")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "peak": peak, "stages": stages}))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        _write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        _evaluate(sys.argv[2], int(sys.argv[3]))
