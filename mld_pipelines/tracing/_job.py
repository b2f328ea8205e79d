"""Everything that decides which rows a trace run makes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mld_pipelines.capture import Identity
from mld_pipelines.compute import StageSpec, WorkerSpec
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import split_model_key, uuid7
from mld_pipelines.tracing._datasets import look_into
from mld_pipelines.tracing._seeds import seeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.compute import PoolPolicy
    from mld_pipelines.tracing._registry import Registration

__all__ = ["TraceJob", "detector_stages"]

_WORKER = "mld_pipelines.tracing._worker:ClassificationTraceWorker"
_FORWARD = "mld_pipelines.tracing._detection_worker:DetectionForwardWorker"
_ROWS = "mld_pipelines.tracing._detection_worker:DetectionRowsWorker"


@dataclass(frozen=True, slots=True)
class TraceJob:
    """A registered model over a registered dataset.

    Attributes:
        model: The model's registration.
        dataset: The dataset's registration.
        dataset_type: Name of the dataset in the traces.
        n_epoch: Epoch of the traces.
        batch_size: Items per forward pass.
        seed: Seeds whatever is random in the factories and the model.

    Raises:
        InvalidInputError: A value is out of range.
    """

    model: Registration
    dataset: Registration
    dataset_type: str
    n_epoch: int | None
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse values that the traces cannot hold."""
        if self.batch_size < 1:
            raise InvalidInputError(f"batch_size is {self.batch_size!r}; it must be at least 1. Nothing was recorded.")
        if not self.dataset_type.strip():
            raise InvalidInputError("dataset_type is empty; name the dataset, e.g. 'val'. Nothing was recorded.")
        if self.n_epoch is not None and self.n_epoch < 0:
            raise InvalidInputError(f"n_epoch is {self.n_epoch!r}; it must be None or at least 0.")

    @property
    def identity(self) -> Identity:
        """Names under which the traces are kept."""
        return Identity(*split_model_key(self.model.model_key))

    def stream_id(self, run_key: str | None) -> str:
        """Return a new id, or one that the same job under the same key always gets."""
        if run_key is None:
            return uuid7()
        parts: list[object] = [run_key, self.dataset_type, self.n_epoch, self.batch_size, self.seed]
        parts.append(self.model.model_key)
        parts += [part for entry in (self.model, self.dataset) for part in (entry.factory, dict(entry.params))]
        parts += [dict(self.model.settings)] if self.model.settings else []
        return "run-" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def source(self) -> str:
        """What a later pass over the same inputs needs, for the receipt: JSON."""
        names = {"model": self.model.name, "dataset": self.dataset.name}
        said = {"settings": dict(self.model.settings)} if self.model.settings else {}
        return json.dumps(names | {"batch_size": self.batch_size, "seed": self.seed} | said, sort_keys=True)

    def worker(self, policy: PoolPolicy) -> WorkerSpec:
        """Return the name of the worker of a classifier and its parameters.

        Raises:
            InvalidInputError: The registration has settings of a detector.
        """
        if self.model.settings:
            raise InvalidInputError(
                f"model {self.model.name!r} is registered with settings of a detector "
                f"({', '.join(self.model.settings)}), and dataset {self.dataset.name!r} is for "
                "classifiers; nothing was recorded. Register the model without --settings, or set task = 'od3d' on a "
                "dataset of frames."
            )
        names = {"model_name": self.model.model_name, "version_name": self.model.version_name}
        return WorkerSpec(_WORKER, names | self._built(policy))

    def stages(self, policy: PoolPolicy) -> tuple[StageSpec, StageSpec]:
        """Return the steps of a detector's run: workers with the model, and workers that make rows of its outputs."""
        rows = {
            "model_name": self.model.model_name,
            "version_name": self.model.version_name,
            "dataset_type": self.dataset_type,
            "n_epoch": self.n_epoch,
        }
        forward = self._built(policy) | {"settings": dict(self.model.settings)}
        return detector_stages(policy, forward=forward, rows=rows)

    def _built(self, policy: PoolPolicy) -> dict[str, Any]:
        """Return what a worker builds model and dataset from."""
        return {
            "model_factory": self.model.factory,
            "model_params": dict(self.model.params),
            "dataset_factory": self.dataset.factory,
            "dataset_params": dict(self.dataset.params),
            "seed": self.seed,
            "device": "cuda" if policy.num_gpus else None,
        }

    def look_into(self) -> tuple[str, int]:
        """Return task and size of the dataset, built here once.

        Raises:
            InvalidInputError: It is empty.
        """
        with seeded(self.seed):
            task, items = look_into(self.dataset.factory, self.dataset.params)
        if not items:
            raise InvalidInputError(
                f"dataset {self.dataset.name!r} ({self.dataset.factory}) has no items; nothing was recorded."
            )
        return task, items

    def ranges(self, items: int) -> list[tuple[int, int]]:
        """Return (start, stop) of every batch."""
        return [(start, min(start + self.batch_size, items)) for start in range(0, items, self.batch_size)]


def detector_stages(
    policy: PoolPolicy, *, forward: Mapping[str, Any], rows: Mapping[str, Any]
) -> tuple[StageSpec, StageSpec]:
    """Return the steps in which a detector is run: with the model, and behind it.

    Args:
        policy: How to run.
        forward: Parameters of a `DetectionForwardWorker`.
        rows: Parameters of a `DetectionRowsWorker`.
    """
    size = policy.size if policy.post_size is None else policy.post_size
    model = WorkerSpec(_FORWARD, forward)
    return (
        StageSpec("forward", model, size=policy.size, num_cpus=policy.num_cpus, num_gpus=policy.num_gpus),
        StageSpec("rows", WorkerSpec(_ROWS, rows), size=size, num_cpus=policy.post_cpus),
    )
