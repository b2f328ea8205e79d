"""How long importing the SDK takes, without the torch that its user imports anyway."""

from __future__ import annotations

import subprocess
import sys

from benchmarks._report import Report, ratio_text, seconds_text
from benchmarks._timing import interleaved, median

_STATEMENTS = {
    "nothing (start of the interpreter)": "pass",
    "polars and deltalake": "import polars, deltalake",
    "training, monitoring and evaluator": "from mld_pipelines import evaluator, monitoring, training",
}
_START, _BASE, _SDK = _STATEMENTS


def run(*, quick: bool, full: bool) -> Report:
    """Time fresh processes in turns."""
    del full
    actions = {name: (lambda code=code: _python(code)) for name, code in _STATEMENTS.items()}
    seconds = {name: median(spent) for name, spent in interleaved(actions, repeats=2 if quick else 9).items()}
    start = seconds[_START]
    base, sdk = seconds[_BASE] - start, seconds[_SDK] - start
    report = Report("Importing the SDK in a fresh process", ("import", "median", "of polars and deltalake"))
    report.add(_START, seconds_text(start), "")
    report.add(_BASE, seconds_text(base), ratio_text(1.0))
    report.add(_SDK, seconds_text(sdk), ratio_text(sdk / base))
    report.at_most("≤ 0.5 s without torch", sdk, 0.5, seconds_text(sdk))
    report.notes.append("The two lower rows are without the start of the interpreter.")
    return report


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)
