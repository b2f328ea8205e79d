"""Where things live: state directory and endpoint, read from the environment at use."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mld_pipelines.exceptions import ConfigurationError

__all__ = [
    "api_key",
    "endpoint",
    "is_http",
    "lake_uri",
    "sensor_interval_seconds",
    "spool_limit_bytes",
    "state_directory",
]

_DEFAULT_SENSOR_INTERVAL = 15
"""Seconds between sensor ticks: landing ≤ 10 s plus one tick plus one coarse run stays below a minute."""

_DEFAULT_SPOOL_MB = 1024
"""Megabytes a spool may hold: 250,000 inferences with 1,000 logits, without a lake."""


def state_directory() -> Path:
    """Return the state directory: `MLD_HOME`, else the nearest parent's `.mld/`, else `./.mld` (not created)."""
    if configured := os.environ.get("MLD_HOME"):
        return Path(configured).expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".mld").is_dir():
            return folder / ".mld"
    return here / ".mld"


def endpoint() -> str:
    """Return `MLD_API_ENDPOINT`, or the lake of the state directory when it is unset or empty."""
    return os.environ.get("MLD_API_ENDPOINT") or str(state_directory() / "lake")


def api_key() -> str | None:
    """Return `MLD_API_KEY`; only HTTP endpoints need one."""
    return os.environ.get("MLD_API_KEY") or None


def is_http(uri: str) -> bool:
    """Return whether an endpoint is an ingestion server rather than a lake."""
    return urlsplit(uri).scheme in {"http", "https"}


def lake_uri(uri: str | None = None) -> str:
    """Return the root of the lake behind an endpoint: an absolute path or an object-store URI.

    Raises:
        ConfigurationError: The endpoint is an HTTP server or has an unknown scheme.
    """
    value = endpoint() if uri is None else uri
    parts = urlsplit(value)
    if is_http(value):
        raise ConfigurationError(
            f"MLD_API_ENDPOINT is {value!r}: sending to a server comes with the ingestion server, which this version "
            "does not have. Use a path, file:// or s3:// URI, or unset it to use the state directory's lake."
        )
    if parts.scheme == "file":
        return str(Path(unquote(parts.path)).absolute())
    if parts.scheme in {"s3", "s3a"}:
        return value.rstrip("/")
    if "://" in value:
        raise ConfigurationError(f"endpoint {value!r} has the unknown scheme {parts.scheme!r}; use a path or s3://.")
    return str(Path(value).expanduser().absolute())


def sensor_interval_seconds() -> int:
    """Return the seconds between two sensor ticks, from `MLD_SENSOR_INTERVAL` (default 15).

    Raises:
        ConfigurationError: The variable is not a positive integer.
    """
    text = os.environ.get("MLD_SENSOR_INTERVAL", str(_DEFAULT_SENSOR_INTERVAL))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"MLD_SENSOR_INTERVAL is {text!r}; give whole seconds, at least 1.")
    return int(text)


def spool_limit_bytes() -> int:
    """Return the bytes that the spool of a lake may hold, from `MLD_SPOOL_MAX_MB` (default 1024).

    Raises:
        ConfigurationError: The variable is not a positive integer.
    """
    text = os.environ.get("MLD_SPOOL_MAX_MB", str(_DEFAULT_SPOOL_MB))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"MLD_SPOOL_MAX_MB is {text!r}; give whole megabytes, at least 1.")
    return int(text) * 2**20
