"""What a corruption family is, and how one of its kinds is applied to an input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.stress._seeding import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SEVERITIES", "Corruption", "Family", "Kind", "Values"]

Values: TypeAlias = npt.NDArray[np.floating]
"""One input, or the same number of inputs along the first axis."""

Corruption: TypeAlias = Callable[[Values, int, np.random.Generator], Values]
"""`(input, severity 1 to 5, generator) → corrupted input`; all randomness comes from the generator."""

SEVERITIES = (1, 2, 3, 4, 5)
"""Severities a kind is defined for; a stress pass uses 1, 3 and 5 unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to corrupt an input.

    Attributes:
        name: Unique within a stress pass.
        function: The corruption; it gets a copy and may change it.
        is_shared: Whether all inputs draw the same numbers, e.g. which columns of a table are lost.
        keeps_shape: Whether the output must have the shape of the input (point clouds lose and gain points).
    """

    name: str
    function: Corruption
    is_shared: bool = False
    keeps_shape: bool = True


@dataclass(frozen=True, slots=True)
class Family:
    """Corruptions with a common cause. The unit that verification leaves out: a family that was never seen.

    Attributes:
        name: Unique within a stress pass.
        kinds: Its corruptions.
        modality: `"image"`, `"tabular"`, `"points"`, or a word of the user's.
        version: Changes whenever the same input would come out differently.

    Raises:
        InvalidInputError: No kinds, an empty name, or two kinds of one name.

    Example:
        >>> import numpy as np
        >>> darker = Family("light", (Kind("half", lambda x, severity, rng: x / 2),), "mine")
        >>> darker.corrupt(np.ones(2), kind="half", severity=1, seed=0, input_id="a")
        array([0.5, 0.5])
    """

    name: str
    kinds: tuple[Kind, ...]
    modality: str
    version: str = "1"

    def __post_init__(self) -> None:
        """Refuse a family that could not be told apart in a table."""
        names = [kind.name for kind in self.kinds]
        if not self.name or not names or not all(names) or len(set(names)) < len(names):
            raise InvalidInputError(
                f"family {self.name!r} has the kinds {names}; nothing was registered. Give the family a name and at "
                "least one kind, each with a name of its own."
            )

    def kind(self, name: str) -> Kind:
        """Return a kind by name.

        Raises:
            NotFoundError: There is none; the message lists the kinds.
        """
        for kind in self.kinds:
            if kind.name == name:
                return kind
        known = ", ".join(kind.name for kind in self.kinds)
        raise NotFoundError(f"family {self.name!r} has no kind {name!r}. Its kinds: {known}.")

    def corrupt(self, value: Values, *, kind: str, severity: int, seed: int, input_id: str) -> Values:
        """Return one corrupted input, of the input's dtype; the input itself is left alone.

        The outcome depends on the value and on (seed, input_id, kind, severity) only.

        Args:
            value: One input, floating.
            kind: Name of a kind.
            severity: 1 to 5.
            seed: Seed of the stress pass.
            input_id: Names the input.

        Raises:
            NotFoundError: No such kind.
            InvalidInputError: The severity or the value is not what the kind takes, or what it returned cannot be
                used: another shape, or NaN where the input had none.
        """
        chosen = self.kind(kind)
        if severity not in SEVERITIES:
            raise InvalidInputError(f"severity is {severity}; nothing was corrupted. Pass 1, 2, 3, 4 or 5.")
        given = np.asarray(value)
        if not np.issubdtype(given.dtype, np.floating):
            raise InvalidInputError(
                f"input {input_id!r} has dtype {given.dtype}; nothing was corrupted. Pass floats (images: 0 to 1, "
                "e.g. divide 8-bit values by 255)."
            )
        rng = generator(seed=seed, kind=kind, severity=severity, input_id=None if chosen.is_shared else input_id)
        corrupted = np.asarray(chosen.function(given.copy(), severity, rng))
        return self._checked(corrupted, given, chosen, input_id)

    def corrupt_batch(
        self, values: Sequence[Values] | Values, input_ids: Sequence[str], *, kind: str, severity: int, seed: int
    ) -> Values | list[Values]:
        """Return corrupted inputs, an array if an array was given and all shapes agree, else a list.

        Args:
            values: Inputs along the first axis, or a sequence of inputs of various shapes.
            input_ids: One per input.
            kind: Name of a kind.
            severity: 1 to 5.
            seed: Seed of the stress pass.

        Raises:
            InvalidInputError: Lengths differ, or an input cannot be corrupted.
        """
        if len(values) != len(input_ids):
            raise InvalidInputError(
                f"{len(values)} inputs came with {len(input_ids)} ids; nothing was corrupted. Pass one id per input."
            )
        corrupted = [
            self.corrupt(value, kind=kind, severity=severity, seed=seed, input_id=input_id)
            for value, input_id in zip(values, input_ids, strict=True)
        ]
        if not isinstance(values, np.ndarray):
            return corrupted
        if not corrupted:
            return values.copy()
        return np.stack(corrupted) if len({value.shape for value in corrupted}) == 1 else corrupted

    def _checked(self, corrupted: Values, given: Values, kind: Kind, input_id: str) -> Values:
        """The output in the input's dtype, if a model could take it."""
        where = f"kind {kind.name!r} of family {self.name!r} turned input {input_id!r}"
        if kind.keeps_shape and corrupted.shape != given.shape:
            raise InvalidInputError(
                f"{where} of shape {given.shape} into {corrupted.shape}; it was not used. Return the shape given."
            )
        if not np.isfinite(corrupted).all() and np.isfinite(given).all():
            raise InvalidInputError(f"{where} into NaN or infinity; it was not used. Return finite values.")
        return corrupted.astype(given.dtype, copy=False)
