"""`Result` of a detector: summaries, issues, codes, views, samples, comparison, files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mld_pipelines.diagnosis import DETECTION_SCORE_NAMES, estimate_detection_window
from mld_pipelines.evaluation import (
    CATEGORY_RATIOS,
    DETECTION_EVIDENCE_SCHEMA,
    DETECTION_EXTRAS,
    FRAME_SCORE_COLUMNS,
    METRIC_COLUMNS,
    METRIC_EXTRAS,
    detection_window_evidence,
    evaluate,
    load_detection_scorer,
    score_frames,
)
from mld_pipelines.evaluation.detection._frame_boxes import frame_boxes
from mld_pipelines.evaluator import Evaluator, Result
from mld_pipelines.evaluator._classes import box_table
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.metrics import mcnemar
from mld_pipelines.tables import LANDING_INFERENCES
from tests.support.traced_frames import CLASS_NAMES, write_frames, write_logged_frames

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def frames(endpoint: str) -> dict[str, list[dict[str, Any]]]:
    lake = Lake.open(endpoint)
    return {"train": write_frames(lake, "train", 60, seed=1), "val": write_frames(lake, "val", 130, seed=2)}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("detector") / "lake")


@pytest.fixture(scope="module")
def result(endpoint: str, frames: Any) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_API_ENDPOINT", endpoint)
        return Evaluator("pillars", "v1").request_evaluation(result_name="first")


@pytest.fixture(scope="module")
def better(endpoint: str, result: Result, frames: dict[str, list[dict[str, Any]]]) -> Result:
    """`pillars@v2` returns what v1 suppressed, with good scores; it was not traced on the first frame of val."""
    lake = Lake.open(endpoint)
    write_frames(
        lake, "val", 0, seed=2, model_key="pillars@v2", fingerprint="c" * 64,
        frames=[_with_candidates(one) for one in frames["val"]],
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_API_ENDPOINT", endpoint)
        return Evaluator("pillars", "v2").request_evaluation(result_name="second")


def _with_candidates(frame: dict[str, Any]) -> dict[str, Any]:
    n = len(frame["suppressed_labels"])
    classes, scores = frame["suppressed_labels"], np.full(n, 0.95)
    added = {
        "boxes_3d": np.reshape(frame["suppressed_boxes_3d"], (-1, 7)), "labels": classes, "scores": scores,
        "velocities": np.full((n, 2), np.nan), "features": np.eye(3, 8)[classes] * 3.0,
        "class_scores": np.eye(3)[classes] * 0.9 + 0.02, "candidate_index": np.full(n, -1),
    }  # fmt: skip
    nothing = {"suppressed_boxes_3d": [], "suppressed_labels": [], "suppressed_scores": []}
    return frame | {name: np.concatenate([frame[name], more]) for name, more in added.items()} | nothing


@pytest.fixture(scope="module")
def units(result: Result) -> pl.DataFrame:
    return result._stored.units().collect()


def of_kind(frame: pl.DataFrame, kind: str) -> pl.DataFrame:
    return frame.filter(pl.col("unit_kind") == kind, pl.col("dataset_type") == "val")


@pytest.mark.feature("H26")
def test_the_summary_has_the_columns_of_the_guides_and_the_detectors_own(result: Result) -> None:
    summary = result.metrics_summary()
    assert summary.columns == ["dataset", *METRIC_COLUMNS, *METRIC_EXTRAS, *DETECTION_EXTRAS]
    assert summary["dataset"].to_list() == ["train", "val"]
    assert summary.select("counts", "n_inputs", "n_missed").dtypes == [pl.Int64] * 3


def test_the_summary_can_be_recounted_from_the_units(result: Result, units: pl.DataFrame) -> None:
    row = result.metrics_summary().row(1, named=True)
    predictions, objects = of_kind(units, "prediction"), of_kind(units, "object")
    hits, missed = (~predictions["is_error"]).sum(), objects["is_error"].sum()
    assert (row["counts"], row["n_inputs"], row["n_missed"]) == (len(predictions) + missed, 130, missed)
    assert row["accuracy"] == pytest.approx(hits / (len(predictions) + missed))
    assert row["precision"] == pytest.approx(hits / len(predictions))
    assert row["recall"] == pytest.approx(hits / len(objects))


def test_categories_share_out_the_counted_units(result: Result) -> None:
    ratios, counts = result.issue_category_summary(), result.metrics_summary()["counts"]
    assert ratios.columns == ["dataset", *CATEGORY_RATIOS]
    for row, n in zip(ratios.iter_rows(named=True), counts, strict=True):
        shares = [row[name] for name in CATEGORY_RATIOS[:5]]
        assert sum(shares) == pytest.approx(1.0)
        assert [share * n for share in shares] == pytest.approx([round(share * n) for share in shares])


def test_classes_add_up_to_the_summary(result: Result) -> None:
    classes = result.class_summary().filter(pl.col("dataset") == "val")
    row = result.metrics_summary().row(1, named=True)
    assert classes["class"].to_list() == list(CLASS_NAMES)
    assert classes["ap"].mean() == pytest.approx(row["map"])
    assert classes["missed"].sum() == row["n_missed"]
    assert classes["hits"].sum() / classes["predictions"].sum() == pytest.approx(row["precision"])
    assert classes["found"].sum() / classes["objects"].sum() == pytest.approx(row["recall"])
    wrong = classes.select(pl.sum_horizontal("cls", "loc", "both", "dupe", "bkg")).to_series()
    assert (wrong == classes["predictions"] - classes["hits"]).all()
    f1 = 2 * classes["hits"] / (classes["predictions"] + classes["objects"])
    # equal where as many objects are found as predictions are right; a duplicate or a chain of matches may differ
    assert classes["f1"].to_list() == pytest.approx(f1.to_list(), abs=0.01)


def test_the_operating_point_is_the_lowest_score_that_was_kept(result: Result, units: pl.DataFrame) -> None:
    """On the deciding dataset the threshold of a class is a score that occurs: the last one that is worth it."""
    lowest = of_kind(units, "prediction").group_by("prediction").agg(pl.col("confidence").min()).sort("prediction")
    classes = result.class_summary().filter(pl.col("dataset") == "val").sort("label")
    assert classes["threshold"].to_list() == pytest.approx(lowest["confidence"].to_list())


def test_the_overview_prints_both_kinds_of_codes(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    summary = result.get_summary()
    assert str(summary) in capsys.readouterr().out
    assert set(summary.error_codes["unit_kind"]) == {"prediction", "object"}
    assert summary.classes is not None
    assert str(summary.classes) in str(summary)


@pytest.mark.parametrize(("kind", "prefix"), [("prediction", "P"), ("object", "M")])
def test_issues_and_codes_can_be_asked_for_by_kind(result: Result, kind: str, prefix: str) -> None:
    for rows in (result.get_issues(unit_kind=kind), result.get_codes(unit_kind=kind)):
        assert set(rows["unit_kind"]) == {kind}
        assert {code[0] for code in rows["error_code"]} <= {prefix, "U"}
    both = result.get_issues().height
    assert both == sum(result.get_issues(unit_kind=one).height for one in ("prediction", "object"))


def test_an_unknown_kind_is_refused(result: Result) -> None:
    with pytest.raises(InvalidInputError, match="unknown unit_kind 'input'; this result has: prediction, object"):
        result.get_issues(unit_kind="input")


def test_issues_tell_error_types(result: Result) -> None:
    misses = result.get_issues("val", unit_kind="object", filters="errors > 0")
    assert {name for names in misses["top_error_types"].to_list() for name in names} == {"miss"}
    wrong = result.get_issues("val", unit_kind="prediction", filters="errors > 0")
    assert "bkg" in {name for names in wrong["top_error_types"].to_list() for name in names}


def test_views_count_each_kind_by_itself(result: Result, units: pl.DataFrame) -> None:
    seen = result.get_view("category", exclusive=True).filter(pl.col("dataset") == "val")
    for kind in ("prediction", "object"):
        part = seen.filter(unit_kind=kind)
        assert part["counts"].sum() == of_kind(units, kind).height
        assert part["ratio"].sum() == pytest.approx(1.0)


def test_error_types_of_boxes_are_types(result: Result, units: pl.DataFrame) -> None:
    seen = result.get_view(["outcome", "error_type"]).filter(pl.col("dataset") == "val")
    expected = units.filter(pl.col("dataset_type") == "val").group_by("unit_kind", "outcome", "error_type").len()
    rows = {(r["unit_kind"], r["outcome"], r["error_type"]): r["counts"] for r in seen.iter_rows(named=True)}
    assert rows == {tuple(row[:3]): row[3] for row in expected.iter_rows()}


@pytest.mark.feature("H25")
def test_views_filter_by_range_and_score(result: Result, units: pl.DataFrame) -> None:
    seen = result.get_view("range_bin", filters=["score > 0.5", "range_m < 30", "unit_kind == 'prediction'"])
    chosen = of_kind(units, "prediction").filter(pl.col("confidence") > 0.5, pl.col("range_m") < 30)
    val = seen.filter(pl.col("dataset") == "val")
    assert val["counts"].sum() == chosen.height
    assert set(val["range_bin"]) == {"0–10 m", "10–20 m", "20–30 m"}


def test_unknown_groups_name_those_of_boxes(result: Result) -> None:
    with pytest.raises(InvalidInputError, match=r"valid groups: .*unit_kind, outcome, error_sub_type, range_bin"):
        result.get_view("colour")


def test_samples_give_the_boxes_of_a_code(result: Result, units: pl.DataFrame) -> None:
    code = result.get_issues("val", unit_kind="object")["error_code"][0]
    found = result.get_samples(code, dataset="val")
    expected = of_kind(units, "object").filter(pl.col("error_code") == code)
    assert sorted(found.select("input_id", "unit_index").rows()) == sorted(
        expected.select("input_id", "unit_index").rows()
    )
    assert found["box_3d"].list.len().unique().to_list() == [7]
    assert found["box_3d"].to_list() == found["truth_box_3d"].to_list()
    assert found["reasons"].null_count() == found.height  # an object has no probabilities to explain


def test_samples_of_predictions_are_explained_and_know_their_truth(
    result: Result, frames: dict[str, list[dict[str, Any]]]
) -> None:
    found = result.get_samples(dataset="val", filters="unit_kind == 'prediction'", order="error_proba", limit=400)
    assert {reason["score"] for reasons in found["reasons"].to_list() for reason in reasons} <= set(
        DETECTION_SCORE_NAMES
    )
    assert any(found["reasons"].to_list())
    for row in found.filter(pl.col("outcome") == "tp").head(20).iter_rows(named=True):
        frame = frames["val"][int(row["input_id"].split("-")[1])]
        assert row["box_3d"] == frame["boxes_3d"][row["unit_index"]].tolist()
        assert row["truth_box_3d"] in frame["truth_boxes_3d"].tolist()
        gap = np.subtract(row["box_3d"], row["truth_box_3d"])[:2]
        assert np.hypot(*gap) == pytest.approx(row["ate"])
    assert found.filter(pl.col("error_type") == "bkg")["truth_box_3d"].null_count() > 0


def test_samples_come_in_an_order_that_tells_boxes_of_a_frame_apart(result: Result) -> None:
    found = result.get_samples(dataset="val", order="input_id", reasons=False)
    keys = found.select("input_id", "unit_kind", "unit_index").rows()
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_the_comparison_tests_which_objects_were_found(result: Result, better: Result) -> None:
    found = result.compare(better, n_boot=200)
    row = found.accuracy.row(0, named=True)
    before, after = (
        of_kind(one._stored.units().collect(), "object").sort("input_id", "unit_index")["outcome"] == "tp"
        for one in (result, better)
    )
    expected = int((~before & after).sum()), int((before & ~after).sum())
    assert (row["fixed"], row["broken"]) == expected
    assert row["method"] == "mcnemar by frames exact"
    assert mcnemar(*expected).p_value <= row["p_value"] < 0.001
    assert found.fixed.height == expected[0] > 50
    assert {"unit_index", "range_m", "confidence_after"} <= set(found.fixed.columns)
    assert "Objects found (McNemar)" in str(found)


def test_the_comparison_draws_frames(result: Result, better: Result) -> None:
    found = result.compare(better, n_boot=200)
    rows = {row["metric"]: row for row in found.metrics.iter_rows(named=True)}
    for name in ("accuracy", "precision", "recall", "f1"):
        for column, one in (("before", result), ("after", better)):
            summary = one.metrics_summary().filter(pl.col("dataset") == "val")
            assert rows[name][column] == pytest.approx(summary[name][0])
    assert rows["recall"]["verdict"] == "better"
    assert rows["recall"]["n"] == 130
    assert found.n_common == 130


def test_a_detector_is_equal_to_itself(result: Result) -> None:
    found = result.compare(result, n_boot=100)
    assert set(found.metrics["verdict"]) == {"not enough evidence"}
    assert (found.fixed.height, found.broken.height) == (0, 0)
    assert found.links.is_empty()  # one lineage: names compare
    assert set(found.transitions["same_place"]) == {True}


def test_frames_with_other_true_boxes_are_left_out(
    endpoint: str, result: Result, frames: dict[str, list[dict[str, Any]]]
) -> None:
    """A version whose truth of three frames was corrected, and a frame in which neither has a box."""
    changed = [dict(frame) for frame in frames["val"]]
    for frame in [one for one in changed if len(one["truth_labels"])][:3]:
        frame["truth_boxes_3d"] = frame["truth_boxes_3d"] + np.array([0.5, 0, 0, 0, 0, 0, 0])
    write_frames(Lake.open(endpoint), "val", 0, seed=2, model_key="pillars@v3", fingerprint="d" * 64, frames=changed)
    other = Evaluator("pillars", "v3").request_evaluation(result_name="relabelled")
    found = result.compare(other, n_boot=100)
    assert found.common.row(0, named=True)["other_label"] == 3
    assert found.n_common == 127
    assert any("3 frames have other true boxes" in note for note in found.notes)


@pytest.fixture(scope="module")
def logged(endpoint: str, result: Result) -> pl.DataFrame:
    """300 frames that a Logger stored, of the kind that the reference is made of."""
    lake = Lake.open(endpoint)
    write_logged_frames(lake, 300, seed=9)
    return lake.scan(LANDING_INFERENCES, model_key="pillars@v1").collect().sort("row", "seq")


def test_rows_get_the_scores_that_a_logger_records(endpoint: str, result: Result, logged: pl.DataFrame) -> None:
    scorer = load_detection_scorer(Lake.open(endpoint), "first")
    expected = score_frames(logged, scorer)
    found = result.score(rows=logged)
    assert found["request_id"].to_list() == logged["request_id"].to_list()
    assert_frame_equal(pl.DataFrame(found.select(FRAME_SCORE_COLUMNS)), expected.select(FRAME_SCORE_COLUMNS))
    assert found["box_error_proba"].list.len().to_list() == logged["labels"].list.len().to_list()


def test_scores_do_not_depend_on_the_rows_beside_them(result: Result, logged: pl.DataFrame) -> None:
    whole, one = result.score(rows=logged), result.score(rows=logged[7:8])
    assert_frame_equal(pl.DataFrame(whole[7:8]), pl.DataFrame(one))


def test_mappings_without_the_columns_that_a_detector_lacks_are_scored(result: Result, logged: pl.DataFrame) -> None:
    names = ["fingerprint", "boxes_3d", "scores", "labels", "class_scores", "class_space", "features"]
    found = result.score(rows=logged.select(names).to_dicts()[:3])
    assert found["scored_by"].null_count() == 0


def test_no_rows_give_an_empty_frame(result: Result, logged: pl.DataFrame) -> None:
    found = result.score(rows=logged.clear())
    assert found.height == 0
    assert set(FRAME_SCORE_COLUMNS) <= set(found.columns)
    assert result.estimate_precision_recall(logged.clear()).precision is None


def test_the_estimate_of_like_frames_holds_the_truth(result: Result, logged: pl.DataFrame) -> None:
    """The frames are drawn like the reference: its precision and recall are theirs, up to chance."""
    estimate = result.estimate_precision_recall(logged)
    row = result.metrics_summary().row(1, named=True)
    assert estimate.frames == 300
    assert estimate.precision_low <= row["precision"] <= estimate.precision_high
    assert estimate.recall_low <= row["recall"] <= estimate.recall_high


def test_the_estimate_is_that_of_the_scorer(endpoint: str, result: Result, logged: pl.DataFrame) -> None:
    scorer = load_detection_scorer(Lake.open(endpoint), "first")
    boxes = frame_boxes(logged)
    scored = scorer.score(
        boxes.recorded, boxes.suppressed, class_scores=boxes.class_scores, class_space=boxes.class_space,
        features=boxes.features, keys=[f"production/{request}" for request in logged["request_id"]],
    )  # fmt: skip
    expected = estimate_detection_window(scorer.window_state(scored), scorer.window_reference)
    found = result.estimate_precision_recall(logged)
    assert (found.precision, found.recall, found.recall_low) == pytest.approx(
        (expected.precision, expected.recall, expected.recall_low)
    )
    assert found.badges == expected.badges
    assert found.opinions.unseen_share == expected.opinions.unseen_share > 0.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"features": [[0.0]], "logits": [[0.0]]}, "more than features and logits"),
        ({"rows": [{"logits": [0.0]}]}, "no column boxes_3d, scores, labels"),
    ],
)
def test_what_is_no_frame_is_refused(result: Result, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        result.score(**given)


def test_rows_of_other_weights_are_refused_unless_accepted(result: Result, logged: pl.DataFrame) -> None:
    foreign = logged.head(5).with_columns(pl.lit("e" * 64).alias("fingerprint"))
    with pytest.raises(InvalidInputError, match="other weights"):
        result.score(rows=foreign)
    accepted = result.score(rows=foreign, accept_fingerprint=True)
    assert_frame_equal(pl.DataFrame(accepted), pl.DataFrame(result.score(rows=logged.head(5))))


def test_each_task_has_its_own_estimate(result: Result) -> None:
    with pytest.raises(InvalidInputError, match=re.escape("estimate_precision_recall(rows=...)")):
        result.estimate_error_rate(features=[[0.0]], logits=[[0.0]])


def test_exported_tables_hold_the_columns_of_boxes(result: Result, tmp_path: Path, units: pl.DataFrame) -> None:
    result.export(tmp_path / "all")
    stored = pl.read_parquet(tmp_path / "all" / "units.parquet")
    assert stored.height == units.height
    assert {"box_3d", "outcome", "unit_index", "truth_index"} <= set(stored.columns)
    result.export(tmp_path / "units.csv")
    rows = pl.read_csv(tmp_path / "units.csv", infer_schema_length=None)
    assert json.loads(rows["box_3d"][0]) == stored["box_3d"][0].to_list()
    (document,) = result.export(tmp_path / "result.json")
    assert json.loads(document.read_text())["task"] == "od3d"


def test_equal_results_give_equal_bytes(result: Result, tmp_path: Path) -> None:
    pages = [result.export(tmp_path / f"{i}.html")[0].read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


def test_the_report_speaks_of_boxes(result: Result, tmp_path: Path) -> None:
    page = result.export(tmp_path / "report.html")[0].read_text()
    for said in ("Where boxes fail", "Recall by range", "Map of", "codes of objects", "missed", "pedestrian", "mAP"):
        assert said in page
    for unsaid in ("macro one-vs-rest", "ATC", "Confusions", "evaluate again for windows"):
        assert unsaid not in page
    assert "how estimates fare on new data cannot be shown" in page


def test_windows_of_another_dataset_score_the_estimates(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    for dataset, n, seed, hardness in (("train", 60, 1, 1.0), ("val", 120, 2, 1.0), ("rain", 250, 3, 1.2)):
        write_frames(lake, dataset, n, seed=seed, hardness=hardness)
    result = Result(evaluate(lake, "pillars@v1", result_name="rainy"))
    found = detection_window_evidence(result._stored)
    assert found.schema == DETECTION_EVIDENCE_SCHEMA
    assert set(found["dataset"]) == {"rain"}
    assert found["kind"].to_list() == ["all", *["random"] * 12]
    whole, summary = found.row(0, named=True), result.metrics_summary().filter(pl.col("dataset") == "rain")
    assert whole["frames"] == 250
    for rate in ("precision", "recall"):
        assert whole[f"{rate}_true"] == pytest.approx(summary[rate][0])
        val = result.metrics_summary().filter(pl.col("dataset") == "val")[rate][0]
        assert whole[f"{rate}_reference"] == pytest.approx(val)
    # harder frames: recall is overestimated by the reference's own, and less so by the estimate
    assert whole["recall_true"] < whole["recall"] < whole["recall_reference"]
    assert (found["recall_low"] <= found["recall_high"]).all()
    page = result.export(tmp_path / "report.html")[0].read_text()
    assert "Estimated and true recall of windows" in page
    assert "as on the reference" in page


def test_the_table_of_boxes_agrees_with_the_summary(result: Result, units: pl.DataFrame) -> None:
    val = units.filter(pl.col("dataset_type") == "val")
    rows = box_table(val, pl.lit(0))
    summary = result.metrics_summary().row(1, named=True)
    assert rows["precision"][0] == pytest.approx(summary["precision"])
    assert rows["recall"][0] == pytest.approx(summary["recall"])
    assert rows["missed"][0] == summary["n_missed"]
    errors = sum(rows[name][0] for name in ("cls", "loc", "both", "dupe", "bkg"))
    assert errors == rows["predictions"][0] - rows["hits"][0]


def test_recall_falls_with_range(result: Result, units: pl.DataFrame) -> None:
    """The made-up detector finds a car at 10 m nearly always and at 55 m hardly ever."""
    val = units.filter(pl.col("dataset_type") == "val")
    rows = box_table(val, (pl.col("range_m") / 10).floor()).filter(pl.col("objects") > 0)
    recall = rows["recall"].to_list()
    assert recall[0] > 0.9
    assert recall[5] < 0.3
    assert (rows["recall_low"] <= rows["recall"]).all()


def test_rows_without_suppressed_candidates_are_scored_with_a_warning(
    result: Result, logged: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    plain = logged.drop(name for name in logged.columns if name.startswith("suppressed_"))
    found = result.score(rows=plain)
    assert found["box_error_proba"].list.len().to_list() == logged["labels"].list.len().to_list()
    assert "300 of 300 frames come without suppressed candidates, which the reference of 'first' has" in caplog.text
    assert "no candidates visible" in result.estimate_precision_recall(plain).badges
    caplog.clear()
    result.score(rows=logged)
    assert not caplog.text
