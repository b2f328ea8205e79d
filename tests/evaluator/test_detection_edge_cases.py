"""Results of detectors that found nothing, had nothing to find, or were traced on hardly anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mld_pipelines.evaluation import evaluate
from mld_pipelines.evaluator import Result
from mld_pipelines.lake import Lake
from tests.support.traced_frames import made_up_frame, write_frames

if TYPE_CHECKING:
    from pathlib import Path

FOUND = ("boxes_3d", "labels", "scores", "velocities", "features", "class_scores", "candidate_index")
TRUE = ("truth_boxes_3d", "truth_labels", "truth_velocities", "truth_points")
SUPPRESSED = ("suppressed_boxes_3d", "suppressed_labels", "suppressed_scores")


def frames(n: int, *without: str, objects: int = 6) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [made_up_frame(rng, objects=objects) | {name: [] for name in without} for _ in range(n)]


CASES = {
    "three frames": frames(3),
    "one object": frames(1, objects=1),
    "nothing found": frames(30, *FOUND),
    "nothing suppressed": frames(30, *SUPPRESSED),
    "nothing to find": frames(30, *TRUE),
    "nothing at all": frames(30, *FOUND, *TRUE, *SUPPRESSED),
}


@pytest.mark.parametrize("case", CASES)
def test_every_answer_of_a_result_exists(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 0, frames=CASES[case])
    result = Result(evaluate(lake, "pillars@v1", result_name="odd"))
    summary = result.metrics_summary().row(0, named=True)
    assert summary["n_inputs"] == len(CASES[case])
    assert result.issue_category_summary().height == 1
    assert str(result.get_summary()) in capsys.readouterr().out
    assert {row["unit_kind"] for row in result.get_issues().iter_rows(named=True)} == {"prediction", "object"}
    assert {row["unit_kind"] for row in result.get_codes().iter_rows(named=True)} == {"prediction", "object"}
    counted = result.get_view(["unit_kind", "error_type", "range_bin"])["counts"].sum()
    assert counted == result.get_samples().height
    classes = result.class_summary()
    assert classes["objects"].sum() + classes["predictions"].sum() == counted
    listed = result.get_frames()
    assert listed.height == len(CASES[case])
    assert listed["is_error"].mean() == summary["frame_error_rate"]
    assert result.compare(result, n_boot=100).n_common == len(CASES[case])
    assert (summary["precision"] is None) == ("found" in case or "at all" in case)
    assert (summary["recall"] is None) == ("to find" in case or "at all" in case)
    page = result.export(tmp_path / "report.html")[0].read_text()
    assert "Where boxes fail" in page
    assert len(result.export(tmp_path / "tables", "csv")) == 5


def test_epochs_stand_side_by_side(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 30, seed=1, epoch=1, hardness=1.3)
    write_frames(lake, "val", 30, seed=2, epoch=2)
    result = Result(evaluate(lake, "pillars@v1", n_epoch=None))
    assert result.metrics_summary().select("dataset", "n_epoch").rows() == [("val", 1), ("val", 2)]
    assert set(result.get_view("unit_kind")["n_epoch"]) == {1, 2}
    first = result.get_samples(n_epoch=1, filters="unit_kind == 'object'")
    assert first["box_3d"].to_list() == first["truth_box_3d"].to_list()
    assert result.estimate_precision_recall([], n_epoch=2).frames == 0
