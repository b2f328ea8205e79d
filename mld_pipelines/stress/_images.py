"""Image families: 20 corruptions of five causes, on [0, 1] images.

Names and families after Hendrycks & Dietterich 2019 (ImageNet-C), implemented anew, so not number-compatible with it.
Strengths are those measured with 16 to 32 pixels; lengths in pixels grow with the shorter side.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.stress import _image_blur as blur
from mld_pipelines.stress import _image_digital as digital
from mld_pipelines.stress import _image_geometry as geometry
from mld_pipelines.stress import _image_light as light
from mld_pipelines.stress import _image_noise as noise
from mld_pipelines.stress._family import Family, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from mld_pipelines.stress._family import Values

    Effect = Callable[[npt.NDArray[np.float64], int, np.random.Generator], npt.NDArray[np.float64]]

__all__ = ["Layout", "image_families"]

Layout = Literal["auto", "CHW", "HWC"]

#: Numbers of channels by which a layout is recognised.
CHANNELS = (1, 3, 4)
#: Rounding of an inverted float32 normalisation; what lies farther outside is no [0, 1] image.
RANGE_SLACK = 1e-5
#: Cause → effects by name.
EFFECTS: dict[str, dict[str, Effect]] = {
    "noise": {
        "gaussian_noise": noise.gaussian,
        "shot_noise": noise.shot,
        "impulse_noise": noise.impulse,
        "speckle_noise": noise.speckle,
    },
    "blur": {"gaussian_blur": blur.gaussian, "motion_blur": blur.motion, "downsample": blur.downsample},
    "light": {
        "brighter": light.brighter,
        "darker": light.darker,
        "contrast": light.contrast,
        "gamma": light.gamma,
        "saturation": light.saturation,
        "fog": light.fog,
    },
    "geometry": {
        "rotate": geometry.rotate,
        "shear": geometry.shear,
        "zoom": geometry.zoom,
        "elastic": geometry.elastic,
    },
    "digital": {
        "occlude": digital.occlude,
        "pixelate": digital.pixelate,
        "jpeg": digital.jpeg,
        "posterise": digital.posterise,
    },
}


def image_families(*, layout: Layout = "auto") -> tuple[Family, ...]:
    """Return the image families. Each kind takes one floating image with values in [0, 1].

    Args:
        layout: Axes of one image. `"auto"`: (H, W), else (C, H, W) if the first axis has 1, 3 or 4 entries, else
            (H, W, C) if the last one has.
    """
    return tuple(
        Family(name, tuple(Kind(kind, partial(_on_image, effect, layout)) for kind, effect in effects.items()), "image")
        for name, effects in EFFECTS.items()
    )


def _on_image(effect: Effect, layout: Layout, value: Values, severity: int, rng: np.random.Generator) -> Values:
    """Apply an effect on (C, H, W) float64 to an image of any layout, keeping [0, 1]."""
    axis = _channel_axis(value, layout)
    _check_range(value)
    image = value[np.newaxis] if axis is None else np.moveaxis(value, axis, 0)
    changed = np.clip(effect(np.clip(image.astype(np.float64), 0.0, 1.0), severity - 1, rng), 0.0, 1.0)
    return np.ascontiguousarray(changed[0] if axis is None else np.moveaxis(changed, 0, axis))


def _channel_axis(value: Values, layout: Layout) -> int | None:
    """Axis of the channels, None for (H, W)."""
    if value.size and value.ndim == 2 and layout == "auto":
        return None
    if value.size and value.ndim == 3:
        if layout == "CHW" or (layout == "auto" and value.shape[0] in CHANNELS):
            return 0
        if layout == "HWC" or (layout == "auto" and value.shape[2] in CHANNELS):
            return 2
    raise InvalidInputError(
        f"an image of shape {value.shape} does not fit the layout {layout!r}; nothing was corrupted. Pass one image "
        "as (H, W), (C, H, W) or (H, W, C), and name the layout if it has another number of channels than 1, 3 or 4."
    )


def _check_range(value: Values) -> None:
    low, high = float(value.min()), float(value.max())
    if not (low >= -RANGE_SLACK and high <= 1.0 + RANGE_SLACK):  # also for NaN
        raise InvalidInputError(
            f"image values run from {low:.4g} to {high:.4g}; nothing was corrupted. Corruptions act on [0, 1]: pass "
            "images as they are before preprocessing and the preprocessing as preprocess=, or normalize=(mean, std)."
        )
