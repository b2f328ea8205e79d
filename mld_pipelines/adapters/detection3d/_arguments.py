"""What a caller may say about a detector, looked at before there is a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._native import known_convention
from mld_pipelines.adapters.detection3d._recognise import asked_families
from mld_pipelines.adapters.detection3d._settings import SETTING_NAMES, check_setting
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DETECTOR_ARGUMENTS", "check_arguments"]

DETECTOR_ARGUMENTS = ("architecture", "box_convention", *SETTING_NAMES)
"""Arguments of `ObjectDetection3DTracer` that say how the detector is read."""


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that were given, as JSON values; those that are None are left out.

    Args:
        arguments: Values by the names of `DETECTOR_ARGUMENTS`.

    Raises:
        UnrecognisedModelError: No family or architecture has this name.
        InvalidInputError: A name is not known, or a value is none of its kind.
    """
    unknown = sorted(set(arguments) - set(DETECTOR_ARGUMENTS))
    if unknown:
        raise InvalidInputError(
            f"settings hold {', '.join(map(repr, unknown))}; nothing was recorded. A detector takes "
            f"{', '.join(DETECTOR_ARGUMENTS)}."
        )
    return {name: _checked(name, value) for name, value in arguments.items() if value is not None}


def _checked(name: str, value: Any) -> Any:
    if name in SETTING_NAMES:
        checked = check_setting(name, value)
        return list(checked) if isinstance(checked, tuple) else checked
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} is {value!r}; it must be a name. Nothing was recorded.")
    if name == "architecture":
        asked_families(value)
        return value
    return known_convention(value)
