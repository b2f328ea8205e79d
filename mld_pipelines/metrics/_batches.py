"""What has to fit together before detections are compared with truths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from mld_pipelines.records import Detections3D, Truths3D

__all__ = ["check_batches", "check_frames"]


def check_batches(detections: Detections3D, truths: Truths3D, *, n_classes: int) -> None:
    """Check that two batches have the same frames and labels of the model's classes.

    Raises:
        InvalidInputError: They do not.
    """
    check_frames(detections.frames, truths.frames)
    if n_classes < 1:
        raise InvalidInputError(f"n_classes must be at least 1, got {n_classes}.")
    for name, labels in (("detection", detections.labels), ("truth", truths.labels)):
        if len(labels) and labels.max() >= n_classes:
            row = int(np.argmax(labels))
            raise InvalidInputError(
                f"the label of {name} {row} is {labels[row]}, but the model has {n_classes} classes, 0 … "
                f"{n_classes - 1}; nothing was matched."
            )


def check_frames(found: int, real: int) -> None:
    """Check that detections and truths have as many frames.

    Raises:
        InvalidInputError: They have not.
    """
    if found != real:
        raise InvalidInputError(
            f"detections have {found} frames and truths {real}; nothing was matched. "
            "Pass both for the same frames in the same order, empty frames included."
        )
