"""The examples run as a user runs them: one script after the other, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mld_pipelines.lake import Lake
from mld_pipelines.tables import EVALUATION_RESULTS, LANDING_FEEDBACK, LANDING_INFERENCES, LANDING_TRACES

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


def run(script, folder):
    """Run a script, or a module of the checkout, with nothing set: its lake is `.mld/lake` below the folder."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MLD_")}
    is_file = script.endswith(".py")
    done = subprocess.run(
        [sys.executable, *([str(EXAMPLES / script)] if is_file else ["-m", f"examples.{script}"])],
        cwd=folder, env=variables | ({} if is_file else {"PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"}),
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script} failed: {done.stderr[-3000:]}"
    assert done.stderr == "", f"{script} complained: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def traced(folder):
    return run("classification_tracing.py", folder)


@pytest.fixture(scope="module")
def logged(traced, folder):
    return run("classification_logging.py", folder)


@pytest.fixture
def lake(folder):
    return Lake(str(folder / ".mld" / "lake"), code_version="test")


@pytest.mark.feature("D5")
def test_the_tracing_example_stores_every_row_and_prints_its_review(traced, lake):
    rows = lake.read(LANDING_TRACES)
    assert rows.group_by("dataset_type").len().sort("dataset_type").rows() == [("train", 600), ("val", 600)]
    name = lake.read(EVALUATION_RESULTS)["result_name"].item()
    for text in ("1200 rows stored", "accuracy", "stable_coverage_ratio", "recessive_hotspot", f"result_name = {name}"):
        assert text in traced, f"{text!r} is not in what the example printed:\n{traced}"


@pytest.mark.feature("I29", "H1")
def test_the_logging_example_scores_every_inference_by_that_result(logged, lake):
    rows = lake.read(LANDING_INFERENCES)
    assert "597 inferences stored, 50 labels" in logged
    assert (rows.height, lake.read(LANDING_FEEDBACK).height) == (597, 50)
    assert rows["error_proba"].null_count() == 0
    assert rows["error_proba"].is_between(0, 1).all()
    assert rows["result_name"].unique().to_list() == lake.read(EVALUATION_RESULTS)["result_name"].to_list()


@pytest.mark.feature("I18")
def test_the_error_probability_ranks_the_mistakes_of_unseen_digits(logged, lake):
    from sklearn.datasets import load_digits
    from sklearn.metrics import roc_auc_score

    rows = lake.read(LANDING_INFERENCES).sort("event_at", "seq", "row")
    wrong = rows["prediction"].to_numpy() != load_digits().target[1200:]
    assert 0.02 < wrong.mean() < 0.4
    assert roc_auc_score(wrong, rows["error_proba"].to_numpy()) > 0.75


@pytest.fixture(scope="module")
def detected(tmp_path_factory):
    """The folder of the 3D examples, and what they printed."""
    folder = tmp_path_factory.mktemp("detection3d")
    return folder, run("detection3d_tracing", folder), run("detection3d_logging", folder)


@pytest.mark.feature("F24", "G5")
def test_the_3d_tracing_example_stores_frames_given_one_by_one_and_in_batches_and_prints_its_review(detected):
    folder, printed, _ = detected
    lake = Lake(str(folder / ".mld" / "lake"), code_version="test")
    rows = lake.read(LANDING_TRACES)
    assert "plain-centerpoint; boxes from a score of 0.1" in printed
    assert "24 frames stored" in printed
    assert rows.group_by("dataset_type").len().sort("dataset_type").rows() == [("train", 12), ("val", 12)]
    assert rows["input_hash"].n_unique() == 24
    assert rows["truth_labels"].list.len().sum() > 100
    name = lake.read(EVALUATION_RESULTS)["result_name"].item()
    assert "_od3d_" in name
    for text in ("precision", "recall", "nds_like", "stable_coverage_ratio", f"result_name = {name}"):
        assert text in printed, f"{text!r} is not in what the example printed:\n{printed}"


@pytest.mark.feature("I4", "I18", "I19", "I20", "I29")
def test_the_3d_logging_example_scores_every_frame_of_the_drive(detected):
    folder, _, printed = detected
    lake = Lake(str(folder / ".mld" / "lake"), code_version="test")
    rows = lake.read(LANDING_INFERENCES)
    objects = int(rows["scores"].list.len().sum())
    assert f"12 frames stored, {objects} objects found in them" in printed
    assert rows.height == 12
    assert rows["result_name"].unique().to_list() == lake.read(EVALUATION_RESULTS)["result_name"].to_list()
    assert rows["error_proba"].is_between(0, 1).all()
    assert rows["box_error_proba"].list.len().to_list() == rows["scores"].list.len().to_list()
    assert rows["error_code"].drop_nulls().str.contains(r"^([PM]\d{3}|UNSEEN)$").all()
