"""What can be wrong with an installation, looked at without changing anything."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from mld_pipelines import settings
from mld_pipelines.exceptions import MldError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Finding", "examine"]

_LOW_DISK_BYTES = 1 << 30
"""The spool's quota is 1 GiB; below that much free space a full disk is one busy day away."""

_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""This code did not exist before; a clock that says so was never set."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Outcome of one check.

    Attributes:
        check: What was looked at.
        status: `ok`, `warning` (works, but look at it) or `failed`.
        detail: What was found.
        remedy: What to do; None when there is nothing to do.
    """

    check: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    remedy: str | None = None


def examine() -> list[Finding]:
    """Run every check."""
    return [
        _python(),
        _torch(),
        *_platform_extra(),
        *_storage(settings.state_directory()),
        _clock(),
        *_ray(),
        _lake(),
        _spool(),
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{found}, mld-pipelines {_version('mld-pipelines')}, polars {_version('polars')}")


def _torch() -> Finding:
    found = _version("torch")
    if found is None:
        return Finding("torch", "warning", "not installed", "tracers and loggers wrap torch models: pip install torch")
    return Finding("torch", "ok", found)


def _platform_extra() -> list[Finding]:
    found = {name: _version(name) for name in ("dagster", "dagster-webserver", "great-expectations", "ray")}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        detail = f"{', '.join(missing)} not installed"
        return [Finding("platform", "warning", detail, "only `mld up` needs it: pip install 'mld-pipelines[platform]'")]
    if found["dagster"] != found["dagster-webserver"]:
        detail = f"dagster {found['dagster']} with dagster-webserver {found['dagster-webserver']}"
        return [Finding("platform", "failed", detail, "install both with the same number (constraints.txt pins them)")]
    return [Finding("platform", "ok", ", ".join(f"{name} {version}" for name, version in found.items()))]


def _storage(home: Path) -> list[Finding]:
    folder = next(path for path in (home, *home.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return [Finding("state directory", "failed", f"{home}: {error.strerror}", "set MLD_HOME to a writable folder")]
    state = "" if home.is_dir() else " (not made yet: mld init)"
    free = shutil.disk_usage(folder).free
    shown = f"{free / (1 << 30):.1f} GiB free"
    low = free < _LOW_DISK_BYTES
    return [
        Finding("state directory", "ok", f"{home}{state}"),
        Finding(
            "disk",
            "warning" if low else "ok",
            shown,
            "free some space: logs are dropped when it is full" if low else None,
        ),
    ]


def _clock() -> Finding:
    now = datetime.now(UTC)
    if now < _EARLIEST:
        return Finding("clock", "failed", f"it is {now:%Y-%m-%d} UTC", "set the clock: events are filed by their day")
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _ray() -> list[Finding]:
    address, mode = os.environ.get("RAY_ADDRESS"), os.environ.get("RAY_AUTH_MODE")
    if address is None:
        return []
    if mode != "token":
        detail = f"RAY_ADDRESS is {address}, RAY_AUTH_MODE is {mode or 'unset'}"
        return [Finding("ray", "warning", detail, "Ray ≥ 2.59 heads ask for a token: export RAY_AUTH_MODE=token")]
    return [Finding("ray", "ok", f"{address}, token authentication")]


def _lake() -> Finding:
    from mld_pipelines.lake import damaged_tables, schema_versions
    from mld_pipelines.tables import CATALOGUE, SCHEMA_VERSION

    try:
        from mld_pipelines.cli._open import open_lake

        lake = open_lake()
        tables = lake.tables()["table"].to_list()
        latest = {name: lake.history(CATALOGUE[name], limit=1)["timestamp"].max() for name in tables}
    except MldError as error:
        return Finding("lake", "failed", str(error), "repair the endpoint, or restore the table from a backup")
    if damage := damaged_tables(lake):
        detail = "; ".join(f"{name}: {what}" for name, what in damage.items())
        return Finding("lake", "failed", detail, "restore the files from a backup")
    if newer := [name for name, version in schema_versions(lake).items() if version > SCHEMA_VERSION]:
        detail = f"{', '.join(newer)}: written by a newer mld_pipelines, so read-only here"
        return Finding("lake", "warning", detail, "upgrade mld_pipelines")
    horizon = datetime.now(UTC) + timedelta(seconds=60)
    ahead = [name for name, at in latest.items() if isinstance(at, datetime) and at > horizon]
    if ahead:
        return Finding("lake", "warning", f"{', '.join(ahead)}: committed in the future", "compare the clocks")
    return Finding("lake", "ok", f"{lake.root}: {len(tables)} of {len(CATALOGUE)} tables exist")


def _spool() -> Finding:
    from mld_pipelines.capture import spooled_streams

    try:
        waiting = spooled_streams()
    except OSError as error:
        return Finding("spool", "failed", f"{error.filename}: {error.strerror}", "make it readable")
    rows, aside = sum(one.rows for one in waiting), sum(one.set_aside for one in waiting)
    if aside:
        detail = f"{aside} files that could not be read or stored are set aside, {rows} rows wait"
        return Finding("spool", "warning", detail, "mld ingest status names the streams")
    if rows:
        remedy = "running processes ship theirs; mld ingest replay ships what killed ones left"
        return Finding("spool", "warning", f"{rows} rows of {len(waiting)} streams wait", remedy)
    return Finding("spool", "ok", "empty")
