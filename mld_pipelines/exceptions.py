"""Every error this package raises on purpose.

A message states what is wrong with which value, what happened to the data, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "CommitConflictError",
    "ConfigurationError",
    "ContractError",
    "CorruptArtifactError",
    "CorruptTableError",
    "DuplicateResultError",
    "ExportError",
    "InvalidInputError",
    "LakeError",
    "MissingDependencyError",
    "MldError",
    "NotFoundError",
    "ReadOnlyLakeError",
    "StorageError",
    "UnfinishedTraceError",
    "UnknownEpochError",
    "UnknownModelError",
    "UnknownResultError",
    "UnrecognisedModelError",
    "VersionUnavailableError",
    "WorkerPoolError",
]


class MldError(Exception):
    """Base of every error raised by mld_pipelines."""


class InvalidInputError(MldError, ValueError):
    """An argument has the wrong shape, type or value; nothing was recorded."""


class UnrecognisedModelError(InvalidInputError):
    """A live model is of no known family, or of several; nothing was recorded.

    Args:
        message: What was seen, and what to pass.
        evidence: The observations, one a line.
    """

    def __init__(self, message: str, evidence: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.evidence = evidence


class ConfigurationError(MldError):
    """An environment variable, setting or registration cannot be used as it is."""


class MissingDependencyError(MldError, ImportError):
    """A package of an optional extra is needed and not installed."""


class NotFoundError(MldError, LookupError):
    """A name does not exist; the message lists the names that do."""


class UnknownModelError(NotFoundError):
    """No trace, log or result exists for this model name and version."""


class UnknownResultError(NotFoundError):
    """No evaluation result has this name."""


class UnknownEpochError(NotFoundError):
    """The epoch was not traced."""


class DuplicateResultError(MldError):
    """A result of this name exists already; results are immutable."""


class ExportError(MldError):
    """A file cannot be written, or exists already and was not to be replaced."""


class UnfinishedTraceError(MldError):
    """Traced rows exist without the receipt that `wait_for_save` writes."""


class ContractError(MldError):
    """A frame does not have the columns or dtypes that its table declares; nothing was written."""


class CorruptArtifactError(MldError):
    """Stored estimator or codebook bytes cannot be read back."""


class LakeError(MldError):
    """A lakehouse table cannot be read or written."""


class CorruptTableError(LakeError):
    """The transaction log of a table cannot be read."""


class CommitConflictError(LakeError):
    """Another writer won every attempt to commit."""


class StorageError(LakeError):
    """The file system or object store refused (full, read-only, unreachable)."""


class VersionUnavailableError(LakeError):
    """A version of a table, or its log, is no longer (or not yet) there."""


class ReadOnlyLakeError(LakeError):
    """The lake was written by newer code and is only read by this version."""


class WorkerPoolError(MldError):
    """The worker pool could not start or cannot make progress."""
