"""Call a detector as its user would, keep what its adapter asks for, leave nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._guards import collected
from mld_pipelines.records import require_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Adapter3D, Tap

__all__ = ["Observed3D", "observe", "tapping", "to_arrays"]


@dataclass(frozen=True, slots=True, eq=False)
class Observed3D:
    """One call of a detector.

    Attributes:
        output: The very object the model returned.
        raw: Tensors for the decoder, on the model's device; `to_arrays` makes `Raw` of them.
        frames: Frames in the call.
    """

    output: Any
    raw: Mapping[str, torch.Tensor]
    frames: int


def observe(adapter: Adapter3D, inputs: Any) -> Observed3D:
    """Call the model with hooks that live exactly as long as the call.

    Args:
        adapter: Of the model.
        inputs: As the user gave them; they are not changed.

    Raises:
        InvalidInputError: The inputs or the output are not what the family knows.
    """
    call = adapter.call(inputs)
    with tapping(adapter.taps()) as tapped:
        output = call.function(*call.args, **call.kwargs)
    return Observed3D(output, collected(adapter, output, tapped, frames=call.frames), call.frames)


@contextmanager
def tapping(taps: Sequence[Tap]) -> Iterator[dict[str, list[Any]]]:
    """Clone what taps keep during the block: per tap a list with one entry for each call of its module.

    Only calls of this thread are kept. A module that is not called leaves an empty list.
    """
    kept: dict[str, list[Any]] = {tap.name: [] for tap in taps}
    handles = []
    try:
        for tap in taps:
            hook = _Keeper(kept[tap.name], of_input=tap.keeps == "input")
            register = tap.module.register_forward_pre_hook if hook.of_input else tap.module.register_forward_hook
            handles.append(register(hook))
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def to_arrays(raw: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.generic]]:
    """Return tensors as arrays; bfloat16, which NumPy lacks, becomes float32."""
    import torch

    for name, value in raw.items():
        require_data(f"outputs {name!r} of the model", value)
    plain = {name: value.float() if value.dtype is torch.bfloat16 else value for name, value in raw.items()}
    return {name: value.detach().cpu().numpy() for name, value in plain.items()}


class _Keeper:
    """Forward hook or pre-hook that clones; it never raises into the forward pass."""

    def __init__(self, kept: list[Any], *, of_input: bool) -> None:
        self.kept = kept
        self.of_input = of_input
        self._thread = get_ident()

    def __call__(self, module: Any, args: tuple[Any, ...], output: Any = None) -> None:  # noqa: ARG002 - a hook's signature
        if get_ident() != self._thread:
            return
        with suppress(Exception):  # a missing feature is noticed later
            self.kept.append(_copied(args if self.of_input else output))


def _copied(value: Any) -> Any:
    """Return detached clones of the tensors inside tuples, lists and mappings; anything else as it is."""
    if hasattr(value, "detach") and hasattr(value, "clone"):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(inner) for inner in value]
    return value
