"""What every worker pool promises, whatever runs behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from mld_pipelines.exceptions import ConfigurationError, ContractError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = [
    "Attempts",
    "Backend",
    "BatchResult",
    "Pipeline",
    "PoolPolicy",
    "StageSpec",
    "WorkerPool",
    "WorkerSpec",
    "call_worker",
    "describe",
    "in_stage",
    "read_only",
]

Backend = Literal["auto", "inline", "local", "cluster"]
_BACKENDS = ("auto", "inline", "local", "cluster")

Attempts: TypeAlias = "Callable[[Mapping[str, Any]], int]"

_MAX_REASON = 2000
"""Characters kept of a failure's message: enough for a CUDA or shape error, small enough for a table cell."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The name of a worker and what it is built with.

    Attributes:
        target: `"module:name"` of a class or function; called once per worker process with `params`, it returns the
            callable that gets each batch (an instance with `__call__`, or a function).
        params: Keyword arguments of the target; JSON values only, because they travel by value.
    """

    target: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse parameters that JSON cannot carry."""
        try:
            json.dumps(dict(self.params), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"params of worker {self.target!r} are not plain JSON values ({error}); nothing was run. "
                "Pass paths and names, and load the objects inside the worker."
            ) from error


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """How a pool is run.

    Attributes:
        backend: `inline`, `local` (Ray on this machine), `cluster` (the Ray of `RAY_ADDRESS`) or `auto`: for more than
            one batch the cluster if `RAY_ADDRESS` is set, else local Ray; inline otherwise.
        size: Workers; None takes what Ray has free. Never more than what is free.
        num_cpus: CPUs one worker holds for its whole life.
        num_gpus: GPU share one worker holds: 0.5 puts two workers on a card.
        post_size: Workers of the step behind the model, where a run has one (3D detectors: it makes rows of raw
            outputs, on CPUs alone); None: `size`.
        post_cpus: CPUs one of these holds.
        max_attempts: Times a batch may fail before it is given up.
        in_flight_per_actor: Batches submitted ahead to each worker; bounds memory.
        start_timeout_s: Seconds until the first worker must be ready.
        batch_timeout_s: Seconds one batch may take before its worker is killed (Ray backends only).
        object_store_bytes: Shared memory of a Ray that this pool starts; Ray's minimum is 75 MiB.
        working_dir: Folder with your code that is copied to the machines of a cluster, where workers start in it; None:
            the code lies on every machine under the path it has here (a shared file system, one image).
    """

    backend: Backend = "auto"
    size: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    post_size: int | None = None
    post_cpus: float = 1.0
    max_attempts: int = 3
    in_flight_per_actor: int = 2
    start_timeout_s: float = 120.0
    batch_timeout_s: float = 600.0
    object_store_bytes: int = 256 * 2**20
    working_dir: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that would hang or run nothing."""
        if self.backend not in _BACKENDS:
            raise ConfigurationError(f"backend is {self.backend!r}; use one of {', '.join(_BACKENDS)}.")
        for name in ("max_attempts", "in_flight_per_actor"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; it must be at least 1.")
        for name in ("start_timeout_s", "batch_timeout_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"{name} is {value!r}; it must be a positive number.")
        if self.working_dir is not None and not Path(self.working_dir).is_dir():
            raise ConfigurationError(f"working_dir {self.working_dir!r} is no folder here; nothing was run.")
        _check_share(self.size, self.num_cpus, self.num_gpus)
        _check_share(self.post_size, self.post_cpus, 0.0, names=("post_size", "post_cpus", ""))


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One step of a pipeline and the workers that do it.

    Attributes:
        name: How messages call it, e.g. `trace`.
        worker: What its workers are built from. The worker of a later stage gets the arrays of the stage before.
        size: Workers; None takes what is free, dealt out in turns with the other stages.
        num_cpus: CPUs one worker holds for its whole life.
        num_gpus: GPU share one worker holds.
    """

    name: str
    worker: WorkerSpec
    size: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that would hang or run nothing."""
        if not self.name.strip():
            raise ConfigurationError("the name of a stage is empty; name it after what it does, e.g. 'trace'.")
        _check_share(self.size, self.num_cpus, self.num_gpus)


def _check_share(
    size: int | None,
    num_cpus: float,
    num_gpus: float,
    *,
    names: tuple[str, str, str] = ("size", "num_cpus", "num_gpus"),
) -> None:
    if size is not None and size < 1:
        raise ConfigurationError(f"{names[0]} is {size!r}; give at least 1 worker, or None for all that fit.")
    if not (math.isfinite(num_cpus) and num_cpus > 0):
        raise ConfigurationError(f"{names[1]} is {num_cpus!r}; it must be a positive number.")
    if not (math.isfinite(num_gpus) and num_gpus >= 0):
        raise ConfigurationError(f"{names[2]} is {num_gpus!r}; it must be 0 or a positive share.")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The outcome of one batch.

    Attributes:
        index: Position of the batch in the input.
        columns: Read-only numpy arrays by name; empty when the batch failed.
        reason: Why the batch was given up, None when it succeeded.
        attempts: Times the batch was charged with an attempt.
    """

    index: int
    columns: Mapping[str, NDArray[Any]]
    reason: str | None = None
    attempts: int = 1

    @property
    def failed(self) -> bool:
        """Whether the batch was given up after its last attempt (quarantine it)."""
        return self.reason is not None


class WorkerPool(Protocol):
    """Workers that turn batches into columns."""

    @property
    def backend(self) -> str:
        """`inline`, `local` or `cluster`."""

    @property
    def size(self) -> int:
        """Number of workers."""

    def map(self, batches: Iterable[Mapping[str, Any]], *, attempts: Attempts | None = None) -> Iterator[BatchResult]:
        """Yield one result per batch, as they complete (in no fixed order).

        Args:
            batches: Mappings of numpy arrays and scalars, passed to the worker as its only argument; drawn lazily, at
                most `in_flight_per_actor` per worker ahead.
            attempts: From a batch to the times it may fail before it is given up; None: `max_attempts` for all.

        Raises:
            WorkerPoolError: The pool cannot make progress (never for a single failing batch).
        """


class Pipeline(WorkerPool, Protocol):
    """Stages of workers; what one makes streams into the next without passing through the caller."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of workers by stage."""


def call_worker(worker: Callable[[Mapping[str, Any]], object], batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the columns a worker makes of a batch, checked to be plain numpy.

    Raises:
        ContractError: The worker returned anything else; pickled objects do not cross the border.
    """
    columns = worker(batch)
    if not isinstance(columns, Mapping):
        raise ContractError(f"the worker returned a {type(columns).__name__}; it must return a mapping of arrays.")
    for name, values in columns.items():
        if not isinstance(name, str) or not isinstance(values, np.ndarray) or values.dtype.hasobject:
            kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            raise ContractError(f"column {name!r} of the worker is a {kind}; it must be a plain numpy array.")
    return dict(columns)


def read_only(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return views that cannot be written to, as the views of Ray's shared memory are."""
    views = {name: values.view() for name, values in columns.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def describe(error: BaseException) -> str:
    """Return `Type: message` of an error, bounded in length."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + "…"


def in_stage(name: str | None, reason: str) -> str:
    """Return a reason with the stage it arose in; None for a pool of one stage."""
    return reason if name is None else f"stage {name}: {reason}"
