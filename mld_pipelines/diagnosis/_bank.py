"""Labelled units: the reference an estimator is fitted on, and the bank its neighbours come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BANK_LIMIT",
    "Bank",
    "Floats",
    "Head",
    "Integers",
    "ReferenceUnits",
    "hash_keys",
    "logits_of",
    "select_bank",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

#: Most neighbours a bank holds (docs/method.md#bank): cost per unit and artifact size stay bounded.
BANK_LIMIT = 10_000
#: Floor of probabilities turned into logits when a model gives no logits.
PROBABILITY_FLOOR = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceUnits:
    """Labelled units of one dataset, values as they are stored.

    Attributes:
        labels: Class indices, `(N,)` int64.
        keys: One string per unit that names the same input everywhere, `(N,)`. Two datasets that both have
            an input `"7"` need different keys, e.g. `"train/7"` and `"val/7"`.
        logits: `(N, K)` float32, or None if the model gives probabilities only.
        probabilities: `(N, K)` float32, needed where `logits` is None.
        features: Input of the last linear layer, `(N, d)` float32, or None.

    Raises:
        InvalidInputError: Shapes disagree, labels are out of range, or values are not finite.
    """

    labels: Integers
    keys: Sequence[str]
    logits: npt.NDArray[np.float32] | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    features: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        outputs = self.logits if self.logits is not None else self.probabilities
        if outputs is None or outputs.ndim != 2 or outputs.shape[1] < 2:
            raise InvalidInputError(
                "reference units need logits or probabilities of shape (units, classes) with at least 2 classes; "
                "nothing was fitted. Trace the model's full output."
            )
        _check_rows("labels", np.shape(self.labels), len(outputs))
        _check_rows("keys", (len(self.keys),), len(outputs))
        if not np.isfinite(outputs).all():
            raise InvalidInputError(
                "reference outputs hold NaN or infinity; nothing was fitted. Exclude those units and count them."
            )
        labels = np.asarray(self.labels)
        if len(labels) and (labels.min() < 0 or labels.max() >= outputs.shape[1]):
            raise InvalidInputError(
                f"labels run from {labels.min()} to {labels.max()} but the output has {outputs.shape[1]} classes; "
                "nothing was fitted. Pass class indices."
            )
        if self.features is not None:
            self._check_features(len(outputs))

    def _check_features(self, rows: int) -> None:
        features = np.asarray(self.features)
        if features.ndim != 2 or len(features) != rows:
            raise InvalidInputError(
                f"features have shape {features.shape}, expected ({rows}, width); nothing was fitted. "
                "Pass one feature vector per unit."
            )
        if not np.isfinite(features).all():
            raise InvalidInputError(
                "reference features hold NaN or infinity; nothing was fitted. Exclude those units and count them."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """Width of the model's output."""
        return int(self.outputs.shape[1])

    @property
    def outputs(self) -> npt.NDArray[np.float32]:
        """Logits, or probabilities where there are none, `(N, K)`."""
        chosen = self.logits if self.logits is not None else self.probabilities
        return np.asarray(chosen)

    @property
    def scores(self) -> Floats:
        """Logits in float64, `(N, K)`; the logarithm of probabilities where there are none."""
        return logits_of(logits=self.logits, probabilities=self.probabilities)

    @property
    def errors(self) -> npt.NDArray[np.bool_]:
        """True where the highest output is not the label, `(N,)`."""
        return np.asarray(self.predictions != np.asarray(self.labels))

    @property
    def predictions(self) -> npt.NDArray[np.intp]:
        """Class of the highest output, `(N,)`."""
        highest: npt.NDArray[np.intp] = self.outputs.argmax(axis=1)
        return highest

    def take(self, rows: Integers) -> ReferenceUnits:
        """The units at these positions, in this order."""
        keys = self.keys

        def pick(values: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32] | None:
            return None if values is None else np.asarray(values)[rows]

        return ReferenceUnits(
            labels=np.asarray(self.labels, dtype=np.int64)[rows],
            keys=[keys[row] for row in rows],
            logits=pick(self.logits),
            probabilities=pick(self.probabilities),
            features=pick(self.features),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """At most `BANK_LIMIT` labelled units that neighbours and class statistics come from.

    Attributes:
        units: The units, in an order that depends on their keys only.
        hashes: Key hashes of the units, `(N,)` int64; a unit finds itself by them.
    """

    units: ReferenceUnits
    hashes: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The last linear layer: `logits = features @ weight.T + bias`.

    Attributes:
        weight: `(K, d)`.
        bias: `(K,)`.
    """

    weight: Floats
    bias: Floats

    @property
    def is_finite(self) -> bool:
        """Whether every number is finite; a layer with masked classes (bias −∞) is not."""
        return bool(np.isfinite(self.weight).all() and np.isfinite(self.bias).all())

    @classmethod
    def from_units(cls, units: ReferenceUnits) -> Head | None:
        """Least squares of logits on [features, 1]; None without logits and features.

        Probabilities are no affine function of the features, so no head is derived from them.
        """
        if units.logits is None or units.features is None:
            return None
        design = np.column_stack([units.features.astype(np.float64), np.ones(len(units))])
        solution = np.linalg.lstsq(design, units.logits.astype(np.float64), rcond=None)[0]
        return cls(weight=np.ascontiguousarray(solution[:-1].T), bias=solution[-1])


def logits_of(
    *, logits: npt.NDArray[np.floating] | None = None, probabilities: npt.NDArray[np.floating] | None = None
) -> Floats:
    """Logits as float64; `ln clip(P, 1e-12)` where only probabilities exist.

    Raises:
        InvalidInputError: Neither was given.
    """
    if logits is not None:
        return np.asarray(logits, dtype=np.float64)
    if probabilities is None:
        raise InvalidInputError("neither logits nor probabilities were given; nothing was scored. Pass one of them.")
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), PROBABILITY_FLOOR))


def hash_keys(keys: Sequence[str], *, seed: int = 0) -> Integers:
    """64-bit BLAKE2b hashes of unit keys, the same in every process, `(N,)` int64.

    With 10,000 bank rows and a million queries the chance of any false match is 5e-10.
    """
    salt = seed.to_bytes(8, "little", signed=True)
    digests = b"".join(hashlib.blake2b(str(key).encode(), digest_size=8, salt=salt).digest() for key in keys)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def select_bank(units: ReferenceUnits, *, limit: int = BANK_LIMIT, seed: int = 0) -> Bank:
    """Draw a bank: the units with the smallest seeded key hashes, in that order.

    The draw depends on the keys, not on the order of the rows.

    Args:
        units: The training set if it was traced, otherwise the reference itself.
        limit: Most units to keep.
        seed: Chooses the sample.
    """
    rows = np.argsort(hash_keys(units.keys, seed=seed), kind="stable")[:limit]
    chosen = units.take(rows)
    return Bank(units=chosen, hashes=hash_keys(chosen.keys))


def _check_rows(name: str, shape: tuple[int, ...], rows: int) -> None:
    if shape != (rows,):
        raise InvalidInputError(
            f"{name} have shape {shape}, expected ({rows},); nothing was fitted. Pass one entry per unit."
        )
