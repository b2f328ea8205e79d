"""The address of a Ray cluster, and whether it answers: Ray itself waits two minutes for one that does not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import ConfigurationError, WorkerPoolError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["CLIENT_TRIES", "check_connected", "check_reachable", "cluster_address", "names_cluster"]

_ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>\[[0-9A-Fa-f:]+\]|[^\s:/]+):(?P<port>\d{1,5})")

_DIAL_S = 5.0
"""Seconds for a TCP connection: a machine that is up answers within milliseconds."""

_JOIN_S = 60.0
"""Seconds for a trial connection: it takes 2 to 4 s where the head answers, more on a busy machine (measured)."""

_POLL_S = 0.1

CLIENT_TRIES = 3
"""Attempts through `ray://`: its proxy starts a process for each client, and one that dies while it starts ends the
attempt (seen as `psutil.ZombieProcess` on a busy machine) or leaves it waiting; the next one gets a new process."""

_CLIENT_JOIN_S = 30.0
"""Seconds for each of these attempts: one takes 4 to 7 s (measured)."""

_TRIAL = """
import logging, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
"""

_REJECTED = "it asks for another token"

_TOKEN = re.compile("AuthToken|Unauthenticated|UNAUTHENTICATED")


def names_cluster() -> bool:
    """Return whether `RAY_ADDRESS` names a cluster: set, and not `local`."""
    return os.environ.get("RAY_ADDRESS", "").strip() not in {"", "local"}


def cluster_address() -> str:
    """Return `RAY_ADDRESS`: `host:port`, `ray://host:port`, or `auto` for the Ray that runs on this machine.

    Raises:
        ConfigurationError: It is unset, `local`, or none of these.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if not names_cluster():
        raise ConfigurationError(
            f"backend='cluster' joins the Ray of RAY_ADDRESS, which is {address or 'not set'!r}; nothing was run. Set "
            "it to the head's address, e.g. RAY_ADDRESS=10.0.0.1:6379, or use backend='local'."
        )
    found = _ADDRESS.fullmatch(address)
    if address != "auto" and (found is None or not 0 < int(found["port"]) < 65536):
        raise ConfigurationError(
            f"RAY_ADDRESS is {address!r}; nothing was run. Use host:port of the head (`ray start --head` prints it), "
            "ray://host:port of its client server, or 'auto' for the Ray that runs on this machine."
        )
    return address


def check_reachable(address: str) -> None:
    """Check that a Ray head answers and lets this process in, in bounded time and outside this process.

    Raises:
        WorkerPoolError: It does not; the message says what was tried and what to do.
    """
    found = _ADDRESS.fullmatch(address)
    if found is not None:
        try:
            socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=_DIAL_S).close()
        except OSError as error:
            raise WorkerPoolError(_refusal(address, f"{type(error).__name__}: {error}")) from error
    tries, patience = (CLIENT_TRIES, _CLIENT_JOIN_S) if address.startswith("ray://") else (1, _JOIN_S)
    for number in range(tries):
        reason = _trial(address, patience)
        if reason is None:
            return
        if reason == _REJECTED or number == tries - 1:
            raise WorkerPoolError(_refusal(address, reason))


def _trial(address: str, patience: float) -> str | None:
    """Connect in a process of its own; return why that fails, or None."""
    began = time.monotonic()
    with (
        tempfile.NamedTemporaryFile("w") as errors,
        subprocess.Popen([sys.executable, "-c", _TRIAL, address], stdout=errors, stderr=errors) as trial,  # noqa: S603
    ):
        while trial.poll() is None:
            time.sleep(_POLL_S)
            if _TOKEN.search(Path(errors.name).read_text()):  # Ray would go on trying for 20 s
                trial.kill()
                return _REJECTED
            if time.monotonic() - began > patience:
                trial.kill()
                return f"it accepts connections, but no Ray head answered within {patience:g} s"
        lines = Path(errors.name).read_text().strip().splitlines() or [f"exit status {trial.returncode}"]
        return lines[-1] if trial.returncode else None


def _refusal(address: str, reason: str) -> str:
    mode = os.environ.get("RAY_AUTH_MODE") or "unset"
    return (
        f"the Ray cluster at RAY_ADDRESS={address} cannot be joined: {reason}. Nothing was run. See that the head runs "
        "(`ray status`), that this machine is a node of it or the address is ray://…, that Python and Ray are the same "
        f"versions, and that RAY_AUTH_MODE (here {mode}) and RAY_AUTH_TOKEN are those of the head."
    )


def check_connected(ray: ModuleType, address: str) -> None:
    """Check that the Ray this process is connected to already is the one of an address, as far as that can be told.

    Raises:
        WorkerPoolError: It is another.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or found["client"]:
        return
    connected = str(ray.get_runtime_context().gcs_address)
    if connected.rpartition(":")[2] != found["port"]:
        raise WorkerPoolError(
            f"this process is connected to Ray at {connected}, not to RAY_ADDRESS={address}; nothing was run. Call "
            "ray.shutdown() first, or unset RAY_ADDRESS to use the one that is connected."
        )
