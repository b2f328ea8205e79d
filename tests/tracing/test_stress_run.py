"""Stress passes over registered models, on both backends, into a real lake."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch
import trace_factories
from polars.testing import assert_frame_equal

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.evaluation import promote_stress
from mld_pipelines.exceptions import InvalidInputError, NotFoundError, WorkerPoolError
from mld_pipelines.stress import choose_inputs, image_families
from mld_pipelines.tables import LANDING_MODELS, LANDING_RECEIPTS, LANDING_STRESS, OPS_QUARANTINE, TRACES_STRESS
from mld_pipelines.tracing import (
    StressOptions,
    is_stress_due,
    register_dataset,
    register_model,
    stress_cost,
    stress_run,
    trace_run,
)

INLINE = PoolPolicy(backend="inline", max_attempts=1)
LOCAL = PoolPolicy(backend="local", size=2)
#: One severity of 21 image kinds over 20 inputs.
SMALL = StressOptions(severities=(3,), max_inputs=20, batch_size=8)
KINDS = sum(len(family.kinds) for family in image_families())

ARRIVAL = ("stream_id", "seq", "row", "ingested_at", "ingest_day", "captured_at")


def register(lake, *, model="make_model", dataset="make_images", families=None, trace=True, **params):
    register_model(
        lake, "cnn", factory=f"trace_factories:{model}", model_name="cnn", version_name="v1", families=families
    )
    register_dataset(lake, "images", factory=f"trace_factories:{dataset}", params=params)
    if trace:
        trace_run(lake, "cnn", "images", dataset_type="val", batch_size=16, pool=INLINE)


def run(lake, pool=INLINE, options=SMALL, **others):
    return stress_run(lake, "cnn@v1", options=options, pool=pool, **others)


def copies(lake):
    return lake.read(LANDING_STRESS)


def die_after(sets):
    def die(done, total):
        if done == sets:
            raise KeyboardInterrupt

    return die


def test_rows_are_what_the_model_says_of_the_corrupted_inputs(lake):
    register(lake)
    report = run(lake)
    rows = copies(lake)
    assert (report.rows, report.inputs, report.sets) == (rows.height, 20, KINDS)
    assert rows.height == 20 * KINDS
    model = trace_factories.make_model().eval()
    originals = {name: (pixels, label) for pixels, label, name in trace_factories.make_images()}
    chosen = choose_inputs(list(originals), n=20, seed=0)
    assert set(rows["input_id"]) == set(chosen)
    family = next(one for one in image_families() if one.name == "noise")
    found = rows.filter(pl.col("kind") == "shot_noise").sort("input_id")
    names = sorted(chosen)
    noisy = [family.corrupt(originals[name][0], kind="shot_noise", severity=3, seed=0, input_id=name) for name in names]
    with torch.no_grad():
        feature = model[:-1](torch.from_numpy(np.stack(noisy)))
        logits = model[-1](feature)
    assert found["label"].to_list() == [originals[name][1] for name in names]
    np.testing.assert_allclose(np.array(found["logits"].to_list()), logits.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.array(found["feature"].to_list()), feature.numpy(), rtol=1e-5, atol=1e-6)
    one = found.row(0, named=True)
    assert (one["source_dataset"], one["family"], one["severity"], one["seed"]) == ("val", "noise", 3, 0)
    assert one["family_version"] == family.version


def test_the_receipt_completes_the_pass_and_silver_takes_it(lake):
    register(lake)
    report = run(lake)
    (receipt,) = lake.read(LANDING_RECEIPTS, purpose="stress").to_dicts()
    assert receipt == report.receipt
    assert (receipt["dataset_type"], receipt["rows"], receipt["dropped"]) == ("val", 20 * KINDS, 0)
    assert json.loads(receipt["source"])["stress_version"] == report.stress_version
    assert promote_stress(lake, "cnn@v1").rows == 20 * KINDS
    assert lake.read(TRACES_STRESS)["fingerprint"].unique().to_list() == [report.fingerprint]


@pytest.mark.ray
def test_ray_and_inline_give_identical_rows(local_ray, tmp_path):
    from mld_pipelines.lake import Lake

    frames = []
    for pool in (INLINE, LOCAL):
        lake = Lake(str(tmp_path / pool.backend), code_version="test")
        register(lake)
        report = run(lake, pool)
        assert (report.backend, report.complete) == (pool.backend, True)
        frames.append(copies(lake).drop("ingested_at", "ingest_day", "captured_at").sort("seq", "row"))
    assert_frame_equal(frames[0], frames[1], check_exact=True)


@pytest.mark.ray
def test_a_batch_that_kills_its_worker_is_quarantined_and_the_pass_completes(local_ray, lake):
    register(lake, families="trace_factories:killing_families")
    options = StressOptions(max_inputs=20, batch_size=20)
    report = run(lake, PoolPolicy(backend="local", size=2, max_attempts=2), options)
    assert (report.sets, report.quarantined_batches, report.rows) == (6, 1, 100)
    assert not report.complete
    quarantined = lake.read(OPS_QUARANTINE).row(0, named=True)
    assert "copies 0 to 19 of blank at severity 3" in quarantined["reason"]
    assert "worker process died" in quarantined["reason"]
    assert (report.receipt["dropped"], "1 of 6 batches" in report.receipt["note"]) == (20, True)


def test_repeating_a_pass_runs_nothing(lake):
    register(lake)
    first = run(lake)
    again = run(lake)
    assert (again.known_sets, again.backend, again.rows) == (KINDS, "none", first.rows)
    assert again.stream_id == first.stream_id
    assert copies(lake).height == first.rows
    assert lake.read(LANDING_RECEIPTS, purpose="stress").height == 1


def test_a_pass_whose_driver_died_goes_on_at_the_first_missing_set(lake, monkeypatch):
    import mld_pipelines.tracing._landing as landing

    register(lake)
    monkeypatch.setattr(landing, "_FLUSH_BYTES", 1)
    with pytest.raises(KeyboardInterrupt):
        run(lake, progress=die_after(4))
    assert copies(lake).select("kind", "severity").n_unique() == 4
    seen = []
    report = run(lake, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, KINDS) for done in range(5, KINDS + 1)]
    assert (report.known_sets, report.rows) == (4, 20 * KINDS)
    assert copies(lake).select("input_id", "kind", "severity").is_unique().all()


@pytest.mark.parametrize("change", [{"seed": 1}, {"severities": (1,)}, {"max_inputs": 10}, {"batch_size": 5}])
def test_another_pass_is_another_stream(lake, change):
    register(lake)
    other = StressOptions(**{"severities": (3,), "max_inputs": 20, "batch_size": 8, **change})
    assert run(lake).stream_id != run(lake, options=other).stream_id


def test_the_cost_is_known_before_anything_is_written(lake):
    register(lake)
    cost = stress_cost(lake, "cnn@v1", options=SMALL, pool=INLINE)
    assert (cost.measured_batches, cost.sets, cost.forwards) == (8, KINDS, 20 * KINDS)
    per_copy = (cost.measured_seconds + cost.driver_seconds) / cost.measured_inputs
    left = cost.forwards - cost.measured_inputs
    assert cost.seconds == pytest.approx(cost.spent_seconds + per_copy * left), "one after the other in this process"
    assert cost.spent_seconds > cost.measured_seconds > 0 < cost.driver_seconds
    assert lake.version(LANDING_STRESS) is None
    said = []
    run(lake, on_cost=lambda cost: said.append((cost, lake.version(LANDING_STRESS))))
    assert [(cost.forwards, version) for cost, version in said] == [(20 * KINDS, None)]
    assert stress_cost(lake, "cnn@v1", options=SMALL, pool=INLINE).forwards == 0


def test_what_happens_once_is_not_counted_for_every_batch(lake):
    register(lake, families="trace_factories:families_that_start_slowly")
    options = StressOptions(severities=(1, 2, 3, 4, 5), max_inputs=20, batch_size=1)
    cost = stress_cost(lake, "cnn@v1", options=options, pool=INLINE)
    assert cost.spent_seconds > trace_factories.SLOW_START > cost.measured_seconds
    assert cost.seconds - cost.spent_seconds < cost.forwards / cost.measured_inputs * trace_factories.SLOW_START


def test_a_pass_that_costs_too_much_waits(lake):
    register(lake)
    report = run(lake, max_seconds=1e-9)
    assert (report.is_waiting, report.receipt, report.rows) == (True, None, 0)
    assert "waits for a launch: about" in report.summary
    assert lake.version(LANDING_STRESS) is None
    assert is_stress_due(lake, "cnn@v1")
    assert run(lake, max_seconds=1e9).complete
    assert not is_stress_due(lake, "cnn@v1")


def test_bytes_with_a_preprocessing_are_corrupted_before_it(lake):
    register(lake, dataset="make_raw_images")
    assert run(lake).complete
    rows = copies(lake).filter(pl.col("kind") == "brighter").sort("input_id")
    family = next(one for one in image_families() if one.name == "light")
    raw, _ = trace_factories.images(100)
    raw = np.clip(raw * 50 + 128, 0, 255).astype(np.uint8)
    names = rows["input_id"].to_list()
    bright = [
        family.corrupt(raw[int(name)].astype(np.float32) / 255, kind="brighter", severity=3, seed=0, input_id=name)
        for name in names
    ]
    batch = trace_factories.scale(torch.from_numpy(np.round(np.stack(bright) * 255).astype(np.uint8)))
    with torch.no_grad():
        logits = trace_factories.make_model().eval()(batch)
    np.testing.assert_allclose(np.array(rows["logits"].to_list()), logits.numpy(), rtol=1e-4, atol=1e-5)


def test_normalised_images_are_restored_corrupted_and_normalised_again(lake):
    register(lake, dataset="make_normalised_images")
    assert run(lake).complete
    rows = copies(lake).filter(pl.col("kind") == "contrast").sort("input_id")
    family = next(one for one in image_families() if one.name == "light")
    originals = {name: pixels for pixels, _, name in trace_factories.make_images()}
    flat = [
        family.corrupt(originals[name], kind="contrast", severity=3, seed=0, input_id=name) for name in rows["input_id"]
    ]
    with torch.no_grad():
        logits = trace_factories.make_model().eval()(torch.from_numpy((np.stack(flat) - 0.5) / 0.25))
    np.testing.assert_allclose(np.array(rows["logits"].to_list()), logits.numpy(), rtol=1e-3, atol=1e-4)


def test_images_outside_zero_and_one_are_refused_with_what_to_do(lake):
    register(lake, dataset="Images")
    with pytest.raises(WorkerPoolError, match=r"image values run from .* normalize=\(mean, std\)"):
        run(lake)
    assert lake.version(LANDING_STRESS) is None
    assert lake.version(OPS_QUARANTINE) is None


def test_rows_of_a_table_keep_their_whole_numbers(lake):
    register(lake, model="make_table_model", dataset="make_table")
    report = run(lake)
    assert report.families == ("noise", "shift", "scale", "missing", "digital")
    assert (report.sets, report.complete) == (11, True)


def test_scans_that_lose_points_are_collated_by_the_dataset(lake):
    register(lake, model="PointModel", dataset="make_scans", families="points")
    report = run(lake)
    assert report.families == ("density", "coverage", "noise", "intensity")
    assert report.complete


def test_scans_without_a_way_to_make_a_batch_are_refused(lake):
    register(lake, model="PointModel", dataset="make_scans", families="points")
    register_dataset(lake, "images", factory="trace_factories:make_scans", params={"collate": False})
    with pytest.raises(InvalidInputError, match="collate="):
        run(lake)


def test_families_of_the_user_are_used(lake):
    register(lake, families="trace_factories:my_families")
    report = run(lake, options=StressOptions(max_inputs=10))
    assert (report.families, report.sets, report.rows) == (("halving", "blanking"), 6, 60)
    versions = copies(lake).select("family", "family_version").unique().sort("family")
    assert versions.rows() == [("blanking", "1"), ("halving", "7")]


def test_other_weights_than_the_traced_are_refused(lake):
    register(lake)
    register_model(
        lake, "cnn", factory="trace_factories:make_model", model_name="cnn", version_name="v1", params={"seed": 5}
    )
    with pytest.raises(WorkerPoolError, match="Trace the registered model again"):
        run(lake)


def test_another_dataset_under_the_same_name_is_refused(lake):
    register(lake)
    register_dataset(lake, "images", factory="trace_factories:make_table")
    with pytest.raises((WorkerPoolError, InvalidInputError)):
        run(lake)
    assert lake.version(LANDING_STRESS) is None


def test_a_model_that_the_platform_has_not_traced_is_refused(lake):
    register(lake, trace=False)
    with pytest.raises(NotFoundError, match="mld trace run"):
        run(lake)


def test_training_data_is_not_stressed(lake):
    register(lake, trace=False)
    trace_run(lake, "cnn", "images", dataset_type="train", pool=INLINE)
    with pytest.raises(InvalidInputError, match="only training data"):
        run(lake)


def test_weights_are_described_once_for_trace_and_pass(lake):
    register(lake)
    run(lake)
    assert lake.read(LANDING_MODELS).height == 1


def test_inputs_that_could_be_anything_need_named_families(lake):
    register(lake, model="PointModel", dataset="make_scans")
    with pytest.raises(InvalidInputError, match="--families"):
        run(lake)
