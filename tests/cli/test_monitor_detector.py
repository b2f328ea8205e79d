"""`mld monitor` of a 3D detector."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

torch = pytest.importorskip("torch")

from examples.drive.frames import single_frames  # noqa: E402
from examples.drive.model import drive_model  # noqa: E402
from mld_pipelines.monitoring import ObjectDetection3DLogger  # noqa: E402

pytestmark = pytest.mark.torch
AT = datetime(2026, 2, 2, 10, 30, tzinfo=UTC)


@pytest.fixture
def boxes(lake):
    """Number of boxes in each of two logged frames."""
    counted = []
    with ObjectDetection3DLogger(drive_model(), "pillars", "v1", clock=lambda: AT) as logger:
        for number, frame in enumerate(single_frames(2, 5)):
            with torch.no_grad():
                (found,) = logger(torch.from_numpy(frame.points), request_ids=[f"frame-{number}"])
            counted.append(len(found["scores_3d"]))
        assert logger.flush(30.0)
    return counted


def test_tail_counts_the_boxes_of_a_frame(mld, boxes):
    rows = mld("monitor", "tail", "pillars@v1", "--json").document["inferences"]
    assert [(row["request_id"], row["boxes"]) for row in rows] == [("frame-0", boxes[0]), ("frame-1", boxes[1])]
    assert "prediction" not in rows[0]
    assert "boxes" in mld("monitor", "tail", "pillars@v1").stdout
