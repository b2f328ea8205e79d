from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    source: str


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a Markdown page in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 2, found["info"].strip(), found["body"])
        for found in _FENCE.finditer(text)
    ]


def pytest_generate_tests(metafunc):
    """Run a test with a parameter `page` once per page."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
    if "runnable_page" in metafunc.fixturenames:
        pages = [page for page in PAGES if any(block.language in {"python", "bash"} for block in blocks_of(page))]
        metafunc.parametrize("runnable_page", pages, ids=[str(page.relative_to(ROOT)) for page in pages])


def pytest_configure(config):
    """Let the tests of this folder reach the parser without an import path."""
    config.mld_blocks_of = blocks_of
