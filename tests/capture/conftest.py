"""A recorder over a real lake, with rows that are easy to count."""

from __future__ import annotations

import numpy as np
import pytest

from mld_pipelines.capture import EmbeddedSink, Recorder
from mld_pipelines.lake import Lake


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"), code_version="test")


def encode(calls):
    """Rows of `landing/feedback`, one group per call."""
    return [
        (
            [len(names)],
            {"request_id": list(names), "label": np.zeros(len(names), np.int64), "source": "test", "labelled_at": 0},
        )
        for names in calls
    ]


@pytest.fixture
def record(lake):
    """Return a factory of recorders; all are closed at the end."""
    made = []

    def build(sink=None, **options):
        options = {"overflow": "drop_oldest", "max_buffer_bytes": 2**20, **options}
        made.append(Recorder("landing/feedback", sink or EmbeddedSink(lake), encode=encode, **options))
        return made[-1]

    yield build
    for recorder in made:
        if not recorder.is_closed:
            recorder.close(1.0)


@pytest.fixture
def names_in(lake):
    """Return the request ids that are stored, in their order of arrival."""
    from mld_pipelines.tables import LANDING_FEEDBACK

    def names():
        return lake.read(LANDING_FEEDBACK).sort("stream_id", "seq", "row")["request_id"].to_list()

    return names
