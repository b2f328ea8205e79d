"""Taps: hooks that copy a layer's input for whoever called the model."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from mld_pipelines.adapters._heads import Head

__all__ = ["CompiledTap", "FeatureTap"]

_ARMED = object()


class _Hook:
    """Registration on a head, undone by `detach`."""

    def __init__(self) -> None:
        self._handle: Any = None

    def attach(self, head: Head) -> None:
        """Register on the head; `detach` undoes it."""
        self.detach()
        self._handle = head.module.register_forward_pre_hook(self)  # type: ignore[arg-type]

    def detach(self) -> None:
        """Remove the hook; calling it twice is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.remove()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are inert: a tap without a recorder behind it."""
        return (type(self), ())


class CompiledTap(_Hook):
    """Tap in the plain form that `torch.compile` can trace, even with `fullgraph=True`.

    It has one slot for all threads, so a feature counts only if the head turns it into the scores of the same call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.feature: torch.Tensor | None = None

    def __call__(self, module: Any, args: tuple[Any, ...]) -> None:  # noqa: ARG002 - a hook's signature
        """Copy the layer's input."""
        self.feature = args[0].detach().clone()

    def arm(self) -> None:
        """Forget what was kept."""
        self.feature = None

    def take(self) -> torch.Tensor | None:
        """Return what the last call left."""
        return self.feature


class FeatureTap(_Hook):
    """Forward pre-hook of the head: clones the first input for the thread that armed it.

    Threads do not see each other's features, and a direct call of the model, outside tracer or logger, leaves nothing
    behind. A tap on a copied or pickled model is inert, so that neither carries a recorder along.

    Args:
        across_threads: Keep what any thread hands over: DataParallel runs each device's share in a thread of its own.
    """

    def __init__(self, *, across_threads: bool = False) -> None:
        super().__init__()
        self._local = threading.local()
        self._shared: list[torch.Tensor] | None = [] if across_threads else None

    def __call__(self, module: Any, args: tuple[Any, ...]) -> None:  # noqa: ARG002 - a hook's signature
        """Copy the layer's input; never raises into the forward pass."""
        try:
            local = self._local
            if self._shared is not None:
                self._shared.append(args[0].detach().clone())
            elif local.kept is not None:
                given = args[0]
                local.kept = (given.detach() if given.requires_grad else given).clone()
        except Exception:  # noqa: S110 - includes "not armed in this thread"; a missing feature is noticed later
            pass

    def arm(self) -> None:
        """Forget what was kept and keep what comes next in this thread."""
        self._local.kept = _ARMED  # one attribute for two facts: behind a forward pass each access costs a microsecond
        if self._shared is not None:
            self._shared.clear()

    def take(self) -> torch.Tensor | None:
        """Return what the last call left, and stop keeping."""
        local = self._local
        kept, local.kept = local.kept, None
        if self._shared is not None:
            return _joined(self._shared)
        return None if kept is _ARMED else kept


def _joined(parts: list[torch.Tensor]) -> torch.Tensor | None:
    """Return the shares of all devices in the order of the devices, which is the order of the batch."""
    import torch

    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    ordered = sorted(parts, key=lambda part: part.device.index or 0)
    return torch.cat([part.cpu() for part in ordered])
