"""Hooks live as long as the call, clone what they keep, and see one thread."""

from __future__ import annotations

from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn

from mld_pipelines.adapters.detection3d import Tap, to_arrays
from mld_pipelines.adapters.detection3d._observe import tapping

pytestmark = pytest.mark.torch


class Layered(nn.Module):
    """A layer that is called once per scale, and writes into what it returned."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)

    def forward(self, value):
        out = {"a": [self.layer(value), self.layer(2 * value)]}
        out["a"][0].zero_()
        return out


def hooks(module):
    return len(module._forward_hooks) + len(module._forward_pre_hooks)


def test_every_call_of_a_module_is_kept_in_order():
    model, value = Layered(), torch.ones(1, 2)
    with torch.no_grad(), tapping([Tap("x", model.layer, "input")]) as kept:
        model(value)
    assert [args[0].tolist() for args in kept["x"]] == [[[1.0, 1.0]], [[2.0, 2.0]]]


def test_what_is_written_in_place_later_does_not_reach_the_clone():
    model, value = Layered(), torch.ones(1, 2)
    with torch.no_grad(), tapping([Tap("x", model.layer, "output")]) as kept:
        model(value)
    assert torch.equal(kept["x"][0], value @ model.layer.weight.T)


def test_tensors_inside_structures_are_cloned_and_other_values_kept():
    model = Layered()
    outer = nn.Sequential(model)
    with tapping([Tap("x", model, "output")]) as kept:
        found = outer(torch.ones(1, 2).double().float())
    assert kept["x"][0]["a"][1].data_ptr() != found["a"][1].data_ptr()
    assert not kept["x"][0]["a"][1].requires_grad
    assert found["a"][1].requires_grad


def test_hooks_are_gone_after_the_block_and_after_an_error():
    model = Layered()
    with pytest.raises(RuntimeError), tapping([Tap("x", model.layer, "input"), Tap("y", model, "output")]):
        model(torch.ones(1, 3))
    assert hooks(model) + hooks(model.layer) == 0


def test_calls_of_another_thread_are_not_kept():
    model = Layered()
    with torch.no_grad(), tapping([Tap("x", model.layer, "input")]) as kept:
        other = Thread(target=lambda: model(torch.ones(1, 2)))
        other.start()
        other.join()
    assert kept["x"] == []


def test_arrays_of_bfloat16_are_float32():
    found = to_arrays({"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.ones(2, dtype=torch.float16)})
    assert found["a"].dtype == np.float32
    assert found["b"].dtype == np.float16
