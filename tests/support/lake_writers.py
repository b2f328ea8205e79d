"""Writer processes for the kill tests: a light parent forks them, kills them from outside and starts them again.

Run as `python -m tests.support.lake_writers ROOT STREAMS BATCHES KILLS SEED`. The parent imports polars and delta-rs
but never uses them, so its children may. A writer sends its stream again from some earlier batch, as a spool does after
a crash, and notes every acknowledged batch in `ROOT/acks/STREAM`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from mld_pipelines.lake import Batch, Lake
from mld_pipelines.tables import OPS_PROMOTIONS, TIMESTAMP

ROWS = 3
BAD_EVERY = 7
"""Every seventh batch ends with a row that breaks the contract."""


def batch_frame(stream: str, seq: int) -> pl.DataFrame:
    """Rows that name their stream, batch and row; the last of some batches is broken."""
    n = ROWS
    keys = ["m@v"] * n
    if seq % BAD_EVERY == 0:
        keys[-1] = "no version"
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "model_key": keys,
            "result_name": [f"{stream}/{seq}/{row}" for row in range(n)],
            "promoted_by": [stream] * n,
            "promoted_at": pl.Series([moment] * n, dtype=TIMESTAMP),
        }
    )


def write(root: str, stream: str, batches: int, group: int, rng: random.Random) -> None:
    """Send a stream from some batch before the acknowledged one to its end."""
    acks = Path(root, "acks", stream)
    done = acknowledged(root, stream)
    lake = Lake(root, code_version="test")
    start = rng.randint(max(0, done - 4), done)
    for first in range(start, batches, group):
        sent = [Batch(stream, seq, batch_frame(stream, seq)) for seq in range(first, min(first + group, batches))]
        lake.commit_once(OPS_PROMOTIONS, sent)
        with acks.open("a") as file:
            for batch in sent:
                if batch.seq >= done:
                    file.write(f"{batch.seq}\n")
                    done = batch.seq + 1
            file.flush()


def acknowledged(root: str, stream: str) -> int:
    """Batches of a stream that a writer noted as committed."""
    acks = Path(root, "acks", stream)
    return len(acks.read_text().split()) if acks.exists() else 0


def _fork(root: str, stream: str, batches: int, group: int, seed: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        write(root, stream, batches, group, random.Random(seed))
    except BaseException as error:
        sys.stderr.write(f"{stream}: {type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


def main(root: str, streams: int, batches: int, kills: int, seed: int) -> int:
    """Keep all streams running, kill writers in the midst of their work, then let every stream finish."""
    rng = random.Random(seed)
    Path(root, "acks").mkdir(parents=True, exist_ok=True)
    names = [f"s{number}" for number in range(streams)]
    group = 2 if kills else 1
    running: dict[str, tuple[int, float]] = {}
    finished: set[str] = set()
    killed = failed = 0
    while len(finished) < streams:
        for name in names:
            if name not in running and (name not in finished):
                seed += 1
                deadline = time.monotonic() + rng.uniform(0.004, 0.1) if killed < kills else float("inf")
                running[name] = (_fork(root, name, batches, group, seed), deadline)
        time.sleep(0.001)
        for name, (pid, deadline) in list(running.items()):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            del running[name]
            if os.WIFSIGNALED(status):
                killed += acknowledged(root, name) < batches
            elif os.WEXITSTATUS(status):
                failed += 1
                finished.add(name)
            elif acknowledged(root, name) >= batches:
                finished.add(name)
    print(f"killed={killed} failed={failed}", flush=True)  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *(int(text) for text in sys.argv[2:6])))
