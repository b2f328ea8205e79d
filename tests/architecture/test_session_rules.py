"""The rules of the whole session do fire: checked on sessions of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.feature_rows import FeatureRows
from tests.support.skips import AllowedSkip, load, refused

LIST = """
[[block]]
title = "Block"
[block.rows]
A1 = "one"
A2 = "two"
A10 = "ten"
[block.later]
A10 = "next year"
"""


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "features.toml").write_text(LIST)
    return FeatureRows.load(tmp_path / "features.toml")


def test_a_row_without_a_passing_test_is_a_problem(rows):
    rows.outcome(("A1",), passed=True)
    assert rows.problems() == ["A2: no passing test (two)"]


def test_a_row_with_a_failing_test_is_a_problem(rows):
    rows.outcome(("A1", "A2"), passed=True)
    rows.outcome(("A2",), passed=False)
    assert rows.problems() == ["A2: a test of this row fails"]


def test_a_row_that_waits_is_no_problem(rows):
    rows.outcome(("A1", "A2"), passed=True)
    assert rows.problems() == []


def test_a_mark_outside_the_list_is_a_problem(rows):
    rows.outcome(("A1", "A2"), passed=True)
    rows.carried("tests/test_x.py::test_y", ("A3",))
    assert rows.problems() == ["A3: marked, but not in the feature list"]


def test_the_page_lists_rows_in_order_with_their_tests(rows):
    rows.carried("tests/test_x.py::test_y[1]", ("A2",))
    table = [line for line in rows.page().splitlines() if line.startswith("| A")]
    assert table == ["| A1 | one | – |", "| A2 | two | `tests/test_x.py` |", "| A10 | ten | later |"]


def test_a_listed_skip_is_accepted_and_another_is_not():
    allowed = [AllowedSkip(nodes="tests/gpu/*", reason="CUDA", because="no card")]
    skips = [("tests/gpu/test_a.py::test_b", "needs CUDA"), ("tests/gpu/test_a.py::test_c", "flaky")]
    assert refused(skips, allowed) == [("tests/gpu/test_a.py::test_c", "flaky")]


def test_a_skip_for_want_of_a_folder_is_refused_while_the_folder_is_there():
    line = AllowedSkip(nodes="*", reason="folder", because="not ours", when_missing="tests")
    assert not line.accepts("tests/test_a.py::test_b", "no folder")


def test_every_line_of_the_real_list_gives_its_reason():
    assert all(line.because.strip() for line in load())


@pytest.mark.parametrize(("ci", "status", "workers"), [("true", 1, ()), ("", 0, ()), ("true", 1, ("-n", "2"))])
def test_a_skipped_test_fails_the_session_in_ci_only(root, ci, status, workers):
    """A real session over one file below tests/, so that the real conftest judges it."""
    file = root / "tests" / "architecture" / f"test_skipping_{os.getpid()}_{ci or 'off'}_{len(workers)}.py"
    file.write_text("import pytest\n\ndef test_skipped():\n    pytest.skip('no reason on any list')\n")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, str(file)],
            capture_output=True, text=True, check=False, cwd=root, env={**os.environ, "CI": ci},
        )  # fmt: skip
    finally:
        file.unlink()
    assert done.returncode == status, done.stdout
    assert ("RULE BROKEN" in done.stdout) == bool(status)


def test_the_tests_of_a_file_stay_on_one_worker(root):
    """The end-to-end tests share one demo and one platform: spread over workers, each would start its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-n", "2",
         "tests/windows/test_days.py", "tests/windows/test_bins.py"],
        capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    placed = re.findall(r"\[(gw\d)\].* tests/windows/(test_\w+)\.py::", done.stdout)
    assert {name for _, name in placed} == {"test_days", "test_bins"}
    assert len(set(placed)) == 2, "one worker per file"
