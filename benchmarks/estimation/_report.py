"""The page and the JSON of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from benchmarks.estimation import _tables
from benchmarks.estimation._findings import NATURAL, SMALL, Findings
from benchmarks.estimation._job import KINDS
from benchmarks.estimation._targets import targets
from benchmarks.estimation._words import words

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Findings", "document", "markdown", "replace_tables"]

_BEGIN, _END = "<!-- estimation: begin -->", "<!-- estimation: end -->"
_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch")


def markdown(findings: Findings) -> str:
    """Return all tables of a run."""
    return "\n".join(_sections(findings))


def document(findings: Findings) -> dict[str, Any]:
    """Return all numbers of a run as plain values, to six digits."""
    return {
        "header": _header(findings),
        "models": _rounded(findings.models),
        "planted": _rounded(findings.planted),
        "targets": [
            {"quantity": one.quantity, "value": one.value, "must": one.must, "ambitious": one.ambitious,
             "is_met": one.is_met} for one in targets(findings)
        ],
        "words": words(findings),
    }  # fmt: skip


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def replace_tables(page: str, tables: str) -> str:
    """Return the page with the tables between its two marks renewed.

    Raises:
        ValueError: The page has no such marks.
    """
    if page.count(_BEGIN) != 1 or page.count(_END) != 1:
        raise ValueError(f"the page needs one {_BEGIN!r} and one {_END!r}")
    pattern = re.compile(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{_BEGIN}\n\n{tables}\n{_END}", page)


def _sections(findings: Findings) -> Iterator[str]:
    header = _header(findings)
    yield f"{header['machine']}; {header['models']}; {header['protocol']}.\n"
    if findings.is_quick:
        yield "**A quick run: the numbers only prove that it runs.**\n"
    yield "### In words\n"
    yield "\n".join(f"- {line}" for line in words(findings)) + "\n"
    yield "### Targets\n"
    yield _tables.target_table(findings)
    for kind, title in KINDS.items():
        if findings.names(kind):
            yield f"### Units: {title}\n"
            yield _tables.unit_table(findings, kind)
    for kinds, title in (("p", "planted MNIST"), (NATURAL, "natural models"), ("f", "photographs")):
        if findings.names(kinds):
            yield f"### Small references: {title}\n"
            yield _tables.reference_table(findings, kinds)
    for kinds, title in ((SMALL, "small models"), ("f", "photographs")):
        if findings.with_windows(kinds):
            yield f"### Windows: {title}\n"
            yield "Mean absolute error of the estimated error rate; the best peer of each model in italics.\n"
            yield _tables.window_tables(findings, kinds)
            yield f"### Intervals and alerts: {title}\n"
            yield _tables.interval_table(findings, kinds)
    if findings.with_windows(SMALL + "f"):
        yield "### Codes\n"
        yield _tables.code_table(findings, SMALL + "f")
    if findings.planted:
        yield "### Planted weaknesses\n"
        yield _tables.planted_table(findings)


def _header(findings: Findings) -> dict[str, str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    models = ", ".join(
        f"{name} ({one['errors']} of {one['n_reference']} reference units wrong)"
        for name, one in findings.models.items()
    )
    cpu = sum(one["seconds, generation"] + one["seconds, measuring"] for one in findings.models.values())
    return {
        "machine": (
            f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, two processes of one thread, "
            f"Python {platform.python_version()}, {versions}; load {findings.load:.1f} before, "
            f"{findings.seconds / 60:.0f} minutes of wall time, {cpu / 60:.0f} of CPU time (training included, which a "
            "second run reads from the build folder)"
        ),
        "models": f"models: {models}",
        "protocol": "windows drawn with seed 2026, stress always without the tested family",
    }
