"""Where a table lies: paths and URIs, object-store options, raw access to the transaction log."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Storage"]

_UNUSABLE = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]]")
"""delta-rs 1.6.6 decodes `%20` in a local path and writes elsewhere, and panics on brackets."""

_OBJECT_STORE = {"conditional_put": "etag"}
"""The commit protocol on S3; explicit so that a changed default of the library cannot undo it (delta-rs#4464)."""


class Storage:
    """Root of a lake on a local disk or in an object store.

    Attributes:
        root: Absolute local path or `s3://…` URI, without a trailing slash.
        options: Options for delta-rs and polars; None on local disks.
        is_local: The root is a directory of this machine.
    """

    def __init__(self, root: str, options: Mapping[str, str] | None = None) -> None:
        """Check the root.

        Raises:
            ConfigurationError: The path has characters that delta-rs mistakes for others.
        """
        self.is_local = "://" not in root
        if self.is_local and (found := _UNUSABLE.search(root)):
            raise ConfigurationError(
                f"lake root {root!r} contains {found.group()!r}, which the Delta library cannot address; nothing was "
                "written. Choose a path without '%' followed by two digits and without square brackets."
            )
        self.root = str(Path(root).expanduser().absolute()) if self.is_local else root.rstrip("/")
        self.options = dict(options or {}) if self.is_local else {**_OBJECT_STORE, **(options or {})}

    def uri(self, table: str) -> str:
        """Return the address of a table."""
        return f"{self.root}/{table}"

    def commit_name(self, version: int) -> str:
        """Return the log file of a version, relative to the table."""
        return f"_delta_log/{version:020d}.json"

    def exists(self, table: str, path: str) -> bool:
        """Return whether a file of a table exists."""
        if self.is_local:
            return os.path.exists(f"{self.uri(table)}/{path}")  # noqa: PTH110 - in the path of every read
        return self.read(table, path) is not None

    def read(self, table: str, path: str) -> bytes | None:
        """Return a small file of a table, None if there is none."""
        try:
            if self.is_local:
                return Path(self.uri(table), path).read_bytes()
            return self._read_object(table, path)
        except FileNotFoundError:
            return None

    def log_is_there(self, table: str) -> bool:
        """Return whether the table has a log folder (object stores have no folders: always)."""
        return not self.is_local or os.path.isdir(f"{self.uri(table)}/_delta_log")  # noqa: PTH112

    def identity(self, table: str) -> tuple[int, int] | None:
        """Return what changes when a local table is deleted and made anew, None where that cannot be told."""
        if not self.is_local:
            return None
        try:
            status = os.stat(f"{self.uri(table)}/{self.commit_name(0)}")  # noqa: PTH116
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _read_object(self, table: str, path: str) -> bytes:
        from deltalake._internal import DeltaFileSystemHandler

        handler = DeltaFileSystemHandler(self.uri(table), self.options or None, None)
        file = handler.open_input_file(path)
        return bytes(file.read(file.size()))
