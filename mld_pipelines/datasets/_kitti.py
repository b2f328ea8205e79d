"""KITTI object folders: `velodyne/*.bin`, `label_2/*.txt`, `calib/*.txt`, optional `ImageSets/*.txt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.datasets._frame import FrameFolder, PointFrame, check_classes, check_size, read_points
from mld_pipelines.datasets._kitti_files import KITTI_TYPES, read_calibration, read_labels
from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.geometry import from_kitti_camera, points_in_boxes
from mld_pipelines.records import Truths3D

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.datasets._kitti_files import KittiLabels
    from mld_pipelines.geometry import KittiCalibration

__all__ = ["KITTI_TYPES", "KittiFolder", "KittiFrame", "kitti", "kitti_difficulty"]

_CLASSES = ("Car", "Pedestrian", "Cyclist")
"""The classes of KITTI's own leaderboard, in its order."""

_WIDTH = 4
"""float32 per point: x, y, z, reflectance."""

_LEVELS = ((40.0, 0, 0.15), (25.0, 1, 0.30), (25.0, 2, 0.50))
"""Easy, moderate, hard: height in pixels to exceed, worst occlusion, worst truncation (KITTI object benchmark)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KittiFrame(PointFrame):
    """A frame of KITTI.

    Attributes:
        calibration: From LiDAR to the rectified camera.
        projection: (3, 4) `P2`, from rectified camera coordinates to pixels of the left colour camera.
        boxes_2d: (N, 4) float64 labelled boxes x1, y1, x2, y2 of the truths, pixels.
        truncation: (N,) float64, 0 to 1.
        occlusion: (N,) int64, 0 visible to 3 unknown.
        alpha: (N,) float64, observation angle in radians.
        dont_care: (M, 4) float64 boxes of regions without labels, pixels: what lies there is neither right nor wrong.
    """

    calibration: KittiCalibration
    projection: NDArray[np.float64]
    boxes_2d: NDArray[np.float64]
    truncation: NDArray[np.float64]
    occlusion: NDArray[np.int64]
    alpha: NDArray[np.float64]
    dont_care: NDArray[np.float64]


class KittiFolder(FrameFolder[KittiFrame]):
    """A folder of the KITTI object benchmark, read as it was downloaded.

    Example:
        >>> from mld_pipelines.datasets import KittiFolder
        >>> folder = KittiFolder("/data/kitti", split="val")  # doctest: +SKIP
        >>> frame = folder[0]  # doctest: +SKIP

    Args:
        path: The folder with `velodyne`, or one above it with `training` and `testing`.
        split: Name of a list in `ImageSets`, e.g. `val`; None: every frame. `testing` (and a list `test`) reads the
            testing half where there are two.
        classes: Names of the labels 0, 1, …, in the order of the model; other objects get the label -1.
        points: Name of the folder with the sweeps, e.g. `velodyne_reduced`.

    Raises:
        NotFoundError: The folder, the split or its frames do not exist.
        InvalidInputError: `classes` has a name that KITTI has not.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        split: str | None = None,
        classes: Sequence[str] = _CLASSES,
        points: str = "velodyne",
    ) -> None:
        names = check_classes(classes, [name for name in KITTI_TYPES if name != "DontCare"], dataset="KITTI")
        root = Path(path).expanduser()
        self._root = _half(root, split, points)
        self._points = self._root / points
        self.is_labelled = (self._root / "label_2").is_dir()
        super().__init__(_listed(root, self._points, split), classes=names)

    def inspect(self, frame_id: str) -> None:
        """Look at the size of the sweep, the labels and the calibration.

        Raises:
            InvalidInputError: A file is missing or broken.
        """
        check_size(self._points / f"{frame_id}.bin", width=_WIDTH)
        self._annotations(frame_id)

    def read(self, frame_id: str) -> KittiFrame:
        """Read a frame by its number, e.g. `000008`.

        Raises:
            InvalidInputError: A file is missing or broken.
        """
        cloud = read_points(self._points / f"{frame_id}.bin", width=_WIDTH)
        calibration, projection, labels, boxes = self._annotations(frame_id)
        truths = None
        if self.is_labelled:
            truths = Truths3D.from_frames(
                [
                    {
                        "boxes": boxes,
                        "labels": self._label_numbers(labels.types),
                        "points": points_in_boxes(cloud, boxes).sum(axis=1).astype(np.int64),
                        "difficulty": kitti_difficulty(labels.boxes_2d, labels.truncation, labels.occlusion),
                    }
                ]
            )
        return KittiFrame(
            frame_id=frame_id,
            points=cloud,
            truths=truths,
            class_names=self.classes,
            type_names=labels.types,
            calibration=calibration,
            projection=projection,
            boxes_2d=labels.boxes_2d,
            truncation=labels.truncation,
            occlusion=labels.occlusion,
            alpha=labels.alpha,
            dont_care=labels.dont_care,
        )

    def _annotations(
        self, frame_id: str
    ) -> tuple[KittiCalibration, NDArray[np.float64], KittiLabels, NDArray[np.float64]]:
        calibration, projection = read_calibration(self._root / "calib" / f"{frame_id}.txt")
        path = self._root / "label_2" / f"{frame_id}.txt"
        labels = read_labels(path if self.is_labelled else None)
        boxes = from_kitti_camera(labels.location, labels.dimensions, labels.rotation_y, calibration=calibration)
        if (labels.dimensions <= 0).any():
            row = int(np.flatnonzero((labels.dimensions <= 0).any(axis=1))[0])
            raise InvalidInputError(
                f"{path}: object {row} ({labels.types[row]}) has the sizes {labels.dimensions[row].tolist()}; "
                "sizes must be above 0. The frame was not read; correct the label."
            )
        return calibration, projection, labels, boxes

    def _label_numbers(self, types: Sequence[str]) -> NDArray[np.int64]:
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number.get(name, -1) for name in types], dtype=np.int64)


def kitti(path: str, split: str | None = None, **options: Any) -> KittiFolder:
    """Return a KITTI folder whose broken frames are set aside: the dataset factory behind `kitti:/path?split=val`.

    Args:
        path: See `KittiFolder`.
        split: See `KittiFolder`.
        options: `classes`, `points`.
    """
    folder = KittiFolder(path, split=split, **options)
    folder.check()
    return folder


def kitti_difficulty(
    boxes_2d: NDArray[np.floating[Any]], truncation: NDArray[np.floating[Any]], occlusion: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Return the easiest level each object belongs to: 0 easy, 1 moderate, 2 hard, -1 none.

    Args:
        boxes_2d: (N, 4) labelled boxes in pixels; their height counts.
        truncation: (N,) 0 to 1.
        occlusion: (N,) 0 to 3.
    """
    height = boxes_2d[:, 3] - boxes_2d[:, 1]
    level = np.full(len(boxes_2d), -1, np.int64)
    for number, (least, occluded, truncated) in reversed(list(enumerate(_LEVELS))):
        level[(height > least) & (occlusion <= occluded) & (truncation <= truncated)] = number
    return level


def _half(root: Path, split: str | None, points: str) -> Path:
    halves = ("testing", "training") if split in {"test", "testing"} else ("training", "testing")
    for folder in (root, *(root / half for half in halves)):
        if (folder / points).is_dir():
            return folder
    raise NotFoundError(
        f"no folder {points!r} in {root} or its 'training'; nothing was read. Give the folder of the KITTI object "
        "benchmark that holds velodyne, calib and label_2."
    )


def _listed(root: Path, points: Path, split: str | None) -> list[str]:
    if split in {None, "training", "testing"}:
        frame_ids = sorted(path.stem for path in points.glob("*.bin"))
    else:
        lists = [folder / "ImageSets" for folder in (root, points.parent, points.parent.parent)]
        file = next((folder / f"{split}.txt" for folder in lists if (folder / f"{split}.txt").is_file()), None)
        if file is None:
            known = sorted({path.stem for folder in lists for path in folder.glob("*.txt")})
            raise NotFoundError(
                f"there is no split {split!r} of {root}; nothing was read. Lists in ImageSets: "
                f"{', '.join(known) or 'none'}. Leave split out to read every frame."
            )
        frame_ids = file.read_text(encoding="utf-8").split()
    if not frame_ids:
        raise NotFoundError(f"{points} has no frames (*.bin) for split {split!r}; nothing was read.")
    return frame_ids
