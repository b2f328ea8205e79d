"""Statistics of two models under resampling of their common units, a block of resamples at a time.

A resample of N units is the vector of how often each was drawn. Sums over units are products with those counts; ranks
are cumulative sums of the counts in the order of the scores. Nothing is sorted twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["LinearStatistics", "MacroF1", "RankStatistic", "Statistic", "resample"]

#: Bins of equal mass of an expected calibration error.
CALIBRATION_BINS = 15
#: Counts held at once: 8 MB in float32, which holds them and their sums exactly below 2²² units.
BLOCK_VALUES = 2_000_000
EXACT_UNITS = 2**22


class Statistic(Protocol):
    """One or several statistics of two models."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the statistics."""
        ...

    def points(self) -> NDArray[np.float64]:
        """Values `(names, 2)` on the units themselves; NaN where undefined."""
        ...

    def evaluate(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values `(B, names, 2)` under `(B, N)` counts; NaN where undefined."""
        ...


def resample(
    statistics: Sequence[Statistic], n: int, *, n_boot: int, seed: int
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Both models' values of every statistic on the units `(2,)` and on `n_boot` resamples of them `(n_boot, 2)`.

    Args:
        statistics: Of the same n units.
        n: Units.
        n_boot: Resamples with replacement, 0 for none.
        seed: Seed of PCG64; the same units and seed give the same values.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK_VALUES // n)
    kind: type[np.floating] = np.float32 if n < EXACT_UNITS else np.float64
    found = [[np.empty((0, len(item.names), 2))] for item in statistics]
    for start in range(0, n_boot, rows):
        drawn = rng.integers(0, n, size=(min(rows, n_boot - start), n), dtype=np.int32)
        counts: NDArray[np.floating] = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(kind)
        for values, item in zip(found, statistics, strict=True):
            values.append(item.evaluate(counts))
    return {
        name: (points[position], np.concatenate(values)[:, position])
        for item, values in zip(statistics, found, strict=True)
        for points in (item.points(),)
        for position, name in enumerate(item.names)
    }


@dataclass(frozen=True, slots=True, eq=False)
class LinearStatistics:
    """Means over units, and expected calibration errors: absolute sums over fixed bins, added up.

    Attributes:
        names: Means first.
        columns: The summands, `(N, columns)`, grouped as `groups` says; float32 is enough for a resample.
        groups: First column of each (statistic, model), the models side by side.
        sums: Their sums over the units, in float64.
    """

    names: tuple[str, ...]
    columns: NDArray[np.float32]
    groups: NDArray[np.intp]
    sums: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        means: Mapping[str, Sequence[NDArray[np.float64]]],
        calibrations: Mapping[str, Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]]],
    ) -> LinearStatistics:
        """Statistics of both models.

        Args:
            means: Values `(N,)` of both models by name, none negative.
            calibrations: Predicted probability and outcome `(N,)` of both models by name.
        """
        parts = [values[:, None] for pair in means.values() for values in pair]
        parts += [_calibration_columns(*given) for pair in calibrations.values() for given in pair]
        groups = np.cumsum([0, *(part.shape[1] for part in parts[:-1])])
        sums = np.concatenate([part.sum(axis=0) for part in parts])
        columns = np.concatenate([part.astype(np.float32) for part in parts], axis=1)
        return cls((*means, *calibrations), columns, groups, sums)

    def points(self) -> NDArray[np.float64]:
        """Σ |sums of a group| / n."""
        (values,) = self._grouped(self.sums[None])
        return np.asarray(values)

    def evaluate(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """Σ |sums of a group| / n under counts."""
        return self._grouped((counts @ self.columns).astype(np.float64))

    def _grouped(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = np.add.reduceat(np.abs(sums), self.groups, axis=1) / len(self.columns)
        return values.reshape(len(sums), len(self.names), 2)


def _calibration_columns(proba: NDArray[np.float64], outcome: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`proba − outcome` of each unit in the column of its bin; bins hold equal shares of the sample, ties together."""
    edges = np.quantile(proba, np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS)
    bins = np.searchsorted(edges, proba, side="left")
    columns = np.zeros((len(proba), CALIBRATION_BINS))
    columns[np.arange(len(proba)), bins] = proba - outcome
    return columns


@dataclass(frozen=True, slots=True, eq=False)
class MacroF1:
    """Mean F1 over the classes that occur among the labels.

    Attributes:
        order: Units sorted by cell (label, both predictions), `(N,)`.
        starts: First of each cell in that order, `(C,)`.
        sums: Per model, sparse `(C, classes)`: cells of true positives, and cells of label plus prediction.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    sums: tuple[tuple[Any, Any], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """One name."""
        return ("macro_f1",)

    @classmethod
    def of(cls, labels: NDArray[np.int64], predictions: Sequence[NDArray[np.int64]]) -> MacroF1:
        """The statistic of both models."""
        from scipy.sparse import csr_array

        triples = np.stack([labels, *predictions])
        order = np.lexsort(triples[::-1])
        ordered = triples[:, order]
        starts = np.flatnonzero(np.r_[True, (np.diff(ordered, axis=1) != 0).any(axis=0)])
        truth, *guesses = ordered[:, starts]
        classes = np.unique(labels)

        def members(values: NDArray[np.int64], keep: NDArray[np.bool_]) -> Any:
            column = np.searchsorted(classes, values).clip(max=len(classes) - 1)
            kept = np.flatnonzero(keep & (classes[column] == values))
            shape = (len(starts), len(classes))
            return csr_array((np.ones(len(kept)), (kept, column[kept])), shape=shape)

        every = np.ones(len(starts), dtype=np.bool_)
        sums = tuple(
            (members(truth, truth == guess), members(truth, every) + members(guess, every)) for guess in guesses
        )
        return cls(order, starts, sums)

    def points(self) -> NDArray[np.float64]:
        """Values on the units themselves."""
        (values,) = self.evaluate(np.ones((1, len(self.order))))
        return np.asarray(values)

    def evaluate(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """2·TP / (label + predicted), averaged over classes that have either in the resample."""
        cells = np.add.reduceat(np.take(counts, self.order, axis=1), self.starts, axis=1).astype(np.float64)
        both = []
        for hits, marks in self.sums:
            positives, total = cells @ hits, cells @ marks
            present = total > 0.0
            f1 = np.divide(2.0 * positives, total, out=np.zeros_like(total), where=present)
            both.append(f1.sum(axis=1) / present.sum(axis=1))
        return np.stack(both, axis=1)[:, None, :]


@dataclass(frozen=True, slots=True, eq=False)
class RankStatistic:
    """AUROC of both models' scores, each for its own outcome, ties counting ½.

    Attributes:
        names: One name.
        models: How each model ranks its units.
    """

    names: tuple[str, ...]
    models: tuple[_Ranking, ...]

    @classmethod
    def of(
        cls, name: str, scores: Sequence[NDArray[np.float64]], outcomes: Sequence[NDArray[np.bool_]]
    ) -> RankStatistic:
        """The statistic of both models."""
        pairs = zip(scores, outcomes, strict=True)
        return cls((name,), tuple(_Ranking.of(values, outcome) for values, outcome in pairs))

    def points(self) -> NDArray[np.float64]:
        """Values on the units themselves."""
        (values,) = self.evaluate(np.ones((1, self.models[0].n)))
        return np.asarray(values)

    def evaluate(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """P(positive above negative) + ½ P(equal); NaN without both outcomes."""
        return np.stack([ranking.auroc(counts) for ranking in self.models], axis=1)[:, None, :]


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """Positives and negatives of one model: units, and how many negatives score below and at most as each positive."""

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    below: NDArray[np.intp]
    through: NDArray[np.intp]

    @property
    def n(self) -> int:
        return len(self.positives) + len(self.negatives)

    @classmethod
    def of(cls, scores: NDArray[np.float64], outcome: NDArray[np.bool_]) -> _Ranking:
        positives, negatives = np.flatnonzero(outcome), np.flatnonzero(~outcome)
        negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        ordered, own = scores[negatives], scores[positives]
        return cls(
            positives,
            negatives,
            np.searchsorted(ordered, own, side="left"),
            np.searchsorted(ordered, own, side="right"),
        )

    def auroc(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        weights = np.take(counts, self.positives, axis=1).astype(np.float64)
        running = np.zeros((len(counts), len(self.negatives) + 1), dtype=counts.dtype)
        np.cumsum(np.take(counts, self.negatives, axis=1), axis=1, out=running[:, 1:])
        beaten = 0.5 * (np.take(running, self.below, axis=1) + np.take(running, self.through, axis=1))
        pairs = weights.sum(axis=1) * running[:, -1]
        hits = np.einsum("ij,ij->i", weights, beaten)
        return np.asarray(np.divide(hits, pairs, out=np.full(len(counts), np.nan), where=pairs > 0.0))
