"""A made-up week on the road: clear at first, then rain, fog and a damaged sensor; the demo knows the truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from examples.demo.traffic import SimulatedClock
from examples.drive.conditions import CLEAR, Conditions
from examples.drive.datasets import sample_of
from examples.drive.frames import single_frames
from mld_pipelines.metrics import OUTCOMES, match_frames
from mld_pipelines.records import Detections3D, Truths3D

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.metrics import Matches

__all__ = ["FIRST_DAY", "PER_DAY", "WEEK", "Day", "Shot", "Week", "detections_of", "shots", "week_clock"]

FIRST_DAY = date(2026, 2, 2)
PER_DAY = 60
"""Frames a day, each of another street: with fewer than 50 the interval of a window is a bootstrap over frames."""
SEED = 14
"""Of the generator; no scene of it was trained or traced."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the week.

    Attributes:
        name: What it is like, for tables.
        conditions: Air, sensor and traffic.
    """

    name: str
    conditions: Conditions


WEEK = (
    Day("clear", CLEAR),
    Day("clear", CLEAR),
    Day("clear", CLEAR),
    Day("drizzle", Conditions(rain=0.1)),
    Day("rain", Conditions(rain=0.25)),
    Day("fog", Conditions(fog=0.15)),
    Day("beam loss", Conditions(dead_rings=tuple(range(1, 32, 3)), blind=(20.0, 50.0))),
    Day("bent mounting", Conditions(pitch=1.5, roll=1.0)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One frame in production.

    Attributes:
        at: When it was taken.
        request_id: Its name.
        points: (N, 4) float32.
        target: The truth, which production does not know: `boxes_3d`, `labels_3d`, `velocities`.
    """

    at: datetime
    request_id: str
    points: torch.Tensor
    target: dict[str, torch.Tensor]


def week_clock() -> SimulatedClock:
    """Return a clock that shows the beginning of the week."""
    clock = SimulatedClock()
    clock.now = datetime.combine(FIRST_DAY, datetime.min.time(), UTC)
    return clock


def shots(week: Sequence[Day] = WEEK) -> Iterator[Shot]:
    """Yield the frames of a week in order; every run yields the same ones.

    Args:
        week: Its days.
    """
    for number, day in enumerate(week):
        midnight = datetime.combine(FIRST_DAY + timedelta(days=number), datetime.min.time(), UTC)
        frames = single_frames(PER_DAY, SEED, conditions=day.conditions, first=number * PER_DAY)
        for place, frame in enumerate(frames):
            points, target, _ = sample_of(frame)
            at = midnight + timedelta(minutes=place * 24 * 60 / PER_DAY)
            yield Shot(at, f"{midnight:%m%d}-{place:03d}", points, target)


def detections_of(output: dict[str, torch.Tensor]) -> dict[str, NDArray[np.generic]]:
    """Return the columns of `Detections3D` from what the detector returned for one frame."""
    boxes = output["boxes_3d"].numpy().astype(np.float64)
    return {
        "boxes": boxes[:, :7],
        "velocities": boxes[:, 7:9],
        "scores": output["scores_3d"].numpy(),
        "labels": output["labels_3d"].numpy(),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Week:
    """What the demo knows and production does not.

    Attributes:
        event_days: Day of each frame.
        found: What the detector returned.
        truths: What was there.
    """

    event_days: tuple[date, ...]
    found: Detections3D
    truths: Truths3D

    @classmethod
    def of(cls, seen: Sequence[tuple[Shot, dict[str, torch.Tensor]]]) -> Week:
        """Return the week of these frames with the detector's outputs."""
        targets = [{name.removesuffix("_3d"): value.numpy() for name, value in shot.target.items()} for shot, _ in seen]
        return cls(
            tuple(shot.at.date() for shot, _ in seen),
            Detections3D.from_frames([detections_of(output) for _, output in seen]),
            Truths3D.from_frames(targets),
        )

    def daily(self, thresholds: NDArray[np.float64]) -> pl.DataFrame:
        """Return true precision and recall per day at an operating point.

        An object counts as missed when no prediction found it and none is mistaken about it: such a prediction is the
        error already.

        Args:
            thresholds: Lowest score kept, by class.

        Returns:
            event_day, day (what it was like), frames, precision_true, recall_true.
        """
        matches = match_frames(self.found, self.truths, n_classes=len(thresholds), thresholds=thresholds)
        dates, place = np.unique(np.array(self.event_days, "datetime64[D]"), return_inverse=True)
        days: list[date] = dates.tolist()
        counted = [np.bincount(place[matches.frame[rows]], minlength=len(days)) for rows in _outcomes(matches)]
        hits, wrong, missed = counted
        return pl.DataFrame(
            {
                "event_day": days,
                "day": [WEEK[(day - FIRST_DAY).days].name for day in days],
                "frames": np.bincount(place, minlength=len(days)),
                "precision_true": hits / (hits + wrong),
                "recall_true": hits / (hits + missed),
            }
        )


def _outcomes(matches: Matches) -> list[NDArray[np.bool_]]:
    """Rows that are true positives, false positives and missed objects."""
    return [matches.is_unit & (matches.outcome == OUTCOMES.index(name)) for name in ("tp", "fp", "fn")]
