"""Runs one benchmark in a process of its own: `python -m benchmarks._one NAME OUTPUT [--quick] [--full]`."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks._catalogue import BENCHMARKS
from benchmarks._machine import Watch

_ALWAYS = ("mld-pipelines", "numpy", "polars", "deltalake")


def main(name: str, output: str, *flags: str) -> None:
    """Run the benchmark and leave its report in a file; its state directory is a temporary one."""
    with tempfile.TemporaryDirectory(prefix="mld-bench-") as home:
        os.environ["MLD_HOME"] = home
        os.environ.pop("MLD_API_ENDPOINT", None)
        watch = Watch()
        module = importlib.import_module(BENCHMARKS[name])
        report = module.run(quick="--quick" in flags, full="--full" in flags)
        machine = watch.stop(*_ALWAYS, *getattr(module, "PEERS", ()))
        if getattr(module, "STARTS_DAEMONS", False):  # what orphans used cannot be told from what others used
            machine = replace(machine, foreign_cores=None)
        report.machine = machine
        report.is_quick = "--quick" in flags
        Path(output).write_bytes(pickle.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
