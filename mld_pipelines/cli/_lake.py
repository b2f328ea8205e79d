"""`mld lake`: the lake as a whole."""

from __future__ import annotations

from mld_pipelines.cli._answer import Answer
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._exits import Exit
from mld_pipelines.cli._open import open_lake

__all__ = ["app"]

app = group("Work on the lake as a whole.")


@command(app, "migrate")
def migrate() -> Answer:
    """Bring every table to this version of the catalogue. Exit status 4: it is there already."""
    from mld_pipelines.exceptions import ReadOnlyLakeError
    from mld_pipelines.lake import schema_versions
    from mld_pipelines.tables import SCHEMA_VERSION

    lake = open_lake()
    versions = schema_versions(lake)
    if newer := [name for name, version in versions.items() if version > SCHEMA_VERSION]:
        raise ReadOnlyLakeError(
            f"{', '.join(newer)} in {lake.root} were written by a newer mld_pipelines: this one knows catalogue "
            f"version {SCHEMA_VERSION}. Nothing was changed. Upgrade mld_pipelines; reading goes on working."
        )
    # Additive columns need no migration: they are read as typed nulls. There is no breaking change before version 2.
    text = f"{lake.root}: {len(versions)} tables, all at catalogue version {SCHEMA_VERSION}"
    return Answer(
        {"lake": lake.root, "catalogue_version": SCHEMA_VERSION, "tables": list(versions)}, (text,), Exit.NOTHING_TO_DO
    )
