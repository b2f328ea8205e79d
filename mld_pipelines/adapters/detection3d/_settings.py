"""Which thresholds decide what is recorded, and where each came from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._contract import Setting, Settings3D
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "ABSENT",
    "SETTING_NAMES",
    "UNKNOWN",
    "check_setting",
    "fallback_settings",
    "first_found",
    "first_range",
    "resolve_settings",
]

SETTING_NAMES = ("score_thresh", "iou_thresh", "max_detections_per_frame", "pc_range")

UNKNOWN = Setting(None, "fallback")
"""The model says nothing: the fallback applies."""

ABSENT = Setting(None, "model:none")
"""The family has no such thing (query heads suppress nothing): recorded as None, and an argument is ignored."""

_FALLBACK = {"score_thresh": 0.1, "iou_thresh": 0.2, "max_detections_per_frame": 300}
"""The original's values for 3D."""


def first_found(model: Any, paths: Iterable[str], *, pick: Callable[[list[float]], float] = max) -> Setting:
    """Return the first number that one of the attribute paths leads to, else `UNKNOWN`.

    Args:
        model: Where the paths begin.
        paths: Attribute paths.
        pick: Which value of a list (one per class or task) counts: the loosest limit the model applies, so that the
            record loses nothing; `max` for overlaps and counts, `min` for scores.
    """
    for path in paths:
        value = _number(attribute(model, path), pick)
        if value is not None:
            return Setting(value, f"model:{path}")
    return UNKNOWN


def first_range(model: Any, paths: Iterable[str]) -> Setting:
    """Return the first range of six numbers that one of the paths leads to; two-element ranges are no `pc_range`."""
    for path in paths:
        value = _numbers(attribute(model, path))
        if len(value) == 6:
            return Setting(tuple(value), f"model:{path}")
    return UNKNOWN


def resolve_settings(
    of_model: Settings3D,
    *,
    family: str,
    arguments: Mapping[str, Any],
    of_result: Mapping[str, Any] | None = None,
) -> Settings3D:
    """Return what is recorded: argument, else evaluation result, else model, else fallback.

    Args:
        of_model: What the adapter found.
        family: For the message.
        arguments: `score_thresh, iou_thresh, max_detections_per_frame, pc_range` as the user gave them, None for none.
        of_result: The same names as the evaluation result recorded them (Loggers only).

    Raises:
        InvalidInputError: An argument is no such value, or `pc_range` is nowhere to be found.
    """
    found = {
        name: _resolved(name, getattr(of_model, name), arguments.get(name), (of_result or {}).get(name))
        for name in SETTING_NAMES
    }
    if found["pc_range"].value is None:
        raise InvalidInputError(
            f"pc_range cannot be inferred from this model ({family}); nothing was recorded. Pass "
            "pc_range=[x_min, y_min, z_min, x_max, y_max, z_max] in metres."
        )
    return Settings3D(**found)


def fallback_settings() -> Settings3D:
    """Return the settings of a model that says nothing."""
    return Settings3D(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)


def _resolved(name: str, of_model: Setting, argument: Any, of_result: Any) -> Setting:
    is_absent = of_model.value is None and of_model.source != UNKNOWN.source
    if argument is not None:
        checked = check_setting(name, argument)
        return of_model if is_absent else Setting(checked, "argument")
    if of_result is not None and not is_absent:
        return Setting(check_setting(name, of_result), "result")
    if of_model.value is None and not is_absent:
        return Setting(_FALLBACK.get(name), "fallback")
    return of_model


def check_setting(name: str, value: Any) -> Any:
    """Return an argument in its type.

    Raises:
        InvalidInputError: It is no such value.
    """
    if name == "pc_range":
        return _checked_range(value)
    number = _number(value)
    if name == "max_detections_per_frame":
        if number is None or not float(number).is_integer() or number < 1:
            raise InvalidInputError(f"{name} is {value!r}; it must be a whole number >= 1. Nothing was recorded.")
        return int(number)
    if number is None or not 0.0 <= number <= 1.0:
        raise InvalidInputError(f"{name} is {value!r}; it must be a number in [0, 1]. Nothing was recorded.")
    return float(number)


def _checked_range(value: Any) -> tuple[float, ...]:
    numbers = _numbers(value)
    is_box = len(numbers) == 6 and all(low < high for low, high in zip(numbers[:3], numbers[3:], strict=True))
    if not is_box or not all(map(math.isfinite, numbers)):
        raise InvalidInputError(
            f"pc_range is {value!r}; it must be [x_min, y_min, z_min, x_max, y_max, z_max] in metres with each minimum "
            "below its maximum. Nothing was recorded."
        )
    return tuple(numbers)


def _number(value: Any, pick: Callable[[list[float]], float] = max) -> float | int | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return value
    numbers = _numbers(value)
    return pick(numbers) if numbers else None


def _numbers(value: Any) -> list[float]:
    """Return the numbers of a list, tuple, array or tensor; empty for anything else."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [float(value)]
    try:
        return [float(one) for one in value] if value is not None and not isinstance(value, (str, bytes, dict)) else []
    except (TypeError, ValueError):
        return []
