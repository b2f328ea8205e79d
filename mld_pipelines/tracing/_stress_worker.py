"""The worker of a stress pass: corrupts a range of the chosen inputs and runs the registered model on the copies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.stress import StressSet
from mld_pipelines.tracing._corruptor import Corruptor, input_array
from mld_pipelines.tracing._families import FamilySource
from mld_pipelines.tracing._seeds import seeded
from mld_pipelines.tracing._worker import ClassificationTraceWorker, one_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["ClassificationStressWorker"]

_CACHE_BYTES = 256 * 2**20
"""Raw inputs that a worker keeps instead of reading them once per set: 400 images of 224 × 224 × 3 bytes need 60 MB."""


class ClassificationStressWorker(ClassificationTraceWorker):
    """Runs a classification model on corrupted copies of some items of its dataset.

    Args:
        families: Parameters of a `FamilySource`.
        sets: (family, kind, severity) of every set.
        stress_seed: Seed of the corruptions.
        indices: Places of the chosen items in the dataset, ascending.
        chosen_ids: Their input ids.
        expected: Fingerprint of the traced weights.
        **traced: See `ClassificationTraceWorker`.

    Raises:
        ConfigurationError: The model has other weights than the traced one.
    """

    def __init__(
        self,
        *,
        families: Mapping[str, Any],
        sets: Sequence[Sequence[Any]],
        stress_seed: int,
        indices: Sequence[int],
        chosen_ids: Sequence[str],
        expected: str,
        **traced: Any,
    ) -> None:
        super().__init__(**traced)
        if self._fingerprint != expected:
            raise ConfigurationError(
                f"the registered model has the weights {self._fingerprint[:12]}…, the trace was made with "
                f"{expected[:12]}…; nothing was run. Trace the registered model again."
            )
        self._sets = [StressSet(str(family), str(kind), int(severity)) for family, kind, severity in sets]
        self._indices = list(indices)
        self._chosen = list(chosen_ids)
        self._cache: dict[int, tuple[Any, int]] = {}
        self._cached_bytes = 0
        self._corruptor = Corruptor(
            families={family.name: family for family in FamilySource.from_params(families).build()},
            seed=stress_seed,
            normalize=self._dataset.normalize,
            preprocess=self._dataset.preprocess,
            collate=self._collate,
        )

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return the parts of a `StressCall` for the copies `start` to `stop` of one set, and what they cost.

        Args:
            batch: `set`, `start` and `stop`.

        Raises:
            InvalidInputError: The dataset is no longer the traced one, or an input cannot be corrupted.
        """
        number, start, stop = int(batch["set"]), int(batch["start"]), int(batch["stop"])
        with seeded(self._seed, number * len(self._chosen) + start), one_thread():
            inputs, labels = self._read(start, stop)
            ids = self._chosen[start:stop]
            began = time.perf_counter()
            copies = self._corruptor.corrupted(inputs, ids, self._sets[number])
            columns = self._columns(copies, labels, ids)
            columns["seconds"] = np.array([time.perf_counter() - began])
        return columns

    def _read(self, start: int, stop: int) -> tuple[list[Any], list[int]]:
        found = [self._cache.get(position) or self._load(position) for position in range(start, stop)]
        return [raw for raw, _ in found], [label for _, label in found]

    def _load(self, position: int) -> tuple[Any, int]:
        index, expected = self._indices[position], self._chosen[position]
        examples = self._dataset.read(index, index + 1)
        if examples.input_ids[0] != expected:
            raise InvalidInputError(
                f"item {index} of the dataset is {examples.input_ids[0]!r}, but {expected!r} was traced there: the "
                "dataset has changed. Trace it again."
            )
        item = examples.inputs[0], examples.labels[0]
        size = input_array(item[0]).nbytes
        if self._cached_bytes + size <= _CACHE_BYTES:
            self._cache[position] = item
            self._cached_bytes += size
        return item
