"""Raw outputs cross processes as few arrays and come out as they went in."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as arrays

from mld_pipelines.tracing._raw_frames import pack_frames, unpack_frames

KINDS = st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.dtype("U3")])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
FRAMES = st.lists(
    st.dictionaries(
        st.sampled_from(["boxes", "0/heat", "row_reg"]),
        KINDS.flatmap(lambda kind: arrays.arrays(kind, SHAPES)),
        max_size=3,
    ),
    max_size=4,
)


@given(FRAMES)
def test_arrays_of_any_shape_and_kind_come_out_as_they_went_in(frames):
    others = {"settings": np.array(["{}"])}
    found = unpack_frames(others | pack_frames(frames), len(frames))
    assert [sorted(one) for one in found] == [sorted(one) for one in frames]
    for one, expected in zip(found, frames, strict=True):
        for name, values in expected.items():
            assert one[name].dtype == values.dtype
            np.testing.assert_array_equal(one[name], values, strict=True)


def test_what_all_frames_have_becomes_one_array_that_is_read_without_a_copy():
    frames = [{"heat": np.full((2, index), float(index))} for index in range(64)]
    packed = pack_frames(frames)
    assert len(packed) == 2
    assert all(one["heat"].base is not None for one in unpack_frames(packed, 64))
    assert np.shares_memory(unpack_frames(packed, 64)[9]["heat"], packed["raw/flat/heat"])
