"""The committed suites: JSON files derived from the specs, in the format Great Expectations reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mld_pipelines.exceptions import NotFoundError
from mld_pipelines.quality._expectations import expectations
from mld_pipelines.tables import CATALOGUE

if TYPE_CHECKING:
    from mld_pipelines.tables import TableSpec

__all__ = ["load_suite", "suite_document", "suite_path", "write_suites"]

_FOLDER = Path(__file__).parent / "suites"


def suite_path(spec: TableSpec) -> Path:
    """Return where the suite of a table is committed."""
    return _FOLDER / f"{spec.name.replace('/', '_')}.json"


def suite_document(spec: TableSpec) -> dict[str, Any]:
    """Return the suite a spec declares; `meta.judged_by_polars` lists what pandas-based suites cannot see."""
    stated = expectations(spec)
    exact = [{"name": one.name, "severity": one.severity} for one in stated if one.engine == "polars"]
    return {
        "name": spec.name,
        "expectations": [one.document() for one in stated if one.engine == "gx"],
        "meta": {"table": spec.name, "judged_by_polars": exact},
    }


def load_suite(spec: TableSpec) -> dict[str, Any]:
    """Return the committed suite of a table.

    Raises:
        NotFoundError: The table has no committed suite.
    """
    path = suite_path(spec)
    if not path.is_file():
        known = sorted(file.stem for file in _FOLDER.glob("*.json"))
        raise NotFoundError(
            f"table {spec.name} has no committed suite ({path.name}); there are {known}. "
            "Write it with: python -m mld_pipelines.quality"
        )
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def write_suites() -> list[Path]:
    """Write the suite of every table of the catalogue and return the files that changed."""
    changed = []
    for spec in CATALOGUE.values():
        text = json.dumps(suite_document(spec), indent=2, ensure_ascii=False) + "\n"
        path = suite_path(spec)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed
