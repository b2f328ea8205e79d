"""Feature-space distances behind four risk scores: class Gaussians, decision boundaries, principal residual."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._products import FixedProduct

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._bank import Head

__all__ = ["BoundaryDistance", "ClassGaussians", "PrincipalResidual"]

#: Weight of the isotropic part of every covariance (docs/method.md#scores): invertible for d ≥ n as well.
SHRINKAGE = 0.1
#: Keeps the covariance of constant features invertible.
VARIANCE_FLOOR = 1e-9
#: Added to `‖W_a − W_b‖`: two classes may share their weights.
NORM_OFFSET = 1e-9
#: Above, the table of boundary norms would exceed 32 MB and `dbmin` is left out.
MAX_BOUNDARY_CLASSES = 2_000
#: Principal directions kept at least (ViM keeps more for wide features; docs/method.md#scores).
MIN_DIRECTIONS = 12


@dataclass(frozen=True, slots=True, eq=False)
class ClassGaussians:
    """Gaussians with one shared covariance per class, and one over all classes (Lee et al. 2018; Ren et al. 2021).

    Attributes:
        whitener: `L` with `L Lᵀ` = inverse of the shared covariance, `(d, d)`.
        class_means: Whitened means of the classes with at least two bank rows, `(C, d)`.
        column_of_class: Row of `class_means` of each class, -1 if it has none, `(K,)`.
        global_whitener: The same for the covariance over all rows, `(d, d)`.
        global_mean: Mean over all rows, `(d,)`.
    """

    whitener: NDArray[np.float64]
    class_means: NDArray[np.float64]
    column_of_class: NDArray[np.int64]
    global_whitener: NDArray[np.float64]
    global_mean: NDArray[np.float64]
    _whiten: FixedProduct = field(init=False, repr=False)
    _compare: FixedProduct = field(init=False, repr=False)
    _whiten_global: FixedProduct = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_whiten", FixedProduct.of(self.whitener))
        object.__setattr__(self, "_compare", FixedProduct.of(self.class_means.T))
        object.__setattr__(self, "_whiten_global", FixedProduct.of(self.global_whitener))

    @classmethod
    def fit(cls, features: NDArray[np.float64], labels: NDArray[np.int64], *, n_classes: int) -> ClassGaussians | None:
        """Fit on embedded bank features `(n, d)`; None unless two classes have at least two rows each."""
        counts = np.bincount(labels, minlength=n_classes)
        present = np.flatnonzero(counts >= 2)
        if len(present) < 2:
            return None
        means = np.stack([features[labels == label].mean(axis=0) for label in present])
        column_of_class = np.full(n_classes, -1, dtype=np.int64)
        column_of_class[present] = np.arange(len(present))
        columns = column_of_class[labels]
        known = columns >= 0
        whitener = _whitener(features[known] - means[columns[known]])
        global_mean = features.mean(axis=0)
        return cls(whitener, means @ whitener, column_of_class, _whitener(features - global_mean), global_mean)

    def scores(
        self, block: NDArray[np.float64], predictions: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`mahamargin` and `rmd` of the first `len(predictions)` rows of a padded block."""
        rows = len(predictions)
        whitened = self._whiten.after(block)
        products = self._compare.after(whitened)[:rows]
        squared = np.square(whitened[:rows]).sum(axis=1)[:, None] - 2.0 * products
        squared += np.square(self.class_means).sum(axis=1)
        columns = self.column_of_class[predictions]
        known = np.flatnonzero(columns >= 0)
        predicted = squared.max(axis=1)  # a class without a mean is as far as the farthest
        predicted[known] = squared[known, columns[known]]
        others = squared.copy()
        others[known, columns[known]] = np.inf
        from_all = np.square(self._whiten_global.after(block - self.global_mean))[:rows].sum(axis=1)
        return predicted - others.min(axis=1), squared.min(axis=1) - from_all

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state for an artifact."""
        return {
            "gaussians.whitener": self.whitener,
            "gaussians.class_means": self.class_means,
            "gaussians.column_of_class": self.column_of_class,
            "gaussians.global_whitener": self.global_whitener,
            "gaussians.global_mean": self.global_mean,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ClassGaussians | None:
        """The Gaussians whose state `to_arrays` gave; None if there were none."""
        if "gaussians.whitener" not in arrays:
            return None
        names = ("whitener", "class_means", "column_of_class", "global_whitener", "global_mean")
        return cls(**{name: arrays[f"gaussians.{name}"] for name in names})


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryDistance:
    """Distance of a unit to the nearest decision boundary of the last layer.

    Attributes:
        norms: `‖W_a − W_b‖ + 1e-9`, `(K, K)`.
    """

    norms: NDArray[np.float64]

    @classmethod
    def fit(cls, head: Head) -> BoundaryDistance | None:
        """Table of boundary norms; None for more than `MAX_BOUNDARY_CLASSES` classes."""
        weight = np.asarray(head.weight, dtype=np.float64)
        if len(weight) > MAX_BOUNDARY_CLASSES:
            return None
        norms = np.stack([np.linalg.norm(weight - row, axis=1) for row in weight])
        return cls(norms + NORM_OFFSET)

    def scores(self, logits: NDArray[np.float64], predictions: NDArray[np.intp]) -> NDArray[np.float64]:
        """`dbmin` = `−min_{c≠ŷ} (z_ŷ − z_c) / ‖W_ŷ − W_c‖`, `(N,)`."""
        rows = np.arange(len(logits))
        gaps = (logits[rows, predictions][:, None] - logits) / self.norms[predictions]
        gaps[rows, predictions] = np.inf
        nearest: NDArray[np.float64] = -gaps.min(axis=1)
        return nearest


@dataclass(frozen=True, slots=True, eq=False)
class PrincipalResidual:
    """Norm of a feature outside the principal directions of the bank (ViM without its energy term).

    Attributes:
        offset: `W⁺b`, `(d,)`; the origin from which the logits vanish is its negative.
        directions: Principal directions as columns, `(d, D)`, D = min(d // 2, max(K, 12)).
    """

    offset: NDArray[np.float64]
    directions: NDArray[np.float64]
    _project: FixedProduct = field(init=False, repr=False)
    _restore: FixedProduct = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_project", FixedProduct.of(self.directions))
        object.__setattr__(self, "_restore", FixedProduct.of(self.directions.T))

    @classmethod
    def fit(cls, features: NDArray[np.float64], head: Head) -> PrincipalResidual:
        """Fit on full bank features `(n, d)`."""
        weight = np.asarray(head.weight, dtype=np.float64)
        offset = np.asarray(np.linalg.pinv(weight) @ np.asarray(head.bias), dtype=np.float64)
        width = features.shape[1]
        kept = min(width // 2, max(len(weight), MIN_DIRECTIONS))
        centred = features - features.mean(axis=0)
        axes = np.linalg.eigh(centred.T @ centred)[1]
        return cls(offset, np.ascontiguousarray(axes[:, width - kept :]))

    def scores(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """`res` of every row of a padded block."""
        shifted = block + self.offset
        outside = shifted - self._restore.after(self._project.after(shifted))
        norms: NDArray[np.float64] = np.sqrt(np.square(outside).sum(axis=1))
        return norms

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state for an artifact."""
        return {"residual.offset": self.offset, "residual.directions": self.directions}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> PrincipalResidual | None:
        """The residual whose state `to_arrays` gave; None if there was none."""
        if "residual.offset" not in arrays:
            return None
        return cls(arrays["residual.offset"], arrays["residual.directions"])


def _whitener(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cholesky factor of the inverse of the shrunk covariance `0.9 S + 0.1 tr(S)/d · I`."""
    rows, width = centred.shape
    covariance = centred.T @ centred / max(rows - 1, 1)
    isotropic = SHRINKAGE * np.trace(covariance) / width + VARIANCE_FLOOR
    shrunk = (1.0 - SHRINKAGE) * covariance + isotropic * np.eye(width)
    return np.linalg.cholesky(np.linalg.inv(shrunk))
