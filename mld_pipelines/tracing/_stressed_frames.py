"""Corrupted copies of some frames, as a dataset of frames: the workers of a trace run it like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.stress import StressSet
from mld_pipelines.tracing._clouds import with_changed_cloud
from mld_pipelines.tracing._corruptor import Corruptor
from mld_pipelines.tracing._families import FamilySource
from mld_pipelines.tracing._frames import FRAMES_TASK, open_frames
from mld_pipelines.tracing._originals import Original, Originals, held_bytes, with_own_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["StressedFrames"]


class StressedFrames:
    """Copies set by set, each set in the order of the chosen frames. Only points change: images and targets stay.

    Args:
        dataset_factory: `module:function` that returns the frames.
        dataset_params: Keyword arguments of the factory.
        families: Parameters of a `FamilySource`.
        sets: (family, kind, severity) of every set.
        stress_seed: Seed of the corruptions.
        indices: Places of the chosen frames in the dataset, ascending.
        chosen_ids: Their input ids.
    """

    task = FRAMES_TASK

    def __init__(
        self,
        *,
        dataset_factory: str,
        dataset_params: Mapping[str, Any],
        families: Mapping[str, Any],
        sets: Sequence[Sequence[Any]],
        stress_seed: int,
        indices: Sequence[int],
        chosen_ids: Sequence[str],
    ) -> None:
        self._frames = open_frames(dataset_factory, dataset_params)
        self.classes = self._frames.class_names
        self._sets = [StressSet(str(family), str(kind), int(severity)) for family, kind, severity in sets]
        self._originals = Originals(self._read, indices=indices, chosen_ids=chosen_ids)
        self._corruptor = Corruptor(
            families={family.name: family for family in FamilySource.from_params(families).build()},
            seed=stress_seed,
            collate=list,
        )

    def __len__(self) -> int:
        """Return the number of copies."""
        return len(self._sets) * len(self._originals)

    def __getitem__(self, index: int) -> tuple[Any, Mapping[str, Any], str]:
        """Return a copy, the target of its original and the id of its original.

        Raises:
            InvalidInputError: The dataset is no longer the traced one, or the frame cannot be corrupted.
        """
        number, position = divmod(index, len(self._originals))
        inputs, target = with_own_arrays(self._originals[position])
        input_id, one = self._originals.ids[position], self._sets[number]
        copy = with_changed_cloud(inputs, lambda cloud: self._corruptor.copy(cloud, input_id, one))
        return copy, target, input_id

    def _read(self, index: int) -> Original[tuple[Any, Mapping[str, Any]]]:
        frames = self._frames.read(index, index + 1)
        item = frames.inputs[0], frames.targets[0]
        return Original(item, frames.input_ids[0], held_bytes(item))
