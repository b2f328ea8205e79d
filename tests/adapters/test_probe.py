"""Scores and feature of models of every shape, and nothing left behind."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

from mld_pipelines.adapters import FeatureTap, Probe, export_head, judge_scores, pooled
from mld_pipelines.exceptions import InvalidInputError

WRAPPED = ["tensor", "tuple", "features_first", "loss_first", "list", "dict", "plain_dict", "model_output", "dataclass"]


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", WRAPPED)
def test_scores_and_feature_are_found_in_every_kind_of_output(make, name):
    model, x = make(name), torch.randn(5, 4)
    hidden = torch.relu(model.body(x))
    probe = Probe(model)
    for _ in range(2):  # the first call learns, the second knows
        seen = probe.call(x)
        assert torch.equal(seen.scores, model.head(hidden))
        assert torch.equal(seen.feature, hidden)
    assert probe.feature_layer == "head"


def test_the_returned_object_is_the_models_own(make):
    model = make("dict")
    kept = {}
    model.wrap = lambda h, z: kept.setdefault("out", {"logits": z})
    assert Probe(model).call(torch.randn(2, 4)).output is kept["out"]


@pytest.mark.feature("C4")
def test_the_feature_of_a_residual_network_is_the_input_of_its_head(make):
    model, x = make("residual").eval(), torch.randn(4, 1, 8, 8)
    probe = Probe(model)
    feature = probe.call(x).feature
    expected = model.block(torch.relu(model.stem(x))).mean((2, 3))
    assert probe.feature_layer == "fc"
    assert torch.allclose(feature, expected)


def test_a_convolution_head_gives_averaged_channels(make):
    model, x = make("conv_head"), torch.randn(4, 1, 8, 8)
    probe = Probe(model)
    feature = pooled(probe.call(x).feature, 4)
    assert probe.feature_layer == "head"
    assert torch.allclose(feature, torch.relu(model.stem(x)).mean((2, 3)), atol=1e-6)


def test_the_head_is_the_layer_that_made_the_output_not_the_last_one(make):
    probe = Probe(make("auxiliary"))
    probe.call(torch.randn(4, 4))
    assert probe.feature_layer == "main"


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1), nn.Identity()])
def test_the_head_is_found_behind_a_last_activation(last):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), last)
    probe = Probe(model)
    probe.call(torch.randn(4, 4))
    assert probe.feature_layer == "2"


class Scaled(nn.Module):
    """A head behind a temperature, as CLIP and calibrated models have one."""

    def __init__(self, activation, sign=1.0):
        super().__init__()
        self.body, self.other, self.head = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.activation, self.sign = activation, sign

    def forward(self, x):
        hidden = torch.relu(self.body(x))
        scores = self.activation(self.sign * self.head(hidden) / 2.5)
        self.other(hidden)
        return scores


@pytest.mark.parametrize("activation", [nn.Identity(), nn.Sigmoid(), nn.Softmax(1)])
def test_the_head_is_found_behind_a_temperature(activation):
    torch.manual_seed(0)
    probe = Probe(Scaled(activation))
    probe.call(torch.randn(32, 4))
    assert probe.feature_layer == "head"


def test_a_layer_that_orders_the_classes_otherwise_is_not_the_head():
    torch.manual_seed(0)
    probe = Probe(Scaled(nn.Identity(), sign=-1.0))
    assert probe.call(torch.randn(32, 4)).feature is None


def test_an_auxiliary_head_that_agrees_in_rank_does_not_replace_the_one_that_made_the_output():
    torch.manual_seed(0)
    model = Scaled(nn.Identity(), sign=2.5)  # exactly the head's output; `other` comes later and ranks alike
    model.other.weight.data, model.other.bias.data = model.head.weight.data * 2, model.head.bias.data * 2
    probe = Probe(model)
    probe.call(torch.randn(32, 4))
    assert probe.feature_layer == "head"


def test_few_rows_are_no_evidence_of_a_rank():
    torch.manual_seed(0)
    probe = Probe(Scaled(nn.Sigmoid()))
    assert probe.call(torch.randn(2, 4)).feature is None


def test_feature_layer_overrides_the_search(make):
    model, x = make("tensor"), torch.randn(3, 4)
    probe = Probe(model, feature_layer="body")
    assert torch.equal(probe.call(x).feature, x)


@pytest.mark.parametrize("model", [None, "resnet18", {"state": "dict"}])
def test_what_cannot_be_called_is_no_model(model):
    with pytest.raises(InvalidInputError, match="cannot be called"):
        Probe(model)


def test_an_unknown_feature_layer_is_refused_with_the_names_that_exist(make):
    with pytest.raises(InvalidInputError, match="'body', 'head'"):
        Probe(make("tensor"), feature_layer="nothing")


def test_a_model_without_linear_layer_has_no_feature():
    probe = Probe(nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert probe.call(torch.randn(2, 1, 8, 8)).feature is None
    assert probe.feature_layer is None


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3, 8, 8), (4, 7, 3)])
def test_an_output_that_is_no_classification_is_refused(shape):
    with pytest.raises(InvalidInputError, match="no float tensor of shape"):
        Probe(lambda x: torch.zeros(shape)).call(None)


@pytest.mark.feature("C2")
def test_hooks_are_removed_even_if_the_forward_pass_raises(make):
    model = make("tensor")
    probe = Probe(model)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            probe.call(torch.randn(2, 99))
        assert hooks_of(model) == 0
        probe.call(torch.randn(2, 4))
        assert hooks_of(model) == 0


@pytest.mark.feature("C2", "C8", "C9")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_mode_gradients_and_output_are_those_of_the_bare_model(make, training, mode):
    model, twin = make("residual").train(training), make("residual").train(training)
    x = torch.randn(4, 1, 8, 8)
    probe = Probe(model)
    for _ in range(2):
        with mode():
            seen, expected = probe.call(x), twin(x)
            assert torch.is_grad_enabled() == (mode is torch.enable_grad)
        assert torch.equal(seen.output, expected)
        assert seen.output.requires_grad == expected.requires_grad
        assert seen.feature.grad_fn is None
        assert model.training is training
    for mine, theirs in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_gradients_flow_as_without_the_probe(make):
    model, twin, x = make("residual"), make("residual"), torch.randn(4, 1, 8, 8)
    Probe(model).call(x).output.sum().backward()
    twin(x).sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_half_precision_and_autocast_are_followed(make):
    model, x = make("tensor"), torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = Probe(model).call(x)
    assert seen.scores.dtype == torch.bfloat16
    assert seen.feature is not None
    assert Probe(model.half()).call(x.half()).feature.dtype == torch.float16


def test_data_parallel_is_looked_through(make):
    model, x = make("tensor"), torch.randn(4, 4)
    probe = Probe(nn.DataParallel(model))
    assert torch.equal(probe.call(x).feature, torch.relu(model.body(x)))
    assert probe.feature_layer == "head"


@pytest.mark.parametrize("called_before", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_a_compiled_model_gives_its_feature_whenever_it_was_compiled(make, called_before, training):
    torch._dynamo.reset()
    model, x = make("tensor").train(training), torch.randn(4, 4)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    if called_before:
        compiled(x)
    probe = Probe(compiled)
    for _ in range(3):
        seen = probe.call(x)
        assert torch.equal(seen.output, model(x))
        assert torch.equal(seen.feature, torch.relu(model.body(x)))
    assert hooks_of(model) == 0


def test_threads_do_not_see_each_others_features(make):
    model = make("tensor")
    probe = Probe(model)
    probe.call(torch.randn(2, 4))
    wrong = []

    def work(seed):
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        for _ in range(50):
            seen = probe.call(x)
            if not torch.equal(seen.feature, torch.relu(model.body(x))):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []
    assert hooks_of(model) == 0


def test_a_tap_on_a_copied_model_is_inert(make):
    model, x = make("tensor"), torch.randn(2, 4)
    probe = Probe(model)
    probe.call(x)
    tap = FeatureTap()
    tap.attach(probe.head)
    slot = tap.arm()
    copy.deepcopy(model)(x)
    assert tap.take(slot) is None


@pytest.mark.parametrize(
    ("transform", "kind"),
    [(lambda z: z, "logits"), (lambda z: z.softmax(1), "probabilities"), (lambda z: z.log_softmax(1), "log_probs")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_kind_of_scores_is_concluded_from_their_values(transform, kind, dtype):
    torch.manual_seed(0)
    scores = transform(torch.randn(32, 1000)).to(dtype).float().numpy()
    verdict = judge_scores(scores)
    assert verdict.kind == kind
    assert "32 rows" in verdict.evidence


def test_rows_that_are_not_finite_do_not_decide_the_kind():
    rows = np.array([[0.2, 0.8], [np.nan, 1.0]], np.float32)
    assert judge_scores(rows).kind == "probabilities"
    assert judge_scores(rows[1:]) is None


def test_the_exported_head_makes_the_scores_from_the_feature(make):
    from safetensors.numpy import load

    probe = Probe(make("tensor"))
    seen = probe.call(torch.randn(5, 4))
    head = load(export_head(probe.head))
    made = seen.feature.numpy() @ head["weight"].T + head["bias"]
    np.testing.assert_allclose(made, seen.scores.detach().numpy(), rtol=1e-5, atol=1e-6)
