"""The tables kept in `docs/performance.md`, each between two markers that nobody edits."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["PAGE", "replace_table"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def replace_table(page: str, name: str, table: str) -> str:
    """Return the page with the table between the markers of a benchmark replaced; a page without them stays as it is.

    Args:
        page: Text of the page.
        name: Name of the benchmark.
        table: Markdown.
    """
    begin, end = f"<!-- bench:{name}:begin -->", f"<!-- bench:{name}:end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{table}\n{end}", page)
