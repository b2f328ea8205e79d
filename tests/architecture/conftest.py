"""The tree as the architecture tests see it: parsed modules and who imports whom."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("mld_pipelines", "assets", "resources")


@dataclass
class Module:
    """One Python file."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))

    @property
    def lines(self) -> int:
        return len(self.path.read_text(encoding="utf-8").splitlines())

    @property
    def room(self) -> str:
        """First folder (or module) below mld_pipelines; the package's own `__init__` is the room ``""``."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Every imported dotted name with its line, function-level and type-checking imports included."""
        found: list[tuple[int, str]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: relative import; rooms are named in full"
                found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        return found


def modules_of(package: str) -> list[Module]:
    """Every module of a top-level package."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def sdk() -> list[Module]:
    """Modules of mld_pipelines."""
    return modules_of("mld_pipelines")


@pytest.fixture(scope="session")
def shipped() -> list[Module]:
    """Modules of mld_pipelines, assets and resources."""
    return [module for package in SHIPPED for module in modules_of(package)]
