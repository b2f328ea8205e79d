"""`mld results` of a detector."""

from __future__ import annotations

from mld_pipelines.evaluator import Evaluator
from tests.support.traced_frames import write_frames


def test_a_detector_is_shown_compared_and_exported(mld, lake, tmp_path):
    frames = write_frames(lake, "val", 60, seed=2)
    write_frames(lake, "val", 0, seed=2, model_key="pillars@v2", fingerprint="c" * 64, frames=frames)
    Evaluator("pillars", "v1").request_evaluation(result_name="first")
    Evaluator("pillars", "v2").request_evaluation(result_name="second")
    shown = mld("results", "show", "first", "--json")
    assert shown.exit == 0
    assert shown.document["metrics"][0]["n_inputs"] == 60
    assert [row["class"] for row in shown.document["classes"]] == ["car", "pedestrian", "truck"]
    assert {row["unit_kind"] for row in shown.document["issues"]} == {"prediction", "object"}
    assert "unit_kind" in mld("results", "show", "first").stdout
    compared = mld("results", "compare", "first", "second", "--n-boot", "100", "--fail-if-worse")
    assert compared.exit == 0
    assert "Objects found (McNemar)" in compared.stdout
    assert mld("results", "export", "first", str(tmp_path / "report.html")).exit == 0
