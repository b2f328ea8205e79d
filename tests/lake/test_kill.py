"""Exactly once, proven on real processes that are killed from outside at random moments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from mld_pipelines.lake import Lake
from mld_pipelines.tables import OPS_PROMOTIONS, OPS_QUARANTINE
from tests.support.lake_writers import BAD_EVERY, ROWS

REPOSITORY = Path(__file__).resolve().parents[2]


def run_writers(root: Path, *, streams: int, batches: int, kills: int, seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.lake_writers", str(root), *map(str, (streams, batches, kills, seed))],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected_rows(streams: int, batches: int) -> tuple[set[str], set[tuple[str, int, int]]]:
    good, bad = set(), set()
    for stream in (f"s{number}" for number in range(streams)):
        for seq in range(batches):
            broken = seq % BAD_EVERY == 0
            good |= {f"{stream}/{seq}/{row}" for row in range(ROWS - broken)}
            bad |= {(stream, seq, ROWS - 1)} if broken else set()
    return good, bad


def assert_every_row_once(root: Path, streams: int, batches: int) -> None:
    lake = Lake(str(root), code_version="test")
    good, bad = expected_rows(streams, batches)
    stored = lake.read(OPS_PROMOTIONS)["result_name"].to_list()
    assert len(stored) == len(set(stored))
    assert set(stored) == good
    refused = lake.read(OPS_QUARANTINE).select("stream_id", "seq", "row").rows()
    assert len(refused) == len(set(refused))
    assert set(refused) == bad


def test_every_row_is_stored_once_although_writers_are_killed_a_hundred_times(tmp_path: Path) -> None:
    root = tmp_path / "killed lake ü"
    output = run_writers(root, streams=3, batches=200, kills=110, seed=1)
    assert int(re.findall(r"killed=(\d+)", output)[0]) >= 110
    assert_every_row_once(root, 3, 200)


def test_four_writers_of_sixty_batches_lose_none(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    output = run_writers(root, streams=4, batches=60, kills=0, seed=2)
    assert "killed=0 failed=0" in output
    assert_every_row_once(root, 4, 60)
