"""The tracer records what happened and changes nothing."""

from __future__ import annotations

import inspect
import logging
import os
import stat
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from mld_pipelines.adapters import fingerprint
from mld_pipelines.exceptions import InvalidInputError, StorageError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_MODELS, LANDING_RECEIPTS, LANDING_TRACES, OPS_QUARANTINE
from mld_pipelines.training import ClassificationTracer


def trace(tracer, batches, **options):
    return [tracer(x, y, input_ids=ids, **options) for x, y, ids in batches]


def rows(lake):
    return lake.read(LANDING_TRACES).sort("seq", "row")


@pytest.mark.feature("C1", "D1", "D2")
def test_the_signature_is_the_original_ones():
    names = list(inspect.signature(ClassificationTracer).parameters)
    assert names[:3] == ["model", "model_name", "version_name"]
    call = list(inspect.signature(ClassificationTracer.__call__).parameters)
    assert call[1:6] == ["inputs", "labels", "input_ids", "dataset_type", "n_epoch"]


@pytest.mark.feature("C3", "C4", "C5", "C6", "C7", "C11", "D3")
def test_every_row_holds_what_the_model_did(tracing, model, batches, lake):
    tracer = tracing()
    with torch.no_grad():
        outputs = trace(tracer, batches, dataset_type="val")
        receipt = tracer.wait_for_save()
        x, y = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])
        hidden = model[1](model[0](x))
        logits = model[2](hidden)
    assert torch.allclose(torch.cat(outputs), logits)
    frame = rows(lake)
    assert frame["input_id"].to_list() == [str(i) for i in range(11)]
    assert frame["label"].to_list() == y.tolist()
    np.testing.assert_allclose(np.stack(frame["logits"].to_numpy()), logits.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.stack(frame["feature"].to_numpy()), hidden.numpy(), rtol=1e-5, atol=1e-6)
    probabilities = logits.double().softmax(1).numpy()
    np.testing.assert_allclose(np.stack(frame["probs"].to_numpy()), probabilities, rtol=1e-5)
    assert frame["prediction"].to_list() == logits.argmax(1).tolist()
    np.testing.assert_allclose(frame["confidence"].to_numpy(), probabilities.max(1), rtol=1e-5)
    assert set(frame["feature_layer"]) == {"2"}
    assert set(frame["dataset_type"]) == {"val"}
    assert (receipt.rows, receipt.inputs, receipt.dropped, receipt.known) == (11, 11, 0, 0)


def test_the_output_object_is_the_models_own(tracing):
    answer = {"logits": torch.randn(2, 3)}
    tracer = tracing(lambda x: answer)
    with pytest.warns(UserWarning, match="without features"):
        assert tracer(torch.zeros(2, 4), [0, 1], input_ids=[1, 2]) is answer


@pytest.mark.feature("C2")
def test_model_and_inputs_are_left_as_they_were(tracing, model, batches):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = [x.clone() for x, _, _ in batches]
    tracer = tracing(model.train())
    trace(tracer, batches)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(x, kept) for (x, _, _), kept in zip(batches, inputs, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.feature("C9")
def test_gradients_reach_the_user_and_no_graph_is_kept(tracing, model, batches):
    x, y, ids = batches[0]
    output = tracing()(x, y, input_ids=ids)
    nn.functional.cross_entropy(output, y).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.feature("B4", "D4")
@pytest.mark.parametrize(
    "ids",
    [np.arange(4), torch.arange(4), [0, 1, 2, 3], ["0", "1", "2", "3"], np.arange(4, dtype=np.int32), (0, 1, 2, 3)],
    ids=["numpy", "torch", "ints", "strings", "int32", "tuple"],
)
def test_input_ids_of_every_kind_are_the_same_ids(tracing, batches, lake, ids):
    x, y, _ = batches[0]
    tracer = tracing()
    tracer(x, y.tolist(), input_ids=ids)
    tracer.wait_for_save()
    assert rows(lake)["input_id"].to_list() == ["0", "1", "2", "3"]


@pytest.mark.feature("B4")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": [1, 2, 3]}, "input_ids has 3 entries but the batch has 4"),
        ({"input_ids": 7}, "input_ids has 1 entries but the batch has 4"),
        ({"input_ids": object()}, "ids are a object"),
        ({"labels": [[0], [1, 2], 0, 1]}, "labels cannot be read as one class index per input"),
        ({"input_ids": None}, "input_ids is required"),
        ({"input_ids": [1.0, 2.0, 3.0, 4.0]}, "use an int or a non-empty string"),
        ({"labels": [0, 1, 2, 3]}, "label 3 is out of range: the model returns 3 classes"),
        ({"labels": [0, 1, 2, -1]}, "label -1 is negative"),
        ({"labels": [0.0, 1.0, 2.0, 0.0]}, "dtype float64"),
        ({"labels": torch.zeros(4, 3)}, r"shape \(4, 3\)"),
        ({"labels": [0, 1], "input_ids": [1, 2]}, "4 rows for 2 labels"),
        ({"dataset_type": ""}, "dataset_type"),
        ({"dataset_type": 3}, "dataset_type"),
        ({"dataset_type": "production"}, "reserved"),
        ({"n_epoch": -1}, "n_epoch is -1"),
        ({"n_epoch": True}, "not a boolean"),
        ({"n_epoch": 1.5}, "n_epoch is 1.5"),
        ({"metadata": {"a": [1]}}, "metadata 'a' has 1 entries"),
        ({"input_uris": ["x"]}, "input_uris has 1 entries"),
    ],
)
def test_a_bad_argument_is_a_clear_error_and_nothing_of_the_batch_is_recorded(tracing, batches, change, message):
    x, y, ids = batches[0]
    tracer = tracing()
    tracer(x, y, input_ids=ids)
    arguments = {"labels": y, "input_ids": ids} | change
    with pytest.raises(InvalidInputError, match=message):
        tracer(x, **arguments)
    receipt = tracer.wait_for_save()
    assert (receipt.rows, tracer.stats.emitted) == (4, 4)


def test_a_model_that_is_no_classifier_is_a_clear_error(tracing):
    with pytest.raises(InvalidInputError, match=r"shape \(N, K ≥ 2\)"):
        tracing(nn.Linear(4, 1))(torch.zeros(2, 4), [0, 0], input_ids=[1, 2])


@pytest.mark.feature("B1", "B2")
@pytest.mark.parametrize("names", [("", "v1"), ("net", ""), ("a@b", "v1"), (None, "v1"), ("net", 1), ("a...b", "v")])
def test_names_that_cannot_be_keys_are_refused(model, names):
    with pytest.raises(InvalidInputError):
        ClassificationTracer(model, *names)


@pytest.mark.parametrize("class_names", ["abc", {"a", "b", "c"}, {0: "a"}, 3])
def test_class_names_that_are_no_list_are_refused(model, class_names):
    with pytest.raises(InvalidInputError, match="give a list with the name of class 0 first"):
        ClassificationTracer(model, "net", "v1", class_names=class_names)


def test_a_feature_layer_that_is_no_path_is_refused(model):
    with pytest.raises(InvalidInputError, match="feature_layer is a int"):
        ClassificationTracer(model, "net", "v1", feature_layer=2)


def test_a_closed_tracer_refuses_batches_instead_of_losing_them(tracing, batches):
    tracer = tracing()
    trace(tracer, batches[:1])
    tracer.wait_for_save()
    tracer.close()
    with pytest.raises(InvalidInputError, match="this tracer is closed"):
        trace(tracer, batches[1:])
    assert tracer.stats.emitted == 4


def test_saving_after_close_says_how_to_settle_the_rows(tracing, batches, lake):
    tracer = tracing()
    trace(tracer, batches)
    tracer.close()
    with pytest.raises(InvalidInputError, match=f"mld trace accept {tracer.stream_id}"):
        tracer.wait_for_save()
    assert rows(lake).height == 11


@pytest.mark.feature("B7", "B8", "B9")
def test_datasets_and_epochs_are_kept_apart(tracing, batches, lake):
    tracer = tracing()
    for dataset in ("train", "val"):
        for epoch in (3, 5):
            trace(tracer, batches, dataset_type=dataset, n_epoch=epoch)
    receipt = tracer.wait_for_save()
    assert (receipt.datasets, receipt.epochs, receipt.rows) == (("train", "val"), (3, 5), 44)
    counts = rows(lake).group_by("dataset_type", "n_epoch").len().sort("dataset_type", "n_epoch")
    assert counts.rows() == [("train", 3, 11), ("train", 5, 11), ("val", 3, 11), ("val", 5, 11)]
    receipts = lake.read(LANDING_RECEIPTS).sort("dataset_type", "n_epoch")
    assert receipts["rows"].to_list() == [11] * 4
    assert set(receipts["state"]) == {"complete"}
    assert set(receipts["purpose"]) == {"trace"}


@pytest.mark.feature("C12", "C13")
def test_an_epoch_is_saved_by_its_number_and_all_without_one(tracing, batches):
    tracer = tracing()
    trace(tracer, batches, n_epoch=0)
    trace(tracer, batches, n_epoch=1)
    with pytest.raises(InvalidInputError, match="n_epoch=7 was not traced; pending epochs are 0, 1"):
        tracer.wait_for_save(n_epoch=7)
    assert tracer.wait_for_save(n_epoch=1).epochs == (1,)
    assert tracer.wait_for_save().epochs == (0,)
    with pytest.raises(InvalidInputError, match="nothing was traced"):
        tracer.wait_for_save()


def test_rows_without_an_epoch_are_not_saved_under_a_number(tracing, batches):
    tracer = tracing()
    trace(tracer, batches)
    with pytest.raises(InvalidInputError, match="pending epochs are None"):
        tracer.wait_for_save(n_epoch=0)


def test_an_empty_dataset_is_a_clear_error(tracing):
    with pytest.raises(InvalidInputError, match="nothing was traced"):
        tracing().wait_for_save()


def test_an_empty_batch_records_nothing(tracing):
    tracer = tracing()
    tracer(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), input_ids=[])
    assert tracer.stats.emitted == 0


@pytest.mark.feature("C14")
def test_the_same_input_twice_is_counted_and_other_content_reported(tracing, batches, lake, caplog):
    caplog.set_level(logging.WARNING)
    x, y, ids = batches[0]
    tracer = tracing()
    tracer(x, y, input_ids=ids)
    tracer(x, y, input_ids=ids)
    tracer(x + 1, y, input_ids=ids)
    receipt = tracer.wait_for_save()
    assert (receipt.rows, receipt.inputs, receipt.duplicates, receipt.hash_conflicts) == (12, 4, 8, 4)
    assert "4 of them with different content" in lake.read(LANDING_RECEIPTS)["note"][0]
    assert "different content" in caplog.text


@pytest.mark.feature("C14")
def test_the_same_stream_again_changes_no_count_and_reports_every_batch_as_known(tracing, batches, lake):
    for known in (0, 11):
        tracer = tracing(stream_id="again")
        trace(tracer, batches)
        receipt = tracer.wait_for_save()
        tracer.close()
        assert (receipt.rows, receipt.known, receipt.known_batches) == (11, known, 3 if known else 0)
    assert rows(lake).height == 11
    assert lake.read(LANDING_RECEIPTS).height == 1
    assert lake.read(LANDING_MODELS).height == 1


def test_rows_that_are_not_finite_go_to_quarantine_and_nothing_is_lost(tracing, lake):
    logits = torch.randn(5, 3)
    logits[1, 0], logits[3, 2] = float("nan"), float("inf")
    with pytest.warns(UserWarning, match="without features"):
        tracer = tracing(lambda x: logits)
        tracer(torch.zeros(5, 4), [0, 1, 2, 0, 1], input_ids=list("abcde"))
    receipt = tracer.wait_for_save()
    assert (receipt.rows, receipt.quarantined) == (5, 2)
    assert sorted(rows(lake)["input_id"]) == ["a", "c", "e"]
    assert lake.read(OPS_QUARANTINE)["row"].to_list() == [1, 3]


@pytest.mark.parametrize(
    ("last", "kind"), [(nn.Softmax(1), "probabilities"), (nn.LogSoftmax(1), "log_probs"), (nn.Identity(), "logits")]
)
def test_the_kind_of_output_is_recorded_with_its_evidence(tracing, model, batches, lake, last, kind):
    tracer = tracing(nn.Sequential(model, last))
    trace(tracer, batches)
    tracer.wait_for_save()
    frame = rows(lake)
    assert set(frame["output_kind"]) == {kind}
    assert "output: " in frame["output_evidence"][0]
    assert frame["logits"].null_count() == (11 if kind == "probabilities" else 0)
    assert frame["probs"].list.sum().is_between(0.999, 1.001).all()


def test_sigmoids_are_read_as_logits_and_the_user_is_told_once(tracing, model, batches, lake, caplog):
    tracer = tracing(nn.Sequential(model, nn.Sigmoid()), feature_layer="0.2")
    with caplog.at_level(logging.WARNING):
        trace(tracer, batches)
        tracer.wait_for_save()
    said = [text for text in caplog.messages if "as with sigmoids" in text]
    assert len(said) == 1
    assert set(rows(lake)["output_kind"]) == {"logits"}
    assert "all in [0, 1]" in rows(lake)["output_evidence"][0]


def test_a_model_without_features_is_traced_and_says_so_once(tracing, batches, lake):
    tracer = tracing(nn.Sequential(nn.Unflatten(1, (1, 4)), nn.AvgPool1d(2, 1), nn.Flatten()))
    with pytest.warns(UserWarning, match="without features") as caught:
        trace(tracer, batches)
    assert len(caught) == 1
    tracer.wait_for_save()
    assert rows(lake)["feature"].null_count() == 11


def test_the_model_is_described_for_other_processes(tracing, model, batches, lake):
    from safetensors.numpy import load

    tracer = tracing(class_names=["a", "b", "c"])
    trace(tracer, batches)
    receipt = tracer.wait_for_save()
    row = lake.read(LANDING_MODELS).row(0, named=True)
    assert (row["fingerprint"], row["feature_layer"], row["feature_dim"]) == (fingerprint(model), "2", 8)
    assert (row["n_classes"], row["class_names"], row["output_kind"]) == (3, ["a", "b", "c"], "logits")
    np.testing.assert_array_equal(load(row["head"])["weight"], model[2].weight.detach().numpy())
    assert receipt.fingerprint == fingerprint(model)


def test_weights_that_change_while_a_dataset_is_traced_are_noticed(tracing, model, batches, lake):
    tracer = tracing()
    trace(tracer, batches, dataset_type="train")
    trace(tracer, batches[:1], dataset_type="val")
    with torch.no_grad():
        model[0].weight += 1
    trace(tracer, batches[1:], dataset_type="val")
    assert tracer.wait_for_save().weights_changed
    changed = dict(lake.read(LANDING_RECEIPTS).select("dataset_type", "weights_changed").iter_rows())
    assert changed == {"train": False, "val": True}


def test_training_between_epochs_does_not_count_as_a_change(tracing, model, batches, lake):
    tracer = tracing()
    for epoch in range(2):
        trace(tracer, batches, n_epoch=epoch)
        with torch.no_grad():
            model[0].weight += 1
    receipts = tracer.wait_for_save() and lake.read(LANDING_RECEIPTS).sort("n_epoch")
    assert receipts["weights_changed"].to_list() == [False, True]  # the weights moved after the last call, too
    assert rows(lake)["fingerprint"].n_unique() == 2


def test_metadata_and_uris_are_stored(tracing, batches, lake):
    x, y, ids = batches[0]
    tracer = tracing()
    tracer(x, y, input_ids=ids, metadata={"site": "b", "n": [1, 2, 3, 4]}, input_uris=[f"u{i}" for i in ids])
    tracer.wait_for_save()
    assert rows(lake)["metadata"].str.json_path_match("$.n").to_list() == ["1", "2", "3", "4"]
    assert rows(lake)["input_uri"].to_list() == ["u0", "u1", "u2", "u3"]


def test_the_input_is_hashed_before_the_model_edits_it(tracing, model, lake):
    class Editing(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            out = self.net(x)
            x.zero_()
            return out

    tracer = tracing(Editing())
    for base in (0, 2):
        tracer(torch.ones(2, 4) + base, [0, 1], input_ids=[base, base + 1])
    tracer.wait_for_save()
    assert rows(lake)["input_hash"].n_unique() == 2


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager"), lambda m: m.half()])
def test_wrapped_and_half_precision_models_give_float32_rows(tracing, model, batches, lake, wrap):
    torch._dynamo.reset()
    wrapped = wrap(model)
    dtype = next(model.parameters()).dtype
    tracer = tracing(wrapped)
    trace(tracer, [(x.to(dtype), y, ids) for x, y, ids in batches])
    tracer.wait_for_save()
    assert rows(lake)["feature"].dtype == pl.List(pl.Float32)
    assert rows(lake)["feature"].null_count() == 0
    assert rows(lake).height == 11


@pytest.mark.feature("C10")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_is_the_users_choice(tracing, model, batches, lake, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    tracer = tracing(model.to(device))
    trace(tracer, [(x.to(device), y.to(device), ids) for x, y, ids in batches])
    tracer.wait_for_save()
    assert rows(lake).height == 11


@pytest.mark.parametrize("which", ["inputs", "labels"])
def test_inputs_and_labels_without_numbers_are_refused_and_nothing_is_stored(tracing, batches, lake, which):
    tracer = tracing()
    x, y, ids = batches[0]
    given = (x.to("meta"), y, ids) if which == "inputs" else (x, torch.as_tensor(y).to("meta"), ids)
    with pytest.raises(InvalidInputError, match=f"{which} are on the device 'meta', which holds shapes and no numbers"):
        trace(tracer, [given])
    trace(tracer, batches)
    tracer.wait_for_save()
    assert rows(lake).height == 11


def test_an_unwritable_lake_is_an_error_that_says_where_the_rows_are(tracing, batches, lake, tmp_path):
    if os.geteuid() == 0:
        (tmp_path / ".mld").mkdir(exist_ok=True)
        (tmp_path / ".mld" / "lake").write_text("a file where the lake should be")
    else:
        (tmp_path / ".mld" / "lake").mkdir(parents=True)
        (tmp_path / ".mld" / "lake").chmod(stat.S_IRUSR | stat.S_IXUSR)
    tracer = tracing()
    trace(tracer, batches)
    with pytest.raises(StorageError, match=r"11 rows .* None is lost: they wait in"):
        tracer.wait_for_save(timeout=10)
    assert tracer.stats.spooled == 11
    if os.geteuid() == 0:
        (tmp_path / ".mld" / "lake").unlink()
    else:
        (tmp_path / ".mld" / "lake").chmod(0o755)
    assert tracer.wait_for_save().rows == 11
    assert rows(lake).height == 11


def test_a_corrupt_log_is_an_error_and_the_rows_stay(tracing, batches, lake, tmp_path):
    first = tracing()
    trace(first, batches)
    first.wait_for_save()
    first.close()
    log = tmp_path / ".mld" / "lake" / "landing" / "traces" / "_delta_log"
    for entry in log.glob("*.json"):
        entry.write_text("{ broken")
    second = tracing()
    trace(second, batches)
    with pytest.raises(StorageError, match="11 rows"):
        second.wait_for_save(timeout=10)
    assert second.stats.spooled == 11


SCRIPT = """
import os, sys, torch
from mld_pipelines.training import ClassificationTracer
{late}
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
tracer = ClassificationTracer(model, "net", "v1")
tracer(torch.randn(5, 4), torch.zeros(5, dtype=torch.int64), input_ids=range(5))
{end}
"""


def run(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.feature("A4")
def test_the_endpoint_of_the_shell_is_used(tmp_path):
    done = run(SCRIPT.format(late="", end="tracer.wait_for_save()"), MLD_API_ENDPOINT=str(tmp_path / "shell"))
    assert done.returncode == 0, done.stderr
    assert Lake(str(tmp_path / "shell"), code_version="t").read(LANDING_TRACES).height == 5


@pytest.mark.feature("A5")
def test_the_endpoint_set_after_import_is_used(tmp_path):
    late = f"os.environ['MLD_API_ENDPOINT'] = {str(tmp_path / 'late')!r}"
    done = run(SCRIPT.format(late=late, end="tracer.wait_for_save()"))
    assert done.returncode == 0, done.stderr
    assert Lake(str(tmp_path / "late"), code_version="t").read(LANDING_TRACES).height == 5


def test_a_trace_that_was_killed_before_its_save_is_stored_without_a_receipt(lake):
    end = "import signal, time\ntime.sleep(1.5)\nos.kill(os.getpid(), signal.SIGKILL)"
    assert run(SCRIPT.format(late="", end=end)).returncode == -9
    from mld_pipelines.capture import replay

    replay()
    assert rows(lake).height == 5
    assert lake.read(LANDING_RECEIPTS).height == 0


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.feature("C8")
def test_outputs_are_bit_identical_in_every_mode(tracing, train, gradients):
    def build():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3)).train(train)

    tracer, twin = tracing(build()), build()
    for seed in range(3):
        x = torch.randn(6, 4)
        with torch.set_grad_enabled(gradients):
            torch.manual_seed(seed)
            mine = tracer(x, [0] * 6, input_ids=range(6))
            torch.manual_seed(seed)
            assert torch.equal(mine, twin(x))
