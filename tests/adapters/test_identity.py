"""Fingerprints of weights and hashes of inputs."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mld_pipelines.adapters import fingerprint, input_hashes, weights_version


def test_the_fingerprint_survives_wrapping_mode_and_device_moves(make):
    model = make("residual")
    before = fingerprint(model)
    assert fingerprint(nn.DataParallel(model)) == before
    assert fingerprint(torch.compile(model, backend="eager")) == before
    assert fingerprint(model.eval().to("cpu")) == before


def test_the_fingerprint_follows_weights_buffers_and_dtype(make):
    model = make("residual")
    seen = {fingerprint(model)}
    with torch.no_grad():
        model.fc.weight[0, 0] += 1e-3
    seen.add(fingerprint(model))
    model.block.norm.running_mean += 1
    seen.add(fingerprint(model))
    seen.add(fingerprint(model.half()))
    assert len(seen) == 4


def test_the_number_of_tracked_batches_is_no_weight(make):
    model = make("residual")
    before = fingerprint(model)
    model.block.norm.num_batches_tracked += 7
    assert fingerprint(model) == before


def test_an_optimiser_step_is_seen_by_the_cheap_version_and_by_the_fingerprint(make):
    model = make("residual")
    version, before = weights_version(model), fingerprint(model)
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert weights_version(model) > version
    assert fingerprint(model) != before


def test_the_hash_of_an_input_is_the_sha256_of_its_canonical_encoding():
    row = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = hashlib.sha256(b"|float32|(2, 3)|" + row.tobytes()).hexdigest()
    assert input_hashes(torch.from_numpy(row[None]), 1) == [expected]


@pytest.mark.feature("B6")
def test_any_changed_modality_changes_the_hash_of_that_input_only():
    def batch():
        return {
            "points": torch.zeros(2, 5, 4),
            "image": torch.zeros(2, 3, 4),
            "meta": [{"t": 1}, {"t": 2}],
            "scale": 1.0,
        }

    before = input_hashes(batch(), 2)
    changes = {"points": (1, 2, 3), "image": (1, 0, 0)}
    for name, place in changes.items():
        changed = batch()
        changed[name][place] = 1e-6
        after = input_hashes(changed, 2)
        assert after[0] == before[0]
        assert after[1] != before[1]
    changed = batch() | {"meta": [{"t": 1}, {"t": 3}]}
    assert [a == b for a, b in zip(input_hashes(changed, 2), before, strict=True)] == [True, False]
    assert set(input_hashes(batch() | {"scale": 2.0}, 2)) & set(before) == set()


def test_shape_and_dtype_are_part_of_the_hash():
    zeros = torch.zeros(1, 2, 3)
    seen = {input_hashes(x, 1)[0] for x in (zeros, zeros.reshape(1, 3, 2), zeros.double(), zeros.half())}
    assert len(seen) == 4


def test_strides_key_order_and_library_are_not():
    x = torch.arange(12.0).reshape(2, 2, 3)
    assert input_hashes(x.transpose(1, 2), 2) == input_hashes(x.transpose(1, 2).contiguous(), 2)
    assert input_hashes(x.numpy().astype(">f4"), 2) == input_hashes(x, 2)
    assert input_hashes({"a": x, "b": x + 1}, 2) == input_hashes({"b": x + 1, "a": x}, 2)


def test_another_process_computes_the_same_hash():
    code = (
        "import torch; from mld_pipelines.adapters import input_hashes; "
        "print(input_hashes({'b': torch.arange(8.).reshape(2, 4), 'a': ['x', 'y']}, 2)[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    here = input_hashes({"a": ["x", "y"], "b": torch.arange(8.0).reshape(2, 4)}, 2)[1]
    assert done.stdout.strip() == here
