"""Which skipped tests continuous integration accepts, and why."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = ROOT / "tests" / "allowed_skips.toml"


@dataclass(frozen=True)
class AllowedSkip:
    """One line of the list.

    Attributes:
        nodes: Glob over test ids.
        reason: Regular expression that the skip's own reason must contain.
        because: Why a run without this test still says enough.
        when_missing: Accepted only while this path, relative to the repository, does not exist.
    """

    nodes: str
    reason: str
    because: str
    when_missing: str | None = None

    def accepts(self, node: str, reason: str) -> bool:
        """Whether this line covers the skip."""
        present = self.when_missing is not None and (ROOT / self.when_missing).exists()
        return not present and fnmatch(node, self.nodes) and re.search(self.reason, reason) is not None


def load(path: Path = ALLOWED) -> list[AllowedSkip]:
    """Read the list."""
    return [AllowedSkip(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("skip", [])]


def refused(skips: list[tuple[str, str]], allowed: list[AllowedSkip]) -> list[tuple[str, str]]:
    """Return the skips, as (test id, reason), that no line of the list covers."""
    return [(node, reason) for node, reason in skips if not any(line.accepts(node, reason) for line in allowed)]
