"""Wins and losses against the best peer, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.estimation._findings import SMALL
from benchmarks.estimation._job import KINDS
from benchmarks.estimation._peers import RANKING_PEERS
from benchmarks.estimation._targets import SMALL_SLICE, targets
from benchmarks.estimation._units import OURS
from benchmarks.estimation._windows import DEFAULT, STRESS

if TYPE_CHECKING:
    from benchmarks.estimation._findings import Findings

__all__ = ["words"]

_TIE = 0.005
"""AUROC differences below this are called a tie."""
_LOUD = ("AUROC natural", "AUROC aleatoric", "AUROC shortcut", "AUROC corruption")
_PEERS = (*RANKING_PEERS, "isotonic(MSP)", "Platt(MSP)", "regression on six")


def words(findings: Findings) -> list[str]:
    """Return sentences: what wins, what loses, what is a tie, what was missed."""
    lines = [*_units(findings), *_kinds_of_error(findings), *_windows(findings), *_planted(findings)]
    missed = [target for target in targets(findings) if not target.is_met]
    if missed:
        lines += [
            f"Missed: {one.quantity}: {one.value:.{one.digits}f} against {one.must:.{one.digits}f}." for one in missed
        ]
    else:
        lines.append("Every target that has to hold is met.")
    return lines


def _units(findings: Findings) -> list[str]:
    lines = []
    for kind, title in KINDS.items():
        names = findings.names(kind)
        for metric, place in (("AUROC", "on clean units"), ("AUROC corrupted", "in corrupted sets")):
            ours = findings.unit(names, OURS, metric)
            if ours:
                lines.append(_compare(findings, names, metric, f"Units, {title}, {place}"))
    return lines


def _compare(findings: Findings, names: list[str], metric: str, what: str) -> str:
    ours = float(np.mean(findings.unit(names, OURS, metric)))
    means = {peer: findings.unit(names, peer, metric) for peer in _PEERS}
    known = {peer: float(np.mean(values)) for peer, values in means.items() if values}
    best = max(known, key=lambda peer: known[peer])
    gap = ours - known[best]
    verb = "ties with" if abs(gap) < _TIE else "wins against" if gap > 0 else "**loses to**"
    return f"{what}: ours {verb} the best peer, {best} (AUROC {ours:.3f} against {known[best]:.3f})."


def _kinds_of_error(findings: Findings) -> list[str]:
    names = findings.names("p")
    return [
        _compare(findings, names, metric, f"Units, planted {metric.removeprefix('AUROC ')} errors")
        for metric in _LOUD
        if findings.unit(names, OURS, metric)
    ]


def _windows(findings: Findings) -> list[str]:
    lines = []
    for kinds, title in ((SMALL, "small models"), ("f", "photographs")):
        names = findings.with_windows(kinds)
        if not names:
            continue
        peer, error = findings.best_single_peer(names)
        for method in (DEFAULT, STRESS):
            ours = float(np.mean([findings.window(name, method) for name in names]))
            lost = [name for name in names if findings.ratio(name, method) > 1.0]
            verb = "wins against" if ours < error else "**loses to**"
            behind = f"behind the best peer of {', '.join(lost)}" if lost else "ahead of every model's own best peer"
            errors = f"(MAE {ours:.4f} against {error:.4f})"
            lines.append(f"Windows, {title}, {method}: {verb} the best single peer, {peer} {errors}; {behind}.")
        lines += _by_kind(findings, names, title)
    return lines


def _by_kind(findings: Findings, names: list[str], title: str) -> list[str]:
    """Kinds of windows on which some single peer is ahead of ours."""
    from benchmarks.estimation._window_peers import BEST_OF

    lines = []
    for method in (DEFAULT, STRESS):
        for kind in ("clean", "covariate", "label", "both"):
            ours = np.mean([findings.window(name, method, kind) for name in names])
            means = {peer: np.mean([findings.window(name, peer, kind) for name in names]) for peer in BEST_OF}
            best = min(means, key=lambda peer: means[peer])
            if means[best] < ours:
                errors = f"(MAE {means[best]:.4f} against {ours:.4f})"
                lines.append(f"Windows, {title}, {kind}: {best} is **ahead of** {method} {errors}.")
    return lines


def _planted(findings: Findings) -> list[str]:
    """What was found of the slices, and which of them were not."""
    lines = []
    for alone, company in ((True, "each alone"), (False, "all five at once")):
        big = [row for row in findings.planted if row["is_alone"] == alone and row["share"] >= SMALL_SLICE - 5e-4]
        small = [row for row in findings.planted if row["is_alone"] == alone and row["share"] < SMALL_SLICE - 5e-4]
        for rows, size in ((big, "3 % and more"), (small, "1 %")):
            if not rows:
                continue
            lost = [
                f"{row['name']} ({row['data']} {row['seed']}, {row['purity']:.0%})"
                for row in rows
                if row["purity"] < 0.5
            ]
            found = f"{len(rows) - len(lost)} of {len(rows)} slices are the majority of one of the first ten issues"
            missing = f"; not found: {', '.join(lost)}" if lost else ""
            lines.append(f"Planted, {size}, {company}: {found}{missing}.")
    return lines
