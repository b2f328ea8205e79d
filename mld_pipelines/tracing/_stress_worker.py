"""The worker of a stress pass: corrupts a range of the chosen inputs and runs the registered model on the copies."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.stress import StressSet
from mld_pipelines.tracing._corruptor import Corruptor, input_array
from mld_pipelines.tracing._families import FamilySource
from mld_pipelines.tracing._originals import Original, Originals
from mld_pipelines.tracing._seeds import seeded
from mld_pipelines.tracing._worker import ClassificationTraceWorker, check_weights, one_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["ClassificationStressWorker"]


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
        check_weights(self._fingerprint, expected)
        self._sets = [StressSet(str(family), str(kind), int(severity)) for family, kind, severity in sets]
        self._warm: set[str] = set()
        self._originals = Originals(self._read, indices=indices, chosen_ids=chosen_ids)
        self._corruptor = Corruptor(
            families={family.name: family for family in FamilySource.from_params(families).build()},
            seed=stress_seed,
            normalize=self._dataset.normalize,
            preprocess=self._dataset.preprocess,
            collate=self._collate,
        )

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return the parts of a `StressCall` for the copies from `start` to `stop`, all of one set, and their cost.

        Args:
            batch: `start` and `stop`, counted over all sets.

        Raises:
            InvalidInputError: The dataset is no longer the traced one, or an input cannot be corrupted.
        """
        start, stop = int(batch["start"]), int(batch["stop"])
        number, position = divmod(start, len(self._originals))
        with seeded(self._seed, start), one_thread():
            positions = range(position, position + stop - start)
            inputs, labels = zip(*(self._originals[one] for one in positions), strict=True)
            ids = [self._originals.ids[one] for one in positions]
            self._warm_up(inputs, ids, self._sets[number])
            began = time.perf_counter()
            copies = self._corruptor.corrupted(inputs, ids, self._sets[number])
            columns = self._columns(copies, list(labels), ids)
            columns["seconds"] = np.array([time.perf_counter() - began])
        return columns

    def _warm_up(self, inputs: Sequence[Any], ids: Sequence[str], stress_set: StressSet) -> None:
        """Corrupt and run two inputs before the clock starts, once per kind.

        What a first call does once (imports of a corruption, compiling a model) took 0.48 of the 0.60 s of the eight
        measured batches of a small network; held against its 441 batches that was 33 s instead of 7.
        """
        if stress_set.kind in self._warm:
            return
        with seeded(self._seed), suppress(Exception):  # what is wrong with an input, the batch itself tells
            self._forward(self._corruptor.corrupted(inputs[:2], ids[:2], stress_set))
        self._warm.add(stress_set.kind)

    def _read(self, index: int) -> Original[tuple[Any, int]]:
        examples = self._dataset.read(index, index + 1)
        item = examples.inputs[0], examples.labels[0]
        return Original(item, examples.input_ids[0], input_array(item[0]).nbytes)
