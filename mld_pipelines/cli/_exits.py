"""Exit statuses: what a script may decide on."""

from __future__ import annotations

from enum import IntEnum

from mld_pipelines.exceptions import (
    ConfigurationError,
    InvalidInputError,
    MissingDependencyError,
    MldError,
    NotFoundError,
    VersionUnavailableError,
)

__all__ = ["Exit", "exit_of"]


class Exit(IntEnum):
    """Exit statuses of `mld`; the numbers are part of its interface."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOTHING_TO_DO = 4
    NOT_SET_UP = 5
    CHECK_FAILED = 6
    INTERNAL = 70  # EX_SOFTWARE of BSD sysexits
    INTERRUPTED = 130  # 128 + SIGINT, what shells use


def exit_of(error: BaseException) -> Exit:
    """Return the status that an error ends the program with."""
    found = (status for kinds, status in _STATUS if isinstance(error, kinds))
    return next(found, Exit.INTERNAL)


#: First match wins, so the base class of all our errors comes last.
_STATUS: tuple[tuple[type[BaseException], Exit], ...] = (
    (NotFoundError, Exit.NOT_FOUND),
    (VersionUnavailableError, Exit.NOT_FOUND),
    (ConfigurationError, Exit.NOT_SET_UP),
    (MissingDependencyError, Exit.NOT_SET_UP),
    (InvalidInputError, Exit.USAGE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
    (MldError, Exit.FAILED),
)
