"""Materialising the assets on a real lake, with their checks."""

from __future__ import annotations

import base64
from datetime import timedelta

import dagster as dg
import polars as pl
import pytest

from assets.evaluation import EVALUATION_TABLES
from assets.partitions import range_tags
from mld_pipelines.evaluation import current_result, load_result
from mld_pipelines.figures import GLANCE_LIMIT
from mld_pipelines.rollups import Scorers
from mld_pipelines.tables import (
    CATALOGUE,
    EVALUATION_UNITS,
    LANDING_INFERENCES,
    MONITORING_CODES,
    MONITORING_SCORED,
    MONITORING_WINDOWS,
    OPS_QUALITY,
    TRACES_INPUTS,
)
from tests.support.traced import MODEL, START, write_feedback, write_inferences, write_trace

DAY = START.date() + timedelta(days=1)


def failed(run: dg.ExecuteInProcessResult) -> set[str]:
    return {
        f"{one.asset_key.to_user_string()}:{one.check_name}"
        for one in run.get_asset_check_evaluations()
        if not one.passed
    }


def only(run: dg.ExecuteInProcessResult, node: str) -> dg.AssetMaterialization:
    (event,) = run.asset_materializations_for_node(node)
    return event


def svg_of(event: dg.AssetMaterialization) -> bytes:
    """The picture of a materialisation, which the UI shows from its own Markdown."""
    uri = event.metadata["picture"].value.split("(", 1)[1].rstrip(")")
    return base64.b64decode(uri.split(",", 1)[1])


def test_traces_are_promoted_checked_and_receipted_both_ways(lake, materialize):
    write_trace(lake, "val", 40, seed=1)
    write_trace(lake, "val", 40, seed=1, stream="again", at=START + timedelta(hours=1))
    run = materialize("traces", partition_key=MODEL)
    assert run.success
    assert failed(run) == set()
    event = only(run, "traces_inputs")
    version = lake.version(TRACES_INPUTS)
    assert event.metadata["dagster/partition_row_count"].value == 40
    assert event.metadata["superseded"].value == 40.0
    assert event.metadata["delta_version"].value == version
    assert event.tags["dagster/data_version"] == f"delta:{version}"
    assert event.metadata["dagster/uri"].value == lake.uri(TRACES_INPUTS)
    assert lake.history(TRACES_INPUTS)["run_id"].drop_nulls().to_list() == [run.run_id]


def test_a_materialisation_shows_a_picture_ten_rows_and_numbers_that_plot(lake, materialize):
    write_trace(lake, "val", 40, seed=1)
    metadata = only(materialize("traces", checks=False, partition_key=MODEL), "traces_inputs").metadata
    assert metadata["picture"].value.startswith("![traced inputs per dataset](data:image/svg+xml;base64,")
    assert metadata["glance"].value.startswith("![traced inputs per dataset](data:image/svg+xml,")
    assert len(metadata["glance"].value) <= GLANCE_LIMIT  # longer Markdown hides behind a click
    assert len(metadata["preview"].value.splitlines()) == 12, "header, rule, ten rows"
    assert "feature" not in metadata["preview"].value.splitlines()[0].replace("feature_layer", "")
    assert isinstance(metadata["rows"], dg.FloatMetadataValue)


@pytest.fixture
def evaluation_run(lake, materialize):
    write_trace(lake, "train", 150, seed=1)
    write_trace(lake, "val", 150, seed=2)
    return materialize("evaluation", "estimators", partition_key=MODEL)


@pytest.mark.feature("G11")
def test_an_evaluation_materialises_five_tables_that_agree_with_the_stored_result(lake, evaluation_run):
    stored = load_result(lake, current_result(lake, MODEL))
    events = {e.asset_key.to_user_string(): e for e in evaluation_run.asset_materializations_for_node("evaluate_model")}
    assert set(events) == set(EVALUATION_TABLES)
    assert stored.row["run_id"] == evaluation_run.run_id
    accuracy = stored.metrics().filter((pl.col("metric") == "accuracy") & (pl.col("dataset_type") == "val"))["value"]
    assert events["evaluation/metrics"].metadata["accuracy"].value == pytest.approx(accuracy.item())
    assert events["evaluation/units"].metadata["dagster/partition_row_count"].value == 300
    assert failed(evaluation_run) == set()
    for table, event in events.items():
        assert event.metadata["delta_version"].value == lake.version(CATALOGUE[table])
        assert svg_of(event).startswith(b"<svg")


def test_the_row_count_of_a_partition_counts_every_result_of_the_model(lake, materialize, evaluation_run):
    again = materialize("evaluation", "estimators", partition_key=MODEL)
    events = {e.asset_key.to_user_string(): e for e in again.asset_materializations_for_node("evaluate_model")}
    results = events["evaluation/results"].metadata
    assert (results["rows"].value, results["dagster/partition_row_count"].value) == (1.0, 2)
    units = events["evaluation/units"].metadata
    assert (units["rows"].value, units["dagster/partition_row_count"].value) == (300.0, 600)


def test_every_check_outcome_lands_in_ops_quality(lake, evaluation_run):
    rows = lake.read(OPS_QUALITY).filter(pl.col("table") == "evaluation/units")
    names = {f"{c.name}_{r.name}" for c in EVALUATION_UNITS.columns for r in c.rules}
    assert names <= set(rows["check"])
    assert set(rows["run_id"]) == {evaluation_run.run_id}
    assert set(rows["partition"]) == {MODEL}
    assert set(rows["engine"]) == {"polars", "gx"}


def test_a_row_that_broke_the_contract_behind_the_lakes_back_blocks_what_comes_after(lake, materialize):
    from deltalake import DeltaTable

    write_trace(lake, "val", 20, seed=1)
    materialize("traces", checks=False, partition_key=MODEL)
    table = DeltaTable(lake.uri(TRACES_INPUTS))
    for name in list(table.metadata().configuration):
        if name.startswith("delta.constraints."):
            table.alter.drop_constraint(name.removeprefix("delta.constraints."))
    table.update(updates={"task": "'poetry'"}, predicate="input_id = 'val-3'")
    run = materialize("traces", partition_key=MODEL, raise_on_error=False)
    assert failed(run) == {"traces/inputs:one_of"}
    (verdict,) = [one for one in run.get_asset_check_evaluations() if not one.passed]
    assert verdict.metadata["failed"].value == "task_one_of"
    assert verdict.severity == dg.AssetCheckSeverity.ERROR
    assert not run.success, "a critical failure fails the run, so nothing downstream of it runs"
    bad = lake.read(OPS_QUALITY).filter(~pl.col("passed"))
    assert bad.select("check", "severity", "unexpected", "sample").rows() == [
        ("task_one_of", "critical", 1, '["poetry"]')
    ]


def monitor(materialize, first=DAY, last=DAY) -> dg.ExecuteInProcessResult:
    run = materialize("monitoring", checks=False, tags=range_tags(first, last))
    assert run.success
    return run


def test_production_is_scored_windowed_coded_and_judged_in_one_run_over_a_range(lake, materialize, evaluated):
    write_inferences(lake, 60, result_name=evaluated, at=START + timedelta(days=1))
    write_inferences(lake, 60, result_name=evaluated, at=START + timedelta(days=2), seq=1)
    run = monitor(materialize, DAY, DAY + timedelta(days=1))
    events = run.asset_materializations_for_node("monitoring_scored")
    assert [event.partition for event in events] == [str(DAY), str(DAY + timedelta(days=1))]
    assert [event.metadata["dagster/partition_row_count"].value for event in events] == [60, 60], "each day its own"
    assert {event.metadata["rows_written"].value for event in events} == {120.0}
    scored = lake.read(MONITORING_SCORED)
    assert scored["error_proba"].is_not_null().all()
    assert set(scored["result_name"]) == {evaluated}
    for asset in ("monitoring_scored", "monitoring_windows", "monitoring_codes", "monitoring_alerts"):
        assert all(svg_of(one).startswith(b"<svg") for one in run.asset_materializations_for_node(asset))
    windows = lake.read(MONITORING_WINDOWS)
    assert windows.group_by("event_day").len().sort("event_day")["len"].to_list() == [2, 2]
    codes = lake.read(MONITORING_CODES)
    assert codes.group_by("event_day").agg(pl.col("counts").sum())["counts"].to_list() == [60, 60]
    deltas = codes.group_by("event_day").agg(pl.col("delta").sum())["delta"]
    assert deltas.to_list() == pytest.approx([0, 0], abs=1e-9)


def test_every_day_of_a_run_shows_its_own_numbers_and_rows(lake, materialize, evaluated):
    days = [DAY + timedelta(days=n) for n in range(3)]
    for n, count in enumerate((30, 0, 45)):
        if count:
            write_inferences(lake, count, seed=n, result_name=evaluated, at=START + timedelta(days=1 + n), seq=n)
    run = monitor(materialize, days[0], days[-1])
    windows, scored, codes = (
        run.asset_materializations_for_node(f"monitoring_{name}") for name in ("windows", "scored", "codes")
    )
    assert [event.metadata["inferences"].value for event in windows] == [30.0, 0.0, 45.0]
    assert [event.metadata["rows"].value for event in scored] == [30.0, 0.0, 45.0]
    assert [event.metadata["dagster/partition_row_count"].value for event in windows] == [2, 0, 2]
    assert [event.metadata["rows"].value for event in windows] == [2.0, 0.0, 2.0]
    for events in (windows, scored, codes):
        assert events[1].metadata["preview"].value == "no rows"
        assert svg_of(events[0]) != svg_of(events[2])
        for event in (events[0], events[2]):
            named = [day.isoformat() for day in days if day.isoformat() in event.metadata["preview"].value]
            assert named == [event.partition]


def test_a_lake_out_of_reach_for_a_moment_costs_no_day(lake, materialize, evaluated, monkeypatch):
    from mld_pipelines import rollups

    refresh, failures = rollups.refresh_windows, []

    def unreachable_once(*args: object, **options: object) -> object:
        if not failures:
            failures.append(OSError("connection reset"))
            raise failures[0]
        return refresh(*args, **options)

    write_inferences(lake, 30, result_name=evaluated)
    monkeypatch.setattr(rollups, "refresh_windows", unreachable_once)
    monitor(materialize)
    assert failures
    windows = lake.read(MONITORING_WINDOWS)
    assert windows.group_by("result_name").agg(pl.col("n").sum())["n"].to_list() == [30, 30], "once each, not twice"


def test_a_repeated_run_writes_nothing_new(lake, materialize, evaluated):
    write_inferences(lake, 30, result_name=evaluated)
    monitor(materialize)
    before = lake.read(MONITORING_WINDOWS)
    again = monitor(materialize)
    assert only(again, "monitoring_scored").metadata["rows_written"].value == 0.0
    assert lake.read(MONITORING_SCORED).height == 30
    assert lake.read(MONITORING_WINDOWS).equals(before)


def test_scores_of_the_logger_are_taken_over_and_equal_what_the_asset_would_compute(lake, materialize, evaluated):
    write_inferences(lake, 40, result_name=evaluated, stream="unscored")
    monitor(materialize)
    rows = lake.read(LANDING_INFERENCES)
    scorers = Scorers(lake)
    by_asset = scorers.score(evaluated, rows)
    landed = by_asset.drop("confidence_t")
    taken_over = scorers.score(evaluated, landed)
    columns = ["request_id", "error_proba", "error_code", "category", "support_distance", "scored_by", "risk_scores"]
    assert taken_over.select(columns).equals(by_asset.select(columns))
    assert taken_over["confidence_t"].to_list() == pytest.approx(by_asset["confidence_t"].to_list(), abs=1e-6)
    marked = landed.with_columns(pl.lit("kept").alias("error_code"))
    assert set(scorers.score(evaluated, marked)["error_code"]) == {"kept"}, "nothing is scored a second time"


def test_scores_of_an_older_result_are_not_taken_over(lake, evaluated):
    write_inferences(lake, 10, result_name=evaluated)
    rows = lake.read(LANDING_INFERENCES).with_columns(
        pl.lit("older#1").alias("scored_by"), pl.lit(0.987, dtype=pl.Float32).alias("error_proba")
    )
    scored = Scorers(lake).score(evaluated, rows)
    assert scored["scored_by"].str.starts_with(f"{evaluated}#").all()
    assert (scored["error_proba"] != pl.Series([0.987], dtype=pl.Float32).item()).all()


def test_labels_put_the_realised_error_rate_beside_the_estimate(lake, materialize, evaluated):
    requests, truth = write_inferences(lake, 60, result_name=evaluated)
    monitor(materialize)
    write_feedback(lake, requests[:25], truth[:25], at=START + timedelta(days=3))
    monitor(materialize)
    row = lake.read(MONITORING_WINDOWS).filter(pl.col("result_name") == evaluated).row(0, named=True)
    rows = lake.read(LANDING_INFERENCES).sort("row")
    assert row["n_labelled"] == row["n_labelled_scored"] == 25
    assert row["n_label_errors"] == int((rows["prediction"].to_numpy()[:25] != truth[:25]).sum())


def test_without_any_result_the_basic_metrics_exist_and_the_error_columns_are_null(lake, materialize):
    write_inferences(lake, 20)
    monitor(materialize)
    row = lake.read(MONITORING_WINDOWS).row(0, named=True)
    assert (row["n"], row["result_name"], row["n_scored"]) == (20, None, None)
    assert lake.version(MONITORING_SCORED) is None


def test_shifted_production_raises_an_alert_row_and_a_log_line(lake, materialize, evaluated, capfd):
    from mld_pipelines.tables import MONITORING_ALERTS

    for n in range(3):
        write_inferences(
            lake, 150, seed=50 + n, result_name=evaluated, at=START + timedelta(days=1, hours=n), seq=n, noise=6.0
        )
    monitor(materialize)
    alerts = lake.read(MONITORING_ALERTS).filter(pl.col("state") == "firing")
    assert {"drift_codes", "unseen"} <= set(alerts["rule"])
    said = capfd.readouterr()
    assert "alert for toy@v1: drift_codes is" in said.err + said.out
    before = lake.read(MONITORING_ALERTS).sort("alert_id")
    monitor(materialize)
    assert lake.read(MONITORING_ALERTS).sort("alert_id").drop("versions").equals(before.drop("versions"))


def test_maintenance_looks_after_every_table_that_exists(lake, materialize, evaluated):
    run = materialize("maintenance")
    assert run.success
    profiled = lake.read(OPS_QUALITY).filter(pl.col("check") == "profile")["table"]
    existing = {name for name, spec in CATALOGUE.items() if lake.version(spec) is not None and name != "ops/quality"}
    assert existing <= set(profiled)
    assert only(run, "compact").metadata["unbound_rows_removed"].value == 0.0
    for name in ("compact", "vacuum", "profile"):
        assert svg_of(only(run, name)).startswith(b"<svg")
        assert only(run, name).metadata["dagster/row_count"].value >= len(existing)
    assert lake.history(OPS_QUALITY)["run_id"].drop_nulls().unique().to_list() == [run.run_id]
    assert load_result(lake, evaluated).metrics().height > 0
