"""The logger stands in for the model and records what it does."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch
from torch import nn

from mld_pipelines.exceptions import ConfigurationError, InvalidInputError, StorageError
from mld_pipelines.monitoring import ClassificationLogger, log_labels
from mld_pipelines.tables import LANDING_FEEDBACK, LANDING_INFERENCES, LANDING_MODELS, OPS_QUARANTINE


def rows(lake):
    return lake.read(LANDING_INFERENCES).sort("stream_id", "seq", "row")


@pytest.mark.feature("I1", "I2", "I5", "I6")
def test_the_signature_is_the_original_ones():
    names = list(inspect.signature(ClassificationLogger).parameters.values())
    assert [p.name for p in names[:4]] == ["model", "model_name", "version_name", "result_name"]
    assert names[3].default is None


@pytest.mark.feature("I6", "I10", "I11", "I12", "I15", "I21", "I22")
def test_single_inputs_and_batches_are_logged_without_labels(logging_, model, lake):
    logger = logging_()
    batches = [torch.randn(n, 4) for n in (1, 1, 5, 1)]
    with torch.no_grad():
        outputs = [logger(x) for x in batches]
        expected = [model(x) for x in batches]
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
    assert logger.flush(10)
    frame = rows(lake)
    assert frame["batch_size"].to_list() == [1, 1, 5, 5, 5, 5, 5, 1]
    logits = torch.cat(expected).numpy()
    np.testing.assert_array_equal(np.stack(frame["logits"].to_numpy()), logits)
    hidden = model[1](model[0](torch.cat(batches))).detach().numpy()
    np.testing.assert_allclose(np.stack(frame["feature"].to_numpy()), hidden, rtol=1e-6, atol=1e-6)
    assert frame["prediction"].to_list() == logits.argmax(1).tolist()
    assert (frame["latency_ms"] > 0).all()
    assert frame["error_proba"].null_count() == 8
    assert frame["request_id"].n_unique() == 8


def test_the_output_object_is_the_models_own(logging_):
    answer = {"logits": torch.randn(2, 3)}
    logger = logging_(lambda x: answer)
    for _ in range(3):
        assert logger(torch.zeros(2, 4)) is answer


@pytest.mark.feature("I28")
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_every_gradient_mode_is_kept(logging_, model, lake, mode):
    logger = logging_()
    with mode():
        for _ in range(3):
            x = torch.randn(2, 4)
            output, expected = logger(x), model(x)
            assert torch.equal(output, expected)
            assert output.requires_grad == expected.requires_grad
            assert output.is_inference() == expected.is_inference()
    assert logger.flush(10)
    assert rows(lake).height == 6


def test_an_output_changed_in_place_afterwards_is_recorded_as_it_was(logging_, model, lake):
    logger, x = logging_(), torch.ones(2, 4)
    for _ in range(3):
        with torch.no_grad():
            expected = model(x).clone()
            logger(x).zero_()
    assert logger.flush(10)
    stored = np.stack(rows(lake)["logits"].to_numpy()).reshape(3, 2, 3)
    np.testing.assert_array_equal(stored, np.stack([expected.numpy()] * 3))


@pytest.mark.feature("I10")
def test_the_logger_stands_in_for_the_module(logging_, model):
    logger = logging_()
    assert logger.eval() is logger
    assert logger.to("cpu") is logger
    assert logger.train().training is True
    assert list(logger.state_dict()) == list(model.state_dict())
    assert [p.shape for p in logger.parameters()] == [p.shape for p in model.parameters()]
    logger.load_state_dict(model.state_dict())
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = logger.no_such_thing


def test_arguments_reach_the_model_unchanged(logging_, lake):
    seen = []

    def model(*args, **kwargs):
        seen.append((args, kwargs))
        return torch.zeros(2, 3)

    logger = logging_(model)
    x = torch.zeros(2, 4)
    logger(x, 7, flag=True)
    logger(pixel_values=x)
    assert seen[0][0][0] is x
    assert seen == [((x, 7), {"flag": True}), ((), {"pixel_values": x})]


def test_the_hook_goes_with_close_and_calls_go_on_unlogged(logging_, model):
    logger = logging_()
    logger(torch.randn(2, 4))
    assert len(model[2]._forward_pre_hooks) == 1
    assert logger.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    x = torch.randn(2, 4)
    assert torch.equal(logger(x), model(x))
    assert logger.stats.dropped == {"closed": 2}


def test_a_forgotten_logger_delivers_and_takes_its_hook_off(model, lake):
    import gc
    import time

    logger = ClassificationLogger(model, "net", "v1")
    logger(torch.randn(2, 4))
    del logger
    gc.collect()
    assert len(model[2]._forward_pre_hooks) == 0
    deadline = time.monotonic() + 10
    while rows(lake).height < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_models_own_errors_reach_the_caller(logging_):
    logger = logging_()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            logger(torch.randn(2, 99))
        logger(torch.randn(2, 4))
    assert logger.stats.emitted == 4


@pytest.mark.feature("I24")
@pytest.mark.parametrize(
    "where",
    [
        "mld_pipelines.monitoring._classification.host_copies",
        "mld_pipelines.monitoring._background.InferenceCall",
        "mld_pipelines.adapters._probe.score_candidates",
        "mld_pipelines.adapters._heads.HeadSearch.watching",
        "mld_pipelines.adapters._heads.HeadSearch.head",
        "mld_pipelines.adapters._taps.FeatureTap.attach",
        "mld_pipelines.monitoring._background.fingerprint",
        "mld_pipelines.monitoring._background.weights_version",
        "mld_pipelines.capture._recorder.Recorder.put",
        "mld_pipelines.capture._recorder.Worker",
        "mld_pipelines.capture._calls.judge_scores",
        "mld_pipelines.capture._calls.pooled",
        "mld_pipelines.capture._spool._write_whole",
        "mld_pipelines.capture._stream.Stream.segment",
        "mld_pipelines.capture._commit.decode",
        "mld_pipelines.monitoring._classification_background.model_row",
    ],
)
@pytest.mark.parametrize("fault", [RuntimeError("injected"), MemoryError(), RecursionError()])
def test_no_fault_of_ours_reaches_the_caller(model, monkeypatch, where, fault):
    def broken(*args, **kwargs):
        raise fault

    monkeypatch.setattr(where, broken)
    logger = ClassificationLogger(model, "net", "v1")
    for _ in range(3):
        x = torch.randn(2, 4)
        assert torch.equal(logger(x), model(x))
    logger.flush(0.3)
    monkeypatch.undo()
    logger.close(1)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_output_that_is_no_classification_gives_basic_metrics(logging_, lake, caplog):
    logger = logging_(lambda x: {"text": "hello"})
    for _ in range(3):
        logger(torch.zeros(2, 4))
    assert logger.flush(10)
    frame = rows(lake)
    assert frame.height == 6
    assert frame["prediction"].null_count() == 6
    assert caplog.text.count("only basic metrics are logged") == 1


def test_outputs_that_are_not_finite_are_quarantined_and_counted(logging_, lake):
    logits = torch.randn(3, 3)
    logits[1, 0] = float("nan")
    logger = logging_(lambda x: logits)
    logger(torch.zeros(3, 4))
    assert logger.flush(10)
    assert (logger.stats.stored, logger.stats.quarantined) == (3, 1)
    assert (rows(lake).height, lake.read(OPS_QUARANTINE).height) == (2, 1)


@pytest.mark.parametrize(
    "last", [nn.Softmax(1), nn.LogSoftmax(1), nn.Identity()], ids=["softmax", "log_softmax", "logits"]
)
def test_what_the_model_returned_is_kept_as_it_returned_it(logging_, model, lake, last):
    logger, x = logging_(nn.Sequential(model, last)), torch.randn(4, 4)
    logger(x)
    assert logger.flush(10)
    stored = rows(lake)["probs" if isinstance(last, nn.Softmax) else "logits"]
    np.testing.assert_array_equal(np.stack(stored.to_numpy()), last(model(x)).detach().numpy())
    np.testing.assert_allclose(rows(lake)["confidence"].to_numpy(), model(x).softmax(1).max(1)[0].detach(), rtol=1e-5)


@pytest.mark.parametrize("fullgraph", [True, False])
def test_a_compiled_model_is_logged_with_features(logging_, model, lake, fullgraph):
    torch._dynamo.reset()
    logger = logging_(torch.compile(model, backend="eager", fullgraph=fullgraph))
    x = torch.randn(3, 4)
    for _ in range(4):
        with torch.no_grad():
            assert torch.equal(logger(x), model(x))
    assert logger.flush(10)
    assert rows(lake).height == 12
    assert rows(lake)["feature"].null_count() == 0


def test_a_model_compiled_and_called_before_is_logged_without_features_and_says_so(logging_, model, lake, caplog):
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(3, 4)
    with torch.no_grad():
        compiled(x)
        logger = logging_(compiled)
        for _ in range(3):
            assert torch.equal(logger(x), model(x))
    assert logger.flush(10)
    assert rows(lake).height == 9
    assert caplog.text.count("logged without features") == 1


def test_request_ids_given_and_generated_can_be_read_back(logging_, lake):
    logger = logging_()
    logger(torch.randn(2, 4), request_ids=["a", "b"])
    assert logger.last_request_ids == ["a", "b"]
    logger(torch.randn(2, 4), request_ids=torch.tensor([7, 8]))
    assert logger.last_request_ids == ["7", "8"]
    logger(torch.randn(2, 4))
    generated = logger.last_request_ids
    assert logger.flush(10)
    assert rows(lake)["request_id"].to_list() == ["a", "b", "7", "8", *generated]


def test_request_ids_that_do_not_fit_are_replaced_not_raised(logging_, lake, caplog):
    logger = logging_()
    logger(torch.randn(2, 4), request_ids=["only one"])
    assert logger.flush(10)
    assert rows(lake)["request_id"].to_list() == logger.last_request_ids
    assert "generated ones take their place" in caplog.text


def test_last_request_ids_are_those_of_the_own_thread(logging_):
    logger = logging_()
    logger(torch.randn(1, 4), request_ids=["main"])
    thread = threading.Thread(target=lambda: logger(torch.randn(1, 4), request_ids=["other"]))
    thread.start()
    thread.join()
    assert logger.last_request_ids == ["main"]


def test_metadata_of_logger_and_call_are_joined(logging_, lake):
    logger = logging_(metadata={"site": "b"})
    logger(torch.randn(2, 4), metadata={"n": [1, 2]})
    logger(torch.randn(1, 4))
    assert logger.flush(10)
    assert rows(lake)["metadata"].to_list() == ['{"n": 1, "site": "b"}', '{"n": 2, "site": "b"}', '{"site": "b"}']


def test_inputs_are_hashed_only_on_request(logging_, lake):
    from mld_pipelines.adapters import input_hashes

    x = torch.randn(2, 4)
    logging_()(x)
    logging_(hash_inputs=True)(x)
    import time

    from mld_pipelines.capture import replay

    time.sleep(0.6)
    replay()
    hashes = rows(lake)["input_hash"].to_list()
    assert sorted(filter(None, hashes)) == sorted(input_hashes(x, 2))
    assert hashes.count(None) == 2


def test_a_clock_replays_history(logging_, lake):
    moments = iter([datetime(2026, 3, 1, 12, tzinfo=UTC), 1_700_000_000.5, datetime(2026, 3, 2)])  # noqa: DTZ001
    logger = logging_(clock=lambda: next(moments))
    for _ in range(3):
        logger(torch.randn(1, 4))
    assert logger.flush(10)
    assert rows(lake)["event_at"].dt.strftime("%Y-%m-%d %H:%M:%S%.3f").to_list() == [
        "2026-03-01 12:00:00.000",
        "2023-11-14 22:13:20.500",
        "2026-03-02 00:00:00.000",
    ]
    assert [str(day) for day in rows(lake)["event_day"]] == ["2026-03-01", "2023-11-14", "2026-03-02"]
    assert not rows(lake)["clock_skewed"].any()


def test_a_clock_that_jumps_ahead_is_flagged_and_the_ingest_time_used(logging_, lake):
    offsets = iter([timedelta(seconds=30), timedelta(hours=1), timedelta(hours=-1)])
    logger = logging_(clock=lambda: datetime.now(UTC) + next(offsets))
    for _ in range(3):
        logger(torch.randn(1, 4))
    assert logger.flush(10)
    frame = rows(lake)
    assert frame["clock_skewed"].to_list() == [False, True, False]
    assert abs((frame["event_at"][1] - frame["ingested_at"][1]).total_seconds()) < 5


def test_an_event_before_the_first_monitoring_day_is_quarantined(logging_, lake):
    days = iter([datetime(2019, 12, 31, 23, 59, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)])
    logger = logging_(clock=lambda: next(days))
    for _ in range(2):
        logger(torch.ones(2, 4))
    assert logger.flush(10)
    assert logger.stats.quarantined == 2
    assert rows(lake)["event_day"].unique().to_list() == [datetime(2020, 1, 1, tzinfo=UTC).date()]
    assert lake.read(OPS_QUARANTINE)["rule"].unique().to_list() == ["event_day|not_before"]


@pytest.mark.parametrize("stated", [None, "noon", float("nan"), 1e30, ValueError("no time")])
def test_a_clock_that_fails_costs_neither_the_call_nor_the_row(model, lake, stated):
    def clock():
        if isinstance(stated, Exception):
            raise stated
        return stated

    before = datetime.now(UTC)
    logger = ClassificationLogger(model, "net", "v1", clock=clock)
    x = torch.randn(1, 4)
    for _ in range(2):
        assert torch.equal(logger(x), model(x))
    logger.close(10)
    assert logger.stats.stored == 2
    assert rows(lake)["clock_skewed"].all()
    assert (rows(lake)["event_at"] >= before).all()


def test_inferences_that_cannot_be_logged_are_counted(model, monkeypatch, caplog):
    logger = ClassificationLogger(model, "net", "v1")
    logger(torch.randn(1, 4))
    monkeypatch.setattr(logger._probe, "scores", lambda _: 1 / 0)
    logger._learn(plain=None)
    assert logger(torch.randn(3, 4)).shape == (3, 3)
    monkeypatch.undo()
    logger(torch.randn(2, 4))
    logger.close(10)
    stats = logger.stats
    assert (stats.emitted, stats.stored, stats.dropped) == (6, 3, {"failed": 3})
    assert stats.is_conserved
    assert "ZeroDivisionError" in caplog.text


def test_request_ids_from_an_iterator_are_recorded_and_readable(logging_, lake):
    logger = logging_()
    logger(torch.randn(3, 4), request_ids=iter(["x", "y", "z"]))
    assert logger.last_request_ids == ["x", "y", "z"]
    assert logger.flush(10)
    assert rows(lake)["request_id"].to_list() == ["x", "y", "z"]


def test_weights_loaded_while_serving_change_the_recorded_fingerprint(logging_, model, lake):
    logger = logging_()
    logger(torch.randn(1, 4))
    assert logger.flush(10)
    with torch.no_grad():
        model[0].weight += 1
    logger(torch.randn(1, 4))
    assert logger.flush(10)
    logger(torch.randn(1, 4))
    assert logger.flush(10)
    seen = rows(lake)["fingerprint"].to_list()
    assert seen[0] != seen[2]
    assert lake.read(LANDING_MODELS)["fingerprint"].n_unique() == 2


@pytest.mark.feature("I25")
def test_a_context_manager_closes(model, lake):
    with ClassificationLogger(model, "net", "v1") as logger:
        logger(torch.randn(3, 4))
    assert rows(lake).height == 3


def test_closing_twice_says_the_same(model):
    logger = ClassificationLogger(model, "net", "v1")
    logger(torch.randn(3, 4))
    assert logger.close(10)
    assert logger.close(10)


def test_the_same_stream_again_is_known(logging_, lake):
    for known in (0, 6):
        logger = logging_(stream_id="fortnight", overflow="block")
        for n in range(3):
            logger(torch.full((2, 4), float(n)))
            ids = logger.last_request_ids
        assert logger.close()
        assert (logger.stats.known, logger.stats.known_batches) == (known, known // 2)
        assert ids == ["fortnight-2-0", "fortnight-2-1"]
    assert rows(lake).height == 6


def test_a_copied_model_carries_no_logger(logging_, model):
    logger = logging_()
    logger(torch.randn(2, 4))
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    twin(torch.randn(2, 4))
    assert logger.stats.emitted == 2


def test_a_logger_pickles_as_its_arguments(logging_, lake):
    twin = pickle.loads(pickle.dumps(logging_(metadata={"a": 1})))
    twin(torch.randn(2, 4))
    assert twin.close()
    assert rows(lake)["metadata"].to_list() == ['{"a": 1}'] * 2


def test_threads_share_a_logger(logging_, model, lake):
    logger = logging_()

    def work(seed):
        x = torch.full((2, 4), float(seed))
        for n in range(50):
            logger(x, request_ids=[f"{seed}-{n}-0", f"{seed}-{n}-1"])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert logger.flush(20)
    frame = rows(lake)
    assert frame.height == 400
    with torch.no_grad():
        for seed in range(4):
            mine = frame.filter(frame["request_id"].str.starts_with(f"{seed}-"))
            expected = model[1](model[0](torch.full((1, 4), float(seed)))).numpy()
            features = np.stack(mine["feature"].to_numpy())
            np.testing.assert_allclose(features, np.repeat(expected, 100, axis=0), rtol=1e-6)


def test_an_http_endpoint_is_refused_when_the_logger_is_made(model, monkeypatch):
    monkeypatch.setenv("MLD_API_ENDPOINT", "http://localhost:8000")
    with pytest.raises(ConfigurationError, match="comes with the ingestion server"):
        ClassificationLogger(model, "net", "v1")


@pytest.mark.parametrize("options", [{"overflow": "never"}, {"max_buffer_bytes": 0}, {"feature_layer": "none"}])
def test_arguments_outside_their_range_are_refused(model, options):
    with pytest.raises(InvalidInputError):
        ClassificationLogger(model, "net", "v1", **options)


@pytest.mark.feature("B1", "B2")
def test_names_that_cannot_be_keys_are_refused(model):
    with pytest.raises(InvalidInputError, match="model_name"):
        ClassificationLogger(model, "", "v1")


def test_nothing_expensive_happens_on_the_callers_thread(logging_, model, monkeypatch):
    logger = logging_()
    logger(torch.randn(1, 4))
    caller = threading.get_ident()
    touched = []

    def watch(name, function):
        def spy(*args, **kwargs):
            if threading.get_ident() == caller:
                touched.append(name)
            return function(*args, **kwargs)

        return spy

    import json
    import uuid

    monkeypatch.setattr(torch.Tensor, "tolist", watch("tolist", torch.Tensor.tolist))
    monkeypatch.setattr(torch.Tensor, "softmax", watch("softmax", torch.Tensor.softmax))
    monkeypatch.setattr(torch.Tensor, "numpy", watch("numpy", torch.Tensor.numpy))
    monkeypatch.setattr(json, "dumps", watch("json", json.dumps))
    monkeypatch.setattr(uuid, "UUID", watch("uuid", uuid.UUID))
    for _ in range(5):
        logger(torch.randn(1, 4))
    monkeypatch.undo()
    assert touched == []


def test_labels_join_by_request_id(logging_, lake):
    logger = logging_()
    logger(torch.randn(3, 4))
    ids = logger.last_request_ids
    receipt = log_labels(ids, torch.tensor([0, 1, 2]), source="lab", labelled_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert (receipt.rows, receipt.known) == (3, 0)
    frame = lake.read(LANDING_FEEDBACK).sort("row")
    assert frame.select("request_id", "label", "source").rows() == [(i, n, "lab") for n, i in enumerate(ids)]
    assert str(frame["labelled_at"][0]) == "2026-03-01 00:00:00+00:00"


@pytest.mark.parametrize(
    "arguments",
    [(["a"], [0, 1]), ([], []), (["a"], [0.5]), (["a"], [-1]), ([""], [1]), (["a"], [[1, 2]])],
)
def test_labels_that_do_not_fit_are_refused(arguments, lake):
    with pytest.raises(InvalidInputError):
        log_labels(*arguments)
    assert lake.read(LANDING_FEEDBACK).height == 0


def test_labels_for_an_unwritable_lake_wait_in_the_spool(tmp_path):
    (tmp_path / ".mld").mkdir()
    (tmp_path / ".mld" / "lake").write_text("a file")
    with pytest.raises(StorageError, match="None is lost"):
        log_labels(["a"], [1], timeout=5)
    (tmp_path / ".mld" / "lake").unlink()
    log_labels(["b"], [1])


def test_labels_without_a_writable_spool_are_refused_with_what_to_do(tmp_path):
    (tmp_path / ".mld").mkdir()
    (tmp_path / ".mld" / "spool").write_text("a file")
    with pytest.raises(StorageError, match=r"the spool .* cannot be written: .* set MLD_HOME"):
        log_labels(["a"], [1], stream_id="by-name")


def test_the_same_labels_again_are_known_and_a_second_call_is_not(lake):
    import subprocess
    import sys

    code = (
        "from mld_pipelines.monitoring import log_labels\n"
        "for n in range(2): print(log_labels([f'r{n}', f's{n}'], [0, 1], stream_id='labels').known)"
    )
    for expected in ("0\n0\n", "2\n2\n"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout == expected
    assert lake.read(LANDING_FEEDBACK).height == 4


def test_an_unknown_result_gives_one_warning_and_basic_metrics(logging_, lake, caplog):
    pytest.importorskip("mld_pipelines.evaluation")
    caplog.set_level(logging.WARNING)
    logger = logging_(result_name="nobody_v1_classification_v1_20260101")
    for _ in range(3):
        logger(torch.randn(2, 4))
        assert logger.flush(10)
    assert rows(lake)["error_proba"].null_count() == 6
    assert set(rows(lake)["result_name"]) == {"nobody_v1_classification_v1_20260101"}
    assert sum("nobody_v1" in record.message for record in caplog.records) == 1
