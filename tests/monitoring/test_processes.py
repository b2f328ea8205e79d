"""Logging across processes: kills, forks, exits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mld_pipelines.capture import replay
from mld_pipelines.tables import LANDING_INFERENCES

HEAD = """
import os, sys, time, signal
import torch
torch.set_num_threads(1)
from mld_pipelines.monitoring import ClassificationLogger
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
"""


def run(script, *arguments, timeout=120):
    return subprocess.run(
        [sys.executable, "-c", HEAD + script, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture
def stored(lake):
    def names():
        return lake.read(LANDING_INFERENCES)["request_id"].to_list()

    return names


@pytest.mark.feature("I25")
def test_rows_are_delivered_at_exit_without_close(stored):
    done = run("logger = ClassificationLogger(model, 'net', 'v1')\nfor n in range(20): logger(torch.randn(1, 4))")
    assert done.returncode == 0, done.stderr
    assert len(stored()) == 20


def test_an_exit_by_an_exception_delivers_too(stored):
    done = run("logger = ClassificationLogger(model, 'net', 'v1')\nlogger(torch.randn(2, 4))\nraise SystemExit(3)")
    assert done.returncode == 3
    assert len(stored()) == 2


KILLED = """
logger = ClassificationLogger(model, "net", "v1")
n = 0
while True:
    logger(torch.randn(1, 4), request_ids=[str(n)])
    n += 1
    if n % 20 == 0:
        print(logger.stats.acknowledged, flush=True)
        time.sleep(0.002)
"""


@pytest.mark.feature("I24", "I25")
@pytest.mark.parametrize("acknowledged", [1, 300, 1500])
def test_a_killed_logger_loses_nothing_it_had_acknowledged(stored, acknowledged):
    child = subprocess.Popen([sys.executable, "-c", HEAD + KILLED], stdout=subprocess.PIPE, text=True)
    last = 0
    for line in child.stdout:
        last = int(line)
        if last >= acknowledged:
            child.kill()
            break
    child.wait()
    child.stdout.close()
    replay()
    found = sorted(int(name) for name in stored())
    assert found == list(range(len(found)))  # no row twice, none missing in between
    assert len(found) >= last


def test_the_spool_of_a_killed_process_is_adopted_by_the_next_logger(stored, tmp_path):
    block = tmp_path / ".mld"
    block.mkdir()
    (block / "lake").write_text("unwritable while the first process lives")
    script = """
logger = ClassificationLogger(model, "net", "v1")
for n in range(5): logger(torch.randn(1, 4), request_ids=[f"killed-{n}"])
while logger.stats.acknowledged < 5: time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(script).returncode == -9
    (block / "lake").unlink()
    done = run(
        "logger = ClassificationLogger(model, 'net', 'v1')\nlogger(torch.randn(1, 4), request_ids=['new'])\n"
        "assert logger.close(30)"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(stored()) == [*(f"killed-{n}" for n in range(5)), "new"]


def test_sigterm_keeps_its_meaning():
    done = run("logger = ClassificationLogger(model, 'net', 'v1')\nlogger(torch.randn(1, 4))\nos.kill(os.getpid(), 15)")
    assert done.returncode == -15


def test_two_processes_log_into_one_lake_at_once(stored):
    script = """
logger = ClassificationLogger(model, "net", "v1")
for n in range(100):
    logger(torch.randn(1, 4), request_ids=[f"{sys.argv[1]}-{n}"])
    time.sleep(0.005)
assert logger.close(60), logger.stats
assert logger.stats.is_conserved and logger.stats.stored == 100, logger.stats
"""
    children = [
        subprocess.Popen([sys.executable, "-c", HEAD + script, name], stderr=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
    assert sorted(stored()) == sorted(f"{name}-{n}" for name in "abc" for n in range(100))


FORKED = """
logger = ClassificationLogger(model, "net", "v1")
if sys.argv[1] == "warm":  # the parent has used polars and delta-rs: their thread pools do not survive a fork
    logger(torch.randn(1, 4), request_ids=["parent-before"])
    assert logger.flush(30)
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        for n in range(4): logger(torch.randn(1, 4), request_ids=[f"child{child}-{n}"])
        ok = logger.flush(60) and logger.stats.is_conserved and logger.stats.stored == 4
        if not ok: print(logger.stats, file=sys.stderr, flush=True)
        os._exit(0 if ok else 1)
    children.append(pid)
logger(torch.randn(1, 4), request_ids=["parent-after"])
codes = [os.waitpid(pid, 0)[1] for pid in children]
assert logger.close(60)
assert codes == [0, 0, 0], codes
"""


@pytest.mark.feature("I24")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("state", ["warm", "cold"])
def test_forked_workers_log_into_streams_of_their_own(lake, state):
    done = run(FORKED, state)
    assert done.returncode == 0, done.stderr
    frame = lake.read(LANDING_INFERENCES)
    expected = [f"child{c}-{n}" for c in range(3) for n in range(4)] + ["parent-after"]
    expected += ["parent-before"] if state == "warm" else []
    assert sorted(frame["request_id"]) == sorted(expected)
    assert frame["stream_id"].n_unique() == 4


LOADER = """
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return torch.full((4,), float(i))
def main():
    logger = ClassificationLogger(model, "net", "v1")
    logger(torch.randn(1, 4))
    assert logger.flush(30)
    loader = torch.utils.data.DataLoader(Data(), batch_size=2, num_workers=2, multiprocessing_context=sys.argv[1])
    for x in loader: logger(x)
    assert logger.close(60)
if __name__ == "__main__": main()
"""


@pytest.mark.feature("I24")
def test_data_loader_workers_do_not_disturb_the_logger(stored, tmp_path):
    done = run(LOADER, "fork")
    assert done.returncode == 0, done.stderr
    assert len(stored()) == 9


LOGGED_IN_WORKERS = """
logger = ClassificationLogger(model, "net", "v1")
logger(torch.randn(1, 4), request_ids=["parent"])
assert logger.flush(30)
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i):
        with torch.no_grad(): return logger(torch.randn(1, 4), request_ids=[f"worker-{i}"])
for _ in torch.utils.data.DataLoader(Data(), batch_size=2, num_workers=2, multiprocessing_context="fork"): pass
assert logger.close(60)
"""


@pytest.mark.feature("I24", "I25")
def test_what_data_loader_workers_logged_just_before_their_end_is_stored(stored):
    done = run(LOGGED_IN_WORKERS)  # they end without `atexit`, long before the background thread's next look
    assert done.returncode == 0, done.stderr
    replay()
    assert sorted(stored()) == ["parent", *(f"worker-{n}" for n in range(8))]


def test_an_abandoned_exit_leaves_the_rows_spooled(stored, lake):
    script = """
logger = ClassificationLogger(model, "net", "v1")
for n in range(3): logger(torch.randn(1, 4))
while logger.stats.acknowledged < 3: time.sleep(0.02)
os._exit(0)
"""
    assert run(script).returncode == 0
    replay()
    assert len(stored()) == 3
