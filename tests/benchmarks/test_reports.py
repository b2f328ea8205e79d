"""Verdicts and tables: what is said about a number, and when nothing may be said."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks import __main__ as runner
from benchmarks._machine import MAX_FOREIGN_CORES, MAX_LOAD, Machine
from benchmarks._page import replace_table
from benchmarks._report import Report, Target, seconds_text

QUIET = Machine("3.11", "cpu", 2, load=0.4, foreign_cores=0.0, seconds=1.0, day="2026-01-05", versions={"polars": "2"})
PAGE = "prose\n<!-- bench:a:begin -->\nold\n<!-- bench:a:end -->\nmore\n<!-- bench:b:begin -->\n<!-- bench:b:end -->\n"


def report(machine: Machine, *, value: float = 2.0, is_quick: bool = False) -> Report:
    made = Report("Title", ("what", "cost"), machine=machine, is_quick=is_quick)
    made.add("ours", "1 ms")
    made.targets.append(Target("≥ 3 ×", value, 3.0, at_most=False, shown=f"{value} ×"))
    return made


def verdict(made: Report) -> str:
    return made.document()["targets"][0]["verdict"]


@pytest.mark.parametrize(
    ("at_most", "value", "expected"),
    [(True, 1.0, "met"), (True, 1.1, "missed"), (False, 1.0, "met"), (False, 0.9, "missed")],
)
def test_a_verdict_compares_with_the_limit(at_most, value, expected):
    assert Target("p", value, 1.0, at_most=at_most, shown="").verdict(is_quiet=True) == expected


def test_a_miss_on_a_quiet_machine_is_told():
    assert verdict(report(QUIET)) == "missed"
    assert "| ≥ 3 ×    | 2.0 ×    | missed  |" in report(QUIET).markdown()


@pytest.mark.parametrize(
    "change", [{"load": MAX_LOAD + 0.01}, {"foreign_cores": MAX_FOREIGN_CORES + 0.01}], ids=["load", "neighbours"]
)
def test_a_busy_machine_gives_no_verdict(change):
    busy = dataclasses.replace(QUIET, **change)
    assert verdict(report(busy, value=9.0)) == "no verdict"
    assert f"load {busy.load:.2f}" in report(busy).markdown()


def test_quick_sizes_give_no_verdict():
    assert verdict(report(QUIET, value=9.0, is_quick=True)) == "no verdict"


def test_only_the_table_of_the_benchmark_is_replaced():
    page = replace_table(PAGE, "a", "| new | \\1 |")
    assert page == PAGE.replace("old", "| new | \\1 |")
    assert replace_table(page, "unknown", "x") == page


def test_a_judged_table_is_kept_when_the_machine_is_busy(tmp_path, monkeypatch):
    page = tmp_path / "performance.md"
    page.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(runner, "PAGE", page)
    busy = dataclasses.replace(QUIET, load=5.0)
    runner._keep("a", report(busy))
    assert "no verdict" in page.read_text(encoding="utf-8")
    runner._keep("a", report(QUIET))
    judged = page.read_text(encoding="utf-8")
    assert "missed" in judged
    runner._keep("a", report(busy))
    assert page.read_text(encoding="utf-8") == judged


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.34, "12.3 s"), (0.0567, "56.7 ms"), (2.5e-05, "25 µs"), (1.0, "1 s")]
)
def test_durations_carry_their_unit(seconds, text):
    assert seconds_text(seconds) == text


def test_a_report_without_rows_leaves_the_table_alone(tmp_path, monkeypatch, capsys):
    page = tmp_path / "performance.md"
    page.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(runner, "PAGE", page)
    runner._keep("a", Report("Title", ("what",), notes=["No device."], machine=QUIET))
    assert page.read_text(encoding="utf-8") == PAGE
    assert "No device." in capsys.readouterr().err


def test_numbers_that_pages_reckon_with_are_kept_beside_the_table(tmp_path, monkeypatch):
    page = tmp_path / "performance.md"
    page.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(runner, "PAGE", page)
    monkeypatch.setattr(runner, "DATA", tmp_path)
    made = report(QUIET)
    made.terms = {"rows_ms": 0.123456789}
    runner._keep("a", made)
    assert json.loads((tmp_path / "a.json").read_text()) == {"rows_ms": 0.123457, "is_judged": True}
