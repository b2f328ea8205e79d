"""Trace runs on both backends, into a real lake."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
import trace_factories
from polars.testing import assert_frame_equal

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.exceptions import InvalidInputError, NotFoundError, WorkerPoolError
from mld_pipelines.lake import Provenance
from mld_pipelines.tables import LANDING_MODELS, LANDING_RECEIPTS, LANDING_TRACES, OPS_QUARANTINE
from mld_pipelines.tracing import register_dataset, register_model, trace_run

INLINE = PoolPolicy(backend="inline")
LOCAL = PoolPolicy(backend="local", size=2)

#: When and under which name a row arrived; everything else must not depend on the backend.
ARRIVAL = ("stream_id", "seq", "row", "ingested_at", "ingest_day", "captured_at")


def register(lake, *, model="make_model", dataset="Images", model_params=None, **dataset_params):
    register_model(
        lake,
        "cnn",
        factory=f"trace_factories:{model}",
        model_name="cnn",
        version_name="v1",
        params=model_params,
    )
    register_dataset(lake, "images", factory=f"trace_factories:{dataset}", params=dataset_params)


def run(lake, pool=INLINE, **options):
    return trace_run(lake, "cnn", "images", **{"dataset_type": "val", "batch_size": 16, "pool": pool, **options})


def die_after(batches):
    def die(done, total):
        if done == batches:
            raise KeyboardInterrupt

    return die


def traces(lake):
    return lake.read(LANDING_TRACES)


def comparable(frame):
    return frame.drop(ARRIVAL).sort("input_id")


def test_rows_are_what_the_model_itself_says(lake):
    register(lake, n=50)
    report = run(lake)
    rows = traces(lake).sort("input_id")
    pixels, labels = trace_factories.images(50)
    model = trace_factories.make_model().eval()
    with torch.no_grad():
        feature = model[:-1](torch.from_numpy(pixels))
        logits = model[-1](feature)
    assert report.rows == rows.height == 50
    assert report.complete
    assert rows["input_id"].to_list() == [f"img-{index:04d}" for index in range(50)]
    assert rows["label"].to_list() == labels.tolist()
    assert rows["prediction"].to_list() == logits.argmax(1).tolist()
    np.testing.assert_allclose(np.array(rows["logits"].to_list()), logits.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.array(rows["feature"].to_list()), feature.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows["confidence"].to_numpy(), logits.softmax(1).amax(1).numpy(), rtol=1e-5)
    assert rows["feature_layer"].unique().to_list() == ["6"]
    assert rows["model_key"].unique().to_list() == ["cnn@v1"]


def test_the_receipt_completes_the_trace_and_is_written_last(lake):
    register(lake, n=50)
    report = run(lake, n_epoch=3, provenance=Provenance(run_id="run-7"))
    receipt = lake.read(LANDING_RECEIPTS).row(0, named=True)
    assert receipt == report.receipt
    assert (receipt["rows"], receipt["dropped"], receipt["last_seq"], receipt["n_epoch"]) == (50, 0, 3, 3)
    assert receipt["state"] == "complete"
    assert receipt["fingerprint"] == traces(lake)["fingerprint"].unique().item()
    assert not receipt["weights_changed"]
    assert receipt["note"] is None
    assert lake.history(LANDING_RECEIPTS)["run_id"].drop_nulls().to_list() == ["run-7"]


def test_the_model_is_described_for_processes_without_it(lake):
    register(lake, n=20)
    run(lake)
    described = lake.read(LANDING_MODELS).row(0, named=True)
    assert (described["n_classes"], described["feature_dim"], described["output_kind"]) == (4, 64, "logits")
    assert described["fingerprint"] == traces(lake)["fingerprint"][0]
    assert described["class_names"] == ["zero", "one", "two", "three"]
    assert described["head"] is not None


def test_a_run_records_what_a_tracer_records(lake, tmp_path, monkeypatch):
    from mld_pipelines.lake import Lake
    from mld_pipelines.training import ClassificationTracer

    register(lake, n=40)
    run(lake, n_epoch=2)
    monkeypatch.setenv("MLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLD_API_ENDPOINT", str(tmp_path / "traced"))
    pixels, labels = trace_factories.images(40)
    ids = [f"img-{index:04d}" for index in range(40)]
    names = list(trace_factories.Images.classes)
    tracer = ClassificationTracer(trace_factories.make_model().eval(), "cnn", "v1", class_names=names)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for start in range(0, 40, 16):
        part = slice(start, start + 16)
        tracer(torch.from_numpy(pixels[part]), labels[part], ids[part], dataset_type="val", n_epoch=2)
    torch.set_num_threads(threads)
    tracer.wait_for_save()
    traced = Lake(str(tmp_path / "traced"), code_version="test")
    # the evidence quotes how many rows were judged together, which is up to the tracer's thread
    assert_frame_equal(
        comparable(traces(lake)).drop("output_evidence"),
        comparable(traces(traced)).drop("output_evidence"),
        check_exact=True,
    )
    drop = (*ARRIVAL[:-1], "first_seen")
    assert_frame_equal(lake.read(LANDING_MODELS).drop(drop), traced.read(LANDING_MODELS).drop(drop))
    drop = (*ARRIVAL[:-1], "completed_at", "source")
    assert_frame_equal(lake.read(LANDING_RECEIPTS).drop(drop), traced.read(LANDING_RECEIPTS).drop(drop))


@pytest.mark.ray
def test_ray_and_inline_give_identical_tables(local_ray, tmp_path):
    from mld_pipelines.lake import Lake

    frames, models = [], []
    for pool in (INLINE, LOCAL):
        lake = Lake(str(tmp_path / pool.backend), code_version="test")
        register(lake, n=150)
        report = run(lake, pool)
        assert (report.backend, report.rows) == (pool.backend, 150)
        frames.append(comparable(traces(lake)))
        models.append(lake.read(LANDING_MODELS).drop(*ARRIVAL[:-1], "first_seen"))
    assert_frame_equal(frames[0], frames[1], check_exact=True)
    assert_frame_equal(models[0], models[1], check_exact=True)


@pytest.mark.ray
def test_an_item_that_kills_its_worker_is_the_only_one_that_is_lost(local_ray, lake):
    register(lake, n=100, trouble_at=40, trouble="kill")
    report = run(lake, PoolPolicy(backend="local", size=2, max_attempts=2))
    assert (report.rows, report.batches, report.quarantined_batches) == (99, 7, 0)
    assert not report.complete
    assert "1 single item quarantined" in report.summary
    quarantined = lake.read(OPS_QUARANTINE).row(0, named=True)
    assert (quarantined["stream_id"], quarantined["seq"], quarantined["row"]) == (report.stream_id, 2, 8)
    assert "item 40 of 'val', given up after 3 attempts" in quarantined["reason"]
    assert "worker process died" in quarantined["reason"]
    assert {f"img-{index:04d}" for index in range(100)} - set(traces(lake)["input_id"]) == {"img-0040"}


def test_an_item_that_raises_is_quarantined_and_the_receipt_says_so(lake):
    register(lake, n=100, trouble_at=99, trouble="raise")
    report = run(lake)
    receipt = lake.read(LANDING_RECEIPTS).row(0, named=True)
    assert (receipt["rows"], receipt["dropped"], receipt["last_seq"]) == (99, 1, 6)
    assert receipt["note"] == "1 single item quarantined, 1 item is missing; item 99: OSError: cannot read image 99"
    assert (report.failures, report.lost_items) == ({}, {99: "OSError: cannot read image 99"})
    assert "item 99 of 'val'" in lake.read(OPS_QUARANTINE)["reason"].item()


def test_a_rows_number_stays_its_place_in_the_batch_where_another_is_lost(lake):
    register(lake, n=20, trouble_at=3, trouble="raise")
    run(lake)
    rows = traces(lake).sort("input_id")
    place = rows["seq"] * 16 + rows["row"]
    assert place.to_list() == [index for index in range(20) if index != 3]
    assert rows["input_id"].to_list() == [f"img-{index:04d}" for index in range(20) if index != 3]


def test_the_rows_beside_a_lost_one_are_those_of_a_run_without_it(lake, tmp_path):
    from mld_pipelines.lake import Lake

    register(lake, n=40, trouble_at=7, trouble="raise")
    run(lake)
    other = Lake(str(tmp_path / "whole"), code_version="test")
    register(other, n=40)
    run(other)
    whole = comparable(traces(other)).filter(pl.col("input_id") != "img-0007").drop("output_evidence")
    assert_frame_equal(comparable(traces(lake)).drop("output_evidence"), whole, abs_tol=1e-5)


def test_rows_that_break_the_contract_are_counted_as_missing(lake):
    register(lake, model="NanModel", n=40, shift_at=5)
    report = run(lake)
    assert (report.rows, report.quarantined_batches, report.receipt["dropped"]) == (39, 0, 1)
    assert "img-0005" not in traces(lake)["input_id"].to_list()
    assert lake.read(OPS_QUARANTINE).height == 1


def test_when_every_batch_fails_there_is_no_receipt_and_the_reason_is_told(lake):
    register(lake, model="BrokenModel", n=40)
    with pytest.raises(WorkerPoolError, match="mat1 and mat2"):
        run(lake)
    assert lake.version(LANDING_RECEIPTS) is None
    assert lake.read(OPS_QUARANTINE).height == 3


def test_the_same_run_key_does_nothing_twice(lake):
    register(lake, n=50)
    first = run(lake, run_key="demo")
    second = run(lake, run_key="demo")
    assert second.stream_id == first.stream_id
    assert (second.known_batches, second.rows, second.backend) == (4, 50, "none")
    assert "4 of 4 batches were known" in second.summary
    assert traces(lake).height == 50
    assert lake.read(LANDING_RECEIPTS).height == 1


def test_a_run_whose_driver_died_is_continued_by_the_next_of_the_same_key(lake, monkeypatch):
    import mld_pipelines.tracing._landing as landing

    register(lake, n=100)
    monkeypatch.setattr(landing, "_FLUSH_BYTES", 1)  # a commit per batch, so that some are in the lake
    with pytest.raises(KeyboardInterrupt):
        run(lake, run_key="demo", progress=die_after(3))
    assert traces(lake).height == 48
    assert lake.version(LANDING_RECEIPTS) is None
    report = run(lake, run_key="demo")
    assert (report.known_batches, report.rows) == (3, 100)
    assert traces(lake)["input_id"].n_unique() == traces(lake).height == 100


@pytest.mark.parametrize("change", [{"batch_size": 10}, {"dataset_type": "test"}, {"n_epoch": 1}, {"seed": 1}])
def test_another_job_under_the_same_key_is_another_stream(lake, change):
    register(lake, n=20)
    assert run(lake, run_key="demo", **change).stream_id != run(lake, run_key="demo").stream_id


def test_without_a_key_every_run_is_a_new_trace(lake):
    register(lake, n=20)
    assert run(lake).stream_id != run(lake).stream_id
    assert traces(lake).height == 40


def test_preprocessing_runs_before_the_model_and_the_hash(lake):
    register(lake, dataset="make_raw_images", n=20)
    run(lake)
    raw, _ = trace_factories.images(20)
    pixels = trace_factories.scale(torch.from_numpy(np.clip(raw * 50 + 128, 0, 255).astype(np.uint8)))
    with torch.no_grad():
        logits = trace_factories.make_model().eval()(pixels)
    rows = traces(lake).sort(pl.col("input_id").cast(pl.Int64))
    np.testing.assert_allclose(np.array(rows["logits"].to_list()), logits.numpy(), rtol=1e-5, atol=1e-6)
    assert rows["input_hash"].n_unique() == 20


@pytest.mark.ray
def test_an_iterable_dataset_gives_each_worker_its_ranges(local_ray, lake):
    register(lake, dataset="ImageStream", n=100)
    run(lake, LOCAL)
    rows = traces(lake).sort(pl.col("input_id").cast(pl.Int64))
    assert rows["input_id"].to_list() == [str(index) for index in range(100)]
    assert rows["label"].to_list() == trace_factories.images(100)[1].tolist()


def test_progress_reaches_a_callable_and_a_terminal(lake, capsys):
    register(lake, n=50)
    seen = []
    run(lake, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    run(lake, progress=True)
    assert "4/4" in capsys.readouterr().err


def test_randomness_of_the_caller_is_left_alone(lake):
    register(lake, n=20)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    run(lake)
    assert torch.equal(torch.rand(2), expected)


def test_weights_that_differ_between_workers_are_noticed(lake, monkeypatch):
    import mld_pipelines.tracing._landing as landing

    register(lake, model="make_unseeded_model", n=100)
    monkeypatch.setattr(landing, "_FLUSH_BYTES", 1)
    with pytest.raises(KeyboardInterrupt):
        run(lake, run_key="demo", progress=die_after(3))
    report = run(lake, run_key="demo")
    assert report.rows == 100
    assert report.receipt["weights_changed"]
    assert lake.read(LANDING_MODELS).height == 2


def test_a_model_that_cannot_be_built_says_why_and_records_nothing(lake):
    register(lake, model="make_model_without_weights", n=20)
    with pytest.raises(WorkerPoolError, match=r"FileNotFoundError: weights\.pt is missing"):
        run(lake)
    assert lake.version(LANDING_TRACES) is None


def test_a_factory_that_makes_no_module_is_refused(lake):
    register(lake, model="make_number", n=20)
    with pytest.raises(WorkerPoolError, match=r"must return a torch\.nn\.Module"):
        run(lake)


def test_an_empty_dataset_is_refused(lake):
    register(lake, dataset="make_empty")
    with pytest.raises(InvalidInputError, match="no items"):
        run(lake)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"dataset_type": " "}, {"n_epoch": -1}])
def test_arguments_out_of_range_are_refused(lake, options):
    register(lake, n=20)
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        run(lake, **options)


def test_an_unregistered_name_is_refused(lake):
    with pytest.raises(NotFoundError, match="no model 'cnn'"):
        run(lake)
