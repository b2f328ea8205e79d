"""A real Ray cluster on this machine: a head and a worker node, each a process of its own with its own ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_UP_S = 90.0
_MARK = "MLD_TEST_CLUSTER"
_STORE_BYTES = str(80 * 2**20)


@dataclass
class RayCluster:
    """A running cluster.

    Attributes:
        address: What `RAY_ADDRESS` is set to.
        client_address: The same for a driver that is no node.
        environment: What a driver needs to be let in.
        folder: Where its nodes keep their files.
    """

    address: str
    client_address: str
    environment: dict[str, str]
    folder: Path


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a head and a worker with one CPU each; stop exactly these at the end."""
    # Ray makes Unix sockets below this folder, whose paths may have 107 characters
    folder = Path(tempfile.mkdtemp(prefix="mldray", dir="/tmp"))
    port, client = _free_ports(2)
    address = f"127.0.0.1:{port}"
    # the machine's own token: a process keeps the first one it used, and other tests may have used a local Ray
    _ray("get-auth-token", "--generate")
    let_in = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"}
    cluster = RayCluster(address, f"ray://127.0.0.1:{client}", let_in, folder)
    head = ["--head", f"--port={port}", f"--ray-client-server-port={client}", f"--temp-dir={folder}"]
    head += ["--include-dashboard=false"]
    try:
        _start(cluster, "head", *head)
        _start(cluster, "worker", f"--address={address}")
        yield cluster
    finally:
        _stop(cluster)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        found = []
        for _ in range(count):
            probe = open_sockets.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(probe.getsockname()[1])
        return found


def _start(cluster: RayCluster, name: str, *arguments: str) -> None:
    """Start a node; `ray start` returns when it is up."""
    # the default range of worker ports is shared by all nodes of a machine
    node = ["start", "--num-cpus=1", "--num-gpus=0", "--min-worker-port=0", "--max-worker-port=0"]
    node += ["--disable-usage-stats", f"--object-store-memory={_STORE_BYTES}", *arguments]
    with (cluster.folder / f"{name}.log").open("w") as log:
        _ray(*node, cwd=cluster.folder, stdout=log, stderr=log, mark=str(cluster.folder))


def _ray(*arguments: str, mark: str = "", **options: Any) -> None:
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", _MARK: mark}
    environment.pop("RAY_ADDRESS", None)
    command = [str(Path(sys.executable).with_name("ray")), *arguments]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
    done = subprocess.run(command, env=environment, timeout=_UP_S, check=False, **options)
    assert done.returncode == 0, f"{command} ended with {done.returncode}"


def processes_of(cluster: RayCluster) -> list[int]:
    """Return the processes of the cluster: those that inherited its mark, or name its folder."""
    marks = (f"{_MARK}={cluster.folder}\0".encode(), f"{cluster.folder}/".encode())
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marks[0] in (process / "environ").read_bytes() or marks[1] in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def _stop(cluster: RayCluster) -> None:
    """End every process of the cluster (`ray stop` would end every Ray of the machine)."""
    for sent, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        for process in processes_of(cluster):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, sent)
        until = time.monotonic() + patience
        while processes_of(cluster) and time.monotonic() < until:
            time.sleep(0.1)
    shutil.rmtree(cluster.folder, ignore_errors=True)
