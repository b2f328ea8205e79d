"""Windows under a window map: the sums it judges by are taken while scoring, once per row, and add up exactly."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from mld_pipelines.evaluation import estimate_units, evaluate, load_scorer, score_inferences
from mld_pipelines.lake import Batch, Lake
from mld_pipelines.rollups import Scorers, refresh_alerts, refresh_windows, score_days
from mld_pipelines.rollups._shift import carry_sums
from mld_pipelines.tables import LANDING_INFERENCES, MONITORING_SCORED, MONITORING_WINDOWS
from mld_pipelines.windows import SHIFT_COLUMNS, aggregate, derive, roll_up
from tests.support.traced import MODEL, START, toy_outputs, write_feedback, write_inferences, write_stress, write_trace

if TYPE_CHECKING:
    from pathlib import Path

DAY = START + timedelta(days=1)
DAYS = [DAY.date()]
SHIFT = list(SHIFT_COLUMNS)


def model(lake: Lake, *, stress: bool = True, model_key: str = MODEL) -> str:
    write_trace(lake, "train", 400, seed=1, model_key=model_key)
    write_trace(lake, "val", 600, seed=2, noise=1.4, model_key=model_key)
    if stress:
        write_stress(lake, "val", 250, seed=2, noise=1.4, model_key=model_key)
    return evaluate(lake, model_key).result_name


def refresh(lake: Lake) -> None:
    scorers = Scorers(lake)
    score_days(lake, DAYS, current=scorers.current, score=scorers.score)
    names = set(lake.scan(MONITORING_SCORED).select("result_name").unique().collect()["result_name"])
    references = scorers.references(names)
    refresh_windows(lake, DAYS, references=references.windows, has_maps=bool(references.maps))


def hours(lake: Lake, result: str) -> pl.DataFrame:
    return lake.read(MONITORING_WINDOWS, result_name=result).drop("schema_version").sort("hour")


def derived_day(lake: Lake, result: str) -> dict[str, object]:
    known = Scorers(lake).references({result})
    states = roll_up(hours(lake, result))
    return derive(states, known.baselines, known.windows, known.maps).row(0, named=True)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A lake with a result that a stress pass verified; tests work on copies of it."""
    path = tmp_path_factory.mktemp("verified") / "lake"
    return path, model(Lake.open(str(path)))


@pytest.fixture
def lake(tmp_path: Path, evaluated: tuple[Path, str]) -> Lake:
    import shutil

    shutil.copytree(evaluated[0], tmp_path / "lake")
    return Lake.open(str(tmp_path / "lake"))


@pytest.fixture
def result(evaluated: tuple[Path, str]) -> str:
    return evaluated[1]


def log(lake: Lake, seed: int, result: str | None, *, hour: int = 0, n: int = 150, model_key: str = MODEL) -> list[str]:
    """Log `units(seed)` in one commit of a stream of its own."""
    at = DAY + timedelta(hours=hour, minutes=seed)
    requests, _ = write_inferences(
        lake, n, seed=seed, noise=1.7, stream=f"{model_key}-{seed}", at=at, result_name=result, model_key=model_key
    )
    return requests


def units(*seeds: int, n: int = 150) -> dict[str, np.ndarray]:
    """Outputs and features of logged units."""
    found = [toy_outputs(n, seed=seed, noise=1.7) for seed in seeds]
    return {"features": np.concatenate([h for _, h, _ in found]), "logits": np.concatenate([z for _, _, z in found])}


def test_a_window_is_estimated_by_the_map_as_its_units_are(lake: Lake, result: str) -> None:
    for seed in (10, 11, 12):
        log(lake, seed, result, hour=seed - 10)
    refresh(lake)
    window = derived_day(lake, result)
    scorer = load_scorer(lake, result)
    assert scorer.window_map.blend_weight > 0.0, "the map takes part"
    estimate = estimate_units(scorer, **units(10, 11, 12))
    assert window["n_scored"] == estimate.n == 450
    numbers = (estimate.error_rate, estimate.low, estimate.high)
    stored = [window[f"error_rate_{name}"] for name in ("estimated", "low", "high")]
    np.testing.assert_allclose(stored, numbers, rtol=1e-6)
    assert window["badges"] == list(estimate.badges)
    assert "not verified under shift" not in window["badges"]
    default = max(estimate.opinions.mean_ep, estimate.opinions.atc_ep)
    assert abs(estimate.error_rate - default) > 1e-4, "another number than without the map"


def test_the_sums_are_those_of_the_units(lake: Lake, result: str) -> None:
    log(lake, 10, result)
    refresh(lake)
    (row,) = hours(lake, result).to_dicts()
    scorer = load_scorer(lake, result)
    own = units(10)
    logits = own["logits"].astype(np.float64) / scorer.window_reference.temperature
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    scores = scorer.score(**own).risk_scores[:, :9].astype(np.float64)
    base = scorer.window_map.baseline
    assert row["shift_n"] == 150
    assert row["shift_class_counts"] == np.bincount(p.argmax(axis=1), minlength=4).tolist()
    assert row["shift_tail_counts"] == (scores > base.score_tail).sum(axis=0).tolist()
    np.testing.assert_allclose(row["shift_probability_sums"], p.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(row["shift_product_sums"], (p.T @ p)[np.triu_indices(4)], rtol=1e-5)
    expected = ((scores - base.score_mean) / base.score_scale).sum(axis=0)
    np.testing.assert_allclose(row["shift_score_sums"], expected, atol=1e-4)
    assert len(row["shift_feature_sums"]) == len(row["shift_square_sums"]) == 6


def test_any_order_of_refreshes_gives_the_same_bits(lake: Lake, result: str, tmp_path: Path) -> None:
    other = Lake.open(str(tmp_path / "other"))
    assert model(other) == result
    for seed in (10, 11, 12, 13):
        log(lake, seed, result, hour=seed % 2)
        refresh(lake)
    for seed in (10, 11, 12, 13):
        log(other, seed, result, hour=seed % 2)
        scorers = Scorers(other)
        score_days(other, DAYS, current=scorers.current, score=scorers.score)
    refresh(other)
    assert hours(lake, result).height == 2
    assert hours(lake, result).select("hour", *SHIFT).equals(hours(other, result).select("hour", *SHIFT))


def test_labels_compute_a_day_anew_and_leave_its_sums(lake: Lake, result: str) -> None:
    requests = log(lake, 10, result)
    log(lake, 11, result)
    refresh(lake)
    before = hours(lake, result)
    write_feedback(lake, requests[:50], np.zeros(50, dtype=np.int64), at=DAY + timedelta(days=1))
    refresh(lake)
    after = hours(lake, result)
    assert after["n_labelled"].sum() == 50
    assert after.select(SHIFT).equals(before.select(SHIFT))


def test_one_row_of_an_hour_and_commit_carries_the_sums(lake: Lake, result: str) -> None:
    log(lake, 10, result, hour=0)
    log(lake, 11, result, hour=5)
    refresh(lake)
    scored = lake.read(MONITORING_SCORED, result_name=result)
    carriers = scored.filter(pl.col("shift_n").is_not_null())
    assert carriers["shift_n"].to_list() == [150, 150]
    assert carriers["event_at"].dt.hour().sort().to_list() == [0, 5]
    assert scored.filter(pl.col("shift_n").is_null()).select(SHIFT).null_count().row(0) == (298,) * len(SHIFT)


def test_rows_that_the_logger_scored_are_in_the_sums(lake: Lake, result: str) -> None:
    scorer = load_scorer(lake, result)

    def as_logged(frame: pl.DataFrame) -> pl.DataFrame:
        return score_inferences(frame, scorer).drop("confidence_t")

    log(lake, 10, result)
    landed = as_logged(lake.read(LANDING_INFERENCES).filter(pl.col("stream_id") == f"{MODEL}-10"))
    again = landed.drop("schema_version").with_columns(pl.lit("scored-by-logger").alias("stream_id"))
    lake.commit_once(LANDING_INFERENCES, [Batch("scored-by-logger", 0, again)])
    refresh(lake)
    (row,) = hours(lake, result).to_dicts()
    assert (row["shift_n"], row["n_scored"]) == (300, 300)
    assert row["shift_class_counts"] == [2 * k for k in np.bincount(units(10)["logits"].argmax(axis=1), minlength=4)]


def test_units_that_cannot_be_scored_are_in_no_sum(lake: Lake, result: str) -> None:
    log(lake, 10, result)
    write_inferences(
        lake,
        40,
        seed=5,
        stream="other-weights",
        at=DAY + timedelta(minutes=3),
        result_name=result,
        fingerprint="b" * 64,
    )
    refresh(lake)
    (row,) = hours(lake, result).to_dicts()
    assert (row["n"], row["n_scored"], row["shift_n"]) == (190, 150, 150)
    assert "not verified under shift" not in derived_day(lake, result)["badges"]


def test_without_a_map_there_are_no_sums(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "plain"))
    result = model(lake, stress=False)
    log(lake, 10, result)
    refresh(lake)
    for frame in (lake.read(MONITORING_SCORED), lake.read(MONITORING_WINDOWS)):
        assert frame.height > 0
        assert frame.select(SHIFT).null_count().row(0) == (frame.height,) * len(SHIFT)
    assert "not verified under shift" in derived_day(lake, result)["badges"]


def test_models_with_and_without_a_map_share_a_lake(lake: Lake, result: str) -> None:
    plain = model(lake, stress=False, model_key="other@v2")
    log(lake, 10, result)
    log(lake, 11, plain, model_key="other@v2")
    refresh(lake)
    assert hours(lake, result)["shift_n"].to_list() == [150]
    assert hours(lake, plain)["shift_n"].to_list() == [None]
    assert "not verified under shift" in derived_day(lake, plain)["badges"]
    assert "not verified under shift" not in derived_day(lake, result)["badges"]


def test_a_window_with_incomplete_sums_keeps_the_default_and_its_badge(lake: Lake, result: str) -> None:
    log(lake, 10, result)
    refresh(lake)
    known = Scorers(lake).references({result})
    whole = roll_up(hours(lake, result))
    broken = whole.with_columns(shift_n=pl.lit(149, dtype=pl.Int64))
    missing = whole.with_columns(shift_square_sums=pl.lit(None, dtype=pl.List(pl.Float64)))
    plain = derive(whole, known.baselines, known.windows)
    for states in (broken, missing):
        assert derive(states, known.baselines, known.windows, known.maps).equals(plain)
    assert "not verified under shift" in plain["badges"][0]


def test_alerts_are_judged_by_the_map(lake: Lake, result: str) -> None:
    """Three shifted hours whose lower bound passes the reference under the map."""
    scorer = load_scorer(lake, result)
    for hour in range(3):
        write_inferences(
            lake, 600, seed=20 + hour, noise=3.0, stream=f"noisy-{hour}", at=DAY + timedelta(hours=hour),
            result_name=result,
        )  # fmt: skip
    refresh(lake)
    _, alerts = refresh_alerts(lake, DAYS, references=Scorers(lake).references({result}))
    judged = alerts.filter((pl.col("rule").str.contains("error_rate")) & (pl.col("grain") == "hour"))
    assert judged["state"].to_list() == ["firing"]
    outputs = [toy_outputs(600, seed=22, noise=3.0)[place] for place in (2, 1)]
    estimate = estimate_units(scorer, logits=outputs[0], features=outputs[1])
    assert judged["value"][0] == pytest.approx(estimate.error_rate, abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [pytest.param({"features": False}, id="no features"), pytest.param({"noise": 0.05}, id="no errors seen")],
)
def test_results_without_features_or_errors_have_maps_too(tmp_path: Path, options: dict[str, float]) -> None:
    lake = Lake.open(str(tmp_path / "other"))
    write_trace(lake, "val", 400, seed=2, **options)
    write_stress(lake, "val", 250, seed=2, **options)
    result = evaluate(lake, MODEL).result_name
    log(lake, 10, result)
    refresh(lake)
    window, scorer = derived_day(lake, result), load_scorer(lake, result)
    own = units(10)
    estimate = estimate_units(scorer, logits=own["logits"], features=own["features"] if scorer.codebook else None)
    stored = [window[f"error_rate_{name}"] for name in ("estimated", "low", "high")]
    np.testing.assert_allclose(stored, (estimate.error_rate, estimate.low, estimate.high), rtol=1e-5, atol=1e-7)
    assert "not verified under shift" not in window["badges"]


def test_probabilities_give_the_sums_of_their_logits(lake: Lake, result: str) -> None:
    log(lake, 10, result)
    scorer = load_scorer(lake, result)
    rows = lake.read(LANDING_INFERENCES)
    logits = units(10)["logits"].astype(np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    only_probabilities = rows.with_columns(
        pl.Series("probs", (p / p.sum(axis=1, keepdims=True)).astype(np.float32)).cast(pl.List(pl.Float32)),
        pl.lit(None, dtype=pl.List(pl.Float32)).alias("logits"),
    )
    given = carry_sums(score_inferences(rows, scorer), scorer).row(0, named=True)
    found = carry_sums(score_inferences(only_probabilities, scorer), scorer).row(0, named=True)
    assert (found["shift_n"], found["shift_class_counts"]) == (150, given["shift_class_counts"])
    for name in ("shift_probability_sums", "shift_product_sums", "shift_feature_sums", "shift_square_sums"):
        np.testing.assert_allclose(found[name], given[name], rtol=1e-3, err_msg=name)


def test_no_rows_carry_nothing(lake: Lake, result: str) -> None:
    scorer = load_scorer(lake, result)
    empty = lake.read(LANDING_INFERENCES).clear()
    assert carry_sums(empty, scorer).is_empty()
    log(lake, 10, result)
    unscored = lake.read(LANDING_INFERENCES)
    assert carry_sums(unscored, scorer)["shift_n"].null_count() == 150


def test_tables_of_older_code_get_the_columns_and_keep_their_windows(
    tmp_path: Path, evaluated: tuple[Path, str]
) -> None:
    """A day scored and aggregated before there were such sums, and more of it since."""
    import dataclasses
    import shutil

    shutil.copytree(evaluated[0], tmp_path / "lake")
    old, result = Lake.open(str(tmp_path / "lake")), evaluated[1]
    log(old, 10, result)
    for spec in (MONITORING_SCORED, MONITORING_WINDOWS):
        columns = tuple(column for column in spec.columns if column.name not in SHIFT)
        before = dataclasses.replace(spec, columns=columns)
        if spec is MONITORING_SCORED:
            rows = score_inferences(old.read(LANDING_INFERENCES), load_scorer(old, result)).drop("schema_version")
            filled = rows.with_columns(result_name=pl.lit(result), is_invalid=pl.lit(value=False))
            kept = filled.select(name for name in before.column_names if name in filled.columns)
            until = old.version(LANDING_INFERENCES)
            old.commit_once(before, [Batch(f"scored:{DAYS[0]}:{result}", until, kept)])
        else:
            states = aggregate(kept, references=Scorers(old).references({result}).windows)
            marks = {f"basic:{DAYS[0]}": until, f"scored:{DAYS[0]}": old.version(MONITORING_SCORED)}
            old.replace(before, states.drop(SHIFT), where={"event_day": DAYS}, marks=marks)
    lake = Lake.open(str(tmp_path / "lake"))
    log(lake, 11, result)
    refresh(lake)
    (row,) = hours(lake, result).to_dicts()
    assert (row["n_scored"], row["shift_n"]) == (300, 150)
    assert "not verified under shift" in derived_day(lake, result)["badges"], "half of the hour is in no sum"
