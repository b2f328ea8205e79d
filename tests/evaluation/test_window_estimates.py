"""The error rate of any units by a stored result: the same numbers as a monitoring window of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mld_pipelines.evaluation import estimate_units, evaluate, load_scorer
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.rollups import Scorers, refresh_windows, score_days
from mld_pipelines.tables import MONITORING_WINDOWS
from mld_pipelines.windows import derive, roll_up
from tests.support.traced import MODEL, START, toy_outputs, write_inferences, write_trace

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import ProductionScorer
    from mld_pipelines.lake import Lake


@pytest.fixture
def result(lake: Lake) -> str:
    write_trace(lake, "train", 600, seed=1)
    write_trace(lake, "val", 900, seed=2, noise=1.4)
    return evaluate(lake, MODEL).result_name


@pytest.fixture
def scorer(lake: Lake, result: str) -> ProductionScorer:
    return load_scorer(lake, result)


def test_units_are_estimated_as_the_monitoring_window_of_the_same_units(
    lake: Lake, result: str, scorer: ProductionScorer
) -> None:
    at = START + timedelta(days=1)
    write_inferences(lake, 400, seed=7, noise=1.6, at=at, result_name=result)
    scorers = Scorers(lake)
    score_days(lake, [at.date()], current=scorers.current, score=scorers.score)
    references = scorers.references({result})
    refresh_windows(lake, [at.date()], references=references.windows)
    hours = lake.read(MONITORING_WINDOWS, event_day=[at.date()], result_name=result).drop("schema_version")
    window = derive(roll_up(hours), references.baselines, references.windows).row(0, named=True)

    _, features, logits = toy_outputs(400, seed=7, noise=1.6)
    estimate = estimate_units(scorer, logits=logits, features=features)
    assert estimate.n == window["n_scored"] == 400
    numbers = (estimate.error_rate, estimate.low, estimate.high, estimate.opinions.codes)
    stored = [window[f"error_rate_{name}"] for name in ("estimated", "low", "high", "codes")]
    np.testing.assert_allclose(numbers, stored, rtol=1e-7)
    assert list(estimate.badges) == window["badges"]


def test_a_wider_level_gives_a_wider_interval(scorer: ProductionScorer) -> None:
    _, features, logits = toy_outputs(300, seed=5)
    widths = []
    for level in (0.8, 0.9, 0.95):
        estimate = estimate_units(scorer, logits=logits, features=features, level=level)
        widths.append(estimate.high - estimate.low)
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_units_that_are_not_finite_are_left_out(scorer: ProductionScorer) -> None:
    _, features, logits = toy_outputs(120, seed=5)
    broken = logits.copy()
    broken[:20, 0] = np.nan
    estimate = estimate_units(scorer, logits=broken, features=features)
    expected = estimate_units(scorer, logits=logits[20:], features=features[20:])
    assert (estimate.n, estimate.error_rate) == (100, expected.error_rate)


def test_no_units_give_no_number(scorer: ProductionScorer) -> None:
    estimate = estimate_units(
        scorer, logits=np.empty((0, 4), dtype=np.float32), features=np.empty((0, 6), dtype=np.float32)
    )
    assert (estimate.n, estimate.error_rate, estimate.low, estimate.high) == (0, None, None, None)


def test_features_of_another_width_are_refused(scorer: ProductionScorer) -> None:
    _, features, logits = toy_outputs(10, seed=5)
    with pytest.raises(InvalidInputError, match=r"features have shape \(10, 5\)"):
        estimate_units(scorer, logits=logits, features=features[:, :5])


def test_an_unknown_level_is_refused(scorer: ProductionScorer) -> None:
    _, features, logits = toy_outputs(10, seed=5)
    with pytest.raises(InvalidInputError, match=r"level is 0\.5"):
        estimate_units(scorer, logits=logits, features=features, level=0.5)
