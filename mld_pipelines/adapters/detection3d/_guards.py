"""Where a fork differs from the code base it came from: its detections are kept, and what could not be read is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mld_pipelines.compute import resolve
from mld_pipelines.exceptions import MldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from mld_pipelines.adapters.detection3d._contract import Adapter3D, Decoder3D, Frame3D, Raw
    from mld_pipelines.compute import WorkerSpec

__all__ = ["GuardedDecoder", "collected", "spared"]

_log = logging.getLogger("mld_pipelines.adapters")
_told: set[str] = set()

_DETECTIONS = frozenset({"boxes", "scores", "labels", "offsets", "convention", "label_offset", "sampled"})
"""What decoders need for detections alone; everything else says which rows of the head they are."""


def collected(adapter: Adapter3D, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
    """Return what the decoder needs; of a head whose raw output has another form than its family's, detections alone.

    Args:
        adapter: Of the model.
        output: What the model returned.
        tapped: What the hooks kept.
        frames: Frames in the call.

    Raises:
        InvalidInputError: The output itself is not what the family knows.
    """
    try:
        raw = adapter.collect(output, tapped, frames=frames)
        strange = [name for name, value in raw.items() if not hasattr(value, "detach")]
        if strange:
            raise TypeError(f"{strange[0]} is a {type(raw[strange[0]]).__name__}")
    except MldError:
        raise
    except Exception as error:  # whatever a fork's shapes and keys lead to
        _tell(adapter.family, error)
        raw = adapter.collect(output, {name: [] for name in tapped}, frames=frames)
    return raw


def spared(family: str, proposals: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return a head's raw output, or nothing where it has another form than its family's."""
    try:
        return proposals()
    except Exception as error:
        _tell(family, error)
        return {}


class GuardedDecoder:
    """Decodes, and where the rows of a head have another form than its family's, returns the detections alone.

    Args:
        spec: Name and parameters of the family's decoder.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._name = spec.target
        self._decode: Decoder3D = resolve(spec.target)(**spec.params)

    def __call__(self, raw: Raw) -> Sequence[Frame3D]:
        """Return one frame per frame of the call."""
        try:
            return self._decode(raw)
        except MldError:
            raise
        except Exception as error:
            _tell(self._name, error)
            return self._decode({name: values for name, values in raw.items() if name in _DETECTIONS})


def _tell(family: str, error: Exception) -> None:
    """Log once per family that its head is read no further."""
    if family in _told:
        return
    _told.add(family)
    _log.warning(
        "the raw output of this detector's head differs from what %s reads (%s: %s); detections are recorded without "
        "exact features, class vectors and candidates. Said once.",
        family,
        type(error).__name__,
        error,
    )
