"""Artifacts: deterministic bytes in, the same state out, and nothing else accepted."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.diagnosis import _artifact
from mld_pipelines.diagnosis._artifact import pack_artifact, unpack_artifact
from mld_pipelines.exceptions import CorruptArtifactError

TENSORS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1, -1]), "empty": np.empty((0, 4))}
PARAMETERS = {"rate": 0.1 + 0.2, "names": ["E001", "ünseen"], "nothing": None}


def packed(version: int = 1) -> bytes:
    return pack_artifact("thing", version, tensors=TENSORS, parameters=PARAMETERS)


def test_round_trip_keeps_every_bit():
    artifact = unpack_artifact(packed(), kind="thing", version=1)
    assert artifact.parameters == PARAMETERS
    assert set(artifact.tensors) == set(TENSORS)
    for name, array in TENSORS.items():
        assert artifact.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(artifact.tensors[name], array)


def test_equal_state_gives_equal_bytes_whatever_its_order():
    reordered = dict(reversed(list(TENSORS.items())))
    again = pack_artifact("thing", 1, tensors=reordered, parameters=dict(reversed(list(PARAMETERS.items()))))
    assert again == packed()


def test_a_transposed_view_is_stored_by_value():
    view = np.arange(6.0).reshape(2, 3).T
    data = pack_artifact("thing", 1, tensors={"view": view}, parameters={})
    np.testing.assert_array_equal(unpack_artifact(data, kind="thing", version=1).tensors["view"], view)


def test_the_safetensors_package_reads_it():
    from safetensors.numpy import load

    np.testing.assert_array_equal(load(packed())["b"], TENSORS["b"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_noticed(data):
    original = bytearray(packed())
    position = data.draw(st.integers(0, len(original) - 1))
    original[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        artifact = unpack_artifact(bytes(original), kind="thing", version=1)
    except CorruptArtifactError:
        return
    # What is left are bits of JSON that do not change its meaning, e.g. padding.
    assert artifact.parameters == PARAMETERS
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(artifact.tensors[name], array)


@pytest.mark.parametrize("length", [0, 5, 8, 40, -1])
def test_truncated_bytes_are_refused(length):
    with pytest.raises(CorruptArtifactError, match="cannot be read"):
        unpack_artifact(packed()[:length], kind="thing", version=1)


def test_pickle_is_refused_and_not_executed():
    with pytest.raises(CorruptArtifactError):
        unpack_artifact(pickle.dumps({"kind": "thing"}), kind="thing", version=1)


def test_a_foreign_safetensors_file_is_refused():
    from safetensors.numpy import save

    with pytest.raises(CorruptArtifactError, match="not written by this package"):
        unpack_artifact(save({"a": np.ones(3)}), kind="thing", version=1)


def test_another_kind_is_refused():
    with pytest.raises(CorruptArtifactError, match="holds 'thing', expected 'estimator'"):
        unpack_artifact(packed(), kind="estimator", version=1)


def test_a_newer_format_is_refused_with_the_remedy():
    with pytest.raises(CorruptArtifactError, match=r"format 2.*Upgrade mld-pipelines"):
        unpack_artifact(packed(version=2), kind="thing", version=1)


def test_an_older_format_is_read():
    assert unpack_artifact(packed(version=1), kind="thing", version=3).version == 1


def test_oversized_bytes_are_refused_before_they_are_parsed(monkeypatch):
    monkeypatch.setattr(_artifact, "MAX_ARTIFACT_BYTES", 100)
    with pytest.raises(CorruptArtifactError, match="exceed the limit"):
        unpack_artifact(packed(), kind="thing", version=1)


def test_a_header_length_beyond_the_file_is_refused():
    with pytest.raises(CorruptArtifactError, match="longer than the artifact"):
        unpack_artifact((10**15).to_bytes(8, "little") + packed()[8:], kind="thing", version=1)


def test_nan_parameters_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        pack_artifact("thing", 1, tensors={}, parameters={"rate": float("nan")})
