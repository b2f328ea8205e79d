"""A simulated detector whose errors and misses are known, for the estimators of precision and recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mld_pipelines.diagnosis import split_detections
from mld_pipelines.metrics import match_frames
from mld_pipelines.records import Detections3D, Truths3D
from tests.support.box_scenes import SIZES

N_CLASSES = 3
THRESHOLDS = np.array([0.4, 0.35, 0.45])
FEATURE_DIM = 6


@dataclass
class Simulated:
    """A batch of frames, what was recorded of it, and what matching says."""

    recorded: Detections3D
    suppressed: Detections3D
    truths: Truths3D
    class_scores: np.ndarray
    features: np.ndarray
    keys: list
    frames: object = None
    is_error: np.ndarray = None
    is_missed: np.ndarray = None

    def judge(self):
        """Cut at the operating point and match."""
        self.frames = split_detections(
            self.recorded,
            self.suppressed,
            thresholds=THRESHOLDS,
            class_scores=self.class_scores,
            class_space="sigmoid",
            features=self.features,
        )
        matches = match_frames(self.recorded, self.truths, n_classes=N_CLASSES, thresholds=THRESHOLDS)
        row = np.full(len(self.recorded), -1)
        row[self.frames.rows] = np.arange(len(self.frames.rows))
        found = matches.detection >= 0
        self.is_error = np.zeros(len(self.frames.rows), bool)
        self.is_error[row[matches.detection[found]]] = matches.outcome[found] != 0
        self.is_missed = np.zeros(len(self.truths), bool)
        self.is_missed[matches.truth[(matches.outcome == 2) & (matches.error_type == 5)]] = True
        self.found = int((matches.outcome == 0).sum())
        return self

    @property
    def precision(self):
        return self.found / len(self.frames.rows)

    @property
    def recall(self):
        return self.found / len(self.truths)


def simulate(frames, *, seed, ghosts=2.0, dark=0.12, honest=0.6, width=FEATURE_DIM):
    """Frames of a world in which every object has a hidden visibility and every ghost a hidden strength.

    Args:
        frames: How many.
        seed: Of everything.
        ghosts: Mean number of boxes per frame where nothing is.
        dark: Share of objects that the detector does not see at all.
        honest: How much the score knows of the visibility, 0 to 1; the feature knows the rest.
        width: Columns of the feature.
    """
    rng = np.random.default_rng(seed)
    parts, hidden, truths, classes, features = [], [], [], [], []
    for _ in range(frames):
        hardness = rng.normal(0.0, 0.4)  # errors of one frame go together
        real = _objects(rng, rng.poisson(8) + 1)
        fake = _objects(rng, rng.poisson(ghosts * np.exp(hardness)))
        visible = rng.normal(1.2, 1.0, len(real[1])) - hardness - (np.hypot(*real[0][:, :2].T) - 25.0) / 40.0
        strength = rng.normal(-0.6, 0.9, len(fake[1]))
        is_dark = rng.random(len(real[1])) < dark
        boxes = np.concatenate([_moved(rng, real[0][~is_dark], 0.3), fake[0]])
        labels = np.concatenate([real[1][~is_dark], fake[1]])
        quality = np.concatenate([visible[~is_dark], strength])
        is_ghost = np.arange(len(labels)) >= (~is_dark).sum()
        odds = honest * quality + (1 - honest) * rng.normal(0.3, 1.2, len(labels))
        scores = (1.0 / (1.0 + np.exp(-odds))).astype(np.float32)
        feature = rng.normal(0.0, 1.0, (len(labels), width))
        feature[:, 0] += np.where(is_ghost, -1.2, 1.2)
        feature[:, 1] += labels
        row = rng.random((len(labels), N_CLASSES)).astype(np.float32) * 0.2
        row[np.arange(len(labels)), labels] = scores
        recorded = scores >= 0.1
        around = rng.poisson(np.where(is_ghost, 0.7, 2.5))
        index = np.repeat(np.arange(len(labels)), around)
        parts.append(_frame(boxes[recorded], labels[recorded], scores[recorded]))
        hidden.append(_frame(_moved(rng, boxes[index], 0.15), labels[index], scores[index] * np.float32(0.8)))
        truths.append({"boxes": real[0], "labels": real[1]})
        classes.append(row[recorded])
        features.append(feature[recorded].astype(np.float32))
    return Simulated(
        recorded=Detections3D.from_frames(parts),
        suppressed=Detections3D.from_frames(hidden),
        truths=Truths3D.from_frames(truths),
        class_scores=np.concatenate(classes),
        features=np.concatenate(features),
        keys=[f"{seed}-{frame}" for frame in range(frames)],
    ).judge()


def _objects(rng, count):
    """Boxes that stand at least 5 m apart, on a grid with jitter."""
    cells = rng.choice(144, size=min(count, 144), replace=False)
    labels = rng.integers(0, N_CLASSES, len(cells))
    boxes = np.zeros((len(cells), 7))
    boxes[:, 0] = (cells % 12 - 5.5) * 8.0 + rng.uniform(-1.4, 1.4, len(cells))
    boxes[:, 1] = (cells // 12 - 5.5) * 8.0 + rng.uniform(-1.4, 1.4, len(cells))
    boxes[:, 3:6] = SIZES[labels] * rng.uniform(0.9, 1.1, (len(cells), 3))
    boxes[:, 6] = rng.uniform(-np.pi, np.pi, len(cells))
    return boxes, labels


def _moved(rng, boxes, spread):
    moved = boxes.copy()
    moved[:, :2] += rng.normal(0.0, spread, (len(boxes), 2))
    return moved


def _frame(boxes, labels, scores):
    return {"boxes": boxes, "labels": labels, "scores": scores}
