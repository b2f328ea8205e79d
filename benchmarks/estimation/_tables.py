"""Tables of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.estimation._windows import DEFAULT, KINDS, STRESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.estimation._findings import Findings

__all__ = [
    "code_table", "interval_table", "planted_table", "reference_table", "target_table", "unit_table", "window_tables",
]  # fmt: skip

_UNIT_COLUMNS = ("AUROC", "AP", "AURC", "ECE", "Brier", "AUROC corrupted", "ECE corrupted", "Brier corrupted")
_PLANTED_COLUMNS = ("AUROC natural", "AUROC aleatoric", "AUROC shortcut", "AUROC corruption")
_THOUSANDTHS = "AURC"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def unit_table(findings: Findings, kinds: str) -> str:
    """Per-unit metrics on the whole reference: means over models, the standard deviation of AUROC in brackets."""
    names = findings.names(kinds)
    columns = (*_UNIT_COLUMNS, *(_PLANTED_COLUMNS if kinds == "p" else ()))
    heads = [f"{column} · 10³" if column == _THOUSANDTHS else column for column in columns]
    rows = []
    for method in findings.unit_methods(names):
        cells = [_unit_cell(findings.unit(names, method, column), column) for column in columns]
        rows.append([_strong(method), *cells])
    return table(["method", *heads], rows)


def reference_table(findings: Findings, kinds: str) -> str:
    """AUROC · ECE · AUROC in corrupted sets where the reference was thinned."""
    names = findings.names(kinds)
    sizes = [size for size in ("all", "1000", "300", "100") if any(size in findings.models[n]["units"] for n in names)]
    rows = []
    for method in ("MSP", "isotonic(MSP)", "Platt(MSP)", "regression on six", "ours"):
        cells = []
        for size in sizes:
            having = [name for name in names if size in findings.models[name]["units"]]
            values = [findings.unit(having, method, one, reference=size) for one in ("AUROC", "ECE", "AUROC corrupted")]
            cells.append(" · ".join(f"{np.mean(one):.3f}" if one else "–" for one in values))
        rows.append([_strong(method), *cells])
    return table(["AUROC · ECE · AUROC corrupted", *(f"n_ref {size}" for size in sizes)], rows)


def window_tables(findings: Findings, kinds: str) -> str:
    """Mean absolute error of the estimated error rate: one column per model, and over the kinds of windows."""
    names = findings.with_windows(kinds)
    methods = list(findings.models[names[0]]["windows"]["methods"])
    by_model = [
        [
            _strong(method),
            *(_error_cell(findings, name, method) for name in names),
            _mean(findings, names, method, "all"),
        ]
        for method in methods
    ]
    columns = ("all", *KINDS, "p90", "bias")
    by_kind = [[_strong(method), *(_mean(findings, names, method, column) for column in columns)] for method in methods]
    ratios = [
        [
            f"{method} / best peer",
            *(f"{findings.ratio(name, method):.2f}" for name in names),
            _ratio(findings, names, method),
        ]
        for method in (DEFAULT, STRESS)
    ]
    return table(["method", *names, "mean"], [*by_model, *ratios]) + "\n" + table(["method", *columns], by_kind)


def interval_table(findings: Findings, kinds: str) -> str:
    """Coverage, width and alerts of our 90 % intervals."""
    names = findings.with_windows(kinds)
    quantities = ("coverage", "coverage shift", "width", "false alerts", "detection")
    rows = []
    for method in (DEFAULT, STRESS):
        for quantity in quantities:
            values = [findings.models[name]["windows"]["intervals"][method][quantity] for name in names]
            known = [value for value in values if value is not None]
            mean = f"{np.mean(known):.3f}" if known else "–"
            rows.append([f"{method}: {quantity}", *("–" if one is None else f"{one:.3f}" for one in values), mean])
    for label, key, text in (("weight of the map", "blends", "{:g}"), ("q", "width factors", "{:.1f}")):
        cells = [" ".join(text.format(one) for one in findings.models[name]["windows"][key].values()) for name in names]
        rows.append([f"{label}, by family left out", *cells, ""])
    return table(["", *names, "mean"], rows)


def code_table(findings: Findings, kinds: str) -> str:
    """Stability of codes."""
    names = [name for name in findings.names(kinds) if "codes" in findings.models[name]]
    quantities = list(findings.models[names[0]]["codes"])
    rows = [
        [quantity, *(f"{findings.models[name]['codes'][quantity]:.3g}" for name in names)] for quantity in quantities
    ]
    return table(["", *names], rows)


def planted_table(findings: Findings) -> str:
    """Planted slices: purity of the best of the first ten issues, mean over seeds, and each seed's."""
    rows = []
    groups = dict.fromkeys((row["data"], row["name"], row["is_alone"]) for row in findings.planted)
    for data, name, alone in groups:
        found = [row for row in findings.planted if (row["data"], row["name"], row["is_alone"]) == (data, name, alone)]
        rows.append(
            [
                data,
                name,
                "alone" if alone else "with the others",
                f"{np.mean([row['share'] for row in found]):.1%}",
                f"{np.mean([row['error_rate'] for row in found]):.2f}",
                f"{np.mean([row['purity'] for row in found]):.2f}",
                f"{np.mean([row['examples'] for row in found]):.2f}",
                " ".join(f"{row['purity']:.1f}" for row in found),
                " ".join(str(row["rank"]) for row in found),
            ]
        )
    return table(
        ["data", "slice", "planted", "share", "error rate", "purity", "of examples", "purity by seed", "issue"], rows
    )


def target_table(findings: Findings) -> str:
    """Promises, measurements and verdicts."""
    from benchmarks.estimation._targets import targets

    rows = [
        [
            target.quantity,
            f"{target.value:.{target.digits}f}",
            f"{'≤' if target.at_most else '≥'} {target.must:.{target.digits}f}",
            "–" if target.ambitious is None else f"{target.ambitious:.{target.digits}f}",
            target.verdict(),
        ]
        for target in targets(findings)
    ]
    return table(["quantity", "measured", "must", "ambitious", "verdict"], rows)


def _unit_cell(values: list[float], column: str) -> str:
    if not values:
        return "–"
    if column == _THOUSANDTHS:
        return f"{1e3 * np.mean(values):.1f}"
    spread = f" ({np.std(values):.3f})" if column == "AUROC" and len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _error_cell(findings: Findings, name: str, method: str) -> str:
    text = f"{findings.window(name, method):.4f}"
    return f"_{text}_" if method == findings.best_peer(name) else text


def _mean(findings: Findings, names: list[str], method: str, column: str) -> str:
    value = np.mean([findings.window(name, method, column) for name in names])
    return f"{value:+.4f}" if column == "bias" else f"{value:.4f}"


def _ratio(findings: Findings, names: list[str], method: str) -> str:
    return f"{np.mean([findings.ratio(name, method) for name in names]):.2f}"


def _strong(method: str) -> str:
    return f"**{method}**" if method.startswith("ours") else method
