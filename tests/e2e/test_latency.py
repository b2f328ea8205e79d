"""How long after an inference its row and its window are visible, with every interval at its default."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_INFERENCES, MONITORING_WINDOWS
from tests.support.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LANDING_SECONDS, WINDOW_SECONDS = 10.0, 60.0
"""What is promised on a machine with time to spare; both are printed."""

LOADED = 3.0
"""Factor granted to a machine that other work keeps busy."""

INFERENCES = 16


@pytest.mark.feature("I16")
def test_an_inference_is_visible_in_landing_and_in_its_window(platform, monkeypatch, capsys):
    import torch

    from examples.demo.digits import load_digits, train
    from mld_pipelines.monitoring import ClassificationLogger

    monkeypatch.setenv("MLD_HOME", str(platform.home))
    lake = Lake.open()
    data, _, pool = load_digits()
    model, images = train(data), torch.from_numpy(pool.images[:INFERENCES])
    today = datetime.now(UTC).date()
    mine = pl.col("request_id").str.starts_with("visible-")
    windows = pl.col("result_name").is_not_null() & (pl.col("event_day") >= today)

    with ClassificationLogger(model, "digits", "v1", "digits_demo") as logger:
        with torch.no_grad():
            logger(images, request_ids=[f"visible-{n}" for n in range(INFERENCES)])
        _, landed = wait_for(
            lambda: lake.scan(LANDING_INFERENCES).select(mine.sum()).collect().item() == INFERENCES,
            f"{INFERENCES} rows in landing/inferences (logger: {logger.stats})",
            seconds=LOADED * LANDING_SECONDS,
        )
        seen, shown = wait_for(
            lambda: lake.scan(MONITORING_WINDOWS).filter(windows).select(pl.col("n_scored").sum()).collect().item(),
            f"their window in monitoring/windows; look at {platform.home / 'dagster' / 'logs' / 'daemon.log'} and at "
            f"the newest tick of new_logs",
            seconds=LOADED * WINDOW_SECONDS,
        )
    with capsys.disabled():
        report = f"visible in landing after {landed:.1f} s, in windows after {landed + shown:.1f} s"
        print(f"\n{report}")  # noqa: T201 - the delays are what this test is for
    assert seen == INFERENCES
