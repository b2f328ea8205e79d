"""What surrounds a model: torch.compile, DataParallel, DistributedDataParallel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["bare_name", "is_compiled", "is_data_parallel", "modules_by_name", "unwrap"]

_PREFIX = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module)\.")
"""`torch.compile` calls what it wraps `_orig_mod`, both parallel wrappers call it `module`."""


def bare_name(name: str) -> str:
    """Return a parameter or module path without the prefixes that wrappers add at its head.

    A submodule that the user called `module` deep inside the model loses its prefix as well; paths stay distinct
    enough to recognise weights, which is all they are used for.
    """
    return _PREFIX.sub("", name + ".").removesuffix(".")


def is_compiled(model: Any) -> bool:
    """Return whether the model is the result of `torch.compile`, outside or below parallel wrappers."""
    return any(hasattr(layer, "_orig_mod") for layer in _layers(model))


def is_data_parallel(model: Any) -> bool:
    """Return whether a call is spread over several devices, each in a thread of its own."""
    return any("DataParallel" in _kinds(layer) and len(_device_ids(layer)) > 1 for layer in _layers(model))


def unwrap(model: Any) -> Any:
    """Return the user's own module inside the wrappers."""
    return _layers(model)[-1]


def modules_by_name(model: Any) -> dict[str, torch.nn.Module]:
    """Return the modules of the unwrapped model by path; empty for something that is no `torch.nn.Module`."""
    core = unwrap(model)
    return dict(core.named_modules()) if hasattr(core, "named_modules") else {}


def _layers(model: Any) -> list[Any]:
    layers = [model]
    while (inner := _inside(layers[-1])) is not None:
        layers.append(inner)
    return layers


def _inside(layer: Any) -> Any | None:
    if hasattr(layer, "_orig_mod"):
        return layer._orig_mod
    if _kinds(layer) & {"DataParallel", "DistributedDataParallel"}:
        return layer.module
    return None


def _kinds(layer: Any) -> set[str]:
    """Return the names of a class and its bases: MMDataParallel is a DataParallel."""
    return {kind.__name__ for kind in type(layer).__mro__}


def _device_ids(layer: Any) -> list[Any]:
    return list(getattr(layer, "device_ids", None) or [])
