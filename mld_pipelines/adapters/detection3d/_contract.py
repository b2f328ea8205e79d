"""What every adapter of a 3D detector gives: settings, the call, what to keep of it, and the way to canonical boxes.

An adapter works in two halves. On the caller's thread it says how to call the model and keeps clones of raw outputs
(`collect`); nothing is computed there. A decoder, which needs no model, turns them into frames: on the background
thread of a Logger, or in a Ray actor without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mld_pipelines.compute import WorkerSpec

__all__ = ["Adapter3D", "Call", "Candidates3D", "Decoder3D", "Frame3D", "Raw", "Setting", "Settings3D", "Tap"]

Raw = Mapping[str, "NDArray[Any]"]
"""Raw outputs of one call as plain arrays; ragged ones are concatenated, with int64 offsets of (frames + 1,)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that decides what is recorded, and where it came from.

    Attributes:
        value: The value; None where the family has no such thing (query heads have no IoU threshold).
        source: `argument`, `model:<attribute path>`, `result` or `fallback`.
    """

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Settings3D:
    """What is recorded of a model's detections; never what the model returns.

    Attributes:
        score_thresh: Lowest score kept.
        iou_thresh: BEV IoU of the model's own suppression; recorded, never applied a second time.
        max_detections_per_frame: Most boxes kept in a frame, by score.
        pc_range: (x1, y1, z1, x2, y2, z2), metres.
    """

    score_thresh: Setting
    iou_thresh: Setting
    max_detections_per_frame: Setting
    pc_range: Setting


@dataclass(frozen=True, slots=True)
class Call:
    """How to call a model with the inputs a user gave.

    Attributes:
        function: The model itself, or a bound method of it such as `test_step`.
        args: Positional arguments.
        kwargs: Keyword arguments.
        frames: Frames in the call.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    frames: int


@dataclass(frozen=True, slots=True)
class Tap:
    """A module whose input or output is cloned during the call.

    Attributes:
        name: Key under which `collect` finds what was kept: a list, one entry for each call of the module.
        module: The module; hooks are removed after every call.
        keeps: `input` (its positional arguments) or `output`.
    """

    name: str
    module: torch.nn.Module
    keeps: Literal["input", "output"]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates3D:
    """Boxes of one frame before suppression, bounded in number, by falling score.

    Attributes:
        boxes: (M, 7) float64, canonical: cx, cy, cz, w, l, h, yaw; gravity centre, metres, radians.
        scores: (M,) float32.
        labels: (M,) int64, 0-based.
        index: (M,) int64, row in the raw head output.
        features: (M, D) float32, or None.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    index: NDArray[np.int64]
    features: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False)
class Frame3D:
    """What a model said about one frame, in canonical conventions, in the order of its own output.

    Attributes:
        boxes: (N, 7) float64, as in `Candidates3D`.
        velocities: (N, 2) float64, m/s in the sensor frame; NaN where the model has none.
        scores: (N,) float32.
        labels: (N,) int64, 0-based.
        class_scores: (N, C) float32, or None.
        class_space: `sigmoid`, `softmax_bg_first`, `softmax_noobj_last`, or None.
        features: (N, D) float32, or None.
        feature_source: Module path of an exact feature, `sampled:<module path>`, or None.
        candidate_index: (N,) int64, row in the raw head output; −1 where unknown.
        candidates: What the model suppressed or dropped, or None where it cannot be seen.
    """

    boxes: NDArray[np.float64]
    velocities: NDArray[np.float64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_scores: NDArray[np.float32] | None
    class_space: str | None
    features: NDArray[np.float32] | None
    feature_source: str | None
    candidate_index: NDArray[np.int64]
    candidates: Candidates3D | None


class Decoder3D(Protocol):
    """Turns raw outputs into frames; holds no model, runs on any CPU."""

    def __call__(self, raw: Raw) -> Sequence[Frame3D]:
        """Return one frame per frame of the call."""


class Adapter3D(Protocol):
    """One family of 3D detectors around one live model."""

    @property
    def family(self) -> str:
        """Name of the family, e.g. `mmdet3d-centerpoint`."""

    @property
    def convention(self) -> str:
        """Convention of the boxes the model returns, a name of `mld_pipelines.geometry`."""

    @property
    def settings(self) -> Settings3D:
        """What the model itself says, before arguments and fallbacks; values are None where it says nothing."""

    def call(self, inputs: Any) -> Call:
        """Return how to call the model with the SDK's documented inputs; the user's objects are not changed."""

    def taps(self) -> Sequence[Tap]:
        """Return what is to be kept during the call."""

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return detached clones of what the decoder needs; copies only, since the caller's thread waits."""

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name, so that a process without the model can build it."""
