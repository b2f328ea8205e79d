"""One command measures a group, and sums its promises up in a table of parity and one of speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import gpu
from benchmarks._catalogue import BENCHMARKS, GROUPS
from benchmarks._page import PAGE, replace_table, table_of
from benchmarks._summary import group_tables, summed_up

ROOT = Path(__file__).resolve().parents[2]
TABLES = {
    "detection": "| nuScenes, ours, numba: difference ≤ 1e-12 | 7.8e-16 | met |\n"
    "| nuScenes: ≥ 100 × the devkit | 620 × | met |\n| KITTI, bev: difference ≤ 1e-10 per cent | 0 | met |",
    "geometry_errors": "| every hard pair: error ≤ 1e-6 | 2e-3 | missed |\n| a row | of another | table |",
    "geometry": "| frame: difference from shapely ≤ 1e-9 | 1e-14 | no verdict |",
}


def test_promises_of_agreement_and_of_speed_are_told_apart_with_their_peer():
    parity, speed = (table.splitlines()[2:] for table in group_tables(TABLES))
    peers = [line.split(" | ")[0].removeprefix("| ") for line in parity]
    assert peers == [
        "nuscenes-devkit, its own functions",
        "MMDetection3D's `kitti_eval`, overlaps by shapely",
        "exact rational arithmetic",
        "shapely",
    ]
    assert speed == ["| nuScenes: ≥ 100 × the devkit | 620 × | met | `detection` |"]
    assert "| 2e-3 | missed | `geometry_errors` |" in parity[2]


def test_every_line_of_parity_in_the_docs_names_a_peer():
    page = PAGE.read_text(encoding="utf-8")
    lines = summed_up(page, GROUPS["detection3d"]).split("### Speed")[0].splitlines()
    told = [line for line in lines if line.startswith("|")]
    assert len(told) > 2
    assert [line for line in told if line.startswith("|  |")] == []


def test_the_docs_hold_the_summary_of_the_tables_beside_it():
    page = PAGE.read_text(encoding="utf-8")
    for group, names in GROUPS.items():
        assert replace_table(page, group, summed_up(page, names)) == page, "run python -m benchmarks"
        assert table_of(page, group)


def test_a_group_names_benchmarks_and_all_of_them_run_without_a_name():
    assert set(GROUPS["detection3d"]) <= set(BENCHMARKS)
    assert runner._asked(runner._parser().parse_args([])) == list(BENCHMARKS)
    assert runner._asked(runner._parser().parse_args(["detection3d"])) == list(GROUPS["detection3d"])
    assert runner._asked(runner._parser().parse_args(["--only", "commits"])) == ["commits"]


def test_the_gpu_script_says_so_where_there_is_no_gpu(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert "No CUDA device" in capsys.readouterr().out


def test_the_gpu_script_refuses_an_unknown_argument():
    with pytest.raises(SystemExit):
        gpu.main(["--devices", "cuda"])


def test_the_gpu_script_can_be_tried_on_the_cpu():
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    rows = [line for line in done.stdout.splitlines() if line.rstrip(" |").endswith("×")]
    assert [row.split("|")[1].strip() for row in rows] == [
        "bev_iou on the device",
        "bev_nms on the device",
        "detector, traced",
        "post-processing on the CPU",
    ]
    assert "device and CPU agree ≤ 1e-9" in done.stdout
