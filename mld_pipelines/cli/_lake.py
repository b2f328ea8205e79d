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
    import polars as pl

    from mld_pipelines.exceptions import ReadOnlyLakeError
    from mld_pipelines.tables import CATALOGUE, SCHEMA_VERSION

    lake = open_lake()
    names = lake.tables()["table"].to_list()
    versions = {
        name: lake.scan(CATALOGUE[name]).select(pl.col("schema_version").max()).collect().item() for name in names
    }
    newer = [name for name, version in versions.items() if version is not None and version > SCHEMA_VERSION]
    if newer:
        raise ReadOnlyLakeError(
            f"{', '.join(newer)} in {lake.root} were written by a newer mld_pipelines: this one knows catalogue "
            f"version {SCHEMA_VERSION}. Nothing was changed. Upgrade mld_pipelines."
        )
    # Additive columns need no migration: they are read as typed nulls. There is no breaking change before version 2.
    text = f"{lake.root}: {len(names)} tables, all at catalogue version {SCHEMA_VERSION}"
    return Answer(
        {"lake": lake.root, "catalogue_version": SCHEMA_VERSION, "tables": names}, (text,), Exit.NOTHING_TO_DO
    )
