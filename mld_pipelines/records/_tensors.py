"""Tensors that cannot be read."""

from __future__ import annotations

from typing import Any

from mld_pipelines.exceptions import InvalidInputError

__all__ = ["require_data"]


def require_data(what: str, value: Any) -> None:
    """Check that a tensor holds numbers; anything else passes.

    Args:
        what: What it is, for the message.
        value: A tensor of any device, or anything.

    Raises:
        InvalidInputError: It is on torch's device `meta`, which knows shapes and dtypes only.
    """
    if getattr(getattr(value, "device", None), "type", None) == "meta":
        raise InvalidInputError(
            f"{what} are on the device 'meta', which holds shapes and no numbers; nothing was computed or recorded of "
            "them. Materialise them first: load weights and data on a real device."
        )
