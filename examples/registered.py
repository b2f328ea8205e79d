"""Factories for `mld models register`: a model and a dataset that workers build for themselves.

Register both, then trace one over the other, here or from the job `trace_model` in the Dagster UI:

* `mld models register digits examples.registered:digits_model --version-name v1`
* `mld models register digits-val examples.registered:digits_dataset --dataset --params '{"part": "val"}'`
* `mld trace run digits digits-val --dataset-type val`

The platform then runs the model on corrupted copies of these digits; by hand:

* `mld stress cost digits@v1`
* `mld stress run digits@v1`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.demo.digits import CLASS_NAMES, load_digits, train

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from examples.demo.digits import Digits, SmallNet

__all__ = ["DigitsDataset", "digits_dataset", "digits_model"]


class DigitsDataset:
    """Handwritten digits as a dataset: sized, indexable, with class names and an id for every image."""

    classes = CLASS_NAMES

    def __init__(self, data: Digits) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data.labels)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], int, int]:
        return self._data.images[index], int(self._data.labels[index]), int(self._data.ids[index])


def digits_model() -> SmallNet:
    """Return the trained network: with a fixed seed every worker trains the same one, in a few seconds."""
    return train(load_digits()[0])


def digits_dataset(part: str = "val") -> DigitsDataset:
    """Return one part of the digits.

    Args:
        part: `train`, `val` or `production`.
    """
    parts = dict(zip(("train", "val", "production"), load_digits(), strict=True))
    return DigitsDataset(parts[part])
