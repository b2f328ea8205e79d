"""What only a cluster of several machines can promise; here a head and a worker node, each its own processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mld_pipelines.compute import PoolPolicy, WorkerSpec, open_pool
from mld_pipelines.compute._cluster import check_connected, check_reachable
from mld_pipelines.exceptions import WorkerPoolError
from tests.support.ray_cluster import processes_of

pytestmark = pytest.mark.ray

CLUSTER = PoolPolicy(backend="cluster")
ROOT = Path(__file__).resolve().parents[2]


def batches(n):
    return [{"values": np.arange(3.0) + index, "kind": "slow"} for index in range(n)]


def test_workers_run_on_every_node(joined_cluster):
    with open_pool(WorkerSpec("pool_workers:make_place"), CLUSTER) as pool:
        assert (pool.backend, pool.size) == ("cluster", 2)
        places = [result.columns for result in pool.map(batches(12))]
    assert {str(columns["node"][0]) for columns in places} == {
        node["NodeID"] for node in joined_cluster.nodes() if node["Alive"]
    }
    # nodes were started elsewhere; relative paths of the parameters still mean what they mean here
    assert {str(columns["folder"][0]) for columns in places} == {str(Path.cwd())}


def test_what_no_node_has_is_named_instead_of_waited_for(joined_cluster):
    with (
        pytest.raises(WorkerPoolError, match=r"1 CPU and 1 GPU, Ray has .*0 of 0 GPU on 2 nodes"),
        open_pool(WorkerSpec("pool_workers:Scale"), dataclasses.replace(CLUSTER, num_gpus=1.0)),
    ):
        pass


def test_a_worker_is_never_spread_over_two_nodes(joined_cluster):
    assert joined_cluster.cluster_resources()["CPU"] == 2
    with (
        pytest.raises(WorkerPoolError, match=r"2 CPU and 0 GPU, Ray has .* of 2 CPU"),
        open_pool(WorkerSpec("pool_workers:Scale"), dataclasses.replace(CLUSTER, num_cpus=2.0)),
    ):
        pass


def test_code_that_lies_nowhere_on_the_cluster_is_copied_to_it(cluster, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "only_here.py").write_text(
        "import numpy, pathlib\n"
        "def make(): return lambda batch: {'seen': numpy.array([pathlib.Path('data.txt').read_text()])}\n"
    )
    (tmp_path / "code" / "data.txt").write_text("beside the code")
    driver = (
        "from mld_pipelines.compute import PoolPolicy, WorkerSpec, open_pool\n"
        "import sys\n"
        "policy = PoolPolicy(backend='cluster', size=1, working_dir=sys.argv[1])\n"
        "with open_pool(WorkerSpec('only_here:make'), policy) as pool:\n"
        "    print([result.reason or str(result.columns['seen'][0]) for result in pool.map([{}])])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", driver, str(tmp_path / "code")], cwd=tmp_path, capture_output=True, text=True,
        timeout=120, env={**os.environ, **cluster.environment, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stdout == "['beside the code']\n", done.stderr


def test_a_driver_that_is_no_node_joins_through_the_client_server(cluster):
    driver = (
        "import numpy as np, sys\n"
        "from mld_pipelines.compute import PoolPolicy, StageSpec, WorkerSpec, open_pipeline\n"
        "stages = [StageSpec(name, WorkerSpec(f'pool_workers:{name}'), size=1) for name in ('Scale', 'Reduce')]\n"
        "with open_pipeline(stages, PoolPolicy(backend='cluster')) as pipeline:\n"
        "    batches = [{'values': np.arange(3.0), 'kind': kind} for kind in ('good', 'raise', 'late')]\n"
        "    for result in sorted(pipeline.map(batches), key=lambda result: result.index):\n"
        "        print(result.reason or result.columns['sum'].tolist())\n"
    )
    environment = {**os.environ, **cluster.environment, "RAY_ADDRESS": cluster.client_address}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", driver], env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    wanted = ["[3.0]", "stage Scale: ValueError: bad pixels", "stage Reduce: ValueError: bad boxes"]
    assert done.stdout.splitlines() == wanted, done.stderr


def test_a_client_whose_process_dies_while_it_starts_gets_another(cluster, monkeypatch):
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    before, killed = set(processes_of(cluster)), []

    def kill_the_first():
        until = time.monotonic() + 60
        while not killed and time.monotonic() < until:
            for process in set(processes_of(cluster)) - before:
                with contextlib.suppress(OSError):
                    if b"specific-server" in Path(f"/proc/{process}/cmdline").read_bytes():
                        os.kill(process, signal.SIGKILL)
                        killed.append(process)
                        break
            time.sleep(0.01)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    check_reachable(cluster.client_address)
    killer.join()
    assert len(killed) == 1


def test_code_can_only_be_copied_when_joining(joined_cluster, tmp_path):
    with (
        pytest.raises(WorkerPoolError, match="has joined already"),
        open_pool(WorkerSpec("pool_workers:Scale"), dataclasses.replace(CLUSTER, working_dir=str(tmp_path))),
    ):
        pass


def test_the_wrong_token_is_told_apart_from_a_dead_head(cluster, monkeypatch):
    for name, value in {**cluster.environment, "RAY_AUTH_TOKEN": "wrong"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WorkerPoolError, match=r"asks for another token.*RAY_AUTH_MODE \(here token\)"):
        check_reachable(cluster.address)


def test_another_cluster_than_the_connected_one_is_refused(joined_cluster, cluster):
    check_connected(joined_cluster, cluster.address)
    check_connected(joined_cluster, "auto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(WorkerPoolError, match=f"not to RAY_ADDRESS={other}"):
        check_connected(joined_cluster, other)
