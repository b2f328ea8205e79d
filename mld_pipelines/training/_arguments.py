"""Arguments of a tracer call, checked before anything is recorded."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["checked_class_names", "checked_dataset", "checked_epoch", "checked_range", "checked_uris"]

_MAX_NAME = 200


def checked_range(labels: NDArray[np.int64], classes: int) -> None:
    """Refuse labels that name no class of the model.

    Raises:
        InvalidInputError: A label is `classes` or more.
    """
    if len(labels) and int(labels.max()) >= classes:
        raise InvalidInputError(
            f"label {int(labels.max())} is out of range: the model returns {classes} classes (0 … {classes - 1}). This "
            "batch was not recorded."
        )


def checked_class_names(class_names: Any) -> list[str] | None:
    """Return the names of the classes by index, None if there are none.

    Raises:
        InvalidInputError: They are no sequence of names; a mapping would leave their order to chance.
    """
    if class_names is None:
        return None
    if isinstance(class_names, (str, bytes, Mapping, Set)) or not isinstance(class_names, Iterable):
        raise InvalidInputError(
            f"class_names is a {type(class_names).__name__}; give a list with the name of class 0 first."
        )
    return [str(name) for name in class_names]


def checked_dataset(dataset_type: Any) -> str:
    """Return the name of a dataset.

    Raises:
        InvalidInputError: It is no string of 1 … 200 characters, or reserved.
    """
    if not isinstance(dataset_type, str) or not dataset_type.strip() or len(dataset_type) > _MAX_NAME:
        raise InvalidInputError(
            f"dataset_type is {dataset_type!r}; give a name such as 'train' or 'val'. Nothing was recorded."
        )
    if dataset_type == "production":
        raise InvalidInputError(
            "dataset_type 'production' is reserved for logged inferences with late labels; choose another name. "
            "Nothing was recorded."
        )
    return dataset_type


def checked_epoch(n_epoch: Any) -> int | None:
    """Return an epoch number, None if there is none.

    Raises:
        InvalidInputError: It is negative, a boolean or no integer.
    """
    if n_epoch is None:
        return None
    if isinstance(n_epoch, (bool, np.bool_)):
        raise InvalidInputError(f"n_epoch is {n_epoch!r}; give an integer from 0, not a boolean.")
    try:
        number = operator.index(n_epoch)
    except TypeError:
        raise InvalidInputError(f"n_epoch is {n_epoch!r}; give an integer from 0, or None.") from None
    if number < 0:
        raise InvalidInputError(f"n_epoch is {number}; epochs count from 0.")
    return number


def checked_uris(input_uris: Any, n: int) -> list[str] | None:
    """Return the places where the raw inputs can be found again.

    Raises:
        InvalidInputError: Their number differs from the batch's.
    """
    if input_uris is None:
        return None
    uris = [input_uris] if isinstance(input_uris, str) else [str(uri) for uri in input_uris]
    if len(uris) != n:
        raise InvalidInputError(
            f"input_uris has {len(uris)} entries but the batch has {n} inputs. Nothing was recorded."
        )
    return uris
