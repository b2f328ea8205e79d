"""The head as bytes, for scoring in a process that does not have the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mld_pipelines.adapters._heads import Head

__all__ = ["MAX_HEAD_BYTES", "export_head"]

MAX_HEAD_BYTES = 64 * 2**20
"""Above this the head is not stored and least squares of the logits on [h, 1] takes its place."""


def export_head(head: Head | None) -> bytes | None:
    """Return `weight` (K, d) and `bias` (K,) as safetensors in float32; None without a linear head or above 64 MB.

    Args:
        head: The layer whose input is the feature.
    """
    if head is None or not head.is_linear:
        return None
    from safetensors.numpy import save

    weight: Any = head.module.weight
    if weight.numel() * 4 > MAX_HEAD_BYTES:
        return None
    arrays = {"weight": np.ascontiguousarray(weight.detach().float().cpu().numpy().reshape(weight.shape[0], -1))}
    bias: Any = getattr(head.module, "bias", None)
    arrays["bias"] = (
        np.zeros(weight.shape[0], np.float32) if bias is None else bias.detach().float().cpu().numpy().copy()
    )
    return bytes(save(arrays))
