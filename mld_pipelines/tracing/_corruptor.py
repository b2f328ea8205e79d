"""From raw inputs to corrupted ones as the model takes them, whatever holds them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mld_pipelines.stress import Family, StressSet

    Normalization = tuple[Any, Any]

__all__ = ["Corruptor", "input_array", "stack_inputs"]

_PICTURE_MODES = ("L", "RGB")
"""Modes of Pillow whose numbers are brightnesses; those of a palette are not."""

_BYTE = 255.0
"""8-bit images are [0, 1] in steps of 1/255; a copy is rounded back to them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corruptor:
    """Makes model inputs of raw inputs: corrupt, normalise, collate, preprocess.

    Families act on floats, images on [0, 1]. 8-bit inputs are divided by 255 before and rounded back after; an input
    normalised by `normalize` is restored before and normalised again after. A copy has the type, dtype and device of
    its original.

    Attributes:
        families: Families by name.
        seed: Seed of the stress pass.
        normalize: (mean, standard deviation), one number or one per channel each, that was applied to the inputs.
        preprocess: Called with the collated batch of corrupted inputs.
        collate: Makes a batch of a list of inputs.
    """

    families: Mapping[str, Family]
    seed: int
    normalize: Normalization | None = None
    preprocess: Callable[[Any], Any] | None = None
    collate: Callable[[list[Any]], Any]

    def __post_init__(self) -> None:
        """Refuse a normalisation that cannot be inverted.

        Raises:
            InvalidInputError: It is no pair of finite numbers, or a standard deviation is not above 0.
        """
        if self.normalize is not None:
            _ = self.normalization

    @property
    def normalization(self) -> tuple[list[float], list[float]] | None:
        """`normalize` as plain numbers: with families and seed it tells one stress pass from another."""
        if self.normalize is None:
            return None
        try:
            mean, spread = (_numbers(part).tolist() for part in self.normalize)
        except (TypeError, ValueError):
            mean, spread = [], []
        if not mean or not spread or not np.isfinite([*mean, *spread]).all() or min(spread) <= 0.0:
            raise InvalidInputError(
                f"normalize is {self.normalize!r}; nothing was recorded. Pass (mean, standard deviation), finite, the "
                "latter above 0, one number or one per channel each."
            )
        return mean, spread

    def clean(self, inputs: Sequence[Any]) -> Any:
        """Return what the model takes for these inputs as they are."""
        return self._batch([_held_as(input_array(one).copy(), one) for one in inputs])

    def corrupted(self, inputs: Sequence[Any], input_ids: Sequence[str], stress_set: StressSet) -> Any:
        """Return what the model takes for the copies of one kind and severity.

        Raises:
            InvalidInputError: An input is not what the family takes, e.g. an image outside [0, 1].
        """
        return self._batch(
            [self.copy(one, input_id, stress_set) for one, input_id in zip(inputs, input_ids, strict=True)]
        )

    def copy(self, raw: Any, input_id: str, stress_set: StressSet) -> Any:
        """Return the copy of one input, before batches are made and preprocessed.

        Raises:
            InvalidInputError: The input is not what the family takes.
        """
        family = self.families[stress_set.family]
        given = input_array(raw)
        is_byte = given.dtype == np.uint8 and family.modality not in {"tabular", "points"}
        value = given.astype(np.float32) / _BYTE if is_byte else given
        if self.normalize is not None:
            value = _denormalised(value, self.normalize)
        copy = family.corrupt(
            value, kind=stress_set.kind, severity=stress_set.severity, seed=self.seed, input_id=input_id
        )
        if self.normalize is not None:
            copy = _normalised(copy, self.normalize)
        return _held_as(np.round(copy * _BYTE) if is_byte else copy, raw)

    def _batch(self, inputs: list[Any]) -> Any:
        try:
            batch = self.collate(inputs)
        except (RuntimeError, ValueError, TypeError) as error:
            shapes = sorted({str(tuple(getattr(one, "shape", ()))) for one in inputs})
            raise InvalidInputError(
                f"inputs of the shapes {', '.join(shapes[:3])} make no batch ({error}); nothing was recorded. Where a "
                "corruption changes shapes, as the loss of points does, pass inputs as a list and a preprocess= that "
                "takes one (registered datasets: LabeledDataset(collate=…))."
            ) from error
        return batch if self.preprocess is None else self.preprocess(batch)


def input_array(raw: Any) -> NDArray[Any]:
    """Return one raw input as an array on the CPU; half precision becomes float32.

    Raises:
        InvalidInputError: It is a mapping or a sequence of several arrays.
    """
    if hasattr(raw, "detach"):
        tensor = raw.detach().cpu()
        is_half = tensor.is_floating_point() and tensor.element_size() < np.dtype(np.float32).itemsize
        array = np.asarray((tensor.float() if is_half else tensor).numpy())
    else:
        array = _plain_array(raw)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def stack_inputs(inputs: Any, *, keeps_shape: bool) -> Callable[[list[Any]], Any]:
    """Return how a batch is made of single inputs, so that the model gets the container it was called with.

    Args:
        inputs: All inputs as the caller holds them: tensor, array or list.
        keeps_shape: Whether every corruption keeps shapes; otherwise a batch is a list.
    """
    if not keeps_shape or not hasattr(inputs, "shape"):
        return lambda batch: batch
    if hasattr(inputs, "detach"):
        import torch

        return torch.stack
    return np.stack


def _plain_array(raw: Any) -> NDArray[Any]:
    if _is_picture(raw) and raw.mode not in _PICTURE_MODES:
        raise InvalidInputError(
            f"a picture has the mode {raw.mode!r}; nothing was recorded. Convert it: image.convert('RGB')."
        )
    try:
        array = None if isinstance(raw, (Mapping, str, bytes)) else np.asarray(raw)
    except ValueError:  # arrays of several shapes
        array = None
    if array is None or array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"an input is a {type(raw).__name__}; nothing was recorded. Stress families corrupt one array per input: "
            "pass that one as inputs and add what else the model takes in preprocess=."
        )
    return array


def _is_picture(raw: Any) -> bool:
    """Whether an input is an image of Pillow, which the caller has imported then."""
    return type(raw).__module__.partition(".")[0] == "PIL"


def _held_as(copy: NDArray[Any], raw: Any) -> Any:
    """Return a copy in the type, dtype and device of its original."""
    if _is_picture(raw):
        return sys.modules["PIL.Image"].fromarray(copy.astype(np.uint8))
    if not hasattr(raw, "detach"):
        return copy.astype(np.asarray(raw).dtype, copy=False)
    import torch

    return torch.from_numpy(np.ascontiguousarray(copy)).to(device=raw.device, dtype=raw.dtype)


def _denormalised(value: NDArray[Any], normalize: Normalization) -> NDArray[Any]:
    mean, spread = (_along_channels(part, value) for part in normalize)
    return np.asarray(value * spread + mean, dtype=value.dtype)


def _normalised(value: NDArray[Any], normalize: Normalization) -> NDArray[Any]:
    mean, spread = (_along_channels(part, value) for part in normalize)
    return np.asarray((value - mean) / spread, dtype=value.dtype)


def _numbers(part: Any) -> NDArray[np.float64]:
    return np.asarray(part.detach().cpu() if hasattr(part, "detach") else part, dtype=np.float64).reshape(-1)


def _along_channels(part: Any, value: NDArray[Any]) -> NDArray[np.float64]:
    """Return the numbers of `normalize` in the shape of an input: first axis of channels, else the last."""
    numbers = _numbers(part)
    if len(numbers) == 1:
        return numbers.reshape(())
    if value.ndim and value.shape[0] == len(numbers):
        return numbers.reshape(-1, *[1] * (value.ndim - 1))
    if value.ndim and value.shape[-1] == len(numbers):
        return numbers
    raise InvalidInputError(
        f"normalize= has {len(numbers)} numbers for an input of shape {value.shape}; nothing was recorded. Pass one "
        "mean and standard deviation, or one per channel."
    )
