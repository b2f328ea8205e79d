"""The tables kept in `docs/performance.md`, each between two markers that nobody edits, and numbers in `docs/data/`."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DATA", "PAGE", "is_judged", "replace_table", "table_of"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
DATA = PAGE.parent / "data"


def replace_table(page: str, name: str, table: str) -> str:
    """Return the page with the table between the markers of a benchmark replaced; a page without them stays as it is.

    Args:
        page: Text of the page.
        name: Name of the benchmark.
        table: Markdown.
    """
    begin, end = _markers(name)
    return _between(name).sub(lambda _: f"{begin}\n{table}\n{end}", page)


def is_judged(page: str, name: str) -> bool:
    """Return whether the table between the markers carries a verdict.

    Args:
        page: Text of the page.
        name: Name of the benchmark.
    """
    return re.search(r"\| (met|missed) +\|", table_of(page, name)) is not None


def table_of(page: str, name: str) -> str:
    """Return what stands between the markers of a benchmark; nothing where there are none.

    Args:
        page: Text of the page.
        name: Name of the benchmark.
    """
    found = _between(name).search(page)
    return "" if found is None else found[0]


def _between(name: str) -> re.Pattern[str]:
    begin, end = _markers(name)
    return re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- bench:{name}:begin -->", f"<!-- bench:{name}:end -->"
