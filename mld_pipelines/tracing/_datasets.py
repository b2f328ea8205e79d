"""What a dataset factory may return, and reading a range of it."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mld_pipelines.compute import resolve
from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.records import normalise_input_ids
from mld_pipelines.tracing._frames import FRAMES_TASK, open_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["DatasetReader", "Examples", "LabeledDataset", "look_into", "open_dataset"]

_TASK = "classification"

_BOX = 7
"""Numbers of a box: (N, 7) is no label of a class."""

_SHORT = 80
"""Characters of a value in a message."""


@dataclass(frozen=True, slots=True)
class LabeledDataset:
    """Labelled inputs and what turns them into what the model takes.

    A factory may return this or `items` alone (then an attribute `preprocess` of it is used, if there is one).

    Attributes:
        items: Sized and indexable, or iterable: `(input, label)` or `(input, label, input_id)`. Without an id, the
            position is the id. An iterable must give the same items in the same order each time.
        preprocess: Called with a whole collated batch of raw inputs before the model. Corruptions of a stress pass act
            on the raw inputs.
        normalize: (mean, standard deviation), numbers or one per channel, that the items have been normalised by
            already: a stress pass inverts it, since images are corrupted in [0, 1].
        collate: Makes a batch of a list of raw inputs, e.g. of scans with various numbers of points; default stacks.
    """

    items: Sequence[Any] | Iterable[Any]
    preprocess: Callable[[Any], Any] | None = None
    normalize: tuple[Any, Any] | None = None
    collate: Callable[[list[Any]], Any] | None = None


class Examples(NamedTuple):
    """A range of a dataset: raw inputs (not collated), class labels and input ids."""

    inputs: list[Any]
    labels: list[int]
    input_ids: list[str]


def open_dataset(factory: str, params: Mapping[str, Any] | None = None) -> DatasetReader:
    """Call a dataset factory and return a reader of what it made.

    Args:
        factory: `module:function`.
        params: Keyword arguments of the factory.

    Raises:
        ConfigurationError: The factory cannot be imported, or made something that is no dataset of a classifier.
    """
    made = resolve(factory)(**(params or {}))
    if getattr(made, "task", _TASK) != _TASK:
        raise ConfigurationError(
            f"dataset factory {factory!r} gives frames for the task {made.task!r}, and the model is a classifier. "
            "Nothing was recorded."
        )
    if not isinstance(made, LabeledDataset):
        made = LabeledDataset(made, getattr(made, "preprocess", None))
    return DatasetReader(made, name=factory)


def look_into(factory: str, params: Mapping[str, Any] | None = None) -> tuple[str, int]:
    """Return the task and the number of items of what a dataset factory makes.

    A dataset says its task in an attribute `task`; without one it is for classifiers.

    Raises:
        ConfigurationError: The factory cannot be imported, made no dataset, or one for a task that is not traced.
    """
    made = resolve(factory)(**(params or {}))
    task = getattr(made, "task", _TASK)
    if task == _TASK:
        return task, len(open_dataset(factory, params))
    if task != FRAMES_TASK:
        raise ConfigurationError(
            f"dataset factory {factory!r} gives items for the task {task!r}; known are {_TASK!r} and {FRAMES_TASK!r}. "
            "Nothing was recorded."
        )
    return task, len(open_frames(factory, params))


class DatasetReader:
    """Reads ranges of a dataset, whichever of the two shapes it has.

    Class names are taken from an attribute `classes` of the items, as torchvision's datasets have it.

    Args:
        dataset: The dataset.
        name: How messages call it.

    Raises:
        ConfigurationError: Its items are neither indexable nor repeatedly iterable.
    """

    def __init__(self, dataset: LabeledDataset, *, name: str) -> None:
        items = dataset.items
        self.preprocess = dataset.preprocess
        self.normalize = dataset.normalize
        self.collate = dataset.collate
        self.class_names = _names(getattr(items, "classes", None))
        self._items: Any = items
        self._name = name
        # torch's IterableDataset inherits a __getitem__ that only raises
        streams = any(base.__name__ == "IterableDataset" for base in type(items).__mro__)
        self._indexable = not streams and hasattr(items, "__len__") and hasattr(items, "__getitem__")
        self._iterator: Iterator[Any] | None = None
        self._position = 0
        if not self._indexable and (not hasattr(items, "__iter__") or iter(items) is items):
            raise ConfigurationError(
                f"dataset {name!r} returned a {type(items).__name__}; return something with __len__ and __getitem__, "
                "or an iterable that can be started again (a one-time generator cannot)."
            )

    def __len__(self) -> int:
        """Return the number of items; an iterable without a length is run through once."""
        if hasattr(self._items, "__len__"):
            return len(self._items)
        return sum(1 for _ in self._items)

    def read(self, start: int, stop: int) -> Examples:
        """Return the items of a range.

        Raises:
            InvalidInputError: An item is not `(input, label[, input_id])`, a label is no integer, or the dataset ended
                before `stop`.
        """
        items = [self._items[index] for index in range(start, stop)] if self._indexable else self._advance(start, stop)
        if len(items) != stop - start:
            raise InvalidInputError(f"dataset {self._name!r} ended at {start + len(items)}, before item {stop}.")
        parts = [self._parts(index, item) for index, item in enumerate(items, start)]
        inputs, labels, ids = zip(*parts, strict=True) if parts else ((), (), ())
        return Examples(list(inputs), list(labels), normalise_input_ids(list(ids), len(parts)))

    def _advance(self, start: int, stop: int) -> list[Any]:
        if self._iterator is None or start < self._position:
            self._iterator, self._position = iter(self._items), 0
        items = list(itertools.islice(self._iterator, start - self._position, stop - self._position))
        self._position = start + len(items)
        return items

    def _parts(self, index: int, item: Any) -> tuple[Any, int, Any]:
        if _is_frame(item):
            raise InvalidInputError(
                f"item {index} of dataset {self._name!r} is a frame with true boxes, and the dataset names no task: "
                f"it was taken for a classifier's. Nothing was recorded of it; set task = {FRAMES_TASK!r} on the "
                "dataset (an attribute, beside __len__ and __getitem__)."
            )
        if not isinstance(item, (tuple, list)) or len(item) not in {2, 3}:
            size = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
            raise InvalidInputError(
                f"item {index} of dataset {self._name!r} is a {type(item).__name__}{size}; it must be (input, label) "
                "or (input, label, input_id)."
            )
        try:
            label = item[1].item() if hasattr(item[1], "item") else item[1]
            return item[0], operator.index(label), item[2] if len(item) == 3 else str(index)
        except (TypeError, ValueError, RuntimeError) as error:  # the last two of arrays and tensors of several numbers
            raise InvalidInputError(
                f"label {_short(item[1])} of item {index} of dataset {self._name!r} is no class index (an integer)."
            ) from error


def _is_frame(item: Any) -> bool:
    """Return whether an item is what a dataset of frames holds, by its target: true boxes."""
    if not isinstance(item, (tuple, list)):
        return hasattr(item, "points") and hasattr(item, "target")
    if len(item) not in {2, 3}:
        return False
    target = item[1][0] if isinstance(item[1], (tuple, list)) and len(item[1]) == 1 else item[1]
    if isinstance(target, Mapping):
        return "boxes_3d" in target
    return getattr(target, "ndim", 0) == 2 and target.shape[1] == _BOX


def _short(value: Any) -> str:
    """Return a value as a message can hold it: of arrays and tensors the shape, of anything long the beginning."""
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and math.prod(shape) > 1:
        return f"(a {type(value).__name__} of shape {tuple(shape)})"
    if isinstance(value, (Mapping, list, tuple, set)):
        return f"(a {type(value).__name__} of {len(value)})"
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def _names(classes: Any) -> list[str] | None:
    is_named = isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes)
    return list(classes) if is_named else None
