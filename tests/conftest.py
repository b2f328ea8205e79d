"""Session rules of the whole suite: the feature list, the skip list and an isolated state directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.support import skips as skip_list
from tests.support.feature_rows import PAGE, FeatureRows

if TYPE_CHECKING:
    from pathlib import Path


# A busy machine is no failure of a property.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


class SessionRules:
    """Judges a finished session by rules that no single test can state."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.features = FeatureRows.load()
        self.skips: list[tuple[str, str]] = []
        self.problems: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the marks where reports carry them, so that they survive xdist's worker processes."""
        for item in items:
            rows = tuple(str(row) for mark in item.iter_markers("feature") for row in mark.args)
            item.user_properties.append(("features", rows))
            self.features.carried(item.nodeid, rows)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note outcomes and skips."""
        rows = tuple(dict(report.user_properties).get("features", ()))
        self.features.carried(report.nodeid, rows)
        if report.failed or (report.when == "call" and report.passed):
            self.features.outcome(rows, passed=report.passed)
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skips.append((report.nodeid, reason))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note modules that skip as a whole."""
        if report.skipped and isinstance(report.longrepr, tuple):
            self.skips.append((report.nodeid, report.longrepr[2]))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn broken rules into a failing exit status."""
        if hasattr(session.config, "workerinput"):
            return
        if self.mode == "write":
            PAGE.write_text(self.features.page(), encoding="utf-8")
        if self.mode == "check":
            self.problems += self.features.problems()
            if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != self.features.page():
                self.problems.append(f"{PAGE.name}: behind the tests; run `make docs` and commit it")
        if os.environ.get("CI") == "true":
            refused = skip_list.refused(self.skips, skip_list.load())
            self.problems += [
                f"{node}: skipped ({reason}), not on the list of allowed skips" for node, reason in refused
            ]
        if self.problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the counts and what is broken."""
        shared = sum("../shared" in reason for _, reason in self.skips)
        terminalreporter.write_line(f"skipped: {len(self.skips)}, of these for want of ../shared: {shared}")
        if self.mode == "check":
            done, scope = len(self.features.passed & self.features.scope), len(self.features.scope)
            terminalreporter.write_line(f"feature rows in scope with a passing test: {done} of {scope}")
        for problem in self.problems:
            terminalreporter.write_line(f"RULE BROKEN {problem}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--features`."""
    parser.addoption(
        "--features",
        choices=("off", "check", "write"),
        default="off",
        help="check: every row in scope needs a passing test (whole suite only); write: rewrite docs/features.md",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Install the session rules."""
    config.pluginmanager.register(SessionRules(config.getoption("--features")), "mld-session-rules")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file on one worker of xdist, and all of tests/e2e: they share one demo and one platform."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/e2e" if file.startswith("tests/e2e/") else file

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def _own_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test its own state directory; nothing may reach the developer's."""
    monkeypatch.setenv("MLD_HOME", str(tmp_path / ".mld"))
    for name in ("MLD_API_ENDPOINT", "MLD_API_KEY", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
