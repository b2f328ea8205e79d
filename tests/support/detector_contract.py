"""What every adapter of a 3D detector must hold to: one call per family, with a stand-in of it."""

from __future__ import annotations

import copy
import json
from importlib import import_module

import numpy as np
import torch

from mld_pipelines.adapters.detection3d import observe, recognise, to_arrays


def decode(adapter, raw):
    """Decode as another process would: by the decoder's name and plain JSON parameters, without the model."""
    spec = adapter.decoder()
    module, name = spec.target.split(":")
    return getattr(import_module(module), name)(**json.loads(json.dumps(dict(spec.params))))(raw)


def check_contract(model, inputs, *, family, frames):
    """Observe one call, judge everything the contract promises, and return adapter and decoded frames.

    Args:
        model: Recognised as `family`.
        inputs: Anything the SDK documents.
        family: Expected.
        frames: Expected frames of the call.
    """
    weights, given = copy.deepcopy(model.state_dict()), copy.deepcopy(inputs)
    adapter = recognise(model)
    assert adapter.family == family
    with torch.no_grad():
        observed = observe(adapter, inputs)
    assert observed.frames == frames
    assert all(isinstance(value, torch.Tensor) and not value.requires_grad for value in observed.raw.values())
    decoded = decode(adapter, to_arrays(observed.raw))
    assert len(decoded) == frames
    for frame in decoded:
        check_frame(frame)
    check_untouched(model, weights, inputs, given)
    return adapter, decoded


def check_frame(frame):
    """Judge shapes, dtypes and ranges of one frame."""
    count = len(frame.scores)
    assert frame.boxes.shape == (count, 7)
    assert frame.boxes.dtype == np.float64
    assert ((frame.boxes[:, 6] >= -np.pi) & (frame.boxes[:, 6] < np.pi)).all()
    assert frame.velocities.shape == (count, 2)
    assert frame.scores.dtype == np.float32
    assert frame.labels.dtype == np.int64
    assert (frame.labels >= 0).all()
    assert frame.candidate_index.shape == (count,)
    assert (frame.features is None) == (frame.feature_source is None)
    assert (frame.class_scores is None) == (frame.class_space is None)
    if frame.features is not None:
        assert len(frame.features) == count
        assert frame.features.dtype == np.float32
    if frame.candidates is not None:
        assert (np.diff(frame.candidates.scores) <= 0).all()
        assert frame.candidates.boxes.shape == (len(frame.candidates.scores), 7)


def check_untouched(model, weights, inputs, given):
    """Judge that the call left no trace."""
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert same(inputs, given)


def same(one, other):
    """Compare nested inputs by value."""
    if isinstance(one, (torch.Tensor, np.ndarray)):
        return one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other or type(one) is type(other)
