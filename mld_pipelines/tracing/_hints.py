"""What a message of the SDK says to pass, in the words of the platform."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mld_pipelines.adapters.detection3d import DETECTOR_ARGUMENTS
from mld_pipelines.exceptions import InvalidInputError, UnrecognisedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["told_where"]


@contextmanager
def told_where() -> Iterator[None]:
    """Let an error that asks for an argument of the tracer also say where a registration takes it.

    Raises:
        UnrecognisedModelError: As it was raised inside, with the option.
        InvalidInputError: As it was raised inside, with the option.
    """
    try:
        yield
    except InvalidInputError as error:
        asked = next((name for name in DETECTOR_ARGUMENTS if f"{name}=" in str(error)), None)
        if asked is None:
            raise
        message = (
            f"{error} A registered model takes it with its registration: mld models register … --settings "
            f"'{{\"{asked}\": …}}'."
        )
        if isinstance(error, UnrecognisedModelError):
            raise UnrecognisedModelError(message, error.evidence) from error
        raise InvalidInputError(message) from error
