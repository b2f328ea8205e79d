"""`input_hashes`: what an input was, over all its modalities."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.records import require_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["input_hashes"]


def input_hashes(inputs: Any, n: int) -> list[str]:
    """Return one SHA-256 (64 hex characters) per input of a batch.

    The canonical encoding of an input lists every modality by sorted key: key, dtype, shape and the C-contiguous
    little-endian bytes. Processes and devices therefore agree, and a tensor hashes like the equal numpy array.

    Args:
        inputs: Tensor or array with the batch on its first axis, sequence with one entry per input, or (nested)
            mapping of those. A value without a batch axis of length `n` belongs to every input.
        n: Number of inputs in the batch.
    """
    modalities = sorted(_modalities("", inputs, n), key=lambda modality: modality[0])
    return [_digest(modalities, row) for row in range(n)]


def _digest(modalities: list[tuple[str, Any, bool]], row: int) -> str:
    digest = hashlib.sha256()
    for key, value, is_batched in modalities:
        _feed(digest, key, value[row] if is_batched else value)
    return digest.hexdigest()


def _modalities(key: str, value: Any, n: int) -> list[tuple[str, Any, bool]]:
    """Return `(key, value, has a batch axis)` of every modality."""
    if isinstance(value, Mapping):
        return [found for name in value for found in _modalities(f"{key}.{name}" if key else str(name), value[name], n)]
    array = _array(value)
    if array is not None:
        return [(key, array, array.ndim > 0 and array.shape[0] == n)]
    is_batched = isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) == n
    return [(key, value, is_batched)]


def _feed(digest: Any, key: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for name in sorted(value, key=str):
            _feed(digest, f"{key}.{name}" if key else str(name), value[name])
        return
    array = _array(value)
    if array is not None:
        _feed_array(digest, key, array)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        digest.update(f"{key}|sequence|{len(value)}|".encode())
        for position, item in enumerate(value):
            _feed(digest, f"{key}[{position}]", item)
    else:
        text = repr(value) if isinstance(value, (str, bytes, bool, int, float, type(None))) else type(value).__name__
        digest.update(f"{key}|{type(value).__name__}|{text}|".encode())


def _feed_array(digest: Any, key: str, array: NDArray[Any]) -> None:
    canonical = np.ascontiguousarray(array)
    if canonical.dtype.byteorder == ">":
        canonical = canonical.astype(canonical.dtype.newbyteorder("<"))
    digest.update(f"{key}|{canonical.dtype.name}|{array.shape}|".encode())
    digest.update(canonical.tobytes() if canonical.dtype.hasobject else canonical.reshape(-1).view(np.uint8).data)


def _array(value: Any) -> NDArray[Any] | None:
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "detach") or not hasattr(value, "cpu"):
        return None
    require_data("inputs", value)
    host = value.detach().cpu()
    if str(host.dtype) == "torch.bfloat16":  # numpy has no bfloat16; widening is exact
        host = host.float()
    return np.asarray(host.resolve_conj().resolve_neg().numpy())
