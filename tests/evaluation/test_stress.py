"""Stressed copies in an evaluation: promoted when finished, read by the window fit and by nothing else."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import WindowMap
from mld_pipelines.evaluation import estimate_units, evaluate, load_scorer, promote_stress, unfinished_streams
from mld_pipelines.stress import stress_version
from mld_pipelines.tables import TRACES_STRESS
from tests.support.traced import (
    MODEL,
    START,
    STRESS_FAMILIES,
    toy_logits,
    toy_outputs,
    write_receipt,
    write_stress,
    write_trace,
)

if TYPE_CHECKING:
    from mld_pipelines.evaluation import StoredResult
    from mld_pipelines.lake import Lake

#: Columns that differ between any two attempts.
ATTEMPT = ("evaluation_id", "result_name", "created_at")


def trace(lake: Lake, *, n: int = 900) -> None:
    write_trace(lake, "train", 600, seed=1)
    write_trace(lake, "val", n, seed=2, noise=1.4)


def stress(lake: Lake, n: int = 250, **options: Any) -> str:
    return write_stress(lake, "val", n, seed=2, noise=1.4, **options)


def copies(lake: Lake) -> pl.DataFrame:
    return lake.read(TRACES_STRESS, model_key=MODEL)


def kinds(result: StoredResult) -> list[str]:
    return result.artifacts()["kind"].sort().to_list()


def facts(result: StoredResult) -> dict[str, Any]:
    row = result.artifacts().filter(pl.col("kind") == "window_map").row(0, named=True)
    return json.loads(row["parameters"])


# promotion


def test_a_finished_stress_pass_is_promoted_once(lake: Lake) -> None:
    stress(lake, 5)
    first = promote_stress(lake, MODEL)
    again = promote_stress(lake, MODEL)
    assert (first.rows, first.superseded, first.promoted) == (45, 0, True)
    assert (again.rows, again.version, again.promoted) == (45, first.version, False)


def test_the_last_finished_run_of_a_copy_wins(lake: Lake) -> None:
    stress(lake, 5, stream="late", at=START + timedelta(hours=5))
    stress(lake, 7, stream="early", at=START + timedelta(hours=3))
    promotion = promote_stress(lake, MODEL)
    assert (promotion.rows, promotion.superseded) == (63, 45)
    assert dict(copies(lake).group_by("stream_id").len().iter_rows()) == {"late": 45, "early": 18}


def test_a_second_pass_is_promoted_when_it_finishes(lake: Lake) -> None:
    stress(lake, 5)
    promote_stress(lake, MODEL)
    stress(lake, 5, stream="again", at=START + timedelta(hours=4))
    assert promote_stress(lake, MODEL).superseded == 45
    assert copies(lake)["stream_id"].unique().to_list() == ["again"]


def test_a_receipt_of_a_trace_does_not_promote_copies_again(lake: Lake) -> None:
    stress(lake, 5)
    promote_stress(lake, MODEL)
    write_trace(lake, "val", 9, seed=2)
    assert not promote_stress(lake, MODEL).promoted


def test_rows_behind_the_receipt_stay_in_landing(lake: Lake) -> None:
    stream = stress(lake, 5, receipt=False)
    write_receipt(lake, stream, "val", 10, last_seq=1, purpose="stress")
    assert promote_stress(lake, MODEL).rows == 10


def test_a_discarded_pass_is_not_used(lake: Lake) -> None:
    stream = stress(lake, 5)
    write_receipt(
        lake, stream, "val", 45, last_seq=9, purpose="stress", state="discarded", at=START + timedelta(days=1)
    )
    assert promote_stress(lake, MODEL).rows == 0


def test_an_unfinished_stress_pass_blocks_nothing(lake: Lake) -> None:
    trace(lake, n=120)
    stress(lake, 20, receipt=False)
    assert unfinished_streams(lake, MODEL) == []
    result = evaluate(lake, MODEL)
    assert kinds(result) == ["codebook", "estimator", "window"]
    assert copies(lake).is_empty()


def test_copies_are_no_dataset(lake: Lake) -> None:
    trace(lake, n=120)
    stress(lake, 20)
    result = evaluate(lake, MODEL)
    assert result.row["datasets"] == ["train", "val"]
    assert result.row["counts"] == 720


# what an evaluation does with them


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredResult, StoredResult]:
    """The same traces evaluated without and with a stress pass, in lakes of their own."""
    from mld_pipelines.lake import Lake

    found = []
    for name in ("without", "with"):
        lake = Lake.open(str(tmp_path_factory.mktemp(name) / "lake"))
        trace(lake)
        if name == "with":
            stress(lake)
        found.append(evaluate(lake, MODEL))
    return found[0], found[1]


def test_nothing_but_the_window_map_depends_on_stressed_copies(pair: tuple[StoredResult, StoredResult]) -> None:
    """Byte for byte: units, metrics, issues, codes and every other artifact."""
    without, with_ = pair

    def rows(result: StoredResult, name: str) -> pl.DataFrame:
        frame = getattr(result, name)()
        return (frame.collect() if isinstance(frame, pl.LazyFrame) else frame).drop(ATTEMPT, strict=False)

    for name in ("units", "metrics", "issues", "codes"):
        assert rows(without, name).height > 0
        assert rows(without, name).equals(rows(with_, name)), name
    others = rows(with_, "artifacts").filter(~pl.col("kind").str.starts_with("window"))
    assert others.height == 2
    assert others.equals(rows(without, "artifacts").filter(~pl.col("kind").str.starts_with("window")))
    same = ["epochs", "datasets", "decision_dataset", "counts", "fingerprints", "codebook_ids", "policy", "warnings"]
    assert {name: without.row[name] for name in same} == {name: with_.row[name] for name in same}


def test_the_default_window_reference_is_the_same_too(pair: tuple[StoredResult, StoredResult]) -> None:
    windows = [result.artifacts().filter(pl.col("kind") == "window")["artifact"][0] for result in pair]
    assert windows[0] == windows[1]


def test_the_result_says_what_was_verified(pair: tuple[StoredResult, StoredResult]) -> None:
    found = facts(pair[1])
    assert sorted(found["families"]) == ["clean", "noise", "scale", "shift"]
    assert all(0.0 <= error[way] < 0.5 for error in found["families"].values() for way in ("default", "half", "map"))
    assert found["blend_weight"] in (0.0, 0.5, 1.0)
    assert found["width_factor"] >= 2.0
    assert (found["n_sets"], found["n_originals"], found["n_copies"]) == (9, 250, 2250)
    sets = [(family, f"{family}_kind", severity) for family in STRESS_FAMILIES for severity in (1, 3, 5)]
    assert found["stress_version"] == stress_version([(family, "1") for family in STRESS_FAMILIES], sets, seeds=[0])


def test_the_result_lists_its_verifications_by_epoch(pair: tuple[StoredResult, StoredResult]) -> None:
    assert pair[0].verifications() == {}
    assert pair[1].verifications() == {None: facts(pair[1])}


def test_the_stored_map_comes_back_with_the_scorer(pair: tuple[StoredResult, StoredResult]) -> None:
    without, with_ = (load_scorer(result.lake, result.result_name) for result in pair)
    assert without.window_map is None
    assert isinstance(with_.window_map, WindowMap)
    assert with_.window_map.width_factor == facts(pair[1])["width_factor"]


def test_a_map_that_this_code_cannot_read_costs_the_verification_and_nothing_else(
    pair: tuple[StoredResult, StoredResult], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mld_pipelines.diagnosis.stress._map.COLUMNS", ("of", "other", "code"))
    stored = pair[1]
    scorer = load_scorer(stored.lake, stored.result_name)
    assert scorer.window_map is None
    assert "not verified under shift" in caplog.text
    _, features, logits = toy_outputs(200, seed=3)
    assert "not verified under shift" in estimate_units(scorer, logits=logits, features=features).badges


def test_with_a_map_the_estimate_is_verified_and_nearer_under_shift(pair: tuple[StoredResult, StoredResult]) -> None:
    labels, h, _ = toy_outputs(2000, seed=77, noise=1.4)
    moved = STRESS_FAMILIES["shift"](h, 3, np.random.default_rng(5)).astype(np.float32)
    logits = toy_logits(moved)
    truth = float((logits.argmax(axis=1) != labels).mean())
    plain, mapped = (
        estimate_units(load_scorer(result.lake, result.result_name), logits=logits, features=moved) for result in pair
    )
    assert set(plain.badges) - set(mapped.badges) == {"not verified under shift"}
    assert abs(mapped.error_rate - truth) < abs(plain.error_rate - truth)
    assert mapped.low <= truth <= mapped.high


def test_a_copys_label_is_that_of_its_original_now(lake: Lake) -> None:
    """A corrected label of the reference counts for its copies too."""
    trace(lake)
    stress(lake)
    corrected = toy_outputs(900, seed=2, noise=1.4)[0].copy()
    corrected[:40] = (corrected[:40] + 1) % 4
    first = evaluate(lake, MODEL)
    write_trace(
        lake, "val", 900, seed=2, noise=1.4, labels=corrected, stream="relabelled", at=START + timedelta(days=1)
    )
    second = evaluate(lake, MODEL)
    rates = [
        {family: error["default"] for family, error in facts(result)["families"].items()} for result in (first, second)
    ]
    assert rates[0] != rates[1]
    assert kinds(second) == ["codebook", "estimator", "window", "window_map"]


# passes that cannot be used


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"families": ("noise",)}, r"families \('noise',\)", id="one family"),
        pytest.param({"n": 150}, "copies of 150 reference units, 200 are needed", id="too small"),
        pytest.param({"features": False}, r"feature have the widths \[None\]", id="no features"),
        pytest.param({"width": 5}, r"feature have the widths \[5\]", id="another layer"),
    ],
)
def test_a_pass_that_cannot_be_used_leaves_a_warning_and_the_default(
    lake: Lake, options: dict[str, Any], message: str
) -> None:
    trace(lake)
    stress(lake, **options)
    result = evaluate(lake, MODEL)
    assert kinds(result) == ["codebook", "estimator", "window"]
    (warning,) = [text for text in result.row["warnings"] if "stress" in text]
    assert warning.startswith("the stress pass was not used: ")
    assert pl.Series([warning]).str.contains(message).all()


@pytest.mark.parametrize(
    "options",
    [{"fingerprint": "b" * 64}, {"epoch": 3}],
    ids=["other weights", "another epoch"],
)
def test_copies_of_other_weights_or_epochs_are_not_read(lake: Lake, options: dict[str, Any]) -> None:
    trace(lake, n=300)
    stress(lake, **options)
    result = evaluate(lake, MODEL)
    assert kinds(result) == ["codebook", "estimator", "window"]
    assert not [text for text in result.row["warnings"] if "stress" in text]


def test_copies_of_inputs_that_the_reference_lacks_are_left_out(lake: Lake) -> None:
    trace(lake, n=300)
    write_stress(lake, "val", 400, seed=2, noise=1.4)
    assert facts(evaluate(lake, MODEL))["n_originals"] == 300


def test_a_small_reference_keeps_the_default(lake: Lake) -> None:
    write_trace(lake, "val", 50, seed=2)
    write_stress(lake, "val", 50, seed=2)
    result = evaluate(lake, MODEL)
    assert kinds(result) == ["estimator", "window"]
    assert any("stress pass was not used" in text for text in result.row["warnings"])


def test_each_epoch_has_its_own_map(lake: Lake) -> None:
    for epoch in (1, 2):
        fingerprint = str(epoch) * 64
        write_trace(lake, "val", 300, seed=2, epoch=epoch, fingerprint=fingerprint)
    write_stress(lake, "val", 250, seed=2, epoch=2, fingerprint="2" * 64)
    result = evaluate(lake, MODEL, n_epoch=None)
    found = result.artifacts().filter(pl.col("kind") == "window_map")
    assert found.select("n_epoch", "fingerprint").rows() == [(2, "2" * 64)]
    assert load_scorer(lake, result.result_name, n_epoch=1).window_map is None
    assert load_scorer(lake, result.result_name, n_epoch=2).window_map is not None
