"""`mld results` of a detector."""

from __future__ import annotations

from mld_pipelines.cli._exits import Exit
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


def test_matching_and_operating_point_are_options(mld, lake):
    write_frames(lake, "val", 30, seed=2)
    given = ("--matching", "bev_iou", "--score-threshold", "0.4", "--policy", '{"tau_stable": 0.1}', "--json")
    document = mld("evaluate", "pillars@v1", "--result-name", "first", *given).document
    policy = document["inputs"]["policy"]
    assert (policy["matching"], policy["score_threshold"], policy["tau_stable"]) == ("bev_iou", 0.4, 0.1)
    assert {row["threshold"] for row in document["classes"]} == {0.4}
    assert any("bird's-eye IoU" in warning for warning in document["warnings"])
    for wrong in (("--matching", "iou"), ("--score-threshold", "2"), ("--policy", "{")):
        assert mld("evaluate", "pillars@v1", *wrong).exit == Exit.USAGE


def test_the_worst_frames_are_listed(mld, lake):
    write_frames(lake, "val", 60, seed=2)
    result = Evaluator("pillars", "v1").request_evaluation(result_name="first")
    done = mld("results", "frames", "first", "--limit", "3", "--filter", "missed > 0", "--order", "missed", "--json")
    expected = result.get_frames(filters="missed > 0", order="missed", limit=3)["input_id"].to_list()
    assert [row["input_id"] for row in done.document["frames"]] == expected
    shown = mld("results", "frames", "first").stdout
    assert result.get_frames()["input_id"][0] in shown
    assert "n_epoch" not in shown
    assert mld("results", "frames", "first", "--dataset", "test").exit == Exit.USAGE
    assert mld("results", "frames", "first", "--filter", "missed > 99").stdout.strip() == "no such frames"
