"""Pages that are derived from the code are what the code says now."""

from __future__ import annotations

from pathlib import Path

import typer

from docs import generate
from mld_pipelines.cli._exits import Exit
from mld_pipelines.tables import CATALOGUE

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_catalogue_page_is_current():
    written = (DOCS / "tables.md").read_text(encoding="utf-8")
    assert written == generate.tables_page(), "run `make docs` and commit docs/tables.md"


def test_the_catalogue_page_names_every_column():
    page = generate.tables_page()
    missing = [
        f"{spec.name}.{column.name}"
        for spec in CATALOGUE.values()
        for column in spec.columns
        if f"`{column.name}`" not in page.split(f"## {spec.name}\n")[1].split("\n## ")[0]
    ]
    assert missing == []


def test_the_command_page_names_every_command():
    from mld_pipelines.cli._app import app

    def paths(command, path="mld"):
        children = getattr(command, "commands", None)
        if children is None:
            return [path]
        return [name for key, child in children.items() for name in paths(child, f"{path} {key}")]

    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert [path for path in paths(typer.main.get_command(app)) if f"`{path}" not in page] == []


def test_the_command_page_names_every_exit_status():
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert [status for status in Exit if f"| {int(status)} |" not in page] == []


def test_the_configuration_page_names_every_variable():
    package = Path(__file__).resolve().parents[2] / "mld_pipelines"
    import re

    read = set()
    for path in package.rglob("*.py"):
        read |= set(re.findall(r"environ(?:\.get\(|\[)\s*\"(MLD_[A-Z_]+)\"", path.read_text(encoding="utf-8")))
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert [name for name in sorted(read) if f"`{name}`" not in page] == []
