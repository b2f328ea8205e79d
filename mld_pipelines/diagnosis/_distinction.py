"""What distinguishes the units of a code from all others (docs/method.md#distinction)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._scores import SCORE_MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["Choice", "Distinction", "Measure", "distinguish"]

DISTINCTIONS = 3
"""Differences named per code."""
SMALLEST_EFFECT = 0.2
"""A "small" effect (Cohen 1988): in a code of many units a smaller one may be certain and still says nothing."""
SMALLEST_CODE = 5
"""Units from which a code is compared: fewer have no mean worth the name."""
ERROR_LEVEL = 0.05
"""Chance that a code which differs in nothing is said to differ in something (Bonferroni over all candidates)."""

#: What a mean below the rest says, where it is not just "lower". High values: `SCORE_MEANINGS`.
LOW_MEANINGS = {
    "lmsp": "the model is confident",
    "entropy": "the probability is on one class",
    "dbmin": "far from any decision boundary",
    "knn": "close to training examples",
    "dis": "the neighbours have the predicted label",
    "trust": "the predicted class is the nearest by far",
    "mahamargin": "typical of the predicted class",
    "rmd": "typical of a class",
    "res": "inside the directions the model uses",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measure:
    """A number known of every unit.

    Attributes:
        name: Name shown.
        group: Measures and choices of one group say the same in other words: only the most different is named.
        values: `(N,)`; NaN where it is not known.
        is_context: Whether it is known apart from the model, like metadata: the largest such difference has a place.
        meanings: What a mean above and below the rest says; None takes the words of the risk scores.
    """

    name: str
    group: str
    values: NDArray[np.floating]
    is_context: bool = False
    meanings: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """A value out of few, known of every unit.

    Attributes:
        name: Name shown.
        group: See `Measure`.
        values: Index into `labels` per unit, `(N,)`; −1 counts as none of them.
        labels: The values.
        is_context: See `Measure`.
    """

    name: str
    group: str
    values: NDArray[np.int64]
    labels: tuple[str, ...]
    is_context: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinction:
    """One difference between the units of a code and all others.

    Attributes:
        name: The measure or choice.
        label: The value of a choice; None for a measure.
        effect: Standardised difference: of means in standard deviations of all units, or Cohen's h of two shares.
        inside: Mean, or share, among the units of the code.
        outside: The same among all others.
        meanings: See `Measure`.
    """

    name: str
    label: str | None
    effect: float
    inside: float
    outside: float
    meanings: tuple[str, str] | None = None

    @property
    def sentence(self) -> str:
        """The difference in words, with its numbers."""
        if self.label is not None:
            shares = f"{_percent(self.inside)} of its units, {_percent(self.outside)} elsewhere"
            return f"{self.name} is {self.label} for {shares}"
        is_above = self.effect > 0
        side = "above" if is_above else "below"
        if self.meanings is not None:
            said = self.meanings[0 if is_above else 1]
        else:
            known = SCORE_MEANINGS if is_above else LOW_MEANINGS
            said = known.get(self.name, f"{'high' if is_above else 'low'} {self.name}")
        return (
            f"{said}: {abs(self.effect):.1f} standard deviations {side} the rest "
            f"(mean {self.inside:.3g}, elsewhere {self.outside:.3g})"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """One measure, or the most different value of a choice, for all codes at once; arrays `(C,)`."""

    trait: Measure | Choice
    labels: NDArray[np.object_] | None
    effect: NDArray[np.float64]
    inside: NDArray[np.float64]
    outside: NDArray[np.float64]
    strength: NDArray[np.float64]

    def at(self, code: int) -> Distinction:
        """Return the difference of one code."""
        return Distinction(
            name=self.trait.name,
            label=None if self.labels is None else str(self.labels[code]),
            effect=float(self.effect[code]),
            inside=float(self.inside[code]),
            outside=float(self.outside[code]),
            meanings=self.trait.meanings if isinstance(self.trait, Measure) else None,
        )


def distinguish(
    codes: NDArray[np.int64], *, n_codes: int, measures: Sequence[Measure], choices: Sequence[Choice]
) -> list[tuple[Distinction, ...]]:
    """Return, per code, its largest standardised differences from all other units, the largest first.

    At most three, one per group. The last place goes to the largest difference in context where none is among them:
    codes are made of what the scores see, so scores differ most, but people can act on context.

    Only those that chance does not explain: an effect of at least 0.2 that a random choice of as many units would reach
    with probability below 0.05 / number of candidates (normal for means, binomial for shares). A code of fewer than
    five units, or with all of them, has none.

    Args:
        codes: Code of every unit, `(N,)`, 0 … n_codes − 1.
        n_codes: Number of codes.
        measures: Numbers to compare by their means.
        choices: Values to compare by their shares.
    """
    from scipy.special import ndtri

    compared = len(measures) + sum(len(choice.labels) for choice in choices)
    if not compared or not len(codes):
        return [() for _ in range(n_codes)]
    level = ERROR_LEVEL / (2 * compared)
    limit = -float(ndtri(level))
    candidates = [_measured(codes, n_codes, measure, limit) for measure in measures]
    candidates += [_chosen(codes, n_codes, choice, level) for choice in choices if choice.labels]
    strength = np.stack([candidate.strength for candidate in candidates])
    order = np.argsort(-strength, axis=0, kind="stable")
    return [_largest(candidates, order[:, code].tolist(), code) for code in range(n_codes)]


def _largest(candidates: Sequence[_Candidate], order: Iterable[int], code: int) -> tuple[Distinction, ...]:
    groups: dict[str, _Candidate] = {}
    for position in order:
        candidate = candidates[position]
        if candidate.strength[code] <= 0.0:
            break
        groups.setdefault(candidate.trait.group, candidate)
    found = list(groups.values())
    chosen = found[:DISTINCTIONS]
    if not any(candidate.trait.is_context for candidate in chosen):
        chosen[DISTINCTIONS - 1 :] = [one for one in found if one.trait.is_context][:1] or chosen[DISTINCTIONS - 1 :]
    return tuple(candidate.at(code) for candidate in chosen)


def _measured(codes: NDArray[np.int64], n_codes: int, measure: Measure, limit: float) -> _Candidate:
    values = np.asarray(measure.values, dtype=np.float64)
    known = np.isfinite(values)
    # Centred first: sums of large numbers (a time stamp in the metadata) would lose the difference.
    middle = float(values[known].mean()) if known.any() else 0.0
    centred = values[known] - middle
    counts = np.bincount(codes[known], minlength=n_codes).astype(np.float64)
    sums = np.bincount(codes[known], weights=centred, minlength=n_codes).astype(np.float64)
    inside, outside = _two_means(sums, counts)
    spread = float(centred.std()) if len(centred) else 0.0
    if spread <= 1e-9 * max(1.0, abs(middle)):
        spread = np.inf
    effect = np.nan_to_num((inside - outside) / spread)
    with np.errstate(divide="ignore"):
        error = np.sqrt(1.0 / counts + 1.0 / (counts.sum() - counts))
    strength = _strength(effect, counts, is_beyond_chance=np.abs(effect) >= limit * error)
    return _Candidate(measure, None, effect, inside + middle, outside + middle, strength)


def _chosen(codes: NDArray[np.int64], n_codes: int, choice: Choice, level: float) -> _Candidate:
    """Return the value whose share differs most; of two that differ alike, the more frequent one inside."""
    n_labels = len(choice.labels)
    taken = choice.values >= 0
    cells = codes[taken] * n_labels + choice.values[taken]
    table = np.bincount(cells, minlength=n_codes * n_labels).reshape(n_codes, n_labels).astype(np.float64)
    counts = np.bincount(codes, minlength=n_codes).astype(np.float64)
    inside, outside = _two_means(table.T, counts)
    # Cohen's h: the arcsine transform gives every share the same sampling variance, 1/n.
    effect = 2.0 * (np.arcsin(np.sqrt(np.nan_to_num(inside))) - np.arcsin(np.sqrt(np.nan_to_num(outside))))
    # Rounded, or the last bit would choose between the two sides of a yes-or-no value.
    best = np.lexsort((-effect, -np.round(np.abs(effect), 9)), axis=0)[0]
    rows = (best, np.arange(n_codes))
    labels = np.array(choice.labels, dtype=object)[best]
    hits, share = table.T[rows], table.sum(axis=0)[best] / max(len(codes), 1)
    unlikely = _tails(hits, counts, share) < level
    strength = _strength(effect[rows], counts, is_beyond_chance=unlikely)
    return _Candidate(choice, labels, effect[rows], inside[rows], outside[rows], strength)


def _tails(hits: NDArray[np.float64], counts: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smaller tail of Binomial(counts, share) at `hits`: P(X ≥ hits) or P(X ≤ hits)."""
    from scipy.special import bdtr, bdtrc

    upper = np.where(hits > 0, bdtrc(np.maximum(hits - 1, 0), counts.astype(np.int64), share), 1.0)
    lower = bdtr(hits, counts.astype(np.int64), share)
    tails: NDArray[np.float64] = np.minimum(upper, lower)
    return tails


def _two_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of each code's units and that of all others; NaN where there are none."""
    others, rest = counts.sum() - counts, sums.sum(axis=-1, keepdims=True) - sums
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums / counts, rest / others


def _strength(
    effect: NDArray[np.float64], counts: NDArray[np.float64], *, is_beyond_chance: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return |effect|, zero where it is small, may be chance, or there is nobody to compare with."""
    size = np.abs(effect)
    compared = (counts >= SMALLEST_CODE) & (counts < counts.sum())
    return np.where(compared & (size >= SMALLEST_EFFECT) & is_beyond_chance, size, 0.0)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 or share in {0.0, 1.0} else f"{100 * share:.1f} %"
