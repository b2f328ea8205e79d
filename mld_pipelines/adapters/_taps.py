"""Taps: hooks that copy a layer's input for whoever called the model."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from mld_pipelines.adapters._heads import Head

__all__ = ["CompiledTap", "FeatureTap", "Slot"]

_ARMED: Any = object()


class Slot:
    """One thread's place between a hook and the caller of the model.

    Attributes:
        kept: What the hook copied; None while nobody waits for it.
        said: Whatever the caller notes about the last call of its thread.
    """

    __slots__ = ("kept", "said")

    def __init__(self) -> None:
        self.kept: Any = None
        self.said: Any = None


class _Hook:
    """Registration on a head, undone by `detach`, and one slot per thread that calls the model."""

    def __init__(self) -> None:
        self._handle: Any = None
        # By thread id: behind a forward pass `threading.local` costs 2 µs more at each access. An id that is used again
        # finds the slot of a thread that ended, and arms it anew.
        self._slots: dict[int, Slot] = {}

    def slot(self) -> Slot:
        """Return the slot of this thread."""
        slot = self._slots.get(get_ident())
        if slot is None:
            slot = self._slots[get_ident()] = Slot()
        return slot

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

    def arm(self) -> Slot:
        """Forget what was kept; return the slot to hand to `take`."""
        self.feature = None
        return self.slot()

    def take(self, slot: Slot) -> torch.Tensor | None:  # noqa: ARG002 - as at `FeatureTap`
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
        self._shared: list[torch.Tensor] | None = [] if across_threads else None

    def __call__(self, module: Any, args: tuple[Any, ...]) -> None:  # noqa: ARG002 - a hook's signature
        """Copy the layer's input; never raises into the forward pass."""
        try:
            slot = self._slots.get(get_ident())
            if slot is not None and slot.kept is not None:
                given = args[0]
                slot.kept = (given.detach() if given.requires_grad else given).clone()
            elif self._shared is not None:
                self._shared.append(args[0].detach().clone())
        except Exception:  # noqa: S110 - a missing feature is noticed later
            pass

    def arm(self) -> Slot:
        """Forget what was kept and keep what comes next in this thread; return the slot to hand to `take`."""
        slot = self._slots.get(get_ident()) or self.slot()
        if self._shared is None:
            slot.kept = _ARMED  # one attribute for two facts: behind a forward pass each access costs a microsecond
        else:
            self._shared.clear()
        return slot

    def take(self, slot: Slot) -> torch.Tensor | None:
        """Return what the last call left, and stop keeping."""
        kept, slot.kept = slot.kept, None
        if kept is not None:
            return None if kept is _ARMED else kept
        return None if self._shared is None else _joined(self._shared)


def _joined(parts: list[torch.Tensor]) -> torch.Tensor | None:
    """Return the shares of all devices in the order of the devices, which is the order of the batch."""
    import torch

    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    ordered = sorted(parts, key=lambda part: part.device.index or 0)
    return torch.cat([part.cpu() for part in ordered])
