"""`tracer.stress` records corrupted copies and leaves model, mode, gradients and inputs as they were."""

from __future__ import annotations

import inspect

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from mld_pipelines.evaluation import promote_stress
from mld_pipelines.exceptions import InvalidInputError, StorageError
from mld_pipelines.lake import Lake
from mld_pipelines.stress import Family, Kind, choose_inputs, image_families
from mld_pipelines.tables import LANDING_MODELS, LANDING_RECEIPTS, LANDING_STRESS, LANDING_TRACES, TRACES_STRESS
from mld_pipelines.training import ClassificationTracer

KINDS = sum(len(family.kinds) for family in image_families())
N = 30


class Net(nn.Module):
    """Has what a pass could disturb: dropout, batch statistics, an input edited in place."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x.mul_(2.0).sub_(1.0)
        return self.head(self.body(x))


@pytest.fixture
def net():
    return Net()


@pytest.fixture
def images():
    return torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def labels():
    return torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(5))


@pytest.fixture
def stressing(tracing, net, images, labels):
    """Call `stress` with small defaults; return the receipt."""

    def run(tracer=None, inputs=None, **options):
        tracer = tracing(net) if tracer is None else tracer
        asked = {"input_ids": [f"i{k}" for k in range(N)], "severities": (3,), "max_inputs": 12, **options}
        return tracer.stress(images if inputs is None else inputs, labels, **asked)

    return run


def copies(lake):
    return lake.read(LANDING_STRESS).sort("seq", "row")


def my_families():
    return Family("halving", (Kind("half", lambda x, severity, rng: x / (1 + severity)),), "mine", version="7")


def failing_families():
    def fail(x, severity, rng):
        if severity == 3:
            raise KeyboardInterrupt
        return x

    return Family("odd", (Kind("odd", fail),), "mine")


def test_the_signature_is_the_agreed_one():
    parameters = inspect.signature(ClassificationTracer.stress).parameters
    assert list(parameters) == [
        "self", "inputs", "labels", "input_ids", "dataset_type", "n_epoch", "families", "preprocess", "normalize",
        "severities", "max_inputs", "seed", "progress",
    ]  # fmt: skip
    assert parameters["severities"].default == (1, 3, 5)
    assert (parameters["max_inputs"].default, parameters["dataset_type"].default) == (400, "val")


def test_every_copy_holds_what_the_model_says_of_it(stressing, net, images, labels, lake):
    receipt = stressing(dataset_type="valid", n_epoch=2)
    frame = copies(lake)
    assert (receipt.rows, receipt.inputs, receipt.sets, receipt.dropped) == (12 * KINDS, 12, KINDS, 0)
    chosen = choose_inputs([f"i{k}" for k in range(N)], n=12, seed=0)
    assert set(frame["input_id"]) == set(chosen)
    assert frame.select("source_dataset", "n_epoch", "seed", "severity").unique().rows() == [("valid", 2, 0, 3)]
    rotated = frame.filter(pl.col("kind") == "rotate")
    places = [int(name[1:]) for name in rotated["input_id"]]
    assert places == sorted(places)
    assert rotated["label"].to_list() == labels[places].tolist()
    family = next(one for one in image_families() if one.name == "geometry")
    turned = [
        family.corrupt(images[place].numpy(), kind="rotate", severity=3, seed=0, input_id=f"i{place}")
        for place in places
    ]
    net.eval()
    with torch.no_grad():
        feature = net.body(torch.from_numpy(np.stack(turned)) * 2 - 1)
        logits = net.head(feature)
    np.testing.assert_allclose(np.array(rotated["logits"].to_list()), logits.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.array(rotated["feature"].to_list()), feature.numpy(), rtol=1e-4, atol=1e-5)
    assert rotated["feature_layer"].unique().to_list() == ["head"]


def test_nothing_of_the_caller_changes(stressing, net, images):
    net.train()
    net.body[2].eval()  # a module frozen by hand stays frozen
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    given, hooks = images.clone(), len(net.head._forward_hooks)
    torch.manual_seed(6)
    expected = torch.rand(3)
    torch.manual_seed(6)
    stressing()
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(images, given)
    assert (net.training, net.body[2].training, net.head.training) == (True, False, True)
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert len(net.head._forward_hooks) == hooks


def test_inputs_in_a_list_are_left_alone_too(stressing, images):
    held = [image.clone() for image in images]
    stressing(inputs=held, preprocess=torch.stack)
    assert all(torch.equal(one, other) for one, other in zip(held, images, strict=True))


def test_weights_that_change_during_the_pass_end_it_without_a_receipt(stressing, net, lake):
    def train(done, total):
        if done == 3:
            with torch.no_grad():
                net.head.bias += 1.0

    with pytest.raises(InvalidInputError, match="stopped after 3 sets"):
        stressing(progress=train)
    assert lake.version(LANDING_RECEIPTS) is None
    assert copies(lake).select("kind", "severity").n_unique() == 3


def test_a_compiled_model_is_stressed_as_it_is(tracing, images, labels, lake):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    options = {"input_ids": [f"i{k}" for k in range(N)], "families": f"{__name__}:my_families", "severities": (3,)}
    plain = tracing(net).stress(images, labels, **options)
    compiled = torch.compile(net, backend="eager")
    assert tracing(compiled).stress(images, labels, **options).stream_id == plain.stream_id
    assert tracing(compiled).stress(images, labels, **options, seed=1).rows == plain.rows
    rows = copies(lake).sort("input_id", "seed")
    both = rows.filter(pl.col("seed") == 0).join(rows.filter(pl.col("seed") == 1), on="input_id")
    np.testing.assert_allclose(
        np.array(both["feature"].to_list()), np.array(both["feature_right"].to_list()), rtol=1e-5, atol=1e-6
    )


def test_modes_come_back_when_a_corruption_fails(stressing, net):
    net.train()
    with pytest.raises(KeyboardInterrupt):
        stressing(families=f"{__name__}:failing_families")
    assert net.training
    assert torch.is_grad_enabled()


def test_the_receipt_is_written_and_silver_takes_the_copies(stressing, lake):
    receipt = stressing()
    (row,) = lake.read(LANDING_RECEIPTS).to_dicts()
    assert (row["purpose"], row["stream_id"], row["rows"]) == ("stress", receipt.stream_id, receipt.rows)
    assert (row["dataset_type"], row["fingerprint"], row["weights_changed"]) == ("val", receipt.fingerprint, False)
    assert lake.read(LANDING_MODELS)["fingerprint"].to_list() == [receipt.fingerprint]
    assert promote_stress(lake, "net@v1").rows == receipt.rows
    assert lake.read(TRACES_STRESS).height == receipt.rows
    assert lake.version(LANDING_TRACES) is None, "copies are no traces"


def test_the_same_pass_again_is_known(stressing, lake):
    first = stressing()
    again = stressing()
    assert (again.known_sets, again.rows, again.stream_id) == (KINDS, first.rows, first.stream_id)
    assert copies(lake).height == first.rows
    assert lake.read(LANDING_RECEIPTS).height == 1


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"severities": (1,)}, {"max_inputs": 5}, {"n_epoch": 1}, {"normalize": (0.1, 0.8)}],
)
def test_another_pass_is_stored_beside_it(stressing, change):
    assert stressing(**change).stream_id != stressing().stream_id


def test_other_weights_are_another_pass(stressing, net):
    first = stressing()
    with torch.no_grad():
        net.head.bias += 1.0
    assert stressing().stream_id != first.stream_id


def test_other_contents_under_the_same_ids_are_another_pass(stressing, images):
    first = stressing()
    assert stressing(inputs=1.0 - images).stream_id != first.stream_id


def test_an_interrupted_pass_goes_on_at_the_first_missing_set(stressing, lake):
    seen = []

    def interrupt(done, total):
        seen.append(done)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stressing(progress=interrupt)
    assert copies(lake).select("kind", "severity").n_unique() == 5
    assert lake.version(LANDING_RECEIPTS) is None
    receipt = stressing(progress=lambda done, total: seen.append(done))
    assert (receipt.known_sets, receipt.rows) == (5, 12 * KINDS)
    assert seen == list(range(1, KINDS + 1))
    assert copies(lake).select("input_id", "kind", "severity").is_unique().all()


def test_values_outside_zero_and_one_are_refused_with_what_to_do(stressing, images, lake):
    with pytest.raises(InvalidInputError, match=r"image values run from -?\d.* to .*preprocess=.*normalize="):
        stressing(inputs=(images - 0.5) / 0.25)
    assert lake.version(LANDING_STRESS) is None


def test_a_normalisation_is_inverted(stressing, net, images, lake):
    stressing(inputs=(images - 0.5) / 0.25, normalize=([0.5], [0.25]))
    darker = copies(lake).filter(pl.col("kind") == "darker")
    place = int(darker["input_id"][0][1:])
    family = next(one for one in image_families() if one.name == "light")
    dark = family.corrupt(images[place].numpy(), kind="darker", severity=3, seed=0, input_id=f"i{place}")
    net.eval()
    with torch.no_grad():
        logits = net(torch.from_numpy((dark[None] - 0.5) / 0.25))
    np.testing.assert_allclose(darker["logits"][0].to_numpy(), logits[0].numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("axes", ["CHW", "HWC"])
def test_a_normalisation_per_channel_finds_the_channels(tracing, lake, axes):
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(8))
    mean, spread = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    normalised = (images - mean[:, None, None]) / spread[:, None, None]
    if axes == "HWC":
        normalised = normalised.permute(0, 2, 3, 1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    receipt = tracing(model).stress(normalised, [0] * 8, input_ids=range(8), normalize=(mean, spread), severities=(1,))
    assert receipt.rows == 8 * KINDS


def test_a_preprocessing_runs_after_the_corruption_on_bytes(stressing, images, lake):
    shapes = []

    def prepare(batch):
        shapes.append((batch.dtype, tuple(batch.shape[1:])))
        return batch.float() / 255

    stressing(inputs=(images * 255).to(torch.uint8), preprocess=prepare)
    assert set(shapes) == {(torch.uint8, (1, 8, 8))}
    assert copies(lake)["kind"].n_unique() == KINDS


def as_pictures(images, mode):
    from PIL import Image

    return [Image.fromarray((image[0] * 255).to(torch.uint8).numpy()).convert(mode) for image in images]


def test_pictures_stay_pictures_for_the_preprocessing(stressing, images, lake):
    kinds = set()

    def prepare(batch):
        kinds.update((type(one).__name__, one.mode, one.size) for one in batch)
        return torch.stack([torch.from_numpy(np.array(one))[None].float() / 255 for one in batch])

    receipt = stressing(inputs=as_pictures(images, "L"), preprocess=prepare)
    assert kinds == {("Image", "L", (8, 8))}
    assert receipt.rows == 12 * KINDS


def test_pictures_of_a_palette_are_refused(stressing, images):
    with pytest.raises(InvalidInputError, match=r"convert\('RGB'\)"):
        stressing(inputs=as_pictures(images, "P"), preprocess=lambda batch: batch)


def test_rows_of_a_table(tracing, model, lake):
    table = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    receipt = tracing().stress(table, [0] * 40, input_ids=range(40), families="tabular", severities=(1, 5))
    assert (receipt.sets, receipt.rows) == (22, 880)
    shrunk = copies(lake).filter((pl.col("kind") == "shrink") & (pl.col("severity") == 5)).row(0, named=True)
    row = table[int(shrunk["input_id"])]
    mean = table.mean(0)
    with torch.no_grad():  # severity 5 shrinks a row to a fifth of its distance from the mean
        logits = model((mean + 0.2 * (row - mean))[None])
    np.testing.assert_allclose(shrunk["logits"], logits[0].numpy(), rtol=1e-4, atol=1e-5)


class PointModel(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.head = nn.Linear(4, 3)

    def forward(self, scans):
        return self.head(torch.stack([scan.mean(0) for scan in scans]))


def test_scans_of_various_sizes_come_as_a_list(tracing, lake):
    rng = np.random.default_rng(3)
    scans = [torch.from_numpy(rng.normal(size=(50 + k, 4)).astype(np.float32)) for k in range(10)]
    receipt = tracing(PointModel()).stress(scans, [0] * 10, input_ids=range(10), families="points", severities=(3,))
    assert receipt.families == ("density", "coverage", "noise", "intensity")
    assert receipt.rows == 70
    faint = copies(lake).filter(pl.col("kind") == "faint")
    expected = scans[0].mean(0) * torch.tensor([1.0, 1.0, 1.0, 0.4])
    np.testing.assert_allclose(faint["feature"][0].to_numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)


def test_scans_in_one_tensor_need_a_preprocessing_where_points_are_lost(tracing):
    scans = torch.randn(6, 50, 4)
    options = {"input_ids": range(6), "families": "points", "severities": (3,)}
    with pytest.raises(InvalidInputError, match="list"):
        tracing(PointModel()).stress(scans, [0] * 6, **options)
    assert tracing(PointModel()).stress(scans, [0] * 6, preprocess=list, **options).rows == 42


def test_families_of_the_user(stressing, net, images, lake):
    receipt = stressing(families=f"{__name__}:my_families", severities=(1, 3))
    assert (receipt.families, receipt.sets) == (("halving",), 2)
    one = copies(lake).row(0, named=True)
    assert (one["family"], one["kind"], one["family_version"]) == ("halving", "half", "7")
    net.eval()
    with torch.no_grad():
        logits = net(images[int(one["input_id"][1:])][None] / (1 + one["severity"]))
    np.testing.assert_allclose(one["logits"], logits[0].numpy(), rtol=1e-4, atol=1e-5)


def test_a_class_that_the_model_has_not_is_refused(tracing, images, lake):
    with pytest.raises(InvalidInputError, match="label 3 is out of range"):
        tracing(Net()).stress(images, [3] * N, input_ids=range(N), severities=(1,))
    assert lake.version(LANDING_STRESS) is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"families": "audio"}, "do not exist"),
        ({"severities": (0,)}, "severities"),
        ({"max_inputs": 0}, "0 inputs are to be chosen"),
        ({"max_inputs": 2.5}, "2.5 inputs are to be chosen"),
        ({"max_inputs": "5"}, "'5' inputs are to be chosen"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"severities": 3}, "severities are 3"),
        ({"normalize": (0.5, 0.0)}, "above 0"),
        ({"normalize": 0.5}, "normalize is 0.5"),
        ({"normalize": (float("nan"), 1.0)}, "finite"),
        ({"input_ids": ["same"] * N}, "more than once"),
        ({"dataset_type": "production"}, "reserved"),
        ({"n_epoch": -1}, "n_epoch"),
        ({"normalize": ([0.5, 0.5], [1.0, 1.0])}, "normalize= has 2 numbers"),
    ],
)
def test_arguments_that_cannot_be_are_refused(stressing, lake, change, word):
    with pytest.raises(InvalidInputError, match=word):
        stressing(**change)
    assert lake.version(LANDING_STRESS) is None


@pytest.mark.parametrize("inputs", [{"x": 1}, [1.0], iter(())])
def test_inputs_that_are_no_batch_are_refused(tracing, net, inputs):
    with pytest.raises(InvalidInputError, match="inputs"):
        tracing(net).stress(inputs, [0, 1], input_ids=[0, 1])


def test_nan_outputs_are_quarantined_and_counted(tracing, images, labels, lake):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 3)

        def forward(self, x):
            out = self.head(x.flatten(1))
            return torch.where(x.mean(dim=(1, 2, 3))[:, None] > 0.7, torch.nan, out)

    receipt = tracing(Odd()).stress(images, labels, input_ids=range(N), severities=(5,), max_inputs=12)
    assert receipt.dropped > 0
    assert receipt.rows + receipt.dropped == 12 * KINDS
    assert copies(lake).height == receipt.rows


def test_what_the_lake_does_not_take_waits_in_the_spool(stressing, tracing, net, tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the lake should be")
    monkeypatch.setenv("MLD_API_ENDPOINT", str(blocked))
    tracer = tracing(net)
    with pytest.raises(StorageError, match="wait in"):
        stressing(tracer)
    blocked.unlink()
    receipt = stressing(tracer)
    assert receipt.rows == 12 * KINDS
    assert Lake.open(str(blocked)).read(LANDING_STRESS).height == 12 * KINDS


def test_a_bar_is_drawn_when_asked_for_only(stressing, capsys):
    stressing()
    assert capsys.readouterr().err == ""
    stressing(seed=2, progress=True)
    assert f"{KINDS}/{KINDS}" in capsys.readouterr().err


def test_traces_and_copies_share_weights_and_feature(tracing, net, images, labels, lake):
    tracer = tracing(net)
    net.eval()
    ids = [f"i{k}" for k in range(N)]
    tracer(images.clone(), labels, ids, dataset_type="val")
    tracer.wait_for_save()
    receipt = tracer.stress(images, labels, input_ids=ids, severities=(1,))
    traces = lake.read(LANDING_TRACES)
    assert traces["fingerprint"].unique().to_list() == [receipt.fingerprint]
    assert traces["feature_layer"].unique().to_list() == copies(lake)["feature_layer"].unique().to_list()
    assert lake.read(LANDING_MODELS).height == 1
