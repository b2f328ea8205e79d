"""The compiled kernels: late, kept on disk, shared by processes, and not needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mld_pipelines.geometry import engine

CALL = """
from mld_pipelines.geometry import bev_iou, bev_nms, engine
car = [[0, 0, 0, 2, 4, 1, 0.1]]
print(engine(), bev_iou(car, car).tolist(), bev_nms(car, [1.0], 0.5).tolist())
"""
ANSWER = "[[1.0]] [0]"


def python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_room_loads_neither_numba_nor_torch():
    heavy = "{'numba', 'llvmlite', 'torch', 'scipy', 'pandas', 'polars'}"
    assert python(f"import sys, mld_pipelines.geometry; print({heavy} & set(sys.modules))") == "set()"


def test_without_numba_arrays_answer():
    blocked = "import sys; sys.modules['numba'] = None\n"
    assert python(blocked + CALL) == f"numpy {ANSWER}"


@pytest.mark.platform
def test_the_engine_is_named():
    assert engine() == "numba"


@pytest.mark.platform
def test_where_nothing_can_be_kept_kernels_are_compiled_anyway(monkeypatch):
    from mld_pipelines.geometry import _jit

    def refuses_to_keep(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available for file")
        return lambda function: function

    monkeypatch.setattr(_jit.numba, "njit", refuses_to_keep)
    assert _jit.compiled(python) is python


@pytest.mark.platform
@pytest.mark.slow
def test_processes_that_start_at_once_fill_one_cache_for_the_next(tmp_path):
    place = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    counted = CALL + "from mld_pipelines.geometry import _edges; print(sum(_edges.pairwise.stats.cache_hits.values()))"
    command = [sys.executable, "-c", counted]
    racing = [subprocess.Popen(command, env=place, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=240)[0].splitlines()[0] for process in racing] == [f"numba {ANSWER}"] * 3
    last = subprocess.run(command, env=place, capture_output=True, text=True, timeout=240, check=True)
    assert last.stdout.splitlines() == [f"numba {ANSWER}", "1"]
