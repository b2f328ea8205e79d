"""The codebook: a frozen, label-free partition of what a model knows about an input.

A unit's place is `u(x) = [PCA95(h − μ)/s ‖ w·√p]` (docs/method.md#space); its error code is the nearest centroid, or
`UNSEEN` when it lies farther out than the reference units of that cell did.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis._artifact import load_artifact, pack_artifact
from mld_pipelines.diagnosis._blocks import padded_blocks
from mld_pipelines.diagnosis._codemap import CodeMap, fit_code_map
from mld_pipelines.diagnosis._products import FixedProduct
from mld_pipelines.diagnosis._projection import Projection, check_features
from mld_pipelines.diagnosis._threads import one_thread_if_free
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "UNCODED",
    "UNSEEN",
    "UNSEEN_INDEX",
    "CodeAssignment",
    "CodeSpace",
    "Codebook",
    "CodebookIdentity",
    "check_probabilities",
    "nearest_cells",
    "nearest_centroids",
]

UNSEEN = "UNSEEN"
"""Code of a unit unlike any reference unit."""

UNSEEN_INDEX = -1
"""Index of `UNSEEN` in an assignment."""

UNCODED = "UNCODED"
"""Code of every unit while the reference is too small for a codebook (docs/method.md#number-of-codes)."""

_KIND, _FORMAT = "codebook", 1

_DISTANCE_MARGIN = 1e-9
"""Slack of a radius, absolute and relative: a unit that defines a radius must stay inside it although another machine
may round its distance (relative error below 1e-12) differently."""

_BULK_ROWS = 4096
"""Rows from which an assignment limits the native thread pools: below, looking for them costs more than it saves."""

_SCREEN = 1e-5
"""Error bound of a squared float32 distance relative to the squared lengths (measured below 2e-6 at 1,000 columns):
cells closer to each other than that are compared in float64."""
_FARTHEST = 1e15
"""Places are cut here before the product: their squares stay in the range of float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodebookIdentity:
    """What has to agree before a codebook may be used again (docs/method.md#reuse).

    Attributes:
        model_name: Name of the model, without its version.
        fingerprint: Fingerprint of its weights.
        feature_layer: Module path of the layer whose input is the feature.
        feature_dim: Width of that feature.
        output_kind: What the model returns, e.g. `logits` or `probabilities`.
        n_classes: Width of the probabilities.
        sqrt_p_weight: Weight of √p beside the features.
    """

    model_name: str
    fingerprint: str
    feature_layer: str
    feature_dim: int
    output_kind: str
    n_classes: int
    sqrt_p_weight: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodeSpace:
    """The map from (feature, probabilities) to a place `u`; shared by all codebooks of one lineage.

    Attributes:
        projection: Reference projection, the identity unless the feature is wide.
        mean: Reference mean of the projected feature, shape (w,).
        axes: Principal axes that hold 95 % of its variance, as columns, shape (w, k).
        scale: Root of the variance those axes hold, so that both blocks of `u` have comparable scale.
        sqrt_p_weight: Weight of √p.
        n_classes: Width of the probabilities.
    """

    projection: Projection
    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    scale: float
    sqrt_p_weight: float
    n_classes: int
    _product: FixedProduct = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", FixedProduct.of(self.axes))

    def places(self, features: NDArray[np.generic], probabilities: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return `u`, float64, shape (N, k + K), for checked arrays."""
        axes = self._product.after(self.projection.embed(features) - self.mean) / self.scale
        roots = np.sqrt(np.maximum(probabilities.astype(np.float64), 0.0))
        return np.concatenate([axes, self.sqrt_p_weight * roots], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodeAssignment:
    """The code of each of N units.

    Attributes:
        index: Position in `Codebook.names`, int64; −1 is `UNSEEN`.
        nearest: The same without the `UNSEEN` test: the cell whose error rate describes the unit best.
        distance: Distance to the nearest centroid, float64: the support distance.
    """

    index: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distance: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Codebook:
    """A frozen partition with its names. Stored once, reused by every later result of the same weights.

    Attributes:
        identity: The model outputs it was made for.
        space: The map into which its centroids are placed.
        centroids: float32, shape (C, k + K).
        radii: 0.995 quantile of reference distances inside each cell (maximum below 20 units), shape (C,).
        reference_counts: Units of the fitting reference per cell, `UNSEEN` included, int64, shape (C,).
        names: Code names, one per centroid.
        next_name: First number no name of this lineage has had.
        prefix: Letter of the names (`E` inputs, `P` predictions, `M` objects).
        lineage_id: Ties refits together; names compare only inside one lineage.
        n_reference: Units it was fitted on.
        unseen_ref: `UNSEEN` share expected on inputs like the reference (cross-fitted).
        seed: Seed of the fit.
        code_map: Axes of its picture, those of the first codebook of the lineage; None in artifacts older than maps.
    """

    identity: CodebookIdentity
    space: CodeSpace
    centroids: NDArray[np.float32]
    radii: NDArray[np.float64]
    reference_counts: NDArray[np.int64]
    names: tuple[str, ...]
    next_name: int
    prefix: str
    lineage_id: str
    n_reference: int
    unseen_ref: float
    seed: int
    code_map: CodeMap | None = None

    @property
    def n_codes(self) -> int:
        """Number of codes, `UNSEEN` not counted."""
        return len(self.names)

    @property
    def codebook_id(self) -> str:
        """SHA-256 of the artifact, 64 hex characters (docs/method.md#names)."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def assign(self, features: ArrayLike, probabilities: ArrayLike) -> CodeAssignment:
        """Return the code of each unit; it never depends on the batch the unit came in.

        Args:
            features: Shape (N, feature_dim), N may be 0.
            probabilities: Shape (N, n_classes).

        Raises:
            InvalidInputError: A shape does not fit or a value is not finite.
        """
        h = check_features(features, width=self.identity.feature_dim)
        p = check_probabilities(probabilities, n_units=len(h), n_classes=self.identity.n_classes)
        with one_thread_if_free() if len(h) >= _BULK_ROWS else nullcontext():
            (nearest,), (distance,) = nearest_cells(self.space, [self.centroids], h, p)
        inside = distance <= radii_with_margin(self.radii)[nearest]
        return CodeAssignment(index=np.where(inside, nearest, UNSEEN_INDEX), nearest=nearest, distance=distance)

    def map_of_codes(self) -> CodeMap:
        """Return the axes of its picture; an older codebook gets those of its own centroids, the same every time."""
        return self.code_map or fit_code_map(self.centroids)

    def code_names(self, index: ArrayLike) -> NDArray[np.str_]:
        """Return the names behind an assignment's `index`, `UNSEEN` for −1."""
        names: NDArray[np.str_] = np.array([*self.names, UNSEEN])[np.asarray(index, dtype=np.int64)]
        return names

    def fits(self, identity: CodebookIdentity) -> bool:
        """Return whether the codebook may be reused for these model outputs (docs/method.md#reuse)."""
        return self.identity == identity

    def to_bytes(self) -> bytes:
        """Return the artifact: safetensors with JSON parameters; equal codebooks give equal bytes."""
        tensors: dict[str, NDArray[Any]] = {
            **self.space.projection.to_arrays(),
            "space.mean": self.space.mean,
            "space.axes": self.space.axes,
            "centroids": self.centroids,
            "radii": self.radii,
            "reference_counts": self.reference_counts,
            **(self.code_map.to_arrays() if self.code_map else {}),
        }
        parameters = {name: getattr(self, name) for name in _PARAMETERS}
        parameters |= {"identity": asdict(self.identity), "names": list(self.names), "scale": self.space.scale}
        return pack_artifact(_KIND, _FORMAT, tensors=tensors, parameters=parameters)

    @classmethod
    def from_bytes(cls, data: bytes) -> Codebook:
        """Return the codebook that `to_bytes` wrote.

        Raises:
            CorruptArtifactError: The bytes are damaged, of another kind or from newer code.
        """
        return load_artifact(data, kind=_KIND, version=_FORMAT, build=cls._from_state)

    @classmethod
    def _from_state(cls, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> Codebook:
        identity = CodebookIdentity(**values["identity"])
        space = CodeSpace(
            projection=Projection.from_arrays(arrays, feature_dim=identity.feature_dim),
            mean=arrays["space.mean"],
            axes=arrays["space.axes"],
            scale=values["scale"],
            sqrt_p_weight=identity.sqrt_p_weight,
            n_classes=identity.n_classes,
        )
        return cls(
            identity=identity,
            space=space,
            centroids=arrays["centroids"],
            radii=arrays["radii"],
            reference_counts=arrays["reference_counts"],
            names=tuple(values["names"]),
            code_map=CodeMap.from_arrays(arrays),
            **{name: values[name] for name in _PARAMETERS},
        )


_PARAMETERS = ("next_name", "prefix", "lineage_id", "n_reference", "unseen_ref", "seed")


def radii_with_margin(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return radii that the units which define them cannot fall out of by rounding."""
    return radii * (1.0 + _DISTANCE_MARGIN) + _DISTANCE_MARGIN


def nearest_cells(
    space: CodeSpace,
    partitions: Sequence[NDArray[np.float32]],
    features: NDArray[np.generic],
    probabilities: NDArray[np.generic],
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]:
    """Return, per partition, the nearest centroid of every unit and its distance, from one pass over the units."""
    n = len(features)
    nearest = [np.empty(n, dtype=np.int64) for _ in partitions]
    distance = [np.empty(n, dtype=np.float64) for _ in partitions]
    for covered, blocks in padded_blocks(features, probabilities):
        places = space.places(*blocks)
        rows = covered.stop - covered.start
        for cells, out, far in zip(partitions, nearest, distance, strict=True):
            found, apart = nearest_centroids(places, cells)
            out[covered], far[covered] = found[:rows], apart[:rows]
    return nearest, distance


def nearest_centroids(
    places: NDArray[np.float64], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest centroid of each place and the float64 distance to it.

    A float32 product screens the cells; where it cannot tell two apart, float64 decides (the lowest index on a tie),
    so that the answer depends neither on the batch nor on the number of threads.
    """
    # Beyond the bound all cells are within the error of the product, so float64 decides.
    narrow = np.clip(places, -_FARTHEST, _FARTHEST).astype(np.float32)
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    squared = lengths - 2.0 * (narrow @ centroids.T)
    found = squared.argmin(axis=1)
    bound = _SCREEN * (np.einsum("ij,ij->i", narrow, narrow) + lengths.max())
    close = squared <= (squared.min(axis=1) + bound)[:, None]
    for row in np.flatnonzero(close.sum(axis=1) > 1):
        candidates = np.flatnonzero(close[row])
        found[row] = candidates[((places[row] - centroids[candidates]) ** 2).sum(axis=1).argmin()]
    apart: NDArray[np.float64] = np.sqrt(((places - centroids[found]) ** 2).sum(axis=1))
    return found.astype(np.int64), apart


def check_probabilities(probabilities: ArrayLike, *, n_units: int, n_classes: int) -> NDArray[np.floating]:
    """Return probabilities as a floating (N, K) array.

    Raises:
        InvalidInputError: Another shape, or a value that is not in [0, 1] (up to rounding).
    """
    array = np.asarray(probabilities)
    if array.shape != (n_units, n_classes):
        raise InvalidInputError(f"probabilities must have shape ({n_units}, {n_classes}), got {array.shape}.")
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    # Written so that NaN fails, too. 1e-3 covers half precision.
    if array.size and not (float(array.min()) >= -1e-3 and float(array.max()) <= 1.0 + 1e-3):
        raise InvalidInputError(
            f"probabilities must lie between 0 and 1, got {array.min()} … {array.max()}; apply softmax to logits first."
        )
    return array
