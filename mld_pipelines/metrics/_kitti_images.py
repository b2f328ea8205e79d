"""What KITTI's evaluation takes from the image, and the overlaps it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._pairs import Pairs, measured_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.records import Detections3D, Truths3D

    KittiMetric = Literal["bev", "3d", "image"]

__all__ = ["MIN_HEIGHTS", "KittiImages", "close_pairs", "over_dont_care"]

MIN_HEIGHTS = (40, 25, 25)
"""Pixels: objects of a level are higher, detections at least as high."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KittiImages:
    """Boxes in the image: x1, y1, x2, y2 in pixels.

    Attributes:
        detections: (N, 4).
        truths: (M, 4), or None where only heights of detections matter.
        dont_care: (K, 4) regions in which nobody was labelled.
        dont_care_offsets: (F + 1,) their offsets; None for no region at all.
    """

    detections: NDArray[np.float64]
    truths: NDArray[np.float64] | None = None
    dont_care: NDArray[np.float64] | None = None
    dont_care_offsets: NDArray[np.int64] | None = None


def close_pairs(
    detections: Detections3D, truths: Truths3D, metric: KittiMetric, images: KittiImages | None, lowest: float
) -> Pairs:
    """Return all pairs of one frame that overlap by more than the lowest IoU.

    Args:
        detections: What was found.
        truths: What is there.
        metric: Which overlap.
        images: Boxes in the image, for `image`.
        lowest: IoU.

    Raises:
        InvalidInputError: The metric is unknown, or image boxes are missing or do not fit.
    """
    from mld_pipelines.geometry import bev_iou, iou_3d

    check_images(images, detections, truths, needs_truths=metric == "image")
    if metric == "image" and images is not None and images.truths is not None:
        found, real = np.asarray(images.detections, np.float64), np.asarray(images.truths, np.float64)
    else:
        found, real = detections.boxes, truths.boxes
    overlaps = {"bev": bev_iou, "3d": iou_3d, "image": image_iou}
    if metric not in overlaps:
        raise InvalidInputError(f"metric {metric!r} is unknown; it is one of {', '.join(overlaps)}.")

    def measure(_: int, rows: slice, columns: slice) -> NDArray[np.float64]:
        return np.asarray(overlaps[metric](found[rows], real[columns]))

    close = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for pairs in measured_pairs(measure, (detections.offsets, truths.offsets)):
        mask = pairs.value > lowest
        close.append(Pairs(pairs.detection[mask], pairs.truth[mask], pairs.value[mask]))
    return Pairs(*map(np.concatenate, zip(*close, strict=True)))


def over_dont_care(detections: Detections3D, images: KittiImages | None, overlap: float) -> NDArray[np.bool_]:
    """Tell which detections lie in a region of their frame by more than a share of their own area.

    Args:
        detections: What was found.
        images: Boxes in the image.
        overlap: Share.
    """
    result = np.zeros(len(detections), np.bool_)
    if images is None or images.dont_care is None or images.dont_care_offsets is None:
        return result
    found, regions = np.asarray(images.detections, np.float64), np.asarray(images.dont_care, np.float64)

    def share(_: int, rows: slice, columns: slice) -> NDArray[np.float64]:
        return _shared(found[rows], regions[columns]) / _areas(found[rows])[:, None]

    for pairs in measured_pairs(share, (detections.offsets, np.asarray(images.dont_care_offsets, np.int64))):
        result[pairs.detection[pairs.value > overlap]] = True
    return result


def image_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of boxes in the image, (N, M).

    Args:
        a: (N, 4) x1, y1, x2, y2.
        b: (M, 4).
    """
    shared = _shared(a, b)
    result: NDArray[np.float64] = shared / (_areas(a)[:, None] + _areas(b) - shared)
    return result


def check_images(images: KittiImages | None, detections: Detections3D, truths: Truths3D, *, needs_truths: bool) -> None:
    """Check that image boxes are there where they are needed and fit.

    Args:
        images: Boxes in the image.
        detections: What was found.
        truths: What is there.
        needs_truths: Whether boxes of truths are needed.

    Raises:
        InvalidInputError: They do not.
    """
    if images is None:
        if needs_truths:
            raise InvalidInputError("the metric 'image' needs images=KittiImages(detections=…, truths=…).")
        return
    given = {"detections": (images.detections, len(detections))}
    if needs_truths and images.truths is None:
        raise InvalidInputError("the metric 'image' needs the image boxes of truths.")
    if images.truths is not None:
        given["truths"] = images.truths, len(truths)
    for name, (boxes, count) in given.items():
        if np.shape(boxes) != (count, 4) or not np.isfinite(boxes).all():
            raise InvalidInputError(f"image boxes of {name} must be finite, ({count}, 4), got {np.shape(boxes)}.")
    _check_regions(images, detections.frames)


def _check_regions(images: KittiImages, frames: int) -> None:
    if images.dont_care is None:
        return
    offsets = images.dont_care_offsets
    if offsets is None or len(offsets) != frames + 1 or offsets[-1] != len(images.dont_care):
        raise InvalidInputError(
            f"{len(images.dont_care)} don't-care regions need offsets of {frames + 1} numbers that end with their "
            f"count, got {None if offsets is None else list(offsets[-3:])} at the end."
        )


def _shared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    result: NDArray[np.float64] = np.clip(high - low, 0.0, None).prod(axis=2)
    return result


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return result
