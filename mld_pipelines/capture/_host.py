"""Copies of tensors that outlive the call, without making the caller wait for the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["host_copies"]


def host_copies(scores: torch.Tensor, feature: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None, Any]:
    """Return copies of scores and feature, and the event after which they are complete (None: they are).

    On the CPU the scores are cloned, because a caller may change them in place. On a GPU both are copied into pinned
    memory on the current stream: the copy follows the forward pass, and nobody waits for it but the background thread.

    Args:
        scores: (N, K) on any device.
        feature: Already a clone of its own, on the same device, or None.
    """
    if not scores.is_cuda:
        return (scores.detach() if scores.requires_grad else scores).clone(), feature, None
    import torch

    kept = _pinned(scores.detach())
    kept_feature = None if feature is None else _pinned(feature)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(scores.device))
    return kept, kept_feature, event


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
