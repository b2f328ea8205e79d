"""Everything that decides which rows a stress pass over a registered model makes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mld_pipelines.compute import StageSpec, WorkerSpec
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.stress import choose_inputs, plan_stress
from mld_pipelines.tracing._clouds import cloud_of
from mld_pipelines.tracing._datasets import open_dataset
from mld_pipelines.tracing._families import REFERENCE_ROWS, FamilySource, guess_families
from mld_pipelines.tracing._frames import FRAMES_TASK, open_frames
from mld_pipelines.tracing._job import detector_stages
from mld_pipelines.tracing._registry import find_registration
from mld_pipelines.tracing._seeds import seeded
from mld_pipelines.tracing._source import find_source, traced_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.compute import PoolPolicy
    from mld_pipelines.lake import Lake
    from mld_pipelines.stress import StressPlan, StressSet
    from mld_pipelines.tracing._datasets import DatasetReader
    from mld_pipelines.tracing._frames import FrameReader
    from mld_pipelines.tracing._registry import Registration
    from mld_pipelines.tracing._source import TraceSource

__all__ = ["StressJob", "StressOptions", "prepare_stress"]

_WORKER = "mld_pipelines.tracing._stress_worker:ClassificationStressWorker"
_FRAMES = "mld_pipelines.tracing._stressed_frames:StressedFrames"


@dataclass(frozen=True, slots=True, kw_only=True)
class StressOptions:
    """What a caller may choose.

    Attributes:
        severities: Ascending selection of 1 to 5.
        max_inputs: Most inputs to use.
        seed: Seed of the choice and of every corruption.
        batch_size: Copies per call of a worker (a classifier's forward pass takes them together, a detector's one by
            one); for classifiers also the unit of retry and quarantine.

    Raises:
        InvalidInputError: The batch size is below 1.
    """

    severities: tuple[int, ...] = (1, 3, 5)
    max_inputs: int = 400
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse a batch of nothing."""
        if self.batch_size < 1:
            raise InvalidInputError(f"batch_size is {self.batch_size!r}; it must be at least 1. Nothing was run.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StressJob:
    """A registered model over corrupted copies of some items of a registered dataset.

    Attributes:
        model: The model's registration.
        dataset: The dataset's registration.
        source: The trace whose inputs are corrupted.
        families: What corrupts.
        plan: Sets and chosen inputs.
        indices: Places of the chosen inputs in the dataset, ascending.
        batch_size: Copies per call of a worker.
    """

    model: Registration
    dataset: Registration
    source: TraceSource
    families: FamilySource
    plan: StressPlan
    indices: tuple[int, ...]
    batch_size: int

    @property
    def batches_per_set(self) -> int:
        """Calls of a worker for one set."""
        return -(-len(self.plan.input_ids) // self.batch_size)

    @property
    def batches(self) -> int:
        """Calls of a worker for the whole pass."""
        return len(self.plan.sets) * self.batches_per_set

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """(start, stop) of every batch, in copies counted set by set; none lies in two sets."""
        n, size = len(self.plan.input_ids), self.batch_size
        firsts = range(0, len(self.plan.sets) * n, n)
        return [(first + start, first + min(start + size, n)) for first in firsts for start in range(0, n, size)]

    def stress_set(self, number: int) -> StressSet:
        """Return the set that a batch belongs to."""
        return self.plan.sets[number // self.batches_per_set]

    def originals(self, number: int) -> tuple[str, ...]:
        """Return the inputs that a batch holds copies of."""
        start = number % self.batches_per_set * self.batch_size
        return self.plan.input_ids[start : start + self.batch_size]

    def facts(self, number: int) -> dict[str, Any]:
        """Return what the rows of a batch say about where their copies come from."""
        one = self.stress_set(number)
        return {
            "source_dataset": self.source.dataset_type,
            "n_epoch": self.source.n_epoch,
            "family": one.family,
            "kind": one.kind,
            "severity": one.severity,
            "seed": self.plan.seed,
            "family_version": self.plan.family(one).version,
        }

    @property
    def stream_id(self) -> str:
        """The same for the same job: weights, inputs, families, severities, seed and batches."""
        parts = [
            self.source.model_key,
            self.source.fingerprint,
            self.source.dataset_type,
            self.source.n_epoch,
            self.source.seed,
            self.batch_size,
            self.plan.version,
            self.families.to_params(),
            list(zip(self.indices, self.plan.input_ids, strict=True)),
            [[entry.factory, dict(entry.params)] for entry in (self.model, self.dataset)],
        ]
        parts += [dict(self.model.settings)] if self.model.settings else []
        return "stress-" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def stages(self, policy: PoolPolicy) -> tuple[StageSpec, ...]:
        """Return the workers of the pass: of one kind for classifiers, in two steps for detectors, as in a trace."""
        names = {"model_name": self.model.model_name, "version_name": self.model.version_name}
        dataset = {"dataset_factory": self.dataset.factory, "dataset_params": dict(self.dataset.params)}
        copies = {
            "families": self.families.to_params(),
            "sets": [[one.family, one.kind, one.severity] for one in self.plan.sets],
            "stress_seed": self.plan.seed,
            "indices": list(self.indices),
            "chosen_ids": list(self.plan.input_ids),
        }
        built = {
            "model_factory": self.model.factory,
            "model_params": dict(self.model.params),
            "seed": self.source.seed,
            "device": "cuda" if policy.num_gpus else None,
            "expected": self.source.fingerprint,
        }
        if self.source.task == FRAMES_TASK:
            stressed = {
                "dataset_factory": _FRAMES,
                "dataset_params": dataset | copies,
                "settings": dict(self.model.settings),
            }
            rows = names | {"dataset_type": self.source.dataset_type, "n_epoch": self.source.n_epoch}
            return detector_stages(policy, forward=built | stressed, rows=rows)
        worker = WorkerSpec(_WORKER, names | built | dataset | copies)
        return (StageSpec("copies", worker, policy.size, num_cpus=policy.num_cpus, num_gpus=policy.num_gpus),)


def prepare_stress(lake: Lake, model_key: str, options: StressOptions) -> StressJob:
    """Return the stress pass of a registered model over the trace of its decision dataset.

    Raises:
        NotFoundError: Nothing was traced by the platform, or a registration is gone.
        InvalidInputError: The trace, the inputs or an option cannot be used; the message says which.
        ConfigurationError: A factory cannot be used.
    """
    source = find_source(lake, model_key)
    model = find_registration(lake, source.model, kind="model")
    if model.model_key != model_key:
        raise InvalidInputError(
            f"registration {source.model!r} is {model.model_key} now; nothing was run. Register {model_key} again, or "
            "trace what is registered."
        )
    _check_settings(model, source)
    dataset = find_registration(lake, source.dataset, kind="dataset")
    places: Mapping[str, int] = dict(traced_inputs(lake, source).iter_rows())
    if source.task == FRAMES_TASK:
        with seeded(source.seed):
            frames = open_frames(dataset.factory, dataset.params)
        families = _frame_families(model.families, frames, places)
    else:
        with seeded(source.seed):
            reader = open_dataset(dataset.factory, dataset.params)
        families = _families(model.families, reader, places, seed=options.seed)
        _check_shapes(families, reader)
    plan = plan_stress(
        families.build(),
        input_ids=list(places),
        severities=options.severities,
        max_inputs=options.max_inputs,
        seed=options.seed,
    )
    return StressJob(
        model=model,
        dataset=dataset,
        source=source,
        families=families,
        plan=plan,
        indices=tuple(places[input_id] for input_id in plan.input_ids),
        batch_size=options.batch_size,
    )


def _check_settings(model: Registration, source: TraceSource) -> None:
    now, then = (json.dumps(dict(one.settings), sort_keys=True) for one in (model, source))
    if now != then:
        raise InvalidInputError(
            f"registration {source.model!r} has the settings {now} now, and was traced with {then}: copies would "
            "differ by them alone. Nothing was run; trace it again, or register it with the settings of the trace."
        )


def _families(name: str | None, reader: DatasetReader, places: Mapping[str, int], *, seed: int) -> FamilySource:
    first = reader.read(0, 1).inputs
    chosen = name or guess_families(first[0])
    if chosen != "tabular":
        return FamilySource.of(chosen, first)
    described = choose_inputs(list(places), n=REFERENCE_ROWS, seed=seed)
    rows = [reader.read(index, index + 1).inputs[0] for index in sorted(places[one] for one in described)]
    return FamilySource.of(chosen, rows)


def _check_shapes(families: FamilySource, reader: DatasetReader) -> None:
    changing = [kind.name for family in families.build() for kind in family.kinds if not kind.keeps_shape]
    if changing and reader.collate is None:
        raise InvalidInputError(
            f"the corruptions {', '.join(changing)} change the shapes of inputs, which the default way of making a "
            "batch cannot stack; nothing was run. Return LabeledDataset(items, collate=…) from the dataset factory."
        )


def _frame_families(name: str | None, frames: FrameReader, places: Mapping[str, int]) -> FamilySource:
    """Return what corrupts the point clouds of frames; described by the first that was traced."""
    chosen = name or "points"
    if chosen in {"image", "tabular"}:
        raise InvalidInputError(
            f"families {chosen!r} are not for frames, of which the points are corrupted; nothing was run. Register the "
            "model with --families points, or with module:function that returns families of point clouds."
        )
    if max(places.values()) >= len(frames):
        raise InvalidInputError(
            f"the dataset has {len(frames)} frames, but {max(places.values()) + 1} were traced: it has changed. "
            "Nothing was run; trace it again."
        )
    first = min(places.values())
    return FamilySource.of(chosen, [cloud_of(frames.read(first, first + 1).inputs[0])])
