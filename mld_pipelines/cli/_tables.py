"""`mld tables`: what is in the lake, and its maintenance."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.cli._answer import Answer, table_of
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._exits import Exit
from mld_pipelines.cli._open import open_lake, table_spec
from mld_pipelines.exceptions import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake
    from mld_pipelines.tables import Column, TableSpec

__all__ = ["app"]

app = group("Look into the lake's tables and maintain them.")

TableName = Annotated[str, typer.Argument(metavar="TABLE", help="Name as in the catalogue, e.g. traces/inputs.")]
SomeTables = Annotated[list[str] | None, typer.Argument(metavar="TABLE", help="Default: every table that exists.")]


@command(app, "list")
def list_tables() -> Answer:
    """List the tables that exist with version, rows, files and bytes."""
    lake = open_lake()
    found = lake.tables()
    text = table_of(found) if found.height else f"no tables in {lake.root} yet"
    return Answer({"lake": lake.root, "tables": found}, (text,))


@command(app, "show")
def show(
    name: TableName,
    *,
    rows: Annotated[int, typer.Option(min=0, help="Rows to show.")] = 10,
    version: Annotated[int | None, typer.Option(help="Delta version; default: the newest.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE; may be repeated.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns to show, separated by commas.")] = None,
) -> Answer:
    """Show rows of a table, as of a version if you like. Vectors and bytes are left to --columns."""
    spec = table_spec(name)
    chosen = _columns(spec, columns)
    lake = open_lake()
    _existing(lake, spec)
    selected = lake.scan(spec, version=version, **_conditions(spec, where or [])).select(chosen)
    frame = selected.head(rows).collect()
    total = int(selected.select(chosen[:1]).collect().height)
    data = {
        "table": name,
        "version": lake.version(spec) if version is None else version,
        "matching": total,
        "rows": frame,
    }
    return Answer(data, (table_of(frame), f"{frame.height} of {total} rows, version {data['version']}"))


@command(app, "history")
def history(
    name: TableName, *, limit: Annotated[int, typer.Option(min=1, help="Newest commits to show.")] = 20
) -> Answer:
    """Show the newest commits of a table: what was done, by which run, by which code."""
    lake, spec = open_lake(), table_spec(name)
    _existing(lake, spec)
    commits = lake.history(spec, limit=limit)
    return Answer({"table": name, "commits": commits}, (table_of(commits),))


@command(app, "compact")
def compact(
    names: SomeTables = None,
    *,
    min_files: Annotated[int, typer.Option(min=2, help="Small files a partition must have to be compacted.")] = 200,
) -> Answer:
    """Rewrite partitions of many small files. Exit status 4: there was nothing to compact."""
    lake = open_lake()
    done = [lake.compact(spec, min_files=min_files) for spec in _chosen(lake, names)]
    data = [{"table": one.table, "partitions": one.partitions, "removed": one.files_removed, "added": one.files_added}
            for one in done]  # fmt: skip
    worked = [one for one in done if one.partitions]
    text = [f"{one.table}: {one.files_removed} files became {one.files_added}" for one in worked]
    return Answer({"tables": data}, tuple(text or ["nothing to compact"]), Exit.OK if worked else Exit.NOTHING_TO_DO)


@command(app, "vacuum")
def vacuum(
    names: SomeTables = None,
    *,
    retention_hours: Annotated[int, typer.Option(help="Keep what a version of this age needs; at least 168.")] = 168,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> Answer:
    """Delete files that no kept version needs; versions of results stay. Exit status 4: there were none."""
    lake, retention = open_lake(), timedelta(hours=retention_hours)
    done = [lake.vacuum(spec, retention=retention, dry_run=dry_run) for spec in _chosen(lake, names)]
    data = [{"table": one.table, "files": one.files, "kept_versions": one.kept_versions} for one in done]
    verb = "would delete" if dry_run else "deleted"
    text = [f"{one.table}: {verb} {len(one.files)} files" for one in done if one.files]
    status = Exit.OK if text else Exit.NOTHING_TO_DO
    return Answer({"dry_run": dry_run, "tables": data}, tuple(text or ["nothing to delete"]), status)


def _chosen(lake: Lake, names: list[str] | None) -> list[TableSpec]:
    specs = [table_spec(name) for name in names or lake.tables()["table"].to_list()]
    for spec in specs:
        _existing(lake, spec)
    return specs


def _existing(lake: Lake, spec: TableSpec) -> None:
    if lake.version(spec) is None:
        raise NotFoundError(f"table {spec.name} does not exist in {lake.root} yet; it is written by: {spec.writer}.")


def _columns(spec: TableSpec, columns: str | None) -> list[str]:
    if columns is None:
        return [column.name for column in spec.columns if not column.vector]
    return [_column(spec, name.strip()).name for name in columns.split(",")]


def _column(spec: TableSpec, name: str) -> Column:
    if name not in spec.column_names:
        raise NotFoundError(f"table {spec.name} has no column {name!r}; columns: {', '.join(spec.column_names)}.")
    return spec.column(name)


def _conditions(spec: TableSpec, where: list[str]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in where]
    if bad := [text for text, (_, equals, _) in zip(where, pairs, strict=True) if not equals]:
        raise InvalidInputError(f"--where {bad[0]!r} is not COLUMN=VALUE.")
    return {name: _value(spec, name, text) for name, _, text in pairs}


def _value(spec: TableSpec, name: str, text: str) -> Any:
    """Read a value in the column's own type; `null` is null."""
    dtype = _column(spec, name).data_type
    if text == "null":
        return None
    try:
        if dtype.is_integer():
            return int(text)
        if dtype.is_float():
            return float(text)
        if str(dtype) == "Date":
            return date.fromisoformat(text)
        return json.loads(text) if str(dtype) == "Boolean" else text
    except ValueError as error:
        raise InvalidInputError(f"--where {name}={text!r}: column {name!r} is {dtype}.") from error
