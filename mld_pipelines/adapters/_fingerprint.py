"""`fingerprint`: which weights a model has."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters._wrappers import bare_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["fingerprint", "weights_version"]

_SAMPLES = 64
"""Strided values hashed per tensor: any optimiser step moves practically all values, so a sample tells."""


def fingerprint(model: Any) -> str:
    """Return the SHA-256 over names, shapes, dtypes and up to 64 strided values of every parameter and buffer.

    Prefixes of wrappers are stripped and `num_batches_tracked` is left out, so the same weights have the same
    fingerprint compiled or not, on any device. Something that is no `torch.nn.Module` is known by its class.

    Args:
        model: Module, possibly wrapped by `torch.compile` or a parallel wrapper.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(_tensors(model)):
        digest.update(f"{name}|{tuple(tensor.shape)}|{str(tensor.dtype).removeprefix('torch.')}|".encode())
        digest.update(_sample(tensor))
    if not hasattr(model, "named_parameters"):
        digest.update(f"{type(model).__module__}.{type(model).__qualname__}".encode())
    return digest.hexdigest()


def weights_version(model: Any) -> int:
    """Return a number that grows with every in-place change of a weight: cheap, for "has anything moved?".

    Args:
        model: Module; tensors without a version counter (made in inference mode) count as unmoved.
    """
    if not hasattr(model, "parameters"):
        return 0
    return sum(_version(tensor) for _, tensor in _tensors(model))


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if not hasattr(model, "named_parameters"):
        return
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            if not name.endswith("num_batches_tracked") and not _is_uninitialised(tensor):
                yield bare_name(name), tensor


def _is_uninitialised(tensor: Any) -> bool:
    return type(tensor).__name__ in {"UninitializedParameter", "UninitializedBuffer"} or tensor.is_meta


def _sample(tensor: torch.Tensor) -> bytes:
    import torch

    if tensor.numel() == 0 or tensor.layout is not torch.strided:
        return b""
    with torch.no_grad():
        flat = tensor.detach().reshape(-1)
        values = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].contiguous().cpu()
        return values.view(torch.uint8).numpy().tobytes()
